//! The reference model: who may talk to whom in which state, and what becomes of a connection that lives. Pure, and an oracle of its own: it
//! shares nothing with what it judges.
//!
//! One idea carries it. An agent that runs makes its node know what is: the catalog, everybody's endpoints, who lives in which cgroup.
//! A node whose agent is dead knows what it knew, and judges by that. From there on:
//!
//! | who dials | what | says |
//! |---|---|---|
//! | a workload that its node does not know as this very instance | anything | denied: EPERM |
//! | one that it knows | an address that is nobody's, or another service without a grant | denied: EPERM |
//! | granted, or of the same service | an endpoint on its own node | answered; silent where another instance, or none, has taken its place, or one that listened as somebody else before |
//! | granted | an endpoint on the other node | answered while both agents run, else silent |
//! | granted | a service that has no endpoint | silent |
//! | anybody outside the mesh | a workload's address | silent |
//!
//! *Silent* is anything but an answer: a reset, a refusal, a wait. A live connection ends with what allowed it, as soon as its agent runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

pub const NODES: usize = 2;
/// Of each node: a cgroup path and a namespace's name, which one pod after the other takes, and as many addresses.
pub const SEATS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Web,
    Api,
    Db,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    pub node: usize,
    pub index: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub node: usize,
    pub index: usize,
}

/// One life of a cgroup: a program that starts again under an old path is another.
pub type Instance = u32;

/// From a source to a destination.
pub type Grant = (Service, Service);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Seat(Seat),
    /// A pod of that node which no agent manages.
    Outsider(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Address(Address),
    Service(Service),
}

/// What a caller must see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// `connect()` fails with EPERM.
    Denied,
    /// Nobody answers.
    Silent,
    /// One of these answers; not `always`: or nobody.
    Answered { by: BTreeSet<Instance>, always: bool },
}

/// The world, and what each node knows of it.
#[derive(Clone, Debug)]
pub struct State {
    pub nodes: [Node; NODES],
    /// As the catalog says now.
    pub grants: BTreeSet<Grant>,
    pub live: Vec<Live>,
    pub last_instance: Instance,
    pub last_dial: u32,
}

#[derive(Clone, Debug)]
pub struct Node {
    /// The agent runs.
    pub agent: bool,
    pub seats: [Place; SEATS],
    /// Who lives where, as the agent saw it last.
    pub enrolled: BTreeMap<Address, Enrolled>,
    /// The revision in force.
    pub view: View,
}

/// What is at a seat. The file of workloads names a seat whether a pod is there or not.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub declared: Option<Service>,
    pub pod: Option<Pod>,
    /// Whom the pod's listening socket belongs to: whoever the pod was when it was made, which is as soon as it was somebody.
    pub listener: Option<Service>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    pub instance: Instance,
    pub address: Address,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    pub seat: Seat,
    pub instance: Instance,
    pub service: Service,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub grants: BTreeSet<Grant>,
    pub endpoints: BTreeMap<Address, Service>,
}

/// A connection that stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    pub id: u32,
    pub from: (Seat, Pod, Service),
    pub to: (Seat, Pod, Service),
}

impl State {
    /// Every pod runs, is enrolled and has something to say: a pair on one node, a pair across in each direction, a service on both nodes.
    pub fn initial() -> Self {
        let services = [[Service::Web, Service::Api], [Service::Db, Service::Web]];
        let place = |node: usize, index: usize| {
            let instance = (node * SEATS + index + 1) as Instance;
            Place { listener: None, declared: Some(services[node][index]), pod: Some(Pod { instance, address: Address { node, index } }) }
        };
        let node = |node| Node { agent: true, seats: [place(node, 0), place(node, 1)], enrolled: BTreeMap::new(), view: View::default() };
        let grants = BTreeSet::from([(Service::Web, Service::Api), (Service::Web, Service::Db), (Service::Db, Service::Api)]);
        let mut state = Self { nodes: [node(0), node(1)], grants, live: Vec::new(), last_instance: (NODES * SEATS) as Instance, last_dial: 0 };
        state.settle();
        state
    }

