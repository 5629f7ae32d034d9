//! Workloads of the host's namespace are swept, proven and revoked as those of a namespace of their own are, and the host's own sockets beside them are
//! left alone: whose a socket is, its cgroup says.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use weft_lab::{Place, eventually};
use weft_tests::{
    Held, Mesh, MeshOptions, SETTLE,
    kinds::{KINDS, options},
    proofs::holds,
};

const PORT: u16 = 8080;
const SOON: Duration = Duration::from_secs(5);
const HOSTED: &str = "name: hosted, namespace: shop }\nspec:\n  type: application\n  owner: shop\n  ports: [ { name: web, port: 80, targetPort: 8080 } ]\n  dependsOn: [ { service: server, port: web }, { service: far, port: web } ]\n";

fn place(mesh: &Mesh, name: &str) -> Result<Place> {
    mesh.inside(0, mesh.nodes[0].place(), &format!("weft.slice/{name}.service"))
}

fn enrol(mesh: &Mesh, name: &str, service: &str) -> Result<()> {
    mesh.enrol(0, name, service, &format!("weft.slice/{name}.service"), "").map(drop).with_context(|| mesh.logs())
}

fn goes_on(held: &Held, what: &str, mesh: &Mesh) -> Result<()> {
    let before = held.beats();
    Ok(eventually(SOON * 8, &format!("{what} goes on"), || {
        if held.beats() > before + 1 && held.ends().is_empty() { Ok(()) } else { bail!("{}\n{}", held.log(), mesh.logs()) }
    })?)
}

fn ended(held: &Held, count: usize, what: &str, mesh: &Mesh) -> Result<()> {
    held.wait_for_ends(count, SOON).map(drop).with_context(|| format!("{what} lives on\n{}", mesh.logs()))
}

#[test]
fn what_a_unit_of_the_host_had_open_before_its_enrolment_ends_and_the_hosts_own_does_not() -> Result<()> {
    let mut mesh = Mesh::start("hsweep", &MeshOptions { agents_wait: true, ..options() })?;
    let target = mesh.outsider(0, "target")?;
    let interface = format!(
        "---\napiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: outside, namespace: shop }}\nspec:\n  type: interface\n  owner: shop\n  external: [ {{ cidr: {}/32, port: 9000 }} ]\n",
        target.v4()
    );
    let declared = KINDS.replace(HOSTED, &HOSTED.replace("{ service: far, port: web } ]", "{ service: far, port: web }, { service: outside } ]")) + &interface;
    std::fs::write(mesh.catalog.join("mesh.yaml"), declared)?;
    let (_out, _granted_out, to_out) = (Held::serve(target.place(), PORT)?, Held::serve(target.place(), 9000)?, target.v4().to_string());
    let (host, hosted) = (mesh.nodes[0].place(), place(&mesh, "hosted")?);
    let below = mesh.inside(0, host, "weft.slice/hosted.service/below")?;
    let listening = Held::serve(&hosted, PORT)?;
    let _beside = Held::serve(host, 9100)?;

    // All of these work while nothing is enrolled. Each of the host's differs from the unit's in the cgroup only.
    let ungranted = Held::beating(&hosted, &to_out, PORT)?;
    let of_below = Held::beating(&below, &to_out, PORT)?;
    let own = Held::beating(host, &to_out, PORT)?;
    let granted = Held::beating(&hosted, &to_out, 9000)?;
    let loopback = Held::beating(&hosted, "127.0.0.1", 9100)?;
    let own_loopback = Held::beating(host, "127.0.0.1", 9100)?;
    let plaintext = Held::beating(host, "127.0.0.1", PORT)?;

    for agent in &mut mesh.agents {
        agent.run()?;
    }
    mesh.settled()?;
    enrol(&mesh, "hosted", "shop/hosted")?;
    ended(&ungranted, 1, "an ungranted connection", &mesh)?;
    ended(&of_below, 1, "an ungranted connection of a cgroup below", &mesh)?;
    ended(&loopback, 1, "a connection to somebody on loopback", &mesh)?;
    ended(&listening, 1, "the accepted side of a connection that nobody attested", &mesh)?;
    goes_on(&own, "a connection of the host itself", &mesh)?;
    goes_on(&own_loopback, "a connection of the host with itself", &mesh)?;
    goes_on(&granted, "the connection to a declared interface", &mesh)?;
    let before = plaintext.beats();
    std::thread::sleep(Duration::from_secs(1));
    assert!(plaintext.beats() <= before + 1, "the plaintext connection still carries data");
    // The listener was kept, and what was adopted ends with its grant.
    dial(&mesh, mesh.pod("caller").place(), &mesh.vip("shop/hosted")?.to_string(), 80)?;
    mesh.recatalog(KINDS)?;
    ended(&granted, 1, "a connection whose grant went away", &mesh)?;
    goes_on(&own, "a connection of the host itself", &mesh)
}

