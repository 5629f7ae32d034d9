//! A grant that goes away, narrows or gains L7 ends the live connections it had allowed, at both ends, and no others.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use weft_lab::{Workload, throughout};
use weft_tests::{Held, Mesh, MeshOptions, SETTLE, SHOP};

const PORT: u16 = 8080;
/// A live connection that nothing allows any more ends within this; the agent takes some tens of milliseconds.
const SOON: Duration = Duration::from_secs(5);
const DEPENDS: &str = "  dependsOn: [ { service: server, port: web }, { service: far, port: web } ]\n";
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;

/// Client and stranger both granted; what is done to the client's grant is `client`.
fn catalog(client: &str) -> String {
    let at = SHOP.find("{ name: stranger").expect("the stranger's document");
    let (head, tail) = SHOP.split_at(at);
    head.replace(DEPENDS, client) + &tail.replacen("  owner: shop\n", &format!("  owner: shop\n{DEPENDS}"), 1)
}

fn start(tag: &str) -> Result<Mesh> {
    Mesh::start(tag, &MeshOptions { catalog: catalog(DEPENDS), ..MeshOptions::default() })
}

fn was_cut(errno: i32) -> bool {
    matches!(errno, ECONNABORTED | ECONNRESET)
}

fn untouched(held: &Held, what: &str) -> Result<()> {
    if held.ends().is_empty() { Ok(()) } else { bail!("{what} was ended as well: {}", held.log()) }
}

#[test]
fn same_node_connections_end_with_their_grant_and_only_those() -> Result<()> {
    let mesh = start("revoke")?;
    let server = Held::serve(mesh.pod("server").place(), PORT)?;
    let vip = mesh.vip("shop/server")?.to_string();
    let endpoint = mesh.pod("server").v6().to_string();
    let taken = [
        ("the grant goes away", "  dependsOn: [ { service: far, port: web } ]\n"),
        ("the grant gains L7", "  dependsOn: [ { service: server, port: web, http: [ { methods: [GET], pathPrefix: / } ] }, { service: far, port: web } ]\n"),
    ];
    let (mut ended, mut revoked) = (0, 0);
    for (what, client) in taken {
        let stays = Held::dial(mesh.pod("stranger").place(), &vip, 80, 2)?;
        let v4 = Held::dial(mesh.pod("client").place(), &vip, 80, 2)?;
        let v6 = Held::dial(mesh.pod("client").place(), &endpoint, PORT, 1)?;
        mesh.recatalog(&catalog(client))?;
        (ended, revoked) = (ended + 3, revoked + 3);
        for (held, count) in [(&v4, 2), (&v6, 1)] {
            let ends = held.wait_for_ends(count, SOON).with_context(|| format!("{what}\n{}", mesh.logs()))?;
            assert!(ends.iter().all(|e| was_cut(e.errno)), "{what}: {ends:?}");
        }
        server.wait_for_ends(ended, SOON).with_context(|| format!("{what}: the server's side"))?;
        untouched(&stays, "a connection whose grant stays")?;
        assert_eq!(server.ends().len(), ended, "{what}");
        let flows = mesh.flows(0)?;
        let closed = flows.iter().filter(|f| f.point == "kernel-out" && f.source == "shop/client" && f.detail.contains("revoked") && f.duration_us > 0).count();
        assert_eq!(closed, revoked, "{what}: {flows:#?}");
        drop(stays);
        ended += 2;
        server.wait_for_ends(ended, SOON)?;
        mesh.recatalog(&catalog(DEPENDS))?;
    }
    Ok(())
}

#[test]
fn a_dependency_that_narrows_to_another_port_ends_what_the_first_had_allowed() -> Result<()> {
    let two = |text: &str| {
        text.replace("{ name: server, namespace: shop }\nspec:\n  type: application\n  owner: shop\n  ports: [ { name: web, port: 80, targetPort: 8080 }", 
        "{ name: server, namespace: shop }\nspec:\n  type: application\n  owner: shop\n  ports: [ { name: web, port: 80, targetPort: 8080 }, { name: alt, port: 81, targetPort: 8081 }")
    };
    let every = "  dependsOn: [ { service: server }, { service: far, port: web } ]\n";
    let mesh = Mesh::start("narrow", &MeshOptions { catalog: two(&catalog(every)), ..MeshOptions::default() })?;
    let (_web, _alt) = (Held::serve(mesh.pod("server").place(), 8080)?, Held::serve(mesh.pod("server").place(), 8081)?);
    let vip = mesh.vip("shop/server")?.to_string();
    let web = Held::dial(mesh.pod("client").place(), &vip, 80, 1)?;
    let alt = Held::dial(mesh.pod("client").place(), &vip, 81, 1)?;
    mesh.recatalog(&two(&catalog(DEPENDS)))?;
    alt.wait_for_ends(1, SOON).with_context(|| mesh.logs())?;
    untouched(&web, "the port that is still granted")
}

