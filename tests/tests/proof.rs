//! Enrolment is a fixed order and a proof: what was open before ends unless it is granted, and each workload is shown to be captured and closed.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use weft_lab::eventually;
use weft_tests::{Held, Mesh, MeshOptions, SHOP, Server, probe, proofs::holds};

const PORT: u16 = 8080;
const SOON: Duration = Duration::from_secs(5);

fn goes_on(held: &Held, what: &str, mesh: &Mesh) -> Result<()> {
    let before = held.beats();
    // What was refused for some seconds is sent again after as many.
    Ok(eventually(SOON * 8, &format!("{what} goes on"), || {
        if held.beats() > before + 1 && held.ends().is_empty() { Ok(()) } else { bail!("{}\n{}", held.log(), mesh.logs()) }
    })?)
}

#[test]
fn what_was_open_before_enrolment_ends_unless_it_is_granted() -> Result<()> {
    let mut mesh = Mesh::start("sweep", &MeshOptions { agents_wait: true, ..MeshOptions::default() })?;
    let target = mesh.outsider(0, "target")?;
    let stray = mesh.outsider(0, "stray")?;
    let interface = format!(
        "---\napiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: outside, namespace: shop }}\nspec:\n  type: interface\n  owner: shop\n  external: [ {{ cidr: {}/32, port: 9000 }} ]\n",
        target.v4()
    );
    let catalog = SHOP.replace("{ service: far, port: web } ]", "{ service: far, port: web }, { service: outside } ]") + &interface;
    std::fs::write(mesh.catalog.join("mesh.yaml"), catalog)?;
    let (out, to_out) = (Held::serve(target.place(), PORT)?, target.v4().to_string());
    let _granted_out = Held::serve(target.place(), 9000)?;
    let (server, client) = (mesh.pod("server").clone(), mesh.pod("client").clone());
    let listening = Held::serve(server.place(), PORT)?;

    // All of these work while nothing is enrolled.
    let ungranted = Held::beating(client.place(), &to_out, PORT)?;
    let granted = Held::beating(client.place(), &to_out, 9000)?;
    let plaintext = Held::beating(stray.place(), &server.v4().to_string(), PORT)?;
    let mapped = Held::beating(client.place(), &format!("::ffff:{}", server.v4()), PORT)?;
    let inside = Held::beating(server.place(), "127.0.0.1", PORT)?;
    let unmanaged = Held::beating(stray.place(), &to_out, PORT)?;

    for agent in &mut mesh.agents {
        agent.run()?;
    }
    mesh.settled()?;
    for (held, what) in [(&ungranted, "an ungranted connection"), (&mapped, "a plaintext connection between two that are enrolled now")] {
        if held.wait_for_ends(1, SOON).is_err() {
            bail!("{what} lives on after enrolment: {}\n{}", held.log(), mesh.logs());
        }
    }
    // The accepted sides: of the stray's connection, and of the client's.
    listening.wait_for_ends(2, SOON)?;
    assert_eq!(listening.ends().len(), 2, "{}", listening.log());
    goes_on(&granted, "the connection to a declared interface", &mesh)?;
    goes_on(&inside, "the connection within the namespace", &mesh)?;
    goes_on(&unmanaged, "a connection of somebody who is not enrolled", &mesh)?;
    let before = plaintext.beats();
    std::thread::sleep(Duration::from_secs(1));
    assert!(plaintext.beats() <= before + 1, "the plaintext connection still carries data");
    drop(out);
    // The listener itself was kept: what is granted and attested comes in.
    let attested = Held::dial(client.place(), &mesh.vip("shop/server")?.to_string(), 80, 1)?;
    assert!(attested.ends().is_empty());
    // And it is a connection like any other from now on: it ends with its grant.
    mesh.recatalog(SHOP)?;
    granted.wait_for_ends(1, SOON)?;
    Ok(())
}

#[test]
fn each_workload_is_proven_and_a_broken_one_says_why_not() -> Result<()> {
    let mesh = Mesh::start("prove", &MeshOptions::default())?;
    let (proofs, code) = mesh.prove()?;
    assert_eq!((proofs.len(), code), (3, 0), "{proofs:#?}");
    assert!(proofs.values().all(|(out, inn)| holds(out) && holds(inn)), "{proofs:#?}");

    // Somebody else answers for the address that only the capture may answer: translation in the client's namespace.
    let client = mesh.pod("client").place();
    client.check(&["nft", "add table ip weft_test; add chain ip weft_test out { type nat hook output priority -100; }; add rule ip weft_test out ip daddr 127.0.0.1 tcp dport > 1 dnat to 127.0.0.1:9"], SOON)?;
    let (proofs, code) = mesh.prove()?;
    let (out, _) = &proofs["client"];
    assert!(!holds(out) && out["problem"].as_str().is_some_and(|p| !p.is_empty()), "{out}");
    assert_eq!(code, 1);
    assert!(holds(&proofs["server"].0) && holds(&proofs["server"].1), "the control: {proofs:#?}");
    client.check(&["nft", "delete table ip weft_test"], SOON)?;

    // The door of the server is taken away: what nobody attested comes in, until the agent has found and repaired it.
    let links = mesh.links(0);
    let door = format!("lookup-{}", mesh.status(0)?.workloads.iter().find(|w| w.uid == "server").context("server")?.netns_cookie);
    std::fs::remove_file(links.join(&door))
        .with_context(|| format!("{door}: {:?}", std::fs::read_dir(&links).map(|d| d.flatten().map(|e| e.file_name()).collect::<Vec<_>>())))?;
    let (proofs, code) = mesh.prove()?;
    let (out, inn) = &proofs["server"];
    assert!(holds(out) && !holds(inn), "{out} {inn}");
    assert_eq!(code, 1);
    eventually(SOON + SOON, "the door is repaired", || {
        let (proofs, code) = mesh.prove()?;
        if code == 0 && holds(&proofs["server"].1) { Ok(()) } else { bail!("{proofs:#?}\n{}", mesh.logs()) }
    })?;
    Ok(())
}

