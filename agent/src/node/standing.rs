//! Which live sockets may go on, and which services a revision takes something away from. Pure: nothing here touches a socket.

use std::{collections::HashSet, net::SocketAddr};

use weft_ebpf_common::{
    Attestation, PATH_CAPTURED, PATH_DELIVERED, PATH_INTERFACE, PATH_LOCAL, PATH_PUBLIC, PATH_RESOLVER, PATH_SAME_NODE, PROTO_TCP, SIDE_CLIENT, SIDE_SERVER,
    TUNNEL_PORT,
};
use weft_kernel::LiveSocket;
use weft_policy::{Destination, Index, Query, ResolvedKind};
use weft_types::{Protocol, ServiceId, Verdict};

/// What the sockets of one workload are held against.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    pub identity: ServiceId,
    /// `None`: there is no snapshot, so nothing that needs a grant has one.
    pub index: Option<&'a Index>,
    pub resolvers: &'a [SocketAddr],
}

/// Why a socket has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No program judged it: it is older than the enrolment, or came while the programs were missing.
    Unattested,
    /// It was attested to another identity.
    Foreign,
    /// The grant that allowed it went away, narrowed, or speaks of HTTP now.
    Revoked,
    /// The workload at one end is enrolled no more.
    Withdrawn,
}

impl Fault {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unattested => "unattested",
            Self::Foreign => "foreign",
            Self::Revoked => "revoked",
            Self::Withdrawn => "withdrawn",
        }
    }

    pub fn explain(self) -> &'static str {
        match self {
            Self::Unattested => "unattested: it was open before the workload was enrolled, and nothing that was judged covers it",
            Self::Foreign => "foreign: it was attested to another identity than the workload has now",
            Self::Revoked => "revoked: the grant that allowed it went away",
            Self::Withdrawn => "withdrawn: the workload at one of its ends is not enrolled any more",
        }
    }
}

impl Standing<'_> {
    /// Every socket of a workload at its enrolment: what nobody judged ends too.
    pub fn at_enrolment(&self, s: &LiveSocket) -> Option<Fault> {
        if s.exempt || s.listening || !s.is_connected() || s.within {
            return None;
        }
        match &s.record {
            Some(r) => self.of_record(r, s.protocol),
            // What a workload asks a resolver is judged by the packet.
            None if s.protocol != PROTO_TCP && self.resolvers.contains(&s.remote) => None,
            // Who knocks at a public port has no record before the handshake is over. Only what arrives: a socket with that port may have dialled from it.
            None if s.arriving && self.is_open(s) => None,
            None => Some(Fault::Unattested),
        }
    }

    /// The record, without the id of a flow, of a connection that nobody judged but that is granted as it stands: to a declared interface, which is reached without a tunnel.
    pub fn approve(&self, s: &LiveSocket) -> Option<Attestation> {
        let index = self.index.filter(|_| s.protocol == PROTO_TCP && s.record.is_none() && !s.arriving)?;
        let resolved = index.resolve(s.remote.ip()).filter(|r| r.kind == ResolvedKind::External)?;
        let destination = Destination::Address { addr: s.remote.ip(), port: s.remote.port() };
        let decision = index.decide(&Query { source: self.identity, destination, protocol: Protocol::Tcp });
        (decision.verdict == Verdict::Allow).then(|| Attestation {
            revision: decision.revision.0,
            source: self.identity.0,
            destination: resolved.service.0,
            rule: decision.rule.0,
            path: PATH_INTERFACE,
            dialled: s.remote.ip().into(),
            dialled_port: s.remote.port(),
            service_port: s.remote.port(),
            side: SIDE_CLIENT,
            ..Attestation::default()
        })
    }

    /// A socket of an enrolled workload under a new revision. One without a record was never allowed by a grant.
    pub fn under_revision(&self, s: &LiveSocket) -> Option<Fault> {
        match &s.record {
            _ if s.exempt || s.listening => None,
            Some(r) => self.of_record(r, s.protocol),
            None if self.is_shut_out(s) => Some(Fault::Revoked),
            None => None,
        }
    }

    /// Of a workload that has public ports: it knocked at one that was none any more when the handshake was over. So it has no record and sends nothing, but it still hears.
    fn is_shut_out(&self, s: &LiveSocket) -> bool {
        let elsewhere = s.protocol == PROTO_TCP && s.is_connected() && !s.within && s.local.port() != TUNNEL_PORT;
        elsewhere && !self.public_ports().is_empty() && !self.is_open(s)
    }

    fn is_open(&self, s: &LiveSocket) -> bool {
        s.protocol == PROTO_TCP && self.public_ports().contains(&s.local.port())
    }

    fn public_ports(&self) -> &[u16] {
        self.index.map_or(&[], |index| index.public_ports(self.identity))
    }

    fn of_record(&self, r: &Attestation, protocol: u8) -> Option<Fault> {
        let own = match r.side {
            SIDE_CLIENT => r.source,
            SIDE_SERVER if r.path == PATH_DELIVERED || is_within(r) => self.identity.0,
            SIDE_SERVER => r.destination,
            _ => r.source,
        };
        if own != self.identity.0 {
            return Some(Fault::Foreign);
        }
        let protocol = Protocol::from_number(protocol).unwrap_or_default();
        let holds = match r.path {
            // The proxies judge what they carry, and end it.
            PATH_CAPTURED | PATH_DELIVERED => true,
            PATH_LOCAL if is_within(r) => true,
            PATH_RESOLVER => self.resolvers.contains(&SocketAddr::new(r.dialled.into(), r.dialled_port)),
            PATH_SAME_NODE | PATH_LOCAL => self.grants(r, Destination::Service { id: ServiceId(r.destination), port: r.service_port }, protocol),
            PATH_PUBLIC => protocol == Protocol::Tcp && self.public_ports().contains(&r.service_port),
            // A range can shrink below a connection whose grant stays.
            PATH_INTERFACE => self.grants(r, Destination::Address { addr: r.dialled.into(), port: r.dialled_port }, protocol),
            _ => false,
        };
        if holds { None } else { Some(Fault::Revoked) }
    }

    fn grants(&self, r: &Attestation, destination: Destination, protocol: Protocol) -> bool {
        let query = Query { source: ServiceId(r.source), destination, protocol };
        self.index.is_some_and(|index| index.decide(&query).verdict == Verdict::Allow)
    }
}

