//! The one strict HTTP layer: what is let in, how it is passed on, and how it ends.
//!
//! - [`vet()`] judges a request's head and makes a [`Vetted`] of it, whose [`Host`] and [`Path`] are the same bytes for policy and upstream, or says
//!   with a [`Refusal`] why not.
//! - [`Server`] drives one accepted connection for a [`Handler`], within [`Limits`], until a [`Drain`] ends it.
//! - [`Pool`] sends a [`Request`] to an [`Endpoint`] and gives the response back, its [`Body`] as it comes, or an [`Error`] that knows whose it is and
//!   whether another try is safe. A WebSocket is relayed until somebody ends it.
//!
//! **The rule of the house:** nothing is repaired that two readers could repair differently. hyper, which reads and writes the bytes, is lenient in
//! places where RFC 9112 allows it; what it repairs without a word is found beside it on the wire.
//!
//! Deliberately absent: TLS, routes, access rules, caches, and any way to read a body into memory.

mod body;
mod drain;
mod error;
mod fields;
mod framing;
mod host;
mod limits;
mod pace;
mod path;
mod pool;
mod refusal;
mod request;
mod server;
mod streams;
mod upgrade;
mod vet;
mod vigil;
mod watch;

pub use body::Body;
pub use drain::{Drain, Drained};
pub use error::{Error, Fault, Retry, Side};
pub use host::{Host, HostError};
pub use limits::{HOST_MAX_BYTES, Limits, Pace, PoolLimits};
pub use path::{Path, PathError};
pub use pool::{Connect, Endpoint, Failed, Pool, Tcp};
pub use refusal::Refusal;
pub use request::Request;
pub use server::{Handler, Server, plain};
pub use upgrade::Upgrade;
pub use vet::{Vetted, vet};

/// Which HTTP is spoken on a connection. ALPN or configuration says it, never the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    Http1,
    Http2,
}

impl Wire {
    /// What a TLS server offers, dearest first.
    pub const ALPN: [&'static [u8]; 2] = [b"h2", b"http/1.1"];

    /// What a TLS handshake has agreed on. A client without ALPN speaks HTTP/1.1; `None` is another protocol.
    pub fn from_alpn(protocol: Option<&[u8]>) -> Option<Self> {
        match protocol {
            Some(b"h2") => Some(Self::Http2),
            Some(b"http/1.1" | b"http/1.0") | None => Some(Self::Http1),
            Some(_) => None,
        }
    }
}
