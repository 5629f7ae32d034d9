//! A workload with a thousand greedy streams beside a polite one, on the same agents: what it costs the polite one, and what is refused.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;
use weft_lab::{Pod, Proc, eventually};
use weft_tests::{Mesh, MeshOptions, SETTLE, SHOP, probe};

const PROGRAM: &str = include_str!("../src/fairness.py");
const PORT: &str = "8080";
const STREAMS: &str = "1000";
/// Descriptors of each agent: few enough that a thousand connections are more than a workload's share.
const DESCRIPTORS: u64 = 4096;

#[derive(Debug, Deserialize)]
struct Rounds {
    p50_ms: f64,
    p99_ms: f64,
    fresh_p99_ms: f64,
    rounds: usize,
}

#[derive(Debug, Deserialize)]
struct Held {
    held: usize,
    refused: usize,
}

#[test]
fn a_thousand_greedy_streams_do_not_starve_a_polite_workload() -> Result<()> {
    let mesh = shop("fair")?;
    let _sinks = sinks(&mesh)?;
    let far = mesh.vip("shop/far")?.to_string();
    let plain = without_the_mesh(&mesh)?;
    println!("without the mesh: alone {:?}, beside {:?}", plain.0, plain.1);
    let client = mesh.pod("client");
    let alone = polite(client, &far, 80)?;
    let mut greedy = spawn(mesh.pod("greedy"), "greedy", &["greedy", &mesh.vip("shop/server")?.to_string(), "80", STREAMS])?;
    greedy.wait_for_log("flowing", Duration::from_secs(120))?;
    greedy.wait_for_log("MB/s", SETTLE)?;
    let beside = polite(client, &far, 80)?;
    for (what, r) in [("alone", &alone), ("beside the greedy", &beside)] {
        println!("{what}: p50 {:.2} ms, p99 {:.2} ms, p99 of new connections {:.2} ms", r.p50_ms, r.p99_ms, r.fresh_p99_ms);
    }
    println!("greedy: {}", greedy.log_tail(1));
    assert!(greedy.is_running(), "{}\n{}", greedy.log(), mesh.logs());
    // How long it took is printed and judged by nobody: the machine is shared with the greedy programs themselves.
    assert!(alone.rounds > 100 && beside.rounds > 100, "{alone:?} {beside:?}");
    greedy.kill9();
    Ok(())
}

#[test]
fn who_has_its_share_of_descriptors_is_refused_and_a_neighbour_is_not() -> Result<()> {
    // The agents inherit it.
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum: before.maximum.map(|_| DESCRIPTORS).or(Some(DESCRIPTORS)) })?;
    let mesh = shop("budget")?;
    let _sinks = sinks(&mesh)?;
    let (far, server) = (mesh.vip("shop/far")?.to_string(), mesh.vip("shop/server")?.to_string());
    let mut greedy = spawn(mesh.pod("greedy"), "hold", &["hold", &server, "80", STREAMS])?;
    let held: Held = told(&mut greedy)?;
    println!("{held:?} with {DESCRIPTORS} descriptors");
    assert!(held.refused > 0 && held.held > 100, "{held:?}\n{}", mesh.logs());
    let neighbour = probe_echo(&mesh, &far)?;
    assert!(neighbour, "the neighbour was refused\n{}", mesh.logs());

    let flows = mesh.flows(0)?;
    let refused = flows.iter().find(|f| f.reason == "budget").context("no record of a refusal")?;
    assert_eq!(refused.verdict, "deny");
    assert!(refused.detail.contains("descriptors"), "{}", refused.detail);
    let count = metric(&mesh, "weft_proxy_refused_total{point=\"proxy-out\",reason=\"budget\"}")?;
    assert_eq!(count, held.refused as f64);
    assert!(metric(&mesh, "weft_proxy_descriptors{state=\"used\"}")? >= 2.0 * held.held as f64);

    // What it gives back it can have again.
    greedy.kill9();
    eventually(SETTLE, "the descriptors back", || -> Result<()> {
        let used = metric(&mesh, "weft_proxy_descriptors{state=\"used\"}")?;
        if used < 10.0 { Ok(()) } else { bail!("{used} used") }
    })?;
    let again = probe(mesh.pod("greedy").place(), "tcp", &server, 80, "e-again")?;
    assert!(again.error.is_empty() || again.ok, "{again:?}");
    Ok(())
}