/// Of a workload with itself, or within a namespace that is one identity's alone, where the record names no destination. Where several share one, it names the listener's.
fn is_within(r: &Attestation) -> bool {
    r.path == PATH_LOCAL && (r.destination == 0 || r.destination == r.source)
}

/// Services at either end of something that `old` allowed and `new` does not, or may not: only their workloads need a look.
pub fn touched(before: &Index, new: &Index) -> HashSet<ServiceId> {
    let (old, mut found) = (before.snapshot(), HashSet::new());
    let shut = |id| !before.public_ports(id).iter().all(|port| new.public_ports(id).contains(port));
    let shrunk: HashSet<ServiceId> = old
        .services
        .iter()
        .filter(|s| match new.service(s.id) {
            Some(_) if shut(s.id) => true,
            Some(now) => !s.ports.iter().all(|p| now.ports.contains(p)) || !s.externals.iter().all(|e| now.externals.contains(e)),
            None => true,
        })
        .map(|s| s.id)
        .collect();
    for g in old.grants.iter().filter(|g| !g.needs_l7) {
        if shrunk.contains(&g.destination) || new.granted(g.source, g.destination, g.port, g.protocol).is_none() {
            found.extend([g.source, g.destination]);
        }
    }
    found.extend(shrunk);
    found
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use weft_snapshot::{Grant, Port, Service, ServiceKind, Snapshot};
    use weft_types::{Revision, RuleId};

    use super::*;

    fn service(id: u32) -> Service {
        Service {
            id: ServiceId(id),
            name: format!("shop/s{id}").parse().unwrap(),
            kind: ServiceKind::Application,
            title: String::new(),
            owner: "team".parse().unwrap(),
            capability: format!("s{id}"),
            lifecycle: "production".into(),
            identity: format!("spiffe://corp.example/ns/shop/sa/s{id}").parse().unwrap(),
            vip: Some(std::net::Ipv4Addr::new(100, 64, 0, id as u8)),
            consumers: Vec::new(),
            ports: vec![Port { name: "web".parse().unwrap(), port: 80, target_port: 8080, protocol: Protocol::Tcp }],
            externals: Vec::new(),
            declared_at: "f.yaml:1".into(),
        }
    }

    /// Grants as (source, destination, needs L7).
    fn index(grants: &[(u32, u32, bool)]) -> Index {
        Index::new(Arc::new(Snapshot {
            revision: Revision(3),
            mesh: "corp".into(),
            trust_domain: "corp.example".parse().unwrap(),
            services: (1..=4).map(service).collect(),
            endpoints: Vec::new(),
            grants: grants
                .iter()
                .map(|(from, to, needs_l7)| Grant {
                    rule: RuleId(from * 10 + to),
                    source: ServiceId(*from),
                    destination: ServiceId(*to),
                    port: 80,
                    protocol: Protocol::Tcp,
                    needs_l7: *needs_l7,
                    declared_at: "f.yaml:9".into(),
                })
                .collect(),
            pending: Vec::new(),
            teams: Vec::new(),
            gateway: None,
        }))
    }

    fn socket(side: u16, path: u32, source: u32, destination: u32) -> LiveSocket {
        let record = Attestation { side, path, source, destination, service_port: 80, ..Attestation::default() };
        let at = |ip: [u8; 4], port| SocketAddr::new(IpAddr::from(ip), port);
        let (local, remote) = (at([10, 0, 0, 1], 4000), at([10, 0, 0, 2], 8080));
        LiveSocket { local, remote, protocol: PROTO_TCP, inode: 0, listening: false, arriving: false, exempt: false, within: false, record: Some(record) }
    }

    fn standing(identity: u32, index: &Index) -> Standing<'_> {
        Standing { identity: ServiceId(identity), index: Some(index), resolvers: &[] }
    }

    #[test]
    fn both_ends_of_a_connection_stand_and_fall_with_the_grant() {
        let (client, server) = (socket(SIDE_CLIENT, PATH_SAME_NODE, 1, 2), socket(SIDE_SERVER, PATH_SAME_NODE, 1, 2));
        for (grants, fault) in [(index(&[(1, 2, false)]), None), (index(&[]), Some(Fault::Revoked)), (index(&[(1, 2, true)]), Some(Fault::Revoked))] {
            assert_eq!(standing(1, &grants).under_revision(&client), fault);
            assert_eq!(standing(2, &grants).under_revision(&server), fault);
        }
    }

    #[test]
    fn where_several_share_a_namespace_what_stays_in_it_stands_with_its_grant_too() {
        for (grants, fault) in [(index(&[(1, 2, false)]), None), (index(&[]), Some(Fault::Revoked))] {
            assert_eq!(standing(1, &grants).under_revision(&socket(SIDE_CLIENT, PATH_LOCAL, 1, 2)), fault);
            assert_eq!(standing(2, &grants).under_revision(&socket(SIDE_SERVER, PATH_LOCAL, 1, 2)), fault);
        }
        for (source, destination) in [(1, 0), (1, 1)] {
            for side in [SIDE_CLIENT, SIDE_SERVER] {
                assert_eq!(standing(1, &index(&[])).under_revision(&socket(side, PATH_LOCAL, source, destination)), None);
            }
        }
        assert_eq!(standing(3, &index(&[(1, 2, false)])).under_revision(&socket(SIDE_SERVER, PATH_LOCAL, 1, 2)), Some(Fault::Foreign));
    }

    #[test]
    fn a_socket_of_another_identity_stands_nowhere() {
        let all = index(&[(1, 2, false), (3, 2, false)]);
        assert_eq!(standing(3, &all).at_enrolment(&socket(SIDE_CLIENT, PATH_SAME_NODE, 1, 2)), Some(Fault::Foreign));
        assert_eq!(standing(3, &all).at_enrolment(&socket(SIDE_SERVER, PATH_SAME_NODE, 1, 2)), Some(Fault::Foreign));
    }

    #[test]
    fn at_enrolment_what_nobody_judged_ends_and_listeners_and_loopback_stay() {
        let all = index(&[]);
        let bare = LiveSocket { record: None, ..socket(SIDE_CLIENT, 0, 0, 0) };
        assert_eq!(standing(1, &all).at_enrolment(&bare), Some(Fault::Unattested));
        assert_eq!(standing(1, &all).under_revision(&bare), None);
        for spared in [
            LiveSocket { listening: true, ..bare.clone() },
            LiveSocket { exempt: true, ..bare.clone() },
            LiveSocket { within: true, ..bare.clone() },
            LiveSocket { remote: "0.0.0.0:0".parse().unwrap(), ..bare },
        ] {
            assert_eq!(standing(1, &all).at_enrolment(&spared), None, "{spared:?}");
        }
    }

    /// With a gateway, whose number is 1 and whose name may be another's.
    fn gateway(name: &str, listen: u16, redirect: Option<u16>) -> Index {
        let mut s = (**index(&[]).snapshot()).clone();
        s.services[0].name = name.parse().unwrap();
        s.gateway = Some(weft_snapshot::Gateway {
            service: ServiceId(1),
            base_domain: "corp.example".parse().unwrap(),
            public_port: 443,
            listen_port: listen,
            redirect_port: redirect,
            branding: weft_snapshot::Branding::default(),
            routes: Vec::new(),
            providers: Vec::new(),
            bookmarks: Vec::new(),
        });
        Index::new(Arc::new(s))
    }

    #[test]
    fn who_came_in_at_a_public_port_stays_while_it_is_one() {
        let came_in = |destination, port| {
            let mut s = socket(SIDE_SERVER, PATH_PUBLIC, 0, destination);
            s.record = s.record.map(|r| Attestation { service_port: port, ..r });
            LiveSocket { local: SocketAddr::new(s.local.ip(), port), ..s }
        };
        let own = gateway("weft/gateway", 8443, Some(8080));
        for (identity, index, s, fault) in [
            (1, &own, came_in(1, 8443), None),
            (1, &own, came_in(1, 8080), None),
            (1, &gateway("weft/gateway", 8443, None), came_in(1, 8080), Some(Fault::Revoked)),
            (1, &gateway("weft/gateway", 9443, None), came_in(1, 8443), Some(Fault::Revoked)),
            (1, &gateway("shop/gateway", 8443, None), came_in(1, 8443), Some(Fault::Revoked)),
            (1, &index(&[]), came_in(1, 8443), Some(Fault::Revoked)),
            (2, &own, came_in(1, 8443), Some(Fault::Foreign)),
            (2, &own, came_in(2, 8443), Some(Fault::Revoked)),
            (1, &own, LiveSocket { protocol: weft_ebpf_common::PROTO_UDP, ..came_in(1, 8443) }, Some(Fault::Revoked)),
        ] {
            assert_eq!(standing(identity, index).under_revision(&s), fault, "{s:?}");
            assert_eq!(standing(identity, index).at_enrolment(&s), fault, "{s:?}");
        }
        // A handshake has no record yet. What is established without one may as well have dialled from that port.
        let knocks = |port| LiveSocket { arriving: true, record: None, ..came_in(1, port) };
        for (identity, s, at_enrolment, later) in [
            (1, knocks(8443), None, None),
            (1, knocks(9443), Some(Fault::Unattested), Some(Fault::Revoked)),
            (2, knocks(8443), Some(Fault::Unattested), None),
            (1, LiveSocket { arriving: false, ..knocks(8443) }, Some(Fault::Unattested), None),
            (1, LiveSocket { arriving: false, ..knocks(9443) }, Some(Fault::Unattested), Some(Fault::Revoked)),
            (1, LiveSocket { exempt: true, ..knocks(9443) }, None, None),
            (1, LiveSocket { local: SocketAddr::new([10, 0, 0, 1].into(), TUNNEL_PORT), ..knocks(9443) }, Some(Fault::Unattested), None),
        ] {
            assert_eq!((standing(identity, &own).at_enrolment(&s), standing(identity, &own).under_revision(&s)), (at_enrolment, later), "{identity} {s:?}");
        }
    }

    #[test]
    fn a_revision_that_shuts_a_public_port_touches_the_gateway() {
        let old = gateway("weft/gateway", 8443, Some(8080));
        for (new, touches) in [
            (gateway("weft/gateway", 8443, Some(8080)), false),
            (gateway("weft/gateway", 8080, Some(8443)), false),
            (gateway("weft/gateway", 8443, None), true),
            (gateway("weft/gateway", 9443, Some(8080)), true),
            (index(&[]), true),
        ] {
            assert_eq!(touched(&old, &new).contains(&ServiceId(1)), touches);
            assert!(!touched(&new, &old).contains(&ServiceId(2)));
        }
    }

    #[test]
    fn a_revision_touches_both_ends_of_what_it_takes_away_and_nobody_else() {
        let set = |ids: &[u32]| ids.iter().map(|id| ServiceId(*id)).collect::<HashSet<_>>();
        let old = index(&[(1, 2, false), (3, 4, false)]);
        assert_eq!(touched(&old, &old), set(&[]));
        assert_eq!(touched(&old, &index(&[(1, 2, false), (3, 4, false), (1, 3, false)])), set(&[]));
        assert_eq!(touched(&old, &index(&[(3, 4, false)])), set(&[1, 2]));
        assert_eq!(touched(&old, &index(&[(1, 2, true), (3, 4, false)])), set(&[1, 2]));
        let mut without = (**old.snapshot()).clone();
        without.services.retain(|s| s.id.0 != 4);
        without.grants.retain(|g| g.destination.0 != 4);
        assert_eq!(touched(&old, &Index::new(Arc::new(without))), set(&[3, 4]));
    }
}
