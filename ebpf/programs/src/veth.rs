//! The host's end of an enrolled workload's veth: every frame that the workload sends is judged, whoever made it (packet sockets, XDP,
//! namespaces and bridges inside the workload). A device that the agent does not know, or whose workload is withdrawn, sends nothing.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_sock_tuple},
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_sk_release, bpf_skb_load_bytes, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie},
    },
    macros::classifier,
    programs::TcContext,
};
use weft_ebpf_common::{
    abi::*,
    addr::Addr,
    datagram::{Ends, belongs},
    judge::{Judgement, Tables},
    limits::{TOLD_MAX, TOLD_WINDOW_NS},
    packet::{Bytes, Frame, Node, judge_frame, parse},
};

use crate::{
    connect::is_resolver,
    emit::{self, Seen},
    maps::{DEVICES, NETNS, Slot},
    udp::{local, now},
    who,
};

/// Whoever comes after this program may still refuse; nobody may let through what it refused.
const PASS: i32 = TC_ACT_UNSPEC;
const REFUSE: i32 = TC_ACT_SHOT as i32;
const TCP_LISTEN: u32 = 10;

#[classifier]
pub fn weft_veth(ctx: TcContext) -> i32 {
    // SAFETY: fields of the context.
    let (index, tagged) = unsafe { ((*ctx.skb.skb).ifindex, (*ctx.skb.skb).vlan_present != 0) };
    let Some(device) = DEVICES.get_ptr_mut(&index) else {
        emit::count(COUNT_PACKET_REFUSED);
        return REFUSE;
    };
    // SAFETY: a live entry; the fields read are the agent's, written whole.
    let device = unsafe { &mut *device };
    // SAFETY: read within this run.
    let home = unsafe { NETNS.get(&device.netns) };
    let identity = home.map_or(0, |n| n.identity);
    let (slot, revision) = who::generation();
    let frame = if tagged { Frame::default() } else { parse(&Skb(&ctx)) };
    let j = match home {
        Some(home) => judge_frame(&Here { slot: Slot(slot), ctx: &ctx, nsid: device.nsid }, device, home, &frame),
        None => Judgement { reason: u32::from(REASON_UNIDENTIFIED), ..Judgement::default() },
    };
    if j.allows() {
        return PASS;
    }
    emit::count(COUNT_PACKET_REFUSED);
    if may_tell(device) {
        let seen = Seen {
            flow: emit::flow_id(),
            netns: device.netns,
            source: identity,
            revision,
            addr: &frame.to,
            port: frame.port,
            proto: frame.proto,
            path: 0,
            with_task: false,
        };
        emit::flow(&seen, &j);
    } else {
        emit::count(COUNT_PACKET_UNTOLD);
    }
    REFUSE
}

/// A workload that sends nothing but what is refused must not fill the ring. CPUs that race tell a few more.
#[inline(always)]
pub fn may_tell(device: &mut Device) -> bool {
    // SAFETY: helper without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if now - device.told_since_ns > TOLD_WINDOW_NS {
        device.told_since_ns = now;
        device.told = 0;
    }
    device.told += 1;
    device.told <= TOLD_MAX
}

pub struct Skb<'a>(pub &'a TcContext);

impl Bytes for Skb<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.load(at).ok()
    }

    #[inline(always)]
    fn size(&self) -> usize {
        self.0.len() as usize
    }
}

struct Here<'a> {
    slot: Slot,
    ctx: &'a TcContext,
    nsid: u32,
}

impl Tables for Here<'_> {
    #[inline(always)]
    fn destination(&self, addr: &Addr) -> Option<Destination> {
        self.slot.destination(addr)
    }

    #[inline(always)]
    fn external(&self, addr: &Addr) -> Option<External> {
        self.slot.external(addr)
    }

    #[inline(always)]
    fn port(&self, service: u32, kind: u32, port: u16, proto: u8) -> Option<Port> {
        self.slot.port(service, kind, port, proto)
    }

    #[inline(always)]
    fn grant(&self, source: u32, destination: u32, port: u16, proto: u8) -> Option<Grant> {
        self.slot.grant(source, destination, port, proto)
    }
}

