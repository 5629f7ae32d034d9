//! Bounds of the load.

use std::time::Duration;

/// Bytes of one write of the bulk load.
pub const BULK_BLOCK_BYTES: usize = 128 << 10;
/// Latency samples kept of one connection; further ones are counted only.
pub const SAMPLES_MAX: usize = 2_000_000;
/// Longest wait for a connect or an answer.
pub const IO_TIMEOUT: Duration = Duration::from_secs(10);
