//! Frames that no socket hook sees: whatever a workload sends through its veth is judged there, seen from the other end with tcpdump.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use weft_lab::{Inventory, eventually};
use weft_tests::{
    Mesh, MeshOptions, SETTLE, Server,
    packets::{Aim, Nested, arrived, capture_at, ping_pong, send_frames, watchers},
    probe,
};

const PORT: u16 = 8080;
/// What a grant is enough for, when no socket made it.
const GRANTED: [&str; 5] = ["arp", "echo4", "echo6", "tcp4", "tcp6"];
/// Neighbours must be found, granted or not.
const NEVER_REFUSED: [&str; 1] = ["arp"];

#[test]
fn no_frame_leaves_but_what_a_grant_allows() -> Result<()> {
    let mesh = Mesh::start("frames", &MeshOptions::default())?;
    let (before, _held) = (mesh.lab.before().clone(), mesh.lab.hold()?);
    let (client, stranger, server, far) = (mesh.pod("client"), mesh.pod("stranger"), mesh.pod("server"), mesh.pod("far"));
    let outsider = mesh.outsider(0, "plain")?;
    for w in mesh.status(0)?.workloads.iter().filter(|w| w.class == "enrolled") {
        assert_eq!((w.enforced.as_str(), w.enforced_why.as_str()), ("packets and sockets", ""), "{w:?}");
    }

    // On the same node. The first two differ in the grant only, the last is not enrolled; the node's own end sees all that comes.
    let (capture, aim) = (capture_at(server, "same")?, Aim::at(server)?);
    let granted = send_frames(client, true, "cli", &aim)?;
    let denied = send_frames(stranger, true, "str", &aim)?;
    // Not one of the workload's processes, but in its namespace: the device is the same.
    let visitor = send_frames(stranger, false, "vis", &aim)?;
    let control = send_frames(&outsider, false, "out", &aim)?;
    eventually(SETTLE, "the last of the control's frames", || if capture.contains(control["truncated"].0.as_bytes())? { Ok(()) } else { bail!("not yet") })?;
    let seen = capture.stop()?;
    assert_eq!(arrived(&granted, &seen), GRANTED);
    assert_eq!(arrived(&denied, &seen), NEVER_REFUSED);
    assert_eq!(arrived(&visitor, &seen), NEVER_REFUSED);
    assert_eq!(arrived(&control, &seen), control.keys().cloned().collect::<Vec<_>>());

    // To another node a grant lets nothing bare onto the wire: TCP goes by tunnel.
    let capture = capture_at(far, "far")?;
    let granted = send_frames(client, true, "fcl", &Aim::through(&mesh.nodes[0], far)?)?;
    let control = send_frames(&outsider, false, "fou", &Aim::through(&mesh.nodes[0], far)?)?;
    eventually(SETTLE, "the control's frames on the other node", || if capture.contains(control["sctp6"].0.as_bytes())? { Ok(()) } else { bail!("not yet") })?;
    let seen = capture.stop()?;
    assert_eq!(arrived(&granted, &seen), ["echo4", "echo6"]);
    let control = arrived(&control, &seen);
    assert!(["tcp4", "tcp6", "udp4", "udp6", "sctp", "echo4"].iter().all(|k| control.iter().any(|c| c == k)), "{control:?}");

    // It is counted, and told of, with the workload that the device belongs to.
    let status = mesh.status(0)?;
    let refused = status.counters["packet_refused"];
    assert!(refused > 150, "{:?}", status.counters);
    // The telling is bounded: a workload that sends nothing but such frames does not fill the ring.
    assert!(status.counters["packet_untold"] > 0 && status.counters["flow_lost"] == 0, "{:?}", status.counters);
    for (workload, reason) in [("shop/client", "spoofed"), ("shop/stranger", "protocol"), ("shop/stranger", "no-grant")] {
        eventually(SETTLE, reason, || -> Result<()> {
            let flows = mesh.flows(0)?;
            let told = flows.iter().find(|f| f.source == workload && f.reason == reason && f.verdict == "deny" && f.point == "kernel-out" && f.pid == 0);
            told.map(drop).with_context(|| format!("{workload}: {:?}", flows.iter().map(|f| (&f.source, &f.reason)).collect::<Vec<_>>()))
        })?;
    }

    drop(mesh);
    Inventory::take().same_as(&before).map_err(anyhow::Error::msg)
}

