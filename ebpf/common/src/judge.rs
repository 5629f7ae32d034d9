//! Verdicts as plain functions: no helper call, no context, so the host's tests and the kernel run the same code.
//!
//! What it deliberately does not do: choose a path. Which endpoint a granted connection takes is the program's business.

use crate::{abi::*, addr::Addr};

/// What is known of a caller from three sides. Any one of them makes a socket managed; where they disagree the stricter verdict holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs {
    /// The calling task (or, for a packet, the socket's cgroup) is the agent itself.
    pub exempt: bool,
    /// Identity of the task's workload; 0: none.
    pub task: u32,
    /// Cookie of the namespace that the task's workload was enrolled in.
    pub home: u64,
    /// Port of the agent's listener for the task's workload, in `home`.
    pub capture_port: u16,
    /// The task lies in a managed subtree.
    pub managed: bool,
    /// Who created the socket.
    pub owner: SocketOwner,
    /// Identity of the network namespace; 0: not enrolled, or several live in it.
    pub netns: u32,
    /// Only workloads have business in this namespace: it is enrolled and not the host's.
    pub closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Unmanaged,
    Exempt,
    Enrolled(u32),
    Unidentified,
    Mixed,
}

/// One class from all signs.
#[inline(always)]
pub fn classify(s: &Signs) -> Class {
    if s.exempt {
        return Class::Exempt;
    }
    if s.task == 0 && (s.managed || s.owner.class == CLASS_UNIDENTIFIED) {
        return Class::Unidentified;
    }
    let mut identity = s.task;
    if s.owner.identity != 0 {
        if identity != 0 && identity != s.owner.identity {
            return Class::Mixed;
        }
        identity = s.owner.identity;
    }
    // A namespace gives nobody an identity: who sits in one without being its workload has none of his own and borrows none.
    if (s.closed && identity == 0) || (s.netns != 0 && identity != s.netns) {
        return Class::Mixed;
    }
    if identity == 0 { Class::Unmanaged } else { Class::Enrolled(identity) }
}

/// The generation's tables, however they are stored. Ports in host order; the slot is the implementor's.
pub trait Tables {
    fn destination(&self, addr: &Addr) -> Option<Destination>;
    /// Longest prefix.
    fn external(&self, addr: &Addr) -> Option<External>;
    fn port(&self, service: u32, kind: u32, port: u16, proto: u8) -> Option<Port>;
    fn grant(&self, source: u32, destination: u32, port: u16, proto: u8) -> Option<Grant>;
}

/// The answer to "may `source` open a connection to this address and port?".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// One of `REASON_*`.
    pub reason: u32,
    /// `DEST_*`, 0 when unknown.
    pub kind: u32,
    pub service: u32,
    pub rule: u32,
    pub service_port: u16,
    pub target_port: u16,
}

impl Judgement {
    #[inline(always)]
    pub const fn allows(&self) -> bool {
        self.reason < REASON_NO_GRANT as u32
    }
}

/// The L4 verdict. `policy::Index::decide` gives the same answer from the snapshot; a test compares them over all pairs.
#[inline(always)]
pub fn judge<T: Tables>(tables: &T, source: u32, addr: &Addr, port: u16, proto: u8) -> Judgement {
    let mut j = Judgement { service_port: port, target_port: port, ..Judgement::default() };
    if port == TUNNEL_PORT {
        j.reason = REASON_TUNNEL_PORT as u32;
        return j;
    }
    if let Some(d) = tables.destination(addr) {
        j.kind = d.kind;
        j.service = d.service;
        if !declared(tables, &mut j, port, proto) {
            return j;
        }
        if d.service == source {
            j.reason = REASON_LOCAL as u32;
            return j;
        }
    } else if let Some(e) = tables.external(addr) {
        j.kind = DEST_EXTERNAL;
        j.service = e.service;
        if proto != PROTO_TCP {
            j.reason = REASON_PROTOCOL as u32;
            return j;
        }
    } else {
        j.reason = REASON_UNKNOWN_DESTINATION as u32;
        return j;
    }
    granted(tables, &mut j, source, proto);
    j
}

