//! This node: what connects workloads, kernel, proxy and holder with each other.

mod applier;
mod arrivals;
pub mod canary;
mod drift;
mod host;
mod inside;
mod plumbing;
mod revoker;
mod standing;
mod static_file;
mod thread;

pub use applier::Applier;
pub use drift::Drift;
pub use host::NodeHost;
pub use plumbing::{Door, HostAddresses, Namespaces, NodePlumbing, Place};
pub use revoker::{Ender, Revoker};
pub use static_file::StaticFile;
pub use thread::{Sources, Workloads, start};
