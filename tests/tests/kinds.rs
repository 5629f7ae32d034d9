//! Workloads of every kind: several in one namespace, those of the host, short ones, many, and what is made again under an old name.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use weft_lab::{Place, Workload, eventually};
use weft_tests::{
    Mesh, SETTLE, Server,
    kinds::{options, reaches},
    probe,
    real::{Container, Systemd, UNITS},
};

const PORT: u16 = 8080;
const EPERM: i32 = 1;

/// Refused at once, and by policy.
#[track_caller]
fn denied(from: &Place, to: &str, port: u16, marker: &str) -> Result<()> {
    let outcome = probe(from, "tcp", to, port, marker)?;
    assert_eq!((outcome.ok, outcome.errno), (false, EPERM), "{marker}: {outcome:?}");
    Ok(())
}

/// Not answered, in whatever way.
#[track_caller]
fn unanswered(from: &Place, to: &str, port: u16, marker: &str) -> Result<()> {
    let outcome = probe(from, "tcp", to, port, marker)?;
    assert!(!outcome.ok, "{marker}: {outcome:?}");
    Ok(())
}

#[test]
fn several_containers_in_one_namespace_are_told_apart_by_their_cgroups() -> Result<()> {
    let mesh = Mesh::start("shared", &options())?;
    let _server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let _far = Server::start(mesh.pod("far").place(), "far", PORT)?;
    let (caller, near) = (mesh.pod("caller").place(), mesh.pod("server").v4().to_string());
    let (far_vip, inner_vip) = (mesh.vip("shop/far")?.to_string(), mesh.vip("shop/inner")?.to_string());

    // A second container of the same identity.
    let second = mesh.inside(0, caller, "weft.slice/caller-2")?;
    denied(&second, &near, PORT, "before it is enrolled")?;
    mesh.enrol(0, "caller-2", "shop/caller", "weft.slice/caller-2", &caller.netns().display().to_string())?;
    for place in [caller, &second] {
        for (to, port) in [(&near, PORT), (&far_vip, 80)] {
            let got = probe(place, "tcp", to, port, "same identity")?;
            assert!(got.ok, "{got:?}\n{}", mesh.logs());
        }
    }
    mesh.discharge(0, "caller-2")?;
    denied(&second, &near, PORT, "after it has gone")?;
    for (to, port) in [(&near, PORT), (&far_vip, 80)] {
        assert!(probe(caller, "tcp", to, port, "the first stays")?.ok, "{}", mesh.logs());
    }

    // Two identities.
    let duo = mesh.nodes[0].pod("duo")?;
    let netns = duo.place().netns().display().to_string();
    let (inner, other) = (mesh.inside(0, duo.place(), "weft.slice/duo-inner")?, mesh.inside(0, duo.place(), "weft.slice/duo-other")?);
    mesh.enrol(0, "inner", "shop/inner", "weft.slice/duo-inner", &netns)?;
    assert!(reaches(&inner, &near, PORT, "alone")?.ok);
    mesh.enrol(0, "other", "shop/other", "weft.slice/duo-other", &netns)?;
    mesh.endpoints("shop/inner", 1)?;
    mesh.endpoints("shop/other", 1)?;
    for (to, port) in [(&near, PORT), (&far_vip, 80)] {
        assert!(reaches(&inner, to, port, "granted")?.ok);
        denied(&other, to, port, "not granted")?;
    }
    // Inbound: the listener's cgroup says whose it is, from the same node, from another, and on loopback.
    let callers = [caller, mesh.pod("far-caller").place()];
    let mut listening = Server::start(&inner, "inner", PORT)?;
    for from in callers {
        let got = reaches(from, &inner_vip, 80, "to inner")?;
        assert!(got.data.starts_with("inner "), "{got:?}");
    }
    assert!(probe(&inner, "tcp", "127.0.0.1", PORT, "own loopback")?.ok);
    denied(&other, "127.0.0.1", PORT, "a neighbour's loopback")?;
    denied(&other, &duo.v4().to_string(), PORT, "a neighbour's address")?;
    listening.stop();
    listening = Server::start(&other, "other", PORT)?;
    for (i, from) in callers.into_iter().enumerate() {
        unanswered(from, &inner_vip, 80, &format!("meant-for-inner-{i}"))?;
        assert!(!listening.got("meant-for-inner"), "{}", mesh.logs());
    }
    Ok(())
}

