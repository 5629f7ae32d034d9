//! What the one deciding function is asked, and what it answers.

use std::net::IpAddr;

use serde::Serialize;
use weft_types::{Protocol, Reason, Revision, RuleId, ServiceId, ServiceRef, SpiffeId, TeamName, Verdict};

/// May `source` open a connection to `destination`?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub source: ServiceId,
    pub destination: Destination,
    pub protocol: Protocol,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A service and its *service* port.
    Service { id: ServiceId, port: u16 },
    /// An address and port as a program would dial them: virtual IP, endpoint or interface, resolved as the kernel does.
    Address { addr: IpAddr, port: u16 },
}

/// The whole record: what `weft can` prints and a flow keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub verdict: Verdict,
    pub reason: Reason,
    pub revision: Revision,
    /// 0 when no rule matched.
    pub rule: RuleId,
    pub rule_declared_at: Option<String>,
    /// The rule is weft's own: it follows from an exposure or an identity provider, and nobody declares it.
    pub builtin: bool,
    pub source: Option<Party>,
    pub destination: Option<Party>,
    pub port: u16,
    pub protocol: Protocol,
    /// For a denial: the closest thing that would have matched, in words.
    pub nearest_miss: Option<String>,
    /// For a default deny: the smallest grant that would allow it, as a YAML patch for the source's document (and, where the provider's consent is missing, for the provider's).
    pub patch: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Party {
    pub id: ServiceId,
    pub service: ServiceRef,
    pub identity: SpiffeId,
    pub owner: TeamName,
    pub declared_at: String,
}
