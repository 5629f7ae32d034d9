//! HTTP/2 as raw frames against a real server, and what passes through in both versions: gRPC's trailers, WebSockets, resets, drain.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Backend, Gateway, PATIENCE, eventually, find};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use weft_http::{Drained, Endpoint, Limits, PoolLimits, Wire};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A client that sends frames as they are.
struct Raw {
    stream: TcpStream,
    bytes: Vec<u8>,
    next_stream: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Literal fields without Huffman and without the table (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            let length = text.len();
            if length < 127 {
                out.push(length as u8);
            } else {
                out.push(127);
                let mut rest = length - 127;
                while rest >= 128 {
                    out.push((rest % 128 + 128) as u8);
                    rest /= 128;
                }
                out.push(rest as u8);
            }
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

impl Raw {
    async fn connect(gateway: &Gateway) -> Self {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        Self { stream, bytes: Vec::new(), next_stream: 1 }
    }

    async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// A request without body; says its stream.
    async fn request(&mut self, fields: &[(&str, &str)]) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))).await;
        stream
    }

    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let Some(head) = self.bytes.get(..9) {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if self.bytes.len() >= 9 + length {
                    let frame: Vec<u8> = self.bytes.drain(..9 + length).collect();
                    return Some((frame[3], frame[4], u32::from_be_bytes([frame[5] & 0x7f, frame[6], frame[7], frame[8]]), frame[9..].to_vec()));
                }
            }
            let mut buffer = [0; 4096];
            match timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("a frame or an end") {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.bytes.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// What becomes of a stream.
    async fn outcome(&mut self, wanted: u32) -> Outcome {
        let number = |payload: &[u8], at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        while let Some((kind, flags, stream, payload)) = self.frame().await {
            match kind {
                SETTINGS if flags == 0 => self.send(&frame(SETTINGS, 1, 0, &[])).await,
                HEADERS if stream == wanted => return Outcome::Status(status(&payload)),
                RST_STREAM if stream == wanted => return Outcome::Reset(number(&payload, 0)),
                GOAWAY if number(&payload, 4) != 0 => return Outcome::GoAway(number(&payload, 4)),
                _ => {}
            }
        }
        Outcome::Closed
    }
}

/// `:status` comes first: from the static table, or as a literal with Huffman digits (five or six bits each).
fn status(block: &[u8]) -> u16 {
    match block[0] {
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        _ => {
            let length = usize::from(block[1] & 0x7f);
            let mut bits = block[2..2 + length].iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte)) << (64 - 8 * length);
            (0..3).fold(0, |status, _| {
                // RFC 7541 appendix B: '0', '1', '2' are 00000 to 00010; '3' to '9' are 011001 to 011111.
                let five = bits >> 59;
                let (digit, taken) = if five < 3 { (five, 5) } else { ((bits >> 58) - 0b01_1001 + 3, 6) };
                bits <<= taken;
                status * 10 + digit as u16
            })
        }
    }
}

async fn gateway(endpoint: Endpoint, limits: Limits) -> Gateway {
    Gateway::with(endpoint, Wire::Http2, limits, PoolLimits::default()).await
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "shop.example"), (":path", "/x")];

/// Name, fields, what becomes of the stream, and what the backend sees.
type Vector<'a> = (&'a str, Vec<(&'a str, &'a str)>, Outcome, &'a [&'a str]);

const BARE: &str = "GET /x HTTP/1.1\r\nhost: shop.example\r\n\r\n";

