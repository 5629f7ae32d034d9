//! The client of the IAM bridge: joins, streams, renews; and comes back whenever the bridge does. Nothing else in the agent waits for it.

mod channel;
mod join;
mod session;
mod status;

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weft_types::NodeName;

pub use status::LinkStatus;

use self::{
    join::Refused,
    session::{End, Session, backoff},
};
use crate::{
    mesh::Mesh,
    metrics::Metrics,
    node::{Applier, Workloads},
    workloads::View,
};

pub struct Bridge {
    pub node: NodeName,
    pub address: String,
    pub token_file: Option<PathBuf>,
    pub mesh: Arc<Mesh>,
    pub applier: Arc<Applier>,
    pub workloads: Workloads,
    pub view: View,
    pub status: Arc<LinkStatus>,
    pub metrics: Arc<Metrics>,
    pub shutdown: CancellationToken,
}

/// Keeps a session up until the agent ends.
pub async fn run(bridge: Arc<Bridge>) {
    let (mut tries, mut known) = (0, None);
    let mut join_again = false;
    while !bridge.shutdown.is_cancelled() {
        let began = std::time::Instant::now();
        let error = match attempt(&bridge, join_again).await {
            Ok(End::Shutdown) => return,
            Ok(End::Renewed) => {
                (tries, join_again) = (0, false);
                continue;
            }
            Err(error) => error,
        };
        // Only a bridge that does not know the node's certificate any more is a reason to join again.
        join_again = error.chain().any(|e| e.downcast_ref::<Refused>().is_some_and(|r| r.0.code() == tonic::Code::Unauthenticated)) && !join_again;
        let text = format!("{error:#}");
        if known.as_ref() != Some(&text) {
            warn!(error = text, "no connection to the IAM bridge: going on with what is known");
        }
        bridge.status.lost(text.clone());
        known = Some(text);
        // A session that lasted was a success; after it the first try comes at once.
        tries = if began.elapsed() > crate::limits::RECONNECT_MAX { 0 } else { tries + 1 };
        tokio::select! {
            () = bridge.shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff(tries)) => {}
        }
    }
}

async fn attempt(bridge: &Arc<Bridge>, join_again: bool) -> anyhow::Result<End> {
    if must_join(bridge, join_again) {
        let Some(file) = &bridge.token_file else { bail!("the node has not joined a mesh, and the configuration names no bridge.join_token_file") };
        let token = join::read_token(file)?;
        let joined = join::join(&bridge.address, &token, &bridge.node).await.context("cannot join the mesh")?;
        info!(trust_domain = %joined.membership.trust_domain(), "joined the mesh");
        bridge.mesh.set_membership(joined.membership);
        bridge.mesh.set_node(joined.node);
    }
    let node = bridge.mesh.node().context("the node has no certificate")?;
    let bundle = bridge.mesh.trust_bundle().context("the node has no roots")?;
    let client = channel::dial(&bridge.address, &node.svid, &bundle).await?;
    Session::run(bridge.clone(), client).await
}

/// Without a live certificate; when the bridge does not know it; or when the token at hand is for another CA than the one believed so far.
fn must_join(bridge: &Bridge, join_again: bool) -> bool {
    let Some(node) = bridge.mesh.node().filter(|n| n.is_live(SystemTime::now())) else { return true };
    let Some(bundle) = bridge.mesh.trust_bundle() else { return true };
    let of_this_node = matches!(&node.svid.id, weft_types::SpiffeId::Node { name, .. } if *name == bridge.node);
    let token = bridge.token_file.as_ref().and_then(|file| join::read_token(file).ok());
    !of_this_node || token.is_some_and(|t| join_again || !join::is_for(&t, &bundle))
}
