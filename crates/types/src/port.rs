//! Transport protocols and port names.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest port name, in bytes, as in Kubernetes.
pub(crate) const PORT_NAME_MAX_BYTES: usize = 15;

/// Transport protocol; the number is IANA's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
pub enum Protocol {
    #[default]
    Tcp = 6,
    Udp = 17,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("protocol {0:?} is neither TCP nor UDP")]
pub struct ParseProtocolError(String);

impl Protocol {
    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(n: u8) -> Option<Self> {
        match n {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl FromStr for Protocol {
    type Err = ParseProtocolError;
    fn from_str(s: &str) -> Result<Self, ParseProtocolError> {
        match s {
            "TCP" | "tcp" => Ok(Self::Tcp),
            "UDP" | "udp" => Ok(Self::Udp),
            _ => Err(ParseProtocolError(s.to_owned())),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Name of a port: 1 to 15 lower-case letters, digits and single inner hyphens, at least one letter (IANA service name).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortName(String);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("port name {0:?} must be 1 to 15 lower-case letters, digits and inner '-', with at least one letter")]
pub struct PortNameError(String);

impl PortName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PortName {
    type Err = PortNameError;
    fn from_str(s: &str) -> Result<Self, PortNameError> {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = !s.is_empty()
            && s.len() <= PORT_NAME_MAX_BYTES
            && s.chars().all(|c| edge(c) || c == '-')
            && s.starts_with(edge)
            && s.ends_with(edge)
            && !s.contains("--")
            && s.chars().any(|c| c.is_ascii_lowercase());
        if fits { Ok(Self(s.to_owned())) } else { Err(PortNameError(s.to_owned())) }
    }
}

impl TryFrom<String> for PortName {
    type Error = PortNameError;
    fn try_from(s: String) -> Result<Self, PortNameError> {
        s.parse()
    }
}

impl From<PortName> for String {
    fn from(n: PortName) -> Self {
        n.0
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
