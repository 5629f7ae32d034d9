//! `weft version`: of this program and, where they answer, of agents and bridge.

use anyhow::Result;
use futures::future::join_all;
use serde::Serialize;

use crate::{
    Context, Outcome,
    client::{Agent, Bridge},
    limits::VERSION_TIMEOUT,
};

#[derive(Debug, Serialize)]
struct VersionView {
    weft: &'static str,
    bridge: Option<String>,
    /// By node.
    agents: Vec<AgentVersion>,
}

#[derive(Debug, Serialize)]
struct AgentVersion {
    node: String,
    version: String,
}

pub(super) async fn run(ctx: &Context) -> Result<Outcome> {
    let mut view = VersionView { weft: env!("CARGO_PKG_VERSION"), bridge: None, agents: Vec::new() };
    // Without a configuration, or with nobody at home, this program's own version is the answer.
    if let Ok(config) = ctx.config() {
        let agents = config.agents.iter().map(|socket| async move { soon(async { Agent::connect(socket).await.ok()?.status().await.ok() }).await });
        view.agents = join_all(agents).await.into_iter().flatten().map(|n| AgentVersion { node: n.name, version: n.version }).collect();
        if let Some(socket) = &config.bridge {
            view.bridge = soon(async { Bridge::connect(socket).await.ok()?.status().await.ok() }).await.map(|b| b.version);
        }
    }
    ctx.output.show(&view, |_| text(&view))?;
    Ok(Outcome::Ok)
}

async fn soon<T>(answer: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::time::timeout(VERSION_TIMEOUT, answer).await.ok().flatten()
}

fn text(view: &VersionView) -> String {
    let bridge = view.bridge.iter().map(|b| format!("bridge {b}\n"));
    let agents = view.agents.iter().map(|a| format!("agent {} on node {}\n", a.version, a.node));
    std::iter::once(format!("weft {}\n", view.weft)).chain(bridge).chain(agents).collect()
}
