//! Every way out beside a plain `connect()`: judged like it, or not given to workloads at all. What this kernel does not have is said, not passed over.

use anyhow::{Context as _, Result, bail};
use weft_lab::{Capture, Pod, bin, eventually};
use weft_tests::{
    Mesh, MeshOptions, SETTLE, SHOP, Server, passed,
    udp::serve,
    ways::{Tried, try_moved, try_way},
};

const PORT: u16 = 8080;
const BOUND: u16 = 5353;
const EPERM: i32 = 1;

/// A way that a grant opens. The client and the stranger differ in the grant only.
fn judged(mesh: &Mesh, way: &str, to: &str, port: u16, refused_at: &str) -> Result<()> {
    let (granted, denied) =
        (try_way(mesh.pod("client").place(), way, to, port, "<granted>")?, try_way(mesh.pod("stranger").place(), way, to, port, "<denied>")?);
    println!("{way:20} to {to}: client {}, stranger {}", say(&granted), say(&denied));
    if granted.absent {
        // A kernel without it has it for nobody.
        assert!(denied.absent, "{way}: {denied:?}");
        return Ok(());
    }
    assert!(granted.ok && granted.data.contains("<granted>"), "{way} to {to}: {granted:?}\n{}", mesh.logs());
    assert_eq!((denied.ok, denied.errno, denied.at.as_str()), (false, EPERM, refused_at), "{way} to {to}: {denied:?}");
    Ok(())
}

fn say(t: &Tried) -> String {
    match t {
        Tried { ok: true, .. } => "passes".to_owned(),
        Tried { absent: true, .. } => "is not offered it by this kernel".to_owned(),
        t => format!("is refused at {} (errno {})", t.at, t.errno),
    }
}

#[test]
fn fast_open_and_io_uring_are_judged_as_connect_is() -> Result<()> {
    let catalog = SHOP
        .replacen("name: server, namespace: shop }\nspec:\n  type: application\n  owner: shop\n  ports: [ ", "name: server, namespace: shop }\nspec:\n  type: application\n  owner: shop\n  ports: [ { name: names, port: 53, targetPort: 5353, protocol: UDP }, ", 1)
        .replace("{ service: server, port: web }", "{ service: server, port: web }, { service: server, port: names }");
    let mesh = Mesh::start("ways", &MeshOptions { catalog, ..MeshOptions::default() })?;
    let server = mesh.pod("server");
    let (tcp, datagrams) = (Server::start(server.place(), "near", PORT)?, serve(server.place(), "near", BOUND, "plain")?);
    let vip = mesh.vip("shop/server")?.to_string();
    for (to, port) in [(vip.clone(), 80), (server.v4().to_string(), PORT), (server.v6().to_string(), PORT)] {
        judged(&mesh, "fastopen", &to, port, "sendto")?;
        judged(&mesh, "io_uring", &to, port, "connect")?;
        // By a thread of the kernel's, which is a task of the same cgroup.
        judged(&mesh, "io_uring-worker", &to, port, "connect")?;
    }
    for (to, port) in [(vip, 53), (server.v4().to_string(), BOUND), (server.v6().to_string(), BOUND)] {
        judged(&mesh, "io_uring-udp", &to, port, "sendmsg")?;
        judged(&mesh, "io_uring-udp-worker", &to, port, "sendmsg")?;
    }
    assert!(!tcp.got("<denied>") && !datagrams.log().contains("<denied>"));
    Ok(())
}

#[test]
fn protocols_beside_tcp_and_udp_are_given_to_no_workload() -> Result<()> {
    let mesh = Mesh::start("protocols", &MeshOptions::default())?;
    let (client, outsider) = (mesh.pod("client"), mesh.outsider(0, "plain")?);
    let open = mesh.outsider(0, "open")?;
    let server = Server::start(open.place(), "open", PORT)?;
    for way in ["sctp", "sctp-many", "dccp", "udp-lite", "mptcp"] {
        for to in [open.v4().to_string(), open.v6().to_string()] {
            let (denied, control) = (try_way(client.place(), way, &to, PORT, "<enrolled>")?, try_way(outsider.place(), way, &to, PORT, "<outsider>")?);
            println!("{way:10} client {}, outsider {}", say(&denied), say(&control));
            if control.absent {
                assert!(denied.absent, "{way}: {denied:?}");
                continue;
            }
            assert!(control.ok, "{way}: {control:?}");
            assert_eq!((denied.ok, denied.errno, denied.at.as_str()), (false, EPERM, "socket"), "{way}: {denied:?}");
        }
    }
    assert!(!server.got("<enrolled>"));
    Ok(())
}

