//! Every bound of this crate. What happens at one is said beside it.

use std::time::Duration;

/// The longest host with its port (RFC 1035 section 2.3.4, and room for brackets and a port). Beyond it: 400.
pub const HOST_MAX_BYTES: usize = 261;
/// RFC 1035 section 2.3.4.
pub(crate) const LABEL_MAX_BYTES: usize = 63;

/// What a client may cost. Each is per connection unless it says otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Fields of one head. Beyond it: 431.
    pub header_count: usize,
    /// Names and values of one head. Beyond it: 431; in HTTP/2 it is announced as `SETTINGS_MAX_HEADER_LIST_SIZE`.
    pub header_bytes: usize,
    /// From the first byte of a head to its last. Beyond it the connection is closed. HTTP/1 only: a head of HTTP/2 that does not come
    /// leaves the connection idle.
    pub header_wait: Duration,
    /// Without a request that is being served. Beyond it the connection is ended in order.
    pub idle: Duration,
    /// Without one byte taken by a client for which bytes wait. Beyond it the connection is closed.
    pub write_wait: Duration,
    /// Without one byte of a response taken on a stream of HTTP/2 whose window is shut. Beyond it the stream is reset. Longer than for a whole
    /// connection: a paused video keeps its window shut.
    pub stream_wait: Duration,
    /// One request's body. Beyond it: 413.
    pub body_bytes: u64,
    /// How slowly a body may come while no answer has begun. Beyond it: 408.
    pub body_pace: Pace,
    /// How slowly a body may come that is a conversation: gRPC, or one that is already being answered. Beyond it: 408 or an abort.
    pub stream_pace: Pace,
    /// Requests at the same time over one HTTP/2 connection; more wait at the client.
    pub streams: u32,
    /// Requests that a client takes back, less those that it let finish. Beyond it the connection is closed (CVE-2023-44487).
    pub resets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_count: 100,
            header_bytes: 32 * 1024,
            header_wait: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            write_wait: Duration::from_secs(60),
            stream_wait: Duration::from_secs(300),
            body_bytes: 1 << 30,
            body_pace: Pace { window: Duration::from_secs(20), min_bytes: 2 * 1024 },
            stream_pace: Pace { window: Duration::from_secs(3600), min_bytes: 1 },
            streams: 100,
            resets: 100,
        }
    }
}

/// In each `window` of waiting at least so many bytes have to come. Time in which nobody asked for bytes does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub window: Duration,
    pub min_bytes: u64,
}

/// What upstreams may cost.
#[derive(Clone, Debug)]
pub struct PoolLimits {
    /// Until an endpoint has accepted a connection. Beyond it: 504, and another endpoint may be tried.
    pub connect_wait: Duration,
    /// Requests at the same time to one endpoint that speaks HTTP/1.1, each on a connection of its own. Beyond it requests wait.
    pub busy_per_endpoint: usize,
    /// How long they wait. Beyond it: 503.
    pub busy_wait: Duration,
    /// Connections kept for later to one endpoint that speaks HTTP/1.1. Beyond it the connection is closed after its response.
    pub idle_per_endpoint: usize,
    /// How long an unused connection is kept.
    pub idle: Duration,
    /// How long a connection may have been unused before a request goes over it that cannot be repeated: an upstream closes what is idle without
    /// a word, and whoever sends at that moment cannot know whether it was read.
    pub idle_for_unrepeatable: Duration,
    /// Connections to one endpoint that speaks HTTP/2.
    pub shared_per_endpoint: usize,
    /// Requests at the same time on one of them.
    pub streams: usize,
    /// Without progress of the request and without a response. Beyond it: 504. For gRPC the window of `response_pace` holds instead.
    pub response_wait: Duration,
    /// Without a byte of a response that has begun. Beyond it the response is cut.
    pub response_pace: Pace,
    /// Fields of a response's head. Beyond it: 502.
    pub header_count: usize,
    /// Bytes of a response's head. Beyond it: 502.
    pub header_bytes: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            connect_wait: Duration::from_secs(5),
            busy_per_endpoint: 1024,
            busy_wait: Duration::from_secs(10),
            idle_per_endpoint: 64,
            idle: Duration::from_secs(60),
            idle_for_unrepeatable: Duration::from_secs(1),
            shared_per_endpoint: 8,
            streams: 100,
            response_wait: Duration::from_secs(60),
            response_pace: Pace { window: Duration::from_secs(3600), min_bytes: 1 },
            header_count: 100,
            header_bytes: 64 * 1024,
        }
    }
}

/// What is read from one side of an upgraded connection before it is written to the other.
pub(crate) const RELAY_BUFFER_BYTES: usize = 16 * 1024;
/// What a client still sends after its last answer is read away up to here.
pub(crate) const LINGER_MAX_BYTES: usize = 256 * 1024;
pub(crate) const LINGER_WAIT: Duration = Duration::from_secs(1);
/// For one direction of an upgraded connection after the other has ended.
pub(crate) const HALF_CLOSED_WAIT: Duration = Duration::from_secs(60);
/// For the last words to an upgraded connection that is ended.
pub(crate) const FAREWELL_WAIT: Duration = Duration::from_secs(1);
/// Between two looks for what can be let go.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// A request is sent at most so many times, the first included.
pub(crate) const ATTEMPTS_MAX: usize = 3;
/// Streams that the peer has reset before they were taken up (h2's own default, named so that it cannot change unseen).
pub(crate) const PENDING_RESETS_MAX: usize = 20;
/// Resets that a peer has provoked from us.
pub(crate) const PROVOKED_RESETS_MAX: usize = 256;
/// A peer that does not answer a ping is gone.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(30);
pub(crate) const PING_WAIT: Duration = Duration::from_secs(10);
/// Bytes that are kept for a client of HTTP/2 which does not take them, per stream.
pub(crate) const SEND_BUFFER_BYTES: usize = 64 * 1024;
