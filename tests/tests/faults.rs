//! What happens to a thousand live connections when something happens to the agent: bytes lost, resets, plaintext on the wire, connections outside
//! policy. Run by `cargo xtask test faults`.

use std::{fmt::Write as _, thread, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use weft_lab::{Capture, Inventory, Pod, bin, pids_below};
use weft_tests::{Loads, Mesh, MeshOptions, Server, probe};

const PORT: u16 = 8080;
/// Live connections on each path.
const KEPT: usize = 500;
/// What the load sends and the wire must not show.
const MARKER: &[u8] = b"plaintext-";

/// Something that happens to the agent of the first node, and what of its proxied connections it may cost.
struct Fault {
    name: &'static str,
    proxied_may_end: bool,
    strike: fn(&mut Mesh) -> Result<()>,
}

const FAULTS: [Fault; 5] = [
    Fault { name: "nothing", proxied_may_end: false, strike: |_| Ok(()) },
    Fault { name: "restart", proxied_may_end: false, strike: restart },
    Fault { name: "stopped for 3 s", proxied_may_end: false, strike: starve },
    Fault { name: "holder killed", proxied_may_end: false, strike: kill_holder },
    Fault { name: "kill -9", proxied_may_end: true, strike: kill },
];

#[test]
fn faults_of_the_agent_cost_no_more_than_they_must() -> Result<()> {
    let mut mesh = Mesh::start("faults", &MeshOptions { drain_seconds: 120, ..MeshOptions::default() })?;
    let (before, _held) = (mesh.lab.before().clone(), mesh.lab.hold()?);
    let servers = [Server::start(mesh.pod("server").place(), "near", PORT)?, Server::start(mesh.pod("far").place(), "far", PORT)?];
    let outside = [mesh.outsider(0, "plain-client")?, mesh.outsider(1, "plain-server")?];
    let _plain = Server::start(outside[1].place(), "plain", PORT)?;
    println!("{:18} {:>9} {:>11} {:>7} {:>10} {:>15} {:>14}", "fault", "answers", "bytes lost", "resets", "plaintext", "outside policy", "longest wait");
    for fault in &FAULTS {
        let row = strike(&mut mesh, &outside, fault).with_context(|| format!("{}\n{}", fault.name, mesh.logs()))?;
        print!("{row}");
    }
    drop((servers, _plain));
    drop(mesh);
    Inventory::take().same_as(&before).map_err(anyhow::Error::msg)
}

/// One fault under load; the line of the table.
fn strike(mesh: &mut Mesh, outside: &[Pod; 2], fault: &Fault) -> Result<String> {
    let (near, far) = (mesh.pod("server").v4().to_string(), mesh.vip("shop/far")?.to_string());
    let capture = Capture::start(mesh.lab.wire(), "faults", "wire", "tcp")?;
    let mut loads = Loads::new(mesh.lab.work());
    let (client, stranger) = (mesh.pod("client").place(), mesh.pod("stranger").place());
    loads.keep("keep-near", client, &near, PORT, KEPT)?;
    loads.keep("keep-far", client, &far, 80, KEPT)?;
    loads.dial("dial-near", client, &near, PORT)?;
    loads.dial("dial-far", client, &far, 80)?;
    loads.dial("denied-near", stranger, &near, PORT)?;
    loads.dial("denied-far", stranger, &far, 80)?;
    thread::sleep(Duration::from_secs(2));
    (fault.strike)(mesh)?;
    mesh.settled()?;
    // Every connection is asked again after the fault.
    thread::sleep(Duration::from_secs(3));
    let seen = loads.end()?;
    // Control: the same search finds the same word of who is not in the mesh.
    let control = probe(outside[0].place(), "tcp", &outside[1].v4().to_string(), PORT, "plaintext-control")?;
    assert!(control.ok, "{control:?}");
    capture.wait_for("the control's marker", |p| has(&p.payload, b"plaintext-control"))?;
    let captured = capture.stop()?;
    let plaintext = captured.packets.iter().filter(|p| has(&p.payload, MARKER) && !has(&p.payload, b"plaintext-control")).count();

    let mut text = String::new();
    let (mut passed, mut answers, mut lost, mut ended, mut waited) = (0, 0, 0, 0, 0);
    for (name, s) in &seen {
        if name.starts_with("denied") {
            passed += s.ok + s.wrong;
            assert!(s.ended > 0 && s.error.contains("PermissionError"), "{}: {name}: {s:?}", fault.name);
            continue;
        }
        let may_end = fault.proxied_may_end && name.ends_with("far");
        assert!(may_end || s.is_whole(), "{}: {name}: {s:?}", fault.name);
        assert!(s.ok > 0 && s.wrong == 0, "{}: {name}: {s:?}", fault.name);
        (answers, lost, ended, waited) = (answers + s.ok, lost + s.wrong + s.silent, ended + s.ended, waited.max(s.waited_ms));
    }
    writeln!(text, "{:18} {answers:>9} {lost:>11} {ended:>7} {plaintext:>10} {passed:>15} {waited:>11} ms", fault.name)?;
    assert_eq!((plaintext, passed), (0, 0), "{text}");
    Ok(text)
}

fn has(payload: &[u8], word: &[u8]) -> bool {
    payload.windows(word.len()).any(|w| w == word)
}

fn restart(mesh: &mut Mesh) -> Result<()> {
    Ok(mesh.agents[0].replace(&bin("weft-agent")?)?)
}

fn starve(mesh: &mut Mesh) -> Result<()> {
    let agent = mesh.agents[0].process().context("no agent")?;
    agent.signal(Signal::STOP);
    thread::sleep(Duration::from_secs(3));
    agent.signal(Signal::CONT);
    Ok(())
}

fn kill_holder(mesh: &mut Mesh) -> Result<()> {
    let agent = mesh.agents[0].process().context("no agent")?.pid();
    // Of the two the one whose arguments say so: predecessors that drain are agents too.
    let holds = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split('\0').any(|word| word == "hold"));
    let all = pids_below(mesh.agents[0].place().cgroup());
    let holder = all.iter().filter_map(|pid| pid.parse().ok()).find(|pid| *pid != agent && holds(pid)).context("no holder")?;
    Ok(kill_process(Pid::from_raw(holder.cast_signed()).context("no pid")?, Signal::KILL)?)
}

fn kill(mesh: &mut Mesh) -> Result<()> {
    mesh.agents[0].kill9();
    thread::sleep(Duration::from_secs(1));
    Ok(mesh.agents[0].run()?)
}
