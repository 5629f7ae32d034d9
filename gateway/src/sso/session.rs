//! One session: what is kept of it, and when it ends. Time is a parameter.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{limits, sso::claims::Person};

/// Names a session; no secret, and of no use as a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(crate) [u8; 16]);

/// How long sessions live, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Without a request.
    pub idle: u64,
    /// From sign-in on, whatever happens.
    pub absolute: u64,
    /// How often the person is taken anew from the provider.
    pub refresh: u64,
}

/// A session as it was read: a snapshot, replaced whole by a refresh.
#[derive(Clone)]
pub struct Session {
    pub id: SessionId,
    pub person: Person,
    /// Unix seconds.
    pub created_at: u64,
    /// When it ends whatever happens, in Unix seconds.
    pub ends_at: u64,
    /// When the person was last taken from the provider, in Unix seconds.
    pub refreshed_at: u64,
    /// The browser, as it calls itself.
    pub agent: String,
    pub(crate) refresh_at: Option<u64>,
    pub(crate) tokens: Tokens,
}

/// What the provider gave. Secrets: no Debug shows them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tokens {
    /// Who gave them.
    pub(crate) issuer: String,
    pub(crate) refresh: Option<Zeroizing<String>>,
    /// For the provider's logout, which wants to know whom it is about.
    pub(crate) id: Option<Zeroizing<String>>,
    /// The provider's own id of its session.
    pub(crate) sid: Option<String>,
}

/// What rests sealed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) person: Person,
    pub(crate) tokens: Tokens,
    pub(crate) agent: String,
    pub(crate) refreshed_at: u64,
    pub(crate) refresh_at: Option<u64>,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { idle: limits::SESSION_IDLE_SECONDS, absolute: limits::SESSION_LIFE_SECONDS, refresh: limits::REFRESH_SECONDS }
    }
}

impl Lifetimes {
    /// None may be longer than sealing keys are kept for.
    pub(crate) fn bounded(self) -> Self {
        let absolute = self.absolute.min(limits::SESSION_LIFE_MAX_SECONDS);
        Self { idle: self.idle.min(absolute), absolute, refresh: self.refresh.max(1) }
    }
}

/// Whether a session that was last used then is over.
pub(crate) fn is_over(ends_at: u64, last_seen: u64, idle: u64, now: u64) -> bool {
    now >= ends_at || now >= last_seen.saturating_add(idle)
}

impl Session {
    pub(crate) fn refresh_is_due(&self, now: u64) -> bool {
        self.tokens.refresh.is_some() && self.refresh_at.is_some_and(|at| now >= at)
    }

    /// What an application may know the session by: it can tell sessions apart, and can do nothing with it.
    pub fn public_hash(&self) -> String {
        let hash = digest::digest(&digest::SHA256, &[b"weft.session.public.v1\0".as_slice(), &self.id.0].concat());
        hex(&hash.as_ref()[..16])
    }

    pub(crate) fn content(&self) -> Content {
        Content {
            person: self.person.clone(),
            tokens: self.tokens.clone(),
            agent: self.agent.clone(),
            refreshed_at: self.refreshed_at,
            refresh_at: self.refresh_at,
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("user", &self.person.user).field("ends_at", &self.ends_at).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a session id has 32 hex digits")]
pub struct ParseSessionIdError;

impl FromStr for SessionId {
    type Err = ParseSessionIdError;
    fn from_str(text: &str) -> Result<Self, ParseSessionIdError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseSessionIdError);
        }
        u128::from_str_radix(text, 16).map(|id| Self(id.to_be_bytes())).map_err(|_| ParseSessionIdError)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_comes_by_idleness_or_by_age() {
        //               ends, seen, idle, now
        for (case, over) in
            [((100, 0, 50, 49), false), ((100, 0, 50, 50), true), ((100, 60, 50, 99), false), ((100, 99, 50, 100), true), ((100, u64::MAX, 50, 99), false)]
        {
            let (ends_at, last_seen, idle, now) = case;
            assert_eq!(is_over(ends_at, last_seen, idle, now), over, "{case:?}");
        }
    }

    #[test]
    fn no_life_is_longer_than_keys_are_kept() {
        let long = Lifetimes { idle: u64::MAX, absolute: u64::MAX, refresh: 0 }.bounded();
        assert_eq!(long, Lifetimes { idle: limits::SESSION_LIFE_MAX_SECONDS, absolute: limits::SESSION_LIFE_MAX_SECONDS, refresh: 1 });
    }

    #[test]
    fn ids_are_read_as_they_are_shown() {
        let id = SessionId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "+b", &"g".repeat(32), &"a".repeat(33)] {
            assert_eq!(bad.parse::<SessionId>(), Err(ParseSessionIdError), "{bad}");
        }
    }
}
