//! What is kept for one endpoint, and how a new connection to it is made.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body::Body as _;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{Connect, Endpoint};
use crate::{
    Wire,
    body::Body,
    error::{Error, Fault, Retry, Side},
    limits::{PING_INTERVAL, PING_WAIT, PROVOKED_RESETS_MAX, PoolLimits},
    request::Request,
};

#[derive(Debug)]
pub(super) struct Shelf {
    limits: Arc<PoolLimits>,
    /// HTTP/1.1: one permit for each connection in use.
    busy: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Shared>>,
    /// HTTP/2: whoever dials lets the others wait for what comes of it.
    dialling: tokio::sync::Mutex<()>,
    in_flight: AtomicUsize,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
}

/// A connection of HTTP/2, with everybody who uses it.
#[derive(Clone, Debug)]
struct Shared {
    sender: http2::SendRequest<Body>,
    load: Arc<Load>,
}

#[derive(Debug)]
struct Load {
    streams: AtomicUsize,
    unused_since: Mutex<Instant>,
}

/// A connection, ready for one request.
pub(crate) enum Line {
    One { lease: Lease, reused: bool },
    Many { sender: http2::SendRequest<Body>, _stream: Stream, reused: bool },
}

impl Line {
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::One { reused, .. } | Self::Many { reused, .. } => *reused,
        }
    }
}

