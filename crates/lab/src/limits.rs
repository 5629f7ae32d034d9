//! Every bound of the laboratory, with its unit.

use std::time::Duration;

/// How long one `ip`, `mount` or shell helper may take.
pub const HELPER_DEADLINE: Duration = Duration::from_secs(20);
/// How long a lab waits for another one on the same machine.
pub const LOCK_DEADLINE: Duration = Duration::from_secs(900);
/// How long a started agent, bridge or capture may take until it answers.
pub const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long a process may take to end after SIGTERM, before it gets SIGKILL.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long the kernel may take to free the programs of a lab that is gone. What is left then is left.
pub const PROGRAMS_GONE_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two looks at a condition.
pub const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// Captures larger than this are refused by the decoder rather than read into memory.
pub const CAPTURE_MAX_BYTES: u64 = 256 << 20;
/// Pods of one node: the last octet of its /24, less the gateway.
pub const PODS_PER_NODE_MAX: u8 = 200;
pub const NODES_MAX: u8 = 40;