#[test]
fn what_a_workload_forwards_is_its_own_or_does_not_leave() -> Result<()> {
    let mesh = Mesh::start("nested", &MeshOptions::default())?;
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    let outsider = mesh.outsider(0, "plain")?;
    let capture = capture_at(server, "nested")?;
    let (inside, control) = (Nested::make(client, "192.168.77")?, Nested::make(&outsider, "192.168.78")?);
    let to = server.v4().to_string();
    for _ in 0..3 {
        inside.datagram(&to, PORT, "<nested in the workload>")?;
    }
    // The same out of an outsider.
    control.datagram(&to, PORT, "<nested in the outsider>")?;
    eventually(SETTLE, "the control's datagram", || if capture.contains(b"<nested in the outsider>")? { Ok(()) } else { bail!("not yet") })?;
    let seen = capture.stop()?;
    assert!(!seen.contains(b"<nested in the workload>"), "{}", seen.file.display());
    // A veth to a namespace inside is no other way out.
    let w = mesh.status(0)?.workloads.into_iter().find(|w| w.service == "shop/client").context("no client")?;
    assert_eq!((w.enforced.as_str(), w.problem.as_str()), ("packets and sockets", ""), "{w:?}");
    Ok(())
}

#[test]
fn it_stands_through_restarts_repairs_and_withdrawal() -> Result<()> {
    let mut mesh = Mesh::start("stands", &MeshOptions::default())?;
    let (client, stranger, server) = (mesh.pod("client").clone(), mesh.pod("stranger").clone(), mesh.pod("server").clone());
    let (node, links) = (mesh.nodes[0].clone(), mesh.links(0));
    let aim_mac = Aim::at(&server)?.mac;
    let check = |tag: &str, from: &weft_lab::Pod, expect: &[&str]| -> Result<()> {
        let capture = capture_at(&server, tag)?;
        let sent = send_frames(from, true, tag, &Aim { mac: aim_mac.clone(), pod: &server })?;
        // The server's own answers, or the lack of them, tell nothing: give the last frame time to be seen on an idle machine.
        let probe = send_frames(&server, false, "own", &Aim { mac: aim_mac.clone(), pod: &client })?;
        eventually(SETTLE, "the capture's end", || if capture.contains(probe["arp"].0.as_bytes())? { Ok(()) } else { bail!("not yet") })?;
        assert_eq!(arrived(&sent, &capture.stop()?), expect, "{tag}");
        Ok(())
    };
    assert_eq!(watchers(&node, &links)?.len(), 3);

    mesh.agents[0].kill9();
    check("kil", &client, &GRANTED)?;
    check("kis", &stranger, &NEVER_REFUSED)?;
    mesh.agents[0].run()?;
    mesh.settled()?;
    check("res", &client, &GRANTED)?;

    // Somebody takes the program off: the workload is not enrolled in the kernel until it is back.
    for watcher in watchers(&node, &links)? {
        watcher.take_off(&node)?;
    }
    eventually(SETTLE, "the programs back on their devices", || -> Result<()> {
        let status = mesh.status(0)?;
        if watchers(&node, &links)?.len() == 3 && status.workloads.iter().filter(|w| w.enforced == "packets and sockets").count() == 3 {
            Ok(())
        } else {
            bail!("{:?}", status.workloads)
        }
    })?;
    check("rep", &stranger, &NEVER_REFUSED)?;

    // The stranger's service leaves the catalog: nothing at all leaves the stranger, as long as there is something in it.
    let mut sleeper = stranger.place().spawn("sleeper", &["sleep", "600"])?;
    let end = weft_tests::SHOP.split("---\n").filter(|d| !d.contains("name: stranger")).collect::<Vec<_>>().join("---\n");
    mesh.recatalog(&end)?;
    eventually(SETTLE, "the stranger withdrawn", || -> Result<()> {
        let status = mesh.status(0)?;
        if status.workloads.iter().any(|w| w.class == "unidentified") { Ok(()) } else { bail!("{:?}", status.workloads) }
    })?;
    assert_eq!(watchers(&node, &links)?.len(), 3);
    check("wit", &stranger, &[])?;
    check("wic", &client, &GRANTED)?;
    sleeper.kill9();

    mesh.agents[0].forget()?;
    assert_eq!(watchers(&node, &links)?, []);
    Ok(())
}

