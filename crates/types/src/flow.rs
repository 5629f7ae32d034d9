//! The stable id of one connection.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Sixteen hex digits, given by the kernel at the caller's connect and carried in the tunnel header to the other node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlowId(pub u64);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("flow id {0:?} is not 16 hex digits")]
pub struct ParseFlowIdError(String);

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for FlowId {
    type Err = ParseFlowIdError;
    fn from_str(s: &str) -> Result<Self, ParseFlowIdError> {
        let bad = || ParseFlowIdError(s.chars().take(40).collect());
        if s.len() != 16 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u64::from_str_radix(s, 16).map(Self).map_err(|_| bad())
    }
}

impl TryFrom<String> for FlowId {
    type Error = ParseFlowIdError;
    fn try_from(s: String) -> Result<Self, ParseFlowIdError> {
        s.parse()
    }
}

impl From<FlowId> for String {
    fn from(id: FlowId) -> Self {
        id.to_string()
    }
}
