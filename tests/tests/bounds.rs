//! What happens where a table, a queue or a pool is full: refusal with a counter, never an eviction, and never an opening.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use weft_lab::{Place, Proc, eventually};
use weft_tests::{Mesh, MeshOptions, SETTLE, Server, probe};

const PROGRAM: &str = include_str!("../src/bounds.py");
/// As `agent/src/proxy/limits.rs` has them.
const POOL_PER_KEY_MAX: usize = 64;
const BUFFERED_PER_SHARE_MAX_BYTES: usize = 32 << 20;
const SMALL_BUFFER_BYTES: usize = 4 * 1024;

#[test]
fn a_full_table_of_handshakes_refuses_and_counts() -> Result<()> {
    let mesh = Mesh::start("full", &MeshOptions::default())?;
    let _servers = [Server::start(mesh.pod("server").place(), "server", 8080)?, Server::start(mesh.pod("far").place(), "far", 8080)?];
    let client = mesh.pod("client").place();
    let ways = [mesh.pod("server").v4().to_string(), mesh.vip("shop/far")?.to_string()];
    let ports = [8080, 80];
    for (way, port) in ways.iter().zip(ports) {
        let before = probe(client, "tcp", way, port, "before")?;
        assert!(before.ok, "{way}: {before:?}\n{}", mesh.logs());
    }
    let mut open = spawn(client, "open", &["open", &ways[0], "8080"])?;
    open.wait_for_log("ready", SETTLE)?;
    let counted = counter(&mesh, "attestation_full")?;

    let pinned = mesh.pinned(0)?;
    let added = pinned.crowd_attestations()?;
    assert!(added > 60_000, "{added}");
    for (way, port) in ways.iter().zip(ports) {
        let full = probe(client, "tcp", way, port, "full")?;
        assert!(!full.ok, "a full table let {way} in: {full:?}");
    }
    let refused = counter(&mesh, "attestation_full")? - counted;
    assert!(refused >= 2, "{refused} refusals counted");
    assert_eq!(pinned.attestations()?, weft_ebpf_common::limits::ATTESTATIONS_MAX as usize, "nothing was put out for a newcomer");
    open.signal(Signal::USR1);
    open.wait_for_log("still", SETTLE).with_context(|| format!("a live connection was ended: {}", open.log()))?;

    pinned.uncrowd_attestations()?;
    for (way, port) in ways.iter().zip(ports) {
        let after = probe(client, "tcp", way, port, "after")?;
        assert!(after.ok, "{way}: {after:?}\n{}", mesh.logs());
    }
    Ok(())
}

#[test]
fn a_full_ring_of_flows_is_counted_and_changes_no_verdict() -> Result<()> {
    let mut mesh = Mesh::start("ring", &MeshOptions::default())?;
    let _server = Server::start(mesh.pod("server").place(), "server", 8080)?;
    let to = mesh.pod("server").v4().to_string();
    let lost = counter(&mesh, "flow_lost")?;
    // Nobody reads the ring.
    mesh.agents[0].process().context("no agent")?.signal(Signal::STOP);
    let tried: String = mesh.pod("stranger").place().check(&["python3", "-c", PROGRAM, "knock", &to, "8080", "20000"], Duration::from_secs(60))?;
    let granted = probe(mesh.pod("client").place(), "tcp", &to, 8080, "granted");
    let denied = probe(mesh.pod("stranger").place(), "tcp", &to, 8080, "denied");
    mesh.agents[0].process().context("no agent")?.signal(Signal::CONT);
    assert_eq!(tried.trim(), "{\"refused\": 20000, \"passed\": 0}");
    let (granted, denied) = (granted?, denied?);
    assert!(granted.ok, "a lost event closed: {granted:?}");
    assert!(!denied.ok, "a lost event opened: {denied:?}");
    let now = eventually(SETTLE, "the loss counted", || -> Result<u64> {
        let now = counter(&mesh, "flow_lost")?;
        if now > lost { Ok(now) } else { bail!("{now} lost") }
    })?;
    println!("{} of 20,002 events lost", now - lost);
    let shown = metric(&mesh, 0, "weft_kernel_counter{counter=\"flow_lost\"}")?;
    assert!(shown >= (now - lost) as f64, "{shown}");
    Ok(())
}

