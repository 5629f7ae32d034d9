//! Frames as bytes, and a node of paper: what leaves and what does not.

extern crate std;
use std::{vec, vec::Vec};

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// Service ids: we, a local endpoint's service that we may dial (and that may not dial us), one that may dial us, an interface, a stranger.
const US: u32 = 1;
const SERVER: u32 = 2;
const CALLER: u32 = 3;
const INTERFACE: u32 = 9;
const STRANGER: u32 = 4;

const fn ip(last: u8) -> Addr {
    Addr::from_v4_be(u32::from_ne_bytes([10, 0, 0, last]))
}

const fn ip6(last: u8) -> Addr {
    let mut o = [0; 16];
    (o[0], o[15]) = (0xfd, last);
    Addr::from_octets(o)
}

fn link_local() -> Addr {
    let mut o = [0; 16];
    (o[0], o[1], o[15]) = (0xfe, 0x80, 1);
    Addr::from_octets(o)
}

/// Last octets: 1 we, 2 server here, 3 caller here, 4 stranger here, 12 server on another node, 20 virtual IP of server, 53 resolver, 99 interface.
#[derive(Default)]
struct Paper {
    connected: bool,
    flows: bool,
}

fn last(a: &Addr) -> u8 {
    let o = a.octets();
    if *a == ip(o[15]) || *a == ip6(o[15]) { o[15] } else { 0 }
}

impl Tables for Paper {
    fn destination(&self, addr: &Addr) -> Option<Destination> {
        let endpoint = |service| Some(Destination { service, kind: DEST_ENDPOINT });
        match last(addr) {
            1 => endpoint(US),
            2 | 12 => endpoint(SERVER),
            3 => endpoint(CALLER),
            4 => endpoint(STRANGER),
            20 => Some(Destination { service: SERVER, kind: DEST_VIP }),
            _ => None,
        }
    }
    fn external(&self, addr: &Addr) -> Option<External> {
        (last(addr) == 99).then_some(External { service: INTERFACE })
    }
    fn port(&self, service: u32, kind: u32, port: u16, proto: u8) -> Option<Port> {
        if kind == DEST_PUBLIC {
            return (service == US && port == 443 && proto == PROTO_TCP).then_some(Port { service_port: 443, target_port: 443 });
        }
        let dialled = if kind == DEST_VIP { 80 } else { 8080 };
        (service != INTERFACE && port == dialled && proto == PROTO_TCP).then_some(Port { service_port: 80, target_port: 8080 })
    }
    fn grant(&self, source: u32, destination: u32, port: u16, proto: u8) -> Option<Grant> {
        let granted = matches!((source, destination, port, proto), (US, SERVER, 80, PROTO_TCP) | (CALLER, US, 80, PROTO_TCP) | (US, INTERFACE, 443, PROTO_TCP));
        let echo = proto == PROTO_ICMP && port == 0 && matches!((source, destination), (US, SERVER) | (CALLER, US) | (US, INTERFACE));
        (granted || echo).then_some(Grant { rule: 5, flags: 0 })
    }
}

impl Node for Paper {
    fn local(&self, addr: &Addr) -> Option<LocalAddr> {
        let service = match last(addr) {
            1 => US,
            2 => SERVER,
            3 => CALLER,
            4 => STRANGER,
            _ => return None,
        };
        Some(LocalAddr { netns: u64::from(service), service, flags: 0 })
    }
    fn resolver(&self, addr: &Addr, port: u16) -> bool {
        last(addr) == 53 && port == 53
    }
    fn flows(&self, _: &Frame, home: u64) -> bool {
        self.flows && home == u64::from(US)
    }
    fn connected(&self, _: &Frame) -> bool {
        self.connected
    }
    fn answers(&self, f: &Frame) -> bool {
        self.connected || f.greeting != 0
    }
}

impl Bytes for &[u8] {
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..at + N)?.try_into().ok()
    }
    fn size(&self) -> usize {
        self.len()
    }
}

fn device() -> Device {
    Device { netns: u64::from(US), mac: MAC, link_local: link_local(), ..Device::default() }
}

fn verdict(frame: &[u8]) -> u8 {
    verdict_on(&Paper::default(), frame)
}

