//! Which of a service's workloads gets a request: one that takes connections, and of these the one with the least to do.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::limits;

/// Which workloads did not take a connection lately.
#[derive(Debug, Default)]
pub struct Backends {
    failed: Mutex<HashMap<SocketAddr, Instant>>,
    turn: AtomicUsize,
}

impl Backends {
    /// Those that took connections lately before the others; of these the one with the least to do.
    pub(super) fn choose(&self, among: &[SocketAddr], not: Option<SocketAddr>, load: impl Fn(&SocketAddr) -> usize) -> Option<SocketAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed.is_empty() {
            failed.retain(|_, at| at.elapsed() < limits::BACKEND_PENALTY);
        }
        let count = among.len();
        let in_turn = (0..count).map(|i| among[(i + turn) % count]).filter(|address| Some(*address) != not);
        in_turn.min_by_key(|address| (failed.contains_key(address), load(address)))
    }

    pub(super) fn has_failed(&self, address: SocketAddr) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert(address, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_one_is_taken_and_the_failed_one_last() {
        let all: Vec<SocketAddr> = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|a| a.parse().unwrap()).to_vec();
        let backends = Backends::default();
        let load = |address: &SocketAddr| if *address == all[1] { 0 } else { 5 };
        assert_eq!(backends.choose(&all, None, load), Some(all[1]));
        assert_ne!(backends.choose(&all, Some(all[1]), load), Some(all[1]));
        backends.has_failed(all[1]);
        assert_ne!(backends.choose(&all, None, load), Some(all[1]));
        assert_eq!(backends.choose(&all[1..2], None, load), Some(all[1]), "rather a failed one than none");
        assert_eq!(backends.choose(&all[1..2], Some(all[1]), load), None);
        let turns: std::collections::HashSet<_> = (0..4).filter_map(|_| Backends::default().choose(&all, None, |_| 0)).collect();
        assert_eq!(turns.len(), 1, "a fresh one begins with the first");
        let fair = Backends::default();
        let turns: std::collections::HashSet<_> = (0..3).filter_map(|_| fair.choose(&all, None, |_| 0)).collect();
        assert_eq!(turns.len(), 3);
    }
}
