//! How the link to the bridge is, for people.

use std::{
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

#[derive(Debug, Default)]
pub struct LinkStatus(Mutex<State>);

#[derive(Clone, Debug, Default)]
pub struct State {
    pub connected: bool,
    /// Why not.
    pub error: String,
    /// Unix seconds of the last message; 0: none since the start.
    pub last_seen: i64,
}

impl LinkStatus {
    pub fn now(&self) -> State {
        self.lock().clone()
    }

    pub(super) fn seen(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        *self.lock() = State { connected: true, error: String::new(), last_seen: now as i64 };
    }

    pub fn lost(&self, error: String) {
        let mut state = self.lock();
        (state.connected, state.error) = (false, error);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