/// The verdict where an address is shared, so that only the listener says whose it is: `listener` is its service. A service may always
/// speak with itself there, also on a port that it does not declare.
#[inline(always)]
pub fn judge_listener<T: Tables>(tables: &T, source: u32, listener: u32, port: u16, proto: u8) -> Judgement {
    let mut j = Judgement { service_port: port, target_port: port, service: listener, kind: DEST_ENDPOINT, ..Judgement::default() };
    if listener == source {
        j.reason = REASON_LOCAL as u32;
    } else if listener == 0 || listener == LISTEN_DISPUTED {
        j = Judgement { reason: REASON_UNKNOWN_DESTINATION as u32, service_port: port, target_port: port, ..Judgement::default() };
    } else if declared(tables, &mut j, port, proto) {
        granted(tables, &mut j, source, proto);
    }
    j
}

/// Whether anybody may connect to a workload of `service` at that port. Whose ports those are, policy says: of one service, and never the tunnel's.
#[inline(always)]
pub fn is_public<T: Tables>(tables: &T, service: u32, port: u16) -> bool {
    service != 0 && service != LISTEN_DISPUTED && port != TUNNEL_PORT && tables.port(service, DEST_PUBLIC, port, PROTO_TCP).is_some()
}

/// Fills in the ports; false: there is no such port.
#[inline(always)]
fn declared<T: Tables>(tables: &T, j: &mut Judgement, port: u16, proto: u8) -> bool {
    let Some(p) = tables.port(j.service, j.kind, port, proto) else {
        j.reason = REASON_UNKNOWN_PORT as u32;
        return false;
    };
    j.service_port = p.service_port;
    j.target_port = p.target_port;
    true
}

