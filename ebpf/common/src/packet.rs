//! Frames that leave a workload through its veth, and the verdict on each: for what no socket hook sees. Pure, like `judge`.
//!
//! Nothing is remembered from one frame to the next, and nothing is guessed: a frame that cannot be judged whole (fragments, options,
//! extension headers, tags, too short) is refused. Who sends is what the device says, never what the frame says.

use crate::{
    abi::*,
    addr::Addr,
    judge::{Judgement, Tables, is_public, judge},
};

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;
const ARP_BYTES: usize = 28;
/// The shortest Ethernet frame: what is shorter may be padded up to it.
const FRAME_MIN_BYTES: usize = 60;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const IPPROTO_HOPOPTS: u8 = 0;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A frame, however it is stored.
pub trait Bytes {
    /// `None` beyond its end.
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]>;
    fn size(&self) -> usize;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing that is ever let through.
    #[default]
    Foreign,
    Arp,
    /// Router and neighbour solicitation, neighbour advertisement.
    Neighbour,
    /// The first segment of a connection.
    TcpOpen,
    Tcp,
    /// A bare reset: how a kernel refuses.
    TcpReset,
    Udp,
    EchoRequest,
    EchoReply,
    /// An error about a packet that this workload received.
    IcmpError,
}

/// What of a frame is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub proto: u8,
    pub source_mac: [u8; 6],
    pub source_port: u16,
    pub port: u16,
    pub source: Addr,
    pub to: Addr,
    /// The address that a neighbour advertisement claims, or that an error says it was reached at; else unspecified.
    pub claimed: Addr,
    /// Where the second segment of a handshake has its two numbers, if the frame is nothing but that; else 0.
    pub greeting: u16,
}

/// The generation's tables, and what the agent observed on this node.
pub trait Node: Tables {
    fn local(&self, addr: &Addr) -> Option<LocalAddr>;
    fn resolver(&self, addr: &Addr, port: u16) -> bool;
    /// It is a datagram of a flow that its socket's verdict began, or that this workload answers.
    fn flows(&self, frame: &Frame, home: u64) -> bool;
    /// A TCP socket in the workload's namespace that does not just listen has this frame's ends.
    fn connected(&self, frame: &Frame) -> bool;
    /// The same; or a listener of that namespace answers a SYN with a cookie (RFC 4987, 3.6), which is how it goes on when too many are under way to keep each in mind.
    fn answers(&self, frame: &Frame) -> bool;
}

/// May this frame leave through `device`, which belongs to the namespace `home`?
#[inline(always)]
pub fn judge_frame<N: Node>(node: &N, device: &Device, home: &Netns, f: &Frame) -> Judgement {
    let identity = home.identity;
    if f.kind == Kind::Foreign {
        return because(REASON_PROTOCOL, f);
    }
    if f.source.is_unspecified() {
        return because(REASON_SPOOFED, f);
    }
    // The first of each family is at hand; further ones are in the table.
    let own = |addr: &Addr| *addr == home.own_v4 || *addr == home.own_v6 || matches!(node.local(addr), Some(l) if l.netns == device.netns);
    let on_link = |addr: &Addr| own(addr) || *addr == device.link_local;
    if f.source_mac != device.mac {
        return because(REASON_SPOOFED, f);
    }
    if matches!(f.kind, Kind::Arp | Kind::Neighbour) {
        let honest = on_link(&f.source) && (f.claimed.is_unspecified() || on_link(&f.claimed));
        return because(if honest { REASON_LOCAL } else { REASON_SPOOFED }, f);
    }
    if !own(&f.source) {
        return because(REASON_SPOOFED, f);
    }
    if f.to.is_multicast() || f.to.is_loopback() || f.to.is_unspecified() {
        return because(REASON_PROTOCOL, f);
    }
    match f.kind {
        Kind::TcpOpen | Kind::Tcp | Kind::TcpReset => judge_tcp(node, identity, f),
        Kind::Udp if node.resolver(&f.to, f.port) => because(REASON_RESOLVER, f),
        Kind::Udp if node.flows(f, device.netns) => because(REASON_GRANT, f),
        Kind::EchoRequest => because(asks(node, identity, &f.to, true, false), f),
        Kind::EchoReply => because(asks(node, identity, &f.to, false, true), f),
        Kind::IcmpError if own(&f.claimed) => because(asks(node, identity, &f.to, true, true), f),
        _ => because(REASON_PROTOCOL, f),
    }
}

