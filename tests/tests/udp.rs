//! Datagrams between workloads: on one node there and back by a grant, whatever they are dialled by; nobody else's; between nodes none.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, bail};
use weft_lab::{Capture, Inventory, eventually};
use weft_tests::{
    Mesh, MeshOptions, SETTLE, SHOP, Server, probe,
    udp::{How, ask, serve, start, udp},
};

const EPERM: i32 = 1;
const TIMED_OUT: i32 = 110;
/// Service port and target port of the UDP port.
const DIALLED: u16 = 53;
const BOUND: u16 = 5353;

/// `client` may ask `server` and `far` by UDP too; `stranger` may not.
fn shop() -> String {
    let udp = |name: &str, text: String| {
        let at = text.find(&format!("metadata: {{ name: {name},")).unwrap();
        let (head, tail) = text.split_at(at);
        head.to_owned() + &tail.replacen("targetPort: 8080 } ]", "targetPort: 8080 }, { name: names, port: 53, targetPort: 5353, protocol: UDP } ]", 1)
    };
    let text = udp("far", udp("server", SHOP.to_owned()));
    text.replace("{ service: far, port: web } ]", "{ service: far, port: web }, { service: server, port: names }, { service: far, port: names } ]")
}

fn mesh(tag: &str) -> Result<Mesh> {
    Mesh::start(tag, &MeshOptions { catalog: shop(), ..MeshOptions::default() })
}

fn mapped(address: &str) -> String {
    format!("::ffff:{address}")
}

#[test]
fn a_grant_carries_datagrams_there_and_back_on_one_node() -> Result<()> {
    let mesh = mesh("udp")?;
    let (before, _held) = (mesh.lab.before().clone(), mesh.lab.hold()?);
    let (client, stranger, server) = (mesh.pod("client"), mesh.pod("stranger"), mesh.pod("server"));
    let process = serve(server.place(), "near", BOUND, "plain")?;
    let vip = mesh.vip("shop/server")?.to_string();
    let (v4, v6) = (server.v4().to_string(), server.v6().to_string());
    for (number, (address, port)) in
        [(vip.clone(), DIALLED), (v4.clone(), BOUND), (v6, BOUND), (mapped(&vip), DIALLED), (mapped(&v4), BOUND)].into_iter().enumerate()
    {
        for how in How::ALL {
            let case = format!("{how:?} to {address}:{port}");
            let (granted, denied) = (format!("<granted {number} {how:?}>"), format!("<denied {number} {how:?}>"));
            let seen = ask(client.place(), how, &address, port, &["first", &granted])?;
            assert!(seen.ok, "{case}: {seen:?}\n{}", mesh.logs());
            // Both ends see what they would without a mesh: the client whom it dialled, the server its true caller.
            let own = if address.contains(':') && !address.contains("ffff") { client.v6().to_string() } else { client.v4().to_string() };
            assert!(seen.data.starts_with(&format!("near {own} ")) && seen.data.ends_with(&granted), "{case}: {seen:?}");
            assert_eq!((seen.from.as_str(), seen.from_port), (address.as_str(), port), "{case}: {seen:?}");
            if how != How::SendTo {
                assert_eq!(seen.peer, format!("{address} {port}"), "{case}");
            }
            let seen = ask(stranger.place(), how, &address, port, &[&denied])?;
            assert_eq!((seen.ok, seen.errno, seen.connected), (false, EPERM, how != How::SendTo), "{case}: {seen:?}");
            let log = process.log();
            assert!(log.contains(&granted) && !log.contains(&denied), "{case}: {log}");
        }
    }
    // Another port of the same server, and the same one by TCP, are other grants.
    assert_eq!(ask(client.place(), How::SendTo, &v4, BOUND + 1, &["x"])?.errno, EPERM);
    assert_eq!(probe(client.place(), "tcp", &v4, BOUND, "x")?.errno, EPERM);

    // What a resolver does to sort addresses works for everybody; it sends nothing.
    for pod in [client, stranger] {
        assert_eq!(udp(pod.place(), &["sort", &v4, "53"])?, pod.v4().to_string());
    }

    // Two servers in flight on one socket: each answer comes from the one that was dialled, by its own name.
    let vip_port = DIALLED.to_string();
    let bound = BOUND.to_string();
    let _other = serve(client.place(), "own", BOUND + 2, "plain")?;
    let said: Vec<Vec<String>> =
        serde_json::from_str(&udp(client.place(), &["both", "127.0.0.1", &(BOUND + 2).to_string(), "127.0.0.1", &(BOUND + 2).to_string()])?)?;
    assert!(said.iter().all(|s| s[0] == "own" && s[1] == "127.0.0.1"), "within a namespace of one identity: {said:?}");
    let said: Vec<Vec<String>> = serde_json::from_str(&udp(client.place(), &["both", &v4, &bound, &v4, &bound])?)?;
    assert!(said.iter().all(|s| *s == ["near", &v4, &bound]), "{said:?}");
    let said: Vec<Vec<String>> = serde_json::from_str(&udp(client.place(), &["both", &vip, &vip_port, &vip, &vip_port])?)?;
    assert!(said.iter().all(|s| *s == ["near", &vip, &vip_port]), "{said:?}");

    for (source, verdict, reason) in [("shop/client", "allow", "grant"), ("shop/stranger", "deny", "no-grant")] {
        eventually(SETTLE, reason, || -> Result<()> {
            let flows = mesh.flows(0)?;
            let told = flows.iter().find(|f| f.source == source && f.verdict == verdict && f.reason == reason && f.protocol == "UDP");
            told.map(drop).with_context(|| format!("{source}: {flows:?}"))
        })?;
    }
    drop(process);
    drop(_other);
    drop(mesh);
    Inventory::take().same_as(&before).map_err(anyhow::Error::msg)
}

