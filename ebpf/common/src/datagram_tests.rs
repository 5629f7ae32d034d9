//! Flows of paper: what belongs to one, what ends it, and frames as bytes.

extern crate std;
use std::{vec, vec::Vec};

use super::*;

const NOW: u64 = 1_000 * 1_000_000_000;
/// Namespaces and, where all is watched, identities: the caller, the server, somebody else, a namespace with another way in.
const CALLER: u64 = 1;
const SERVER: u64 = 2;
const OTHER: u64 = 3;
const UNWATCHED: u64 = 4;

const fn ip(last: u8) -> Addr {
    Addr::from_v4_be(u32::from_ne_bytes([10, 0, 0, last]))
}

const fn ends() -> Ends {
    Ends { from: ip(1), to: ip(2), from_port: 40000, to_port: 5353 }
}

const fn back(d: Ends) -> Ends {
    Ends { from: d.to, to: d.from, from_port: d.to_port, to_port: d.from_port }
}

struct Paper {
    at: TupleKey,
    flow: Attestation,
    granted: bool,
    needs_l7: bool,
    declared: bool,
}

impl Paper {
    fn new() -> Self {
        let flow = Attestation { netns: CALLER, since_ns: NOW, source: CALLER as u32, destination: SERVER as u32, service_port: 53, ..Attestation::default() };
        Self { at: ends().asked(SERVER), flow, granted: true, needs_l7: false, declared: true }
    }
}

impl Tables for Paper {
    fn destination(&self, _: &Addr) -> Option<Destination> {
        None
    }
    fn external(&self, _: &Addr) -> Option<External> {
        None
    }
    fn port(&self, service: u32, kind: u32, port: u16, proto: u8) -> Option<Port> {
        let is = self.declared && (u64::from(service), kind, port, proto) == (SERVER, DEST_ENDPOINT, 5353, PROTO_UDP);
        is.then_some(Port { service_port: 53, target_port: 5353 })
    }
    fn grant(&self, source: u32, destination: u32, port: u16, proto: u8) -> Option<Grant> {
        let is = self.granted && (u64::from(source), u64::from(destination), port, proto) == (CALLER, SERVER, 53, PROTO_UDP);
        is.then_some(Grant { rule: 5, flags: if self.needs_l7 { GRANT_NEEDS_L7 } else { 0 } })
    }
}

impl Flows for Paper {
    fn flow(&self, key: &TupleKey) -> Option<Attestation> {
        (*key == self.at).then_some(self.flow)
    }
    fn watched(&self, netns: u64) -> u32 {
        if netns < UNWATCHED { netns as u32 } else { 0 }
    }
}

#[test]
fn questions_and_answers_of_a_flow_belong_to_it_and_nobody_elses() {
    let p = Paper::new();
    let check = |sender, receiver, d: Ends, expect: bool| assert_eq!(belongs(&p, sender, receiver, &d, NOW).is_some(), expect, "{sender} → {receiver}: {d:?}");
    check(CALLER, SERVER, ends(), true);
    check(SERVER, CALLER, back(ends()), true);
    // The same addresses and ports from, or to, another namespace are another's.
    check(OTHER, SERVER, ends(), false);
    check(CALLER, OTHER, ends(), false);
    check(OTHER, CALLER, back(ends()), false);
    check(SERVER, OTHER, back(ends()), false);
    check(0, SERVER, ends(), false);
    check(0, CALLER, back(ends()), false);
    // The other direction of neither.
    check(SERVER, CALLER, ends(), false);
    check(CALLER, SERVER, Ends { from_port: 40001, ..ends() }, false);
    check(CALLER, SERVER, Ends { to_port: 5354, ..ends() }, false);
}

#[test]
fn a_flow_stands_while_it_is_granted_watched_and_in_use() {
    let both = |p: &Paper, now| (belongs(p, CALLER, SERVER, &ends(), now).is_some(), belongs(p, SERVER, CALLER, &back(ends()), now).is_some());
    let check = |p: Paper, expect: bool| assert_eq!(both(&p, NOW), (expect, expect));
    check(Paper::new(), true);
    check(Paper { granted: false, ..Paper::new() }, false);
    check(Paper { needs_l7: true, ..Paper::new() }, false);
    check(Paper { declared: false, ..Paper::new() }, false);
    // Its namespace has another identity now.
    check(Paper { flow: Attestation { source: 9, ..Paper::new().flow }, ..Paper::new() }, false);
    check(Paper { flow: Attestation { destination: 9, ..Paper::new().flow }, ..Paper::new() }, false);
    check(Paper { flow: Attestation { netns: UNWATCHED, source: 0, ..Paper::new().flow }, ..Paper::new() }, false);
    let p = Paper::new();
    assert_eq!(both(&p, NOW + DATAGRAM_IDLE_NS - 1), (true, true));
    assert_eq!(both(&p, NOW + DATAGRAM_IDLE_NS), (false, false));
    assert_eq!(both(&p, NOW - 5), (true, true));
}

