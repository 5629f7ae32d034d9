//! How people and documents refer to a service: `name`, `namespace/name`, on the command line with `:port`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Label, NameError, PortName, WebUrl, WebUrlError};

/// Longest name of a person or group, in bytes.
const PERSON_MAX_BYTES: usize = 256;

/// A service by namespace and name; shown and parsed as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceRef {
    pub namespace: Label,
    pub name: Label,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RefError {
    #[error("reference {0:?} needs a namespace: write NAMESPACE/NAME")]
    NoNamespace(String),
    #[error("reference {0:?} has more than one '/'")]
    TooManyParts(String),
    #[error("reference {reference:?}: {source}")]
    Name { reference: String, source: NameError },
    #[error("reference {0:?} has a port that is neither a number from 1 to 65535 nor a port name")]
    Port(String),
    #[error("reference kind {0:?} is not known here: use NAMESPACE/NAME, https://HOST/PATH, or node:, ip:, user:, group: before a name")]
    Kind(String),
    #[error("reference {0:?} names nobody: write user:NAME, user:NAME@GROUP,GROUP or group:NAME")]
    Person(String),
    #[error(transparent)]
    Url(#[from] WebUrlError),
    #[error("reference {0:?} has an address that is no IP address")]
    Address(String),
}

impl ServiceRef {
    /// Reads `name` (in `own` namespace) or `namespace/name`.
    pub fn parse_in(s: &str, own: &Label) -> Result<Self, RefError> {
        let label = |part: &str| part.parse().map_err(|source| RefError::Name { reference: s.to_owned(), source });
        match s.split_once('/') {
            None => Ok(Self { namespace: own.clone(), name: label(s)? }),
            Some((_, rest)) if rest.contains('/') => Err(RefError::TooManyParts(s.to_owned())),
            Some((namespace, name)) => Ok(Self { namespace: label(namespace)?, name: label(name)? }),
        }
    }

    /// The name that workloads resolve: `<service>.<namespace>.weft.internal`.
    pub fn mesh_host(&self) -> String {
        format!("{}.{}.weft.internal", self.name, self.namespace)
    }
}

impl FromStr for ServiceRef {
    type Err = RefError;
    fn from_str(s: &str) -> Result<Self, RefError> {
        if !s.contains('/') {
            return Err(RefError::NoNamespace(s.to_owned()));
        }
        let unused = "x".parse().expect("a label");
        Self::parse_in(s, &unused)
    }
}

impl TryFrom<String> for ServiceRef {
    type Error = RefError;
    fn try_from(s: String) -> Result<Self, RefError> {
        s.parse()
    }
}

impl From<ServiceRef> for String {
    fn from(r: ServiceRef) -> Self {
        r.to_string()
    }
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.namespace, self.name))
    }
}

/// What a command line may name as a source or destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `namespace/name`, with an optional `:port` (number or name).
    Service { service: ServiceRef, port: Option<PortRef> },
    /// `ip:ADDRESS` or `ip:ADDRESS:PORT` (`ip:[V6]:PORT`).
    Ip { addr: std::net::IpAddr, port: Option<u16> },
    /// `node:NAME`
    Node(Label),
    /// `user:NAME` or `user:NAME@GROUP,GROUP`: somebody who signed in, and the groups that the identity provider says of them. A name that holds an `@`
    /// itself is written with another one behind it.
    User { name: String, groups: Vec<String> },
    /// `group:NAME`: anybody of that group.
    Group(String),
    /// `anonymous`: whoever has not signed in.
    Anonymous,
    /// `https://HOST/PATH`, through the gateway.
    Url(WebUrl),
}

/// A port as a person writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRef {
    Number(u16),
    Name(PortName),
}

impl FromStr for PortRef {
    type Err = RefError;
    fn from_str(s: &str) -> Result<Self, RefError> {
        match s.parse::<u16>() {
            Ok(0) => Err(RefError::Port(s.to_owned())),
            Ok(n) => Ok(Self::Number(n)),
            Err(_) => s.parse().map(Self::Name).map_err(|_| RefError::Port(s.to_owned())),
        }
    }
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Name(n) => n.fmt(f),
        }
    }
}

