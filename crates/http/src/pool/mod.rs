//! Connections to upstreams: taken up, used, kept and let go.
//!
//! hyper-util's `client::pool` was looked at first: its layers neither bound what is in use, nor tell a connect that failed from a request that
//! failed, nor give an unsent request back. So hyper's own connections are kept here, and nothing more.
//!
//! A connection that the upstream closed while it was idle is no client's error: a request that was not sent goes over another connection, one that
//! was sent and can be repeated is repeated, and one that cannot is not sent over a connection that has been idle for long.

mod exchange;
mod shelf;
mod tap;

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use http::Response;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

pub(crate) use self::shelf::Line;
use self::{
    exchange::{Broken, exchange},
    shelf::Shelf,
};
use crate::{
    Wire,
    body::Body,
    error::{Error, Fault, Retry, Side},
    limits::{ATTEMPTS_MAX, PoolLimits, SWEEP_INTERVAL},
    request::Request,
};

/// One server of an application, and what it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// HTTP/2 by prior knowledge; a WebSocket goes over HTTP/1.1 all the same.
    pub wire: Wire,
}

/// How an endpoint is reached.
pub trait Connect: Send + Sync + 'static {
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    fn connect(&self, endpoint: &Endpoint) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

/// Plain TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Connect for Tcp {
    type Io = TcpStream;

    async fn connect(&self, endpoint: &Endpoint) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(endpoint.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Why there is no response, and the request again if it can still be sent.
#[derive(Debug)]
pub struct Failed {
    pub error: Error,
    /// Present if the request is whole: what [`Error::retry`] allows may then be done with another endpoint.
    pub request: Option<Box<Request>>,
}

/// All connections to upstreams. Dropping it closes those that are idle.
#[derive(Debug)]
pub struct Pool<C> {
    connect: C,
    limits: Arc<PoolLimits>,
    shelves: Mutex<HashMap<Endpoint, Arc<Shelf>>>,
}

impl<C: Connect> Pool<C> {
    /// Needs a runtime: what is idle for too long is let go in the background.
    pub fn new(connect: C, limits: PoolLimits) -> Arc<Self> {
        let pool = Arc::new(Self { connect, limits: Arc::new(limits), shelves: Mutex::default() });
        tokio::spawn(sweep(Arc::downgrade(&pool)));
        pool
    }

    /// Sends a request and gives the response back as soon as its head is there. A response of 101 has been taken care of: it is to be returned, and
    /// the relay runs.
    ///
    /// # Errors
    ///
    /// See [`Failed`]. The error of a client whose body broke off is the client's, not the upstream's.
    pub async fn send(&self, endpoint: &Endpoint, request: Request) -> Result<Response<Body>, Failed> {
        let endpoint = if request.upgrade.is_some() { Endpoint { wire: Wire::Http1, ..*endpoint } } else { *endpoint };
        let shelf = self.shelf(&endpoint);
        let mut request = Box::new(request);
        for attempt in 1..=ATTEMPTS_MAX {
            let line = match shelf.line(&self.connect, &endpoint, &request, attempt > 1).await {
                Ok(line) => line,
                Err(error) => return Err(Failed { error, request: Some(request) }),
            };
            let reused = line.is_reused();
            match exchange(line, request, &self.limits).await {
                Ok(response) => return Ok(response),
                Err(Broken { request: Some(again), error }) if reused && attempt < ATTEMPTS_MAX && is_staleness(&error) => {
                    tracing::debug!(endpoint = %endpoint.address, %error, "a connection that was kept is gone; another one is taken");
                    request = again;
                }
                Err(Broken { error, request }) => return Err(Failed { error, request }),
            }
        }
        Err(Failed { error: Error::new(Side::Internal, Fault::Internal, Retry::Never), request: None })
    }

    /// Requests that are being sent or answered: how loaded an endpoint is.
    pub fn in_flight(&self, endpoint: &Endpoint) -> usize {
        self.lock().get(endpoint).map_or(0, |shelf| shelf.in_flight())
    }

    /// Lets go of what is kept for endpoints that are no longer wanted. What is in use is used to its end.
    pub fn retain(&self, wanted: impl Fn(&Endpoint) -> bool) {
        self.lock().retain(|endpoint, _| wanted(endpoint));
    }

    fn shelf(&self, endpoint: &Endpoint) -> Arc<Shelf> {
        Arc::clone(self.lock().entry(*endpoint).or_insert_with(|| Shelf::new(Arc::clone(&self.limits))))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Endpoint, Arc<Shelf>>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error of a connection that was kept may only mean that it was kept too long. A request that comes back whole may be sent again then.
fn is_staleness(error: &Error) -> bool {
    error.retry() != Retry::Never && matches!(error.fault(), Fault::Closed | Fault::Reset)
}

/// Closes what nobody has used for long, and forgets endpoints of which nothing is left.
async fn sweep<C: Connect>(pool: Weak<Pool<C>>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.lock().retain(|_, shelf| {
            shelf.sweep();
            Arc::strong_count(shelf) > 1 || !shelf.is_empty()
        });
    }
}
