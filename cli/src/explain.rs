//! One flow told in full: what its records say, and what policy says about it. Pure.

use serde::Serialize;
use weft_policy::{AccessReason, Decision, Destination, Index, Query, Request, Who};
use weft_types::{Protocol, Reason, ServiceRef};

use crate::view::{AskedView, FlowView, RequestView};

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
    /// Of a request: the same question answered by the snapshot in force, if it was judged by that.
    pub request: Option<RequestView>,
    /// What the records alone do not tell.
    pub notes: Vec<String>,
}

/// `None` for no records.
pub fn explain(mut records: Vec<FlowView>, index: Option<&Index>) -> Option<WhyView> {
    records.sort_by(|a, b| a.order().cmp(&b.order()));
    let flow = records.iter().find(|r| r.denied()).or(records.first())?.clone();
    let explained = match flow.request {
        None => Reason::ALL.iter().find(|r| r.as_str() == flow.reason).map(|r| r.explain()),
        Some(_) => AccessReason::ALL.iter().find(|r| r.as_str() == flow.reason).map(|r| r.explain()),
    };
    let asked = flow.request.clone();
    let mut why = WhyView {
        explanation: explained.map_or_else(|| flow.detail.clone().unwrap_or_else(|| flow.reason.clone()), str::to_owned),
        flow,
        records,
        ..WhyView::default()
    };
    match (index, asked) {
        (None, _) => why.notes.push("no snapshot could be read, so what would allow it is not known here".to_owned()),
        (Some(index), None) => judge_again(&mut why, index),
        (Some(index), Some(asked)) => ask_again(&mut why, &asked, index),
    }
    Some(why)
}

