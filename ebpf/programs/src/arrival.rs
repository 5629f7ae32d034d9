//! What comes to an enrolled workload through its veth: a datagram passes if it belongs to a flow between the two namespaces that the devices name, or
//! comes from a resolver. Who sends is the device by which it entered the host; an address is what anybody can write. All else is judged by `sk_lookup`.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};
use weft_ebpf_common::{
    abi::*,
    datagram::{Arriving, Ends, arriving, belongs},
};

use crate::{
    connect::is_resolver,
    emit::{self, Seen},
    maps::{DEVICES, Slot},
    udp::now,
    veth::{Skb, may_tell},
    who,
};

const PASS: i32 = TC_ACT_UNSPEC;
const REFUSE: i32 = TC_ACT_SHOT as i32;

#[classifier]
pub fn weft_arrival(ctx: TcContext) -> i32 {
    let d = match arriving(&Skb(&ctx)) {
        Arriving::Other => return PASS,
        Arriving::Datagram(d) if is_resolver(&d.from, d.from_port) => return PASS,
        Arriving::Datagram(d) => d,
        Arriving::Hidden => Ends::default(),
    };
    // SAFETY: fields of the context.
    let (to, from) = unsafe { ((*ctx.skb.skb).ifindex, (*ctx.skb.skb).ingress_ifindex) };
    let receiver = DEVICES.get_ptr_mut(&to);
    // SAFETY: live entries; the fields read are the agent's, written whole.
    let home = receiver.map_or(0, |r| unsafe { (*r).netns });
    // SAFETY: as above.
    let sender = DEVICES.get_ptr(&from).map_or(0, |s| unsafe { (*s).netns });
    let (slot, revision) = who::generation();
    if home != 0 && sender != 0 && belongs(&Slot(slot), sender, home, &d, now()).is_some() {
        return PASS;
    }
    emit::count(COUNT_DATAGRAM_REFUSED);
    // SAFETY: a live entry.
    if let Some(device) = receiver
        && may_tell(unsafe { &mut *device })
    {
        let seen =
            Seen { flow: emit::flow_id(), netns: home, source: 0, revision, addr: &d.from, port: d.to_port, proto: PROTO_UDP, path: 0, with_task: false };
        emit::denied(&seen, REASON_UNATTESTED);
    }
    REFUSE
}
