//! What the end-to-end tests share: one mesh of two nodes, and a probe that says from outside what a workload could do.
//!
//! No assertion lives here; a test says what it expects.

pub mod conformance;
mod crowd;
pub mod door;
mod held;
pub mod kinds;
mod load;
mod mesh;
pub mod packets;
mod probe;
pub mod proofs;
pub mod real;
pub mod udp;
pub mod ways;

pub use crowd::Phantom;
pub use held::{End, Held};
pub use load::{Loads, Seen};
pub use mesh::{Mesh, MeshOptions, SETTLE, SHOP};
pub use probe::{Outcome, Server, Traffic, hold_port, passed, probe};
