//! The pool: what is kept, what is let go, and what a client never notices of it.

mod common;

use std::time::Duration;

use common::{Backend, Gateway, PATIENCE, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use weft_http::{Endpoint, Limits, PoolLimits, Wire};

const GET: &str = "GET /x HTTP/1.1\r\nHost: shop.example\r\n\r\n";
const POST: &str = "POST /x HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\nhi";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn gateway(endpoint: Endpoint, pool: PoolLimits) -> Gateway {
    Gateway::with(endpoint, Wire::Http1, Limits::default(), pool).await
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let backend = Backend::start().await;
    let gateway = gateway(backend.endpoint, PoolLimits::default()).await;
    let mut client = gateway.connect().await;
    for _ in 0..20 {
        client.send(GET).await;
        assert_eq!(client.answer().await.unwrap().body, "ok");
        client.send(POST).await;
        assert_eq!(client.answer().await.unwrap().body, "ok");
    }
    assert_eq!(backend.received().len(), 1);
    assert_eq!(gateway.forward.pool.in_flight(&backend.endpoint), 0);
}

#[tokio::test]
async fn an_upstream_that_closes_after_each_answer_fails_nobody() {
    // It does not say that it will close: each connection looks as if it could be used again.
    let backend = Backend::answering(OK, true).await;
    let gateway = gateway(backend.endpoint, PoolLimits::default()).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let address = gateway.address;
        clients.spawn(async move {
            let mut client = common::Client::connect(address).await;
            for _ in 0..50 {
                client.send(GET).await;
                assert_eq!(client.answer().await.unwrap().body, "ok");
            }
        });
    }
    clients.join_all().await;
    assert_eq!(*gateway.forward.failures.lock().unwrap(), Vec::<String>::new());
    assert_eq!(backend.requests().len(), 400);
}

#[tokio::test]
async fn what_cannot_be_repeated_does_not_go_over_an_old_connection() {
    let backend = Backend::start().await;
    let pool = PoolLimits { idle_for_unrepeatable: Duration::ZERO, ..PoolLimits::default() };
    let gateway = gateway(backend.endpoint, pool).await;
    let mut client = gateway.connect().await;
    for request in [GET, POST, GET] {
        client.send(request).await;
        assert_eq!(client.answer().await.unwrap().status, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The POST took a new one; the GET behind it took one of the two.
    let counts: Vec<usize> = backend.received().iter().map(|received| received.requests.len()).collect();
    assert_eq!(counts.len(), 2, "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), 3);
}

#[tokio::test]
async fn a_request_that_was_lost_on_an_old_connection_is_repeated_only_if_it_may_be() {
    for (request, status, requests) in [(GET, 200, 3), (POST, 502, 2)] {
        // The first answer is good; the second request on the same connection is read and the connection closed over it.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { address: listener.local_addr().unwrap(), wire: Wire::Http1 };
        let seen = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 4096];
                for answer in [OK, ""] {
                    if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
                        break;
                    }
                    count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        let gateway = gateway(endpoint, PoolLimits { idle_for_unrepeatable: PATIENCE, ..PoolLimits::default() }).await;
        let mut client = gateway.connect().await;
        client.send(GET).await;
        assert_eq!(client.answer().await.unwrap().status, 200);
        client.send(request).await;
        assert_eq!(client.answer().await.unwrap().status, status, "{request:?}");
        assert_eq!(seen.load(std::sync::atomic::Ordering::SeqCst), requests, "{request:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_from_nobody_answering() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { address: listener.local_addr().unwrap(), wire: Wire::Http1 };
    drop(listener);
    let gone = gateway(endpoint, PoolLimits::default()).await;
    let mut client = gone.connect().await;
    client.send(POST).await;
    assert_eq!(client.answer().await.unwrap().status, 502);
    // Not a byte was sent: even a POST may go elsewhere.
    assert_eq!(*gone.forward.failures.lock().unwrap(), ["Upstream Connect Safe"]);

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { address: silent.local_addr().unwrap(), wire: Wire::Http1 };
    let mute = gateway(endpoint, PoolLimits { response_wait: Duration::from_millis(300), ..PoolLimits::default() }).await;
    let mut client = mute.connect().await;
    client.send(GET).await;
    assert_eq!(client.answer().await.unwrap().status, 504);
    assert_eq!(*mute.forward.failures.lock().unwrap(), ["Upstream Timeout IfIdempotent"]);
}

#[tokio::test]
async fn an_endpoint_is_not_given_more_than_it_may_have() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { address: silent.local_addr().unwrap(), wire: Wire::Http1 };
    let pool = PoolLimits { busy_per_endpoint: 1, busy_wait: Duration::from_millis(300), ..PoolLimits::default() };
    let gateway = gateway(endpoint, pool).await;
    let mut first = gateway.connect().await;
    first.send(GET).await;
    eventually("the first is on its way", || gateway.forward.pool.in_flight(&endpoint) == 1).await;
    let mut second = gateway.connect().await;
    second.send(GET).await;
    assert_eq!(second.answer().await.unwrap().status, 503);
    assert_eq!(*gateway.forward.failures.lock().unwrap(), ["Internal Busy Safe"]);
    // The first goes, and so does what it held.
    drop(first);
    eventually("its place is free", || gateway.forward.pool.in_flight(&endpoint) == 0).await;
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_let_go() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { address: listener.local_addr().unwrap(), wire: Wire::Http1 };
    let gateway = gateway(endpoint, PoolLimits::default()).await;
    let mut client = gateway.connect().await;
    client.send(GET).await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    let mut buffer = [0; 4096];
    assert!(upstream.read(&mut buffer).await.unwrap() > 0);
    upstream.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 200);
    tokio::time::sleep(Duration::from_millis(100)).await;
    gateway.forward.pool.retain(|_| false);
    assert_eq!(tokio::time::timeout(PATIENCE, upstream.read(&mut buffer)).await.unwrap().unwrap(), 0);
}
