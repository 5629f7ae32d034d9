//! Sockets behave as without the mesh: the same cases over three paths, and every difference on `docs/conformance-sockets.md`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use weft_lab::eventually;
use weft_tests::{
    SETTLE, Server,
    conformance::{Difference, Facts, Family, PORT, Paths, STALLED, Way, between, connections, documented, read, unexplained},
    probe,
};

/// Every family.
const FAMILIES: &[Family] = &[Family::V4, Family::V6, Family::Mapped];
const V4: &[Family] = &[Family::V4];

const ENDS: &[(&str, &[Family])] = &[
    ("names", FAMILIES),
    ("half-close by client", FAMILIES),
    ("half-close by server", V4),
    ("close by server", FAMILIES),
    ("reset by server", FAMILIES),
    ("reset by client", V4),
    ("close with unread data", V4),
    ("data, then reset", V4),
    ("reset after half-close", V4),
    ("reset by server after half-close", V4),
    ("reset while the reader stalls", V4),
    ("nothing said", V4),
    ("the client's process is killed", V4),
];

const STARTS: &[(&str, &[Family])] = &[
    ("server speaks first", V4),
    ("client speaks before accept", V4),
    ("refused", FAMILIES),
    ("backlog full", V4),
    ("non-blocking connect", FAMILIES),
    ("non-blocking connect, refused", V4),
    ("bound to a port", FAMILIES),
    ("bound to an address", FAMILIES),
    ("bound to a foreign address", V4),
    ("bound to a device", &[Family::V4, Family::V6]),
    ("listener opened again", V4),
    ("fast open", &[Family::V4, Family::V6]),
    ("multipath", &[Family::V4, Family::V6]),
    ("connected again", V4),
];

const CARRIES: &[(&str, &[Family])] = &[
    ("small writes", V4),
    ("both ways at once", FAMILIES),
    ("a reader that stalls", V4),
    ("urgent data", V4),
    ("urgent data, inline", V4),
    ("receive timeout", V4),
    ("send timeout", V4),
    ("sendfile and splice", V4),
    ("peek and wait for all", V4),
    ("idle with keepalive", V4),
];

#[test]
fn connections_end_as_without_the_mesh() -> Result<()> {
    compare("ends", ENDS)
}

#[test]
fn connections_begin_as_without_the_mesh() -> Result<()> {
    compare("starts", STARTS)
}

#[test]
fn connections_carry_as_without_the_mesh() -> Result<()> {
    compare("carries", CARRIES)
}

#[test]
fn many_short_connections_fail_on_no_path_and_leave_nothing_behind() -> Result<()> {
    let mut paths = Paths::new("many")?;
    for way in [Way::NoMesh, Way::SameNode, Way::TwoNodes] {
        let before = descriptors(&mut paths)?;
        let mut server = paths.serve("many short connections", way)?;
        let out = paths.client(way).place().output(&paths.client_of("many short connections", way, Family::V4), Duration::from_secs(600))?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        println!("{way}: {} connections: {said}", connections());
        let mut facts = Facts::new();
        read("client", &said, &mut facts)?;
        assert_eq!(facts["client: failures"], "0 []", "{way}\n{}", paths.mesh.logs());
        server.kill9();
        // What stays is the warm pool, on both sides.
        eventually(SETTLE, "the agents to close what has ended", || -> Result<()> {
            let now = descriptors(&mut paths)?;
            let grown = now.iter().zip(&before).map(|(n, b)| n.saturating_sub(*b)).max().unwrap_or(0);
            if grown > 128 { bail!("{before:?} descriptors became {now:?}") } else { Ok(()) }
        })?;
    }
    Ok(())
}

#[test]
fn stalled_readers_bound_the_memory_of_both_agents() -> Result<()> {
    let mut paths = Paths::new("stalled")?;
    let way = Way::TwoNodes;
    // Once before anything is measured: what is made at the first connection is no growth.
    paths.run("server speaks first", way, Family::V4)?;
    let before = memory_kib(&mut paths)?;
    let mut server = paths.serve("many stalled readers", way)?;
    let argv = paths.client_of("many stalled readers", way, Family::V4);
    let mut client = paths.client(way).place().spawn("stalled", &argv)?;
    client.wait_for_log("stalled with", Duration::from_secs(90))?;
    let during = memory_kib(&mut paths)?;
    println!("{}: {before:?} KiB became {during:?} KiB with {STALLED} connections", client.log_tail(1));
    for (agent, (now, then)) in during.iter().zip(&before).enumerate() {
        let each = now.saturating_sub(*then) / STALLED as u64;
        assert!(each < 512, "agent {agent} holds {each} KiB for each stalled connection");
    }
    client.kill9();
    server.kill9();
    Ok(())
}

