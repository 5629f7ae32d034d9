//! What is carried arrives as without the mesh: every byte, both ends, in either order.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use weft_ebpf_common::{Addr, PATH_DELIVERED};
use weft_types::{Path, Reason, Verdict};

use super::{
    abort, hear, hear_end, hear_reset, say,
    world::{CLIENT, DEADLINE, World},
};
use crate::proxy::{End, Measure, Point};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_and_its_answer_are_carried_and_recorded_on_both_nodes() {
    let w = World::new().await;
    let (mut client, mut server) = w.connected().await;
    let caller = client.local_addr().unwrap();
    say(&mut client, "GET").await;
    hear(&mut server, "GET").await;
    say(&mut server, "a longer answer").await;
    hear(&mut client, "a longer answer").await;
    drop(server);
    hear_end(&mut client).await;
    drop(client);

    let (out, into) = (w.a.finished().await, w.b.finished().await);
    for (record, point, path, workload) in [(&out, Point::Out, Path::Captured, "client-1"), (&into, Point::In, Path::Delivered, "server-1")] {
        assert_eq!((record.verdict, record.reason, record.point, record.path), (Verdict::Allow, Reason::Grant, point, Some(path)));
        assert_eq!((record.bytes_out, record.bytes_in, record.detail.as_str()), (3, 15, ""));
        assert_eq!(record.source.as_ref().unwrap().identity, w.identity(CLIENT));
        assert_eq!(record.destination.as_ref().unwrap().service.to_string(), "shop/server");
        assert_eq!((record.address.unwrap().to_string().as_str(), record.service_port, record.rule.0), ("100.64.0.2:80", 80, 9));
        assert_eq!(record.workload.as_str(), workload);
        assert_eq!(record.key_exchange.as_deref(), Some("X25519MLKEM768"));
    }
    assert_eq!(out.id, into.id, "one flow, one id");

    let delivery = w.b.deliveries.lock().unwrap()[0];
    assert_eq!((delivery.path, delivery.source, delivery.netns, delivery.flow), (PATH_DELIVERED, CLIENT.0, w.server.netns_cookie, out.id.0));
    assert_eq!((delivery.caller, delivery.caller_port), (Addr::from(caller.ip()), caller.port()), "the application shall see its true caller");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_may_speak_first() {
    let w = World::new().await;
    let (mut client, mut server) = w.connected().await;
    say(&mut server, "220 ready").await;
    hear(&mut client, "220 ready").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_may_close_its_half_first() {
    let w = World::new().await;
    let (mut client, mut server) = w.connected().await;
    say(&mut client, "all I have").await;
    client.shutdown().await.unwrap();
    hear(&mut server, "all I have").await;
    hear_end(&mut server).await;
    say(&mut server, "and the answer to it").await;
    hear(&mut client, "and the answer to it").await;
    drop(server);
    hear_end(&mut client).await;
    assert_eq!(w.a.finished().await.detail, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_may_close_its_half_first() {
    let w = World::new().await;
    let (mut client, mut server) = w.connected().await;
    say(&mut server, "greeting").await;
    server.shutdown().await.unwrap();
    hear(&mut client, "greeting").await;
    hear_end(&mut client).await;
    say(&mut client, "still here").await;
    hear(&mut server, "still here").await;
    client.shutdown().await.unwrap();
    hear_end(&mut server).await;
    assert_eq!(w.b.finished().await.detail, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_the_client_reaches_the_server() {
    let w = World::new().await;
    let (mut client, mut server) = w.connected().await;
    say(&mut client, "half a").await;
    hear(&mut server, "half a").await;
    abort(client);
    hear_reset(&mut server).await;
    let closed = w.b.finished().await;
    assert!(closed.detail.contains("other node reset"), "{}", closed.detail);
    assert_eq!(w.b.count(Measure::Closed { point: Point::In, bytes_out: 6, bytes_in: 0, end: End::Reset }), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_the_server_reaches_the_client() {
    let w = World::new().await;
    let (mut client, server) = w.connected().await;
    abort(server);
    hear_reset(&mut client).await;
    let detail = w.b.finished().await.detail;
    assert!(detail.contains("application on this node"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_after_the_own_fin_still_reaches_the_other_end() {
    let w = World::new().await;
    let (mut client, mut server) = w.connected().await;
    server.shutdown().await.unwrap();
    hear_end(&mut client).await;
    abort(server);
    // The server's agent meets the reset when it has something to pass on.
    let refused = async { while client.write_all(b"anybody?").await.is_ok() {} };
    timeout(DEADLINE, refused).await.expect("the client never learned of it");
    let detail = w.a.finished().await.detail;
    assert!(detail.contains("other node reset"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_passes_both_ways_at_once_unchanged() {
    const BYTES: usize = 24 << 20;
    let w = World::new().await;
    let (client, server) = w.connected().await;
    let ends = [(client, 3), (server, 5)].map(|(socket, seed)| {
        let (mut from, mut to) = socket.into_split();
        let sent = tokio::spawn(async move {
            let mut pattern = Pattern(seed);
            let mut piece = vec![0; 100_003];
            let mut left = BYTES;
            while left > 0 {
                let n = left.min(piece.len());
                piece[..n].fill_with(|| pattern.next());
                to.write_all(&piece[..n]).await.unwrap();
                left -= n;
            }
            to.shutdown().await.unwrap();
        });
        let heard = tokio::spawn(async move {
            // Each end hears what the other one's seed makes.
            let mut pattern = Pattern(8 - seed);
            let mut piece = vec![0; 1 << 16];
            let mut total = 0;
            loop {
                let n = from.read(&mut piece).await.unwrap();
                if n == 0 {
                    return total;
                }
                assert!(piece[..n].iter().all(|b| *b == pattern.next()), "a byte differs after {total}");
                total += n;
            }
        });
        (sent, heard)
    });
    for (sent, heard) in ends {
        timeout(DEADLINE * 3, sent).await.unwrap().unwrap();
        assert_eq!(timeout(DEADLINE * 3, heard).await.unwrap().unwrap(), BYTES);
    }
    let record = w.a.finished().await;
    assert_eq!((record.bytes_out, record.bytes_in), (BYTES as u64, BYTES as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_word_gets_through_against_a_flood() {
    let w = World::new().await;
    let (mut client, server) = w.connected().await;
    let (mut from, mut to) = server.into_split();
    let flood = tokio::spawn(async move {
        let piece = vec![7; 1 << 18];
        let mut word = [0; 4];
        loop {
            tokio::select! {
                biased;
                heard = from.read_exact(&mut word) => { heard.unwrap(); return word; }
                sent = to.write_all(&piece) => sent.unwrap(),
            }
        }
    });
    let (mut from, mut to) = client.split();
    let mut piece = vec![0; 1 << 18];
    for _ in 0..100 {
        from.read_exact(&mut piece).await.unwrap();
    }
    to.write_all(b"stop").await.unwrap();
    let drain = async { while from.read(&mut piece).await.is_ok_and(|n| n > 0) {} };
    timeout(DEADLINE, drain).await.expect("the flood never ended");
    assert_eq!(&flood.await.unwrap(), b"stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stalls_stops_the_writer_and_loses_nothing() {
    // Buffers of the kernel on three hops, each grown as far as it will; the proxies add one buffer each.
    const BOUND: u64 = 64 << 20;
    let w = World::new().await;
    let (client, mut server) = w.connected().await;
    let written = fill(&client).await;
    assert!(written < BOUND, "{written} bytes were taken although nobody reads");
    let reading = async {
        let (mut piece, mut total) = (vec![0; 1 << 18], 0);
        while total < written {
            total += server.read(&mut piece).await.unwrap() as u64;
        }
        total
    };
    assert_eq!(timeout(DEADLINE, reading).await.expect("bytes were lost"), written);
}

/// Writes until nothing has been taken for a while; returns how much was.
async fn fill(socket: &TcpStream) -> u64 {
    let (piece, mut total) = (vec![0; 1 << 18], 0);
    while timeout(Duration::from_millis(700), socket.writable()).await.is_ok() {
        total += socket.try_write(&piece).unwrap_or(0) as u64;
    }
    total
}

/// A byte stream in which a lost, doubled or moved piece shows.
struct Pattern(u32);

impl Pattern {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 24) as u8
    }
}
