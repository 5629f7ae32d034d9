//! Fairness between the two directions of one connection, and between connections: nobody works for long without a break.

use std::{future::poll_fn, task::Poll};

/// A direction that always has something to do would use up the task's whole share each time, and the other would never come to
/// read: so it steps back after some turns.
#[derive(Debug, Default)]
pub(crate) struct Turns(u32);

/// So many buffers are carried at most before others have their turn: some tenths of a millisecond's work.
const TURNS: u32 = 2;

impl Turns {
    pub(crate) async fn next(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(TURNS) {
            step_back().await;
        }
    }
}

/// Lets everybody else have a turn who waits for one.
pub(crate) async fn step_back() {
    let mut stepped = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut stepped, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