/// The same of a request. What the gateway knew and the record has not (groups that did not fit) could make another verdict of it: then the record
/// stands for itself.
fn ask_again(why: &mut WhyView, asked: &AskedView, index: &Index) {
    let person = asked.person();
    let who = match &person.user {
        None => Who::Anonymous,
        Some(name) => Who::Person { name, groups: &person.groups },
    };
    let decision = index.decide_request(&Request { who, method: &asked.method, host: &asked.host, path: &asked.path });
    let (now, verdict, reason) = (decision.revision.0, decision.verdict.to_string(), decision.reason.to_string());
    if now != why.flow.revision {
        let compared = if verdict == why.flow.verdict { "with the same verdict" } else { "where the verdict would be another" };
        why.notes.push(format!("judged at revision {}; now in force is {now}, {compared}: {verdict} ({reason})", why.flow.revision));
        return;
    }
    if reason != why.flow.reason {
        why.notes.push(format!("of what is recorded, revision {now} makes {verdict} ({reason}): the gateway knew more of the request"));
        return;
    }
    let url = index
        .snapshot()
        .gateway
        .as_ref()
        .filter(|g| g.public_port != 443)
        .map_or_else(|| format!("https://{}", asked.address()), |g| format!("https://{}:{}{}", asked.host, g.public_port, asked.path));
    let request = RequestView::new(decision, person, url, &asked.method);
    (why.nearest_miss, why.patch) = (request.nearest_miss.clone(), request.patch.clone());
    why.request = Some(request);
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

#[cfg(test)]
mod tests {
    use weft_types::Revision;

    use super::*;
    use crate::{source::compile_catalog, view::Stamp};

    const CATALOG: &str = "\
apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: { name: corp }
spec: { trustDomain: corp.example, serviceRange: 100.64.0.0/16 }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: team-shop }
spec: { lead: alice@corp.example, contact: shop }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: orders, namespace: shop }
spec: { type: application, owner: team-shop, ports: [ { name: web, port: 80 } ] }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: storefront, namespace: shop }
spec: { type: application, owner: team-shop, dependsOn: [ { service: orders } ] }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: stock, namespace: shop }
spec: { type: application, owner: team-shop }
";

    /// Revision 7.
    fn index() -> Index {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("shop.yaml"), CATALOG).unwrap();
        let mut snapshot = compile_catalog(dir.path()).unwrap();
        snapshot.revision = Revision(7);
        Index::new(snapshot.into())
    }

    fn denied(source: &str) -> FlowView {
        FlowView {
            id: "00000000000000ff".into(),
            node: "a".into(),
            at: Stamp::millis(1000),
            point: "kernel-out".into(),
            verdict: "deny".into(),
            reason: "no-grant".into(),
            revision: 7,
            source: Some(source.into()),
            destination: Some("shop/orders".into()),
            address: "100.64.0.2".into(),
            port: 80,
            service_port: Some(80),
            protocol: "TCP".into(),
            ..FlowView::default()
        }
    }

    #[test]
    fn a_default_deny_is_told_with_its_owners_and_the_patch() {
        let why = explain(vec![denied("shop/stock")], Some(&index())).unwrap();
        assert_eq!((why.source_owner.as_deref(), why.flow.destination_owner.as_deref()), (Some("team-shop"), Some("team-shop")));
        let patch = why.patch.unwrap();
        assert!(patch.contains("name: stock, namespace: shop") && patch.contains("    - { service: orders, port: web }\n"), "{patch}");
        assert!(why.notes.is_empty());
    }

    #[test]
    fn an_address_of_nobody_is_asked_as_an_address() {
        let flow =
            FlowView { destination: None, service_port: None, address: "192.0.2.1".into(), reason: "unknown-destination".into(), ..denied("shop/stock") };
        let patch = explain(vec![flow], Some(&index())).unwrap().patch.unwrap();
        assert!(patch.contains("type: interface") && patch.contains("192.0.2.1/32"), "{patch}");
    }

    #[test]
    fn a_verdict_of_an_older_revision_is_told_apart_from_todays() {
        let why = explain(vec![FlowView { revision: 6, ..denied("shop/storefront") }], Some(&index())).unwrap();
        assert_eq!(why.notes, ["judged at revision 6; now in force is 7, where the verdict would be another: allow (grant)"]);
        assert_eq!(why.patch, None);
    }

    fn asked(user: Option<&str>, groups: &[&str]) -> FlowView {
        let request = AskedView {
            user: user.map(str::to_owned),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            method: "GET".into(),
            host: "shop.corp.example".into(),
            path: "/".into(),
            status: Some(403),
            missing: vec!["sales".into()],
        };
        let (source, destination) = (user.map(|u| format!("user:{u}")), Some("shop/orders".into()));
        FlowView { point: "gateway".into(), reason: "missing-group".into(), source, destination, request: Some(request), ..denied("") }
    }

    fn exposing() -> Index {
        let text = CATALOG
            .replace("trustDomain", "baseDomain: corp.example, trustDomain")
            .replace("port: 80 } ] }", "port: 80 } ], expose: [ { port: web, host: shop, access: { groups: [ sales ] } } ] }");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("shop.yaml"), text).unwrap();
        let mut snapshot = compile_catalog(dir.path()).unwrap();
        snapshot.revision = Revision(7);
        Index::new(snapshot.into())
    }

    #[test]
    fn a_request_is_asked_again_as_it_was() {
        let why = explain(vec![asked(Some("alice"), &["support"])], Some(&exposing())).unwrap();
        let request = why.request.unwrap();
        assert_eq!((request.missing, request.ask[0].team.to_string()), (vec!["sales".to_owned()], "team-shop".to_owned()));
        assert!(why.nearest_miss.unwrap().contains("alice is in support") && why.notes.is_empty());
        // Groups without a person are nobody's.
        let why = explain(vec![FlowView { reason: "sign-in".into(), ..asked(None, &["sales"]) }], Some(&exposing())).unwrap();
        assert_eq!(why.request.unwrap().change.as_deref(), Some("sign in"));
    }

    #[test]
    fn a_record_stands_for_itself_where_another_verdict_comes_out() {
        let why = explain(vec![asked(Some("alice"), &["sales"])], Some(&exposing())).unwrap();
        assert_eq!(why.notes, ["of what is recorded, revision 7 makes allow (group): the gateway knew more of the request"]);
        assert!(why.request.is_none() && why.patch.is_none() && why.nearest_miss.is_none());
        let why = explain(vec![FlowView { revision: 6, ..asked(Some("alice"), &["sales"]) }], Some(&exposing())).unwrap();
        assert_eq!(why.notes, ["judged at revision 6; now in force is 7, where the verdict would be another: allow (group)"]);
        assert!(why.request.is_none());
    }

    #[test]
    fn a_failure_on_the_way_has_no_remedy_in_the_catalog() {
        let why = explain(vec![FlowView { reason: "peer-identity".into(), point: "proxy-out".into(), ..denied("shop/storefront") }], Some(&index())).unwrap();
        assert_eq!(why.explanation, "the peer presented another identity than the expected one");
        assert_eq!((why.patch, why.nearest_miss), (None, None));
    }

    #[test]
    fn the_denial_decides_and_records_stand_in_order_of_time() {
        let early = FlowView { at: Stamp::millis(500), verdict: "allow".into(), reason: "grant".into(), ..denied("shop/storefront") };
        let late = FlowView { node: "b".into(), point: "kernel-in".into(), reason: "unattested".into(), ..denied("shop/storefront") };
        let why = explain(vec![late, early], None).unwrap();
        assert_eq!((why.flow.node.as_str(), why.records[0].node.as_str()), ("b", "a"));
        assert_eq!(why.notes, ["no snapshot could be read, so what would allow it is not known here"]);
        assert_eq!(explain(Vec::new(), None), None);
    }
}
