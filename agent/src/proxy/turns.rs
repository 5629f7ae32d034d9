//! Fairness between the two directions of one connection.

/// A direction that always has something to do would use up the task's whole share each time, and the other would never come to
/// read: so it steps back after some turns.
#[derive(Debug, Default)]
pub(crate) struct Turns(u32);

/// A turn costs a few of the 128 operations that tokio lets a task do before it must rest.
const TURNS: u32 = 16;

impl Turns {
    pub(crate) async fn next(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(TURNS) {
            tokio::task::yield_now().await;
        }
    }
}
