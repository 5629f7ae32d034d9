//! An agent that hands over to a successor: nothing that is open ends, and what is new is the successor's.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use weft_lab::{Agent, bin, eventually};
use weft_tests::{Held, Mesh, MeshOptions, SETTLE, Server, probe};

const PORT: u16 = 8080;
const SOON: Duration = Duration::from_secs(30);

/// Process number of the agent that has the place.
fn holds_the_place(agent: &Agent) -> Result<u32> {
    let lock = agent.socket().with_file_name("agent.lock");
    Ok(fs::read_to_string(&lock).with_context(|| lock.display().to_string())?.trim().parse()?)
}

fn beats_on(held: &Held, mesh: &Mesh) -> Result<()> {
    let before = held.beats();
    Ok(eventually(SOON, "the connection goes on", || {
        if held.beats() > before + 2 && held.ends().is_empty() { Ok(()) } else { bail!("{}\n{}", held.log(), mesh.logs()) }
    })?)
}

#[test]
fn a_successor_takes_over_and_what_is_open_goes_on() -> Result<()> {
    let mesh = Mesh::start("handover", &MeshOptions { drain_seconds: 120, ..MeshOptions::default() })?;
    let _far = Held::serve(mesh.pod("far").place(), PORT)?;
    let _near = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let (client, vip) = (mesh.pod("client").place(), mesh.vip("shop/far")?.to_string());
    let proxied = Held::beating(client, &vip, 80)?;
    let agent = &mesh.agents[0];
    let (program, config) = (bin("weft-agent")?.display().to_string(), agent.config().display().to_string());
    let hand_over = |config: &str| agent.place().output(&[&program, "handover", "--config", config], SOON * 3);

    // A configuration that cannot be read changes nothing.
    let first = holds_the_place(agent)?;
    let broken = agent.socket().with_file_name("broken.toml");
    fs::write(&broken, "no_such_field = 1\n")?;
    assert!(!hand_over(&broken.display().to_string())?.status.success());
    assert_eq!(holds_the_place(agent)?, first);

    let said = hand_over(&config)?;
    assert!(said.status.success(), "{said:?}\n{}", mesh.logs());
    let second = holds_the_place(agent)?;
    assert_ne!(first, second);
    // Whoever waits for orphans waits for it, so that it outlives the one before.
    let status = fs::read_to_string(format!("/proc/{second}/status"))?;
    assert!(!status.contains(&format!("PPid:\t{first}\n")), "{status}");
    beats_on(&proxied, &mesh)?;
    mesh.settled()?;
    let fresh = Held::beating(client, &vip, 80)?;
    assert!(probe(client, "tcp", &mesh.vip("shop/server")?.to_string(), 80, "near")?.ok);
    // The one before is there for what it carries, and no longer.
    assert!(fs::exists(format!("/proc/{first}"))?, "{}", mesh.logs());
    beats_on(&proxied, &mesh)?;
    drop(proxied);
    eventually(SETTLE, "the one before has ended", || {
        let state = fs::read_to_string(format!("/proc/{first}/stat")).unwrap_or_default();
        if state.is_empty() || state.contains(") Z ") { Ok(()) } else { bail!("{state}") }
    })?;
    beats_on(&fresh, &mesh)
}
