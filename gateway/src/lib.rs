//! The one door of the mesh for people: who a request comes from, and how an application is told.
//!
//! A library so far: it owns no listener and no route. What a person may open is decided by the shared policy; here it is only found out who asks.

pub mod assertion;
mod files;
pub mod limits;
pub mod pages;
mod random;
pub mod seal;
pub mod sso;