    /// Agents that run have seen all there is to see.
    pub fn settle(&mut self) {
        for (n, node) in self.nodes.iter_mut().enumerate().filter(|(_, node)| node.agent) {
            let seats = node.seats.iter().enumerate().map(|(index, place)| (Seat { node: n, index }, place));
            let here = seats.filter_map(|(seat, place)| Some((place.pod?.address, Enrolled { seat, instance: place.pod?.instance, service: place.declared? })));
            node.enrolled = here.collect();
            for place in node.seats.iter_mut().filter(|place| place.pod.is_some()) {
                place.listener = place.listener.or(place.declared);
            }
        }
        let endpoints = self.endpoints();
        for node in self.nodes.iter_mut().filter(|node| node.agent) {
            node.view = View { grants: self.grants.clone(), endpoints: endpoints.clone() };
        }
    }

    /// What the bridge tells everybody: of a node without an agent it knows what that said last.
    pub fn endpoints(&self) -> BTreeMap<Address, Service> {
        self.nodes.iter().flat_map(|node| node.enrolled.iter().map(|(address, e)| (*address, e.service))).collect()
    }

    pub fn place(&self, seat: Seat) -> &Place {
        &self.nodes[seat.node].seats[seat.index]
    }

    pub fn place_mut(&mut self, seat: Seat) -> &mut Place {
        &mut self.nodes[seat.node].seats[seat.index]
    }

    /// Who somebody at a seat is, as far as the node knows.
    pub fn identity(&self, seat: Seat) -> Option<Service> {
        let pod = self.place(seat).pod?;
        self.nodes[seat.node].enrolled.values().find(|e| e.seat == seat && e.instance == pod.instance).map(|e| e.service)
    }

    pub fn expect(&self, from: Source, to: Target) -> Expect {
        let Source::Seat(seat) = from else { return Expect::Silent };
        let Some(source) = self.identity(seat) else { return Expect::Denied };
        let view = &self.nodes[seat.node].view;
        let service = match to {
            Target::Service(service) => Some(service),
            Target::Address(address) => view.endpoints.get(&address).copied(),
        };
        let Some(service) = service.filter(|service| view.allows(source, *service)) else { return Expect::Denied };
        let all = view.endpoints.iter().filter(|(address, s)| **s == service && (to == Target::Service(service) || to == Target::Address(**address)));
        let (near, far): (Vec<Address>, Vec<Address>) = all.map(|(address, _)| *address).partition(|address| address.node == seat.node);
        // What is on the node goes nowhere else.
        let candidates = if near.is_empty() { far } else { near };
        let answering: Vec<Instance> = candidates.iter().filter_map(|address| self.answers(seat.node, *address)).collect();
        if answering.is_empty() {
            return Expect::Silent;
        }
        Expect::Answered { always: answering.len() == candidates.len(), by: answering.into_iter().collect() }
    }

    /// Who answers a granted connection from a node to an address.
    fn answers(&self, from: usize, to: Address) -> Option<Instance> {
        let carried = from == to.node || (self.nodes[from].agent && self.nodes[to.node].agent);
        let known = self.nodes[to.node].enrolled.get(&to).filter(|_| carried)?;
        let place = self.place(known.seat);
        let still_there = place.pod == Some(Pod { instance: known.instance, address: to });
        (still_there && place.listener == Some(known.service)).then_some(known.instance)
    }

    /// Whether what allowed a connection still does, and both its programs are there.
    pub fn holds(&self, live: &Live) -> bool {
        let (from, to) = (live.from, live.to);
        let same = |(seat, pod, service): (Seat, Pod, Service)| self.place(seat).pod == Some(pod) && self.identity(seat) == Some(service);
        same(from) && same(to) && [from.0.node, to.0.node].iter().all(|n| self.nodes[*n].view.allows(from.2, to.2))
    }

