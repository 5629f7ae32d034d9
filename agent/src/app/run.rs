//! Runs a node until it is told to end, then lets its connections end.

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use weft_policy::Index;

use super::{Node, build, build::Built, tasks};
use crate::{
    admin,
    bridge::{self, Bridge},
    command,
    config::Config,
    files, gateway, limits,
};

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr2: Signal,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    End,
    HandOver,
}

pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals {
        term: signal(SignalKind::terminate())?,
        int: signal(SignalKind::interrupt())?,
        hup: signal(SignalKind::hangup())?,
        usr2: signal(SignalKind::user_defined2())?,
    };
    let Built { node, lock, workloads_thread } = build::build(config).await?;
    let (socket, gateway_socket) = (node.config.agent_socket(), node.config.gateway_socket());
    let metrics = tasks::metrics(&node).await?;
    // An agent that answers on the other one has this one too.
    let door = gateway::bind(&gateway_socket)?;
    let listener = admin::bind(&socket)?;
    let mut running = tokio::task::JoinSet::new();
    running.spawn(admin::serve(listener, node.clone()));
    let at_the_door = tokio::spawn(gateway::serve(door, node.clone()));
    running.spawn(tasks::flows(node.clone()));
    running.spawn(tasks::sweeps(node.clone()));
    running.spawn(tasks::verify(node.clone()));
    running.spawn(tasks::diagnostics(node.kernel.clone()));
    start_bridge(&node, &mut running);
    info!(node = %node.config.node, version = env!("CARGO_PKG_VERSION"), revision = %node.mesh.revision(), "the agent is ready");
    files::notify("READY=1");

    let told = until_told(&mut signals, &node).await;

    // From here on a successor may start: the sockets, the lock, the ring and the workloads are given up before the connections are waited for.
    node.shutdown.cancel();
    let _ = std::fs::remove_file(&gateway_socket);
    let _ = std::fs::remove_file(&socket);
    drop(metrics);
    node.workloads.stop();
    let joined = tokio::task::spawn_blocking(move || workloads_thread.join()).await;
    if !matches!(joined, Ok(Ok(()))) {
        error!("the thread of the workloads ended with a panic");
    }
    drop(lock);
    if told == Told::HandOver {
        hand_over().await;
    }
    drain(&node, &mut signals).await;
    // Where nothing was to be drained, a gateway has not yet heard why its streams end.
    let _ = tokio::time::timeout(2 * limits::GATEWAY_GRACE, at_the_door).await;
    running.abort_all();
    Ok(())
}

fn start_bridge(node: &Arc<Node>, running: &mut tokio::task::JoinSet<()>) {
    let Some(bridge) = &node.config.bridge else {
        node.link.lost("the configuration names no IAM bridge".to_owned());
        return;
    };
    running.spawn(bridge::run(Arc::new(Bridge {
        node: node.config.node.clone(),
        address: bridge.address.clone(),
        token_file: bridge.join_token_file.clone(),
        mesh: node.mesh.clone(),
        applier: node.applier.clone(),
        workloads: node.workloads.clone(),
        view: node.view.clone(),
        status: node.link.clone(),
        metrics: node.metrics.clone(),
        shutdown: node.shutdown.clone(),
    })));
}

async fn until_told(signals: &mut Signals, node: &Node) -> Told {
    loop {
        tokio::select! {
            _ = signals.term.recv() => return Told::End,
            _ = signals.int.recv() => return Told::End,
            _ = signals.usr2.recv() => return Told::HandOver,
            _ = signals.hup.recv() => {
                info!("SIGHUP: the workloads file is read again");
                node.workloads.reload();
            }
        }
    }
}

/// Where no successor can be started, a service manager finds its main process gone after the drain, and starts anew.
async fn hand_over() {
    match tokio::task::spawn_blocking(command::start_successor).await {
        Ok(Ok(successor)) => {
            info!(successor, "a successor takes over");
            files::notify(&format!("MAINPID={successor}"));
        }
        Ok(Err(error)) => error!(%error, "no successor could be started"),
        Err(error) => error!(%error, "no successor was started"),
    }
}

/// Connections go on until they end, the time is up, or a second signal comes. The policy reaches them all the while: it is read from the disk,
/// where a successor keeps it.
async fn drain(node: &Arc<Node>, signals: &mut Signals) {
    let (began, live) = (Instant::now(), node.proxy.live());
    info!(connections = live, at_most_s = node.config.drain.as_secs(), "no new connections; those that are open may end by themselves");
    let ended = node.proxy.drain(node.config.drain);
    tokio::select! {
        left = ended => info!(left, after_ms = began.elapsed().as_millis() as u64, "drained"),
        () = follow(node) => {}
        _ = signals.term.recv() => warn!(left = node.proxy.live(), "a second signal: the rest is cut off"),
        _ = signals.int.recv() => warn!(left = node.proxy.live(), "a second signal: the rest is cut off"),
    }
}

async fn follow(node: &Arc<Node>) {
    loop {
        tokio::time::sleep(limits::DRAIN_POLL).await;
        let node = node.clone();
        let looked = tokio::task::spawn_blocking(move || newer(&node)).await;
        if !matches!(looked, Ok(Ok(()))) {
            warn!("the snapshot on disk cannot be followed while connections end");
            return std::future::pending().await;
        }
    }
}

fn newer(node: &Node) -> anyhow::Result<()> {
    let membership = node.mesh.membership().context("no membership")?;
    let Some((envelope, snapshot)) = node.applier.store.load(&membership.keyring()).into_iter().next().transpose()? else { return Ok(()) };
    if snapshot.revision > node.mesh.revision() {
        let index = Arc::new(Index::new(Arc::new(snapshot)));
        node.mesh.set_snapshot(index.clone(), Arc::new(envelope));
        node.proxy.revoke(&index);
    }
    Ok(())
}
