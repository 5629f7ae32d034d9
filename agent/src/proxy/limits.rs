//! Every bound of the proxy, with its unit, and what happens there.

use std::time::Duration;

/// How long a captured or tunnelled connection waits for the agent to have its SVIDs and a snapshot. Then it is reset.
pub(crate) const READY_WAIT: Duration = Duration::from_secs(10);

/// TCP connect to an endpoint's tunnel port. Then another endpoint is tried, once.
pub(crate) const TUNNEL_CONNECT: Duration = Duration::from_secs(5);
/// TLS handshake of the calling side while another endpoint could be tried.
pub(crate) const HANDSHAKE_OUT: Duration = Duration::from_secs(5);
/// TLS handshake of the calling side on its last try: long enough for a peer whose agent restarts, since its backlog waits for it.
pub(crate) const HANDSHAKE_OUT_LAST: Duration = Duration::from_secs(30);
/// TLS handshake of the listening side. Then the connection is closed.
pub(crate) const HANDSHAKE_IN: Duration = Duration::from_secs(5);
/// From the end of the handshake to a whole first header, and from a header's first byte to its last. Then the connection is closed.
pub(crate) const HEADER: Duration = Duration::from_secs(5);
/// Connect to the application. Then the tunnel answers `upstream-connect`.
pub(crate) const DELIVERY_CONNECT: Duration = Duration::from_secs(5);
/// From the header to the answer, as the calling side waits for it: covers [`READY_WAIT`] and [`DELIVERY_CONNECT`] of the other side.
pub(crate) const ANSWER: Duration = Duration::from_secs(20);

/// Tries of one captured connection, each on another endpoint while there is one.
pub(crate) const ATTEMPTS_MAX: usize = 2;
/// An endpoint that just failed is chosen last for this long.
pub(crate) const FAILED_ENDPOINT: Duration = Duration::from_secs(5);
/// Endpoints whose failure or load is remembered; at the bound the memory is cleared, which costs balance, nothing else.
pub(crate) const ENDPOINT_MEMORY_MAX: usize = 4096;

/// An idle tunnel stays in the warm pool of the calling side this long.
pub(crate) const POOL_IDLE: Duration = Duration::from_secs(60);
/// The listening side waits this long for the next header: longer than the pool keeps, so that the caller ends it first.
pub(crate) const TUNNEL_IDLE: Duration = Duration::from_secs(75);
/// A tunnel older than this carries no further connection: the certificates it was made with must not outlive their time by more.
pub(crate) const TUNNEL_AGE_MAX: Duration = Duration::from_secs(600);
/// Idle tunnels of one key. At the bound a finished tunnel is closed instead of kept.
pub(crate) const POOL_PER_KEY_MAX: usize = 64;
/// Idle tunnels of the node. At the bound a finished tunnel is closed instead of kept.
pub(crate) const POOL_MAX: usize = 2048;
/// How often idle tunnels are looked at.
pub(crate) const POOL_SWEEP: Duration = Duration::from_secs(5);

/// Handshakes under way on one tunnel listener. At the bound it stops accepting, so the backlog waits.
pub(crate) const HANDSHAKES_PER_LISTENER_MAX: usize = 128;
/// Handshakes under way from one address. Further ones wait for one another, without a place of the listener's, which is counted.
pub(crate) const HANDSHAKES_PER_ADDRESS_MAX: usize = HANDSHAKES_PER_LISTENER_MAX / 4;
/// How long they wait. Then the connection is closed: its caller has given up by now.
pub(crate) const HANDSHAKE_WAIT: Duration = HANDSHAKE_OUT_LAST;
/// Connections of one workload (on the listening side: of one caller to it). At the bound a new one is refused, with the reason `budget`.
pub(crate) const CONNECTIONS_PER_SHARE_MAX: usize = 8192;
/// Connections of one listener, whatever their state, those included that are about to be refused. At the bound it stops accepting.
pub(crate) const CONNECTIONS_PER_LISTENER_MAX: usize = 4 * CONNECTIONS_PER_SHARE_MAX;
/// Descriptors that the budget leaves to the rest of the agent and to idle tunnels; a quarter of all where that is less.
pub(crate) const DESCRIPTORS_RESERVED_MAX: usize = POOL_MAX + 2048;
/// Of a connection on the calling side: the application's and the tunnel.
pub(crate) const DESCRIPTORS_OUT: usize = 2;
/// Of a tunnel on the listening side, and of a connection in it.
pub(crate) const DESCRIPTORS_IN: usize = 1;
/// After an accept that failed (no descriptor left, mostly), the listener rests this long.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A peer that has vanished is noticed by keepalive: first probe, interval, probes. A connection itself may idle for ever.
pub(crate) const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub(crate) const KEEPALIVE_PROBES: u32 = 6;
/// How often a connection is looked at for probes of the application's own; see `keepalive`.
pub(crate) const KEEPALIVE_LOOK: Duration = Duration::from_secs(5);
/// A tunnel is not asked more often than this.
pub(crate) const MIRRORED_MIN: Duration = Duration::from_secs(1);
/// Interval of mirrored probes that are not answered is the application's own, at most this; and so many of them.
pub(crate) const MIRRORED_INTERVAL_MAX: Duration = Duration::from_secs(10);
pub(crate) const MIRRORED_PROBES: u32 = 3;

/// One direction of a connection holds at most one buffer, and only while bytes are on their way.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of buffers that one share (a workload; on the listening side, one caller to it) holds, and all together. Beyond, further buffers are
/// [`SMALL_BUFFER_BYTES`], which is counted: connections go on, in smaller pieces. TLS holds at most as much again as the buffers, and a record each way.
pub(crate) const BUFFERED_PER_SHARE_MAX_BYTES: usize = 32 << 20;
pub(crate) const BUFFERED_MAX_BYTES: usize = 256 << 20;
pub(crate) const SMALL_BUFFER_BYTES: usize = 4 * 1024;
/// Unused buffers that one worker thread keeps.
pub(crate) const SPARE_BUFFERS_MAX: usize = 64;
/// A RESET that the peer does not take within this time is not said; the connection is ended all the same. And what a side had sent before
/// its reset has this time to be carried.
pub(crate) const FAREWELL: Duration = Duration::from_millis(500);

/// TLS configurations kept, each for one (source, destination) pair. At the bound the table is cleared.
pub(crate) const TLS_CONFIGS_MAX: usize = 4096;