#[test]
fn a_foreign_process_in_a_namespace_gains_nothing_and_misleads_nobody() -> Result<()> {
    let mesh = Mesh::start("foreign", &options())?;
    let server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let (caller, near) = (mesh.pod("caller").place(), mesh.pod("server").v4().to_string());
    let foreign = caller.in_cgroup(&mesh.nodes[0].cgroup().join("outside/foreign"))?;
    assert!(probe(caller, "tcp", &near, PORT, "control")?.ok);
    denied(&foreign, &near, PORT, "foreign")?;
    assert!(!server.got("foreign"));
    // Nor does it serve for the workload.
    assert!(Server::start(&foreign, "foreign", PORT).is_err());

    // A namespace that is named by a process is believed only of the workload's own.
    let own = mesh.inside(0, caller, "weft.slice/found")?;
    let (stray, real) = (foreign.spawn("stray", &["sleep", "60"])?, own.spawn("real", &["sleep", "60"])?);
    let of = |pid: u32| format!("/proc/{pid}/ns/net");
    let dir = own.cgroup();
    eventually(SETTLE, "the process in its cgroup", || if weft_lab::pids_below(dir).is_empty() { Err("none") } else { Ok(()) })?;
    assert!(mesh.enrol(0, "found", "shop/caller", "weft.slice/found", &of(real.pid())).is_ok(), "control");
    mesh.discharge(0, "found")?;
    let netns = of(stray.pid());
    let request =
        weft_api::agent::v1::AddWorkloadRequest { uid: "found".to_owned(), service: "shop/caller".to_owned(), cgroup: "weft.slice/found".to_owned(), netns };
    let asked = mesh.call(0, async |mut c| Ok(tonic::Response::new(tokio::time::timeout(Duration::from_secs(2), c.add_workload(request)).await.is_ok())));
    assert!(!asked?, "the stray's namespace was taken");
    let log = mesh.agents[0].log();
    assert!(log.contains("which is not this workload's"), "{log}");
    Ok(())
}

