//! An agent of another ABI version takes over, and gives back: nothing is reset, nothing opens, and no connect fails. Run by `cargo xtask test
//! upgrade`, which builds that agent.

use std::{path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use weft_lab::{Inventory, bin};
use weft_tests::{Loads, Mesh, MeshOptions, Server, probe};

const PORT: u16 = 8080;
#[test]
fn an_agent_of_another_abi_takes_over_and_gives_back_under_load() -> Result<()> {
    let other = std::env::var("WEFT_OTHER_AGENT").context("WEFT_OTHER_AGENT is not set: this test is run by `cargo xtask test upgrade`")?;
    let own = bin("weft-agent")?.display().to_string();
    let mut mesh = Mesh::start("abi", &MeshOptions::default())?;
    let (before, _held) = (mesh.lab.before().clone(), mesh.lab.hold()?);
    let _servers = [Server::start(mesh.pod("server").place(), "near", PORT)?, Server::start(mesh.pod("far").place(), "far", PORT)?];
    let (near, far) = (mesh.pod("server").v4().to_string(), mesh.vip("shop/far")?.to_string());
    let (client, stranger) = (mesh.pod("client").place(), mesh.pod("stranger").place());
    let mut loads = Loads::new(mesh.lab.work());
    loads.keep("keep-near", client, &near, PORT, 20)?;
    loads.keep("keep-far", client, &far, 80, 20)?;
    loads.dial("dial-near", client, &near, PORT)?;
    loads.dial("dial-far", client, &far, 80)?;
    loads.dial("dial-denied", stranger, &near, PORT)?;

    let bpffs = mesh.nodes[0].dir().join("bpf");
    let first = versions(&bpffs)?;
    replace(&mut mesh, &other)?;
    let second = versions(&bpffs)?;
    assert!(first.len() == 1 && second.len() == 1 && first != second, "{first:?}, then {second:?}");
    judged_well(&mesh, &near)?;
    replace(&mut mesh, &own)?;
    assert_eq!(versions(&bpffs)?, first);
    judged_well(&mesh, &near)?;

    // Every connection is asked again behind the last change.
    thread::sleep(Duration::from_millis(1500));
    for (name, seen) in loads.end()? {
        match name.as_str() {
            "dial-denied" => assert!(seen.ok == 0 && seen.ended > 50 && seen.error.contains("PermissionError"), "{seen:?}"),
            _ => assert!(seen.is_whole() && seen.ok > 50, "{name}: {seen:?}\n{}", mesh.logs()),
        }
    }
    drop(_servers);
    drop(mesh);
    Inventory::take().same_as(&before).map_err(anyhow::Error::msg)
}

/// The agent of the first node goes as at an upgrade, and `program` comes in its place.
fn replace(mesh: &mut Mesh, program: &str) -> Result<()> {
    mesh.agents[0].replace(Path::new(program))?;
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
