//! The control plane of weft: mesh CA, catalog, placement, and the signed policy that it streams to every node.
//!
//! It judges no connection and is on no data path: when it is gone, nodes go on with their last snapshot for as long as their SVIDs live.

pub mod config;
mod control;
mod files;
mod front;
mod keys;
pub mod limits;
mod metrics;
mod placement;
mod provider;
mod server;
mod start;
mod store;
pub mod token;
mod watch;

pub use config::Config;
pub use front::{Front, start_front};
pub use provider::Bound;
pub use start::{Running, start};