#[test]
fn workloads_of_the_host_are_judged_both_ways_and_the_host_is_left_alone() -> Result<()> {
    let mesh = Mesh::start("hosted", &options())?;
    let _server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let _far = Server::start(mesh.pod("far").place(), "far", PORT)?;
    let (host, uplink) = (mesh.nodes[0].place(), mesh.nodes[0].uplink_v4().to_string());
    let (near, far_vip, vip) = (mesh.pod("server").v4().to_string(), mesh.vip("shop/far")?.to_string(), mesh.vip("shop/hosted")?.to_string());
    let place = |name: &str| mesh.inside(0, host, &format!("weft.slice/{name}"));
    let (hosted, stranger, granted) = (place("hosted.service")?, place("stranger.service")?, place("granted.service")?);
    for (uid, service) in [("hosted", "shop/hosted"), ("stranger", "shop/stranger"), ("granted", "shop/caller")] {
        mesh.enrol(0, uid, service, &format!("weft.slice/{uid}.service"), "")?;
    }
    mesh.endpoints("shop/hosted", 1)?;
    // Out.
    for (to, port) in [(&near, PORT), (&far_vip, 80)] {
        let got = reaches(&hosted, to, port, "hosted out")?;
        assert!(got.ok, "{got:?}");
        denied(&stranger, to, port, "stranger out")?;
    }
    // In: through the mesh from both nodes, never around it.
    let mut listening = Server::start(&hosted, "hosted", PORT)?;
    for pod in ["caller", "far-caller"] {
        let got = reaches(mesh.pod(pod).place(), &vip, 80, pod)?;
        assert!(got.data.contains(&mesh.pod(pod).v4().to_string()), "the true caller: {got:?}");
    }
    let outsider = mesh.outsider(1, "outsider")?;
    let beside = Server::start(host, "beside", 9000)?;
    assert!(probe(outsider.place(), "tcp", &uplink, 9000, "control")?.ok, "what is none of the mesh's is reached as ever");
    unanswered(outsider.place(), &uplink, PORT, "plaintext-wire")?;
    unanswered(host, "127.0.0.1", PORT, "plaintext-loopback")?;
    assert!(!listening.got("plaintext"));
    // Loopback is judged as any address.
    assert!(probe(&hosted, "tcp", "127.0.0.1", PORT, "own")?.ok, "{}", mesh.logs());
    assert!(probe(&granted, "tcp", "127.0.0.1", PORT, "granted")?.ok, "{}", mesh.logs());
    denied(&stranger, "127.0.0.1", PORT, "loopback")?;
    denied(&hosted, "127.0.0.1", 9000, "of nobody")?;
    assert!(probe(host, "tcp", "127.0.0.1", 9000, "the host's own")?.ok);
    assert!(!beside.got("of nobody"));
    // Somebody else on the port gets nothing of what is meant for the workload.
    listening.stop();
    let usurper = Server::start(host, "usurper", PORT)?;
    for pod in ["caller", "far-caller"] {
        unanswered(mesh.pod(pod).place(), &vip, 80, "usurped")?;
    }
    assert!(!usurper.got("usurped"), "{}", mesh.logs());
    Ok(())
}

#[test]
fn a_cgroup_made_again_is_denied_at_once_and_enrolled_by_itself() -> Result<()> {
    let mut mesh = Mesh::start("again", &options())?;
    let agent = Pid::from_raw(mesh.agents[0].process().context("no agent")?.pid().cast_signed()).context("no pid")?;
    let _server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let near = mesh.pod("server").v4().to_string();
    let space = mesh.pod("caller").place();
    let of = |uid: &str| -> Result<u64> {
        let all = mesh.status(0)?.workloads;
        let found = all.iter().find(|w| w.uid == uid).with_context(|| format!("no {uid}"))?;
        if found.enrolled_in_kernel { Ok(found.cgroup_id) } else { bail!("{found:?}") }
    };
    let before = of("caller")?;
    assert!(probe(space, "tcp", &near, PORT, "before")?.ok);
    for _ in 0..5 {
        // While nobody looks, the new one is nobody; as soon as somebody does, it is itself.
        eventually(SETTLE, "the agent's canary to have left", || {
            kill_process(agent, Signal::STOP)?;
            let removed = fs::remove_dir(space.cgroup());
            if removed.is_err() {
                kill_process(agent, Signal::CONT)?;
            }
            Ok::<_, anyhow::Error>(removed?)
        })?;
        fs::create_dir(space.cgroup())?;
        denied(space, &near, PORT, "not yet")?;
        kill_process(agent, Signal::CONT)?;
        let began = std::time::Instant::now();
        eventually(Duration::from_secs(1), "its enrolment", || {
            let outcome = probe(space, "tcp", &near, PORT, "again")?;
            if outcome.ok { Ok(()) } else { bail!("{outcome:?}") }
        })?;
        eprintln!("enrolled again after {:?}", began.elapsed());
    }
    assert_ne!(of("caller")?, before);
    Ok(())
}