#[test]
fn a_server_that_connects_gets_the_rest_of_the_conversation() -> Result<()> {
    let mesh = mesh("udpconn")?;
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    let process = serve(server.place(), "near", BOUND, "connected")?;
    let vip = mesh.vip("shop/server")?.to_string();
    let seen = ask(client.place(), How::Connect, &vip, DIALLED, &["first", "second"])?;
    assert!(seen.ok && seen.data == "more second", "{seen:?}\n{}\n{}", process.log(), mesh.logs());
    Ok(())
}

#[test]
fn between_nodes_there_are_no_datagrams_and_the_reason_is_told() -> Result<()> {
    let mesh = mesh("udpfar")?;
    let (client, far) = (mesh.pod("client"), mesh.pod("far"));
    let process = serve(far.place(), "far", BOUND, "plain")?;
    let capture = Capture::start(mesh.lab.wire(), "udpwire", "wire", "")?;
    let vip = mesh.vip("shop/far")?.to_string();
    for (address, port) in [(vip, DIALLED), (far.v4().to_string(), BOUND), (far.v6().to_string(), BOUND)] {
        for how in How::ALL {
            let seen = ask(client.place(), how, &address, port, &["<to another node>"])?;
            assert_eq!((seen.ok, seen.errno, seen.connected), (false, EPERM, how != How::SendTo), "{how:?} {address}: {seen:?}");
        }
    }
    // Control: who is not enrolled may put it onto the wire; the workload there refuses it.
    let outsider = mesh.outsider(0, "plain")?;
    assert_eq!(ask(outsider.place(), How::SendTo, &far.v4().to_string(), BOUND, &["<of an outsider>"])?.errno, TIMED_OUT);
    capture.wait_for("the outsider's datagram", |p| p.payload.windows(16).any(|w| w == b"<of an outsider>"))?;
    let seen = capture.stop()?;
    assert!(!seen.contains(b"<to another node>"), "{}", seen.file.display());
    assert!(!process.log().contains("got"), "{}", process.log());

    let told = eventually(SETTLE, "the reason in a flow", || {
        let flows = mesh.flows(0)?;
        let told = flows.into_iter().find(|f| f.source == "shop/client" && f.verdict == "deny" && f.reason == "other-node" && f.protocol == "UDP");
        told.context("none")
    })?;
    assert!(told.detail.contains("shop/client runs on a, shop/far on b"), "{told:?}");
    let socket = mesh.agents[0].socket().display().to_string();
    let weft = weft_lab::bin("weft")?.display().to_string();
    let say = |args: &[&str]| -> Result<String> {
        let said = mesh.nodes[0].place().output(&[&[weft.as_str(), "--agent", &socket], args].concat(), Duration::from_secs(20))?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr))
    };
    let can = say(&["can", "shop/client", "shop/far:names"])?;
    assert!(can.contains("deny") && can.contains("other-node"), "{can}");
    let can = say(&["can", "shop/client", "shop/server:names"])?;
    assert!(can.contains("allow"), "{can}");
    let why = say(&["why", &told.id])?;
    assert!(why.contains("other-node") && why.contains("datagrams"), "{why}");
    Ok(())
}

