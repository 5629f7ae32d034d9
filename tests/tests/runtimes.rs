//! Real runtimes beside runc: containerd, whose containers come again under their names, and units that end as soon as they are refused. And processes
//! that sit where their workload does not live.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use weft_lab::{Place, Workload, eventually};
use weft_tests::{
    Mesh, SETTLE, Server,
    kinds::{options, reaches},
    probe,
    real::{Containerd, Systemd, UNITS},
};

const PORT: u16 = 8080;
const EPERM: i32 = 1;
const SOON: Duration = Duration::from_secs(10);

fn workload(service: &str, cgroup: &str, netns: &str) -> Workload {
    Workload { service: service.to_owned(), cgroup: cgroup.to_owned(), netns: netns.into(), uid: None }
}

/// The pods of the first node, and these.
fn name_too(mesh: &Mesh, more: Vec<Workload>) -> Result<()> {
    let pods = mesh.pods.iter().filter(|p| p.0 == "a").map(|p| Workload::of(&format!("shop/{}", p.1), &p.2));
    Ok(mesh.agents[0].set_workloads(&pods.chain(more).collect::<Vec<_>>())?)
}

/// The id of the cgroup that a workload is enrolled with.
fn enrolled(mesh: &Mesh, uid: &str) -> Result<u64> {
    let all = mesh.status(0)?.workloads;
    let found = all.iter().find(|w| w.uid == uid).with_context(|| format!("no {uid}"))?;
    if found.enrolled_in_kernel { Ok(found.cgroup_id) } else { bail!("{found:?}") }
}

#[test]
fn containers_of_containerd_are_told_apart_and_are_themselves_when_they_come_again() -> Result<()> {
    let mesh = Mesh::start("ctrd", &options())?;
    let _server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let (near, port, vip) = (mesh.pod("server").v4().to_string(), PORT.to_string(), mesh.vip("shop/inner")?.to_string());
    let pod = mesh.nodes[0].pod("pod")?;
    let netns = pod.place().netns().display().to_string();
    let (inner, other) = (pod.place().in_cgroup(&mesh.nodes[0].cgroup().join("weft.slice/inner"))?, mesh.inside(0, pod.place(), "weft.slice/other")?);
    name_too(&mesh, ["inner", "other"].map(|name| workload(&format!("shop/{name}"), &format!("weft.slice/{name}"), &netns)).into())?;
    let containerd = Containerd::start(&mesh.nodes[0])?;

    let attempt = ["python3", "/weft/probe.py", "tcp", &near, &port, "from a container"];
    let mut last = 0;
    for round in 0..3 {
        let mut serving = containerd.run("inner", &inner, &["sh", "/weft/until.sh", "never-said", "python3", "-u", "/weft/server.py", "inner", &port])?;
        serving.wait_for_log("ready", SETTLE).with_context(|| mesh.logs())?;
        let got =
            reaches(mesh.pod("far-caller").place(), &vip, 80, &format!("round-{round}")).with_context(|| format!("{}\n{}", serving.log(), mesh.logs()))?;
        assert!(got.data.starts_with("inner "), "{got:?}");
        let now = enrolled(&mesh, "inner")?;
        assert_ne!(now, last, "a container that comes again has another cgroup");
        last = now;
        // Beside it, in the same namespace, one that has no grant.
        let mut refused = containerd.run("other", &other, &attempt)?;
        refused.wait(SETTLE)?;
        assert!(refused.log().contains("\"errno\": 1,"), "{}", refused.log());
        containerd.ctr(&["task", "kill", "-s", "KILL", "inner"])?;
        serving.wait(SETTLE)?;
    }
    // A short one, under the name and in the cgroup of the one before: itself, or nobody.
    let mut job = containerd.run("inner", &inner, &["sh", "/weft/until.sh", "true", "python3", "/weft/probe.py", "tcp", &near, &port, "of-a-job"])?;
    job.wait(SETTLE).with_context(|| mesh.logs())?;
    assert!(job.log().contains("\"ok\": true"), "{}", job.log());
    Ok(())
}

#[test]
fn a_unit_that_ends_at_once_is_itself_from_its_first_call_where_its_slice_is_the_workload() -> Result<()> {
    let mesh = Mesh::start("slice", &options())?;
    let _server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let job = format!("Type=oneshot\nExecStart=/usr/bin/env python3 /weft/probe.py tcp {} {PORT} of-a-job", mesh.pod("server").v4());
    let systemd = Systemd::boot(&mesh.nodes[0], &[("job.service", format!("Slice=weft-jobs.slice\n{job}")), ("stray.service", job)])?;
    name_too(&mesh, vec![workload("shop/hosted", &format!("{UNITS}/weft-jobs.slice"), "host")])?;
    systemd.ctl(&["start", "weft-jobs.slice"])?;
    let before = eventually(SETTLE, "the slice is enrolled", || enrolled(&mesh, "weft-jobs.slice")).with_context(|| mesh.logs())?;
    for round in 0..10 {
        let said = systemd.run("job.service")?;
        assert!(said.contains("\"ok\": true"), "run {round}: {said}\n{}", mesh.logs());
        // It differs in the slice only.
        let said = systemd.run("stray.service")?;
        assert!(said.contains("\"errno\": 1,"), "{said}");
    }
    assert_eq!(enrolled(&mesh, "weft-jobs.slice")?, before);
    Ok(())
}

#[test]
fn a_process_of_a_workload_in_another_namespace_is_nobody_there() -> Result<()> {
    let mesh = Mesh::start("astray", &options())?;
    let server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let outsider = mesh.outsider(0, "outsider")?;
    let (caller, near) = (mesh.pod("caller").place(), mesh.pod("server").v4().to_string());
    let addresses =
        |mesh: &Mesh| -> Result<Vec<String>> { Ok(mesh.status(0)?.workloads.into_iter().find(|w| w.uid == "caller").context("no caller")?.addresses) };
    let before = addresses(&mesh)?;
    assert!(probe(caller, "tcp", &near, PORT, "control")?.ok);
    // As `nsenter --net` does, or a debugger of the pod on the host's network.
    let elsewhere: [(&str, &Place); 3] =
        [("the host's", mesh.nodes[0].place()), ("another workload's", mesh.pod("server").place()), ("nobody's", outsider.place())];
    let mut sitting = Vec::new();
    for (whose, space) in elsewhere {
        let astray = space.in_cgroup(caller.cgroup())?;
        sitting.push(astray.spawn("astray", &["sleep", "60"])?);
        let outcome = probe(&astray, "tcp", &near, PORT, "astray")?;
        assert_eq!((outcome.ok, outcome.errno), (false, EPERM), "in {whose} namespace: {outcome:?}");
        // What it listens at there is not reached as the workload.
        assert!(Server::start(&astray, "astray", 8081).is_err() || !probe(outsider.place(), "tcp", &mesh.pod("server").v4().to_string(), 8081, "taken")?.ok);
    }
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(addresses(&mesh)?, before, "the workload is found where it lives");
    assert!(probe(caller, "tcp", &near, PORT, "after")?.ok && !server.got("astray"), "{}", mesh.logs());
    let vip = mesh.vip("shop/server")?.to_string();
    reaches(caller, &vip, 80, "still itself").map(drop)?;
    eventually(SOON, "nothing is wrong with it", || {
        let all = mesh.status(0)?.workloads;
        if all.iter().all(|w| w.problem.is_empty()) { Ok(()) } else { bail!("{all:?}") }
    })?;
    Ok(())
}