fn verdict_on(node: &Paper, frame: &[u8]) -> u8 {
    // The table alone knows the IPv6 address: both ways of knowing an own address are taken.
    let home = Netns { identity: US, own_v4: ip(1), ..Netns::default() };
    judge_frame(node, &device(), &home, &parse(&frame)).reason as u8
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, body: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), body].concat()
}

fn packet(from: Addr, to: Addr, proto: u8, body: &[u8]) -> Vec<u8> {
    let (f, t) = (from.octets(), to.octets());
    let length = body.len() as u16;
    if to.is_v4() {
        let l = (length + 20).to_be_bytes();
        let head = [0x45, 0, l[0], l[1], 0, 0, 0x40, 0, 64, proto, 0, 0];
        return ethernet(PEER_MAC, MAC, ETH_P_IP, &[&head[..], &f[12..], &t[12..], body].concat());
    }
    let l = length.to_be_bytes();
    let head = [0x60, 0, 0, 0, l[0], l[1], proto, 255];
    ethernet(PEER_MAC, MAC, ETH_P_IPV6, &[&head[..], &f, &t, body].concat())
}

fn ports(source: u16, to: u16) -> Vec<u8> {
    [source.to_be_bytes(), to.to_be_bytes()].concat()
}

fn segment(source: u16, to: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    [&ports(source, to)[..], &[0; 8], &[0x50, flags, 0, 0, 0, 0, 0, 0], payload].concat()
}

fn tcp(to: Addr, source: u16, port: u16, flags: u8) -> Vec<u8> {
    packet(if to.is_v4() { ip(1) } else { ip6(1) }, to, PROTO_TCP, &segment(source, port, flags, b"x"))
}

#[test]
fn tcp_goes_where_a_grant_leads_and_only_the_way_it_leads() {
    for ip in [ip, ip6] {
        let check = |frame: Vec<u8>, reason| assert_eq!(verdict(&frame), reason, "{frame:?}");
        check(tcp(ip(2), 40_000, 8080, SYN), REASON_GRANT);
        check(tcp(ip(2), 40_000, 8080, ACK), REASON_GRANT);
        check(tcp(ip(99), 40_000, 443, SYN), REASON_GRANT);
        check(tcp(ip(53), 40_000, 53, SYN), REASON_RESOLVER);
        check(tcp(ip(2), 40_000, 9, SYN), REASON_UNKNOWN_PORT);
        check(tcp(ip(4), 40_000, 8080, SYN), REASON_NO_GRANT);
        check(tcp(ip(99), 40_000, 444, SYN), REASON_NO_GRANT);
        check(tcp(ip(77), 40_000, 8080, SYN), REASON_UNKNOWN_DESTINATION);
        // Granted, but not bare over the wire, and no virtual address ever leaves.
        check(tcp(ip(12), 40_000, 8080, SYN), REASON_BYPASS);
        check(tcp(ip(20), 40_000, 80, SYN), REASON_BYPASS);
    }
}

#[test]
fn of_extension_headers_only_the_stacks_own_jumbo_option_is_known() {
    let behind = |option: [u8; 8], to: u8| {
        let payload = [&option[..], &segment(40_000, 8080, ACK, b"x")].concat();
        verdict(&packet(ip6(1), ip6(to), IPPROTO_HOPOPTS, &payload))
    };
    let jumbo = [PROTO_TCP, 0, 0xc2, 4, 0, 1, 0, 0];
    assert_eq!(behind(jumbo, 2), REASON_GRANT);
    assert_eq!(behind(jumbo, 4), REASON_NO_GRANT);
    assert_eq!(behind([PROTO_TCP, 0, 5, 2, 0, 0, 0, 0], 2), REASON_PROTOCOL);
    assert_eq!(behind([PROTO_UDP, 0, 0xc2, 4, 0, 1, 0, 0], 2), REASON_PROTOCOL);
}

#[test]
fn answers_go_to_who_may_ask() {
    let check = |frame: Vec<u8>, reason| assert_eq!(verdict(&frame), reason, "{frame:?}");
    check(tcp(ip(3), 8080, 40_000, SYN | ACK), REASON_GRANT);
    check(tcp(ip(3), 8080, 40_000, ACK), REASON_GRANT);
    check(tcp(ip(3), 8080, 40_000, SYN), REASON_UNKNOWN_PORT);
    check(tcp(ip(3), 8081, 40_000, ACK), REASON_UNKNOWN_PORT);
    check(tcp(ip(4), 8080, 40_000, ACK), REASON_UNKNOWN_PORT);
    check(tcp(ip(77), 8080, 40_000, ACK), REASON_UNKNOWN_DESTINATION);
}

