//! The `weft/1` tunnel as bytes: one TLS connection carries one application connection at a time.
//!
//! The calling side writes a [`Header`], the listening side an [`Answer`] (only after policy and the application have accepted), then
//! each direction is frames until both have said FIN; then the next header may follow on the same connection. `docs/tunnel.md` is
//! the specification; its test vectors are read by this crate's tests.
//!
//! Deliberately absent: sockets, TLS, clocks, buffers. Decoders take what has arrived, keep a few bytes of state and never allocate
//! for a length that a peer claims.

mod answer;
mod frame;
mod header;
mod limits;

pub use answer::{Answer, AnswerDecoder, AnswerError};
pub use frame::{Event, FrameDecoder, FrameError, ResetReason, data_header, fin, reset};
pub use header::{Header, HeaderDecoder, HeaderError};
pub use limits::{ANSWER_MAX_BYTES, ANSWER_TEXT_MAX_BYTES, DATA_MAX_BYTES, FRAME_HEADER_BYTES, HEADER_BYTES, HEADER_MAX_BYTES};

/// The application protocol of the TLS handshake.
pub const ALPN: &[u8] = b"weft/1";
/// The version that header and answer carry.
pub const VERSION: u8 = 1;
