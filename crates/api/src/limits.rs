//! Bounds of the wires.

use std::time::Duration;

/// Largest message, in bytes: the largest payload of an envelope and what is around it. Both ends set it, as tonic's own default is 4 MiB.
pub const MESSAGE_MAX_BYTES: usize = (64 << 20) + (64 << 10);
/// How long a program waits for the other end of a unix socket.
pub const UNIX_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