#[test]
fn a_workload_whose_canary_fails_is_not_enrolled() -> Result<()> {
    let mut mesh = Mesh::start("canary", &MeshOptions { agents_wait: true, ..MeshOptions::default() })?;
    // Without loopback nothing can be captured.
    mesh.pod("client").place().ip("link set lo down")?;
    for agent in &mut mesh.agents {
        agent.run()?;
    }
    let seen = |mesh: &Mesh, uid: &str| -> Result<weft_api::agent::v1::Workload> {
        mesh.status(0)?.workloads.into_iter().find(|w| w.uid == uid).context("no such workload")
    };
    eventually(Duration::from_secs(20), "the client's canary has failed and the others are enrolled", || {
        let (client, server) = (seen(&mesh, "client")?, seen(&mesh, "server")?);
        if client.problem.contains("canary") && !client.enrolled_in_kernel && server.enrolled_in_kernel {
            Ok(())
        } else {
            bail!("{client:?} {server:?}\n{}", mesh.logs())
        }
    })?;
    assert_eq!(seen(&mesh, "client")?.class, "unidentified");
    let (proofs, code) = mesh.prove()?;
    assert!(!holds(&proofs["client"].0) && holds(&proofs["server"].0) && code == 1, "{proofs:#?}");
    // The control differs in the loopback only.
    mesh.pod("client").place().ip("link set lo up")?;
    mesh.settled()
}

#[test]
fn drift_is_found_repaired_and_reported() -> Result<()> {
    let mesh = Mesh::start("drift", &MeshOptions::default())?;
    let target = mesh.outsider(0, "target")?;
    let (server, stray) = (Server::start(mesh.pod("server").place(), "near", PORT)?, Server::start(target.place(), "stray", PORT)?);
    let vip = mesh.vip("shop/server")?.to_string();
    let client = mesh.pod("client").place();
    let live = Held::beating(client, &vip, 80)?;
    let works = |what: &str| {
        eventually(SOON * 3, what, || {
            let outcome = probe(client, "tcp", &vip, 80, "again")?;
            if outcome.ok { Ok(()) } else { bail!("{outcome:?}\n{}", mesh.logs()) }
        })
    };
    let reported = |what: &str| {
        eventually(SOON * 3, what, || {
            let warnings = mesh.status(0)?.host_warnings;
            if warnings.iter().any(|w| w.contains(what)) { Ok(()) } else { bail!("{warnings:?}\n{}", mesh.logs()) }
        })
    };
    works("before anything is touched")?;

    let pinned = mesh.pinned(0)?;
    assert!(pinned.empty_grants()? > 0);
    works("the grants are put back")?;
    reported("policy tables")?;

    assert!(pinned.empty_workloads()? > 0);
    works("the workloads are put back")?;
    reported("is not in WORKLOADS")?;

    std::fs::remove_file(mesh.links(0).join("weft_connect4"))?;
    reported("program weft_connect4")?;
    works("a program is attached again")?;
    assert!(mesh.status(0)?.programs.iter().all(|p| p.attached));

    // An address that comes and goes is followed.
    let addresses = |wanted: bool| {
        eventually(SOON * 2, "the address is followed", || {
            let status = mesh.status(0)?;
            let held = status.workloads.iter().any(|w| w.uid == "client" && w.addresses.iter().any(|a| a == "10.77.1.77"));
            if held == wanted { Ok(()) } else { bail!("{:?}", status.workloads) }
        })
    };
    client.ip("addr add 10.77.1.77/24 dev eth0")?;
    addresses(true)?;
    client.ip("addr del 10.77.1.77/24 dev eth0")?;
    addresses(false)?;

    // What the verdict was for is translated to somebody else: nothing of it arrives there.
    let rule = format!(
        "add table ip weft_test; add chain ip weft_test out {{ type nat hook output priority -100; }}; add rule ip weft_test out ip daddr {} tcp dport {PORT} dnat to {}",
        mesh.pod("server").v4(),
        target.v4()
    );
    client.check(&["nft", &rule], SOON)?;
    let led_away = probe(client, "tcp", &vip, 80, "led-away")?;
    assert!(!led_away.ok && !stray.got("led-away"), "{led_away:?}");
    reported("is translated to")?;
    client.check(&["nft", "delete table ip weft_test"], SOON)?;
    works("without the translation")?;
    assert!(server.got("again") && !server.got("led-away"));
    assert!(mesh.agents[0].metrics()?.lines().any(|l| l.starts_with("weft_drift_total") && l.contains("policy")));
    goes_on(&live, "a connection that stood all the while", &mesh)
}
