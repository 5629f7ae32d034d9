//! The agent's life: restarts with and without a bridge, upgrades, workloads that come and go, its end.

use std::{
    process::Output,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use weft_api::agent::v1 as agent;
use weft_lab::{Inventory, bin, eventually};
use weft_tests::{Mesh, MeshOptions, SETTLE, Server, probe};

const PORT: u16 = 8080;
/// Keeps one connection open: says a line, waits for its echo, each time it reads a line from standard input.
const HOLD: &str = r#"
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
f = s.makefile("rb")
while True:
    s.sendall(b"tick\n")
    print("got", f.readline().decode().strip() or "end", flush=True)
    import os, time
    while not os.path.exists(sys.argv[3]): time.sleep(0.02)
    os.unlink(sys.argv[3])
"#;

fn command(mesh: &Mesh, node: usize, name: &str) -> Result<Output> {
    let agent = &mesh.agents[node];
    let program = bin("weft-agent")?;
    let argv = [program.to_str().context("path")?, name, "--config", agent.config().to_str().context("path")?];
    Ok(agent.place().output(&argv, Duration::from_secs(30))?)
}

fn workload(mesh: &Mesh, node: usize, uid: &str) -> Result<agent::Workload> {
    let status = mesh.status(node)?;
    status.workloads.into_iter().find(|w| w.uid == uid).with_context(|| format!("no workload {uid}"))
}

#[test]
fn a_killed_agent_comes_back_without_a_bridge_and_nothing_is_reset() -> Result<()> {
    let mut mesh = Mesh::start("restart", &MeshOptions::default())?;
    let (before, _held) = (mesh.lab.before().clone(), mesh.lab.hold()?);
    let _server = Server::start(mesh.pod("far").place(), "far", PORT)?;
    let vip = mesh.vip("shop/far")?.to_string();
    let control = probe(mesh.pod("client").place(), "tcp", &vip, 80, "before")?;
    assert!(control.ok, "{control:?}\n{}", mesh.logs());

    mesh.bridge.kill9();
    mesh.agents[0].kill9();
    mesh.agents[1].kill9();
    // Nobody accepts: the connection waits in the backlog that the holder keeps. What is denied is denied at once.
    let client = mesh.pod("client").place().in_cgroup(mesh.pod("client").place().cgroup())?;
    let waiting = {
        let vip = vip.clone();
        thread::spawn(move || probe(&client, "tcp", &vip, 80, "waited"))
    };
    let denied = probe(mesh.pod("stranger").place(), "tcp", &vip, 80, "denied")?;
    assert!(!denied.ok && denied.errno == 1, "{denied:?}");
    assert!(!waiting.is_finished(), "the connection did not wait");

    for i in 0..2 {
        mesh.agents[i].run()?;
    }
    let waited = waiting.join().expect("the thread of the probe")?;
    assert!(waited.ok, "{waited:?}\n{}", mesh.logs());
    for i in 0..2 {
        let status = mesh.status(i)?;
        assert!(!status.bridge_connected && !status.bridge_error.is_empty(), "{status:?}");
        assert!(status.fail_static_until > 0 && status.holder_connected, "{status:?}");
        let mine: Vec<_> = status.workloads.iter().filter(|w| w.class == "enrolled").collect();
        assert!(!mine.is_empty() && mine.iter().all(|w| w.enrolled_in_kernel), "{:?}", status.workloads);
        assert_eq!(status.revision, status.kernel_revision);
    }
    let denied = probe(mesh.pod("stranger").place(), "tcp", &vip, 80, "denied")?;
    assert!(!denied.ok, "{denied:?}");

    mesh.bridge.run()?;
    mesh.settled()?;
    drop((_server, mesh));
    Inventory::take().same_as(&before).map_err(anyhow::Error::msg)
}

#[test]
fn an_upgrade_leaves_open_connections_alone_and_the_policy_still_reaches_them() -> Result<()> {
    let mut mesh = Mesh::start("upgrade", &MeshOptions::default())?;
    let server = Server::start(mesh.pod("far").place(), "far", PORT)?;
    let vip = mesh.vip("shop/far")?.to_string();
    let go = mesh.pod("client").dir().join("go");
    let go_text = go.display().to_string();
    let mut held = mesh.pod("client").place().spawn("held", &["python3", "-u", "-c", HOLD, vip.as_str(), "80", go_text.as_str()])?;
    held.wait_for_log("got far", SETTLE)?;

    // The old one drains in the background while its successor is at work.
    mesh.agents[0].replace(&bin("weft-agent")?)?;
    mesh.settled()?;
    let lines = |log: &str| log.lines().filter(|l| l.starts_with("got far")).count();
    let said = lines(&held.log());
    std::fs::write(&go, "")?;
    eventually(SETTLE, "an answer over the old connection", || if lines(&held.log()) > said { Ok(()) } else { bail!("{}\n{}", held.log(), mesh.logs()) })?;
    assert!(mesh.agents[0].predecessor().is_some_and(|p| p.is_running()), "it was the old agent's connection");
    let fresh = probe(mesh.pod("client").place(), "tcp", &vip, 80, "fresh")?;
    assert!(fresh.ok, "{fresh:?}\n{}", mesh.logs());

    // The grant goes: the connection that the old agent still carries is closed all the same.
    mesh.recatalog(&weft_tests::SHOP.replace(", { service: far, port: web }", ""))?;
    let ended = mesh.agents[0].predecessor().context("no process")?.wait(Duration::from_secs(8))?;
    assert!(ended.success(), "{ended:?}");
    drop(server);
    Ok(())
}

#[test]
fn live_workloads_come_stay_over_a_restart_and_go() -> Result<()> {
    let mut mesh = Mesh::start("live", &MeshOptions::default())?;
    let _server = Server::start(mesh.pod("far").place(), "far", PORT)?;
    let vip = mesh.vip("shop/far")?.to_string();
    let pod = mesh.nodes[0].pod("late")?;
    let denied = probe(pod.place(), "tcp", &vip, 80, "early")?;
    assert!(!denied.ok && denied.errno == 1, "an unidentified workload: {denied:?}");

    let request = |uid: &str| agent::AddWorkloadRequest {
        uid: uid.to_owned(),
        service: "shop/client".to_owned(),
        cgroup: pod.cgroup_below_node(),
        netns: pod.place().netns().display().to_string(),
    };
    let added = mesh.call(0, async |mut c| c.add_workload(request("")).await)?;
    assert!(added.enrolled_in_kernel && added.uid == "late" && added.class == "enrolled", "{added:?}");
    let seen = probe(pod.place(), "tcp", &vip, 80, "enrolled")?;
    assert!(seen.ok, "{seen:?}\n{}", mesh.logs());
    // The same again is no error; another one in its place is.
    mesh.call(0, async |mut c| c.add_workload(request("late")).await)?;
    mesh.call(0, async |mut c| c.add_workload(request("other")).await).expect_err("two workloads in one cgroup");
    mesh.call(0, async |mut c| c.remove_workload(agent::RemoveWorkloadRequest { uid: "client".into() }).await).expect_err("it is a static one");

    mesh.agents[0].kill9();
    mesh.agents[0].run()?;
    assert!(workload(&mesh, 0, "late")?.enrolled_in_kernel);
    let seen = probe(pod.place(), "tcp", &vip, 80, "again")?;
    assert!(seen.ok, "{seen:?}\n{}", mesh.logs());

    mesh.call(0, async |mut c| c.remove_workload(agent::RemoveWorkloadRequest { uid: "late".into() }).await)?;
    let denied = probe(pod.place(), "tcp", &vip, 80, "removed")?;
    assert!(!denied.ok && denied.errno == 1, "{denied:?}");
    workload(&mesh, 0, "late").expect_err("it is still listed");
    Ok(())
}

#[test]
fn a_program_run_inside_a_workload_has_its_root_network_and_identity() -> Result<()> {
    let mesh = Mesh::start("exec", &MeshOptions::default())?;
    let _server = Server::start(mesh.pod("far").place(), "far", PORT)?;
    let (client, far) = (mesh.pod("client").place(), mesh.vip("shop/far")?);
    // A root that is not the root of its mount namespace, as a chroot leaves it; one file tells it from any other.
    let root = client.dir().join("root").display().to_string();
    std::fs::create_dir(&root)?;
    let script = format!(
        "mount --rbind / {root} && mount -t tmpfs none {root}/mnt && echo inside > {root}/mnt/where && exec chroot {root} sh -c 'echo ready; exec sleep 60'"
    );
    let mut workload = client.spawn("chrooted", &["unshare", "--mount", "--propagation", "private", "sh", "-c", &script])?;
    workload.wait_for_log("ready", SETTLE)?;

    let node = mesh.agents[0].place();
    let socket = mesh.agents[0].socket().display().to_string();
    let weft = bin("weft")?.display().to_string();
    let inside = |service: &str, command: &str| node.output(&[&weft, "--agent", &socket, "exec", service, "--", "sh", "-c", command], SETTLE);
    let seen = inside("shop/client", "cat /mnt/where /proc/self/cgroup; ip -o -4 address show")?;
    let text = String::from_utf8_lossy(&seen.stdout);
    assert!(seen.status.success(), "{seen:?}");
    assert!(
        text.starts_with("inside\n") && text.contains(&mesh.pod("client").cgroup_below_node()) && text.contains(&mesh.pod("client").v4().to_string()),
        "{text}"
    );
    // Judged as the workload: what one may, the other may not.
    let dial = format!("python3 -c 'import socket; socket.create_connection((\"{far}\", 80), 10)'");
    assert!(inside("shop/client", &dial)?.status.success(), "{}", mesh.logs());
    assert!(!inside("shop/stranger", &dial)?.status.success());
    Ok(())
}

#[test]
fn a_vanished_workload_is_withdrawn_within_a_second_and_its_namespace_dies() -> Result<()> {
    let mut mesh = Mesh::start("vanish", &MeshOptions::default())?;
    let links = |mesh: &Mesh| mesh.nodes[1].place().ip("-o link show type veth").map(|t| t.lines().count());
    let before = links(&mesh)?;
    assert!(workload(&mesh, 1, "far")?.enrolled_in_kernel);
    let at = mesh.pods.iter().position(|p| p.1 == "far").context("no far")?;
    mesh.pods.remove(at).2.remove()?;
    let began = Instant::now();
    // A namespace takes its veth along only when nobody holds a descriptor of it any more.
    eventually(Duration::from_secs(2), "the namespace to die", || -> Result<()> {
        let now = links(&mesh)?;
        if now < before { Ok(()) } else { bail!("{now} links") }
    })
    .with_context(|| mesh.logs())?;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1500), "{took:?}");
    let gone = workload(&mesh, 1, "far")?;
    assert!(gone.class == "unidentified" && !gone.enrolled_in_kernel && gone.problem.contains("not there"), "{gone:?}");
    eventually(SETTLE, "the endpoint to go everywhere", || -> Result<()> {
        let snapshot = mesh.snapshot(0)?;
        let left = snapshot.endpoints.iter().filter(|e| e.uid.as_str() == "far").count();
        if left == 0 { Ok(()) } else { bail!("{left} endpoints") }
    })?;
    Ok(())
}

