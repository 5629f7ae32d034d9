//! Beginnings and ends: an agent that has just started, a grant that goes, a workload that goes, an agent that drains.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};
use weft_ebpf_common::TUNNEL_PORT;
use weft_identity::Svid;
use weft_types::{Reason, Verdict};

use super::{
    abort, dial_in_vain, hear, hear_end, hear_reset, say,
    world::{CLIENT, SERVER, World, until},
};
use crate::proxy::{
    Bound, Host, Measure, Proxy,
    limits::{HANDSHAKE_IN, HANDSHAKES_PER_ADDRESS_MAX, HANDSHAKES_PER_LISTENER_MAX},
    ready::ready,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_waits_for_snapshot_and_svid() {
    let w = World::new().await;
    let index = w.a.index.lock().unwrap().take();
    let (mine, theirs) = (w.a.svids.lock().unwrap().remove(&CLIENT), w.b.svids.lock().unwrap().remove(&SERVER));
    let mut client = w.dial().await;
    say(&mut client, "early").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    w.a.set_index(&index.unwrap());
    w.a.svids.lock().unwrap().insert(CLIENT, mine.unwrap());
    w.a.tick();
    tokio::time::sleep(Duration::from_millis(100)).await;
    w.b.svids.lock().unwrap().insert(SERVER, theirs.unwrap());
    w.b.tick();
    hear(&mut w.accept().await, "early").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_a_backlog_is_served_by_the_next_agent() {
    let w = World::unserved().await;
    // The holder's duplicate: it listens, nobody accepts.
    let listener = std::net::TcpListener::bind((w.server.addresses[0], TUNNEL_PORT)).unwrap();
    let mut client = w.dial().await;
    say(&mut client, "patience").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    w.serve_tunnel(&Proxy::new(w.b.clone()), listener);
    hear(&mut w.accept().await, "patience").await;
}

#[tokio::test]
async fn after_the_wait_it_says_what_is_missing() {
    let w = World::unserved().await;
    let host: Arc<dyn Host> = w.a.clone();
    let missing = async || ready(&host, CLIENT, Duration::from_millis(20)).await.err();
    assert_eq!(missing().await, None);
    let mut expired: Svid = Arc::into_inner(w.svid(CLIENT)).unwrap();
    expired.not_after = SystemTime::UNIX_EPOCH;
    w.a.svids.lock().unwrap().insert(CLIENT, Arc::new(expired));
    assert!(missing().await.is_some_and(|(reason, detail)| reason == Reason::Unidentified && detail.contains("expired")));
    w.a.svids.lock().unwrap().clear();
    assert_eq!(missing().await.map(|m| m.0), Some(Reason::Unidentified));
    *w.a.index.lock().unwrap() = None;
    assert_eq!(missing().await.map(|m| m.0), Some(Reason::NoSnapshot));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_is_not_waited_for() {
    let w = World::unserved().await;
    let _backlog = std::net::TcpListener::bind((w.server.addresses[0], TUNNEL_PORT)).unwrap();
    abort(w.dial().await);
    assert!(w.a.finished().await.detail.contains("the caller gave up"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_only_hold_the_line_do_not_keep_others_out_for_long() {
    let w = World::new().await;
    let mut silent = Vec::new();
    for address in 1..=HANDSHAKES_PER_LISTENER_MAX / HANDSHAKES_PER_ADDRESS_MAX {
        silent.extend(hold_the_line(&w, address as u8, HANDSHAKES_PER_ADDRESS_MAX).await);
    }
    let began = Instant::now();
    w.connected().await;
    // All places were taken until the first handshake was given up.
    assert!(began.elapsed() > HANDSHAKE_IN / 2, "the bound on handshakes does not hold");
    for mut s in silent {
        hear_end(&mut s).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_the_line_a_thousand_times_waits_for_itself_only() {
    let w = World::new().await;
    let _silent = hold_the_line(&w, 1, 2 * HANDSHAKES_PER_LISTENER_MAX).await;
    let began = Instant::now();
    w.connected().await;
    assert!(began.elapsed() < HANDSHAKE_IN / 2, "a neighbour waited for the greedy");
    assert!(w.b.count(Measure::Bound(Bound::Handshakes)) > 0, "and those who wait are counted");
}

/// Connections from one address that never greet.
async fn hold_the_line(w: &World, address: u8, connections: usize) -> Vec<TcpStream> {
    let mut silent = Vec::new();
    for _ in 0..connections {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 9, 9, address), 0).into()).unwrap();
        silent.push(socket.connect((w.server.addresses[0], TUNNEL_PORT).into()).await.unwrap());
    }
    silent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_goes_closes_what_it_had_allowed_on_either_node() {
    for on_calling_node in [true, false] {
        let w = World::new().await;
        let (mut client, mut server) = w.connected().await;
        say(&mut client, "before").await;
        hear(&mut server, "before").await;
        let (node, other, proxy) = if on_calling_node { (&w.a, &w.b, &w.proxy_a) } else { (&w.b, &w.a, &w.proxy_b) };

        // Control: a revision that keeps the grant closes nothing.
        let same = w.revised(|s| s.grants[0].declared_at.clear());
        node.set_index(&same);
        assert_eq!(proxy.revoke(&same), 0);
        say(&mut client, "between").await;
        hear(&mut server, "between").await;

        let without = w.without_grant();
        node.set_index(&without);
        assert_eq!(proxy.revoke(&without), 1);
        hear_reset(&mut client).await;
        hear_reset(&mut server).await;
        let closed = node.finished().await;
        assert_eq!((closed.verdict, closed.detail.as_str()), (Verdict::Allow, "the grant that allowed it went away"));
        assert!(other.finished().await.detail.contains("said the other node"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_gains_l7_closes_too() {
    let w = World::new().await;
    let (mut client, _server) = w.connected().await;
    assert_eq!(w.proxy_b.revoke(&w.revised(|s| s.grants[0].needs_l7 = true)), 1);
    hear_reset(&mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_connection_that_is_stalled_in_a_frame_ends_as_well() {
    let w = World::new().await;
    let (mut client, mut server) = w.connected().await;
    let piece = vec![1; 1 << 20];
    while tokio::time::timeout(Duration::from_millis(300), client.write_all(&piece)).await.is_ok() {}
    w.proxy_a.revoke(&w.without_grant());
    let mut sink = vec![0; 1 << 20];
    let reset = async { while tokio::io::AsyncReadExt::read(&mut server, &mut sink).await.is_ok_and(|n| n > 0) {} };
    tokio::time::timeout(super::DEADLINE, reset).await.expect("the server was left hanging");
    hear_reset(&mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_goes_takes_its_connections_with_it() {
    let w = World::new().await;
    let (mut client, mut server) = w.connected().await;
    w.proxy_b.forget(w.server.number);
    hear_reset(&mut client).await;
    hear_reset(&mut server).await;
    assert!(w.a.finished().await.detail.contains("workload on the other node went away"));
    // Nobody listens for it any more.
    dial_in_vain(&w).await;
    w.a.record_of(|r| r.reason == Reason::UpstreamConnect).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_waits_for_live_connections_and_accepts_no_new_ones() {
    let w = World::new().await;
    let (mut client, mut server) = w.connected().await;
    assert_eq!(w.proxy_b.drain(Duration::from_millis(50)).await, 1, "it goes on");
    say(&mut client, "still").await;
    hear(&mut server, "still").await;
    assert!(std::net::TcpStream::connect((w.server.addresses[0], TUNNEL_PORT)).is_err(), "nobody listens any more");
    // So does one that had been accepted by the calling node and is still on its way.
    let _backlog = std::net::TcpListener::bind((w.server.addresses[0], TUNNEL_PORT)).unwrap();
    let waiting = w.dial().await;
    until(|| w.a.count(Measure::Pool { hit: false }) == 2).await;
    assert_eq!(w.proxy_a.drain(Duration::from_millis(50)).await, 2);
    drop(waiting);
    let draining = tokio::spawn({
        let proxy = w.proxy_b.clone();
        async move { proxy.drain(super::DEADLINE).await }
    });
    client.shutdown().await.unwrap();
    hear_end(&mut server).await;
    drop(server);
    hear_end(&mut client).await;
    assert_eq!(draining.await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_stops_leaves_its_backlog_to_the_next() {
    let w = World::unserved().await;
    let held = std::net::TcpListener::bind((w.server.addresses[0], TUNNEL_PORT)).unwrap();
    let serving = w.serve_tunnel(&w.proxy_b, held.try_clone().unwrap());
    w.connected().await;
    serving.stop().await;
    let mut client = w.dial().await;
    say(&mut client, "across").await;
    let next = Proxy::new(w.b.clone());
    w.serve_tunnel(&next, held);
    hear(&mut w.accept().await, "across").await;
}