#[test]
fn a_peer_whose_machine_dies_is_noticed_by_the_applications_own_keepalive() -> Result<()> {
    let paths = Paths::new("dead")?;
    for way in [Way::NoMesh, Way::TwoNodes] {
        let mut server = paths.serve("the peer's machine dies", way)?;
        let argv = paths.client_of("the peer's machine dies", way, Family::V4);
        let mut client = paths.client(way).place().spawn("dead", &argv)?;
        client.wait_for_log("standing", SETTLE)?;
        // Time for the agent to learn how often the application asks.
        std::thread::sleep(Duration::from_secs(12));
        paths.server(way).place().ip("link set eth0 down")?;
        client.wait(Duration::from_secs(60))?;
        println!("{way}: {}", client.log());
        let mut facts = Facts::new();
        read("client", &client.log(), &mut facts)?;
        assert_eq!(facts["client: noticed"], "within 20 s", "{way}: {facts:?}\n{}", paths.mesh.logs());
        let expected: &[&str] = if way == Way::NoMesh { &["ETIMEDOUT", "EHOSTUNREACH"] } else { &["ECONNRESET"] };
        assert!(expected.contains(&facts["client: read"].as_str()), "{way}: {facts:?}");
        server.kill9();
    }
    Ok(())
}

#[test]
fn a_service_without_an_endpoint_ends_a_connection_at_once() -> Result<()> {
    let paths = Paths::new("vanished")?;
    let (address, port) = paths.dialled(Way::TwoNodes, Family::V4);
    let _server = Server::start(paths.server(Way::TwoNodes).place(), "far", PORT)?;
    let client = paths.client(Way::TwoNodes).place();
    let control = probe(client, "tcp", &address, port, "before")?;
    assert!(control.ok, "{control:?}");
    paths.mesh.agents[1].set_workloads(&[])?;
    eventually(SETTLE, "nobody to know an endpoint", || -> Result<()> {
        let left = paths.mesh.snapshot(0)?.endpoints.len();
        if left == 2 { Ok(()) } else { bail!("{left} endpoints") }
    })?;
    let began = Instant::now();
    let gone = probe(client, "tcp", &address, port, "after")?;
    println!("{gone:?} after {:?}", began.elapsed());
    assert!(!gone.ok && [104, 111].contains(&gone.errno), "{gone:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    let flows = paths.mesh.flows(0)?;
    assert!(flows.iter().any(|f| f.reason == "no-endpoint"), "no record says why");
    Ok(())
}

/// Open descriptors of each agent.
fn descriptors(paths: &mut Paths) -> Result<Vec<usize>> {
    of_agents(paths, |pid| Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count()))
}

/// Resident memory of each agent.
fn memory_kib(paths: &mut Paths) -> Result<Vec<u64>> {
    of_agents(paths, |pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    })
}

fn of_agents<T>(paths: &mut Paths, ask: impl Fn(u32) -> Result<T>) -> Result<Vec<T>> {
    paths.mesh.agents.iter_mut().map(|a| ask(a.process().context("no agent")?.pid())).collect()
}

fn compare(tag: &str, cases: &[(&str, &[Family])]) -> Result<()> {
    let paths = Paths::new(tag)?;
    let (mut seen, mut ran): (Vec<Difference>, Vec<String>) = Default::default();
    let only = std::env::var("WEFT_CASE").ok();
    let began = Instant::now();
    for (case, families) in cases.iter().filter(|c| only.as_deref().is_none_or(|only| c.0 == only)) {
        for family in *families {
            let name = if *family == Family::V4 { (*case).to_owned() } else { format!("{case}, {family}") };
            let plain = paths.run(case, Way::NoMesh, *family)?;
            println!("{name}, {}: {plain:?}", Way::NoMesh);
            for way in Way::MESHED {
                let facts = paths.run(case, way, *family).with_context(|| paths.mesh.logs())?;
                println!("{:>6.1} s  {name}, {way}: {facts:?}", began.elapsed().as_secs_f64());
                seen.extend(between(&name, way, &plain, &facts));
            }
            ran.push(name);
        }
    }
    let unexplained = unexplained(&seen, &documented()?, &ran);
    assert!(unexplained.is_empty(), "{}\n{}", unexplained.join("\n"), paths.mesh.logs());
    Ok(())
}