#[test]
fn a_lost_holder_is_replaced_and_an_emptied_table_filled_again() -> Result<()> {
    let mut mesh = Mesh::start("repair", &MeshOptions::default())?;
    let _server = Server::start(mesh.pod("far").place(), "far", PORT)?;
    let vip = mesh.vip("shop/far")?.to_string();
    let agent = mesh.agents[0].process().context("no process")?.pid();
    let others: Vec<u32> = weft_lab::pids_below(mesh.agents[0].place().cgroup()).iter().filter_map(|p| p.parse().ok()).filter(|p| *p != agent).collect();
    assert_eq!(others.len(), 1, "the agent's cgroup holds the agent and its holder");
    signal(others[0], Signal::KILL)?;
    eventually(SETTLE, "a new holder", || -> Result<()> {
        let now: Vec<String> = weft_lab::pids_below(mesh.agents[0].place().cgroup());
        let fresh = now.iter().any(|p| p.parse() != Ok(agent) && p.parse() != Ok(others[0]));
        if fresh && mesh.status(0)?.holder_connected { Ok(()) } else { bail!("{now:?}") }
    })?;
    // It holds the listeners again, so that a restart resets nothing.
    thread::sleep(Duration::from_millis(1100));
    mesh.agents[0].kill9();
    let client = mesh.pod("client").place().in_cgroup(mesh.pod("client").place().cgroup())?;
    let waiting = {
        let vip = vip.clone();
        thread::spawn(move || probe(&client, "tcp", &vip, 80, "waited"))
    };
    thread::sleep(Duration::from_millis(300));
    mesh.agents[0].run()?;
    let waited = waiting.join().expect("the thread of the probe")?;
    assert!(waited.ok, "{waited:?}\n{}", mesh.logs());

    mesh.pinned(0)?.empty_workloads()?;
    assert!(workload(&mesh, 0, "client")?.enrolled_in_kernel, "a status reads back, and repairs");
    let seen = probe(mesh.pod("client").place(), "tcp", &vip, 80, "repaired")?;
    assert!(seen.ok, "{seen:?}\n{}", mesh.logs());
    Ok(())
}

