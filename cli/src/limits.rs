//! Bounds of the command line.

use std::time::Duration;

/// Largest configuration file, in bytes.
pub const CONFIG_MAX_BYTES: u64 = 64 * 1024;
/// Most agents one configuration may name.
pub const AGENTS_MAX: usize = 256;
/// How long one question to an agent or the bridge may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Adding a workload may wait for the bridge to issue its SVID.
pub const ENROL_CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Every canary of a node: each may wait some seconds for its answer.
pub const PROVE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a workload that is not enrolled yet is looked at again.
pub const ENROL_POLL: Duration = Duration::from_millis(100);
/// Flows of several nodes are held this long before they are printed, so that they come out in order of time.
pub const REORDER_WINDOW: Duration = Duration::from_millis(250);
/// Most flows held for ordering; beyond it the oldest are printed early.
pub const REORDER_MAX_FLOWS: usize = 65_536;
/// Most suggestions after "did you mean".
pub const SUGGESTIONS_MAX: usize = 3;
/// Most processes looked at in the cgroup of a workload.
pub const CGROUP_PIDS_MAX: usize = 4096;
/// Flows that may wait between the agents' streams and the screen; beyond it the agents wait.
pub const FLOW_CHANNEL_MAX: usize = 1024;
/// Between two attempts to reach an agent that is followed.
pub const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// How long a socket that `weft version` asks may take: it is a courtesy.
pub const VERSION_TIMEOUT: Duration = Duration::from_secs(2);
/// Records of one flow on several nodes lie at most this far apart, in milliseconds, clocks included.
pub const SAME_FLOW_MS: i64 = 60_000;
/// Most flows whose last printed line is remembered while following.
pub const FOLLOWED_MAX: usize = 16_384;
/// Longest line that is taken for a password; the bridge's own bound is lower, and says so.
pub const PASSWORD_LINE_MAX_BYTES: usize = 1024;