#[inline(always)]
fn granted<T: Tables>(tables: &T, j: &mut Judgement, source: u32, proto: u8) {
    j.reason = match tables.grant(source, j.service, j.service_port, proto) {
        None => REASON_NO_GRANT as u32,
        Some(g) => {
            j.rule = g.rule;
            if g.flags & GRANT_NEEDS_L7 != 0 { REASON_NEEDS_L7 as u32 } else { REASON_GRANT as u32 }
        }
    };
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    const ENROLLED: Signs = Signs {
        exempt: false,
        task: 7,
        home: 1,
        capture_port: 9,
        managed: true,
        owner: SocketOwner { identity: 7, class: CLASS_ENROLLED },
        netns: 7,
        closed: true,
    };

    #[test]
    fn the_stricter_sign_holds() {
        let check = |s: Signs, expect: Class| assert_eq!(classify(&s), expect, "{s:?}");
        check(ENROLLED, Class::Enrolled(7));
        check(Signs::default(), Class::Unmanaged);
        check(Signs { exempt: true, ..ENROLLED }, Class::Exempt);
        check(Signs { managed: true, ..Signs::default() }, Class::Unidentified);
        check(Signs { task: 0, ..ENROLLED }, Class::Unidentified);
        check(Signs { task: 0, managed: false, ..ENROLLED }, Class::Enrolled(7));
        // A foreign process in a workload's namespace, in one that several share, and on the host.
        check(Signs { netns: 7, closed: true, ..Signs::default() }, Class::Mixed);
        check(Signs { closed: true, ..Signs::default() }, Class::Mixed);
        check(Signs { netns: 0, closed: false, owner: SocketOwner { identity: 0, class: CLASS_UNMANAGED }, ..ENROLLED }, Class::Enrolled(7));
        check(Signs { netns: 0, ..ENROLLED }, Class::Enrolled(7));
        check(Signs { netns: 8, ..ENROLLED }, Class::Mixed);
        check(Signs { owner: SocketOwner { identity: 8, class: CLASS_ENROLLED }, ..ENROLLED }, Class::Mixed);
        check(Signs { owner: SocketOwner { identity: 0, class: CLASS_UNIDENTIFIED }, ..Signs::default() }, Class::Unidentified);
        // A socket made in another namespace before `unshare -n` keeps its owner.
        check(Signs { netns: 0, ..ENROLLED }, Class::Enrolled(7));
    }

    /// Service 2 has VIP 1 (80 → 8080) and an endpoint 3; service 9 is an interface at 4. Port 443 of every other service is public.
    struct Small;
    const fn ip(last: u8) -> Addr {
        Addr::from_v4_be(u32::from_ne_bytes([10, 0, 0, last]))
    }
    impl Tables for Small {
        fn destination(&self, addr: &Addr) -> Option<Destination> {
            match *addr {
                a if a == ip(1) => Some(Destination { service: 2, kind: DEST_VIP }),
                a if a == ip(3) => Some(Destination { service: 2, kind: DEST_ENDPOINT }),
                _ => None,
            }
        }
        fn external(&self, addr: &Addr) -> Option<External> {
            (*addr == ip(4)).then_some(External { service: 9 })
        }
        fn port(&self, service: u32, kind: u32, port: u16, proto: u8) -> Option<Port> {
            if kind == DEST_PUBLIC {
                let open = matches!(port, 443 | TUNNEL_PORT) && proto == PROTO_TCP;
                return (open && service != 2).then_some(Port { service_port: port, target_port: port });
            }
            let dialled = if kind == DEST_VIP { 80 } else { 8080 };
            (service == 2 && port == dialled && proto == PROTO_TCP).then_some(Port { service_port: 80, target_port: 8080 })
        }
        fn grant(&self, source: u32, destination: u32, port: u16, _: u8) -> Option<Grant> {
            match (source, destination, port) {
                (1, 2, 80) => Some(Grant { rule: 5, flags: 0 }),
                (3, 2, 80) => Some(Grant { rule: 6, flags: GRANT_NEEDS_L7 }),
                (1, 9, 443) => Some(Grant { rule: 7, flags: 0 }),
                _ => None,
            }
        }
    }

    #[test]
    fn every_reason_has_a_control() {
        let check = |source, addr, port, reason| {
            assert_eq!(judge(&Small, source, &addr, port, PROTO_TCP).reason, u32::from(reason), "{source} → {addr:?}:{port}");
        };
        check(1, ip(1), 80, REASON_GRANT);
        check(1, ip(3), 8080, REASON_GRANT);
        check(1, ip(4), 443, REASON_GRANT);
        check(4, ip(1), 80, REASON_NO_GRANT);
        check(3, ip(1), 80, REASON_NEEDS_L7);
        check(1, ip(1), 81, REASON_UNKNOWN_PORT);
        check(1, ip(3), 80, REASON_UNKNOWN_PORT);
        check(1, ip(4), 444, REASON_NO_GRANT);
        check(1, ip(5), 80, REASON_UNKNOWN_DESTINATION);
        check(1, ip(3), TUNNEL_PORT, REASON_TUNNEL_PORT);
        check(2, ip(1), 80, REASON_LOCAL);
        assert_eq!(judge(&Small, 1, &ip(1), 80, PROTO_UDP).reason, u32::from(REASON_UNKNOWN_PORT));
    }

    #[test]
    fn a_public_port_is_one_services_and_never_the_tunnels() {
        for (service, port, open) in [(5, 443, true), (2, 443, false), (5, 444, false), (5, 80, false), (0, 443, false), (LISTEN_DISPUTED, 443, false)] {
            assert_eq!(is_public(&Small, service, port), open, "{service}:{port}");
        }
        assert!(!is_public(&Small, 5, TUNNEL_PORT));
        // It is no port that a workload could dial: for them nothing changes.
        assert_eq!(judge(&Small, 1, &ip(3), 443, PROTO_TCP).reason, u32::from(REASON_UNKNOWN_PORT));
        assert_eq!(judge_listener(&Small, 1, 5, 443, PROTO_TCP).reason, u32::from(REASON_UNKNOWN_PORT));
    }

    #[test]
    fn on_a_shared_address_the_listener_decides() {
        let check = |source, listener, port, reason| {
            assert_eq!(judge_listener(&Small, source, listener, port, PROTO_TCP).reason, u32::from(reason), "{source} → {listener}:{port}");
        };
        check(1, 2, 8080, REASON_GRANT);
        check(4, 2, 8080, REASON_NO_GRANT);
        check(3, 2, 8080, REASON_NEEDS_L7);
        check(1, 2, 80, REASON_UNKNOWN_PORT);
        check(1, 1, 9, REASON_LOCAL);
        check(1, 0, 8080, REASON_UNKNOWN_DESTINATION);
        check(1, LISTEN_DISPUTED, 8080, REASON_UNKNOWN_DESTINATION);
    }
}
