//! A big mesh on one node: what it costs, and that a small change stays small. Prints figures; the bounds asserted are wide.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use weft_lab::{Workload, eventually};
use weft_tests::{Held, Mesh, MeshOptions, Phantom, SHOP, Server};

const SERVICES: usize = 1_000;
/// Of each service: 100,000 pairs in all.
const DEPENDENCIES: usize = 100;
/// Of each service, each on a node of its own.
const ENDPOINTS: usize = 10;
const WORKLOADS: usize = 500;
/// Grants and revocations that are measured.
const ROUNDS: usize = 10;
const HELD_PORT: u16 = 8081;
const LONG: Duration = Duration::from_secs(240);

#[test]
#[ignore = "takes minutes and measures: run it by `cargo xtask test privileged -- --test scale -- --ignored --nocapture`"]
fn a_thousand_services_and_five_hundred_workloads() -> Result<()> {
    let mut mesh = Mesh::start("scale", &MeshOptions::default())?;
    let pid = mesh.agents[0].process().context("no agent")?.pid();
    let _server = Server::start(mesh.pod("server").place(), "near", 8080)?;
    let (client, near) = (mesh.pod("client").place(), mesh.pod("server").v4().to_string());
    let connect = |what: &str| -> Result<()> {
        let out = client.output(&["python3", "-c", CONNECT, &near, "8080"], LONG)?;
        println!("connect + close, {what}: {}", String::from_utf8_lossy(&out.stdout).trim());
        Ok(())
    };
    println!("agent at rest: {}; maps {} KiB", rss(pid)?, maps_kib(pid)?);
    connect("few pairs")?;
    let _crowd = fill(&mesh)?;
    println!("agent: {}; maps {} KiB", rss(pid)?, maps_kib(pid)?);
    connect("100,000 pairs")?;

    let held = Held::serve(mesh.pod("server").place(), HELD_PORT)?;
    let (mut verdicts, mut ends) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        verdicts.push(change_until(&mesh, &near, true, &format!("on-{round}"))?);
        let live = Held::dial(mesh.pod("stranger").place(), &mesh.vip("shop/server")?.to_string(), 81, 1)?;
        let began = monotonic_ns();
        verdicts.push(change_until(&mesh, &near, false, &format!("off-{round}"))?);
        let end = live.wait_for_ends(1, LONG).with_context(|| held.log())?;
        ends.push(Duration::from_nanos(end[0].at_ns.saturating_sub(began)));
    }
    let verdict = percentiles("catalog change → kernel verdict", verdicts);
    let end = percentiles("catalog change → end of a revoked live connection", ends);
    for agent in &mesh.agents {
        let lines = agent.log().lines().filter(|l| l.contains("revision is in force")).map(str::to_owned).collect::<Vec<_>>();
        println!("{}", lines[lines.len().saturating_sub(3)..].join("\n"));
        assert!(lines.last().is_some_and(|l| !l.contains("base=0")), "the last revision came whole");
    }
    let bridge = mesh.bridge.log();
    let published: Vec<_> = bridge.lines().filter(|l| l.contains("snapshot published")).collect();
    println!("{}", published[published.len().saturating_sub(3)..].join("\n"));

    enrol(&mut mesh, pid)?;
    // Wide: the figures say more, but a whole snapshot each time would not stay below.
    assert!(verdict < Duration::from_secs(5) && end < Duration::from_secs(5), "{verdict:?} {end:?}");
    Ok(())
}

/// A thousand services with their dependencies, and ten endpoints each, of nodes that report them.
fn fill(mesh: &Mesh) -> Result<Vec<Phantom>> {
    let began = Instant::now();
    fs::write(mesh.catalog.join("mesh.yaml"), shop(false))?;
    for i in 0..SERVICES {
        fs::write(mesh.catalog.join(format!("s{i}.yaml")), service(i, DEPENDENCIES))?;
    }
    in_force(mesh, |grants| grants >= SERVICES * DEPENDENCIES)?;
    println!("{SERVICES} services, {} pairs in force after {:?}", SERVICES * DEPENDENCIES, began.elapsed());
    let began = Instant::now();
    let mut crowd = Vec::new();
    for node in 0..ENDPOINTS {
        let workloads = (0..SERVICES).map(|i| (format!("w{i}"), format!("big/s{i}"), format!("10.{}.{}.{}", 100 + node, i / 250, 1 + i % 250)));
        crowd.push(Phantom::join(&mesh.bridge, &format!("crowd-{node}"), &["big/*"], workloads.collect())?);
    }
    let pinned = mesh.pinned(0)?;
    eventually(LONG, "the endpoints in the kernel", || {
        let n = pinned.dump()?.destinations.len();
        if n > SERVICES * (ENDPOINTS + 1) { Ok(()) } else { bail!("{n} destinations") }
    })
    .with_context(|| mesh.logs())?;
    println!("{} endpoints of {ENDPOINTS} more nodes in force after {:?}", SERVICES * ENDPOINTS, began.elapsed());
    Ok(crowd)
}

/// The catalog with or without the stranger's grant.
fn shop(granted: bool) -> String {
    let ports = SHOP.replace(
        "{ name: web, port: 80, targetPort: 8080 }",
        &format!("{{ name: web, port: 80, targetPort: 8080 }}, {{ name: held, port: 81, targetPort: {HELD_PORT} }}"),
    );
    let dependencies = if granted { "{ service: server }" } else { "" };
    ports.replace("name: stranger, namespace: shop }\nspec:\n", &format!("name: stranger, namespace: shop }}\nspec:\n  dependsOn: [ {dependencies} ]\n"))
}