#[test]
fn nobody_else_gets_a_datagram_in_whatever_address_it_writes() -> Result<()> {
    let mesh = mesh("udpforge")?;
    let (client, stranger, server) = (mesh.pod("client"), mesh.pod("stranger"), mesh.pod("server"));
    let outsider = mesh.outsider(0, "plain")?;
    let process = serve(server.place(), "near", BOUND, "plain")?;
    let beating = start(client.place(), &["beat", &server.v4().to_string(), &BOUND.to_string()], "alive")?;
    let own = beating.log().lines().find_map(|l| l.strip_prefix("own ").map(str::to_owned)).context("no own name")?;
    let (own, own_port) = own.split_once(' ').context("no port")?;
    let (v4, bound) = (server.v4().to_string(), BOUND.to_string());

    // As itself, then under the name of the very flow that is alive: to the server as the client, to the client as the server.
    assert_eq!(ask(outsider.place(), How::SendTo, &v4, BOUND, &["<plainly>"])?.errno, TIMED_OUT);
    let refused = |mesh: &Mesh| -> Result<u64> { Ok(mesh.status(0)?.counters["datagram_refused"]) };
    let before = refused(&mesh)?;
    udp(outsider.place(), &["forge", own, own_port, &v4, &bound, "<forged>"])?;
    udp(outsider.place(), &["forge", &v4, &bound, own, own_port, "<forged>"])?;
    eventually(SETTLE, "six forged datagrams refused", || {
        let now = refused(&mesh)? - before;
        if now >= 6 { Ok(()) } else { bail!("{now}") }
    })?;
    // Control: the same datagrams reach who is not enrolled, so that it was not their making that kept them away.
    let open = mesh.outsider(0, "open")?;
    let heard = serve(open.place(), "open", BOUND, "plain")?;
    udp(outsider.place(), &["forge", own, own_port, &open.v4().to_string(), &bound, "<forged>"])?;
    eventually(SETTLE, "the forged datagram at an outsider", || if heard.log().contains("<forged>") { Ok(()) } else { bail!("{}", heard.log()) })?;
    let log = process.log();
    assert!(!log.contains("<forged>") && !log.contains("<plainly>"), "{log}");
    assert!(!beating.log().contains("failed"), "{}", beating.log());

    // A server answers whom it was asked by, and speaks with nobody else: not to the client's other ports, not to the stranger.
    let beats = beating.log().lines().filter(|l| *l == "alive").count();
    assert_eq!(ask(server.place(), How::SendTo, own, 40_001, &["x"])?.errno, EPERM);
    assert_eq!(ask(server.place(), How::SendTo, own, own_port.parse()?, &["x"])?.errno, EPERM, "from another port than the one that was asked");
    assert_eq!(ask(server.place(), How::SendTo, &stranger.v4().to_string(), BOUND, &["x"])?.errno, EPERM);
    eventually(
        SETTLE,
        "the conversation going on",
        || if beating.log().lines().filter(|l| *l == "alive").count() > beats { Ok(()) } else { bail!("not yet") },
    )?;

    eventually(SETTLE, "the refusal in a flow", || {
        let flows = mesh.flows(0)?;
        let told = flows.iter().find(|f| f.reason == "unattested" && f.protocol == "UDP" && f.point == "kernel-in" && f.destination == "shop/server");
        told.map(drop).with_context(|| format!("{:?}", flows.iter().map(|f| (&f.reason, &f.protocol, &f.destination)).collect::<BTreeSet<_>>()))
    })?;
    Ok(())
}

