//! One atomic, signed revision of everything an agent or gateway needs: its model, its bytes, and the envelope that proves who made it.
//!
//! Pure: no clock, no socket, no file. What a snapshot allows is `weft-policy`'s business; docs/snapshot.md has every byte.

mod decode;
mod delta;
mod encode;
mod envelope;
pub mod limits;
mod model;
mod walk;
mod wire;

pub use decode::{DecodeError, decode};
pub use encode::encode;
pub use envelope::{DELTA_SCHEMA_VERSION, Envelope, KeyError, Keyring, OpenError, SCHEMA_VERSION, SigningKey};
pub use model::{Endpoint, External, Grant, Pending, Port, Service, ServiceKind, Snapshot, Team};