#[test]
fn what_a_grant_allows_leads_to_watched_workloads_of_this_node() {
    let granted = Judgement { reason: REASON_GRANT as u32, kind: DEST_ENDPOINT, service: SERVER as u32, ..Judgement::default() };
    let at = |netns: u64| LocalAddr { netns, service: SERVER as u32, flags: 0 };
    let check = |caller, there: Option<LocalAddr>, j, expect: u8| assert_eq!(on_this_node(&Paper::new(), caller, there.as_ref(), j).reason as u8, expect);
    check(CALLER, Some(at(SERVER)), granted, REASON_GRANT);
    check(CALLER, None, granted, REASON_OTHER_NODE);
    check(CALLER, Some(at(OTHER)), granted, REASON_OTHER_NODE);
    check(CALLER, Some(at(UNWATCHED)), granted, REASON_OTHER_NODE);
    check(UNWATCHED, Some(at(SERVER)), granted, REASON_OTHER_NODE);
    check(CALLER, Some(at(SERVER)), Judgement { kind: DEST_VIP, ..granted }, REASON_OTHER_NODE);
    check(CALLER, None, Judgement { reason: REASON_NO_GRANT as u32, ..granted }, REASON_NO_GRANT);
}

fn frame4(proto: u8, offset: u16, options: &[u8], body: &[u8]) -> Vec<u8> {
    let mut h = vec![0x45 + (options.len() / 4) as u8, 0, 0, 0, 0, 0];
    h.extend(offset.to_be_bytes());
    h.extend([64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    [&[0; 12][..], &ETH_P_IP.to_be_bytes(), &h, options, body].concat()
}

fn frame6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut h = vec![0x60, 0, 0, 0, 0, body.len() as u8, next, 64];
    for last in [1, 2] {
        h.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    [&[0; 12][..], &ETH_P_IPV6.to_be_bytes(), &h, body].concat()
}

#[test]
fn whatever_could_become_a_datagram_is_one_or_is_refused() {
    // Ports 40000 and 5353.
    let udp = [0x9c, 0x40, 0x14, 0xe9, 0, 8, 0, 0];
    let six = |last: u8| Addr::from_octets([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    let (four, six) = (Arriving::Datagram(ends()), Arriving::Datagram(Ends { from: six(1), to: six(2), ..ends() }));
    let check = |frame: Vec<u8>, expect| assert_eq!(arriving(&frame.as_slice()), expect, "{frame:?}");
    check(frame4(PROTO_UDP, 0, &[], &udp), four);
    check(frame4(PROTO_UDP, 0x4000, &[1, 1, 1, 0], &udp), four);
    check(frame4(PROTO_UDP, 0x2000, &[], &udp), four);
    check(frame4(PROTO_UDP, 0x2001, &[], &udp), Arriving::Other);
    check(frame4(PROTO_UDP, 0, &[], &udp[..3]), Arriving::Hidden);
    check(frame4(PROTO_TCP, 0, &[], &udp), Arriving::Other);
    check(frame6(PROTO_UDP, &udp), six);
    check(frame6(PROTO_TCP, &udp), Arriving::Other);
    check(frame6(IPPROTO_FRAGMENT, &[&[PROTO_UDP, 0, 0, 1, 0, 0, 0, 7][..], &udp].concat()), six);
    check(frame6(IPPROTO_FRAGMENT, &[&[PROTO_UDP, 0, 0, 9, 0, 0, 0, 7][..], &udp].concat()), Arriving::Other);
    check(frame6(IPPROTO_FRAGMENT, &[&[IPPROTO_DSTOPTS, 0, 0, 1, 0, 0, 0, 7][..], &udp].concat()), Arriving::Hidden);
    for (options, expect) in [(PROTO_UDP, Arriving::Hidden), (IPPROTO_ROUTING, Arriving::Hidden), (PROTO_TCP, Arriving::Other), (PROTO_ICMPV6, Arriving::Other)]
    {
        check(frame6(IPPROTO_HOPOPTS, &[&[options, 0, 1, 4, 0, 0, 0, 0][..], &udp].concat()), expect);
    }
    for next in [IPPROTO_ROUTING, IPPROTO_DSTOPTS] {
        check(frame6(next, &[&[PROTO_UDP, 0, 1, 4, 0, 0, 0, 0][..], &udp].concat()), Arriving::Hidden);
    }
    // A tag in the frame hides what the workload's stack will find behind it.
    check([&[0; 12][..], &[0x81, 0, 0, 0], &frame4(PROTO_UDP, 0, &[], &udp)[12..]].concat(), Arriving::Hidden);
    check([&[0; 12][..], &ETH_P_ARP.to_be_bytes()].concat(), Arriving::Other);
    check(vec![0; 9], Arriving::Hidden);
}