#[inline(always)]
fn judge_tcp<N: Node>(node: &N, identity: u32, f: &Frame) -> Judgement {
    if f.kind == Kind::TcpReset {
        return because(REASON_LOCAL, f);
    }
    if f.port == TUNNEL_PORT || f.source_port == TUNNEL_PORT {
        // What goes on is the proxies' business, which follow the policy; what begins goes to a workload of the mesh.
        let known = f.port == TUNNEL_PORT && matches!(node.destination(&f.to), Some(d) if d.kind == DEST_ENDPOINT);
        // An address of several services is no endpoint's alone; nobody but the agent has a socket that dials this port.
        if known || ((f.kind == Kind::Tcp || f.port == TUNNEL_PORT) && node.connected(f)) {
            return because(REASON_GRANT, f);
        }
    }
    // To whoever came in: what the namespace's own sockets answer, never just any frame with that source port.
    if f.kind == Kind::Tcp && is_public(node, identity, f.source_port) && node.answers(f) {
        return because(REASON_PUBLIC, f);
    }
    let here = node.local(&f.to);
    // Where several identities share an address it does not say whose the frame is; that the connection was judged at its socket does.
    if identity == 0 || matches!(&here, Some(l) if l.flags & u32::from(NETNS_SHARED) != 0) {
        return because(if node.connected(f) { REASON_GRANT } else { REASON_NO_GRANT }, f);
    }
    if let Some(client) = &here
        && f.kind == Kind::Tcp
        && is_answer(node, identity, client.service, f)
    {
        return because(REASON_GRANT, f);
    }
    let mut j = judge(node, identity, &f.to, f.port, PROTO_TCP);
    if j.allows() {
        // On this node only, and where observation and snapshot agree: everything else goes by tunnel, not by itself.
        let here = j.kind == DEST_ENDPOINT && matches!(here, Some(l) if l.service == j.service);
        if here || j.kind == DEST_EXTERNAL {
            return j;
        }
        j.reason = REASON_BYPASS as u32;
    }
    if node.resolver(&f.to, f.port) {
        return because(REASON_RESOLVER, f);
    }
    j
}

/// From a declared port of this workload to a workload of this node that may dial it.
#[inline(always)]
fn is_answer<N: Node>(node: &N, identity: u32, client: u32, f: &Frame) -> bool {
    let Some(port) = node.port(identity, DEST_ENDPOINT, f.source_port, PROTO_TCP) else { return false };
    client == identity || matches!(node.grant(client, identity, port.service_port, PROTO_TCP), Some(g) if g.flags & GRANT_NEEDS_L7 == 0)
}

/// Whether a grant of any port joins the two, there or back.
#[inline(always)]
pub fn asks<T: Tables>(node: &T, identity: u32, to: &Addr, there: bool, back: bool) -> u8 {
    let service = match node.destination(to) {
        Some(d) if d.kind == DEST_ENDPOINT => d.service,
        Some(_) => return REASON_BYPASS,
        None => match node.external(to) {
            Some(e) => e.service,
            None => return REASON_UNKNOWN_DESTINATION,
        },
    };
    let granted = service == identity
        || (there && node.grant(identity, service, 0, PROTO_ICMP).is_some())
        || (back && node.grant(service, identity, 0, PROTO_ICMP).is_some());
    if granted { REASON_GRANT } else { REASON_NO_GRANT }
}

#[inline(always)]
fn because(reason: u8, f: &Frame) -> Judgement {
    Judgement { reason: reason as u32, service_port: f.port, target_port: f.port, ..Judgement::default() }
}