#[tokio::test]
async fn what_http2_must_not_say_does_not_come_through() {
    let with = |fields: &[(&'static str, &'static str)]| [&GET, fields].concat();
    let instead = |name: &str, value: &'static str| GET.map(|(found, before)| (found, if found == name { value } else { before })).to_vec();
    let without = |name: &str| GET.into_iter().filter(|(found, _)| *found != name).collect::<Vec<_>>();
    let malformed = Outcome::Reset(1);
    let vectors: Vec<Vector<'_>> = vec![
        ("control", GET.to_vec(), Outcome::Status(200), &[BARE]),
        // What h2 lets through.
        ("host against authority", with(&[("host", "evil.example")]), Outcome::Status(400), &[]),
        ("two hosts", [without(":authority"), vec![("host", "shop.example"), ("host", "evil.example")]].concat(), Outcome::Status(400), &[]),
        ("control: the same host", with(&[("host", "SHOP.example")]), Outcome::Status(200), &[BARE]),
        ("control: host alone", [without(":authority"), vec![("host", "shop.example")]].concat(), Outcome::Status(200), &[BARE]),
        ("no host at all", without(":authority"), Outcome::Status(400), &[]),
        ("authority with user", instead(":authority", "admin@shop.example"), Outcome::Status(400), &[]),
        ("underscore", with(&[("weft_assertion", "x")]), Outcome::Status(400), &[]),
        ("length twice", with(&[("content-length", "0"), ("content-length", "0")]), Outcome::Status(400), &[]),
        ("white space before a value", with(&[("x-a", " chunked")]), Outcome::Status(400), &[]),
        ("white space behind a value", with(&[("x-a", "chunked ")]), Outcome::Status(400), &[]),
        ("TRACE", instead(":method", "TRACE"), Outcome::Status(405), &[]),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "shop.example:80")], Outcome::Status(405), &[]),
        ("CONNECT for another protocol", [instead(":method", "CONNECT"), vec![(":protocol", "connect-udp")]].concat(), Outcome::Status(501), &[]),
        ("asterisk", instead(":path", "*"), Outcome::Status(400), &[]),
        ("encoded slash", instead(":path", "/a%2f..%2fx"), Outcome::Status(400), &[]),
        ("dot segments", instead(":path", "/a/%2e%2e//x"), Outcome::Status(200), &[BARE]),
        ("an expectation", with(&[("expect", "42")]), Outcome::Status(417), &[]),
        (
            "cookies in parts",
            with(&[("cookie", "a=1"), ("cookie", "b=2")]),
            Outcome::Status(200),
            &["GET /x HTTP/1.1\r\ncookie: a=1; b=2\r\nhost: shop.example\r\n\r\n"],
        ),
        ("a length without a body", with(&[("content-length", "5")]), malformed.clone(), &[]),
        // What h2 refuses by itself, so that a newer one that does not is noticed.
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), malformed.clone(), &[]),
        ("connection", with(&[("connection", "close")]), malformed.clone(), &[]),
        ("upgrade", with(&[("upgrade", "websocket")]), malformed.clone(), &[]),
        ("te of another kind", with(&[("te", "gzip")]), malformed.clone(), &[]),
        ("a pseudo-header twice", with(&[(":path", "/y")]), malformed.clone(), &[]),
        ("a pseudo-header behind others", [vec![("x", "y")], GET.to_vec()].concat(), malformed.clone(), &[]),
        ("a pseudo-header of responses", with(&[(":status", "200")]), malformed.clone(), &[]),
        ("no path", without(":path"), malformed.clone(), &[]),
        ("empty path", instead(":path", ""), malformed.clone(), &[]),
        ("no method", without(":method"), malformed.clone(), &[]),
        ("no scheme", without(":scheme"), malformed.clone(), &[]),
        ("a line end in a path", instead(":path", "/x HTTP/1.1\r\nHost: evil"), malformed.clone(), &[]),
        ("a space in a method", instead(":method", "GET /y HTTP/1.1"), Outcome::GoAway(1), &[]),
        ("a line end in a value", with(&[("x-a", "y\r\nTransfer-Encoding: chunked")]), Outcome::GoAway(1), &[]),
        ("a capital in a name", with(&[("X-Big", "y")]), Outcome::GoAway(1), &[]),
        ("a colon in a name", with(&[("x:y", "y")]), Outcome::GoAway(1), &[]),
    ];
    let mut failures = Vec::new();
    for (name, fields, expect, behind) in vectors {
        let backend = Backend::start().await;
        let gateway = gateway(backend.endpoint, Limits::default()).await;
        let mut raw = Raw::connect(&gateway).await;
        let stream = raw.request(&fields).await;
        let found = (raw.outcome(stream).await, backend.requests());
        if found != (expect.clone(), behind.iter().map(|request| (*request).to_owned()).collect()) {
            failures.push(format!("{name}\n   expected {expect:?}, {behind:?}\n   found    {found:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn a_refusal_ends_its_stream_and_no_other() {
    let backend = Backend::start().await;
    let gateway = gateway(backend.endpoint, Limits::default()).await;
    let mut raw = Raw::connect(&gateway).await;
    let bad = raw.request(&[&GET[..], &[("host", "evil.example")]].concat()).await;
    assert_eq!(raw.outcome(bad).await, Outcome::Status(400));
    let good = raw.request(&GET).await;
    assert_eq!(raw.outcome(good).await, Outcome::Status(200));
}

#[tokio::test]
async fn headers_are_bounded() {
    let backend = Backend::start().await;
    let gateway = gateway(backend.endpoint, Limits::default()).await;
    let long = "y".repeat(12_000);
    let mut raw = Raw::connect(&gateway).await;
    // More than one frame may carry: the rest follows in continuations.
    let fields = block(&[&GET[..], &[("x-a", &long), ("x-b", &long), ("x-c", &long), ("x-d", &long)]].concat());
    let (first, rest) = fields.split_at(16_000);
    let parts: Vec<&[u8]> = rest.chunks(16_000).collect();
    raw.send(&frame(HEADERS, END_STREAM, 1, first)).await;
    for (i, part) in parts.iter().enumerate() {
        raw.send(&frame(CONTINUATION, if i + 1 == parts.len() { END_HEADERS } else { 0 }, 1, part)).await;
    }
    assert_eq!(raw.outcome(1).await, Outcome::Status(431));
    let many: Vec<(String, String)> = (0..101).map(|i| (format!("x-{i}"), "y".to_owned())).collect();
    let many: Vec<(&str, &str)> = GET.into_iter().chain(many.iter().map(|(name, value)| (name.as_str(), value.as_str()))).collect();
    let mut raw = Raw::connect(&gateway).await;
    let stream = raw.request(&many).await;
    assert_eq!(raw.outcome(stream).await, Outcome::Status(431));
    assert_eq!(backend.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn who_takes_requests_back_all_the_time_is_cut() {
    // The backend never answers: each request is under way when it is taken back.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { address: silent.local_addr().unwrap(), wire: Wire::Http1 };
    let gateway = gateway(endpoint, Limits { resets: 30, ..Limits::default() }).await;
    let mut raw = Raw::connect(&gateway).await;
    for _ in 0..60 {
        let stream = raw.request(&GET).await;
        // Not before it was taken up: h2 has its own bound for those that were not.
        tokio::time::sleep(Duration::from_millis(10)).await;
        raw.send(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).await;
    }
    while raw.frame().await.is_some() {}
    eventually("the connection is gone", || gateway.drain.open() == 0).await;
    // The control: as many requests that are answered.
    let backend = Backend::start().await;
    let gateway = self::gateway(backend.endpoint, Limits::default()).await;
    let mut raw = Raw::connect(&gateway).await;
    for _ in 0..60 {
        let stream = raw.request(&GET).await;
        assert_eq!(raw.outcome(stream).await, Outcome::Status(200));
    }
}

#[tokio::test]
async fn a_stream_whose_window_stays_shut_is_reset_and_one_that_waits_for_the_upstream_is_not() {
    let big: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", 4 << 20, "x".repeat(4 << 20)).into_boxed_str());
    let backend = Backend::answering(big, false).await;
    let limits = Limits { stream_wait: Duration::from_millis(500), ..Limits::default() };
    let shut = gateway(backend.endpoint, limits.clone()).await;
    let mut raw = Raw::connect(&shut).await;
    // No window is ever opened beyond the 65535 bytes that each stream has.
    let stream = raw.request(&GET).await;
    assert_eq!(raw.outcome(stream).await, Outcome::Status(200));
    assert_eq!(raw.outcome(stream).await, Outcome::Reset(8));
    eventually("the upstream's connection is free", || shut.forward.pool.in_flight(&backend.endpoint) == 0).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { address: listener.local_addr().unwrap(), wire: Wire::Http1 };
    let quiet = gateway(endpoint, limits).await;
    let mut raw = Raw::connect(&quiet).await;
    let stream = raw.request(&GET).await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na").await.unwrap();
    assert_eq!(raw.outcome(stream).await, Outcome::Status(200));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    upstream.write_all(b"b").await.unwrap();
    loop {
        let (kind, flags, _, _) = raw.frame().await.expect("no end before the last frame");
        assert_ne!(kind, RST_STREAM);
        if kind == 0 && flags & END_STREAM != 0 {
            break;
        }
    }
}

/// A server that answers gRPC-like: echoes each piece as it comes, then trailers.
async fn echo() -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let te = request.headers().get("te").cloned();
                let (send, receive) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(4);
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(frame)) = body.frame().await {
                        if let Ok(data) = frame.into_data() {
                            let _ = send.send(Ok(Frame::data(data))).await;
                        }
                    }
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    trailers.insert("host", HeaderValue::from_static("evil"));
                    let _ = send.send(Ok(Frame::trailers(trailers))).await;
                });
                let body: BoxBody<Bytes, std::io::Error> = BodyExt::boxed(StreamBody::new(tokio_stream(receive)));
                let mut response = Response::new(body);
                response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
                if let Some(te) = te {
                    response.headers_mut().insert("x-te", te);
                }
                Ok::<_, std::convert::Infallible>(response)
            });
            tokio::spawn(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
        }
    });
    Endpoint { address, wire: Wire::Http2 }
}

