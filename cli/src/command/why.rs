//! `weft why`: one flow, from every agent that knows it, with what would have allowed it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use futures::future::join_all;
use weft_policy::Index;
use weft_types::{FlowId, Verdict};

use super::flows::recorded;
use crate::{
    Context, Outcome,
    args::WhyArgs,
    client::{Agent, FlowFilter},
    explain::explain,
    limits::SAME_FLOW_MS,
    output, remark, source,
    view::FlowView,
};

pub(super) async fn run(ctx: &Context, args: WhyArgs) -> Result<Outcome> {
    let config = ctx.config()?;
    if config.agents.is_empty() {
        bail!("flows are recorded by agents, and the configuration names none: set agents = [\"/run/weft/agent.sock\"] or use --agent");
    }
    let id = match args.flow {
        Some(id) => id,
        None => newest_denied(&config.agents).await?,
    };
    let records = records(&config.agents, id).await?;
    // Agents of an older version hold no routes; the bridge does.
    let request = records.iter().any(|r| r.request.is_some());
    let snapshot = if request { source::snapshot_with_routes(ctx, None).await } else { source::in_force(&config).await };
    let index = match snapshot {
        Ok(snapshot) => Some(Index::new(snapshot.into())),
        Err(e) => {
            remark(&format!("{e:#}"));
            None
        }
    };
    let why = explain(records, index.as_ref()).context("no records")?;
    ctx.output.show(&why, |style| output::why(style, &why))?;
    Ok(Outcome::Ok)
}

async fn newest_denied(agents: &[PathBuf]) -> Result<FlowId> {
    let filter = FlowFilter { verdict: Some(Verdict::Deny), last: Some(1), ..FlowFilter::default() };
    let newest = recorded(agents, &filter).await?.into_iter().max_by(|a, b| a.order().cmp(&b.order()));
    let newest = newest.context("no denied flow is recorded on any configured agent: `weft flows` lists all, `weft why FLOW-ID` explains any of them")?;
    newest.id.parse().context("an agent sent a flow without an id")
}

/// All records of all agents. The same node may hold several, one for each point at which it decided.
async fn records(agents: &[PathBuf], id: FlowId) -> Result<Vec<FlowView>> {
    let answers = join_all(agents.iter().map(|socket| async move { Agent::connect(socket).await?.flow(id).await })).await;
    let mut failed = Vec::new();
    let mut found = Vec::new();
    for answer in answers {
        match answer {
            Ok(flow) => found.extend(flow),
            Err(e) => failed.push(e.to_string()),
        }
    }
    if found.is_empty() {
        let more = if failed.is_empty() { String::new() } else { format!("\nweft: {}", failed.join("\nweft: ")) };
        bail!("no agent knows flow {id}: agents keep the newest only, and forget them when they restart; `weft flows` lists what there is{more}");
    }
    failed.iter().for_each(|e| remark(&format!("{e}; what it knows of this flow is missing")));
    let since_ms = found.iter().filter_map(|f| f.at).min().map(|t| t.as_millis());
    // GetFlow gives one record an agent; a node that holds both ends has two, at nearly the same time.
    let filter = FlowFilter { since_ms: since_ms.map(|ms| ms.saturating_sub(SAME_FLOW_MS).max(1)), ..FlowFilter::default() };
    for flow in recorded(agents, &filter).await.unwrap_or_default() {
        if flow.id == id.to_string() && found.iter().all(|f| f.end() != flow.end()) {
            found.push(flow);
        }
    }
    Ok(found)
}
