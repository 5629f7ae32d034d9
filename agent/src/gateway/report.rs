//! What a gateway says of a request, read: bounded, and with what this node knows better put in its place.

use thiserror::Error;
use weft_api::agent::v1 as wire;
use weft_policy::Index;
use weft_types::{FlowId, Revision, RuleId, ServiceRef, Verdict, WorkloadUid};

use crate::{
    flows::{RequestRecord, party, truncate},
    limits,
};

/// How a person is written as the source of a flow.
pub(crate) const USER: &str = "user:";

#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum ReportError {
    #[error("it has no id of 16 hex digits")]
    Id,
    #[error("it is no request")]
    NoRequest,
    #[error("its verdict is neither allow nor deny")]
    Verdict,
    #[error("its reason is no word")]
    Reason,
    #[error("its source is not the person of the request: a gateway speaks of people, never for a workload")]
    Source,
    #[error("its destination is no service of the snapshot")]
    Destination,
}

/// `index`: the snapshot that it was judged by, or the nearest that is known.
pub(super) fn read(flow: wire::Flow, index: Option<&Index>, workload: &WorkloadUid, now_ms: i64) -> Result<RequestRecord, ReportError> {
    let id: FlowId = flow.id.parse().map_err(|_| ReportError::Id)?;
    let verdict = verdict(&flow).ok_or(ReportError::Verdict)?;
    let reason = Some(flow.reason).filter(|r| is_word(r)).ok_or(ReportError::Reason)?;
    let request = flow.request.ok_or(ReportError::NoRequest)?;
    let user = user(&flow.source, &request.user)?;
    let destination = match flow.destination.as_str() {
        "" => None,
        name => {
            let found = name.parse::<ServiceRef>().ok().and_then(|name| index?.by_ref(&name)).zip(index);
            let (service, index) = found.ok_or(ReportError::Destination)?;
            party(index, service.id)
        }
    };
    let rule = RuleId(flow.rule);
    let routes = index.and_then(|i| i.snapshot().gateway.as_ref()).map_or(&[][..], |g| &g.routes);
    let (groups, left_out) = fitting(request.groups, limits::GROUPS_MAX_BYTES);
    let mut detail = plain(flow.detail, limits::DETAIL_MAX_BYTES);
    if left_out > 0 {
        let more = format!("{left_out} further groups of the person are not kept");
        detail = if detail.is_empty() { more } else { format!("{detail}; {more}") };
    }
    let at_is_near = (now_ms - limits::REQUEST_AGE_MAX.as_millis() as i64..=now_ms).contains(&flow.at_ms);
    Ok(RequestRecord {
        id,
        at_ms: if at_is_near { flow.at_ms } else { now_ms },
        verdict,
        reason,
        revision: Revision(flow.revision),
        rule,
        rule_declared_at: routes.iter().find(|r| r.rule == rule).map(|r| r.declared_at.clone()),
        destination,
        address: flow.address.parse().ok(),
        port: u16::try_from(flow.port).unwrap_or(0),
        service_port: u16::try_from(flow.service_port).unwrap_or(0),
        workload: workload.clone(),
        bytes_out: flow.bytes_out,
        bytes_in: flow.bytes_in,
        duration_us: flow.duration_us,
        detail,
        user,
        groups,
        method: plain(request.method, limits::METHOD_MAX_BYTES),
        host: plain(request.host, limits::HOST_MAX_BYTES),
        path: path(request.path),
        status: u16::try_from(request.status).ok().filter(|s| (100..1000).contains(s)).unwrap_or(0),
        missing: fitting(request.missing, limits::MISSING_MAX_BYTES).0,
    })
}

pub(super) fn verdict(flow: &wire::Flow) -> Option<Verdict> {
    match flow.verdict.as_str() {
        "allow" => Some(Verdict::Allow),
        "deny" => Some(Verdict::Deny),
        _ => None,
    }
}