/// Families that no cgroup hook sees: refused where the kernel asks programs in its security hooks, and said where it does not.
#[test]
fn families_that_are_not_ip_are_refused_where_the_kernel_asks() -> Result<()> {
    let mesh = Mesh::start("families", &MeshOptions::default())?;
    let (client, outsider) = (mesh.pod("client"), mesh.outsider(0, "plain")?);
    let asks = mesh.status(0)?.programs.iter().any(|p| p.name == "weft_families" && p.attached);
    let agent = bin("weft-agent")?.display().to_string();
    let checked = mesh.nodes[0].place().output(&[agent, "check".to_owned(), "-o".to_owned(), "json".to_owned()], SETTLE)?;
    let findings: serde_json::Value = serde_json::from_slice(&checked.stdout).with_context(|| format!("{checked:?}"))?;
    let hooks = findings.as_array().and_then(|all| all.iter().find(|f| f["name"] == "security hooks")).context("the check says nothing of security hooks")?;
    // Either the program stands there, or a person is told what that costs.
    assert!(asks || hooks["ok"] == false, "{hooks}");
    if !asks {
        println!("this kernel asks no program of ours when a socket is made: {}; {}", hooks["detail"], hooks["cost"]);
    }
    for way in ["packet", "xdp", "vsock", "smc"] {
        let (enrolled, control) = (try_way(client.place(), way, "10.0.0.1", 0, "x")?, try_way(outsider.place(), way, "10.0.0.1", 0, "x")?);
        println!("{way:10} client {}, outsider {}", say(&enrolled), say(&control));
        match (control.absent, asks) {
            (true, _) => assert!(!enrolled.ok, "{way}: {enrolled:?}"),
            (false, true) => {
                assert!(control.ok, "{way}: {control:?}");
                assert_eq!((enrolled.ok, enrolled.errno), (false, EPERM), "{way}: {enrolled:?}");
            }
            // What packet and XDP sockets send is judged at the veth (`packets`).
            (false, false) => assert_eq!(enrolled.ok, control.ok, "{way}: {enrolled:?}"),
        }
    }
    Ok(())
}