impl FromStr for Target {
    type Err = RefError;
    fn from_str(s: &str) -> Result<Self, RefError> {
        if let Some(rest) = s.strip_prefix("ip:") {
            return parse_ip(s, rest);
        }
        if let Some(rest) = s.strip_prefix("node:") {
            return rest.parse().map(Self::Node).map_err(|source| RefError::Name { reference: s.to_owned(), source });
        }
        if let Some(rest) = s.strip_prefix("user:") {
            return parse_user(s, rest);
        }
        if let Some(rest) = s.strip_prefix("group:") {
            return Ok(Self::Group(person(s, rest)?));
        }
        if s == "anonymous" {
            return Ok(Self::Anonymous);
        }
        if s.contains("://") {
            return Ok(Self::Url(s.parse()?));
        }
        let (service, port) = match s.split_once(':') {
            None => (s, None),
            Some((kind, _)) if !kind.contains('/') => return Err(RefError::Kind(kind.to_owned())),
            Some((service, port)) => (service, Some(port.parse()?)),
        };
        Ok(Self::Service { service: service.parse()?, port })
    }
}

fn parse_user(whole: &str, rest: &str) -> Result<Target, RefError> {
    let (name, groups) = rest.rsplit_once('@').unwrap_or((rest, ""));
    let groups = if groups.is_empty() { vec![] } else { groups.split(',').map(|g| person(whole, g)).collect::<Result<_, _>>()? };
    Ok(Target::User { name: person(whole, name)?, groups })
}

fn person(whole: &str, name: &str) -> Result<String, RefError> {
    let fits = !name.trim().is_empty() && name.len() <= PERSON_MAX_BYTES && !name.chars().any(char::is_control);
    if fits { Ok(name.to_owned()) } else { Err(RefError::Person(whole.chars().take(160).collect())) }
}

fn parse_ip(whole: &str, rest: &str) -> Result<Target, RefError> {
    if let Ok(addr) = rest.parse() {
        return Ok(Target::Ip { addr, port: None });
    }
    match rest.parse::<std::net::SocketAddr>() {
        Ok(sa) => Ok(Target::Ip { addr: sa.ip(), port: Some(sa.port()) }),
        Err(_) => Err(RefError::Address(whole.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_documented() {
        let service = |s: &str| s.parse::<ServiceRef>().unwrap();
        let port = |p: &str| Some(p.parse().unwrap());
        assert_eq!("shop/orders".parse(), Ok(Target::Service { service: service("shop/orders"), port: None }));
        assert_eq!("shop/orders:80".parse(), Ok(Target::Service { service: service("shop/orders"), port: port("80") }));
        assert_eq!("shop/orders:web".parse(), Ok(Target::Service { service: service("shop/orders"), port: port("web") }));
        assert_eq!("ip:10.0.0.1:5".parse(), Ok(Target::Ip { addr: "10.0.0.1".parse().unwrap(), port: Some(5) }));
        assert_eq!("ip:::1".parse(), Ok(Target::Ip { addr: "::1".parse().unwrap(), port: None }));
        for bad in [
            "orders",
            "a/b/c",
            "shop/orders:0",
            "shop/orders:70000",
            "user:",
            "user:@sales",
            "user:a@b,,c",
            "group:",
            "host:a",
            "http://a/",
            "ip:x",
            "Shop/orders",
            "",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn people_and_addresses_are_read_as_documented() {
        let user = |name: &str, groups: &[&str]| Ok(Target::User { name: name.into(), groups: groups.iter().map(|g| (*g).to_owned()).collect() });
        assert_eq!("user:alice".parse(), user("alice", &[]));
        assert_eq!("user:alice@sales,support".parse(), user("alice", &["sales", "support"]));
        assert_eq!("user:alice@corp.example@sales".parse(), user("alice@corp.example", &["sales"]));
        assert_eq!("user:alice@corp.example@".parse(), user("alice@corp.example", &[]));
        assert_eq!("group:/sales/eu".parse(), Ok(Target::Group("/sales/eu".into())));
        assert_eq!("anonymous".parse(), Ok(Target::Anonymous));
        assert_eq!("https://shop.example/a".parse(), Ok(Target::Url("https://shop.example/a".parse().unwrap())));
        assert!("http://a/".parse::<Target>().unwrap_err().to_string().contains("https://"));
    }
}
