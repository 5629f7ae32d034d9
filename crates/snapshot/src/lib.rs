//! One atomic, signed revision of everything an agent or gateway needs: its model, its bytes, and the envelope that proves who made it.
//!
//! Pure: no clock, no socket, no file. What a snapshot allows is `weft-policy`'s business; docs/snapshot.md has every byte.

mod decode;
mod delta;
mod encode;
mod envelope;
mod gateway;
pub mod limits;
mod model;
mod walk;
mod wire;

pub use decode::{DecodeError, decode};
pub use encode::encode;
pub use envelope::{
    DELTA_SCHEMA_VERSION, Envelope, GATEWAY_DELTA_SCHEMA_VERSION, GATEWAY_SCHEMA_VERSION, HIGHEST_SCHEMA_VERSION, KeyError, Keyring, OpenError, SCHEMA_VERSION,
    SigningKey, is_whole,
};
pub use gateway::{Access, Bookmark, Branding, Claims, Cors, Gateway, IdentityProvider, Logo, LogoKind, PortalEntry, Route, Shown, Upstream, Via};
pub use model::{Endpoint, External, Grant, Pending, Port, Service, ServiceKind, Snapshot, Team};