    /// Everything that could be dialled now, with who would dial it. Its own address is nobody's business.
    pub fn attempts(&self) -> Vec<(Source, Target)> {
        let seats = all_seats().filter(|seat| self.place(*seat).pod.is_some()).map(Source::Seat);
        let own = |from: Source| if let Source::Seat(seat) = from { self.place(seat).pod.map(|pod| pod.address) } else { None };
        let addresses = |from: Source| all_addresses().filter(move |a| Some(*a) != own(from)).map(Target::Address).map(move |to| (from, to));
        let services = |from: Source| [Service::Web, Service::Api, Service::Db].map(|service| (from, Target::Service(service)));
        let inside: Vec<Source> = seats.collect();
        let outside = (0..NODES).map(Source::Outsider);
        inside.iter().flat_map(|from| addresses(*from).chain(services(*from))).chain(outside.flat_map(addresses)).collect()
    }
}

impl View {
    /// A service speaks with itself.
    fn allows(&self, from: Service, to: Service) -> bool {
        from == to || self.grants.contains(&(from, to))
    }
}

impl Live {
    /// Carried by the proxies of two nodes.
    pub fn crosses(&self) -> bool {
        self.from.0.node != self.to.0.node
    }
}

pub fn all_seats() -> impl Iterator<Item = Seat> {
    (0..NODES).flat_map(|node| (0..SEATS).map(move |index| Seat { node, index }))
}

pub fn all_addresses() -> impl Iterator<Item = Address> {
    (0..NODES).flat_map(|node| (0..SEATS).map(move |index| Address { node, index }))
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Web => "web",
            Self::Api => "api",
            Self::Db => "db",
        })
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seat {}{}", node_name(self.node), self.index + 1)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {}{}", node_name(self.node), self.index + 1)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seat(seat) => seat.fmt(f),
            Self::Outsider(node) => write!(f, "the outsider on node {}", node_name(*node)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Service(service) => write!(f, "service {service}"),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("denied (EPERM)"),
            Self::Silent => f.write_str("no answer"),
            Self::Answered { by, always } => {
                let names: Vec<_> = by.iter().map(|instance| format!("#{instance}")).collect();
                write!(f, "answered by {}{}", names.join(" or "), if *always { "" } else { ", or no answer" })
            }
        }
    }
}

pub fn node_name(node: usize) -> char {
    (b'a' + node as u8) as char
}

#[cfg(test)]
mod tests {
    use super::*;

    const A1: Seat = Seat { node: 0, index: 0 };
    const A2: Seat = Seat { node: 0, index: 1 };
    const B1: Seat = Seat { node: 1, index: 0 };
    const B2: Seat = Seat { node: 1, index: 1 };

    fn at(seat: Seat) -> Target {
        Target::Address(Address { node: seat.node, index: seat.index })
    }

    fn by(instance: Instance) -> Expect {
        Expect::Answered { by: BTreeSet::from([instance]), always: true }
    }

    #[track_caller]
    fn check(state: &State, rows: &[(Seat, Target, Expect)]) {
        for (from, to, expect) in rows {
            assert_eq!(state.expect(Source::Seat(*from), *to), *expect, "{from} to {to}");
        }
    }

    #[test]
    fn a_grant_is_what_it_takes() {
        let mut state = State::initial();
        let db = Target::Service(Service::Db);
        check(&state, &[(A1, at(A2), by(2)), (A1, at(B1), by(3)), (B2, at(A2), by(2)), (A1, db, by(3)), (B2, db, by(3))]);
        check(&state, &[(A2, at(A1), Expect::Denied), (A2, at(B2), Expect::Denied), (A2, db, Expect::Denied)]);
        check(&state, &[(A1, at(B2), by(4)), (A1, Target::Service(Service::Web), by(1))]);
        assert_eq!(state.expect(Source::Outsider(0), at(A2)), Expect::Silent);
        state.grants.remove(&(Service::Web, Service::Api));
        check(&state, &[(A1, at(A2), by(2))]);
        state.settle();
        check(&state, &[(A1, at(A2), Expect::Denied), (B2, at(A2), Expect::Denied), (A1, at(B1), by(3))]);
    }