#[test]
fn a_revoked_grant_ends_the_conversation_both_ways() -> Result<()> {
    let mesh = mesh("udprevoke")?;
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    let pushing = serve(server.place(), "near", BOUND, "push")?;
    let waiting = serve(client.place(), "unused", BOUND + 1, "plain")?;
    let vip = mesh.vip("shop/server")?.to_string();
    let beating = start(client.place(), &["beat", &vip, &DIALLED.to_string()], "alive")?;
    eventually(SETTLE, "the server pushing", || if pushing.log().contains("pushed") { Ok(()) } else { bail!("{}", pushing.log()) })?;
    mesh.recatalog(&shop().replace(", { service: server, port: names }", ""))?;
    let ended = |log: String, good: &str, bad: &[&str]| -> Result<()> {
        let last: Vec<_> = log.lines().rev().take(5).collect();
        if last.len() == 5 && last.iter().all(|l| bad.contains(l)) { Ok(()) } else { bail!("{last:?}, without end: {good}") }
    };
    // EPERM of the datagram, or first what ends a connected socket and then that it is connected no more.
    eventually(SETTLE, "the client refused", || ended(beating.log(), "alive", &["failed 1", "failed 103", "failed 89"]))?;
    eventually(SETTLE, "the server refused", || ended(pushing.log(), "pushed", &["refused 1"]))?;
    assert_eq!(ask(client.place(), How::SendTo, &vip, DIALLED, &["x"])?.errno, EPERM);
    drop(waiting);
    // Granted again, it begins anew.
    mesh.recatalog(&shop())?;
    let again = ask(client.place(), How::SendTo, &vip, DIALLED, &["x"])?;
    assert!(again.ok || again.errno == TIMED_OUT, "{again:?}");
    Ok(())
}

#[test]
fn a_full_table_refuses_and_what_is_idle_makes_room() -> Result<()> {
    let mesh = mesh("udpfull")?;
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    let process = serve(server.place(), "near", BOUND, "push")?;
    let v4 = server.v4().to_string();
    assert!(ask(client.place(), How::SendTo, &v4, BOUND, &["x"])?.ok);
    // The client is gone; the server's pushes keep the flow alive until it goes too.
    let pinned = mesh.pinned(0)?;
    let flow = pinned.datagrams()?;
    assert_eq!(flow.len(), 1, "{flow:?}");
    drop(process);

    let filled = pinned.fill_datagrams()?;
    assert!(filled > 60_000, "{filled}");
    let refused = ask(client.place(), How::SendTo, &v4, BOUND, &["x"])?;
    assert_eq!((refused.ok, refused.errno), (false, EPERM), "{refused:?}");
    assert!(mesh.status(0)?.counters["datagram_full"] > 0);
    let _again = serve(server.place(), "near", BOUND, "plain")?;
    pinned.forget_filling()?;
    let seen = ask(client.place(), How::SendTo, &v4, BOUND, &["x"])?;
    assert!(seen.ok, "{seen:?}");
    // Records end with their idleness; one that is used stays.
    let _beating = start(client.place(), &["beat", &v4, &BOUND.to_string()], "alive")?;
    eventually(Duration::from_secs(120), "one flow left of three", || {
        let left = pinned.datagrams()?.len();
        if left == 1 { Ok(()) } else { bail!("{left}") }
    })?;
    Ok(())
}

#[test]
fn datagrams_outlive_the_agent() -> Result<()> {
    let mut mesh = mesh("udpkill")?;
    let (client, server) = (mesh.pod("client").clone(), mesh.pod("server").clone());
    let _process = serve(server.place(), "near", BOUND, "plain")?;
    let _tcp = Server::start(server.place(), "near", 8080)?;
    let vip = mesh.vip("shop/server")?.to_string();
    let beating = start(client.place(), &["beat", &vip, &DIALLED.to_string()], "alive")?;
    let check = |what: &str| -> Result<()> {
        let seen = ask(client.place(), How::SendTo, &vip, DIALLED, &[what])?;
        assert!(seen.ok, "{what}: {seen:?}");
        assert!(!beating.log().contains("failed"), "{what}: {}", beating.log());
        Ok(())
    };
    mesh.agents[0].kill9();
    check("killed")?;
    mesh.agents[0].run()?;
    mesh.settled()?;
    check("back")?;
    // Somebody takes what judges arrivals off the veths (where the kernel has links for that): it comes back.
    let links = mesh.links(0);
    let arrivals = || -> Result<Vec<std::path::PathBuf>> {
        let all = std::fs::read_dir(&links)?.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("arrival-"))).collect())
    };
    let before = arrivals()?;
    for link in &before {
        std::fs::remove_file(link)?;
    }
    eventually(SETTLE, "what judges arrivals back on the veths", || if arrivals()?.len() == before.len() { Ok(()) } else { bail!("not yet") })?;
    eventually(SETTLE, "datagrams again", || check("repaired"))?;
    Ok(())
}
