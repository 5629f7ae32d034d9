//! The program itself: its configuration file, its signals, what it says when something is wrong.

use std::{path::Path, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::{
    apps::App,
    browser::at,
    client::H1,
    world::{PATIENCE, World, eventually},
};

fn command(config: &Path, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft-gateway"));
    command.args([verb, "--config"]).arg(config).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn ends(command: &mut Command) -> (Option<i32>, String) {
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap() + std::str::from_utf8(&output.stdout).unwrap())
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), signal).unwrap();
}

/// A configuration file for what the world has.
fn config(world: &World) -> std::path::PathBuf {
    let plan = world.plan.lock().unwrap();
    let (dir, file) = (world.dir.path(), world.dir.path().join("gateway.toml"));
    let pair = &plan.config.certificates[0];
    let text = format!(
        "agent_socket = {:?}\nstate_dir = {:?}\nlisten = \"{}\"\ndrain_seconds = 1\n[[certificates]]\nchain = {:?}\nkey = {:?}\n[metrics]\nlisten = \"{}\"\n[access_log]\nfile = {:?}\n",
        world.agent.socket,
        dir.join("state"),
        world.address,
        pair.chain,
        pair.key,
        world.metrics(),
        dir.join("access.log"),
    );
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn it_runs_reloads_and_ends_by_signals() {
    let app = App::start().await;
    let world = World::before(|plan| {
        plan.expose("shop/orders", &["{ port: web, host: shop, access: { public: true } }"]);
        plan.workload("shop/orders", app.address);
    })
    .await;
    let file = config(&world);
    assert_eq!(ends(&mut command(&file, "check")).await.0, Some(0));
    let mut running = command(&file, "run").spawn().unwrap();
    eventually("it waits for a policy", async || world.probe("/readyz").await.is_some_and(|answer| answer.status == 503)).await;
    world.revise(|_| {});
    eventually("it is ready", async || world.probe("/readyz").await.is_some_and(|answer| answer.status == 200)).await;
    eventually("it listens", async || tokio::net::TcpStream::connect(world.public()).await.is_ok()).await;
    let seen = world.get(&at("shop", "/")).await;
    assert_eq!(seen.status, 200);
    // SIGHUP: another certificate, before anybody would have looked.
    world.authority.issue(world.dir.path(), "all", &["*.corp.example", "other.example"]);
    signal(&running, Signal::HUP);
    eventually("the other name", async || world.authority.connect(world.public(), "other.example", H1).await.is_ok()).await;
    // SIGTERM: in order, and all is written down.
    let socket = world.websocket(&at("shop", "/ws"), &[], H1).await.unwrap();
    signal(&running, Signal::TERM);
    assert_eq!(socket.ends_with().await, Some(1001));
    assert_eq!(timeout(PATIENCE, running.wait()).await.expect("it ends").unwrap().code(), Some(0));
    assert!(world.log().iter().any(|line| line["flow"] == seen.flow()));
    assert!(world.agent.flows().iter().any(|flow| flow.id == seen.flow()));
}

#[tokio::test]
async fn it_ends_while_it_waits_and_says_what_is_wrong() {
    let world = World::before(|_| {}).await;
    let file = config(&world);
    let mut waiting = command(&file, "run").spawn().unwrap();
    eventually("it waits", async || world.probe("/readyz").await.is_some()).await;
    signal(&waiting, Signal::TERM);
    assert_eq!(timeout(PATIENCE, waiting.wait()).await.expect("it ends").unwrap().code(), Some(0));

    std::fs::write(world.dir.path().join("all.key"), "no key").unwrap();
    for verb in ["check", "run"] {
        let (code, says) = ends(&mut command(&file, verb)).await;
        assert!(code == Some(2) && says.contains("all.key is not the key of"), "{code:?} {says}");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("prot = 1\n{text}")).unwrap();
    let (code, says) = ends(&mut command(&file, "check")).await;
    assert!(code == Some(2) && says.contains("unknown field `prot`"), "{code:?} {says}");
    let (code, says) = ends(&mut command(&world.dir.path().join("none.toml"), "run")).await;
    assert!(code == Some(2) && says.contains("none.toml"), "{code:?} {says}");
}