#[test]
fn without_a_veth_nothing_in_the_workload_may_make_packet_sockets() -> Result<()> {
    let mut mesh = Mesh::start("onlysock", &MeshOptions { agents_wait: true, ..MeshOptions::default() })?;
    // A second interface that is no veth, as a runtime with several networks gives.
    for pod in ["client", "stranger"] {
        let place = mesh.pod(pod).place();
        mesh.nodes[0].place().ip(&format!("link add link pods name mv0 netns {} type macvlan", place.netns_name()))?;
    }
    let _raw = mesh.pod("client").place().spawn("root", &["sleep", "600"])?;
    let _plain = mesh.pod("stranger").place().spawn("plain", &["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", "sleep", "600"])?;
    let _with_veth = mesh.pod("server").place().spawn("root", &["sleep", "600"])?;
    for agent in &mut mesh.agents {
        agent.run()?;
    }
    eventually(SETTLE, "one refused, one enrolled at its sockets only, one whole", || -> Result<()> {
        let status = mesh.status(0)?;
        let of = |name: &str| status.workloads.iter().find(|w| w.uid.contains(name)).cloned().with_context(|| format!("{name}: {:?}", status.workloads));
        let (refused, only, whole) = (of("client")?, of("stranger")?, of("server")?);
        let is = refused.class == "unidentified" && refused.problem.contains("CAP_NET_RAW") && refused.problem.contains("mv0 (macvlan)");
        let is = is && only.enrolled_in_kernel && only.enforced == "sockets only" && only.enforced_why.contains("mv0 (macvlan)");
        if is && whole.enrolled_in_kernel && whole.enforced == "packets and sockets" { Ok(()) } else { bail!("{refused:?}\n{only:?}\n{whole:?}") }
    })?;
    Ok(())
}

#[test]
fn an_echo_is_asked_of_who_a_grant_names() -> Result<()> {
    let mesh = Mesh::start("echo", &MeshOptions::default())?;
    let (client, stranger, server, far) = (mesh.pod("client"), mesh.pod("stranger"), mesh.pod("server"), mesh.pod("far"));
    for pod in [client, stranger, server] {
        let outside = pod.place().in_cgroup(&pod.node().cgroup().join("outside/sysctl"))?;
        outside.check(&["sh", "-c", "echo '0 0' >/proc/sys/net/ipv4/ping_group_range"], Duration::from_secs(10))?;
    }
    for (from, to, granted) in [(client, server, true), (client, far, true), (stranger, server, false), (stranger, far, false), (server, client, false)] {
        for address in [to.v4().to_string(), to.v6().to_string()] {
            let seen = probe(from.place(), "echo", &address, 0, "ping")?;
            let case = format!("{} → {address}: {seen:?}", from.place().name());
            // The kernel keeps the refusal of an ICMPv6 echo to itself: the answer does not come.
            let refused = if address.contains(':') { 110 } else { 1 };
            assert_eq!((seen.ok, seen.errno), if granted { (true, 0) } else { (false, refused) }, "{case}");
            assert_eq!(seen.data, if granted { "ping" } else { "" }, "{case}");
        }
    }
    // What a raw socket could make of it nobody gets.
    assert!(!probe(client.place(), "raw", &server.v4().to_string(), 0, "x")?.ok);
    Ok(())
}

#[test]
fn the_granted_ways_work_as_before() -> Result<()> {
    let mesh = Mesh::start("asbefore", &MeshOptions::default())?;
    let (client, server, far) = (mesh.pod("client"), mesh.pod("server"), mesh.pod("far"));
    let (node, links) = (mesh.nodes[0].clone(), mesh.links(0));
    {
        let (_near, _far) = (Server::start(server.place(), "near", PORT)?, Server::start(far.place(), "far", PORT)?);
        for to in [server.v4().to_string(), server.v6().to_string(), far.v4().to_string(), far.v6().to_string()] {
            let seen = probe(client.place(), "tcp", &to, PORT, "hello")?;
            assert!(seen.ok, "{to}: {seen:?}\n{}", mesh.logs());
        }
    }
    // Figures only: the same pair, with the program and without it, by turns.
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let with = ping_pong(server.place(), client.place(), &server.v4().to_string(), PORT, 10_000)?;
        for watcher in watchers(&node, &links)? {
            watcher.take_off(&node)?;
        }
        let without = ping_pong(server.place(), client.place(), &server.v4().to_string(), PORT, 10_000)?;
        rounds.push((with, without, watchers(&node, &links)?.is_empty()));
        eventually(Duration::from_secs(30), "the programs back", || -> Result<()> {
            if watchers(&node, &links)?.len() == 3 { Ok(()) } else { bail!("not yet") }
        })?;
    }
    for (with, without, bare) in rounds {
        println!(
            "ping-pong, same node: p50 {:.1} µs, p99 {:.1} with; p50 {:.1}, p99 {:.1} without{}",
            with.0,
            with.1,
            without.0,
            without.1,
            if bare { "" } else { " (came back meanwhile)" }
        );
    }
    Ok(())
}