#[test]
fn tunnels_begin_at_known_endpoints_and_go_on_while_there_is_a_socket() {
    let (idle, busy) = (Paper::default(), Paper { connected: true, ..Paper::default() });
    for (frame, alone, with_socket) in [
        (tcp(ip(12), 40_000, TUNNEL_PORT, SYN), REASON_GRANT, REASON_GRANT),
        // An address of several services is no known endpoint, yet the agent dials it.
        (tcp(ip(77), 40_000, TUNNEL_PORT, SYN), REASON_TUNNEL_PORT, REASON_GRANT),
        (tcp(ip(77), 40_000, TUNNEL_PORT, ACK), REASON_TUNNEL_PORT, REASON_GRANT),
        (tcp(ip(77), TUNNEL_PORT, 40_000, ACK), REASON_UNKNOWN_DESTINATION, REASON_GRANT),
        (tcp(ip(77), TUNNEL_PORT, 40_000, SYN), REASON_UNKNOWN_DESTINATION, REASON_UNKNOWN_DESTINATION),
        (tcp(ip(77), 8081, 40_000, ACK), REASON_UNKNOWN_DESTINATION, REASON_UNKNOWN_DESTINATION),
    ] {
        assert_eq!((verdict_on(&idle, &frame), verdict_on(&busy, &frame)), (alone, with_socket), "{frame:?}");
    }
}

#[test]
fn from_a_public_port_goes_what_answers_and_nothing_else() {
    let (idle, busy) = (Paper::default(), Paper { connected: true, ..Paper::default() });
    // Frame, verdict without a socket that has these ends, and with one.
    for (frame, alone, with_socket) in [
        (tcp(ip(77), 443, 40_000, SYN | ACK), REASON_UNKNOWN_DESTINATION, REASON_PUBLIC),
        (tcp(ip(77), 443, 40_000, ACK), REASON_UNKNOWN_DESTINATION, REASON_PUBLIC),
        (tcp(ip6(77), 443, 40_000, FIN | ACK), REASON_UNKNOWN_DESTINATION, REASON_PUBLIC),
        // A workload of the mesh may be at the other end, too.
        (tcp(ip(4), 443, 40_000, ACK), REASON_UNKNOWN_PORT, REASON_PUBLIC),
        // It answers, and never begins.
        (tcp(ip(77), 443, 40_000, SYN), REASON_UNKNOWN_DESTINATION, REASON_UNKNOWN_DESTINATION),
        (tcp(ip(77), 444, 40_000, ACK), REASON_UNKNOWN_DESTINATION, REASON_UNKNOWN_DESTINATION),
        (tcp(ip(77), 40_000, 443, ACK), REASON_UNKNOWN_DESTINATION, REASON_UNKNOWN_DESTINATION),
        (packet(ip(1), ip(77), PROTO_UDP, &[&ports(443, 40_000)[..], &[0; 8]].concat()), REASON_PROTOCOL, REASON_PROTOCOL),
        (packet(ip(2), ip(77), PROTO_TCP, &segment(443, 40_000, ACK, b"")), REASON_SPOOFED, REASON_SPOOFED),
    ] {
        assert_eq!((verdict_on(&idle, &frame), verdict_on(&busy, &frame)), (alone, with_socket), "{frame:?}");
    }
}