/// Until it is up: endpoints and listeners become known a moment after they are there.
fn dial(mesh: &Mesh, from: &Place, to: &str, port: u16) -> Result<Held> {
    Ok(eventually(SETTLE, &format!("a connection to {to}"), || Held::dial(from, to, port, 1).with_context(|| mesh.logs()))?)
}

#[test]
fn a_revoked_grant_ends_what_a_unit_of_the_host_had_open_at_both_ends() -> Result<()> {
    let mesh = Mesh::start("hrevoke", &options())?;
    let host = mesh.nodes[0].place();
    let (hosted, granted) = (place(&mesh, "hosted")?, place(&mesh, "granted")?);
    enrol(&mesh, "hosted", "shop/hosted")?;
    enrol(&mesh, "granted", "shop/caller")?;
    mesh.endpoints("shop/hosted", 1)?;
    let (listening, server) = (Held::serve(&hosted, PORT)?, Held::serve(mesh.pod("server").place(), PORT)?);
    let (beside, own) = (Held::serve(host, 9100)?, Held::beating(host, "127.0.0.1", 9100)?);
    let (vip, to_server) = (mesh.vip("shop/hosted")?.to_string(), mesh.vip("shop/server")?.to_string());

    let out = dial(&mesh, &hosted, &to_server, 80)?;
    let stays = dial(&mesh, &granted, &to_server, 80)?;
    let loopback = dial(&mesh, &granted, "127.0.0.1", PORT)?;
    let in_host = dial(&mesh, &granted, &vip, 80)?;
    let from_pod = dial(&mesh, mesh.pod("caller").place(), &vip, 80)?;
    let (served, heard) = (server.ends().len(), listening.ends().len());

    // Out of the host: hosted may reach nothing any more.
    mesh.recatalog(&KINDS.replace(HOSTED, &HOSTED.replace("{ service: server, port: web }, ", "")))?;
    ended(&out, 1, "a connection from the host to a pod", &mesh)?;
    ended(&server, served + 1, "its other side", &mesh)?;
    for (held, what) in [(&stays, "out"), (&loopback, "on loopback"), (&in_host, "within the host"), (&from_pod, "into the host")] {
        assert!(held.ends().is_empty(), "a connection {what} whose grant stays was ended as well: {}\n{}", held.log(), mesh.logs());
    }
    // Into the host and within it: nobody may reach hosted any more.
    mesh.recatalog(&KINDS.replace(", { service: hosted, port: web }", ""))?;
    for (held, what) in [(&loopback, "on loopback"), (&in_host, "within the host"), (&from_pod, "into the host")] {
        ended(held, 1, &format!("a connection {what}"), &mesh)?;
    }
    ended(&listening, heard + 3, "the accepted sides", &mesh)?;
    assert!(stays.ends().is_empty() && beside.ends().is_empty(), "{}\n{}", stays.log(), beside.log());
    goes_on(&own, "the host's own connection", &mesh)
}

