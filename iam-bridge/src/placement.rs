//! Which workload may be what, where: a node's token names the services, its report the workloads, and the two must agree. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use weft_identity::is_bridge;
use weft_snapshot::{Endpoint, Service, ServiceKind};
use weft_types::{Consumer, NodeName, ServiceId, ServiceRef, WorkloadUid};

use crate::limits;

/// A workload that a node says it runs, well-formed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) uid: WorkloadUid,
    pub(crate) service: ServiceRef,
    /// Sorted.
    pub(crate) addresses: Vec<IpAddr>,
    /// When it was first claimed, as a place in the order of all claims: of two that claim one address the earlier keeps it.
    pub(crate) since: u64,
}

/// A workload as it came over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) uid: String,
    pub(crate) service: String,
    pub(crate) addresses: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) uid: String,
    pub(crate) reason: String,
}

/// What of a node counts here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeView<'a> {
    pub(crate) name: &'a NodeName,
    pub(crate) may_run: &'a [Consumer],
    pub(crate) claims: &'a [Claim],
}

/// The outcome over all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Sorted. Workloads without an address are in `runs` alone.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) runs: BTreeSet<(NodeName, ServiceId)>,
    pub(crate) refusals: BTreeMap<NodeName, Vec<Refusal>>,
}

/// Parses a report. `former` are the node's claims so far, whose place in the order a claim keeps while it says the same; new ones take `next`.
pub(crate) fn read(reported: Vec<Reported>, former: &[Claim], next: u64) -> (Vec<Claim>, Vec<Refusal>) {
    let former: HashMap<&WorkloadUid, &Claim> = former.iter().map(|c| (&c.uid, c)).collect();
    let (mut claims, mut refusals, mut seen) = (Vec::with_capacity(reported.len()), Vec::new(), BTreeSet::new());
    for workload in reported {
        let uid = workload.uid.clone();
        match read_one(workload) {
            Ok(claim) if !seen.insert(claim.uid.clone()) => refusals.push(Refusal { uid, reason: "the report names this workload twice".into() }),
            Ok(mut claim) => {
                let same = former.get(&claim.uid).filter(|f| f.service == claim.service && f.addresses == claim.addresses);
                claim.since = same.map_or(next, |f| f.since);
                claims.push(claim);
            }
            Err(reason) => refusals.push(Refusal { uid: uid.chars().take(limits::TEXT_MAX_CHARS).collect(), reason }),
        }
    }
    (claims, refusals)
}

fn read_one(workload: Reported) -> Result<Claim, String> {
    let uid = workload.uid.parse().map_err(|e| format!("{e}"))?;
    let service = workload.service.parse().map_err(|e| format!("{e}"))?;
    if workload.addresses.len() > limits::ADDRESSES_MAX {
        return Err(format!("it has {} addresses, at most {} are possible", workload.addresses.len(), limits::ADDRESSES_MAX));
    }
    let mut addresses = workload.addresses.iter().map(|a| address(a)).collect::<Result<Vec<_>, _>>()?;
    addresses.sort_unstable();
    addresses.dedup();
    Ok(Claim { uid, service, addresses, since: 0 })
}

/// An address that another node could dial.
fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("{:?} is no IP address", text.chars().take(64).collect::<String>()))?;
    let address = address.to_canonical();
    let why = match address {
        a if a.is_unspecified() => "the unspecified address",
        a if a.is_loopback() => "a loopback address",
        a if a.is_multicast() => "a multicast address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
        IpAddr::V4(a) if a.is_link_local() => "a link-local address",
        IpAddr::V6(a) if a.is_unicast_link_local() => "a link-local address",
        a => return Ok(a),
    };
    Err(format!("{address} is {why}: no other node could reach the workload there"))
}

/// Judges every claim of every node under the catalog in force.
pub(crate) fn place<'a>(services: &[Service], service_range: Ipv4Net, nodes: impl IntoIterator<Item = NodeView<'a>>) -> Placement {
    let by_name: HashMap<&ServiceRef, &Service> = services.iter().map(|s| (&s.name, s)).collect();
    let mut claims: Vec<(NodeView<'a>, &'a Claim)> = nodes.into_iter().flat_map(|n| n.claims.iter().map(move |c| (n, c))).collect();
    // The name decides between claims of one moment, so that the outcome depends on nothing but its input.
    claims.sort_by_key(|(node, claim)| (claim.since, node.name, &claim.uid));
    let mut holders: HashMap<IpAddr, (&NodeName, &WorkloadUid)> = HashMap::new();
    let mut placement = Placement::default();
    for (node, claim) in claims {
        match judge(claim, node, &by_name, service_range, &holders) {
            Ok(service) => {
                for address in &claim.addresses {
                    holders.entry(*address).or_insert((node.name, &claim.uid));
                }
                placement.runs.insert((node.name.clone(), service));
                if !claim.addresses.is_empty() {
                    let (node, uid, addresses) = (node.name.clone(), claim.uid.clone(), claim.addresses.clone());
                    placement.endpoints.push(Endpoint { service, node, uid, addresses });
                }
            }
            Err(reason) => {
                let refusal = Refusal { uid: claim.uid.to_string(), reason };
                placement.refusals.entry(node.name.clone()).or_default().push(refusal);
            }
        }
    }
    placement.endpoints.sort();
    placement
}

