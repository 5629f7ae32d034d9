//! Failed logins are rationed by name and by peer (the generic cell rate algorithm). The table is bounded, and a full one refuses.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use super::unix;
use crate::limits::provider as limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A hash of what was typed, whether such a user exists or not.
    User([u8; 32]),
    Peer(IpAddr),
}

pub(super) struct Limiter {
    /// When, in unix seconds, all of the key's allowance would be there again.
    full_at: HashMap<Key, i64>,
    max: usize,
    /// When it was last tidied.
    tidied: i64,
}

impl Limiter {
    pub(super) fn new(max: usize) -> Self {
        Self { full_at: HashMap::new(), max, tidied: i64::MIN }
    }

    /// Takes one from the allowance of `key`; `Err`: there is none now, and how long until there is.
    pub(super) fn take(&mut self, key: Key, now: SystemTime) -> Result<(), Duration> {
        let now = unix(now);
        let (burst, interval) = key.allowance();
        if !self.full_at.contains_key(&key) && self.full_at.len() >= self.max {
            self.tidy(now);
            if self.full_at.len() >= self.max {
                return Err(Duration::from_secs(interval.cast_unsigned()));
            }
        }
        let before = self.full_at.get(&key).map_or(now, |at| (*at).max(now));
        let wait = before + interval - now - burst * interval;
        if wait > 0 {
            return Err(Duration::from_secs(wait.cast_unsigned()));
        }
        self.full_at.insert(key, before + interval);
        Ok(())
    }

    /// Gives back what [`Limiter::take`] took: the login was no failure.
    pub(super) fn give_back(&mut self, key: Key) {
        let (_, interval) = key.allowance();
        if let Some(at) = self.full_at.get_mut(&key) {
            *at -= interval;
        }
    }

    /// Forgets whose allowance is full again; at most once a second, because it looks at all.
    fn tidy(&mut self, now: i64) {
        if now > self.tidied {
            self.full_at.retain(|_, at| *at > now);
            self.tidied = now;
        }
    }
}

impl Key {
    /// One network counts as one peer: whoever has an IPv6 address has 2^64 of them.
    pub(super) fn peer(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(v4) => Self::Peer(v4.into()),
            IpAddr::V6(v6) => Self::Peer(IpAddr::V6((u128::from(v6) >> 64 << 64).into())),
        }
    }

    /// The name as typed but for its case, so that no answer says which names there are.
    pub(super) fn user(typed: &str) -> Self {
        Self::User(super::sha256(typed.to_ascii_lowercase().as_bytes()))
    }

    /// How many at once, and the seconds until there is one more.
    fn allowance(self) -> (i64, i64) {
        let (burst, interval) = match self {
            Self::User(_) => (limits::USER_BURST, limits::USER_INTERVAL),
            Self::Peer(_) => (limits::PEER_BURST, limits::PEER_INTERVAL),
        };
        (burst, interval.as_secs().cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn taken(limiter: &mut Limiter, key: Key, now: SystemTime) -> usize {
        (0..1000).take_while(|_| limiter.take(key, now).is_ok()).count()
    }

    #[test]
    fn a_burst_then_one_each_interval_and_another_key_is_untouched() {
        let mut limiter = Limiter::new(100);
        let (alice, bob) = (Key::user("alice"), Key::user("bob"));
        assert_eq!(taken(&mut limiter, alice, at(0)), 10);
        assert_eq!(limiter.take(alice, at(0)), Err(Duration::from_secs(30)));
        assert_eq!(limiter.take(Key::user("ALICE"), at(29)), Err(Duration::from_secs(1)), "the same name");
        assert_eq!(taken(&mut limiter, alice, at(30)), 1);
        assert_eq!(taken(&mut limiter, bob, at(30)), 10);
        assert_eq!(taken(&mut limiter, alice, at(10_000)), 10);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut limiter = Limiter::new(100);
        let alice = Key::user("alice");
        for _ in 0..100 {
            limiter.take(alice, at(0)).unwrap();
            limiter.give_back(alice);
        }
        assert_eq!(taken(&mut limiter, alice, at(0)), 10);
    }

    #[test]
    fn peers_of_one_network_are_one() {
        let mut limiter = Limiter::new(100);
        let peer = |text: &str| Key::peer(text.parse().unwrap());
        assert_eq!(taken(&mut limiter, peer("2001:db8::1"), at(0)), 50);
        assert!(limiter.take(peer("2001:db8::2:1"), at(0)).is_err());
        assert!(limiter.take(peer("2001:db8:0:1::1"), at(0)).is_ok());
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.2"), peer("10.0.0.1"));
    }

    #[test]
    fn a_full_table_refuses_who_is_new_until_there_is_room() {
        let mut limiter = Limiter::new(2);
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(Key::user);
        limiter.take(alice, at(0)).unwrap();
        limiter.take(bob, at(0)).unwrap();
        assert!(limiter.take(carol, at(0)).is_err());
        assert!(limiter.take(alice, at(0)).is_ok(), "who is known goes on");
        assert!(limiter.take(carol, at(30)).is_ok(), "bob's allowance is full again");
    }
}
