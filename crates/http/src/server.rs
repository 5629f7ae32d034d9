//! One accepted connection, from its first byte to its end.
//!
//! The protocol is said by the caller (ALPN has decided it), never guessed from bytes. hyper reads and writes; this module says what comes in, how
//! long anything may take, and how it ends. Deliberately absent: accepting, TLS, routes.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::timeout,
};

use crate::{
    Wire,
    body::{Body, Bounded},
    drain::Drain,
    error::{Error, Fault, Side},
    limits::{LINGER_MAX_BYTES, LINGER_WAIT, Limits, PENDING_RESETS_MAX, PING_INTERVAL, PING_WAIT, PROVOKED_RESETS_MAX, SEND_BUFFER_BYTES},
    refusal::Refusal,
    request::Request,
    streams::Streams,
    upgrade::Upgrade,
    vet::vet,
    vigil::Vigil,
    watch::{Pulse, Watch},
};

/// What answers the requests of one connection.
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request) -> impl Future<Output = Response<Body>> + Send;

    /// What is answered to a request that did not come in.
    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        plain(refusal.status(), refusal.sentence())
    }
}

/// A short answer in words.
pub fn plain(status: StatusCode, sentence: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(format!("{sentence}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Serves connections within the same limits, until the same end.
#[derive(Clone, Debug)]
pub struct Server {
    limits: Arc<Limits>,
    drain: Drain,
}

impl Server {
    pub fn new(limits: Limits, drain: Drain) -> Self {
        Self { limits: Arc::new(limits), drain }
    }

    /// Serves one connection to its end. An upgraded connection lives on after it, and a drain waits for that too.
    ///
    /// # Errors
    ///
    /// Says why the connection did not end in order; nobody needs to be told, but it is worth a line in a log.
    pub async fn serve<I>(&self, io: I, wire: Wire, handler: impl Handler) -> Result<(), Error>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let _place = self.drain.place();
        let pulse = Pulse::new();
        let io = TokioIo::new(Watch::new(io, Arc::clone(&pulse), wire == Wire::Http1));
        let service = Service(Arc::new(Connection {
            handler,
            limits: Arc::clone(&self.limits),
            drain: self.drain.clone(),
            pulse: Arc::clone(&pulse),
            wire,
            requests: AtomicU64::new(0),
        }));
        let goodbye = if wire == Wire::Http1 { LINGER_WAIT } else { PING_WAIT };
        let vigil = Vigil { pulse: &pulse, limits: &self.limits, goodbye, begun: self.drain.begun_token(), ended: self.drain.ended_token() };
        match wire {
            Wire::Http1 => {
                let mut connection = http1_builder(&self.limits).serve_connection(io, service).with_upgrades();
                let result = vigil.keep(Pin::new(&mut connection), |connection| connection.graceful_shutdown()).await;
                if let (false, Some(parts)) = (is_cut(&result), connection.into_parts()) {
                    linger(parts.io.into_inner(), &self.drain).await;
                }
                result
            }
            Wire::Http2 => {
                let streams = Streams::new();
                let connection = http2_builder(&self.limits, streams.clone()).serve_connection(io, service);
                tokio::pin!(connection);
                tokio::select! {
                    result = vigil.keep(connection, |connection| connection.graceful_shutdown()) => result,
                    never = streams.sweep(self.limits.stream_wait) => match never {},
                }
            }
        }
    }
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // One time for idle and slow heads would be wrong for one of them: the vigil keeps both.
        .header_read_timeout(None)
        .max_headers(limits.header_count)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(8192) + 8192);
    builder
}

fn http2_builder(limits: &Limits, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    // RFC 9113 section 6.5.2 counts 32 bytes more for each field.
    let list_bytes = limits.header_bytes + limits.header_count * 32;
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(list_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(PROVOKED_RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_WAIT)
        .enable_connect_protocol();
    builder
}

fn is_cut(result: &Result<(), Error>) -> bool {
    matches!(result, Err(error) if matches!(error.fault(), Fault::Timeout | Fault::Ended))
}

/// Whoever closes with bytes unread resets the connection, and the reset may overtake the answer. So what the client still sends is read away for
/// a moment (RFC 9112 section 9.6).
async fn linger(mut io: impl AsyncRead + Unpin, drain: &Drain) {
    let away = async {
        let mut buffer = [0; 4096];
        let mut left = LINGER_MAX_BYTES;
        while let Ok(read @ 1..) = io.read(&mut buffer).await {
            left = left.saturating_sub(read);
            if left == 0 {
                break;
            }
        }
    };
    tokio::select! {
        _ = timeout(LINGER_WAIT, away) => {}
        () = drain.ended() => {}
    }
}

struct Connection<H> {
    handler: H,
    limits: Arc<Limits>,
    drain: Drain,
    pulse: Arc<Pulse>,
    wire: Wire,
    requests: AtomicU64,
}

struct Service<H>(Arc<Connection<H>>);

impl<H: Handler> hyper::service::Service<http::Request<Incoming>> for Service<H> {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, io::Error>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::clone(&self.0);
        Box::pin(async move { Ok(connection.answer(number, request).await) })
    }
}

impl<H: Handler> Connection<H> {
    async fn answer(&self, number: u64, request: http::Request<Incoming>) -> Response<Body> {
        let mut active = self.pulse.begin();
        let response = match self.admit(number, request) {
            Ok((request, answered)) => {
                let response = self.handler.handle(request).await;
                if let Some(answered) = answered {
                    answered.store(true, Ordering::Relaxed);
                }
                response
            }
            Err(refusal) => {
                let mut response = self.handler.refuse(refusal);
                if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                    // RFC 9110 section 15.5.6. What an application takes of these is its own affair.
                    response.headers_mut().entry(header::ALLOW).or_insert(HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
                }
                if self.wire == Wire::Http1 && refusal.ends_connection() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        };
        active.answered();
        response.map(|body| body.answering(active))
    }

    /// What comes in, and the flag that tells its body that an answer has begun.
    fn admit(&self, number: u64, mut request: http::Request<Incoming>) -> Result<(Request, Option<Arc<AtomicBool>>), Refusal> {
        if let Some(refusal) = self.pulse.flaw(number) {
            return Err(refusal);
        }
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, incoming) = request.into_parts();
        let head = vet(head, &self.limits)?;
        let upgrade = head.websocket.then(|| Upgrade::new(upgrade, Arc::clone(&self.pulse), self.drain.clone()));
        if incoming.is_end_stream() {
            return Ok((Request { head, body: Body::empty(), upgrade }, None));
        }
        let answered = Arc::new(AtomicBool::new(false));
        let pace = if head.is_grpc() { self.limits.stream_pace } else { self.limits.body_pace };
        let bounded = Bounded::new(incoming, Side::Downstream, self.limits.body_bytes, pace).then(Arc::clone(&answered), self.limits.stream_pace);
        Ok((Request { head, body: Body::stream(bounded), upgrade }, Some(answered)))
    }
}
