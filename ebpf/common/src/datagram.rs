//! Datagrams between workloads of one node: which flow one belongs to, and whether that flow stands. Pure, like `judge`.
//!
//! A flow is a record that the caller's own verdict has written, under the namespace it leads to. Each datagram of it, there and back, is judged anew
//! by the grant in force. Addresses and ports only find the record; who sends is what the sender's socket and then its device say, both by namespace.

use crate::{
    abi::*,
    addr::Addr,
    judge::{Judgement, Tables},
    limits::DATAGRAM_IDLE_NS,
    packet::Bytes,
};

const ETHERNET_BYTES: usize = 14;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const IPPROTO_HOPOPTS: u8 = 0;
const IPPROTO_ROUTING: u8 = 43;
const IPPROTO_FRAGMENT: u8 = 44;
const IPPROTO_DSTOPTS: u8 = 60;

/// The two ends that a datagram says it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    pub from: Addr,
    pub to: Addr,
    pub from_port: u16,
    pub to_port: u16,
}

impl Ends {
    /// Where the flow of a question with these ends is kept.
    #[inline(always)]
    pub const fn asked(&self, receiver: u64) -> TupleKey {
        let (remote_port, local_port) = (self.from_port, self.to_port);
        TupleKey { netns: receiver, remote: self.from, local: self.to, remote_port, local_port, proto: PROTO_UDP as u32 }
    }

    /// Where the flow that an answer with these ends belongs to is kept.
    #[inline(always)]
    pub const fn answered(&self, sender: u64) -> TupleKey {
        Self { from: self.to, to: self.from, from_port: self.to_port, to_port: self.from_port }.asked(sender)
    }
}

/// The generation's tables, and the flows.
pub trait Flows: Tables {
    fn flow(&self, key: &TupleKey) -> Option<Attestation>;
    /// Identity that a namespace vouches for, if all that comes and goes there is watched; else 0.
    fn watched(&self, netns: u64) -> u32;
}

/// The flow of a datagram that goes from the namespace `sender` to the namespace `receiver`; `None`: it belongs to none that stands.
#[inline(always)]
pub fn belongs<F: Flows>(flows: &F, sender: u64, receiver: u64, d: &Ends, now_ns: u64) -> Option<TupleKey> {
    let asked = d.asked(receiver);
    if stands(flows, &asked, sender, now_ns) {
        return Some(asked);
    }
    let answered = d.answered(sender);
    if stands(flows, &answered, receiver, now_ns) { Some(answered) } else { None }
}

/// Whether the flow at `key` is the namespace `caller`'s, not idle for too long, and granted by the generation at hand.
#[inline(always)]
fn stands<F: Flows>(flows: &F, key: &TupleKey, caller: u64, now_ns: u64) -> bool {
    let Some(r) = flows.flow(key) else { return false };
    // Another CPU may have written a later time than this one has read.
    if r.netns != caller || now_ns.saturating_sub(r.since_ns) >= DATAGRAM_IDLE_NS {
        return false;
    }
    if r.source == 0 || flows.watched(caller) != r.source || flows.watched(key.netns) != r.destination {
        return false;
    }
    let Some(port) = flows.port(r.destination, DEST_ENDPOINT, key.local_port, PROTO_UDP) else { return false };
    r.source == r.destination || matches!(flows.grant(r.source, r.destination, port.service_port, PROTO_UDP), Some(g) if g.flags & GRANT_NEEDS_L7 == 0)
}

/// A verdict that allows a datagram leads to a workload of this node only, and not to what has no watched way in.
#[inline(always)]
pub fn on_this_node<F: Flows>(flows: &F, caller: u64, there: Option<&LocalAddr>, mut j: Judgement) -> Judgement {
    if j.allows() {
        let reached = j.kind == DEST_ENDPOINT && matches!(there, Some(l) if l.service == j.service && flows.watched(l.netns) == j.service);
        if !reached || flows.watched(caller) == 0 {
            j.reason = REASON_OTHER_NODE as u32;
        }
    }
    j
}

/// A frame on its way into a workload, as far as datagrams are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arriving {
    /// It cannot become a datagram.
    Other,
    Datagram(Ends),
    /// It could become one, and its ends cannot be told.
    Hidden,
}

/// Reads a frame. A later fragment is nothing without its first one, which is judged.
#[inline(always)]
pub fn arriving<B: Bytes>(b: &B) -> Arriving {
    let Some(kind) = b.load::<2>(12) else { return Arriving::Hidden };
    match u16::from_be_bytes(kind) {
        ETH_P_ARP => Arriving::Other,
        ETH_P_IP => arriving4(b),
        ETH_P_IPV6 => arriving6(b),
        _ => Arriving::Hidden,
    }
}

#[inline(always)]
fn arriving4<B: Bytes>(b: &B) -> Arriving {
    let Some(h) = b.load::<20>(ETHERNET_BYTES) else { return Arriving::Hidden };
    let offset = u16::from_be_bytes([h[6], h[7]]) & 0x1fff;
    if h[9] != PROTO_UDP || offset != 0 {
        return Arriving::Other;
    }
    let word = |at: usize| Addr::from_v4_be(u32::from_ne_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]));
    ports(b, ETHERNET_BYTES + usize::from(h[0] & 15) * 4, word(12), word(16))
}

#[inline(always)]
fn arriving6<B: Bytes>(b: &B) -> Arriving {
    let Some(h) = b.load::<40>(ETHERNET_BYTES) else { return Arriving::Hidden };
    let at = ETHERNET_BYTES + 40;
    let address = |at: usize| {
        let word = |i: usize| u32::from_ne_bytes([h[at + i], h[at + i + 1], h[at + i + 2], h[at + i + 3]]);
        Addr::from_v6_be([word(0), word(4), word(8), word(12)])
    };
    let (from, to) = (address(8), address(24));
    match h[6] {
        PROTO_UDP => ports(b, at, from, to),
        IPPROTO_FRAGMENT => match b.load::<8>(at) {
            // Next header, reserved, offset in eights and flags.
            Some(f) if u16::from_be_bytes([f[2], f[3]]) >> 3 != 0 => Arriving::Other,
            Some([PROTO_UDP, ..]) => ports(b, at + 8, from, to),
            _ => Arriving::Hidden,
        },
        // Of options, TCP's jumbo length and the multicast listener's router alert are known.
        IPPROTO_HOPOPTS => match b.load::<1>(at) {
            Some([PROTO_TCP | PROTO_ICMPV6]) => Arriving::Other,
            _ => Arriving::Hidden,
        },
        IPPROTO_ROUTING | IPPROTO_DSTOPTS => Arriving::Hidden,
        _ => Arriving::Other,
    }
}

#[inline(always)]
fn ports<B: Bytes>(b: &B, at: usize, from: Addr, to: Addr) -> Arriving {
    let Some(p) = b.load::<4>(at) else { return Arriving::Hidden };
    Arriving::Datagram(Ends { from, to, from_port: u16::from_be_bytes([p[0], p[1]]), to_port: u16::from_be_bytes([p[2], p[3]]) })
}

#[cfg(test)]
#[path = "datagram_tests.rs"]
mod tests;
