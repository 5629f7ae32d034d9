//! `weft status`: every node and workload, as the kernel shows them, and what is wrong.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use futures::future::join_all;

use crate::{
    Context, Outcome,
    args::StatusArgs,
    client::{self, Bridge},
    health::StatusView,
    output,
    view::{BridgeView, NodeView},
};

pub(super) async fn run(ctx: &Context, args: StatusArgs) -> Result<Outcome> {
    let status = gather_with(ctx, args.prove).await?;
    ctx.output.show(&status, |style| output::status(style, &status, ctx.now))?;
    Ok(Outcome::findings_if(!status.healthy()))
}

/// Asks everybody at once. An error only when nobody at all answers.
pub(super) async fn gather(ctx: &Context) -> Result<StatusView> {
    gather_with(ctx, false).await
}

async fn gather_with(ctx: &Context, prove: bool) -> Result<StatusView> {
    let config = ctx.config()?;
    let (agents, bridge) = tokio::join!(ask_agents(&config.agents, prove), async {
        match &config.bridge {
            Some(socket) => Some(ask_bridge(socket).await),
            None => None,
        }
    });
    let mut unreachable = Vec::new();
    let mut nodes = Vec::new();
    for answer in agents {
        match answer {
            Ok(node) => nodes.push(node),
            Err(e) => unreachable.push(e.to_string()),
        }
    }
    let bridge = match bridge {
        Some(Ok((view, known))) => Some(join(&mut nodes, view, known)),
        Some(Err(e)) => {
            unreachable.push(e.to_string());
            None
        }
        None => None,
    };
    if nodes.is_empty() && bridge.is_none() {
        bail!("{}", unreachable.join("\nweft: "));
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(StatusView::new(nodes, bridge, unreachable, ctx.now))
}

async fn ask_agents(sockets: &[std::path::PathBuf], prove: bool) -> Vec<Result<NodeView, client::ClientError>> {
    let ask = |socket| async move {
        let agent = client::Agent::connect(socket).await?;
        let proofs = if prove { Some(agent.prove().await?) } else { None };
        let mut node = agent.status().await?;
        if let Some(proofs) = proofs {
            node.take_proofs(&proofs);
        }
        Ok(node)
    };
    join_all(sockets.iter().map(ask)).await
}

async fn ask_bridge(socket: &std::path::Path) -> Result<(BridgeView, Vec<(NodeView, String)>), client::ClientError> {
    let bridge = Bridge::connect(socket).await?;
    Ok((bridge.status().await?, bridge.nodes().await?))
}

/// Agents know their kernel, the bridge knows all nodes: adds what only the bridge knows.
fn join(nodes: &mut Vec<NodeView>, mut view: BridgeView, known: Vec<(NodeView, String)>) -> BridgeView {
    let mut refused = BTreeMap::new();
    for (node, error) in known {
        if !error.is_empty() {
            refused.insert(node.name.clone(), error);
        }
        match nodes.iter_mut().find(|n| n.name == node.name) {
            Some(here) => here.may_run = node.may_run,
            None => nodes.push(node),
        }
    }
    view.refused_by = refused;
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_only_the_bridge_knows_is_shown_and_one_with_an_agent_is_not_doubled() {
        let node = |name: &str, agent: Option<&str>, may: &[&str]| NodeView {
            name: name.to_owned(),
            agent: agent.map(Into::into),
            may_run: may.iter().map(|m| (*m).to_owned()).collect(),
            ..NodeView::default()
        };
        let mut nodes = vec![node("a", Some("/a.sock"), &[])];
        let known = vec![(node("a", None, &["shop/*"]), String::new()), (node("b", None, &["shop/stock"]), "no space".to_owned())];
        let view = join(&mut nodes, BridgeView::default(), known);
        assert_eq!(nodes, [node("a", Some("/a.sock"), &["shop/*"]), node("b", None, &["shop/stock"])]);
        assert_eq!(view.refused_by, BTreeMap::from([("b".to_owned(), "no space".to_owned())]));
    }
}
