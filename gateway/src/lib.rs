//! The one door of the mesh for people: TLS, who a request comes from, whether they may, and on to the application over the mesh.
//!
//! It owns no policy: routes, identity providers and the portal come with the snapshot, and the shared policy decides. It has no credentials of the
//! mesh either: its node's agent knows it by its cgroup, and carries what it sends.

mod agent;
pub mod assertion;
mod certificates;
mod config;
mod csrf;
mod door;
mod identity;
pub mod limits;
mod listen;
mod live;
mod metrics;
pub mod pages;
mod random;
mod revoke;
pub mod seal;
pub mod sso;
mod start;
mod world;

pub use certificates::{CertificateError, Certificates};
pub use config::{CertificateFiles, Config};
pub use start::{Running, start, start_at};
