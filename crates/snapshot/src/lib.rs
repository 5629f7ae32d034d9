//! One atomic, signed revision of everything an agent or gateway needs.
mod model;
pub use model::*;