/// From the file's change until the kernel judges by it, seen from inside the workload.
fn change_until(mesh: &Mesh, near: &str, granted: bool, marker: &str) -> Result<Duration> {
    let began = monotonic_ns();
    fs::write(mesh.catalog.join("mesh.yaml"), shop(granted))?;
    let stranger = mesh.pod("stranger").place();
    let out = stranger.output(&["python3", "-c", UNTIL, near, "8080", if granted { "1" } else { "0" }], LONG)?;
    if !out.status.success() {
        bail!("{marker}: {}\n{}", String::from_utf8_lossy(&out.stderr), mesh.logs());
    }
    let at_ns: u64 = String::from_utf8_lossy(&out.stdout).trim().parse()?;
    Ok(Duration::from_nanos(at_ns.saturating_sub(began)))
}

fn percentiles(what: &str, mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    let p99 = all[(all.len() * 99).div_ceil(100) - 1];
    println!("{what}: p50 {:?}, p99 {p99:?} of {}", all[all.len() / 2], all.len());
    p99
}

fn monotonic_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Five hundred workloads on one node, five in a pod; then what the agent costs at rest.
fn enrol(mesh: &mut Mesh, pid: u32) -> Result<()> {
    let mut all: Vec<_> = mesh.pods.iter().filter(|p| p.0 == "a").map(|p| Workload::of(&format!("shop/{}", p.1), &p.2)).collect();
    for i in 0..WORKLOADS / 5 {
        let pod = mesh.nodes[0].pod(&format!("w{i}"))?;
        for j in 0..5 {
            let cgroup = format!("{}-{j}", pod.cgroup_below_node());
            fs::create_dir_all(mesh.nodes[0].cgroup().join(&cgroup))?;
            all.push(Workload { service: "shop/client".to_owned(), cgroup, netns: pod.place().netns(), uid: None });
        }
    }
    let began = Instant::now();
    mesh.agents[0].set_workloads(&all)?;
    eventually(LONG, "all of them enrolled", || {
        let n = mesh.status(0)?.workloads.iter().filter(|w| w.enrolled_in_kernel).count();
        if n == all.len() { Ok(()) } else { bail!("{n}") }
    })
    .with_context(|| mesh.logs())?;
    println!("{WORKLOADS} workloads enrolled in {:?}; agent: {}", began.elapsed(), rss(pid)?);
    let began = Instant::now();
    mesh.status(0)?;
    println!("status: {:?}", began.elapsed());
    let cpu = |pid| -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
    };
    let (before, began) = (cpu(pid)?, Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let idle = (cpu(pid)? - before) as f64 / began.elapsed().as_secs_f64();
    println!("agent idle with {WORKLOADS} workloads: {idle:.1} % of a core");
    assert!(idle < 50.0, "{idle}");
    Ok(())
}

/// Waits until node a has so many grants in its kernel.
fn in_force(mesh: &Mesh, enough: impl Fn(usize) -> bool) -> Result<()> {
    let pinned = mesh.pinned(0)?;
    eventually(LONG, "the pairs in the kernel", || {
        let n = pinned.dump()?.grants.len();
        if enough(n) { Ok(()) } else { bail!("{n} grants") }
    })
    .with_context(|| mesh.logs())
}

fn service(i: usize, dependencies: usize) -> String {
    let mut text = format!(
        "apiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: s{i}, namespace: big }}\nspec:\n  type: application\n  owner: shop\n  \
         ports: [ {{ name: web, port: 80, targetPort: 8080 }} ]\n  dependsOn:\n"
    );
    for j in 1..=dependencies {
        let _ = writeln!(text, "    - {{ service: s{}, port: web }}", (i + j) % SERVICES);
    }
    text
}

fn rss(pid: u32) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|l| l.starts_with("VmRSS")).context("no VmRSS")?;
    Ok(line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
}

/// What the kernel charges for the agent's maps.
fn maps_kib(pid: u32) -> Result<u64> {
    let (mut seen, mut sum) = (std::collections::BTreeSet::new(), 0);
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).and_then(|v| v.trim().parse::<u64>().ok());
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:"))
            && seen.insert(id)
        {
            sum += bytes;
        }
    }
    Ok(sum / 1024)
}

const CONNECT: &str = r#"
import socket, sys, time
all = []
for _ in range(3000):
    s = socket.socket()
    began = time.perf_counter_ns()
    s.connect((sys.argv[1], int(sys.argv[2])))
    all.append(time.perf_counter_ns() - began)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    s.close()
all.sort()
print(f"p50 {all[len(all)//2]/1000:.1f} us, p99 {all[len(all)*99//100]/1000:.1f} us")
"#;

/// Tries until the verdict is as wanted; prints when (CLOCK_MONOTONIC) that try began.
const UNTIL: &str = r#"
import socket, sys, time
while True:
    at = time.monotonic_ns()
    s = socket.socket()
    s.settimeout(2)
    try:
        s.connect((sys.argv[1], int(sys.argv[2])))
        ok = True
    except OSError:
        ok = False
    s.close()
    if ok == (sys.argv[3] == "1"):
        print(at)
        break
    time.sleep(0.005)
"#;