#[test]
fn stop_ends_agent_and_holder_and_uninstall_leaves_nothing() -> Result<()> {
    let mut mesh = Mesh::start("uninstall", &MeshOptions::default())?;
    let (before, _held) = (mesh.lab.before().clone(), mesh.lab.hold()?);
    let _server = Server::start(mesh.pod("far").place(), "far", PORT)?;
    let far = mesh.pod("far").v4().to_string();
    let refused = command(&mesh, 0, "uninstall")?;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("an agent runs"), "{refused:?}");
    let second = command(&mesh, 0, "run")?;
    assert_eq!(second.status.code(), Some(2), "{second:?}");

    let own = mesh.agents[0].process().context("no process")?.pid();
    let stopped = command(&mesh, 0, "stop")?;
    assert!(stopped.status.success(), "{stopped:?}");
    // The lab's own child is left to be reaped.
    // A process that has ended stays in its cgroup for a moment.
    eventually(Duration::from_secs(2), "nothing but the lab's own child is left", || {
        let left = weft_lab::pids_below(mesh.agents[0].place().cgroup());
        if left.iter().all(|p| p.parse() == Ok(own)) { Ok(()) } else { Err(format!("{left:?} of {stopped:?}")) }
    })
    .map_err(anyhow::Error::msg)?;
    mesh.agents[0].stop();
    let denied = probe(mesh.pod("stranger").place(), "tcp", &far, PORT, "still enforced")?;
    assert!(!denied.ok && denied.errno == 1, "{denied:?}");

    let dir = mesh.nodes[0].dir().to_owned();
    let gone = command(&mesh, 0, "uninstall")?;
    assert!(gone.status.success(), "{gone:?}");
    for name in ["state", "run", "bpf"] {
        assert!(!dir.join(name).exists(), "{name} is left: {gone:?}");
    }
    let again = command(&mesh, 0, "uninstall")?;
    assert!(again.status.success(), "{again:?}");
    drop((_server, mesh));
    Inventory::take().same_as(&before).map_err(anyhow::Error::msg)
}