fn tokio_stream<T: Send + 'static>(mut receive: mpsc::Receiver<T>) -> impl futures::Stream<Item = T> + Send + 'static {
    futures::stream::poll_fn(move |cx| receive.poll_recv(cx))
}

#[tokio::test]
async fn grpc_streams_both_ways_and_ends_with_trailers() {
    let gateway = gateway(echo().await, Limits::default()).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (send, receive) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(4);
    let body: BoxBody<Bytes, std::io::Error> = BodyExt::boxed(StreamBody::new(tokio_stream(receive)));
    let request =
        Request::post("http://shop.example/pkg.Service/Method").header("te", "trailers").header("content-type", "application/grpc").body(body).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers().get("x-te").unwrap(), "trailers");
    let mut body = response.into_body();
    for piece in ["one", "two", "three"] {
        send.send(Ok(Frame::data(Bytes::from(piece)))).await.unwrap();
        let frame = timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(send);
    let trailers = timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    assert!(!trailers.contains_key("host"));
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_client_that_breaks_off_is_not_the_upstreams_fault() {
    // It answers when it has read all, and it never has.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { address: listener.local_addr().unwrap(), wire: Wire::Http2 };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let whole = request.into_body().collect().await;
                whole.map(|_| Response::new(http_body_util::Empty::<Bytes>::new()))
            });
            tokio::spawn(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
        }
    });
    let gateway = Gateway::start(endpoint).await;
    for (end, status) in [("0\r\n\r\n", 200), ("oops\r\n", 400)] {
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n").await;
        eventually("it is on its way", || gateway.forward.pool.in_flight(&endpoint) == 1).await;
        client.send(end).await;
        assert_eq!(client.answer().await.unwrap().status, status, "{end:?}");
        eventually("it is over", || gateway.forward.pool.in_flight(&endpoint) == 0).await;
    }
    assert_eq!(*gateway.forward.failures.lock().unwrap(), ["Downstream Malformed Never"]);
}