    #[test]
    fn a_node_without_an_agent_judges_by_what_it_knew() {
        let mut state = State::initial();
        state.nodes[0].agent = false;
        state.grants.remove(&(Service::Web, Service::Api));
        state.settle();
        check(&state, &[(A1, at(A2), by(2)), (A1, at(B1), Expect::Silent), (A2, at(A1), Expect::Denied)]);
        check(&state, &[(B2, at(A2), Expect::Denied), (B1, at(A2), Expect::Silent), (B2, at(B1), by(3))]);
        state.nodes[0].agent = true;
        state.settle();
        check(&state, &[(A1, at(A2), Expect::Denied)]);
    }

    #[test]
    fn another_instance_inherits_nothing_while_nobody_looks() {
        let mut state = State::initial();
        state.nodes[0].agent = false;
        for seat in [A1, A2] {
            state.place_mut(seat).pod.as_mut().unwrap().instance += 10;
        }
        state.settle();
        check(&state, &[(A1, at(B1), Expect::Denied), (A1, at(A2), Expect::Denied)]);
        state.place_mut(A1).pod.as_mut().unwrap().instance -= 10;
        check(&state, &[(A1, at(A2), Expect::Silent)]);
        state.nodes[0].agent = true;
        state.settle();
        check(&state, &[(A1, at(A2), by(12))]);
    }

    #[test]
    fn an_address_is_whoever_has_it_now() {
        let mut state = State::initial();
        for (seat, index) in [(A1, 1), (A2, 0)] {
            state.place_mut(seat).pod.as_mut().unwrap().address = Address { node: 0, index };
        }
        state.settle();
        // Web's pod has api's address and the other way round: who dials the first seat's address reaches api.
        check(&state, &[(A1, at(A1), by(2)), (B2, at(A1), by(2)), (A2, at(A2), Expect::Denied)]);
    }

    #[test]
    fn a_listener_stays_whose_it_was() {
        let mut state = State::initial();
        for (service, expect) in [(Service::Db, Expect::Silent), (Service::Api, by(2))] {
            state.place_mut(A2).declared = Some(service);
            state.settle();
            check(&state, &[(A1, at(A2), expect)]);
        }
        state.place_mut(A2).declared = Some(Service::Db);
        state.settle();
        check(&state, &[(A2, Target::Service(Service::Api), Expect::Silent), (A2, at(B1), by(3))]);
    }

    #[test]
    fn nobody_is_there_or_several_are() {
        let mut state = State::initial();
        state.place_mut(A2).pod = None;
        state.settle();
        check(&state, &[(A1, Target::Service(Service::Api), Expect::Silent), (A1, at(A2), Expect::Denied)]);
        for seat in [B1, B2] {
            *state.place_mut(seat) = Place { declared: Some(Service::Api), listener: None, ..*state.place(seat) };
        }
        state.settle();
        check(&state, &[(A1, Target::Service(Service::Api), Expect::Answered { by: BTreeSet::from([3, 4]), always: true })]);
        state.place_mut(A2).pod = Some(Pod { instance: 9, address: Address { node: 0, index: 1 } });
        state.settle();
        check(&state, &[(A1, Target::Service(Service::Api), by(9))]);
    }

    #[test]
    fn a_live_connection_needs_its_grant_and_both_its_ends() {
        let state = State::initial();
        let pod = |seat: Seat| state.place(seat).pod.unwrap();
        let live = Live { id: 1, from: (A1, pod(A1), Service::Web), to: (A2, pod(A2), Service::Api) };
        assert!(state.holds(&live) && !live.crosses());
        let check = |what: &str, change: fn(&mut State)| {
            let mut after = state.clone();
            change(&mut after);
            after.settle();
            assert!(!after.holds(&live), "{what}");
        };
        check("revoked", |s| assert!(s.grants.remove(&(Service::Web, Service::Api))));
        check("withdrawn", |s| s.place_mut(A2).declared = None);
        check("stopped", |s| s.place_mut(A1).pod = None);
        check("another service", |s| s.place_mut(A2).declared = Some(Service::Db));
        let mut blind = state.clone();
        blind.nodes[0].agent = false;
        blind.grants.clear();
        blind.settle();
        assert!(blind.holds(&live), "nobody is there to end it");
    }
}
