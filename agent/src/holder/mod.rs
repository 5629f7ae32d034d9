//! The holder: a process of its own that keeps a duplicate of every listener, so that connections wait in the backlog while no agent accepts.
//!
//! It has no network input: it listens on a unix socket of its own user, accepts from nothing it holds, and knows neither policy nor identity.

mod client;
mod link;
mod server;
mod spawn;
mod wire;

use std::{fmt, str::FromStr};

use thiserror::Error;

pub use client::{Client, HolderError};
pub use link::Link;
pub use server::{HoldError, hold};
pub use spawn::{SpawnError, ensure, stop};

/// What a listener is for, in which namespace it lives, and for whom. The cookie is never used twice between two boots, and a holder does not outlive one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub role: Role,
    pub netns: u64,
    /// Id of the workload's cgroup; 0 for the listener of a whole namespace.
    pub cgroup: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Takes what one workload dials.
    Capture,
    /// Takes tunnels to the workloads of a namespace.
    Tunnel,
}

#[derive(Debug, Error)]
#[error("{0:?} is no listener key")]
pub struct ParseKeyError(String);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Capture => "capture",
            Role::Tunnel => "tunnel",
        };
        write!(f, "{role}:{:016x}:{:016x}", self.netns, self.cgroup)
    }
}

impl FromStr for Key {
    type Err = ParseKeyError;
    fn from_str(s: &str) -> Result<Self, ParseKeyError> {
        let bad = || ParseKeyError(s.chars().take(80).collect());
        let (role, rest) = s.split_once(':').ok_or_else(bad)?;
        // An agent of before wrote no cgroup.
        let (netns, cgroup) = rest.split_once(':').unwrap_or((rest, "0"));
        let role = match role {
            "capture" => Role::Capture,
            "tunnel" => Role::Tunnel,
            _ => return Err(bad()),
        };
        let number = |text: &str| u64::from_str_radix(text, 16).map_err(|_| bad());
        Ok(Self { role, netns: number(netns)?, cgroup: number(cgroup)? })
    }
}
