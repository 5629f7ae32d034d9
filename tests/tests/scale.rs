//! A big mesh on one node: what it costs, and that a small change stays small. Prints figures; the bounds asserted are wide.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use weft_lab::{Workload, eventually};
use weft_tests::{Mesh, MeshOptions, SHOP, Server, probe};

const SERVICES: usize = 1_000;
/// Of each service: 100,000 pairs in all.
const DEPENDENCIES: usize = 100;
const WORKLOADS: usize = 500;
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

    let began = Instant::now();
    for i in 0..SERVICES {
        fs::write(mesh.catalog.join(format!("s{i}.yaml")), service(i, DEPENDENCIES))?;
    }
    in_force(&mesh, |grants| grants >= SERVICES * DEPENDENCIES)?;
    println!("{SERVICES} services, {} pairs in force after {:?}", SERVICES * DEPENDENCIES, began.elapsed());
    println!("agent: {}; maps {} KiB", rss(pid)?, maps_kib(pid)?);
    connect("100,000 pairs")?;

    let mut took = Vec::new();
    for round in 0..10 {
        let granted = round % 2 == 0;
        let marker = format!("change-{round}");
        let dependencies = if granted { ", { service: server, port: web }" } else { "" };
        let began = Instant::now();
        let text = SHOP.replace(
            "name: stranger, namespace: shop }\nspec:\n",
            &format!("name: stranger, namespace: shop }}\nspec:\n  dependsOn: [ {} ]\n", dependencies.trim_start_matches(", ")),
        );
        fs::write(mesh.catalog.join("mesh.yaml"), text)?;
        eventually(LONG, "the verdict to change", || {
            let outcome = probe(mesh.pod("stranger").place(), "tcp", &near, 8080, &marker)?;
            if outcome.ok == granted { Ok(()) } else { bail!("{outcome:?}") }
        })?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("catalog change → kernel verdict: median {:?}, worst {:?}", took[took.len() / 2], took[took.len() - 1]);

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
