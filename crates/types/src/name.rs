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
/// Longest host name, in bytes (RFC 1035 §2.3.4, without the dot at its end).
pub(crate) const HOST_MAX_BYTES: usize = 253;
/// Longest HTTP method, in bytes.
pub(crate) const METHOD_MAX_BYTES: usize = 32;

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
    #[error("host {0:?} is no DNS name in lower case: labels of letters, digits and inner '-', with dots between, the last one not a number")]
    NotAHost(String),
    #[error("method {0:?} is no HTTP method in capitals")]
    NotAMethod(String),
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
name! {
    /// A DNS name in lower case (RFC 1123 §2.1), without a dot at its end. No address: nobody's certificate is asked for by one (RFC 6066 §3).
    HostName, host
}
name! {
    /// An HTTP method in capitals, such as `GET` (RFC 9110 §9).
    Method, method
}

impl HostName {
    /// Whether it is `domain` or a name below it.
    pub fn is_within(&self, domain: &Self) -> bool {
        self.0.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// `name` below this one.
    ///
    /// # Errors
    /// When that is no host name, or too long for one.
    pub fn child(&self, name: &str) -> Result<Self, NameError> {
        format!("{name}.{self}").parse()
    }
}

/// Maps keyed by hosts are asked with what a request says.
impl std::borrow::Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
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

fn host(s: &str) -> Result<(), NameError> {
    bounded(s, HOST_MAX_BYTES)?;
    let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let fits = s.split('.').all(|part| label(part).is_ok()) && !s.rsplit('.').next().is_some_and(number);
    if fits { Ok(()) } else { Err(NameError::NotAHost(s.to_owned())) }
}

fn method(s: &str) -> Result<(), NameError> {
    bounded(s, METHOD_MAX_BYTES)?;
    let fits = s.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') && s.starts_with(|c: char| c.is_ascii_uppercase());
    if fits { Ok(()) } else { Err(NameError::NotAMethod(s.to_owned())) }
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

    #[test]
    fn hosts_are_dns_names_and_no_addresses() {
        for good in ["localhost", "shop.localhost", "a.b-c.example", "xn--bcher-kva.example", "4.example"] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        for bad in ["", "Shop", "a..b", ".a", "a.", "a_b", "-a.b", "*.a", "10.0.0.1", "a:80", "ä.example", "[::1]", &["a"; 130].join(".")] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
        let within = |a: &str, b: &str| a.parse::<HostName>().unwrap().is_within(&b.parse().unwrap());
        assert!(within("a.b", "a.b") && within("x.a.b", "a.b"));
        assert!(!within("xa.b", "a.b") && !within("b", "a.b") && !within("a.b.c", "a.b"));
        assert_eq!("b.c".parse::<HostName>().unwrap().child("a").unwrap().as_str(), "a.b.c");
    }

    #[test]
    fn methods_are_in_capitals() {
        for good in ["GET", "M-SEARCH", "PROPFIND"] {
            assert!(good.parse::<Method>().is_ok(), "{good}");
        }
        for bad in ["", "get", "G ET", "-GET", "GET1", &"G".repeat(33)] {
            assert!(bad.parse::<Method>().is_err(), "{bad}");
        }
    }
}
