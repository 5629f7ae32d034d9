//! SVIDs: making them, presenting them, judging them. An identity is proven by an X.509 certificate of the mesh CA whose one URI name is the SPIFFE ID.
//!
//! No socket, no file and no clock: the caller says what time it is when it signs, and rustls when it verifies. Who may hold which identity is the
//! bridge's decision, and what an identity may reach is `weft-policy`'s. Neither a DNS name nor an address in a certificate ever means anything here.

mod ca;
mod key;
pub mod limits;
mod peer;
mod sni;
mod svid;
mod tls;
mod token;
mod verify;

pub use ca::{Ca, CaError, NewCa, SignError, Signed};
pub use key::{KeyAndCsr, KeyError};
pub use peer::{PeerError, peer_error, peer_id};
pub use sni::{SNI_SUFFIX, identity_from_sni, sni_for};
pub use svid::{BundleError, Svid, SvidError, TrustBundle};
pub use tls::{FixedSvid, bridge_id, bridge_server_config, client_config, is_bridge, join_client_config, provider, server_config};
pub use token::{JoinToken, TokenError, TokenSecretHash};