/// `greedy` may reach `server`, `client` may reach `far`; both are on the other node.
fn shop(tag: &str) -> Result<Mesh> {
    let greedy = "---\napiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: { name: greedy, namespace: shop }\nspec:\n  type: application\n  owner: shop\n  \
                  ports: [ { name: web, port: 80, targetPort: 8080 } ]\n  dependsOn: [ { service: server, port: web } ]\n";
    let workloads = vec![("a", "client", "shop/client"), ("a", "greedy", "shop/greedy"), ("b", "server", "shop/server"), ("b", "far", "shop/far")];
    Mesh::start(tag, &MeshOptions { catalog: format!("{SHOP}{greedy}"), workloads, ..MeshOptions::default() })
}

fn sinks(mesh: &Mesh) -> Result<Vec<Proc>> {
    ["server", "far"]
        .iter()
        .map(|name| {
            let mut sink = spawn(mesh.pod(name), "sink", &["sink", PORT])?;
            sink.wait_for_log("ready", SETTLE)?;
            Ok(sink)
        })
        .collect()
}

/// All but the polite run as nice as can be: it is the agents' time that is looked at, not theirs.
fn spawn(pod: &Pod, name: &str, argv: &[&str]) -> Result<Proc> {
    let argv: Vec<&str> = ["nice", "-n", if argv.first() == Some(&"greedy") { "19" } else { "0" }, "python3", "-u", "-c", PROGRAM]
        .into_iter()
        .chain(argv.iter().copied())
        .collect();
    Ok(pod.place().spawn(name, &argv)?)
}

/// The same four programs in pods that no agent knows: what the machine itself costs the polite one.
fn without_the_mesh(mesh: &Mesh) -> Result<(Rounds, Rounds)> {
    let pods = [mesh.outsider(0, "plain-client")?, mesh.outsider(0, "plain-greedy")?, mesh.outsider(1, "plain-far")?, mesh.outsider(1, "plain-server")?];
    let [client, greedy, far, server] = &pods;
    let (mut a, mut b) = (spawn(far, "sink", &["sink", PORT])?, spawn(server, "sink", &["sink", PORT])?);
    a.wait_for_log("ready", SETTLE)?;
    b.wait_for_log("ready", SETTLE)?;
    let alone = polite(client, &far.v4().to_string(), 8080)?;
    let mut greedy = spawn(greedy, "greedy", &["greedy", &server.v4().to_string(), PORT, STREAMS])?;
    greedy.wait_for_log("MB/s", Duration::from_secs(120))?;
    let beside = polite(client, &far.v4().to_string(), 8080)?;
    for process in [&mut greedy, &mut a, &mut b] {
        process.kill9();
    }
    Ok((alone, beside))
}

fn polite(from: &Pod, to: &str, port: u16) -> Result<Rounds> {
    let said = from.place().check(&["python3", "-c", PROGRAM, "polite", to, &port.to_string(), "8"], Duration::from_secs(120))?;
    Ok(serde_json::from_str(said.trim())?)
}

fn probe_echo(mesh: &Mesh, to: &str) -> Result<bool> {
    let mut one = spawn(mesh.pod("client"), "one", &["hold", to, "80", "1"])?;
    let held: Held = told(&mut one)?;
    one.kill9();
    Ok(held.held == 1)
}

fn told(process: &mut Proc) -> Result<Held> {
    process.wait_for_log("}", Duration::from_secs(120))?;
    let log = process.log();
    Ok(serde_json::from_str(log.lines().find(|l| l.starts_with('{')).with_context(|| log.clone())?)?)
}

fn metric(mesh: &Mesh, name: &str) -> Result<f64> {
    let text = mesh.nodes[0].place().http_get(weft_lab::METRICS, "/metrics")?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(line.trim().parse()?)
}
