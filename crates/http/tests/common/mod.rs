//! A real server of this crate that passes everything on, a raw backend that writes down what it received, and raw clients.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Response;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use weft_http::{Body, Drain, Endpoint, Failed, Handler, Limits, Pool, PoolLimits, Request, Server, Tcp, Wire, plain};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Passes every request on to one endpoint.
#[derive(Clone)]
pub struct Forward {
    pub pool: Arc<Pool<Tcp>>,
    pub endpoint: Endpoint,
    /// Ends WebSockets as a revocation does.
    pub revoked: CancellationToken,
    /// What failed, in the words of the error.
    pub failures: Arc<Mutex<Vec<String>>>,
}

impl Handler for Forward {
    async fn handle(&self, mut request: Request) -> Response<Body> {
        if let Some(upgrade) = &mut request.upgrade {
            upgrade.revoked = self.revoked.clone();
        }
        match self.pool.send(&self.endpoint, request).await {
            Ok(response) => response,
            Err(Failed { error, .. }) => {
                self.failures.lock().unwrap().push(format!("{:?} {:?} {:?}", error.side(), error.fault(), error.retry()));
                plain(error.status(), &error.to_string())
            }
        }
    }
}

pub struct Gateway {
    pub address: SocketAddr,
    pub drain: Drain,
    pub forward: Forward,
}

impl Gateway {
    pub async fn start(backend: Endpoint) -> Self {
        Self::with(backend, Wire::Http1, Limits::default(), PoolLimits::default()).await
    }

    pub async fn with(endpoint: Endpoint, wire: Wire, limits: Limits, pool: PoolLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = Drain::new();
        let server = Server::new(limits, drain.clone());
        let forward = Forward { pool: Pool::new(Tcp, pool), endpoint, revoked: CancellationToken::new(), failures: Arc::default() };
        let handler = forward.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (server, handler) = (server.clone(), handler.clone());
                tokio::spawn(async move {
                    let _ = server.serve(stream, wire, handler).await;
                });
            }
        });
        Self { address, drain, forward }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }
}

/// What a backend received over one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Whole requests, byte for byte.
    pub requests: Vec<String>,
    /// What came after the last whole one.
    pub rest: String,
}

/// Answers each whole request it reads with fixed bytes, and writes everything down.
pub struct Backend {
    pub endpoint: Endpoint,
    log: Arc<Mutex<Vec<Received>>>,
}

impl Backend {
    /// Answers 200 and stays.
    pub async fn start() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false).await
    }

    pub async fn answering(answer: &'static str, closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { address: listener.local_addr().unwrap(), wire: Wire::Http1 };
        let log: Arc<Mutex<Vec<Received>>> = Arc::default();
        let book = Arc::clone(&log);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = {
                    let mut book = book.lock().unwrap();
                    book.push(Received::default());
                    book.len() - 1
                };
                tokio::spawn(serve_raw(stream, answer, closes, Arc::clone(&book), number));
            }
        });
        Self { endpoint, log }
    }

    /// Per connection, in the order in which they came.
    pub fn received(&self) -> Vec<Received> {
        self.log.lock().unwrap().clone()
    }

    pub fn requests(&self) -> Vec<String> {
        self.received().into_iter().flat_map(|received| received.requests).collect()
    }
}

async fn serve_raw(mut stream: TcpStream, answer: &str, closes: bool, book: Arc<Mutex<Vec<Received>>>, number: usize) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        bytes.extend_from_slice(&buffer[..read]);
        while let Some(length) = whole_request(&bytes) {
            let request: Vec<u8> = bytes.drain(..length).collect();
            book.lock().unwrap()[number].requests.push(String::from_utf8_lossy(&request).into_owned());
            if stream.write_all(answer.as_bytes()).await.is_err() || closes {
                return;
            }
        }
        book.lock().unwrap()[number].rest = String::from_utf8_lossy(&bytes).into_owned();
    }
}

/// The length of the first message, if all of it is there.
fn whole_request(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()));
    if field("transfer-encoding:").is_some() {
        let mut at = head;
        loop {
            let line = at + find(&bytes[at..], b"\r\n")?;
            let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..line]).ok()?, 16).ok()?;
            at = line + 2;
            if size == 0 {
                let end = if bytes[at..].starts_with(b"\r\n") { 2 } else { find(&bytes[at..], b"\r\n\r\n")? + 4 };
                return (bytes.len() >= at + end).then_some(at + end);
            }
            at += size + 2;
            if bytes.len() < at {
                return None;
            }
        }
    }
    let length = field("content-length:").map_or(0, |value| value.parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A client that sends bytes as they are.
pub struct Client {
    pub stream: TcpStream,
    bytes: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, bytes: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that has refused already may have closed: what it answered is still to be read.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// More bytes; `false` at the end.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("an answer or an end") {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.bytes.extend_from_slice(&buffer[..read]);
                true
            }
        }
    }

    /// The next response, or `None` if the connection ends before a whole one.
    pub async fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET").await
    }

    pub async fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let head = loop {
            match find(&self.bytes, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if !self.more().await => return None,
                None => {}
            }
        };
        let text = String::from_utf8(self.bytes.drain(..head).collect()).unwrap();
        let status: u16 = text.split(' ').nth(1).unwrap().parse().unwrap();
        let bodyless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        let lower = text.to_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length:").map(|value| value.trim().parse::<usize>().unwrap()));
        let mut body = Vec::new();
        if bodyless {
        } else if lower.contains("transfer-encoding: chunked") {
            loop {
                if let Some(end) = find(&self.bytes, b"0\r\n\r\n") {
                    body.extend(self.bytes.drain(..end + 5));
                    break;
                }
                if !self.more().await {
                    return None;
                }
            }
        } else {
            while self.bytes.len() < length.unwrap_or(usize::MAX) {
                if !self.more().await {
                    if length.is_some() {
                        return None;
                    }
                    break;
                }
            }
            body.extend(self.bytes.drain(..length.unwrap_or(self.bytes.len())));
        }
        Some(Answer { status, head: text, body: String::from_utf8(body).unwrap() })
    }

    /// Reads until what was read contains this, and gives it all.
    pub async fn until(&mut self, what: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = find(&self.bytes, what) {
                return self.bytes.drain(..at + what.len()).collect();
            }
            assert!(self.more().await, "the connection ended after {:?}, before {:?}", String::from_utf8_lossy(&self.bytes), String::from_utf8_lossy(what));
        }
    }

    /// Everything up to the end of the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.bytes)
    }

    /// Whether the server has closed; waits for it.
    pub async fn is_closed(&mut self) -> bool {
        self.rest().await.is_empty()
    }

    /// Nothing more has come, and the connection is open.
    pub async fn is_quiet(&mut self) -> bool {
        let mut buffer = [0; 1];
        self.bytes.is_empty() && timeout(Duration::from_millis(150), self.stream.read(&mut buffer)).await.is_err()
    }
}

/// Waits until it is so.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < until, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
