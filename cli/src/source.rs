//! Where a snapshot comes from: the newest that an agent holds, else the bridge's, or a catalog directory compiled on the spot.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use futures::future::join_all;
use weft_snapshot::Snapshot;
use weft_types::builtin;

use crate::{
    Context,
    client::{self, Bridge},
    config::Config,
    remark,
};

mod catalog;

pub use catalog::{CatalogError, FindingView, Lint, OFFLINE, compile_catalog};

/// The snapshot to answer from: of `catalog` when given, else the one in force.
pub async fn snapshot(ctx: &Context, catalog: Option<&Path>) -> Result<Snapshot> {
    match catalog {
        Some(dir) => Ok(compile_catalog(dir)?),
        None => in_force(&ctx.config()?).await,
    }
}

/// The same for questions about what is exposed: an agent of an older version holds no routes, and the bridge then has them.
pub async fn snapshot_with_routes(ctx: &Context, catalog: Option<&Path>) -> Result<Snapshot> {
    let snapshot = snapshot(ctx, catalog).await?;
    if snapshot.gateway.is_some() || catalog.is_some() {
        return Ok(snapshot);
    }
    let hidden = snapshot.services.iter().any(|s| s.name == builtin::gateway());
    let Some(socket) = ctx.config()?.bridge else {
        if hidden {
            bail!("the agents hold no routes, although there is a gateway: they are of an older version; name the bridge's socket, or use --catalog");
        }
        return Ok(snapshot);
    };
    match async { Bridge::connect(&socket).await?.snapshot().await }.await {
        Ok(Some(whole)) if whole.revision >= snapshot.revision => Ok(whole),
        Ok(_) => Ok(snapshot),
        Err(e) => {
            remark(&format!("{e}; what the agents hold says nothing of routes"));
            Ok(snapshot)
        }
    }
}

/// Nodes may be a revision apart for a moment: the newest one answers.
pub async fn in_force(config: &Config) -> Result<Snapshot> {
    let mut failed = Vec::new();
    let mut best: Option<Snapshot> = None;
    let answers = join_all(config.agents.iter().map(|socket| async move { client::Agent::connect(socket).await?.snapshot().await })).await;
    for answer in answers {
        match answer {
            Ok(Some(s)) if best.as_ref().is_none_or(|b| b.revision < s.revision) => best = Some(s),
            Ok(_) => {}
            Err(e) => failed.push(e.to_string()),
        }
    }
    if let Some(best) = best {
        return Ok(best);
    }
    if let Some(socket) = &config.bridge {
        match async { Bridge::connect(socket).await?.snapshot().await }.await {
            Ok(Some(s)) => return Ok(s),
            Ok(None) => {}
            Err(e) => failed.push(e.to_string()),
        }
    }
    if failed.is_empty() {
        bail!("no agent holds a snapshot yet: `weft status` says why; `--catalog DIR` answers from files");
    }
    Err(anyhow::anyhow!(failed.join("\nweft: "))).context("no snapshot to answer from")
}
