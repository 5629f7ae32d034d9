//! An agent of another ABI version takes over, and gives back: nothing is reset, nothing opens, and no connect fails. Run by `cargo xtask test
//! upgrade`, which builds that agent.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use weft_lab::{Inventory, Proc, bin, eventually};
use weft_tests::{Mesh, MeshOptions, SETTLE, Server, probe};

const PORT: u16 = 8080;
/// Until a file is there: dials again and again, and counts what came of it.
const DIAL: &str = r#"
import json, os, socket, sys
host, port, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
said = {"ok": 0, "failed": 0, "error": ""}
while not os.path.exists(stop):
    try:
        s = socket.create_connection((host, port), 20)
        s.sendall(b"dial\n")
        assert s.recv(200).endswith(b" dial\n"), "wrong answer"
        s.close()
        said["ok"] += 1
    except Exception as e:
        said["failed"] += 1
        said["error"] = repr(e)
print(json.dumps(said), flush=True)
"#;
/// Until a file is there: asks over one connection and wants each answer, and the same peer, each time.
const KEEP: &str = r#"
import json, os, socket, sys, time
host, port, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
said = {"ok": 0, "failed": 0, "error": ""}
try:
    s = socket.create_connection((host, port), 20)
    peer, f = s.getpeername(), s.makefile("rb")
    print("kept", flush=True)
    while not os.path.exists(stop):
        line = b"keep %d\n" % said["ok"]
        s.sendall(line)
        assert f.readline().endswith(b" " + line), "wrong answer"
        assert s.getpeername() == peer, s.getpeername()
        said["ok"] += 1
        time.sleep(0.005)
except Exception as e:
    said["failed"] += 1
    said["error"] = repr(e)
print(json.dumps(said), flush=True)
"#;

#[derive(Debug, Deserialize)]
struct Said {
    ok: u32,
    failed: u32,
    error: String,
}

#[test]
fn an_agent_of_another_abi_takes_over_and_gives_back_under_load() -> Result<()> {
    let other = std::env::var("WEFT_OTHER_AGENT").context("WEFT_OTHER_AGENT is not set: this test is run by `cargo xtask test upgrade`")?;
    let own = bin("weft-agent")?.display().to_string();
    let mut mesh = Mesh::start("abi", &MeshOptions::default())?;
    let (before, _held) = (mesh.lab.before().clone(), mesh.lab.hold()?);
    let _servers = [Server::start(mesh.pod("server").place(), "near", PORT)?, Server::start(mesh.pod("far").place(), "far", PORT)?];
    let (near, far) = (mesh.pod("server").v4().to_string(), mesh.vip("shop/far")?.to_string());
    let stop = mesh.lab.work().join("stop");
    let start = |who: &str, name: &str, script: &str, to: &str, port: u16| -> Result<Proc> {
        let (port, stop) = (port.to_string(), stop.display().to_string());
        Ok(mesh.pod(who).place().spawn(name, &["python3", "-u", "-c", script, to, &port, &stop])?)
    };
    let mut keepers = [start("client", "keep-near", KEEP, &near, PORT)?, start("client", "keep-far", KEEP, &far, 80)?];
    for keeper in &mut keepers {
        keeper.wait_for_log("kept", SETTLE)?;
    }
    let dialers = [start("client", "dial-near", DIAL, &near, PORT)?, start("client", "dial-far", DIAL, &far, 80)?];
    let outcast = start("stranger", "dial-denied", DIAL, &near, PORT)?;

    let bpffs = mesh.nodes[0].dir().join("bpf");
    let first = versions(&bpffs)?;
    replace(&mut mesh, &other)?;
    let second = versions(&bpffs)?;
    assert!(first.len() == 1 && second.len() == 1 && first != second, "{first:?}, then {second:?}");
    judged_well(&mesh, &near)?;
    replace(&mut mesh, &own)?;
    assert_eq!(versions(&bpffs)?, first);
    judged_well(&mesh, &near)?;

    std::fs::write(&stop, "")?;
    for mut load in keepers.into_iter().chain(dialers) {
        let said = end(&mut load)?;
        assert!(said.ok > 50 && said.failed == 0, "{load:?}: {said:?}\n{}", mesh.logs());
    }
    let mut outcast = outcast;
    let said = end(&mut outcast)?;
    assert!(said.ok == 0 && said.failed > 50 && said.error.contains("PermissionError"), "{said:?}");
    drop((_servers, outcast));
    drop(mesh);
    Inventory::take().same_as(&before).map_err(anyhow::Error::msg)
}

/// The agent of the first node goes as at an upgrade, and `program` comes in its place.
fn replace(mesh: &mut Mesh, program: &str) -> Result<()> {
    let socket = mesh.agents[0].socket();
    mesh.agents[0].replace(Path::new(program))?;
    eventually(SETTLE, "the successor's socket", || std::os::unix::net::UnixStream::connect(&socket))?;
    mesh.settled()
}

fn judged_well(mesh: &Mesh, near: &str) -> Result<()> {
    let granted = probe(mesh.pod("client").place(), "tcp", near, PORT, "granted")?;
    ensure!(granted.ok, "{granted:?}\n{}", mesh.logs());
    let denied = probe(mesh.pod("stranger").place(), "tcp", near, PORT, "denied")?;
    ensure!(!denied.ok && denied.errno == 1, "{denied:?}");
    Ok(())
}

fn versions(bpffs: &Path) -> Result<Vec<String>> {
    let mut names: Vec<_> = std::fs::read_dir(bpffs)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    names.retain(|name| name.starts_with('v'));
    Ok(names)
}

fn end(load: &mut Proc) -> Result<Said> {
    load.wait(Duration::from_secs(30))?;
    let log = load.log();
    let Some(line) = log.lines().find(|l| l.starts_with('{')) else { bail!("it said {log:?}") };
    Ok(serde_json::from_str(line)?)
}