impl Node for Here<'_> {
    #[inline(always)]
    fn local(&self, addr: &Addr) -> Option<LocalAddr> {
        local(addr).copied()
    }

    #[inline(always)]
    fn resolver(&self, addr: &Addr, port: u16) -> bool {
        is_resolver(addr, port)
    }

    #[inline(always)]
    fn flows(&self, f: &Frame, home: u64) -> bool {
        let d = Ends { from: f.source, to: f.to, from_port: f.source_port, to_port: f.port };
        local(&f.to).is_some_and(|l| belongs(&self.slot, home, l.netns, &d, now()).is_some())
    }

    #[inline(always)]
    fn connected(&self, f: &Frame) -> bool {
        self.held(f, false)
    }

    #[inline(always)]
    fn answers(&self, f: &Frame) -> bool {
        self.held(f, true)
    }
}

impl Here<'_> {
    /// Whether a socket in the workload's namespace has the frame's ends; with `cookie` also one that only listens, if that greeting has a cookie of it.
    #[inline(always)]
    fn held(&self, f: &Frame, cookie: bool) -> bool {
        if self.nsid == NO_NSID {
            return false;
        }
        // SAFETY: integers only.
        let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
        // The peer is the sender of what this socket receives.
        let size = if f.to.is_v4() {
            tuple.__bindgen_anon_1.ipv4.saddr = f.to.words[3];
            tuple.__bindgen_anon_1.ipv4.daddr = f.source.words[3];
            tuple.__bindgen_anon_1.ipv4.sport = f.port.to_be();
            tuple.__bindgen_anon_1.ipv4.dport = f.source_port.to_be();
            12
        } else {
            tuple.__bindgen_anon_1.ipv6.saddr = f.to.words;
            tuple.__bindgen_anon_1.ipv6.daddr = f.source.words;
            tuple.__bindgen_anon_1.ipv6.sport = f.port.to_be();
            tuple.__bindgen_anon_1.ipv6.dport = f.source_port.to_be();
            36
        };
        // SAFETY: the tuple lives through the call and `size` is that of its family; the socket is released in this run.
        unsafe {
            let sk = bpf_skc_lookup_tcp(self.ctx.as_ptr(), &raw mut tuple, size, u64::from(self.nsid), 0);
            if sk.is_null() {
                return false;
            }
            let state = core::ptr::read_volatile(&raw const (*sk).state);
            let held = state != TCP_LISTEN || (cookie && f.greeting != 0 && made_cookie(self.ctx.as_ptr(), sk.cast(), f));
            bpf_sk_release(sk.cast());
            held
        }
    }
}

/// Whether the listener would take the answer to that greeting for one to a cookie of its own. Nobody else can make one.
///
/// # Safety
/// `ctx` is the program's and `sk` a socket that the verifier knows.
#[inline(always)]
unsafe fn made_cookie(ctx: *mut core::ffi::c_void, sk: *mut core::ffi::c_void, f: &Frame) -> bool {
    let mut numbers = [0_u32; 2];
    // SAFETY: reads as much as there is room for.
    if unsafe { bpf_skb_load_bytes(ctx, u32::from(f.greeting), numbers.as_mut_ptr().cast(), 8) } != 0 {
        return false;
    }
    // In words, as the stack of a program is small: the ports of the answer, both numbers, five words of header and ACK.
    let ports = u32::from(f.source_port.to_be()) << 16 | u32::from(f.port.to_be());
    let mut tcp = [ports, numbers[1], u32::from_be(numbers[0]).wrapping_add(1).to_be(), 0x5010_0000_u32.to_be(), 0];
    let (from, to) = (&f.to.words, &f.source.words);
    let (mut ip, size) = if f.to.is_v4() {
        ([0x4500_0000_u32.to_be(), 0, 0, from[3], to[3], 0, 0, 0, 0, 0], 20)
    } else {
        ([0x6000_0000_u32.to_be(), 0, from[0], from[1], from[2], from[3], to[0], to[1], to[2], to[3]], 40)
    };
    // SAFETY: both headers live through the call and are as long as stated; the socket is the caller's.
    unsafe { bpf_tcp_check_syncookie(sk, ip.as_mut_ptr().cast(), size, tcp.as_mut_ptr().cast(), 20) == 0 }
}
