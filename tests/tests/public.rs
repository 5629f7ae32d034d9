//! Everybody may come in at the gateway's public ports, enrolled or not; at no other port, and to no other workload. What goes out is judged as ever.

use std::{fs, net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use weft_lab::{Machine, Place, eventually};
use weft_tests::{
    Held, Mesh, MeshOptions, Outcome, SETTLE, SHOP, Server,
    kinds::reaches,
    packets::{Aim, arrived, capture_at, send_frames},
    probe,
    proofs::holds,
};

const LISTEN: u16 = 8443;
const REDIRECT: u16 = 8080;
const MOVED: u16 = 9443;
/// Of the back channel: declared, granted to the local provider, and open to nobody else.
const BACKCHANNEL: u16 = 15014;
const SOON: Duration = Duration::from_secs(5);
const EPERM: i32 = 1;
const ECONNREFUSED: i32 = 111;

/// The shop, of which `server` is exposed so that there is a gateway. `ports` are those of the Mesh.
fn catalog(ports: &str) -> String {
    let exposed = "{ name: server, namespace: shop }\nspec:\n  type: application\n  owner: shop\n";
    SHOP.replace("serviceRange: 100.64.0.0/16", &format!("serviceRange: 100.64.0.0/16, baseDomain: apps.corp.example, {ports}"))
        .replace(exposed, &format!("{exposed}  expose: [ {{ port: web, access: {{ public: true }} }} ]\n"))
}

fn both() -> String {
    catalog("publicPort: 443, listenPort: 8443, redirectPort: 8080")
}

/// The gateway's pod `door` and the others on a, one of the shop on b; and people, on a machine that knows nothing of the mesh.
fn start(tag: &str, door: bool) -> Result<(Mesh, Machine)> {
    let mut workloads = vec![("a", "client", "shop/client"), ("a", "stranger", "shop/stranger"), ("a", "server", "shop/server"), ("b", "far", "shop/far")];
    workloads.extend(door.then_some(("a", "door", "weft/gateway")));
    let may_run = vec![("a", "shop/*"), ("a", "weft/gateway"), ("b", "shop/*")];
    let mut mesh = Mesh::start(tag, &MeshOptions { catalog: both(), workloads, may_run, ..MeshOptions::default() })?;
    let people = mesh.lab.machine("people", &[])?;
    Ok((mesh, people))
}

/// The address in all the forms that it is dialled in.
fn forms(v4: impl ToString, v6: impl ToString) -> [String; 3] {
    [v4.to_string(), v6.to_string(), format!("::ffff:{}", v4.to_string())]
}

#[track_caller]
fn answered(from: &Place, to: &str, port: u16, marker: &str, mesh: &Mesh) -> Result<Outcome> {
    let got = probe(from, "tcp", to, port, marker)?;
    assert!(got.ok && got.data.ends_with(marker), "{marker}: {} → {to}:{port}: {got:?}\n{}", from.name(), mesh.logs());
    Ok(got)
}

/// Not answered, in whatever way.
#[track_caller]
fn refused(from: &Place, to: &str, port: u16, marker: &str) -> Result<()> {
    let got = probe(from, "tcp", to, port, marker)?;
    assert!(!got.ok, "{marker}: {} → {to}:{port}: {got:?}", from.name());
    Ok(())
}

/// All of them, side by side: where nothing answers, each waits for its time to be up.
fn refused_all(all: &[(&Place, &str, u16)], marker: &str) -> Result<()> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = all.iter().map(|(from, to, port)| scope.spawn(move || refused(from, to, *port, marker))).collect();
        asked.into_iter().try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Refused at once, and by policy.
#[track_caller]
fn denied(from: &Place, to: &str, port: u16) -> Result<()> {
    let got = probe(from, "tcp", to, port, "denied")?;
    assert_eq!((got.ok, got.errno), (false, EPERM), "{} → {to}:{port}: {got:?}", from.name());
    Ok(())
}

fn ended(held: &Held, count: usize, what: &str, mesh: &Mesh) -> Result<()> {
    held.wait_for_ends(count, SOON).map(drop).with_context(|| format!("{what} lives on\n{}", mesh.logs()))
}

fn goes_on(held: &Held, what: &str, mesh: &Mesh) -> Result<()> {
    let before = held.beats();
    Ok(eventually(SETTLE, &format!("{what} goes on"), || {
        if held.beats() > before + 1 && held.ends().is_empty() { Ok(()) } else { bail!("{}\n{}", held.log(), mesh.logs()) }
    })?)
}

#[test]
fn anybody_reaches_the_public_ports_of_the_gateway_and_nothing_else() -> Result<()> {
    let (mut mesh, people) = start("public", true)?;
    let door = mesh.pod("door").clone();
    let near = mesh.outsider(0, "near")?;
    let over_there = mesh.outsider(1, "there")?;
    let node = mesh.nodes[0].clone();
    let host = node.place();
    let _open = [Server::start(door.place(), "door", LISTEN)?, Server::start(door.place(), "door-http", REDIRECT)?];
    let shut = [
        Server::start(door.place(), "door-else", 9000)?,
        Server::start(door.place(), "door-back", BACKCHANNEL)?,
        Server::start(mesh.pod("stranger").place(), "stranger", LISTEN)?,
        Server::start(mesh.pod("server").place(), "server", REDIRECT)?,
    ];
    let strangers: [(&Place, IpAddr, IpAddr); 4] = [
        (people.place(), people.v4().into(), people.v6().into()),
        (near.place(), near.v4().into(), near.v6().into()),
        (over_there.place(), over_there.v4().into(), over_there.v6().into()),
        (host, [10, 77, 1, 1].into(), "fd77:0:0:1::1".parse()?),
    ];
    let check = |mesh: &Mesh, when: &str| -> Result<()> {
        for (n, (from, own4, own6)) in strangers.iter().enumerate() {
            for to in forms(door.v4(), door.v6()) {
                for port in [LISTEN, REDIRECT] {
                    let got = answered(from, &to, port, &format!("{when}-open-{n}"), mesh)?;
                    let own = if to.starts_with("fd") { own6 } else { own4 };
                    assert!(got.data.contains(&own.to_string()), "not the true caller: {got:?}");
                }
            }
        }
        for (n, (from, ..)) in strangers.iter().enumerate() {
            let stranger = mesh.pod("stranger");
            for to in [door.v4().to_string(), door.v6().to_string()] {
                for port in [9000, BACKCHANNEL] {
                    refused(from, &to, port, &format!("{when}-other-port-{n}"))?;
                }
            }
            for to in [stranger.v4().to_string(), stranger.v6().to_string()] {
                refused(from, &to, LISTEN, &format!("{when}-other-service-{n}"))?;
            }
            refused(from, &mesh.pod("server").v4().to_string(), REDIRECT, &format!("{when}-exposed-{n}"))?;
        }
        for server in &shut {
            assert!(!server.got(&format!("{when}-")), "{}", fs::read_to_string(server.log_path())?);
        }
        Ok(())
    };
    check(&mesh, "running")?;

    // Nobody of the mesh, but told of; and told what is open.
    let status = mesh.status(0)?;
    for w in &status.workloads {
        assert_eq!(w.public_ports, if w.service == "weft/gateway" { vec![u32::from(REDIRECT), u32::from(LISTEN)] } else { vec![] }, "{w:?}");
    }
    let flows = mesh.flows(0)?;
    let told = flows.iter().find(|f| f.reason == "public" && f.address == people.v4().to_string() && f.port == u32::from(LISTEN));
    let told = told.with_context(|| format!("{flows:#?}"))?;
    let said = (told.point.as_str(), told.verdict.as_str(), told.source.as_str(), told.destination.as_str(), told.path.as_str(), told.workload.as_str());
    assert_eq!(said, ("kernel-in", "allow", "", "weft/gateway", "public", "door"), "{told:?}");
    assert!(flows.iter().any(|f| f.reason == "unattested" && f.address == people.v4().to_string() && f.port == 9000 && f.verdict == "deny"), "{flows:#?}");
    let (weft, socket) = (weft_lab::bin("weft")?.display().to_string(), mesh.agents[0].socket().display().to_string());
    let ask = |args: &[&str]| -> Result<String> {
        let argv: Vec<&str> = [weft.as_str(), "--agent", &socket].into_iter().chain(args.iter().copied()).collect();
        let out = host.output(&argv, SETTLE)?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
    };
    let shown = ask(&["flows", "--last", "200"])?;
    assert!(shown.lines().any(|l| l.contains("public") && l.contains("weft/gateway")), "{shown}");
    let why = ask(&["why", &told.id])?;
    assert!(why.contains("public") && why.contains("open to everybody"), "{why}");
    let shown = ask(&["status"])?;
    assert!(shown.contains("8080, 8443"), "{shown}");
    // What is not public is proven to be refused, as everywhere.
    let (proofs, _) = mesh.prove()?;
    assert!(holds(&proofs["door"].0) && holds(&proofs["door"].1), "{proofs:#?}");

    // Datagrams are none of it.
    probe(people.place(), "udp", &door.v4().to_string(), LISTEN, "datagram")?;
    // A workload's way out needs a grant, and there is none for these ports.
    let vip = mesh.vip("weft/gateway")?.to_string();
    for pod in ["stranger", "client"] {
        for (to, port) in [
            (door.v4().to_string(), LISTEN),
            (door.v6().to_string(), REDIRECT),
            (format!("::ffff:{}", door.v4()), LISTEN),
            (vip.clone(), LISTEN),
            (vip.clone(), 80),
        ] {
            denied(mesh.pod(pod).place(), &to, port)?;
        }
    }
    denied(mesh.pod("far").place(), &door.v4().to_string(), LISTEN)?;
    let can = ask(&["can", "shop/stranger", "weft/gateway:8443"])?;
    assert!(can.contains("deny") && can.contains("where people come in from outside"), "{can}");
    let can = ask(&["can", "weft/iam-bridge", "weft/gateway:backchannel"])?;
    assert!(can.contains("allow") && can.contains("built-in rule"), "{can}");

    // What is open stays, and what is shut too, with nobody there; and when the agent is back, whoever was in goes on.
    let inside = [Held::beating(people.place(), &door.v4().to_string(), REDIRECT)?, Held::beating(people.place(), &door.v6().to_string(), LISTEN)?];
    mesh.agents[0].kill9();
    check(&mesh, "killed")?;
    for held in &inside {
        goes_on(held, "a connection with the agent killed", &mesh)?;
    }
    mesh.agents[0].run()?;
    mesh.settled()?;
    for held in &inside {
        goes_on(held, "a connection over a new agent's enrolment", &mesh)?;
    }
    for server in &_open {
        assert!(!server.got("datagram"), "a datagram came in");
    }
    check(&mesh, "again")
}

#[test]
fn a_revision_that_moves_a_port_shuts_the_old_one_and_ends_who_came_in_there() -> Result<()> {
    let (mut mesh, people) = start("moved", true)?;
    let door = mesh.pod("door").clone();
    let (v4, v6) = (door.v4().to_string(), door.v6().to_string());
    let (open, also, next) = (Held::serve(door.place(), LISTEN)?, Held::serve(door.place(), REDIRECT)?, Held::serve(door.place(), MOVED)?);
    let from = people.place();
    let (in4, in6, stays) = (Held::beating(from, &v4, LISTEN)?, Held::beating(from, &v6, LISTEN)?, Held::beating(from, &v4, REDIRECT)?);
    // Refused at once. What holds connections answers no probe, so one that came in would wait.
    let shut = |to: &str, port| -> Result<()> {
        let got = probe(from, "tcp", to, port, "shut")?;
        if got.errno == ECONNREFUSED { Ok(()) } else { bail!("{to}:{port} is open: {got:?}") }
    };
    shut(&v4, MOVED)?;

    mesh.recatalog(&catalog("publicPort: 443, listenPort: 9443, redirectPort: 8080"))?;
    for held in [&in4, &in6] {
        ended(held, 1, "who came in at a port that is shut", &mesh)?;
    }
    ended(&open, 2, "the gateway's side", &mesh)?;
    shut(&v4, LISTEN)?;
    shut(&v6, LISTEN)?;
    goes_on(&stays, "who came in at a port that stays", &mesh)?;
    let moved = Held::beating(from, &v4, MOVED)?;
    let told = |flows: &[weft_api::agent::v1::Flow]| {
        let closed = |f: &&weft_api::agent::v1::Flow| f.reason == "public" && f.port == u32::from(LISTEN) && f.duration_us > 0;
        flows.iter().filter(closed).filter(|f| f.detail.starts_with("revoked: the port is not open to everybody any more") && f.point == "kernel-in").count()
    };
    let flows = mesh.flows(0)?;
    assert_eq!(told(&flows), 2, "{flows:#?}");
    let port = mesh.status(0)?.workloads.iter().find(|w| w.uid == "door").map(|w| w.public_ports.clone());
    assert_eq!(port, Some(vec![u32::from(REDIRECT), u32::from(MOVED)]));

    // It goes away altogether.
    mesh.recatalog(&catalog("publicPort: 443, listenPort: 9443"))?;
    ended(&stays, 1, "who came in at a port that is gone", &mesh)?;
    ended(&also, 1, "the gateway's side of it", &mesh)?;
    shut(&v4, REDIRECT)?;
    goes_on(&moved, "who came in at the port that is left", &mesh)?;

    // And while no agent was there: the next one finds out.
    mesh.agents[0].kill9();
    fs::write(mesh.catalog.join("mesh.yaml"), both())?;
    goes_on(&moved, "a connection with the agent killed", &mesh)?;
    mesh.agents[0].run()?;
    ended(&moved, 1, "who came in at a port that was moved while no agent ran", &mesh).or_else(|_| ended(&moved, 1, "who came in before", &mesh))?;
    ended(&next, 1, "the gateway's side of it", &mesh)?;
    let got = eventually(SETTLE, "the port that is open again", || Held::beating(from, &v4, LISTEN))?;
    goes_on(&got, "who came in at the port that is open again", &mesh)?;

    // The gateway itself goes: whoever was in goes with it.
    mesh.recatalog(SHOP)?;
    eventually(SETTLE, "the gateway withdrawn", || {
        let class = mesh.status(0)?.workloads.iter().find(|w| w.uid == "door").map(|w| w.class.clone());
        if class.as_deref() == Some("unidentified") { Ok(()) } else { bail!("{class:?}") }
    })?;
    // What is withdrawn says nothing, not even that it refuses.
    assert!(Held::dial(from, &v4, LISTEN, 1).is_err(), "a gateway that is withdrawn is open");
    ended(&open, 3, "the gateway's side when it is withdrawn", &mesh)
}

#[test]
fn where_several_share_a_namespace_only_what_the_gateways_cgroup_has_bound_is_public() -> Result<()> {
    let (mut mesh, people) = start("pubduo", false)?;
    let duo = mesh.nodes[0].pod("duo")?;
    let (netns, duo_v4) = (duo.place().netns().display().to_string(), duo.v4().to_string());
    let (door, other) = (mesh.inside(0, duo.place(), "weft.slice/duo-door")?, mesh.inside(0, duo.place(), "weft.slice/duo-other")?);
    mesh.enrol(0, "door", "weft/gateway", "weft.slice/duo-door", &netns)?;
    mesh.enrol(0, "other", "shop/stranger", "weft.slice/duo-other", &netns)?;
    let mut open = Server::start(&door, "door", LISTEN)?;
    let shut = [Server::start(&door, "door-else", 9000)?, Server::start(&other, "other", REDIRECT)?];
    let check = |mesh: &Mesh, when: &str| -> Result<()> {
        for to in forms(duo.v4(), duo.v6()) {
            let got = reaches(people.place(), &to, LISTEN, when).with_context(|| mesh.logs())?;
            assert!(got.data.starts_with("door "), "{got:?}");
        }
        // The second is the number of a public port, and another's listener.
        let (v4, v6) = (duo.v4().to_string(), duo.v6().to_string());
        let all: Vec<_> = [&v4, &v6].iter().flat_map(|to| [9000, REDIRECT].map(|port| (people.place(), to.as_str(), port))).collect();
        refused_all(&all, &format!("{when}-shut"))?;
        for server in &shut {
            assert!(!server.got(when), "{}", fs::read_to_string(server.log_path())?);
        }
        Ok(())
    };
    check(&mesh, "running")?;
    denied(&other, "127.0.0.1", LISTEN)?;
    denied(&other, &duo.v4().to_string(), LISTEN)?;
    let inside = Held::beating(people.place(), &duo.v4().to_string(), LISTEN)?;
    mesh.agents[0].kill9();
    check(&mesh, "killed")?;
    goes_on(&inside, "a connection with the agent killed", &mesh)?;
    mesh.agents[0].run()?;
    goes_on(&inside, "a connection over a new agent's enrolment", &mesh)?;
    mesh.recatalog(&catalog("publicPort: 443, listenPort: 9443, redirectPort: 8080"))?;
    ended(&inside, 1, "who came in at a port that is shut", &mesh)?;
    refused(people.place(), &duo.v4().to_string(), LISTEN, "shut")?;

    // The gateway lets go of its port, and a neighbour takes it.
    mesh.recatalog(&both())?;
    reaches(people.place(), &duo.v4().to_string(), LISTEN, "open again").with_context(|| mesh.logs())?;
    open.stop();
    let taken = Server::start(&other, "taken", LISTEN)?;
    refused_all(&[people.place(); 4].map(|from| (from, duo_v4.as_str(), LISTEN)), "taken")?;
    assert!(!taken.got("taken"), "{}", fs::read_to_string(taken.log_path())?);
    Ok(())
}

#[test]
fn the_gateway_on_the_hosts_network_is_open_at_its_ports_and_the_host_is_left_alone() -> Result<()> {
    let (mut mesh, people) = start("pubhost", false)?;
    let node = mesh.nodes[0].clone();
    let host = node.place();
    let (v4, v6) = (mesh.nodes[0].uplink_v4().to_string(), mesh.nodes[0].uplink_v6().to_string());
    let (door, other) = (mesh.inside(0, host, "weft.slice/door.service")?, mesh.inside(0, host, "weft.slice/other.service")?);
    // Before anybody knows of it.
    let _open = Server::start(host, "beside", 9100)?;
    mesh.enrol(0, "door", "weft/gateway", "weft.slice/door.service", "")?;
    mesh.enrol(0, "other", "shop/stranger", "weft.slice/other.service", "")?;
    let _door = Server::start(&door, "door", LISTEN)?;
    let shut = [Server::start(&door, "door-else", 9000)?, Server::start(&other, "other", REDIRECT)?];
    let check = |mesh: &Mesh, when: &str| -> Result<()> {
        let local = [v4.clone(), v6.clone(), "127.0.0.1".to_owned(), "::1".to_owned()];
        for (from, addresses) in [(people.place(), &forms(&v4, &v6)[..]), (host, &local)] {
            for to in addresses {
                let got = reaches(from, to, LISTEN, when).with_context(|| mesh.logs())?;
                assert!(got.data.starts_with("door "), "{got:?}");
            }
        }
        let ways = [(people.place(), &v4), (people.place(), &v6), (host, &v4), (host, &local[2])];
        let all: Vec<_> = ways.iter().flat_map(|(from, to)| [9000, REDIRECT].map(|port| (*from, to.as_str(), port))).collect();
        refused_all(&all, &format!("{when}-shut"))?;
        answered(people.place(), &v4, 9100, when, mesh)?;
        for server in &shut {
            assert!(!server.got(when), "{}", fs::read_to_string(server.log_path())?);
        }
        Ok(())
    };
    check(&mesh, "running")?;
    denied(&other, "127.0.0.1", LISTEN)?;
    denied(&other, &v4, LISTEN)?;
    denied(mesh.pod("stranger").place(), &v4, LISTEN)?;
    let flows = mesh.flows(0)?;
    assert!(flows.iter().any(|f| f.reason == "public" && f.address == people.v4().to_string() && f.workload == "door"), "{flows:#?}");
    let (proofs, _) = mesh.prove()?;
    assert!(holds(&proofs["door"].0) && holds(&proofs["door"].1), "{proofs:#?}");

    let inside = [Held::beating(people.place(), &v4, LISTEN)?, Held::beating(people.place(), &v6, LISTEN)?];
    mesh.agents[0].kill9();
    check(&mesh, "killed")?;
    mesh.agents[0].run()?;
    for held in &inside {
        goes_on(held, "a connection over a new agent's enrolment", &mesh)?;
    }
    mesh.recatalog(&catalog("publicPort: 443, listenPort: 9443, redirectPort: 8080"))?;
    for held in &inside {
        ended(held, 1, "who came in at a port that is shut", &mesh)?;
    }
    refused(people.place(), &v4, LISTEN, "shut")?;
    answered(people.place(), &v4, 9100, "the host's own", &mesh).map(drop)
}

#[test]
fn handshakes_that_nobody_keeps_in_mind_come_in_too() -> Result<()> {
    let (mesh, people) = start("pubflood", true)?;
    let door = mesh.pod("door");
    let _open = Server::start(door.place(), "door", LISTEN)?;
    // From now on the kernel answers every SYN with a cookie, as it does by itself when too many are under way.
    let outside = door.place().in_cgroup(&door.node().cgroup().join("outside/sysctl"))?;
    outside.check(&["sh", "-c", "echo 2 >/proc/sys/net/ipv4/tcp_syncookies"], SETTLE)?;
    let cookies = || -> Result<Vec<u64>> {
        let text = outside.check(&["cat", "/proc/net/netstat"], SETTLE)?;
        let lines: Vec<Vec<&str>> = text.lines().filter(|l| l.starts_with("TcpExt:")).map(|l| l.split(' ').collect()).collect();
        let value = |name: &str| lines[0].iter().position(|n| *n == name).and_then(|i| lines[1].get(i)?.parse().ok()).context("no such counter");
        ["SyncookiesSent", "SyncookiesRecv", "SyncookiesFailed"].into_iter().map(value).collect()
    };
    assert_eq!(cookies()?, [0, 0, 0]);
    let near = mesh.outsider(0, "near")?;
    for to in forms(door.v4(), door.v6()) {
        answered(people.place(), &to, LISTEN, "cookie", &mesh)?;
        answered(near.place(), &to, LISTEN, "cookie", &mesh)?;
    }
    refused(people.place(), &door.v4().to_string(), 9000, "cookie-else")?;
    let said = cookies()?;
    assert!(said[0] >= 6 && said[1] == said[0] && said[2] == 0, "{said:?}");
    let inside = Held::beating(people.place(), &door.v4().to_string(), LISTEN)?;
    goes_on(&inside, "a connection that began with a cookie", &mesh)?;
    mesh.recatalog(&catalog("publicPort: 443, listenPort: 9443"))?;
    ended(&inside, 1, "who came in at a port that is shut", &mesh)
}

#[test]
fn no_frame_leaves_from_a_public_port_but_an_answer() -> Result<()> {
    let (mesh, people) = start("pubframes", true)?;
    let door = mesh.pod("door");
    let _open = Server::start(door.place(), "door", LISTEN)?;
    let (open, control) = (mesh.outsider(0, "open")?, mesh.outsider(0, "control")?);
    // The control: what the gateway answers goes out.
    answered(people.place(), &door.v4().to_string(), LISTEN, "control", &mesh)?;
    answered(open.place(), &door.v6().to_string(), LISTEN, "control", &mesh)?;
    let (capture, aim) = (capture_at(&open, "open")?, Aim::at(&open)?);
    let sent = send_frames(door, true, "gat", &aim)?;
    let others = send_frames(&control, false, "con", &aim)?;
    eventually(SETTLE, "the last of the control's frames", || if capture.contains(others["truncated"].0.as_bytes())? { Ok(()) } else { bail!("not yet") })?;
    let seen = capture.stop()?;
    let from_there = ["tcp4 from 8443", "tcp4 greets from 8443", "tcp6 from 8443"];
    let arrived_of = |sent| arrived(sent, &seen).into_iter().filter(|k| k.contains("8443")).collect::<Vec<_>>();
    assert_eq!(arrived_of(&others), from_there);
    assert_eq!(arrived_of(&sent), Vec::<String>::new());
    Ok(())
}
