//! Catalog to grants, and the one function that decides and explains.
//!
//! Pure: no clock, no socket, no file, and no tokio. The agent, the gateway and `weft can` all ask [`Index::decide`], so that an explanation
//! cannot drift from the enforcement; [`tables()`] is the same policy as the kernel holds it, and a test keeps the two equal over all pairs.

mod address;
mod compile;
mod decide;
mod decision;
mod explain;
mod index;
mod patch;
mod tables;

pub use compile::{Compiled, Ids, compile};
pub use decision::{Decision, Destination, Party, Query};
pub use index::{Index, Resolved, ResolvedKind};
pub use tables::{KernelTables, Kind, tables};
