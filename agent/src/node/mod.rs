//! This node: what connects workloads, kernel, proxy and holder with each other.

mod applier;
mod arrivals;
mod host;
mod plumbing;
mod thread;

pub use applier::Applier;
pub use host::NodeHost;
pub use plumbing::{Door, HostAddresses, Namespaces, NodePlumbing};
pub use thread::{Sources, Workloads, start};