impl Shelf {
    pub(super) fn new(limits: Arc<PoolLimits>) -> Arc<Self> {
        let busy = Arc::new(Semaphore::new(limits.busy_per_endpoint.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { limits, busy, idle: Mutex::default(), shared: Mutex::default(), dialling: tokio::sync::Mutex::new(()), in_flight: AtomicUsize::new(0) })
    }

    /// A connection for this request; `fresh` asks for one that has not been used.
    pub(super) async fn line<C: Connect>(self: &Arc<Self>, connect: &C, endpoint: &Endpoint, request: &Request, fresh: bool) -> Result<Line, Error> {
        match endpoint.wire {
            Wire::Http1 => {
                let repeatable = request.head.is_idempotent() && request.body.is_end_stream();
                self.one(connect, endpoint, repeatable, fresh).await
            }
            Wire::Http2 => self.many(connect, endpoint, fresh).await,
        }
    }

    async fn one<C: Connect>(self: &Arc<Self>, connect: &C, endpoint: &Endpoint, repeatable: bool, fresh: bool) -> Result<Line, Error> {
        let permit = within(self.limits.busy_wait, Arc::clone(&self.busy).acquire_owned()).await?.map_err(|_| busy())?;
        if !fresh && let Some(sender) = self.kept(repeatable) {
            return Ok(Line::One { lease: Lease::new(Arc::clone(self), sender, permit), reused: true });
        }
        let io = self.dial(connect, endpoint).await?;
        let mut builder = http1::Builder::new();
        builder.max_headers(self.limits.header_count).max_header_size(self.limits.header_bytes).max_buf_size(self.limits.header_bytes.max(8192) + 8192);
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(refused)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to an upstream did not end in order");
            }
        });
        Ok(Line::One { lease: Lease::new(Arc::clone(self), sender, permit), reused: false })
    }

    /// The connection that was used last, if it is alive and young enough.
    fn kept(&self, repeatable: bool) -> Option<http1::SendRequest<Body>> {
        let age_max = if repeatable { self.limits.idle } else { self.limits.idle_for_unrepeatable };
        let mut idle = self.idle();
        while let Some(kept) = idle.pop() {
            if !kept.sender.is_ready() {
                continue;
            }
            if kept.since.elapsed() <= age_max {
                return Some(kept.sender);
            }
            // All that are below it are older still. It is good for others.
            idle.push(kept);
            break;
        }
        None
    }

    fn keep(&self, sender: http1::SendRequest<Body>) {
        let mut idle = self.idle();
        if idle.len() < self.limits.idle_per_endpoint {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    async fn many<C: Connect>(self: &Arc<Self>, connect: &C, endpoint: &Endpoint, fresh: bool) -> Result<Line, Error> {
        if !fresh && let Some(line) = self.least_loaded() {
            return Ok(line);
        }
        let _dialling = within(self.limits.busy_wait, self.dialling.lock()).await?;
        // Somebody may have dialled meanwhile.
        if !fresh && let Some(line) = self.least_loaded() {
            return Ok(line);
        }
        let open = {
            let mut shared = self.shared();
            shared.retain(|shared| !shared.sender.is_closed());
            shared.len()
        };
        if open >= self.limits.shared_per_endpoint {
            return Err(busy());
        }
        let io = self.dial(connect, endpoint).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_WAIT)
            .max_local_error_reset_streams(PROVOKED_RESETS_MAX)
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX));
        let (sender, connection) = within(self.limits.connect_wait, builder.handshake(TokioIo::new(io))).await?.map_err(refused)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to an upstream did not end in order");
            }
        });
        let new = Shared { sender, load: Arc::new(Load { streams: AtomicUsize::new(0), unused_since: Mutex::new(Instant::now()) }) };
        let line = new.line(self, false);
        self.shared().push(new);
        Ok(line)
    }

    fn least_loaded(self: &Arc<Self>) -> Option<Line> {
        let shared = self.shared();
        let alive = shared.iter().filter(|shared| !shared.sender.is_closed());
        let (streams, found) = alive.map(|shared| (shared.load.streams.load(Ordering::Relaxed), shared)).min_by_key(|(streams, _)| *streams)?;
        (streams < self.limits.streams).then(|| found.line(self, true))
    }

    async fn dial<C: Connect>(&self, connect: &C, endpoint: &Endpoint) -> Result<C::Io, Error> {
        match timeout(self.limits.connect_wait, connect.connect(endpoint)).await {
            Ok(Ok(io)) => Ok(io),
            Ok(Err(error)) => Err(Error::new(Side::Upstream, Fault::Connect, Retry::Safe).because(error)),
            Err(_) => Err(Error::new(Side::Upstream, Fault::ConnectTimeout, Retry::Safe)),
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Lets go of what has been unused for too long or is closed.
    pub(super) fn sweep(&self) {
        self.idle().retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() <= self.limits.idle);
        self.shared().retain(|shared| !shared.sender.is_closed() && shared.load.unused_for() <= self.limits.idle);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.idle().is_empty() && self.shared().is_empty()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn within<T>(wait: Duration, what: impl Future<Output = T>) -> Result<T, Error> {
    timeout(wait, what).await.map_err(|_| busy())
}

fn busy() -> Error {
    Error::new(Side::Internal, Fault::Busy, Retry::Safe)
}

fn refused(error: hyper::Error) -> Error {
    Error::new(Side::Upstream, Fault::Connect, Retry::Safe).because(error)
}

impl Shared {
    fn line(&self, shelf: &Arc<Shelf>, reused: bool) -> Line {
        shelf.in_flight.fetch_add(1, Ordering::Relaxed);
        self.load.streams.fetch_add(1, Ordering::Relaxed);
        Line::Many { sender: self.sender.clone(), _stream: Stream { shelf: Arc::clone(shelf), load: Arc::clone(&self.load) }, reused }
    }
}

impl Load {
    fn unused_for(&self) -> Duration {
        match self.streams.load(Ordering::Relaxed) {
            0 => self.unused_since.lock().unwrap_or_else(PoisonError::into_inner).elapsed(),
            _ => Duration::ZERO,
        }
    }
}

/// One stream of a shared connection.
#[derive(Debug)]
pub(crate) struct Stream {
    shelf: Arc<Shelf>,
    load: Arc<Load>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shelf.in_flight.fetch_sub(1, Ordering::Relaxed);
        *self.load.unused_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.load.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection of HTTP/1.1 in use. When it is dropped after a whole exchange, it goes back.
#[derive(Debug)]
pub(crate) struct Lease {
    shelf: Arc<Shelf>,
    sender: Option<http1::SendRequest<Body>>,
    _permit: OwnedSemaphorePermit,
    /// Nothing of this exchange can be left on the connection.
    pub(super) clean: bool,
}

impl Lease {
    fn new(shelf: Arc<Shelf>, sender: http1::SendRequest<Body>, permit: OwnedSemaphorePermit) -> Self {
        shelf.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { shelf, sender: Some(sender), _permit: permit, clean: false }
    }

    pub(super) fn sender(&mut self) -> &mut http1::SendRequest<Body> {
        self.sender.as_mut().expect("taken only when the lease is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shelf.in_flight.fetch_sub(1, Ordering::Relaxed);
        let Some(mut sender) = self.sender.take().filter(|sender| self.clean && !sender.is_closed()) else { return };
        if sender.is_ready() {
            self.shelf.keep(sender);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // The body has ended, and the connection learns of it in a moment; if it was cut, the connection closes instead.
            let shelf = Arc::clone(&self.shelf);
            runtime.spawn(async move {
                if sender.ready().await.is_ok() {
                    shelf.keep(sender);
                }
            });
        }
    }
}
