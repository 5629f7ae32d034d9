//! Authorization codes that nobody has used yet. They live for a minute, in memory alone: a restart costs a second click, no more.

use std::{collections::HashMap, time::SystemTime};

use super::unix;
use crate::limits::provider as limits;

/// What a code stands for, and what must come with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) client: String,
    pub(super) redirect_uri: String,
    /// RFC 7636 section 4.2, S256.
    pub(super) challenge: String,
    pub(super) nonce: Option<String>,
    pub(super) scope: String,
    pub(super) sid: String,
    /// Unix seconds.
    pub(super) expires_at: i64,
}

#[derive(Default)]
pub(super) struct Codes(HashMap<[u8; 32], Code>);

impl Codes {
    /// False: there are too many, and this one is not kept.
    pub(super) fn add(&mut self, hash: [u8; 32], code: Code, now: SystemTime) -> bool {
        let now = unix(now);
        if self.is_full(&code.sid) {
            self.0.retain(|_, c| c.expires_at > now);
            if self.is_full(&code.sid) {
                return false;
            }
        }
        self.0.insert(hash, code);
        true
    }

    /// The code is gone, whatever comes of it: it is shown once.
    pub(super) fn take(&mut self, hash: &[u8; 32], now: SystemTime) -> Option<Code> {
        self.0.remove(hash).filter(|c| c.expires_at > unix(now))
    }

    fn is_full(&self, sid: &str) -> bool {
        self.0.len() >= limits::CODES_MAX || self.0.values().filter(|c| c.sid == sid).count() >= limits::CODES_PER_SESSION_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn code(sid: String, expires_at: i64) -> Code {
        Code { client: "c".into(), redirect_uri: "r".into(), challenge: "x".into(), nonce: None, scope: "openid".into(), sid, expires_at }
    }

    fn hash(n: usize) -> [u8; 32] {
        super::super::sha256(&n.to_be_bytes())
    }

    #[test]
    fn a_code_is_taken_once_and_in_time() {
        let mut codes = Codes::default();
        assert!(codes.add(hash(1), code("s".into(), 60), at(0)) && codes.add(hash(2), code("s".into(), 60), at(0)));
        assert!(codes.take(&hash(1), at(59)).is_some() && codes.take(&hash(1), at(59)).is_none());
        assert!(codes.take(&hash(2), at(60)).is_none());
    }

    #[test]
    fn at_its_bounds_it_keeps_no_further_one_until_others_expire() {
        let mut codes = Codes::default();
        for n in 0..limits::CODES_PER_SESSION_MAX {
            assert!(codes.add(hash(n), code("mine".into(), 60), at(0)));
        }
        assert!(!codes.add(hash(99_999), code("mine".into(), 60), at(0)));
        assert!(codes.add(hash(99_998), code("other".into(), 60), at(0)), "another session's");
        for n in codes.0.len()..limits::CODES_MAX {
            assert!(codes.add(hash(n + 100_000), code(format!("s{n}"), 60), at(0)));
        }
        assert!(!codes.add(hash(99_997), code("third".into(), 60), at(59)));
        assert!(codes.add(hash(99_997), code("third".into(), 120), at(60)));
    }
}
