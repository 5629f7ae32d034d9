//! Bounds of identities, each with its unit.

use std::time::Duration;

/// Largest signing request read, in bytes; one with a P-256 key takes about 250.
pub const CSR_MAX_BYTES: usize = 4096;
/// Largest certificate read, in bytes.
pub const CERTIFICATE_MAX_BYTES: usize = 16 * 1024;
/// Certificates in a chain.
pub const CHAIN_MAX: usize = 4;
/// Roots in a trust bundle: the one in force and those it is rolled with.
pub const BUNDLE_MAX: usize = 8;
/// Shortest life of a certificate.
pub const TTL_MIN: Duration = Duration::from_secs(60);
/// Longest life of a certificate that is not a CA's.
pub const TTL_MAX: Duration = Duration::from_secs(90 * 24 * 3600);
/// Life of a mesh CA.
pub const CA_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far a certificate reaches back, so that a clock that runs behind accepts it. Short-lived ones reach back a sixth of their life.
pub const BACKDATE_MAX: Duration = Duration::from_secs(300);
/// Longest join token, in bytes.
pub const TOKEN_MAX_BYTES: usize = 256;
