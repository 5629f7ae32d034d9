//! How everything ends in order: no new requests, time for those that run, then an end for what is left, upgraded connections included.

use std::time::Duration;

use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::limits::FAREWELL_WAIT;

/// Shared by all connections of one program. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    begun: CancellationToken,
    ended: CancellationToken,
    tracker: TaskTracker,
}

/// Whether everything had ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    InOrder,
    /// So many connections were cut, upgraded ones included.
    Cut(usize),
}

impl Drain {
    pub fn new() -> Self {
        Self::default()
    }

    /// Connections end after the requests that run; after `grace` the rest is ended: requests are cut, WebSockets are told to go.
    pub async fn drain(&self, grace: Duration) -> Drained {
        self.begun.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_ok() {
            return Drained::InOrder;
        }
        let left = self.tracker.len();
        self.ended.cancel();
        // What is told to go says goodbye first; whoever does not even do that is dropped with the runtime.
        let _ = tokio::time::timeout(FAREWELL_WAIT * 2, self.tracker.wait()).await;
        Drained::Cut(left)
    }

    /// Resolves when no new request is to be taken.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Resolves when whatever is left has to end.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// A token of its own for each connection: waiting on one that all share would have them contend for its lock.
    pub(crate) fn begun_token(&self) -> CancellationToken {
        self.begun.child_token()
    }

    pub(crate) fn ended_token(&self) -> CancellationToken {
        self.ended.child_token()
    }

    /// Connections and upgraded connections that are open.
    pub fn open(&self) -> usize {
        self.tracker.len()
    }

    /// A place among the connections that a drain waits for.
    pub(crate) fn place(&self) -> TaskTrackerToken {
        self.tracker.token()
    }
}
