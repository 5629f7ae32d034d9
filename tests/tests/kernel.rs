//! What the running kernel offers, and what a workload sees where a substitute stands in. `cargo xtask test --kernel` runs this under other kernels.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use weft_lab::{Agent, AgentOptions, Lab, bin, eventually};
use weft_tests::{Mesh, MeshOptions, Outcome, SETTLE, Server, probe};

const DEADLINE: Duration = Duration::from_secs(60);

/// As `weft-agent check -o json` says it.
fn missing(agent: &Agent) -> Result<Vec<String>> {
    let program = bin("weft-agent")?.display().to_string();
    let checked = agent.place().output(&[program.as_str(), "check", "-o", "json", "--config", &agent.config().display().to_string()], DEADLINE)?;
    let findings: serde_json::Value = serde_json::from_slice(&checked.stdout).with_context(|| format!("{checked:?}"))?;
    let missing: Vec<_> = findings.as_array().context("a list")?.iter().filter(|f| f["ok"] != true).collect();
    println!("missing: {missing:?}");
    assert!(missing.iter().all(|f| f["cost"].as_str().is_some_and(|cost| !cost.is_empty())), "{missing:?}");
    Ok(missing.iter().filter_map(|f| Some(f["name"].as_str()?.to_owned())).collect())
}

#[test]
fn nothing_is_missing_that_has_no_substitute() -> Result<()> {
    let mut lab = Lab::new("kernel")?;
    let node = lab.node("a")?;
    let agent = Agent::configure(&node, &AgentOptions::default())?;
    let missing = missing(&agent)?;
    assert!(!missing.iter().any(|name| name.starts_with("kernel ")), "{missing:?}");
    let guard = agent.place().output(&[&bin("weft-agent")?.display().to_string(), "guard", "--config", &agent.config().display().to_string()], DEADLINE)?;
    assert!(guard.status.success(), "{guard:?}");
    Ok(())
}

/// And a server that has listened since before there was an agent is reached like any other.
#[test]
fn a_denied_connect_fails_as_configured_where_the_kernel_lets_programs_choose() -> Result<()> {
    let mut mesh = Mesh::start("denied", &MeshOptions { denied: "econnrefused", agents_wait: true, ..MeshOptions::default() })?;
    // `agents_wait` has not attached anything yet: the socket is older than every program.
    let _server = Server::start(mesh.pod("server").place(), "near", 8080)?;
    for agent in &mut mesh.agents {
        agent.run()?;
    }
    mesh.settled()?;
    let near = mesh.pod("server").v4().to_string();
    eventually(SETTLE, "the grant to be in force", || granted(&probe(mesh.pod("client").place(), "tcp", &near, 8080, "granted")?))
        .with_context(|| mesh.logs())?;
    let denied = probe(mesh.pod("stranger").place(), "tcp", &near, 8080, "denied")?;
    let chooses = !missing(&mesh.agents[0])?.iter().any(|name| name == "error of a denied connect");
    assert_eq!((denied.ok, denied.errno), (false, if chooses { libc::ECONNREFUSED } else { libc::EPERM }), "{denied:?}");
    Ok(())
}

fn granted(outcome: &Outcome) -> Result<()> {
    if outcome.ok { Ok(()) } else { bail!("{outcome:?}") }
}