#[test]
fn a_full_pool_closes_what_comes_back_and_counts() -> Result<()> {
    let mesh = Mesh::start("pool", &MeshOptions::default())?;
    let _sink = sink(&mesh, "far")?;
    let far = mesh.vip("shop/far")?.to_string();
    let at_once = POOL_PER_KEY_MAX + 36;
    let client = mesh.pod("client").place();
    let passed = client.check(&["python3", "-c", PROGRAM, "pass", &far, "80", &at_once.to_string()], Duration::from_secs(60))?;
    assert_eq!(passed.trim(), format!("{{\"passed\": {at_once}}}"), "{}", mesh.logs());
    eventually(SETTLE, "the pool full", || -> Result<()> {
        let closed = metric(&mesh, 0, "weft_proxy_bound_total{bound=\"pool\"}")?;
        if closed == (at_once - POOL_PER_KEY_MAX) as f64 { Ok(()) } else { bail!("{closed} closed") }
    })?;
    let again = client.check(&["python3", "-c", PROGRAM, "pass", &far, "80", "1"], Duration::from_secs(60))?;
    assert_eq!(again.trim(), "{\"passed\": 1}");
    Ok(())
}

#[test]
fn who_buffers_too_much_has_small_buffers_and_a_neighbour_large_ones() -> Result<()> {
    let streams = 1000;
    let mesh = Mesh::start("buffers", &MeshOptions { catalog: two_callers(), workloads: two_callers_at(), ..MeshOptions::default() })?;
    // What the kernel buffers is bounded by its own limits, which all on a machine share: here it is not to be what fills up.
    for pod in ["greedy", "server"] {
        let little = "for f in tcp_rmem tcp_wmem; do echo 4096 16384 65536 > /proc/sys/net/ipv4/$f; done";
        mesh.pod(pod).place().check(&["sh", "-c", little], SETTLE)?;
    }
    let (mut stalled, _far) = (sink(&mesh, "server")?, sink(&mesh, "far")?);
    let (server, far) = (mesh.vip("shop/server")?.to_string(), mesh.vip("shop/far")?.to_string());
    let mut greedy = spawn(mesh.pod("greedy").place(), "stuff", &["stuff", &server, "80", &streams.to_string()])?;
    greedy.wait_for_log("stuffed", Duration::from_secs(120)).with_context(|| mesh.logs())?;

    let held = metric(&mesh, 0, "weft_proxy_buffered_bytes")? as usize;
    let small = metric(&mesh, 0, "weft_proxy_small_buffers_total")?;
    println!("{held} bytes held by {streams} stalled connections, {small} small buffers");
    assert!(held > BUFFERED_PER_SHARE_MAX_BYTES / 2, "the connections are not stalled in the proxy: {held}\n{}", greedy.log());
    assert!(held <= BUFFERED_PER_SHARE_MAX_BYTES + 2 * streams * SMALL_BUFFER_BYTES, "{held}");
    assert!(small > 0.0);
    // The stalled do not stop what moves, neither a neighbour's nor their own.
    for from in ["client", "greedy"] {
        let bulk = mesh.pod(from).place().check(&["python3", "-c", PROGRAM, "bulk", &far, "80", "16777216"], Duration::from_secs(60));
        let bulk = bulk.with_context(|| format!("{from}; {}", std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default()))?;
        assert_eq!(bulk.trim(), "{\"bytes\": 16777216}", "{from}");
    }
    // What is on its way stays so for as long as nobody takes it, also when its sender has ended; the reader's end is its end.
    stalled.kill9();
    eventually(SETTLE, "the buffers given back", || -> Result<()> {
        let held = metric(&mesh, 0, "weft_proxy_buffered_bytes")?;
        if held < 1e6 { Ok(()) } else { bail!("{held} held") }
    })?;
    Ok(())
}

/// `greedy` beside `client`: both may reach `far`, and `greedy` `server` too, on the other node.
fn two_callers() -> String {
    let greedy = "---\napiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: { name: greedy, namespace: shop }\nspec:\n  type: application\n  owner: shop\n  \
                  ports: [ { name: web, port: 80, targetPort: 8080 } ]\n  dependsOn: [ { service: server, port: web }, { service: far, port: web } ]\n";
    format!("{}{greedy}", weft_tests::SHOP)
}

fn two_callers_at() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![("a", "client", "shop/client"), ("a", "greedy", "shop/greedy"), ("b", "server", "shop/server"), ("b", "far", "shop/far")]
}

fn sink(mesh: &Mesh, name: &str) -> Result<Proc> {
    let mut sink = spawn(mesh.pod(name).place(), "sink", &["sink", "8080"])?;
    sink.wait_for_log("ready", SETTLE)?;
    Ok(sink)
}

fn spawn(place: &Place, name: &str, argv: &[&str]) -> Result<Proc> {
    let argv: Vec<&str> = ["python3", "-u", "-c", PROGRAM].into_iter().chain(argv.iter().copied()).collect();
    Ok(place.spawn(name, &argv)?)
}

fn counter(mesh: &Mesh, name: &str) -> Result<u64> {
    mesh.status(0)?.counters.get(name).copied().with_context(|| format!("no counter {name}"))
}

fn metric(mesh: &Mesh, node: usize, name: &str) -> Result<f64> {
    let text = mesh.nodes[node].place().http_get(weft_lab::METRICS, "/metrics")?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(line.trim().parse()?)
}