#[test]
fn a_greeting_is_the_second_segment_of_a_handshake_and_nothing_else() {
    let of = |words: u8, flags: u8, options: &[u8], payload: &[u8]| {
        let numbers = [1, 2, 3, 4, 5, 6, 7, 8, words << 4, flags, 0, 0, 0, 0, 0, 0];
        [&ports(443, 40_000)[..], &numbers, options, payload].concat()
    };
    let mss = [2, 4, 5, 180];
    for ip in [ip, ip6] {
        let seen = |segment: &[u8]| {
            let frame = packet(ip(1), ip(77), PROTO_TCP, segment);
            (&frame[..]).load::<8>(usize::from(parse(&&frame[..]).greeting))
        };
        let none = packet(ip(1), ip(77), PROTO_TCP, b"")[..8].try_into().ok();
        assert_eq!(seen(&of(6, SYN | ACK, &mss, b"")), Some([1, 2, 3, 4, 5, 6, 7, 8]));
        for (words, flags, options, payload) in [
            (6, SYN | ACK, &mss[..], &b"x"[..]),
            (5, SYN | ACK, &mss, b""),
            (7, SYN | ACK, &mss, b""),
            (6, SYN, &mss, b""),
            (6, ACK, &mss, b""),
            (6, SYN | ACK | FIN, &mss, b""),
        ] {
            assert_eq!(seen(&of(words, flags, options, payload)), none, "{words} {flags}");
        }
        // With what stands behind the packet's own end it would carry something.
        let mut padded = packet(ip(1), ip(77), PROTO_TCP, &of(6, SYN | ACK, &mss, b""));
        padded.extend([0; 40]);
        assert_eq!(parse(&&padded[..]).greeting, 0);
        // It goes where the listener's cookie goes.
        assert_eq!(verdict(&packet(ip(1), ip(77), PROTO_TCP, &of(6, SYN | ACK, &mss, b""))), REASON_PUBLIC);
    }
}

#[test]
fn only_a_bare_reset_goes_anywhere() {
    for ip in [ip, ip6] {
        let reset = |flags, payload: &[u8]| verdict(&packet(ip(1), ip(77), PROTO_TCP, &segment(9, 40_000, flags, payload)));
        assert_eq!(reset(RST, b""), REASON_LOCAL);
        assert_eq!(reset(RST | ACK, b""), REASON_LOCAL);
        for (flags, payload) in [(RST, &b"x"[..]), (RST | SYN, b""), (RST | FIN, b""), (ACK, b""), (FIN, b"")] {
            assert_eq!(reset(flags, payload), REASON_UNKNOWN_DESTINATION, "{flags}");
        }
    }
    // Bytes behind the packet's own end are a payload too.
    let mut padded = packet(ip6(1), ip6(77), PROTO_TCP, &segment(9, 40_000, RST, b""));
    padded.push(0);
    assert_eq!(verdict(&padded), REASON_UNKNOWN_DESTINATION);
}

#[test]
fn who_sends_is_what_the_device_says() {
    let body = segment(40_000, 8080, SYN, b"");
    assert_eq!(verdict(&packet(ip(1), ip(2), PROTO_TCP, &body)), REASON_GRANT);
    for from in [ip(3), ip(200), ip(53)] {
        assert_eq!(verdict(&packet(from, ip(2), PROTO_TCP, &body)), REASON_SPOOFED, "{from:?}");
    }
    assert_eq!(verdict(&packet(ip6(3), ip6(2), PROTO_TCP, &body)), REASON_SPOOFED);
    assert_eq!(verdict(&packet(link_local(), ip6(2), PROTO_TCP, &body)), REASON_SPOOFED);
    // No second IPv6 address is known as "none", which `::` is.
    assert_eq!(verdict(&packet(Addr::UNSPECIFIED, ip6(2), PROTO_TCP, &body)), REASON_SPOOFED);
    let mut other_mac = packet(ip(1), ip(2), PROTO_TCP, &body);
    other_mac[11] = 7;
    assert_eq!(verdict(&other_mac), REASON_SPOOFED);
    // The IPv4 address in an IPv6 header is not the workload's.
    assert_eq!(verdict(&mapped(ip(1), ip6(2), &body)), REASON_PROTOCOL);
    assert_eq!(verdict(&mapped(ip6(1), ip(2), &body)), REASON_PROTOCOL);
}

fn mapped(from: Addr, to: Addr, body: &[u8]) -> Vec<u8> {
    let l = (body.len() as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, l[0], l[1], PROTO_TCP, 64];
    ethernet(PEER_MAC, MAC, ETH_P_IPV6, &[&head[..], &from.octets(), &to.octets(), body].concat())
}

#[test]
fn datagrams_go_to_resolvers_and_with_their_flow() {
    let udp = |to, port| verdict(&packet(ip(1), to, PROTO_UDP, &[&ports(40_000, port)[..], &[0; 4]].concat()));
    assert_eq!(udp(ip(53), 53), REASON_RESOLVER);
    for (to, port) in [(ip(53), 54), (ip(2), 8080), (ip(2), 53), (ip(77), 53)] {
        assert_eq!(udp(to, port), REASON_PROTOCOL, "{to:?}:{port}");
    }
    let flows = Paper { flows: true, ..Paper::default() };
    let flowing = |from| verdict_on(&flows, &packet(from, ip(2), PROTO_UDP, &[&ports(40_000, 8080)[..], &[0; 4]].concat()));
    assert_eq!((flowing(ip(1)), flowing(ip(3))), (REASON_GRANT, REASON_SPOOFED));
}