#[test]
fn a_unit_of_the_host_that_is_withdrawn_loses_its_connections_at_both_ends() -> Result<()> {
    let mesh = Mesh::start("hwithdraw", &options())?;
    let host = mesh.nodes[0].place();
    let (hosted, granted) = (place(&mesh, "hosted")?, place(&mesh, "granted")?);
    enrol(&mesh, "hosted", "shop/hosted")?;
    enrol(&mesh, "granted", "shop/caller")?;
    mesh.endpoints("shop/hosted", 1)?;
    let (_listening, server) = (Held::serve(&hosted, PORT)?, Held::serve(mesh.pod("server").place(), PORT)?);
    let (_beside, own) = (Held::serve(host, 9100)?, Held::beating(host, "127.0.0.1", 9100)?);
    let to_server = mesh.vip("shop/server")?.to_string();
    let (out, stays) = (dial(&mesh, &hosted, &to_server, 80)?, dial(&mesh, &granted, &to_server, 80)?);
    let loopback = dial(&mesh, &granted, "127.0.0.1", PORT)?;
    let served = server.ends().len();
    mesh.discharge(0, "hosted")?;
    ended(&out, 1, "a connection of the withdrawn unit", &mesh)?;
    ended(&server, served + 1, "its peer in a pod", &mesh)?;
    ended(&loopback, 1, "its peer on the host", &mesh)?;
    assert!(stays.ends().is_empty(), "{}", stays.log());
    goes_on(&own, "the host's own connection", &mesh)
}

#[test]
fn units_of_the_host_are_proven_and_a_broken_one_says_why_not() -> Result<()> {
    let mesh = Mesh::start("hprove", &options())?;
    let host = mesh.nodes[0].place();
    for (name, service) in [("hosted", "shop/hosted"), ("granted", "shop/caller")] {
        place(&mesh, name)?;
        enrol(&mesh, name, service)?;
    }
    eventually(SETTLE, "all four are proven", || {
        let (proofs, code) = mesh.prove()?;
        let all = code == 0 && proofs.len() == 4 && proofs.values().all(|(out, inn)| holds(out) && holds(inn));
        if all { Ok(()) } else { bail!("{code} {proofs:#?}\n{}", mesh.logs()) }
    })?;

    // What judges inbound at the sockets of the subtree is taken away, until the agent has found and repaired it.
    for link in std::fs::read_dir(mesh.links(0))?.flatten().filter(|l| l.file_name().to_string_lossy().starts_with("guard_ingress-")) {
        std::fs::remove_file(link.path())?;
    }
    let (proofs, code) = mesh.prove()?;
    let (out, inn) = &proofs["hosted"];
    assert!(holds(out) && !holds(inn) && inn["problem"].as_str().is_some_and(|p| p.contains("nobody attested")) && code == 1, "{proofs:#?}");
    assert!(holds(&proofs["server"].1), "the control, whose namespace is its own: {proofs:#?}");
    eventually(SETTLE, "it is repaired", || {
        let (proofs, code) = mesh.prove()?;
        if code == 0 && holds(&proofs["hosted"].1) { Ok(()) } else { bail!("{proofs:#?}\n{}", mesh.logs()) }
    })?;

    // Somebody else answers for what only the capture may answer: then a new one is not enrolled either.
    let rule = "add table ip weft_test; add chain ip weft_test out { type nat hook output priority -100; }; add rule ip weft_test out ip daddr 127.0.0.1 tcp dport > 1 dnat to 127.0.0.1:9";
    host.check(&["nft", rule], SOON)?;
    let (proofs, code) = mesh.prove()?;
    assert!(!holds(&proofs["hosted"].0) && holds(&proofs["caller"].0) && code == 1, "{proofs:#?}");
    place(&mesh, "late")?;
    assert!(mesh.enrol(0, "late", "shop/caller", "weft.slice/late.service", "").is_err(), "enrolled without a proof");
    assert!(mesh.agents[0].log().contains("the outbound canary fails"), "{}", mesh.logs());
    host.check(&["nft", "delete table ip weft_test"], SOON)?;
    enrol(&mesh, "late", "shop/caller")
}
