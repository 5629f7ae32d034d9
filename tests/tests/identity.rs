//! Identity is a fact of the kernel and of the bridge's placement, never an address or a claim.

use anyhow::{Context as _, Result, bail};
use weft_lab::{Workload, eventually};
use weft_tests::{Mesh, MeshOptions, SETTLE, Server, passed, probe};

const PORT: u16 = 8080;

#[test]
fn verdicts_follow_the_workload_when_addresses_are_swapped() -> Result<()> {
    let mut mesh = Mesh::start("swap", &MeshOptions::default())?;
    let server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    check_pair(&mesh, &server, "before")?;

    let (client, stranger) = (mesh.pod("client").clone(), mesh.pod("stranger").clone());
    let workloads = |names: &[&str]| -> Vec<Workload> { names.iter().map(|n| Workload::of(&format!("shop/{n}"), mesh.pod(n))).collect() };
    let (without, with) = (workloads(&["server"]), workloads(&["client", "stranger", "server"]));
    mesh.agents[0].set_workloads(&without)?;
    eventually(SETTLE, "both withdrawn", || -> Result<()> {
        let left = mesh.status(0)?.workloads.iter().filter(|w| w.class == "enrolled").count();
        if left == 1 { Ok(()) } else { bail!("{left} enrolled") }
    })?;
    for (_, name, pod) in &mut mesh.pods {
        match name.as_str() {
            // Through a third address, so that the two never hold one at once.
            "client" => pod.readdress("10.77.1.250".parse()?, "fd77:0:0:1::250".parse()?)?,
            "stranger" => pod.readdress(client.v4(), client.v6())?,
            _ => {}
        }
    }
    for (_, name, pod) in &mut mesh.pods {
        if name == "client" {
            pod.readdress(stranger.v4(), stranger.v6())?;
        }
    }
    mesh.agents[0].set_workloads(&with)?;
    mesh.settled()?;
    assert_eq!(mesh.pod("client").v4(), stranger.v4());
    check_pair(&mesh, &server, "after")
}

/// The client passes with its address, the stranger does not.
fn check_pair(mesh: &Mesh, server: &Server, when: &str) -> Result<()> {
    let to = mesh.pod("server").v4().to_string();
    let granted = probe(mesh.pod("client").place(), "tcp", &to, PORT, &format!("client-{when}"))?;
    assert!(granted.ok, "{when}: {granted:?}\n{}", mesh.logs());
    assert_eq!(granted.data, format!("near ::ffff:{} client-{when}", mesh.pod("client").v4()));
    let denied = probe(mesh.pod("stranger").place(), "tcp", &to, PORT, &format!("stranger-{when}"))?;
    assert_eq!((denied.ok, denied.errno), (false, 1), "{when}: {denied:?}");
    assert!(!server.got(&format!("stranger-{when}")));
    Ok(())
}

#[test]
fn a_node_gets_no_svid_for_what_its_token_does_not_name() -> Result<()> {
    let options = MeshOptions {
        workloads: vec![("a", "client", "shop/client"), ("b", "far", "shop/far"), ("b", "thief", "shop/client")],
        may_run: vec![("a", "shop/*"), ("b", "shop/far")],
        agents_wait: true,
        ..MeshOptions::default()
    };
    let mut mesh = Mesh::start("placement", &options)?;
    for agent in &mut mesh.agents {
        agent.run()?;
    }
    eventually(SETTLE, "the named service has its SVID, the other is refused", || -> Result<()> {
        let workloads = mesh.status(1)?.workloads;
        let of = |uid: &str| workloads.iter().find(|w| w.uid == uid).with_context(|| format!("no {uid} in {workloads:?}"));
        let (allowed, refused) = (of("far")?, of("thief")?);
        if allowed.svid_not_after == 0 {
            bail!("control has no SVID: {allowed:?}");
        }
        if refused.svid_not_after != 0 || refused.class != "unidentified" || !refused.problem.contains("may not run shop/client") {
            bail!("not refused: {refused:?}");
        }
        Ok(())
    })
    .with_context(|| mesh.logs())?;
    // Nor does anyone hear of it as an endpoint: both others are known, it is not.
    eventually(SETTLE, "the endpoints of both nodes on node a", || -> Result<()> {
        let snapshot = mesh.snapshot(0)?;
        let nodes = |service: &str| -> Vec<String> {
            let id = snapshot.services.iter().find(|s| s.name.to_string() == service).map(|s| s.id);
            snapshot.endpoints.iter().filter(|e| Some(e.service) == id).map(|e| e.node.to_string()).collect()
        };
        let (client, far) = (nodes("shop/client"), nodes("shop/far"));
        if client == ["a"] && far == ["b"] { Ok(()) } else { bail!("client on {client:?}, far on {far:?}") }
    })?;
    Ok(())
}

#[test]
fn a_passed_socket_and_a_borrowed_namespace_open_nothing() -> Result<()> {
    let mesh = Mesh::start("borrow", &MeshOptions::default())?;
    let (client, stranger, server) = (mesh.pod("client"), mesh.pod("stranger"), mesh.pod("server"));
    let listening = Server::start(server.place(), "near", PORT)?;
    let to = server.v4();
    // Control: the client's own socket, passed to itself.
    let control = passed(client.place(), client.place(), to.into(), PORT)?;
    assert!(control.ok, "{control:?}");
    // The client's socket in the stranger's hands, and the stranger's in the client's: two identities, so neither.
    for (maker, dialler) in [(client, stranger), (stranger, client)] {
        let denied = passed(maker.place(), dialler.place(), to.into(), PORT)?;
        assert!(!denied.ok, "{denied:?}");
    }
    // The stranger's cgroup inside the client's namespace, and the reverse.
    for (space, cgroup) in [(client, stranger), (stranger, client)] {
        let place = space.place().in_cgroup(cgroup.place().cgroup())?;
        let denied = probe(&place, "tcp", &to.to_string(), PORT, "borrowed")?;
        assert!(!denied.ok, "{denied:?}");
    }
    assert!(!listening.got("borrowed"));
    Ok(())
}
