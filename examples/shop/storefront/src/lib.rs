//! Storefront of the example shop: the standard library, one thread a connection, nothing of a mesh.

pub mod assertion;
pub mod http;
pub mod page;
pub mod postgres;
