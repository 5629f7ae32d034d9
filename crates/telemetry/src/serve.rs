//! `/metrics`, `/healthz` and `/readyz` over plain HTTP/1.1. It reads nothing but the request line: a body is refused by being ignored.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{encoding::text::encode, registry::Registry};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tracing::debug;

use crate::limits;

/// What the listener asks its program, each time anew.
pub struct Probes {
    /// The metrics as OpenMetrics text; [`render`] makes it from a registry.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// `Err` says in one line what is not ready yet.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// The listener; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

#[derive(Debug, Error)]
#[error("cannot listen on {addr} for metrics: {hint}")]
pub struct ServeError {
    pub addr: SocketAddr,
    hint: &'static str,
    pub source: io::Error,
}

/// Serves the probes on `addr`; port 0 lets the kernel choose, and [`Server::addr`] tells.
pub async fn serve_http(addr: SocketAddr, probes: Probes) -> Result<Server, ServeError> {
    let fail = |source: io::Error| ServeError { addr, hint: hint(&source), source };
    let listener = TcpListener::bind(addr).await.map_err(fail)?;
    let addr = listener.local_addr().map_err(fail)?;
    let task = tokio::spawn(accept(listener, Arc::new(probes)));
    Ok(Server { addr, task })
}

/// A registry as OpenMetrics text.
pub fn render(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail; a metric that refuses to encode itself would only be missing.
    let _ = encode(&mut text, registry);
    text
}

impl Server {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, probes: Arc<Probes>) {
    let slots = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "metrics listener cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let probes = probes.clone();
        tokio::spawn(async move {
            serve(stream, probes).await;
            drop(slot);
        });
    }
}

async fn serve(stream: TcpStream, probes: Arc<Probes>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let probes = probes.clone();
        async move { Ok::<_, Infallible>(answer(request.method(), request.uri().path(), &probes)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIMEOUT)
        .max_headers(limits::HEADERS_MAX)
        .max_buf_size(limits::HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(limits::CONNECTION_TIMEOUT, connection).await {
        debug!(%error, "metrics connection failed");
    }
}

fn answer(method: &Method, path: &str, probes: &Probes) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    if method != Method::GET && method != Method::HEAD {
        return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are served\n".into());
    }
    match path {
        "/metrics" => respond(StatusCode::OK, OPEN_METRICS, (probes.metrics)()),
        "/healthz" => respond(StatusCode::OK, TEXT, "ok\n".into()),
        "/readyz" => match (probes.ready)() {
            Ok(()) => respond(StatusCode::OK, TEXT, "ready\n".into()),
            Err(why) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        },
        _ => respond(StatusCode::NOT_FOUND, TEXT, "here are /metrics, /healthz and /readyz\n".into()),
    }
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program holds the port; choose one with metrics.listen",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        io::ErrorKind::PermissionDenied => "the port needs more rights",
        _ => "the kernel refused",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn get(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        all
    }

    async fn check(server: &Server, path: &str, status: &str, body: &str) {
        let answer = get(server.addr(), &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(answer.contains(body), "{path}: {answer}");
    }

    #[tokio::test]
    async fn metrics_health_and_readiness_are_served() {
        let ready = Arc::new(AtomicBool::new(false));
        let mut registry = Registry::default();
        let hits = Counter::<u64>::default();
        registry.register("hits", "Hits", hits.clone());
        hits.inc();
        let seen = ready.clone();
        let probes = Probes {
            metrics: Box::new(move || render(&registry)),
            ready: Box::new(move || if seen.load(Ordering::Relaxed) { Ok(()) } else { Err("no snapshot yet".into()) }),
        };
        let server = serve_http("127.0.0.1:0".parse().unwrap(), probes).await.unwrap();
        check(&server, "/metrics", "200", "hits_total 1").await;
        check(&server, "/healthz", "200", "ok").await;
        check(&server, "/readyz", "503", "no snapshot yet").await;
        ready.store(true, Ordering::Relaxed);
        check(&server, "/readyz", "200", "ready").await;
        check(&server, "/other", "404", "here are").await;
        let answer = get(server.addr(), "POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    }

    #[tokio::test]
    async fn a_head_beyond_its_bound_is_refused() {
        let probes = Probes { metrics: Box::new(String::new), ready: Box::new(|| Ok(())) };
        let server = serve_http("127.0.0.1:0".parse().unwrap(), probes).await.unwrap();
        let many = "x: y\r\n".repeat(limits::HEADERS_MAX + 1);
        let answer = get(server.addr(), &format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn a_held_port_is_named() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let probes = Probes { metrics: Box::new(String::new), ready: Box::new(|| Ok(())) };
        let error = serve_http(held.local_addr().unwrap(), probes).await.unwrap_err();
        assert!(error.to_string().contains("another program holds the port"), "{error}");
    }
}
