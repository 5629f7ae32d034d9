//! A laboratory on one machine: nodes, pods and outside machines as network namespaces with cgroups, real programs inside, and nothing left afterwards.
//!
//! ```no_run
//! # fn main() -> Result<(), weft_lab::LabError> {
//! let mut lab = weft_lab::Lab::new("hello")?;
//! let (a, b) = (lab.node("a")?, lab.node("b")?);
//! let (client, server) = (a.pod("client")?, b.pod("server")?);
//! let wire = weft_lab::Capture::start(lab.wire(), "wire", "wire", "tcp")?;
//! # Ok(()) }
//! ```
//!
//! One lab at a time runs on a machine: it holds a lock file, so names and addresses inside it may be plain and fixed.
//! It knows weft's programs only by their files and command lines. It asserts nothing; tests and demo do.

mod capture;
mod daemon;
mod error;
mod gateway;
mod inventory;
mod lab;
pub mod limits;
mod node;
mod place;
pub mod precondition;
mod process;
mod shell;
mod wait;

pub use capture::{Capture, Captured, Ends, Packet, read as read_capture};
pub use daemon::{Agent, AgentOptions, Bridge, BridgeOptions, METRICS, Workload, bin, bin_dir};
pub use error::LabError;
pub use gateway::{Front, Gateway, GatewayOptions};
pub use inventory::Inventory;
pub use lab::{LOCK_FILE, Lab, LabOptions, STATE_DIR, down_leftovers};
pub use node::{MANAGED, Machine, Node, Pod};
pub use place::{Place, pids_below};
pub use process::Proc;
pub use shell::sh;
pub use wait::{eventually, throughout};
