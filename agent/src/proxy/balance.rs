//! Which endpoint a connection goes to: the least loaded by this node's own count, in turn among equals, one that just failed last.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::limits::{ENDPOINT_MEMORY_MAX, FAILED_ENDPOINT};

#[derive(Default)]
pub(crate) struct Balance(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    endpoints: HashMap<IpAddr, Seen>,
    turn: usize,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    load: u32,
    failed: Option<Instant>,
}

/// One connection's weight on an endpoint.
pub(crate) struct Load {
    balance: Arc<Balance>,
    pub(crate) endpoint: IpAddr,
    /// The memory of endpoints was full.
    pub(crate) full: bool,
}

impl Balance {
    /// Picks among `candidates` that are not in `tried`.
    pub(crate) fn pick(self: &Arc<Self>, candidates: &[IpAddr], tried: &[IpAddr]) -> Option<Load> {
        let mut memory = self.lock();
        let now = Instant::now();
        let turn = memory.turn;
        memory.turn = turn.wrapping_add(1);
        let cost = |ip: &IpAddr| {
            let seen = memory.endpoints.get(ip).copied().unwrap_or_default();
            (seen.failed.is_some_and(|at| now.duration_since(at) < FAILED_ENDPOINT), seen.load)
        };
        let in_turn = (0..candidates.len()).map(|i| candidates[(turn.wrapping_add(i)) % candidates.len()]);
        let endpoint = in_turn.filter(|ip| !tried.contains(ip)).min_by_key(cost)?;
        let full = memory.endpoints.len() >= ENDPOINT_MEMORY_MAX;
        if full {
            memory.endpoints.retain(|_, seen| seen.load > 0);
        }
        memory.endpoints.entry(endpoint).or_default().load += 1;
        Some(Load { balance: self.clone(), endpoint, full })
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    pub(crate) fn failed(&self) {
        self.balance.lock().endpoints.entry(self.endpoint).or_default().failed = Some(Instant::now());
    }

    pub(crate) fn succeeded(&self) {
        self.balance.lock().endpoints.entry(self.endpoint).or_default().failed = None;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(seen) = self.balance.lock().endpoints.get_mut(&self.endpoint) {
            seen.load = seen.load.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn equals_come_in_turn_and_the_least_loaded_first() {
        let balance = Arc::new(Balance::default());
        let both = [ip(1), ip(2)];
        let first = balance.pick(&both, &[]).unwrap();
        let second = balance.pick(&both, &[]).unwrap();
        assert_ne!(first.endpoint, second.endpoint);
        let freed = first.endpoint;
        drop(first);
        assert_eq!(balance.pick(&both, &[]).unwrap().endpoint, freed);
        let mut seen: Vec<IpAddr> = (0..2).map(|_| balance.pick(&[ip(7), ip(8)], &[]).unwrap().endpoint).collect();
        seen.sort();
        assert_eq!(seen, [ip(7), ip(8)], "idle ones take turns");
    }

    #[test]
    fn what_failed_or_was_tried_is_passed_over() {
        let balance = Arc::new(Balance::default());
        let both = [ip(1), ip(2)];
        let bad = balance.pick(&both, &[]).unwrap();
        bad.failed();
        let bad = bad.endpoint;
        let held: Vec<Load> = (0..5).map(|_| balance.pick(&both, &[]).unwrap()).collect();
        assert!(held.iter().all(|l| l.endpoint != bad), "even under load");
        assert_eq!(balance.pick(&both, &[held[0].endpoint]).unwrap().endpoint, bad, "better than nothing");
        assert!(balance.pick(&both, &both).is_none());
        assert!(balance.pick(&[], &[]).is_none());
    }
}
