//! Whom a request is for: the authority of its target, parsed once (RFC 3986 section 3.2, RFC 9110 section 7.2).
//!
//! One host has one spelling here, so that a route, a certificate and an upstream can be compared byte for byte. Deliberately absent: user
//! information, percent-encodings and internationalised names that are not in their ASCII form; whoever sends those is refused.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use thiserror::Error;

use crate::limits::{HOST_MAX_BYTES, LABEL_MAX_BYTES};

/// A name or an address, and the port if one was said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Lower case, without a trailing dot; an IPv6 address in brackets.
    name: String,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HostError {
    #[error("the host is empty")]
    Empty,
    #[error("the host is longer than {HOST_MAX_BYTES} bytes")]
    Long,
    #[error("the host has user information in it")]
    UserInformation,
    #[error("the host has a byte that no host name has")]
    Byte,
    #[error("a label of the host is empty, longer than {LABEL_MAX_BYTES} bytes or begins or ends with a hyphen")]
    Label,
    #[error("the host looks like an address and is none")]
    Address,
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl Host {
    /// Without port.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port that is meant where none was said.
    pub fn port_or(&self, default: u16) -> u16 {
        self.port.unwrap_or(default)
    }

    /// Whether both mean the same, where a port that was not said is `default`.
    pub fn is_same(&self, other: &Self, default: u16) -> bool {
        self.name == other.name && self.port_or(default) == other.port_or(default)
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        match text {
            "" => return Err(HostError::Empty),
            _ if text.len() > HOST_MAX_BYTES => return Err(HostError::Long),
            _ if text.contains('@') => return Err(HostError::UserInformation),
            _ => {}
        }
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or(HostError::Address)?;
                let address: Ipv6Addr = address.parse().map_err(|_| HostError::Address)?;
                let port = match after {
                    "" => None,
                    _ => Some(after.strip_prefix(':').ok_or(HostError::Byte)?),
                };
                (format!("[{address}]"), port)
            }
            None => match text.split_once(':') {
                Some((name, port)) => (registered(name)?, Some(port)),
                None => (registered(text)?, None),
            },
        };
        Ok(Self { name, port: port.map(parse_port).transpose()? })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A registered name or an IPv4 address. The dot that ends an absolute name is taken off: it means the same host, and must not mean another route.
fn registered(text: &str) -> Result<String, HostError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(HostError::Byte);
    }
    if text.split('.').any(|label| label.is_empty() || label.len() > LABEL_MAX_BYTES || label.starts_with('-') || label.ends_with('-')) {
        return Err(HostError::Label);
    }
    let name = text.to_ascii_lowercase();
    // What ends in a number is an address to every resolver, in spellings that few agree on (`127.1`, `0x7f.1`): one of them is left.
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if numeric && name.parse::<Ipv4Addr>().is_err() {
        return Err(HostError::Address);
    }
    Ok(name)
}

fn parse_port(text: &str) -> Result<u16, HostError> {
    if text.is_empty() || text.len() > 5 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(HostError::Port);
    }
    text.parse().ok().filter(|port| *port > 0).ok_or(HostError::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<(&str, Option<u16>), HostError>) {
        let found = text.parse::<Host>();
        assert_eq!(found.as_ref().map(|host| (host.name(), host.port())).map_err(|error| *error), expect, "{text:?}");
        if let Ok(host) = found {
            assert_eq!(host.to_string().parse(), Ok(host), "{text:?}: what is written is read again");
        }
    }

    #[test]
    fn one_host_has_one_spelling() {
        check("shop.example", Ok(("shop.example", None)));
        check("Shop.EXAMPLE.", Ok(("shop.example", None)));
        check("shop.example.:443", Ok(("shop.example", Some(443))));
        check("portal.localhost:8443", Ok(("portal.localhost", Some(8443))));
        check("my_app.internal", Ok(("my_app.internal", None)));
        check("192.0.2.7", Ok(("192.0.2.7", None)));
        check("[2001:DB8::0:1]:80", Ok(("[2001:db8::1]", Some(80))));
        check("[::1]", Ok(("[::1]", None)));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        check("", Err(HostError::Empty));
        check(".", Err(HostError::Empty));
        check(":80", Err(HostError::Empty));
        check("user@shop.example", Err(HostError::UserInformation));
        check("a/b@c", Err(HostError::UserInformation));
        for text in ["a/b", "a b", "a,b", "a\\b", "sh%6fp", "shöp", "a?b", "a#b", "a\tb", "a;b", "[::1]x", "a\0b"] {
            check(text, Err(HostError::Byte));
        }
        for text in ["a..b", "shop..", ".shop", "-a", "a-.b"] {
            check(text, Err(HostError::Label));
        }
        check(&format!("{}.b", "a".repeat(64)), Err(HostError::Label));
        check(&"a.".repeat(200), Err(HostError::Long));
        for text in ["127.1", "0x7f.1", "2130706433", "0x7f000001", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "[::1", "[::1%25lo]", "[127.0.0.1]", "[]"] {
            check(text, Err(HostError::Address));
        }
        for text in ["a:", "a:0", "a:65536", "a:+80", "a:80:80", "a:8o", "a:000080", "::1"] {
            let expect = if text == "::1" { HostError::Empty } else { HostError::Port };
            check(text, Err(expect));
        }
    }

    #[test]
    fn a_port_that_was_not_said_is_the_default() {
        let host = |text: &str| text.parse::<Host>().unwrap();
        assert!(host("a").is_same(&host("A.:443"), 443));
        assert!(!host("a").is_same(&host("a:444"), 443));
        assert!(!host("a").is_same(&host("b"), 443));
    }
}
