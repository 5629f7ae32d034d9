//! Bounds of the agent, each with its unit, and what happens at the bound.

use std::time::Duration;

/// Bytes of `run_dir`: the sockets in it have names of up to 27 bytes, and the kernel takes 107 in all.
pub const RUN_DIR_MAX_BYTES: usize = 80;
/// Managed subtrees; the kernel table's bound. More are refused with the configuration.
pub const MANAGED_MAX: usize = weft_ebpf_common::limits::MANAGED_MAX as usize;
/// Resolvers; the kernel table's bound. More are refused with the configuration.
pub const RESOLVERS_MAX: usize = weft_ebpf_common::limits::RESOLVERS_MAX as usize;
/// Addresses of the host that its workloads are reached at; more are refused with the configuration.
pub const HOST_ADDRESSES_MAX: usize = weft_kernel::limits::ADDRESSES_MAX;
/// Workloads of one node; the kernel table's bound. A further one is refused and stays denied.
pub const WORKLOADS_MAX: usize = weft_ebpf_common::limits::WORKLOADS_MAX as usize;

/// Listeners that a holder keeps: two a workload. A further one is refused, and the workload lives without a holder.
pub const HELD_MAX: usize = 2 * WORKLOADS_MAX;
/// Bytes of a listener's key.
pub const KEY_MAX_BYTES: usize = 128;
/// Agents that talk to a holder at once: one, and its successor during an upgrade. A further one is closed.
pub const HOLDER_PEERS_MAX: usize = 4;
/// How long a holder's answer may take.
pub const HOLDER_TIMEOUT: Duration = Duration::from_secs(5);

/// Flows kept for questions; the oldest goes first.
pub const FLOWS_MAX: usize = 65_536;
/// Of these, requests that gateways have judged; the oldest of them goes first, so that people who come cost no connection its record. With the
/// bounds of one below they hold 80 MiB at most.
pub const REQUESTS_MAX: usize = 16_384;
/// Flows that a follower may lag behind; beyond, its stream ends with an error that says so.
pub const FOLLOWER_LAG_MAX: usize = 16_384;
/// Bytes of a flow's free text.
pub const DETAIL_MAX_BYTES: usize = 512;
/// Bytes of a person's name, a method, a host, a reason and a path in a request's record; what is longer is cut, a path visibly.
pub const USER_MAX_BYTES: usize = 256;
pub const METHOD_MAX_BYTES: usize = 32;
pub const HOST_MAX_BYTES: usize = 255;
pub const REASON_MAX_BYTES: usize = 32;
pub const PATH_MAX_BYTES: usize = 1024;
/// Bytes of all groups of a request's record, and of all that are missing; what does not fit is left out, and its number told.
pub const GROUPS_MAX_BYTES: usize = 2048;
pub const MISSING_MAX_BYTES: usize = 1024;
/// How far the time that a gateway says of a request may lie back; it is now for others.
pub const REQUEST_AGE_MAX: Duration = Duration::from_secs(600);
/// Denials whose explanation is remembered; at the bound all are forgotten, which costs time only.
pub const EXPLAINED_MAX: usize = 1024;
/// How often the kernel's flow ring is read even when nothing wakes the agent up.
pub const RING_POLL: Duration = Duration::from_secs(1);