#[test]
fn echo_follows_grants_and_errors_speak_of_what_arrived() {
    let icmp = |to, kind, code| verdict(&packet(ip(1), to, PROTO_ICMP, &[kind, code, 0, 0, 0, 0, 0, 0]));
    assert_eq!(icmp(ip(2), 8, 0), REASON_GRANT);
    assert_eq!(icmp(ip(99), 8, 0), REASON_GRANT);
    assert_eq!(icmp(ip(3), 0, 0), REASON_GRANT);
    assert_eq!(icmp(ip(3), 8, 0), REASON_NO_GRANT);
    assert_eq!(icmp(ip(2), 0, 0), REASON_NO_GRANT);
    assert_eq!(icmp(ip(4), 8, 0), REASON_NO_GRANT);
    assert_eq!(icmp(ip(20), 8, 0), REASON_BYPASS);
    assert_eq!(icmp(ip(77), 8, 0), REASON_UNKNOWN_DESTINATION);
    for kind in [4, 5, 9, 10, 13, 15, 17, 42] {
        assert_eq!(icmp(ip(2), kind, 0), REASON_PROTOCOL, "type {kind}");
    }
    let icmp6 = |to, kind| verdict(&packet(ip6(1), to, PROTO_ICMPV6, &[kind, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!((icmp6(ip6(2), 128), icmp6(ip6(4), 128), icmp6(ip6(3), 129)), (REASON_GRANT, REASON_NO_GRANT, REASON_GRANT));
    for kind in [130, 131, 134, 137, 143, 200] {
        assert_eq!(icmp6(ip6(2), kind), REASON_PROTOCOL, "type {kind}");
    }
    for (ip, proto, kind) in [(ip as fn(u8) -> Addr, PROTO_ICMP, 3), (ip6, PROTO_ICMPV6, 2)] {
        let error = |to, from, reached| {
            let quoted = packet(from, reached, PROTO_TCP, &segment(1, 2, SYN, b""));
            verdict(&packet(ip(1), to, proto, &[&[kind, 4, 0, 0, 0, 0, 0, 0], &quoted[14..]].concat()))
        };
        assert_eq!(error(ip(2), ip(2), ip(1)), REASON_GRANT);
        assert_eq!(error(ip(3), ip(3), ip(1)), REASON_GRANT);
        assert_eq!(error(ip(4), ip(4), ip(1)), REASON_NO_GRANT);
        assert_eq!(error(ip(2), ip(3), ip(1)), REASON_PROTOCOL);
        assert_eq!(error(ip(2), ip(2), ip(4)), REASON_PROTOCOL);
    }
}

fn arp(told: [u8; 6], sender: u8, more: usize) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let body = [&head[..], &told, &[10, 0, 0, sender], &[0; 6], &[10, 0, 0, 2], &vec![0; more]].concat();
    ethernet([0xff; 6], MAC, ETH_P_ARP, &body)
}

#[test]
fn arp_speaks_of_the_own_address_only() {
    assert_eq!(verdict(&arp(MAC, 1, 0)), REASON_LOCAL);
    assert_eq!(verdict(&arp(MAC, 1, 18)), REASON_LOCAL);
    assert_eq!(verdict(&arp(MAC, 1, 19)), REASON_PROTOCOL);
    assert_eq!(verdict(&arp(MAC, 3, 0)), REASON_SPOOFED);
    assert_eq!(verdict(&arp(PEER_MAC, 1, 0)), REASON_PROTOCOL);
    assert_eq!(verdict(&arp(MAC, 1, 0)[..41]), REASON_PROTOCOL);
}

fn neighbour_message(from: Addr, kind: u8, target: Option<Addr>, option: &[u8]) -> Vec<u8> {
    let mut o = [0; 16];
    (o[0], o[1], o[15]) = (0xff, 2, 1);
    let target = target.map(|t| t.octets().to_vec()).unwrap_or_default();
    let mut frame = packet(from, Addr::from_octets(o), PROTO_ICMPV6, &[&[kind, 0, 0, 0, 0, 0, 0, 0], &target[..], option].concat());
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame
}

#[test]
fn neighbours_are_told_of_the_own_addresses_only() {
    let own = [&[1, 1][..], &MAC].concat();
    let theirs = [&[2, 1][..], &PEER_MAC].concat();
    let check = |frame: Vec<u8>, reason| assert_eq!(verdict(&frame), reason, "{frame:?}");
    for from in [ip6(1), link_local()] {
        check(neighbour_message(from, 135, Some(ip6(77)), &own), REASON_LOCAL);
        check(neighbour_message(from, 136, Some(ip6(1)), &own), REASON_LOCAL);
        check(neighbour_message(from, 136, Some(link_local()), &[]), REASON_LOCAL);
        check(neighbour_message(from, 133, None, &own), REASON_LOCAL);
    }
    check(neighbour_message(ip6(1), 136, Some(ip6(3)), &own), REASON_SPOOFED);
    check(neighbour_message(Addr::UNSPECIFIED, 135, Some(ip6(1)), &[]), REASON_SPOOFED);
    check(neighbour_message(ip6(3), 135, Some(ip6(77)), &own), REASON_SPOOFED);
    check(neighbour_message(ip6(1), 136, Some(ip6(1)), &theirs), REASON_PROTOCOL);
    check(neighbour_message(ip6(1), 135, Some(ip6(77)), &[0; 16]), REASON_PROTOCOL);
    check(neighbour_message(ip6(1), 134, None, &own), REASON_PROTOCOL);
    let mut routed = neighbour_message(ip6(1), 136, Some(ip6(1)), &own);
    routed[21] = 254;
    check(routed, REASON_PROTOCOL);
}

#[test]
fn what_cannot_be_judged_whole_does_not_leave() {
    let good = packet(ip(1), ip(2), PROTO_TCP, &segment(40_000, 8080, SYN, b""));
    assert_eq!(verdict(&good), REASON_GRANT);
    for end in 0..good.len() {
        assert_eq!(verdict(&good[..end]), REASON_PROTOCOL, "{end} bytes");
    }
    let with = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        verdict(&frame)
    };
    // Header with options, first fragment, later fragment, other protocols, a short TCP header, other EtherTypes.
    for (at, byte) in [(14, 0x46), (14, 0x65), (20, 0x20), (21, 1), (23, 132), (23, 33), (23, 2), (23, 47), (23, 4), (46, 0x40), (12, 0x88), (12, 0x81)] {
        assert_eq!(with(at, byte), REASON_PROTOCOL, "{byte:#x} at {at}");
    }
    // Don't-fragment alone is none.
    assert_eq!(with(20, 0), REASON_GRANT);
    let six = packet(ip6(1), ip6(2), PROTO_TCP, &segment(40_000, 8080, SYN, b""));
    for header in [0, 43, 44, 50, 51, 60, 135, 41, 132] {
        let mut frame = six.clone();
        frame[20] = header;
        assert_eq!(verdict(&frame), REASON_PROTOCOL, "next header {header}");
    }
}

#[test]
fn nothing_goes_to_many() {
    let octets = |o: [u8; 4]| Addr::from_v4_be(u32::from_ne_bytes(o));
    let body = segment(40_000, 8080, SYN, b"");
    for to in [[224, 0, 0, 1], [239, 1, 2, 3], [255, 255, 255, 255], [127, 0, 0, 1], [0, 0, 0, 0]] {
        assert_eq!(verdict(&packet(ip(1), octets(to), PROTO_TCP, &body)), REASON_PROTOCOL, "{to:?}");
    }
    assert_eq!(verdict(&packet(ip(1), octets([169, 254, 169, 254]), PROTO_TCP, &body)), REASON_UNKNOWN_DESTINATION);
    let mut shouted = packet(ip(1), ip(2), PROTO_TCP, &body);
    shouted[0] |= 1;
    assert_eq!(verdict(&shouted), REASON_PROTOCOL);
    let mut o = [0; 16];
    (o[0], o[1], o[15]) = (0xff, 2, 0xfb);
    assert_eq!(verdict(&packet(ip6(1), Addr::from_octets(o), PROTO_UDP, &[0; 8])), REASON_PROTOCOL);
}
