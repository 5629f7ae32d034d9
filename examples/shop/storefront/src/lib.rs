//! Storefront of the example shop: the standard library, one thread a connection, nothing of a mesh.

pub mod http;
pub mod assertion;
pub mod page;
pub mod postgres;