#[test]
fn svids_are_renewed_and_the_workloads_file_is_followed() -> Result<()> {
    let mesh = Mesh::start("renew", &MeshOptions { svid_ttl: "60s".to_owned(), ..MeshOptions::default() })?;
    let serials = |mesh: &Mesh| -> Result<Vec<(String, String)>> {
        let certs = mesh.call(0, async |mut c| c.certs(agent::CertsRequest {}).await)?.certs;
        Ok(certs.into_iter().filter(|c| c.spiffe_id.contains("/sa/")).map(|c| (c.spiffe_id, c.serial)).collect())
    };
    let first = serials(&mesh)?;
    assert_eq!(first.len(), 3, "{first:?}");

    // Meanwhile: the file loses a workload, and gets it back.
    let all: Vec<_> = mesh.pods.iter().filter(|p| p.0 == "a").map(|p| weft_lab::Workload::of(&format!("shop/{}", p.1), &p.2)).collect();
    mesh.agents[0].set_workloads(&all[..2])?;
    eventually(SETTLE, "the removed one to go", || if workload(&mesh, 0, "server").is_err() { Ok(()) } else { bail!("still there") })?;
    mesh.agents[0].set_workloads(&all)?;
    eventually(SETTLE, "the added one to be enrolled", || if workload(&mesh, 0, "server")?.enrolled_in_kernel { Ok(()) } else { bail!("not yet") })?;

    eventually(Duration::from_secs(50), "every SVID to be another one", || -> Result<()> {
        let now = serials(&mesh)?;
        if now.len() == 3 && now.iter().all(|s| !first.contains(s)) { Ok(()) } else { bail!("{first:?}\n{now:?}") }
    })
    .with_context(|| mesh.logs())?;
    assert!(workload(&mesh, 0, "client")?.enrolled_in_kernel);
    let metrics = mesh.agents[0].metrics()?;
    assert!(metrics.contains("weft_svid_remaining_seconds{service=\"shop/client\"}"), "{metrics}");
    Ok(())
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.cast_signed()).context("no pid")?;
    kill_process(pid, signal).with_context(|| format!("{signal:?} to {pid:?}"))
}
