//! Catalog to grants, and the one function that decides and explains.
//!
//! Pure: no clock, no socket, no file, and no tokio. Of connections the agent and `weft can` both ask [`Index::decide`], of people's requests the
//! gateway, the portal and `weft can` all ask [`Index::admit`], so that an explanation cannot drift from the enforcement; [`tables()`] is the same policy as the kernel holds it, and a test keeps the two equal over all pairs.

mod address;
mod admit;
mod compile;
mod cors;
mod decide;
mod decision;
mod explain;
mod expose;
mod index;
mod patch;
mod portal;
mod public;
mod request;
mod routes;
mod tables;

pub use admit::{AccessReason, Admission, Basis, Who};
pub use compile::{Compiled, Ids, compile};
pub use cors::{Preflight, allowed_origin, preflight};
pub use decision::{Decision, Destination, Party, Query};
pub use index::{Index, Resolved, ResolvedKind};
pub use portal::Tile;
pub use request::{App, Contact, Request, RequestDecision};
pub use tables::{KernelTables, Kind, tables};