#[test]
fn a_workload_that_is_withdrawn_loses_its_connections_at_both_ends() -> Result<()> {
    let mesh = start("withdraw")?;
    let server = Held::serve(mesh.pod("server").place(), PORT)?;
    let vip = mesh.vip("shop/server")?.to_string();
    let stays = Held::dial(mesh.pod("stranger").place(), &vip, 80, 1)?;
    let goes = Held::dial(mesh.pod("client").place(), &vip, 80, 1)?;
    let remaining: Vec<_> = ["stranger", "server"].iter().map(|pod| Workload::of(&format!("shop/{pod}"), mesh.pod(pod))).collect();
    mesh.agents[0].set_workloads(&remaining)?;
    goes.wait_for_ends(1, SOON).with_context(|| mesh.logs())?;
    server.wait_for_ends(1, SOON).context("the peer's side, which no reset reaches")?;
    untouched(&stays, "a connection between two others")
}

#[test]
fn thousands_of_connections_end_and_new_verdicts_do_not_wait_for_it() -> Result<()> {
    const MANY: usize = 4000;
    let mesh = start("many")?;
    let server = Held::serve(mesh.pod("server").place(), PORT)?;
    let vip = mesh.vip("shop/server")?.to_string();
    let many: Vec<_> = (0..4).map(|_| Held::dial(mesh.pod("client").place(), &vip, 80, MANY / 4)).collect::<Result<_>>()?;
    let began = Instant::now();
    mesh.recatalog(&catalog("  dependsOn: [ { service: far, port: web } ]\n"))?;
    let in_force = began.elapsed();
    for held in &many {
        held.wait_for_ends(MANY / 4, SOON).with_context(|| mesh.logs())?;
    }
    server.wait_for_ends(MANY, SOON)?;
    println!("{MANY} connections: in force after {in_force:?}, all ended after {:?}", began.elapsed());
    Ok(())
}

/// Catalog change → kernel verdict → end of a live connection, over many changes. Prints the figures; the bound is generous, for a loaded machine.
#[test]
fn revocation_is_quick() -> Result<()> {
    const CHANGES: usize = 50;
    let mesh = start("quick")?;
    let _server = Held::serve(mesh.pod("server").place(), PORT)?;
    let vip = mesh.vip("shop/server")?.to_string();
    let without = catalog("  dependsOn: [ { service: far, port: web } ]\n");
    let pinned = mesh.pinned(0)?;
    let (mut verdicts, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..CHANGES {
        let held = Held::dial(mesh.pod("client").place(), &vip, 80, 1)?;
        let before = pinned.state()?.revision();
        let began = monotonic_ns();
        std::fs::write(mesh.catalog.join("mesh.yaml"), &without)?;
        while pinned.state()?.revision() == before {
            std::thread::sleep(Duration::from_micros(200));
            if monotonic_ns() - began > SETTLE.as_nanos() as u64 {
                bail!("no later revision\n{}", mesh.logs());
            }
        }
        verdicts.push(monotonic_ns() - began);
        ends.push(held.wait_for_ends(1, SOON)?[0].at_ns.saturating_sub(began));
        mesh.recatalog(&catalog(DEPENDS))?;
    }
    println!("catalog change → kernel verdict: {}\ncatalog change → end of a live connection: {}", quantiles(&mut verdicts), quantiles(&mut ends));
    assert!(ends.last().is_some_and(|worst| *worst < SOON.as_nanos() as u64));
    Ok(())
}

fn monotonic_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Sorts; milliseconds.
fn quantiles(ns: &mut [u64]) -> String {
    ns.sort_unstable();
    let at = |q: usize| ns[(ns.len() - 1) * q / 100] as f64 / 1e6;
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms over {}", at(50), at(99), at(100), ns.len())
}

/// Its address may have gone with it, so that nothing would ever answer.
#[test]
fn who_dials_a_workload_that_goes_is_told_at_once() -> Result<()> {
    let mesh = start("dialling")?;
    let (client, server) = (mesh.pod("client").clone(), mesh.pod("server").clone());
    let to = server.v4();
    // A server that is there and does not answer: its veth is down, and the client does not find that out by asking for its link address.
    let link = server.place().ip("-o link show eth0")?;
    let mac = link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).context("no link address")?;
    client.place().ip(&format!("neigh replace {to} lladdr {mac} dev eth0"))?;
    mesh.nodes[0].place().ip(&format!("link set p{} down", to.octets()[3]))?;
    let mut dial = client.place().spawn("dial", &["python3", "-u", "-c", DIAL, &to.to_string(), &PORT.to_string()])?;
    dial.wait_for_log("dialling", SETTLE)?;
    throughout(SOON, "a dial to a workload that stays", || if dial.is_running() { Ok(()) } else { bail!("it ended: {}", dial.log()) })?;

    let others = mesh.pods.iter().filter(|p| p.0 == "a" && p.1 != "server").map(|p| Workload::of(&format!("shop/{}", p.1), &p.2));
    mesh.agents[0].set_workloads(&others.collect::<Vec<_>>())?;
    dial.wait(SOON).with_context(|| mesh.logs())?;
    assert!(dial.log().contains(&format!("errno {ECONNABORTED}")), "{}", dial.log());
    Ok(())
}

const DIAL: &str = r#"
import socket, sys
s = socket.socket()
print("dialling")
print("errno", s.connect_ex((sys.argv[1], int(sys.argv[2]))))
"#;
