//! Catalog to grants, and the one function that decides and explains.
mod decision;
pub use decision::*;