/// How often cgroups and namespaces of workloads are looked at; a vanished one is withdrawn well within a second.
pub const WORKLOAD_SWEEP: Duration = Duration::from_millis(250);
/// Directories that are watched for new cgroups; those of further workloads are noticed by the sweep.
pub const ARRIVALS_MAX: usize = 1024;
/// New cgroups within this time are one look.
pub const ARRIVALS_PAUSE: Duration = Duration::from_millis(5);
/// How long a live workload may take to be enrolled; then it is given up, and who added it is told why.
pub const ENROL_TIMEOUT: Duration = Duration::from_secs(30);
/// Revisions and vanished workloads whose connections wait to be ended; who has a further one waits.
pub const REVOKE_ORDERS: usize = 1024;
/// Requests that wait for the thread that enrols; a further one is refused.
pub const WORKLOAD_COMMANDS: usize = 1024;
/// How often the holder and the workloads file are looked at.
pub const MAINTENANCE: Duration = Duration::from_secs(1);
/// How often a workload's addresses, and what the kernel holds of it, are read back.
pub const READ_BACK: Duration = Duration::from_secs(5);
/// When the sockets that a revision took something away from are looked at once more.
pub const REVOKE_AGAIN: Duration = Duration::from_secs(1);
/// How long a successor may take until it answers.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a canary waits for its answer, and for a refusal.
pub const CANARY_TIMEOUT: Duration = Duration::from_secs(2);
pub const CANARY_KNOCK: Duration = Duration::from_millis(500);
/// How long what must not come in is given, after what may has come in.
pub const CANARY_PAUSE: Duration = Duration::from_millis(20);
/// Bytes of what a canary's process prints; the rest is cut off, so no proof.
pub const CANARY_ANSWER_MAX_BYTES: u64 = 2048;
/// Workloads whose canaries run at once when somebody asks for all.
pub const CANARIES_AT_ONCE: usize = 8;
/// How long drift that was found is shown as a warning, and how many findings are kept; the oldest goes first.
pub const DRIFT_SHOWN: Duration = Duration::from_secs(3600);
pub const DRIFT_KEPT_MAX: usize = 32;
/// One look at the node serves all workloads that are read back within this time.
pub const SURVEY_AGE: Duration = Duration::from_millis(500);
/// How often the kernel's policy tables are compared with the snapshot; never more than one part in [`VERIFY_REST`] of the time.
pub const VERIFY: Duration = Duration::from_secs(5);
pub const VERIFY_REST: u32 = 50;
/// How often attestation records that no accept took are swept, and how old they are then.
pub const ATTESTATION_SWEEP: Duration = Duration::from_secs(30);
/// A SYN that was sent again five times has been given up by then.
pub const ATTESTATION_MAX_AGE: Duration = Duration::from_secs(75);

/// First and longest wait before the bridge is dialled again; each try doubles it, and half of it is random.
pub const RECONNECT_MIN: Duration = Duration::from_millis(200);
pub const RECONNECT_MAX: Duration = Duration::from_secs(15);
/// How long a connection to the bridge, its TLS handshake included, may take.
pub const BRIDGE_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one answer of the bridge may take.
pub const BRIDGE_CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent bridge is asked for a sign of life after this, and given up when none comes in the same time again.
pub const BRIDGE_KEEPALIVE: Duration = Duration::from_secs(10);
/// Messages to the bridge that wait for the stream; what does not fit is sent with the next report.
pub const BRIDGE_QUEUE: usize = 64;
/// Changes of workloads that come within this time are reported together.
pub const REPORT_SETTLE: Duration = Duration::from_millis(20);

/// Requests on the admin socket that are served at once.
pub const ADMIN_STREAMS_MAX: u32 = 128;
/// Connections of gateways, and of callers that are told why they are none; a further one is closed.
pub const GATEWAY_CONNECTIONS_MAX: usize = 32;
pub const STRANGERS_MAX: usize = 16;
/// How long a caller that is no gateway has to hear why.
pub const STRANGER_TTL: Duration = Duration::from_secs(5);
/// How long a connection has to end after its streams have been told why.
pub const GATEWAY_GRACE: Duration = Duration::from_secs(1);
/// Gateways that follow, and streams of reports; a further one is refused.
pub const FOLLOWERS_MAX: usize = 16;
pub const REPORTS_MAX: usize = 16;
/// Requests on one connection of a gateway that are served at once, bytes of their headers, and of one message: people may be in hundreds of groups,
/// which a gateway sends and this agent keeps a part of. A larger one ends its stream.
pub const GATEWAY_STREAMS_MAX: u32 = 16;
pub const GATEWAY_HEADERS_MAX_BYTES: u32 = 8 << 10;
pub const GATEWAY_MESSAGE_MAX_BYTES: usize = 4 << 20;
/// Requests that are taken from gateways: so many at once, then so many a second; allowed and denied ones each have this. What is more is counted,
/// and the stream that it came by waits.
pub const REQUESTS_BURST: u32 = 4096;
pub const REQUESTS_PER_SECOND: u32 = 1024;
pub const REPORT_PAUSE: Duration = Duration::from_millis(20);

/// Unidentified cgroups that a status lists.
pub const STRAYS_MAX: usize = 256;
/// How often an agent that drains looks for a newer snapshot on disk.
pub const DRAIN_POLL: Duration = Duration::from_millis(500);
/// How long `stop` waits for an agent beyond the time that its connections may take.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// A worker that has enough to do looks for new events of sockets after so many steps. The runtime's own 61 is what a neighbour of a workload with
/// a thousand busy streams would wait for at each of the four sockets that its bytes pass.
pub const STEPS_BETWEEN_EVENTS: u32 = 4;
/// Services listed by name in the metrics; certificates of further ones are not.
pub const METRIC_SERVICES_MAX: usize = 256;