/// Reads what is judged; whatever it does not know in full is [`Kind::Foreign`].
#[inline(always)]
pub fn parse<B: Bytes>(b: &B) -> Frame {
    let mut f = Frame::default();
    let Some(e) = b.load::<ETHERNET_BYTES>(0) else { return f };
    f.source_mac = [e[6], e[7], e[8], e[9], e[10], e[11]];
    match u16::from_be_bytes([e[12], e[13]]) {
        ETH_P_ARP => arp(b, &mut f),
        ETH_P_IP => ipv4(b, &mut f),
        ETH_P_IPV6 => ipv6(b, &mut f),
        _ => {}
    }
    let to_many = e[0] & 1 != 0;
    if to_many && !matches!(f.kind, Kind::Arp | Kind::Neighbour) {
        f.kind = Kind::Foreign;
    }
    f
}

#[inline(always)]
fn arp<B: Bytes>(b: &B, f: &mut Frame) {
    let Some(a) = b.load::<ARP_BYTES>(ETHERNET_BYTES) else { return };
    let plain = a[0] == 0 && a[1] == 1 && a[2] == 8 && a[3] == 0 && a[4] == 6 && a[5] == 4 && a[6] == 0 && (a[7] == 1 || a[7] == 2);
    let told = [a[8], a[9], a[10], a[11], a[12], a[13]];
    f.source = v4(&a, 14);
    f.to = v4(&a, 24);
    if plain && told == f.source_mac && b.size() <= FRAME_MIN_BYTES {
        f.kind = Kind::Arp;
    }
}

#[inline(always)]
fn ipv4<B: Bytes>(b: &B, f: &mut Frame) {
    let Some(h) = b.load::<IPV4_BYTES>(ETHERNET_BYTES) else { return };
    f.proto = h[9];
    f.source = v4(&h, 12);
    f.to = v4(&h, 16);
    let fragment = u16::from_be_bytes([h[6], h[7]]) & 0x3fff != 0;
    // A source route in the options would lead elsewhere than the header says.
    if h[0] != 0x45 || fragment || (f.to.words[3] == u32::MAX) {
        return;
    }
    let length = usize::from(u16::from_be_bytes([h[2], h[3]]));
    let at = ETHERNET_BYTES + IPV4_BYTES;
    match f.proto {
        PROTO_TCP => tcp(b, f, at, length.wrapping_sub(IPV4_BYTES), b.size() <= FRAME_MIN_BYTES),
        PROTO_UDP => udp(b, f, at),
        PROTO_ICMP => icmp4(b, f, at),
        _ => {}
    }
}

#[inline(always)]
fn ipv6<B: Bytes>(b: &B, f: &mut Frame) {
    let Some(h) = b.load::<IPV6_BYTES>(ETHERNET_BYTES) else { return };
    f.proto = h[6];
    f.source = v6(&h, 8);
    f.to = v6(&h, 24);
    // A mapped address on the wire would be taken for the IPv4 one.
    if h[0] >> 4 != 6 || f.source.is_v4() || f.to.is_v4() {
        return;
    }
    let length = usize::from(u16::from_be_bytes([h[4], h[5]]));
    let mut at = ETHERNET_BYTES + IPV6_BYTES;
    // Extension headers are protocols of their own here, and so refused, but for one that the stack itself puts in front of TCP's header when it
    // hands a device more than 65,535 bytes at once (RFC 2675).
    if let (IPPROTO_HOPOPTS, Some([PROTO_TCP, 0, 0xc2, 4, ..])) = (f.proto, b.load::<8>(at)) {
        f.proto = PROTO_TCP;
        at += 8;
    }
    match f.proto {
        PROTO_TCP => tcp(b, f, at, length, b.size() == at + TCP_BYTES),
        PROTO_UDP => udp(b, f, at),
        PROTO_ICMPV6 => icmp6(b, f, at, if h[7] == 255 && b.size() == at + length { length } else { 0 }),
        _ => {}
    }
}