#[tokio::test]
async fn an_upstream_that_says_goodbye_after_each_answer_fails_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { address: listener.local_addr().unwrap(), wire: Wire::Http2 };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let answered = std::sync::Arc::new(tokio::sync::Notify::new());
                let tell = std::sync::Arc::clone(&answered);
                let service = hyper::service::service_fn(move |_: Request<Incoming>| {
                    tell.notify_one();
                    async { Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Full::new(Bytes::from("ok")))) }
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
                tokio::pin!(connection);
                tokio::select! {
                    _ = &mut connection => return,
                    () = answered.notified() => connection.as_mut().graceful_shutdown(),
                }
                let _ = connection.await;
            });
        }
    });
    let gateway = Gateway::start(endpoint).await;
    let mut client = gateway.connect().await;
    for _ in 0..50 {
        client.send("GET /x HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        assert_eq!(client.answer().await.unwrap().body, "ok");
    }
    assert_eq!(*gateway.forward.failures.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn many_streams_share_a_connection_upstream() {
    let endpoint = echo().await;
    let pool = PoolLimits { streams: 4, shared_per_endpoint: 2, ..PoolLimits::default() };
    let gateway = Gateway::with(endpoint, Wire::Http2, Limits::default(), pool).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut open = Vec::new();
    for i in 0..9 {
        let (send, receive) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
        let body: BoxBody<Bytes, std::io::Error> = BodyExt::boxed(StreamBody::new(tokio_stream(receive)));
        let response = sender.send_request(Request::post("http://shop.example/x").body(body).unwrap()).await.unwrap();
        // Two connections of four streams each are all there may be.
        assert_eq!(response.status(), if i < 8 { 200 } else { 503 }, "{i}");
        open.push((send, response));
    }
    open.clear();
    eventually("all streams have ended", || gateway.forward.pool.in_flight(&endpoint) == 0).await;
}

#[tokio::test]
async fn a_websocket_comes_over_http2_and_goes_on_over_http1() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { address: listener.local_addr().unwrap(), wire: Wire::Http1 };
    let gateway = gateway(endpoint, Limits::default()).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
    let ready = client.ready();
    let mut client = tokio::select! { client = ready => client.unwrap(), _ = &mut connection => panic!("closed") };
    // The server has to say first that it takes extended CONNECT.
    let extended = std::future::poll_fn(|cx| {
        let _ = std::pin::Pin::new(&mut connection).poll(cx);
        if client.is_extended_connect_protocol_enabled() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    timeout(PATIENCE, extended).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method("CONNECT").uri("https://shop.example/ws").header("sec-websocket-version", "13").body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (response, mut send) = client.send_request(request, false).unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while find(&heard, b"\r\n\r\n").is_none() {
        let read = timeout(PATIENCE, upstream.read(&mut buffer)).await.unwrap().unwrap();
        heard.extend_from_slice(&buffer[..read]);
    }
    let heard = String::from_utf8(heard).unwrap();
    assert!(heard.starts_with("GET /ws HTTP/1.1\r\n") && heard.contains("upgrade: websocket") && heard.contains("sec-websocket-key: "), "{heard}");
    upstream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n\x81\x05hello")
        .await
        .unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let mut body = response.into_body();
    assert_eq!(timeout(PATIENCE, body.data()).await.unwrap().unwrap().unwrap(), &b"\x81\x05hello"[..]);
    send.send_data(Bytes::from("up"), false).unwrap();
    assert_eq!(timeout(PATIENCE, upstream.read(&mut buffer)).await.unwrap().unwrap(), 2);
    gateway.forward.revoked.cancel();
    assert_eq!(timeout(PATIENCE, body.data()).await.unwrap().unwrap().unwrap(), &[0x88, 2, 0x03, 0xf0][..]);
}

#[tokio::test]
async fn a_drain_lets_streams_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { address: listener.local_addr().unwrap(), wire: Wire::Http1 };
    let gateway = gateway(endpoint, Limits::default()).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://shop.example/x").body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let response = tokio::spawn(async move { sender.send_request(request).await });
    let (mut upstream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let drain = gateway.drain.clone();
    let drained = tokio::spawn(async move { drain.drain(PATIENCE).await });
    eventually("the drain has begun", || gateway.drain.has_begun()).await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await.unwrap();
    let body = response.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "last");
    assert_eq!(drained.await.unwrap(), Drained::InOrder);
    connection.await.unwrap().unwrap();
}
