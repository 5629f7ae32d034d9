//! Bounds of the metrics and health listener.

use std::time::Duration;

/// Connections served at once; further ones are closed at once, so that a scraper gone wrong takes no descriptors from the data path.
pub const CONNECTIONS_MAX: usize = 64;
/// Headers of one request.
pub const HEADERS_MAX: usize = 32;
/// Bytes of one request's head.
pub const HEAD_MAX_BYTES: usize = 16 * 1024;
/// Time for a request's head to arrive.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time one connection may live, however many requests it carries.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
