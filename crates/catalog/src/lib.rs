//! The catalog of services: documents with positions, and what is wrong with them.
//!
//! Reads files and judges what they say together; what follows from a good catalog (grants, tables) is `weft-policy`'s business.

mod finding;
mod model;

pub use finding::{Finding, Position, Severity};
pub use model::{Catalog, Dependency, External, Lifecycle, Mesh, Port, Service, ServiceKind, Team, Workload};