#[test]
fn short_jobs_are_themselves_and_hundreds_leave_nothing_behind() -> Result<()> {
    let mesh = Mesh::start("churn", &options())?;
    let server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let near = mesh.pod("server").v4().to_string();
    let caller = mesh.pod("caller").place();
    let netns = caller.netns().display().to_string();
    let mut before = Vec::new();
    let mut began = std::time::Instant::now();
    for i in 0..260 {
        if i == 3 {
            // What is made once (a connection of the holder, warm tunnels) is there by now.
            (before, began) = (census(&mesh)?, std::time::Instant::now());
        }
        // Two of three have the grant; what they share, in the end, is the namespace.
        let (uid, granted) = (format!("job-{i}"), i % 3 != 0);
        let cgroup = format!("weft.slice/{uid}");
        let job = mesh.inside(0, caller, &cgroup)?;
        let service = if granted { "shop/caller" } else { "shop/stranger" };
        mesh.enrol(0, &uid, service, &cgroup, &netns)?;
        if i % 10 == 0 || i % 10 == 1 {
            let marker = format!("of-{uid}");
            let script = format!("exec 3<>/dev/tcp/{near}/{PORT} && echo {marker} >&3 && head -n1 <&3");
            let out = job.output(&["bash", "-c", &script], Duration::from_secs(10))?;
            assert_eq!(out.status.success(), granted, "{uid}: {out:?}\n{}", mesh.logs());
            assert_eq!(server.got(&marker), granted, "{uid}");
        }
        mesh.discharge(0, &uid)?;
        fs::remove_dir(job.cgroup())?;
    }
    for i in 0..40 {
        let name = format!("pod-{i}");
        let pod = mesh.nodes[0].pod(&name)?;
        mesh.enrol(0, &name, "shop/caller", &pod.cgroup_below_node(), &pod.place().netns().display().to_string())?;
        // Half of them are discharged first, the others just vanish.
        if i % 2 == 0 {
            mesh.discharge(0, &name)?;
        }
        pod.remove()?;
    }
    eprintln!("300 came and went in {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    eventually(SETTLE, "everything as before", || {
        let after = census(&mesh)?;
        if after == before { Ok(()) } else { bail!("{before:?}\n{after:?}") }
    })
    .with_context(|| mesh.logs())?;
    assert!(probe(caller, "tcp", &near, PORT, "after")?.ok, "{}", mesh.logs());
    Ok(())
}

/// What a workload could leave behind: entries, links, descriptors of agent and holder.
fn census(mesh: &Mesh) -> Result<Vec<(String, usize)>> {
    let mut all: Vec<_> = mesh.pinned(0)?.occupancy()?.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
    let count = |dir: &Path| -> Result<usize> { Ok(fs::read_dir(dir).with_context(|| dir.display().to_string())?.count()) };
    let bpf = mesh.nodes[0].dir().join("bpf");
    for version in fs::read_dir(&bpf)?.flatten().filter(|e| e.file_name().to_string_lossy().starts_with('v')) {
        all.push(("links".to_owned(), count(&version.path().join("links"))?));
    }
    for pid in weft_lab::pids_below(mesh.agents[0].place().cgroup()) {
        let listeners = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten().filter(|e| {
            let to = fs::read_link(e.path()).unwrap_or_default();
            let to = to.to_string_lossy();
            to.starts_with("net:") || to.starts_with("socket:")
        });
        // Of the admin socket's connections some may still be closing.
        all.push((format!("sockets of process {pid}"), listeners.count()));
    }
    Ok(all)
}