fn judge(
    claim: &Claim,
    node: NodeView<'_>,
    services: &HashMap<&ServiceRef, &Service>,
    service_range: Ipv4Net,
    holders: &HashMap<IpAddr, (&NodeName, &WorkloadUid)>,
) -> Result<ServiceId, String> {
    let service = may_be(&claim.service, node, |name| services.get(name).copied())?;
    for address in &claim.addresses {
        if matches!(address, IpAddr::V4(a) if service_range.contains(a)) {
            return Err(format!(
                "{address} lies in the range of virtual IPs, {service_range}: give the workload another address, or the mesh another serviceRange"
            ));
        }
        // Containers of one pod, and everything in a host's namespace, share addresses: which of them listens, their node knows.
        if let Some((other, uid)) = holders.get(address).filter(|(other, _)| *other != node.name) {
            return Err(format!("{address} is the address of workload {uid} on node {other}: if that node is gone for good, remove it"));
        }
    }
    Ok(service.id)
}

/// Whether a workload on this node may be that service at all.
pub(crate) fn may_be<'s>(name: &ServiceRef, node: NodeView<'_>, find: impl FnOnce(&ServiceRef) -> Option<&'s Service>) -> Result<&'s Service, String> {
    if !node.may_run.iter().any(|pattern| pattern.admits(name)) {
        let allowed = node.may_run.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed };
        return Err(format!("node {} may not run {name}: its join token names {allowed}; join it again with a token for more", node.name));
    }
    let service = find(name).ok_or_else(|| format!("the catalog declares no service {name}"))?;
    if service.kind == ServiceKind::Interface {
        return Err(format!("{name} is an interface: it lies outside the mesh, and nobody runs it"));
    }
    if is_bridge(&service.identity) {
        return Err(format!("{name} has the identity of the IAM bridge, which no workload may have"));
    }
    Ok(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: &str = "100.64.0.0/16";

    fn service(id: u32, name: &str, kind: ServiceKind) -> Service {
        let name: ServiceRef = name.parse().unwrap();
        Service {
            id: ServiceId(id),
            kind,
            title: String::new(),
            owner: "team".parse().unwrap(),
            capability: String::new(),
            lifecycle: "production".into(),
            identity: format!("spiffe://corp.example/ns/{}/sa/{}", name.namespace, name.name).parse().unwrap(),
            vip: None,
            ports: vec![],
            externals: vec![],
            consumers: vec![],
            declared_at: String::new(),
            name,
        }
    }

    fn services() -> Vec<Service> {
        use ServiceKind::{Application, Interface};
        vec![
            service(1, "shop/orders", Application),
            service(2, "shop/stock", Application),
            service(3, "finance/cards", Interface),
            service(4, "weft-system/iam-bridge", Application),
        ]
    }

    struct Node {
        name: NodeName,
        may_run: Vec<Consumer>,
        claims: Vec<Claim>,
        refused: Vec<Refusal>,
    }

    fn node(name: &str, may_run: &[&str]) -> Node {
        Node { name: name.parse().unwrap(), may_run: may_run.iter().map(|c| c.parse().unwrap()).collect(), claims: vec![], refused: vec![] }
    }

    impl Node {
        fn report(&mut self, at: u64, workloads: &[(&str, &str, &[&str])]) {
            let reported = workloads.iter().map(|(uid, service, addresses)| Reported {
                uid: (*uid).into(),
                service: (*service).into(),
                addresses: addresses.iter().map(|a| (*a).into()).collect(),
            });
            (self.claims, self.refused) = read(reported.collect(), &self.claims, at);
        }
    }

    fn judge_all(nodes: &[&Node]) -> Placement {
        place(&services(), RANGE.parse().unwrap(), nodes.iter().map(|n| NodeView { name: &n.name, may_run: &n.may_run, claims: &n.claims }))
    }

    /// The one reason why this workload is refused on a node that may run shop/*; `None`: it is not.
    fn refused(service: &str, addresses: &[&str]) -> Option<String> {
        let mut a = node("a", &["shop/*", "finance/*", "weft-system/*"]);
        a.report(1, &[("w", service, addresses)]);
        let placement = judge_all(&[&a]);
        let mut all: Vec<_> = a.refused.iter().chain(placement.refusals.values().flatten()).map(|r| r.reason.clone()).collect();
        assert_eq!(all.len() + placement.runs.len(), 1, "{all:?} {placement:?}");
        all.pop()
    }

    #[track_caller]
    fn check(service: &str, addresses: &[&str], words: &str) {
        let reason = refused(service, addresses).expect("it is refused");
        assert!(reason.contains(words), "{reason}");
    }

    #[test]
    fn a_workload_is_what_token_and_catalog_allow() {
        assert_eq!(refused("shop/orders", &["10.1.0.1", "fd00::1"]), None);
        assert_eq!(refused("shop/orders", &[]), None);
        check("shop/nothing", &["10.1.0.1"], "declares no service shop/nothing");
        check("finance/cards", &["10.1.0.1"], "is an interface");
        check("weft-system/iam-bridge", &["10.1.0.1"], "identity of the IAM bridge");
        check("other/orders", &["10.1.0.1"], "may not run other/orders: its join token names shop/*");
        check("orders", &["10.1.0.1"], "needs a namespace");
    }

    #[test]
    fn a_token_that_names_nothing_allows_nothing() {
        for (may_run, runs) in [(&[][..], 0), (&["shop/stock"], 0), (&["shop/orders"], 1)] {
            let mut a = node("a", may_run);
            a.report(1, &[("w", "shop/orders", &["10.1.0.1"])]);
            assert_eq!(judge_all(&[&a]).runs.len(), runs, "{may_run:?}");
        }
    }

    #[test]
    fn addresses_that_mean_something_else_are_refused() {
        for (address, words) in [
            ("100.64.7.7", "range of virtual IPs"),
            ("::ffff:100.64.7.7", "range of virtual IPs"),
            ("127.0.0.1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
            ("0.0.0.0", "unspecified"),
            ("255.255.255.255", "broadcast"),
            ("169.254.1.1", "link-local"),
            ("fe80::1", "link-local"),
            ("10.1", "no IP address"),
        ] {
            check("shop/orders", &[address], words);
        }
        let many: Vec<String> = (0..=limits::ADDRESSES_MAX).map(|i| format!("10.0.0.{i}")).collect();
        check("shop/orders", &many.iter().map(String::as_str).collect::<Vec<_>>(), "17 addresses");
    }

    #[test]
    fn of_two_that_claim_an_address_the_earlier_keeps_it_until_it_lets_go() {
        let (mut a, mut b) = (node("a", &["shop/*"]), node("b", &["shop/*"]));
        b.report(1, &[("w", "shop/stock", &["10.1.0.1"])]);
        a.report(2, &[("w", "shop/orders", &["10.1.0.1"])]);
        let holder = |placement: &Placement| placement.endpoints.iter().map(|e| e.node.to_string()).collect::<Vec<_>>();
        let placement = judge_all(&[&a, &b]);
        assert_eq!(holder(&placement), ["b"]);
        assert!(placement.refusals[&a.name][0].reason.contains("workload w on node b"), "{placement:?}");
        // Saying it again changes nothing.
        b.report(3, &[("w", "shop/stock", &["10.1.0.1"])]);
        assert_eq!(judge_all(&[&a, &b]), placement);
        // Saying something else does: the claim is a new one.
        b.report(4, &[("w", "shop/orders", &["10.1.0.1"])]);
        assert_eq!(holder(&judge_all(&[&a, &b])), ["a"]);
        b.report(5, &[]);
        assert_eq!(holder(&judge_all(&[&a, &b])), ["a"]);
    }

    #[test]
    fn one_uid_is_one_workload() {
        let mut a = node("a", &["shop/*"]);
        a.report(1, &[("w", "shop/orders", &["10.1.0.1"]), ("w", "shop/stock", &["10.1.0.2"]), ("no good", "shop/stock", &[])]);
        assert_eq!(a.claims.len(), 1);
        let reasons: Vec<_> = a.refused.iter().map(|r| r.reason.as_str()).collect();
        assert!(reasons[0].contains("twice") && reasons[1].contains("workload uid"), "{reasons:?}");
    }
}