#[test]
fn nothing_goes_to_many_or_to_the_link() -> Result<()> {
    let mesh = Mesh::start("many", &MeshOptions::default())?;
    let (client, outsider, open) = (mesh.pod("client"), mesh.outsider(0, "plain")?, mesh.outsider(0, "open")?);
    let _tcp = Server::start(open.place(), "open", PORT)?;
    let capture = Capture::start(mesh.nodes[0].place(), "many", "pods", "")?;
    let subnet = {
        let o = client.v4().octets();
        format!("{}.{}.{}.255", o[0], o[1], o[2])
    };
    let link = link_local(&open)?;
    let ways = [
        ("datagram", "224.0.0.251".to_owned(), "multicast"),
        ("datagram", "ff02::fb%eth0".to_owned(), "multicast6"),
        ("datagram", "255.255.255.255".to_owned(), "broadcast"),
        ("datagram", subnet, "subnet broadcast"),
        ("datagram", format!("{link}%eth0"), "link-local datagram"),
        ("scoped", format!("{link}%eth0"), "link-local"),
        ("datagram", "169.254.1.1".to_owned(), "link-local4"),
    ];
    for (way, to, what) in &ways {
        let (denied, control) =
            (try_way(client.place(), way, to, PORT, &format!("<enrolled {what}>"))?, try_way(outsider.place(), way, to, PORT, &format!("<outsider {what}>"))?);
        println!("{what:20} client {}, outsider {}", say(&denied), say(&control));
        assert_eq!((denied.ok, denied.errno), (false, EPERM), "{what}: {denied:?}");
        assert!(control.ok, "{what}: {control:?}");
    }
    // Nobody answers for 169.254.1.1; all else of the control is on the bridge.
    for (_, _, what) in ways.iter().filter(|w| w.2 != "link-local4") {
        eventually(SETTLE, what, || if capture.contains(format!("<outsider {what}>").as_bytes())? { Ok(()) } else { bail!("not yet") })?;
    }
    let seen = capture.stop()?;
    assert!(!seen.contains(b"<enrolled"), "{}", seen.file.display());

    // Nor does what an outsider sends to many come to a workload.
    let hears = "import socket, struct, sys\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', int(sys.argv[1])))\n\
                 s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack('4s4s', socket.inet_aton('224.0.0.251'), socket.inet_aton(sys.argv[2])))\n\
                 print('joined', flush=True)\nwhile True: print(s.recv(2048).decode(), flush=True)";
    let listen = |pod: &Pod| -> Result<weft_lab::Proc> {
        let mut process = pod.place().spawn("hears", &["python3", "-u", "-c", hears, "7777", &pod.v4().to_string()])?;
        process.wait_for_log("joined", SETTLE)?;
        Ok(process)
    };
    let (workload, control) = (listen(client)?, listen(&open)?);
    for to in ["224.0.0.251", "255.255.255.255"] {
        assert!(try_way(outsider.place(), "datagram", to, 7777, &format!("<{to} to all>"))?.ok);
        eventually(SETTLE, "the outsider's datagram to many", || if control.log().contains(to) { Ok(()) } else { bail!("{}", control.log()) })?;
    }
    assert!(!workload.log().contains("to all"), "{}", workload.log());
    Ok(())
}

#[test]
fn a_socket_from_elsewhere_gives_no_identity() -> Result<()> {
    let mesh = Mesh::start("elsewhere", &MeshOptions::default())?;
    let (client, stranger, server) = (mesh.pod("client"), mesh.pod("stranger"), mesh.pod("server"));
    let (outsider, open) = (mesh.outsider(0, "plain")?, mesh.outsider(0, "open")?);
    let near = Server::start(server.place(), "near", PORT)?;
    let free = Server::start(open.place(), "open", PORT)?;
    // Kept over fork and exec by a process that was outside when it made it.
    for pod in [client, stranger] {
        let to = [open.v4().to_string(), server.v4().to_string()];
        for to in &to {
            let denied = try_moved(outsider.place(), Some(pod.place()), to, PORT, "<moved in>")?;
            assert_eq!((denied.ok, denied.errno), (false, EPERM), "{}: {denied:?}", pod.place().name());
        }
    }
    let control = try_moved(outsider.place(), None, &open.v4().to_string(), PORT, "<stays outside>")?;
    assert!(control.ok && control.data.contains("<stays outside>"), "{control:?}");
    // Passed over a unix socket: the client's in the stranger's hands, and the other way round, is neither's; in its own it is its own.
    for (maker, dialler, works) in [(client, stranger, false), (stranger, client, false), (client, client, true)] {
        let seen = passed(maker.place(), dialler.place(), server.v4().into(), PORT)?;
        let case = format!("{} → {}: {seen:?}", maker.place().name(), dialler.place().name());
        assert_eq!((seen.ok, seen.errno), if works { (true, 0) } else { (false, EPERM) }, "{case}");
    }
    assert!(!near.got("<moved in>") && !free.got("<moved in>"));
    Ok(())
}

fn link_local(pod: &Pod) -> Result<String> {
    let found = eventually(SETTLE, "a link-local address", || {
        let shown = pod.place().ip("-6 -o addr show dev eth0 scope link -tentative")?;
        let word = shown.split_whitespace().find(|w| w.starts_with("fe80")).map(|w| w.split('/').next().unwrap_or(w).to_owned());
        word.with_context(|| shown.clone())
    })?;
    Ok(found)
}
