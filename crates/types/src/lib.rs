//! The names that every other crate speaks in, parsed once at the edge and trusted from there on.
//!
//! Pure: no clock, no socket, no file. What a name means (who owns it, who may reach it) lives in `weft-catalog` and `weft-policy`.

pub mod builtin;
mod claim;
pub mod colour;
mod consumer;
mod flow;
mod ids;
mod name;
mod path_pattern;
mod port;
mod reference;
mod spiffe;
pub mod url_path;
mod verdict;
mod web_url;

pub use claim::{ClaimError, ClaimPath};
pub use colour::Colour;
pub use consumer::{Consumer, ConsumerError};
pub use flow::{FlowId, ParseFlowIdError};
pub use ids::{Revision, RuleId, ServiceId};
pub use name::{HostName, Label, Method, NameError, NodeName, TeamName, TrustDomain, WorkloadUid};
pub use path_pattern::{PATTERN_MAX_BYTES, PathKind, PathPattern, Segment};
pub use port::{ParseProtocolError, PortName, PortNameError, Protocol};
pub use reference::{PortRef, RefError, ServiceRef, Target};
pub use spiffe::{SpiffeError, SpiffeId};
pub use url_path::PathError;
pub use verdict::{Path, Reason, Verdict};
pub use web_url::{WebUrl, WebUrlError};