#[test]
fn units_of_a_real_systemd_are_workloads_and_stay_so_over_a_restart() -> Result<()> {
    let mesh = Mesh::start("units", &options())?;
    let _server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let (near, vip, uplink) = (mesh.pod("server").v4().to_string(), mesh.vip("shop/hosted")?.to_string(), mesh.nodes[0].uplink_v4().to_string());
    let job = format!("/usr/bin/env python3 /weft/probe.py tcp {near} {PORT} of-a-unit");
    let once = format!("Type=oneshot\nExecStart={job}");
    let patient = format!("Type=oneshot\nExecStart=/bin/sh /weft/until.sh true {job}");
    // It serves until it is stopped, so the word is one that it never says.
    let serve = format!("ExecStart=/bin/sh /weft/until.sh never-said /usr/bin/env python3 -u /weft/server.py hosted {PORT}\nRestart=always\nRestartSec=100ms");
    let units = [("hosted.service", serve), ("granted.service", patient), ("stranger.service", once)];
    let systemd = Systemd::boot(&mesh.nodes[0], &units)?;
    let unit = |service: &str, name: &str| Workload { service: service.to_owned(), cgroup: format!("{UNITS}/{name}"), netns: "host".into(), uid: None };
    let mut all: Vec<_> = mesh.pods.iter().filter(|p| p.0 == "a").map(|p| Workload::of(&format!("shop/{}", p.1), &p.2)).collect();
    all.extend([unit("shop/hosted", "hosted.service"), unit("shop/inner", "granted.service"), unit("shop/stranger", "stranger.service")]);
    mesh.agents[0].set_workloads(&all)?;

    systemd.ctl(&["start", "hosted.service"])?;
    let id = || -> Result<u64> {
        let all = mesh.status(0)?.workloads;
        let found = all.iter().find(|w| w.uid == "hosted.service").context("no unit")?;
        if found.enrolled_in_kernel { Ok(found.cgroup_id) } else { bail!("{found:?}") }
    };
    let mut last = 0;
    for round in 0..3 {
        eventually(SETTLE, "the unit to be reached", || {
            let outcome = probe(mesh.pod("far-caller").place(), "tcp", &vip, 80, "to a unit")?;
            if outcome.ok { Ok(()) } else { bail!("{outcome:?}\n{}", systemd.log("hosted.service")) }
        })
        .with_context(|| mesh.logs())?;
        let outsider = mesh.outsider(1, &format!("outsider-{round}"))?;
        unanswered(outsider.place(), &uplink, PORT, "plaintext")?;
        let now = id()?;
        assert_ne!(now, last, "a restart makes another cgroup");
        last = now;
        systemd.ctl(&["restart", "hosted.service"])?;
    }
    assert!(!systemd.log("hosted.service").contains("plaintext"));
    // A short job is itself or nobody, and one without a grant is never anybody else.
    eventually(SETTLE, "a job to get through", || {
        let said = systemd.run("granted.service")?;
        if said.contains("\"ok\": true") { Ok(()) } else { bail!("{said}") }
    })
    .with_context(|| mesh.logs())?;
    for _ in 0..5 {
        let said = systemd.run("stranger.service")?;
        assert!(said.contains("\"errno\": 1,"), "{said}");
    }
    Ok(())
}

#[test]
fn containers_of_runc_in_one_namespace_are_told_apart() -> Result<()> {
    let mesh = Mesh::start("runc", &options())?;
    let _server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let (near, port, vip) = (mesh.pod("server").v4().to_string(), PORT.to_string(), mesh.vip("shop/inner")?.to_string());
    let pod = mesh.nodes[0].pod("pod")?;
    let netns = pod.place().netns().display().to_string();
    let of = |name: &str| mesh.inside(0, pod.place(), &format!("weft.slice/{name}"));
    for (uid, service) in [("inner", "shop/inner"), ("job", "shop/inner"), ("other", "shop/other")] {
        mesh.enrol(0, uid, service, &format!("weft.slice/{uid}"), &netns)?;
    }
    let mut inner = Container::run(&mesh.nodes[0], "inner", &of("inner")?, &["python3", "-u", "/weft/server.py", "inner", &port])?;
    inner.wait_for("ready")?;
    let got = reaches(mesh.pod("far-caller").place(), &vip, 80, "to a container").with_context(|| format!("{}\n{}", inner.log(), mesh.logs()))?;
    assert!(got.data.starts_with("inner "), "{got:?}");
    let attempt = ["python3", "/weft/probe.py", "tcp", &near, &port, "from a container"];
    let allowed = Container::run(&mesh.nodes[0], "job", &of("job")?, &attempt)?.wait()?;
    assert!(allowed.contains("\"ok\": true"), "{allowed}");
    let refused = Container::run(&mesh.nodes[0], "other", &of("other")?, &attempt)?.wait()?;
    assert!(refused.contains("\"errno\": 1,"), "{refused}");
    Ok(())
}
