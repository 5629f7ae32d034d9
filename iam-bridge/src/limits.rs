//! Bounds of the bridge, each with its unit, and what happens at the bound.

use std::time::Duration;

pub mod front;
pub mod provider;

/// Bytes of a unix socket's path; the kernel's own bound is 107.
pub const SOCKET_MAX_BYTES: usize = 90;
/// How long one connection to the database waits for another to finish its change.
pub const DATABASE_WAIT: Duration = Duration::from_secs(5);
/// Bytes of a file with a secret that are read. What is behind them is as if it were not there.
pub const SECRET_FILE_MAX_BYTES: u64 = 64 << 10;
/// Free bytes that the state directory needs for keys, database and its log. With less the bridge does not start.
pub const STATE_FREE_MIN_BYTES: u64 = 16 << 20;

/// Life of a workload's SVID when the configuration is silent.
pub const SVID_TTL: Duration = Duration::from_secs(24 * 3600);
/// Life of a node's certificate when the configuration is silent.
pub const NODE_CERT_TTL: Duration = Duration::from_secs(24 * 3600);
/// Life of the bridge's own certificate; it renews itself at half of it.
pub const BRIDGE_CERT_TTL: Duration = Duration::from_secs(24 * 3600);
/// Life of a join token when none is asked for, and the longest.
pub const TOKEN_TTL: Duration = Duration::from_secs(3600);
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Join tokens that have not expired. A further one is refused.
pub const TOKENS_MAX: usize = 10_000;
/// Patterns of services that one node may run. More are refused.
pub const MAY_RUN_MAX: usize = 256;

/// Nodes. A further one cannot join.
pub const NODES_MAX: usize = 10_000;
/// Certificates of one node that are accepted at once; the oldest is forgotten.
pub const NODE_CERTS_MAX: usize = 8;
/// Workloads of one report. A longer report is refused whole, and the stream ends.
pub const WORKLOADS_MAX: usize = 4096;
/// Addresses of one workload. A workload with more is refused.
pub const ADDRESSES_MAX: usize = 16;
/// Bytes of a message from a node.
pub const NODE_MESSAGE_MAX_BYTES: usize = 2 << 20;
/// Bytes of a message on the admin socket.
pub const ADMIN_MESSAGE_MAX_BYTES: usize = 256 << 10;
/// Characters kept of a free text that a node sends, such as its version or why it refuses a snapshot.
pub const TEXT_MAX_CHARS: usize = 512;
/// Least time between two reports of one node that are read; a faster node waits.
pub const REPORT_SPACING: Duration = Duration::from_millis(50);
/// How far a node's revision may be ahead of the bridge's for the bridge to catch up; farther ones are not believed.
pub const REVISION_LEAP_MAX: u64 = 1 << 20;

/// Connections of nodes. A further one waits in the kernel's backlog.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Connections without a client certificate. A further one is closed.
pub const ANONYMOUS_MAX: usize = 256;
/// How long a connection without a client certificate lives: long enough to join.
pub const ANONYMOUS_TTL: Duration = Duration::from_secs(30);
/// TLS handshakes at once; further connections wait.
pub const HANDSHAKES_MAX: usize = 256;
/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at once on one connection of a node, and on one of the admin socket.
pub const REQUESTS_PER_CONNECTION: u32 = 32;
/// Bytes of a request's headers.
pub const HEADERS_MAX_BYTES: u32 = 16 << 10;
/// A silent connection is asked for a sign of life after this, and given up when none comes in the same time again.
pub const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long a node may take to say hello on a new stream.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to read one message; a slower one loses its stream.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long streams have to end when the bridge stops.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Findings of the catalog that `status` shows; the rest is counted.
pub const FINDINGS_MAX: usize = 100;
/// A burst of changes of the catalog's files is taken as one when it has been quiet for this long, or after the longest wait.
pub const DEBOUNCE: Duration = Duration::from_millis(200);
pub const DEBOUNCE_MAX: Duration = Duration::from_secs(2);
/// How often the catalog's files are looked at without a notice from the kernel, which network file systems never give.
pub const CATALOG_POLL: Duration = Duration::from_secs(5);
/// Files and folder depth that this look takes in; changes beyond are found by notice only.
pub const POLL_FILES_MAX: usize = 100_000;
pub const POLL_DEPTH_MAX: usize = 16;
/// Changes kept, each from one revision to the next: a node that is farther behind gets a whole snapshot.
pub const DELTAS_KEPT: usize = 8;
/// Rules whose numbers are remembered beside the database; at the bound all are forgotten, which costs time only.
pub const RULES_KNOWN_MAX: usize = 1 << 20;
