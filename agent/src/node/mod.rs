//! This node: what connects workloads, kernel, proxy and holder with each other.

mod applier;
mod host;
mod plumbing;
mod revoker;
mod standing;
mod thread;

pub use applier::Applier;
pub use host::NodeHost;
pub use plumbing::{Namespaces, NodePlumbing};
pub use revoker::{Ender, Revoker};
pub use thread::{Sources, Workloads, start};
