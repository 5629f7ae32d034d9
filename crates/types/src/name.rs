//! Names as Kubernetes and SPIFFE allow them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name of a service, namespace, account or node, in bytes (RFC 1123 label).
pub(crate) const LABEL_MAX_BYTES: usize = 63;
/// Longest trust domain, in bytes (SPIFFE-ID §2.1).
pub(crate) const TRUST_DOMAIN_MAX_BYTES: usize = 255;
/// Longest workload uid, in bytes.
pub(crate) const UID_MAX_BYTES: usize = 128;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    #[error("a name is empty")]
    Empty,
    #[error("name {0:?} is longer than {1} bytes")]
    TooLong(String, usize),
    #[error("name {0:?} may hold only lower-case letters, digits and '-', and starts and ends with a letter or digit")]
    NotALabel(String),
    #[error("trust domain {0:?} may hold only lower-case letters, digits, '.', '-' and '_'")]
    NotATrustDomain(String),
    #[error("workload uid {0:?} may hold only letters, digits, '.', '-', '_', ':' and '/'")]
    NotAUid(String),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                $check(s).map(|()| Self(s.to_owned()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                $check(&s).map(|()| Self(s))
            }
        }
        impl From<$name> for String {
            fn from(n: $name) -> String {
                n.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// An RFC 1123 label: the name of a namespace, a service or a service account.
    Label, label
}
name! {
    /// The name of a node.
    NodeName, label
}
name! {
    /// The name of a team, which owns services.
    TeamName, label
}
name! {
    /// `example.org` of `spiffe://example.org/…`.
    TrustDomain, trust_domain
}
name! {
    /// One workload instance, unique on its node, as the agent that holds it named it.
    WorkloadUid, uid
}

fn label(s: &str) -> Result<(), NameError> {
    bounded(s, LABEL_MAX_BYTES)?;
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = s.chars().all(|c| edge(c) || c == '-') && s.starts_with(edge) && s.ends_with(edge);
    if fits { Ok(()) } else { Err(NameError::NotALabel(s.to_owned())) }
}

fn trust_domain(s: &str) -> Result<(), NameError> {
    bounded(s, TRUST_DOMAIN_MAX_BYTES)?;
    let fits = s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_'));
    if fits { Ok(()) } else { Err(NameError::NotATrustDomain(s.to_owned())) }
}

fn uid(s: &str) -> Result<(), NameError> {
    bounded(s, UID_MAX_BYTES)?;
    let fits = s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/'));
    if fits { Ok(()) } else { Err(NameError::NotAUid(s.to_owned())) }
}

fn bounded(s: &str, max: usize) -> Result<(), NameError> {
    match s.len() {
        0 => Err(NameError::Empty),
        n if n > max => Err(NameError::TooLong(s.chars().take(80).collect(), max)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_rfc_1123() {
        for good in ["a", "orders", "orders-db", "0a", &"a".repeat(63)] {
            assert!(good.parse::<Label>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }
}
