//! One flow told in full: what its records say, and what policy says about it. Pure.

use serde::Serialize;
use weft_policy::{Decision, Destination, Index, Query};
use weft_types::{Protocol, Reason, ServiceRef};

use crate::view::FlowView;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WhyView {
    /// The record that decided: the first denial, else the first record.
    pub flow: FlowView,
    /// Its reason as a sentence.
    pub explanation: String,
    pub source_owner: Option<String>,
    /// Every record of the flow, of all nodes that know it, in order of time.
    pub records: Vec<FlowView>,
    pub nearest_miss: Option<String>,
    /// YAML to add to the catalog, for a default deny.
    pub patch: Option<String>,
    /// What the records alone do not tell.
    pub notes: Vec<String>,
}

/// `None` for no records.
pub fn explain(mut records: Vec<FlowView>, index: Option<&Index>) -> Option<WhyView> {
    records.sort_by(|a, b| a.order().cmp(&b.order()));
    let flow = records.iter().find(|r| r.denied()).or(records.first())?.clone();
    let reason = Reason::ALL.iter().find(|r| r.as_str() == flow.reason);
    let mut why = WhyView {
        explanation: reason.map_or_else(|| flow.detail.clone().unwrap_or_else(|| flow.reason.clone()), |r| r.explain().to_owned()),
        flow,
        records,
        ..WhyView::default()
    };
    match index {
        None => why.notes.push("no snapshot could be read, so what would allow it is not known here".to_owned()),
        Some(index) => judge_again(&mut why, index),
    }
    Some(why)
}

/// Asks the same question of the snapshot in force: the records hold the verdict, policy holds what comes nearest to another one.
fn judge_again(why: &mut WhyView, index: &Index) {
    let Some(query) = query(&why.flow, index) else { return };
    let decision: Decision = index.decide(&query);
    why.source_owner = decision.source.as_ref().map(|s| s.owner.to_string());
    if why.flow.destination_owner.is_none() {
        why.flow.destination_owner = decision.destination.as_ref().map(|d| d.owner.to_string());
    }
    let now = decision.revision.0;
    if now != why.flow.revision {
        let verdict = if decision.verdict.to_string() == why.flow.verdict { "with the same verdict" } else { "where the verdict would be another" };
        why.notes.push(format!("judged at revision {}; now in force is {now}, {verdict}: {} ({})", why.flow.revision, decision.verdict, decision.reason));
    }
    // Only a verdict of policy has a remedy in the catalog; a proxy's failure has not.
    if why.flow.denied() && decision.verdict.to_string() == "deny" && decision.reason.as_str() == why.flow.reason {
        why.nearest_miss = decision.nearest_miss;
        why.patch = decision.patch;
    }
}

fn query(flow: &FlowView, index: &Index) -> Option<Query> {
    let id_of = |name: &Option<String>| name.as_ref().and_then(|n| n.parse::<ServiceRef>().ok()).and_then(|r| index.by_ref(&r)).map(|s| s.id);
    let source = id_of(&flow.source)?;
    let protocol: Protocol = flow.protocol.parse().ok()?;
    let destination = match (id_of(&flow.destination), flow.service_port) {
        (Some(id), Some(port)) => Destination::Service { id, port },
        _ => Destination::Address { addr: flow.address.parse().ok()?, port: flow.port },
    };
    Some(Query { source, destination, protocol })
}
