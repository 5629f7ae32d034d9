//! Bounds of the front, each with its unit, and what happens at the bound.

use std::time::Duration;

/// Connections of the mesh at once; further ones wait in the kernel's backlog.
pub const CONNECTIONS_MAX: usize = 1024;
/// How long one of them may live: longer than the provider lets it.
pub const CONNECTION_TTL: Duration = Duration::from_secs(660);
/// Connections to the bridge that wait for logout tokens at once.
pub const WAITING: usize = 4;
/// How long the gateway may take to be reached, and to take one token.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
pub const TELL_TTL: Duration = Duration::from_secs(30);
/// Pause before a bridge that does not answer is asked again.
pub const RETRY: Duration = Duration::from_millis(500);
/// How long open connections have to end when the front stops.
pub const DRAIN: Duration = Duration::from_secs(5);
