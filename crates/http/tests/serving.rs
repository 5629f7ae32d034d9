//! One connection of HTTP/1.1 from its first byte to its end: times, sizes, streams, WebSockets, drain.

mod common;

use std::time::Duration;

use common::{Backend, Client, Gateway, PATIENCE, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use weft_http::{Drained, Endpoint, Limits, Pace, PoolLimits, Wire};

const GET: &str = "GET /x HTTP/1.1\r\nHost: shop.example\r\n\r\n";
const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A backend that is played by the test, one connection at a time.
struct Stage {
    listener: TcpListener,
    endpoint: Endpoint,
}

impl Stage {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { address: listener.local_addr().unwrap(), wire: Wire::Http1 };
        Self { listener, endpoint }
    }

    async fn accept(&self) -> TcpStream {
        timeout(PATIENCE, self.listener.accept()).await.expect("a connection").unwrap().0
    }
}

/// Reads until what was read contains this.
async fn until(stream: &mut TcpStream, what: &str) -> String {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while common::find(&heard, what.as_bytes()).is_none() {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await.expect("bytes in time").unwrap();
        assert!(read > 0, "ended after {:?}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(heard).unwrap()
}

fn short(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

async fn gateway(endpoint: Endpoint, limits: Limits) -> Gateway {
    Gateway::with(endpoint, Wire::Http1, limits, PoolLimits::default()).await
}

#[tokio::test]
async fn a_head_that_drips_is_cut_and_one_that_flows_is_not() {
    let backend = Backend::start().await;
    let gateway = gateway(backend.endpoint, short(|limits| limits.header_wait = Duration::from_secs(2))).await;
    let mut slow = gateway.connect().await;
    slow.send("GET /x HTTP/1.1\r\nHost: sh").await;
    assert!(slow.is_closed().await);
    // The control: the same bytes, all of them, and an idle time of twice as much between two requests.
    let mut quick = gateway.connect().await;
    for _ in 0..2 {
        quick.send(GET).await;
        assert_eq!(quick.answer().await.unwrap().status, 200);
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(backend.requests().len(), 2);
}

#[tokio::test]
async fn who_is_idle_for_long_is_let_go() {
    let backend = Backend::start().await;
    let gateway = gateway(backend.endpoint, short(|limits| limits.idle = Duration::from_secs(2))).await;
    let never = async { assert!(gateway.connect().await.is_closed().await) };
    let once = async {
        let mut once = gateway.connect().await;
        once.send(GET).await;
        assert_eq!(once.answer().await.unwrap().status, 200);
        assert!(once.is_closed().await);
    };
    // Empty lines are no request and buy no time.
    let lines = async {
        let mut lines = gateway.connect().await;
        lines.send("\r\n\r\n").await;
        assert!(lines.is_closed().await);
    };
    tokio::join!(never, once, lines);
}

#[tokio::test]
async fn a_body_that_drips_is_answered_with_408() {
    let backend = Backend::start().await;
    let pace = Pace { window: Duration::from_millis(500), min_bytes: 100 };
    let gateway = gateway(backend.endpoint, short(|limits| limits.body_pace = pace)).await;
    let mut slow = gateway.connect().await;
    slow.send("POST /x HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 400\r\n\r\n").await;
    for _ in 0..40 {
        slow.send("x").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(slow.answer().await.unwrap().status, 408);
    assert_eq!(backend.requests(), Vec::<String>::new());
    assert_eq!(*gateway.forward.failures.lock().unwrap(), ["Downstream Timeout Never"]);
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_answered_with_413() {
    let backend = Backend::start().await;
    let gateway = gateway(backend.endpoint, short(|limits| limits.body_bytes = 10)).await;
    let post = |chunk: &str| format!("POST /x HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len());
    let mut client = gateway.connect().await;
    client.send(post("0123456789")).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    client.send(post("0123456789a")).await;
    assert_eq!(client.answer().await.unwrap().status, 413);
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn a_client_that_breaks_off_is_not_the_upstreams_fault() {
    let stage = Stage::new().await;
    let gateway = gateway(stage.endpoint, Limits::default()).await;
    let mut client = gateway.connect().await;
    client.send("POST /x HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n").await;
    let mut upstream = stage.accept().await;
    until(&mut upstream, "abcde").await;
    client.send("oops\r\n").await;
    assert_eq!(client.answer().await.unwrap().status, 400);
    assert_eq!(*gateway.forward.failures.lock().unwrap(), ["Downstream Malformed Never"]);
    // The upstream never sees an end of what had none.
    let mut rest = Vec::new();
    let _ = upstream.read_to_end(&mut rest).await;
    assert!(common::find(&rest, b"0\r\n\r\n").is_none(), "{rest:?}");
}

#[tokio::test]
async fn an_upstream_that_speaks_nonsense_is_answered_with_502() {
    for (answer, failure) in [
        ("HELLO\r\n\r\n", "Upstream Malformed Never"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Upstream Malformed Never"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", "Upstream Malformed Never"),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "Upstream Malformed Never"),
        ("", "Upstream Closed IfIdempotent"),
    ] {
        let backend = Backend::answering(answer, true).await;
        let gateway = gateway(backend.endpoint, Limits::default()).await;
        let mut client = gateway.connect().await;
        client.send(GET).await;
        assert_eq!(client.answer().await.unwrap().status, 502, "{answer:?}");
        assert_eq!(*gateway.forward.failures.lock().unwrap(), [failure], "{answer:?}");
        // The client is not punished for it.
        client.send("GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(client.answer().await.unwrap().status, 400);
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_does_not_look_whole() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", true).await;
    let gateway = gateway(backend.endpoint, Limits::default()).await;
    let mut client = gateway.connect().await;
    client.send(GET).await;
    let heard = String::from_utf8(client.rest().await).unwrap();
    assert!(heard.contains("abcde") && !heard.ends_with("0\r\n\r\n"), "{heard}");
}

#[tokio::test]
async fn a_response_that_ends_with_its_connection_is_whole() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\nhello", true).await;
    let gateway = gateway(backend.endpoint, Limits::default()).await;
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        client.send(GET).await;
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.body, "5\r\nhello\r\n0\r\n\r\n");
        assert!(!answer.head.contains("close") && !answer.head.contains("x-hop"), "{}", answer.head);
    }
}

#[tokio::test]
async fn nothing_is_gathered_on_the_way() {
    let stage = Stage::new().await;
    let gateway = gateway(stage.endpoint, Limits::default()).await;
    let mut client = gateway.connect().await;
    client.send("POST /x HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await;
    let mut upstream = stage.accept().await;
    // Each piece arrives before the next one is sent, up and down, and the answer begins before the request has ended.
    until(&mut upstream, "one\r\n").await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n").await.unwrap();
    let heard = String::from_utf8(client.until(b"data: 1\n\n").await).unwrap();
    assert!(heard.contains("text/event-stream"), "{heard}");
    client.send("3\r\ntwo\r\n").await;
    until(&mut upstream, "two\r\n").await;
    upstream.write_all(b"9\r\ndata: 2\n\n\r\n").await.unwrap();
    client.until(b"data: 2\n\n").await;
    client.send("0\r\n\r\n").await;
    until(&mut upstream, "0\r\n\r\n").await;
    upstream.write_all(b"0\r\n\r\n").await.unwrap();
    client.until(b"0\r\n\r\n").await;
    client.send(GET).await;
    let mut second = stage.accept().await;
    until(&mut second, "GET /x").await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_ends_the_upstreams_connection() {
    let stage = Stage::new().await;
    let gateway = gateway(stage.endpoint, Limits::default()).await;
    let mut client = gateway.connect().await;
    client.send("POST /x HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 8\r\n\r\nhalf").await;
    let mut upstream = stage.accept().await;
    until(&mut upstream, "half").await;
    upstream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 413);
    client.send("rest").await;
    client.send(GET).await;
    // A new connection: what the upstream did not read is not before this request.
    let mut second = stage.accept().await;
    assert!(until(&mut second, "\r\n\r\n").await.starts_with("GET /x"));
    second.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 204);
}

#[tokio::test]
async fn continue_is_said_when_somebody_wants_the_body() {
    let stage = Stage::new().await;
    let gateway = gateway(stage.endpoint, Limits::default()).await;
    let mut client = gateway.connect().await;
    client.send("POST /x HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    let mut upstream = stage.accept().await;
    assert_eq!(client.answer().await.unwrap().status, 100);
    client.send("body").await;
    let heard = until(&mut upstream, "body").await;
    assert!(!heard.to_lowercase().contains("expect"), "{heard}");
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 200);
    // Who is refused is not asked for a body.
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().status, 400);
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    for (method, answer, status, length) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", 200, Some("1234")),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        // RFC 9110 section 15.4.5 lets the length be left out, and hyper does.
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: \"x\"\r\n\r\n", 304, None),
    ] {
        let backend = Backend::answering(answer, false).await;
        let gateway = gateway(backend.endpoint, Limits::default()).await;
        let mut client = gateway.connect().await;
        for _ in 0..2 {
            client.send(format!("{method} /x HTTP/1.1\r\nHost: shop.example\r\n\r\n")).await;
            let found = client.answer_to(method).await.unwrap();
            let said = found.head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
            assert_eq!((found.status, said.as_deref()), (status, length), "{method} {answer:?}: {}", found.head);
        }
        assert_eq!(backend.received().len(), 1, "{method} {answer:?}: one connection behind");
    }
}

async fn open_websocket(gateway: &Gateway, stage: &Stage) -> (Client, TcpStream) {
    let mut client = gateway.connect().await;
    client.send(WEBSOCKET).await;
    let mut upstream = stage.accept().await;
    until(&mut upstream, "\r\n\r\n").await;
    upstream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n").await.unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!(answer.status, 101, "{}", answer.head);
    assert!(answer.head.contains("upgrade: websocket") && answer.head.contains("sec-websocket-accept: x"), "{}", answer.head);
    (client, upstream)
}

#[tokio::test]
async fn a_websocket_is_relayed_with_half_close() {
    let stage = Stage::new().await;
    // An upgraded connection is neither idle nor a slow head.
    let limits = short(|limits| (limits.idle, limits.header_wait) = (Duration::from_secs(2), Duration::from_secs(2)));
    let gateway = gateway(stage.endpoint, limits).await;
    let (mut client, mut upstream) = open_websocket(&gateway, &stage).await;
    client.send("GET up without end").await;
    until(&mut upstream, "GET up without end").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    upstream.write_all(b"down").await.unwrap();
    client.until(b"down").await;
    client.stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, upstream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"");
    upstream.write_all(b"last").await.unwrap();
    client.until(b"last").await;
    drop(upstream);
    assert!(client.is_closed().await);
    eventually("the relay is no longer tracked", || gateway.drain.open() == 0).await;
}

#[tokio::test]
async fn what_is_said_before_the_switch_waits_for_it() {
    let stage = Stage::new().await;
    let gateway = gateway(stage.endpoint, Limits::default()).await;
    let mut client = gateway.connect().await;
    // A client that cannot wait: its frames are no request, and neither is what looks like one in them.
    client.send(format!("{WEBSOCKET}\u{1}GET /hidden HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")).await;
    let mut upstream = stage.accept().await;
    let heard = until(&mut upstream, "\r\n\r\n").await;
    assert!(heard.ends_with("\r\n\r\n") && !heard.contains("hidden"), "{heard}");
    upstream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 101);
    assert_eq!(until(&mut upstream, "\r\n\r\n").await, "\u{1}GET /hidden HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    // The same bytes where the upstream does not switch: now they are a request, and a bad one.
    let mut client = gateway.connect().await;
    client.send(format!("{WEBSOCKET}GET /hidden HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")).await;
    let mut upstream = stage.accept().await;
    until(&mut upstream, "\r\n\r\n").await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert_eq!(client.answer().await.unwrap().status, 400);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_revoked_websocket_ends_with_1008() {
    let stage = Stage::new().await;
    let gateway = gateway(stage.endpoint, Limits::default()).await;
    let (mut client, mut upstream) = open_websocket(&gateway, &stage).await;
    upstream.write_all(&[0x81, 2, b'h', b'i']).await.unwrap();
    client.until(b"hi").await;
    gateway.forward.revoked.cancel();
    assert_eq!(client.rest().await, [0x88, 2, 0x03, 0xf0]);
    let mut rest = Vec::new();
    timeout(PATIENCE, upstream.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_lets_requests_end_and_takes_no_new_ones() {
    let stage = Stage::new().await;
    let gateway = gateway(stage.endpoint, Limits::default()).await;
    let mut busy = gateway.connect().await;
    busy.send(GET).await;
    let mut upstream = stage.accept().await;
    until(&mut upstream, "\r\n\r\n").await;
    let mut idle = gateway.connect().await;
    eventually("both are there", || gateway.drain.open() == 2).await;
    let drain = gateway.drain.clone();
    let drained = tokio::spawn(async move { drain.drain(PATIENCE).await });
    assert!(idle.is_closed().await);
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await.unwrap();
    let answer = busy.answer().await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "last"));
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    assert!(busy.is_closed().await);
    assert_eq!(drained.await.unwrap(), Drained::InOrder);
}

#[tokio::test]
async fn a_drain_ends_what_does_not_end_by_itself() {
    let stage = Stage::new().await;
    let gateway = gateway(stage.endpoint, Limits::default()).await;
    let (mut client, _upstream) = open_websocket(&gateway, &stage).await;
    let mut stuck = gateway.connect().await;
    stuck.send(GET).await;
    let _second = stage.accept().await;
    let begun = std::time::Instant::now();
    assert_eq!(gateway.drain.drain(Duration::from_millis(300)).await, Drained::Cut(2));
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    assert_eq!(client.rest().await, [0x88, 2, 0x03, 0xe9]);
    assert!(stuck.is_closed().await);
    assert_eq!(gateway.drain.open(), 0);
}

#[tokio::test]
async fn who_does_not_take_what_waits_is_cut() {
    let big: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", 32 << 20, "x".repeat(32 << 20)).into_boxed_str());
    let backend = Backend::answering(big, false).await;
    let gateway = gateway(backend.endpoint, short(|limits| limits.write_wait = Duration::from_millis(500))).await;
    let mut client = gateway.connect().await;
    client.send(GET).await;
    eventually("the stalled connection is gone", || gateway.drain.open() == 0 && !backend.requests().is_empty()).await;
    assert!(client.rest().await.len() < 32 << 20);
}