/// `length` is what the packet has behind its own header; `short`: the frame ends with it, as far as frames do.
#[inline(always)]
fn tcp<B: Bytes>(b: &B, f: &mut Frame, at: usize, length: usize, short: bool) {
    let Some(t) = b.load::<TCP_BYTES>(at) else { return };
    f.source_port = u16::from_be_bytes([t[0], t[1]]);
    f.port = u16::from_be_bytes([t[2], t[3]]);
    let (words, flags) = (t[12] >> 4, t[13] & (FIN | SYN | RST | ACK));
    if words < 5 {
        return;
    }
    let bare = length == usize::from(words) * 4;
    if bare && flags == SYN | ACK && b.size() == at + length {
        f.greeting = at as u16 + 4;
    }
    f.kind = match flags {
        RST | 0x14 if bare && short && words == 5 => Kind::TcpReset,
        _ if flags & SYN != 0 && flags & ACK == 0 => Kind::TcpOpen,
        _ => Kind::Tcp,
    };
}

#[inline(always)]
fn udp<B: Bytes>(b: &B, f: &mut Frame, at: usize) {
    let Some(u) = b.load::<8>(at) else { return };
    f.source_port = u16::from_be_bytes([u[0], u[1]]);
    f.port = u16::from_be_bytes([u[2], u[3]]);
    f.kind = Kind::Udp;
}

#[inline(always)]
fn icmp4<B: Bytes>(b: &B, f: &mut Frame, at: usize) {
    let Some(i) = b.load::<8>(at) else { return };
    match (i[0], i[1]) {
        (8, 0) => f.kind = Kind::EchoRequest,
        (0, 0) => f.kind = Kind::EchoReply,
        (3 | 11 | 12, _) => {
            let Some(q) = b.load::<IPV4_BYTES>(at + 8) else { return };
            if q[0] >> 4 == 4 && v4(&q, 12) == f.to {
                f.claimed = v4(&q, 16);
                f.kind = Kind::IcmpError;
            }
        }
        _ => {}
    }
}

/// `link` is the message's length if it cannot have come through a router, else 0 (RFC 4861, 6.1.1 and 7.1).
#[inline(always)]
fn icmp6<B: Bytes>(b: &B, f: &mut Frame, at: usize, link: usize) {
    let Some(i) = b.load::<8>(at) else { return };
    match (i[0], i[1]) {
        (128, 0) => f.kind = Kind::EchoRequest,
        (129, 0) => f.kind = Kind::EchoReply,
        (1..=4, _) => {
            let Some(q) = b.load::<IPV6_BYTES>(at + 8) else { return };
            if q[0] >> 4 == 6 && v6(&q, 8) == f.to {
                f.claimed = v6(&q, 24);
                f.kind = Kind::IcmpError;
            }
        }
        (133, 0) => neighbour(b, f, at + 8, link, 8),
        (135, 0) => neighbour(b, f, at + 24, link, 24),
        (136, 0) => {
            if let Some(target) = b.load::<16>(at + 8) {
                f.claimed = v6(&target, 0);
                neighbour(b, f, at + 24, link, 24);
            }
        }
        _ => {}
    }
}

/// Nothing after the message but one option, the sender's true link-layer address.
#[inline(always)]
fn neighbour<B: Bytes>(b: &B, f: &mut Frame, option: usize, link: usize, bare: usize) {
    if f.to.is_multicast() && !f.to.is_link_multicast() {
        return;
    }
    if link == bare {
        f.kind = Kind::Neighbour;
    } else if link == bare + 8 {
        let Some(o) = b.load::<8>(option) else { return };
        if (o[0] == 1 || o[0] == 2) && o[1] == 1 && [o[2], o[3], o[4], o[5], o[6], o[7]] == f.source_mac {
            f.kind = Kind::Neighbour;
        }
    }
}

#[inline(always)]
fn v4<const N: usize>(b: &[u8; N], at: usize) -> Addr {
    Addr::from_v4_be(u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]))
}

#[inline(always)]
fn v6<const N: usize>(b: &[u8; N], at: usize) -> Addr {
    let mut words = [0; 4];
    let mut i = 0;
    while i < 4 {
        let o = at + i * 4;
        words[i] = u32::from_ne_bytes([b[o], b[o + 1], b[o + 2], b[o + 3]]);
        i += 1;
    }
    Addr::from_v6_be(words)
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
