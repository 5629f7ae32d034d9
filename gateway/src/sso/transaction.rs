//! What is under way: sign-ins at a provider, and codes that bring a session to an app host. Bounded, each with an end. Time is a parameter.
//!
//! In memory: a restart costs whoever is typing a password one more click.

use std::collections::{HashMap, VecDeque};

use crate::sso::{opaque::OpaqueHash, place::Place, session::SessionId};
use zeroize::Zeroizing;

/// One sign-in of one tab, found by the hash of its `state`.
pub(crate) struct Transaction {
    pub(crate) provider: String,
    pub(crate) verifier: Zeroizing<String>,
    pub(crate) nonce: Zeroizing<String>,
    /// Which browser began it: the hash of what its cookie holds.
    pub(crate) browser: OpaqueHash,
    pub(crate) to: Place,
    /// What the app host bound it to.
    pub(crate) bind: Option<OpaqueHash>,
    /// It leads back where it came from, and nowhere else any more.
    pub(crate) used: bool,
}

/// What a code stands for.
pub(crate) struct Entry {
    pub(crate) session: SessionId,
    pub(crate) to: Place,
    /// The hash of what the cookie holds that the app host gave this browser.
    pub(crate) bind: OpaqueHash,
    pub(crate) used: bool,
}

/// At its bound the oldest entry goes.
pub(crate) struct Table<T> {
    entries: HashMap<OpaqueHash, (u64, T)>,
    /// Oldest first.
    order: VecDeque<OpaqueHash>,
    max: usize,
    life: u64,
}

impl<T> Table<T> {
    /// `life` is in seconds.
    pub(crate) fn new(max: usize, life: u64) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), max, life }
    }

    pub(crate) fn insert(&mut self, key: OpaqueHash, value: T, now: u64) {
        self.sweep(now);
        while self.entries.len() >= self.max {
            let Some(oldest) = self.order.pop_front() else { break };
            self.entries.remove(&oldest);
        }
        self.entries.insert(key, (now.saturating_add(self.life), value));
        self.order.push_back(key);
    }

    pub(crate) fn get(&mut self, key: OpaqueHash, now: u64) -> Option<&mut T> {
        self.entries.get_mut(&key).filter(|(ends_at, _)| now < *ends_at).map(|(_, value)| value)
    }

    pub(crate) fn sweep(&mut self, now: u64) {
        while let Some(oldest) = self.order.front() {
            match self.entries.get(oldest) {
                Some((ends_at, _)) if now < *ends_at => break,
                _ => {}
            }
            self.entries.remove(oldest);
            self.order.pop_front();
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> OpaqueHash {
        OpaqueHash([n; 32])
    }

    #[test]
    fn an_entry_ends_in_time() {
        let mut table = Table::new(10, 30);
        table.insert(key(1), "a", 100);
        table.insert(key(2), "b", 110);
        assert_eq!(table.get(key(1), 129), Some(&mut "a"));
        assert_eq!(table.get(key(1), 130), None);
        assert_eq!(table.get(key(3), 100), None);
        table.sweep(130);
        assert_eq!((table.len(), table.get(key(2), 130).copied()), (1, Some("b")));
    }

    #[test]
    fn the_oldest_goes_at_the_bound_and_what_has_ended_before_it() {
        let mut table = Table::new(3, 30);
        for n in 1..=4 {
            table.insert(key(n), n, 100);
        }
        assert_eq!((table.len(), table.get(key(1), 100).copied(), table.get(key(4), 100).copied()), (3, None, Some(4)));
        table.insert(key(5), 5, 130);
        assert_eq!((table.len(), table.get(key(5), 130).copied()), (1, Some(5)));
        for n in 0..=255 {
            table.insert(key(n), n, 200);
        }
        assert_eq!((table.len(), table.order.len()), (3, 3));
    }
}