/// As `weft_policy::AccessReason` has them; a gateway of a later version may know more.
fn is_word(text: &str) -> bool {
    (1..=limits::REASON_MAX_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn user(source: &str, user: &str) -> Result<Option<String>, ReportError> {
    let named = match source {
        "" => user,
        source => source.strip_prefix(USER).filter(|named| !named.is_empty() && *named == user).ok_or(ReportError::Source)?,
    };
    let named = plain(named.to_owned(), limits::USER_MAX_BYTES);
    Ok(Some(named).filter(|n| !n.is_empty()))
}

/// A query may hold what is secret.
fn path(mut path: String) -> String {
    if let Some(end) = path.find(['?', '#']) {
        path.truncate(end);
    }
    if path.len() <= limits::PATH_MAX_BYTES {
        return plain(path, limits::PATH_MAX_BYTES);
    }
    format!("{}…", plain(path, limits::PATH_MAX_BYTES))
}

/// As many as fit, and how many do not.
fn fitting(names: Vec<String>, max_bytes: usize) -> (Vec<String>, usize) {
    let (all, mut bytes) = (names.len(), 0);
    let kept: Vec<String> = names
        .into_iter()
        .take_while(|name| {
            bytes += name.len().max(1);
            bytes <= max_bytes
        })
        .map(|name| plain(name, max_bytes))
        .collect();
    let left_out = all - kept.len();
    (kept, left_out)
}

/// What a terminal would obey, or hide, is shown as a question mark.
fn plain(mut text: String, max_bytes: usize) -> String {
    let obeyed = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    truncate(&mut text, max_bytes);
    if text.contains(obeyed) {
        text = text.replace(obeyed, "?");
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use weft_snapshot::{Service, ServiceKind, Snapshot};
    use weft_types::ServiceId;

    use super::*;

    const NOW: i64 = 1_764_000_000_000;

    pub(in crate::gateway) fn index() -> Index {
        let orders = Service {
            id: ServiceId(2),
            name: "shop/orders".parse().unwrap(),
            kind: ServiceKind::Application,
            title: "Orders".into(),
            owner: "team-orders".parse().unwrap(),
            capability: "orders".into(),
            lifecycle: "production".into(),
            identity: "spiffe://corp.example/ns/shop/sa/orders".parse().unwrap(),
            vip: None,
            consumers: Vec::new(),
            ports: Vec::new(),
            externals: Vec::new(),
            declared_at: "orders.yaml:1".into(),
        };
        Index::new(Arc::new(Snapshot {
            revision: Revision(3),
            mesh: "corp".into(),
            trust_domain: "corp.example".parse().unwrap(),
            services: vec![orders],
            endpoints: Vec::new(),
            grants: Vec::new(),
            pending: Vec::new(),
            teams: Vec::new(),
            gateway: None,
        }))
    }

    pub(in crate::gateway) fn said() -> wire::Flow {
        wire::Flow {
            id: "00000000000000ab".into(),
            at_ms: NOW - 5,
            verdict: "deny".into(),
            reason: "missing-group".into(),
            revision: 3,
            rule: 9,
            source: "user:alice".into(),
            destination: "shop/orders".into(),
            // None of these is the gateway's to say.
            node: "elsewhere".into(),
            point: "kernel-out".into(),
            destination_owner: "mallory".into(),
            rule_declared_at: "mallory.yaml:1".into(),
            workload: "orders-1".into(),
            pid: 1,
            request: Some(wire::Request {
                user: "alice".into(),
                groups: vec!["support".into()],
                method: "GET".into(),
                host: "shop.corp.example".into(),
                path: "/orders?token=secret".into(),
                status: 403,
                missing: vec!["sales".into()],
            }),
            ..wire::Flow::default()
        }
    }

    fn taken(change: impl FnOnce(&mut wire::Flow, &mut wire::Request)) -> Result<RequestRecord, ReportError> {
        let mut flow = said();
        let mut request = flow.request.take().unwrap();
        change(&mut flow, &mut request);
        flow.request = Some(request);
        read(flow, Some(&index()), &"gw".parse().unwrap(), NOW)
    }

    #[test]
    fn what_the_node_knows_better_is_the_nodes_word() {
        let r = taken(|_, _| ()).unwrap();
        assert_eq!((r.workload.as_str(), r.destination.as_ref().unwrap().owner.as_str(), r.rule_declared_at), ("gw", "team-orders", None));
        assert_eq!((r.user.as_deref(), r.path.as_str(), r.status, r.at_ms), (Some("alice"), "/orders", 403, NOW - 5));
        assert_eq!((r.groups, r.missing, r.rule), (vec!["support".to_owned()], vec!["sales".to_owned()], RuleId(9)));
    }

    #[test]
    fn what_a_gateway_may_not_say_is_not_taken() {
        let refused = |expect, change: &dyn Fn(&mut wire::Flow, &mut wire::Request)| assert_eq!(taken(change).map(drop), Err(expect));
        refused(ReportError::Id, &|f, _| f.id = "ab".into());
        refused(ReportError::Id, &|f, _| f.id = String::new());
        refused(ReportError::Verdict, &|f, _| f.verdict = "maybe".into());
        refused(ReportError::Reason, &|f, _| f.reason = "Missing group".into());
        refused(ReportError::Reason, &|f, _| f.reason = "x".repeat(limits::REASON_MAX_BYTES + 1));
        refused(ReportError::Source, &|f, _| f.source = "shop/web".into());
        refused(ReportError::Source, &|f, _| f.source = "spiffe://corp.example/ns/shop/sa/web".into());
        refused(ReportError::Source, &|f, _| f.source = "user:bob".into());
        refused(ReportError::Source, &|f, r| (f.source, r.user) = ("user:".into(), String::new()));
        refused(ReportError::Destination, &|f, _| f.destination = "shop/stock".into());
        refused(ReportError::Destination, &|f, _| f.destination = "user:alice".into());
        assert_eq!(read(wire::Flow { request: None, ..said() }, Some(&index()), &"gw".parse().unwrap(), NOW), Err(ReportError::NoRequest));
        assert_eq!(read(said(), None, &"gw".parse().unwrap(), NOW), Err(ReportError::Destination));
    }

    #[test]
    fn nobody_and_nowhere_are_said_by_silence() {
        let r = taken(|f, r| (f.source, r.user, f.destination) = (String::new(), String::new(), String::new())).unwrap();
        assert_eq!((r.user, r.destination), (None, None));
        let r = taken(|f, _| f.source = String::new()).unwrap();
        assert_eq!(r.user.as_deref(), Some("alice"));
    }

    #[test]
    fn texts_are_bounded_and_plain() {
        let r = taken(|f, r| {
            (r.method, r.host) = ("M".repeat(99), "h".repeat(999));
            r.path = format!("/\u{1b}[2J\u{202e}{}", "p".repeat(5000));
            r.groups = (0..100).map(|n| format!("group-{n}-{}", "g".repeat(90))).collect();
            r.missing = vec!["m".repeat(5000)];
            r.status = 70_000;
            f.detail = "d".repeat(5000);
            f.port = 70_000;
            f.at_ms = NOW + 1;
        })
        .unwrap();
        assert_eq!((r.method.len(), r.host.len(), r.status, r.port, r.at_ms), (32, 255, 0, 0, NOW));
        assert!(r.path.starts_with("/?[2J?ppp") && r.path.ends_with('…') && r.path.len() < limits::PATH_MAX_BYTES + 4, "{}", r.path);
        assert!(r.groups.len() == 20 && r.groups.iter().map(String::len).sum::<usize>() <= limits::GROUPS_MAX_BYTES, "{}", r.groups.len());
        assert!(r.detail.ends_with("; 80 further groups of the person are not kept"), "{}", r.detail);
        assert!(r.missing.is_empty());
        let long = taken(|f, r| {
            r.user = "ä".repeat(200);
            f.source = format!("user:{}", r.user);
        });
        assert_eq!(long.unwrap().user.unwrap().len(), limits::USER_MAX_BYTES);
        let old = taken(|f, _| f.at_ms = NOW - limits::REQUEST_AGE_MAX.as_millis() as i64 - 1).unwrap();
        assert_eq!(old.at_ms, NOW);
    }
}
