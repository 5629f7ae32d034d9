//! What can happen: acts, steps made of them, and sequences of steps as proptest generates and shrinks them. Pure.
//!
//! The acts of one step follow each other without a pause: a pod takes the place of another that has just gone, a grant comes and goes, an agent
//! is killed while it takes up a change. What the step must lead to is known when everything has settled; until then, nothing may be answered
//! that would not be answered in one of the states on the way.

use std::{collections::BTreeSet, fmt};

use proptest::{
    prelude::{BoxedStrategy, Just, Strategy as _},
    sample,
    strategy::Union,
};
use proptest_state_machine::ReferenceStateMachine;

use super::rules::{Address, Expect, Grant, Instance, Live, NODES, Pod, SEATS, Seat, Service, Source, State, Target, all_seats, node_name};

/// Connections that are kept at a time.
const LIVE_MAX: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A pod comes up, with the first address of the node that is free.
    Start(Seat),
    /// Its programs are killed, its namespace and its cgroup go.
    Stop(Seat),
    /// A cgroup is made again under its path; the namespace stays.
    Again(Seat),
    /// The file of workloads names the seat as this service, or not at all.
    Declare(Seat, Option<Service>),
    /// The two pods of a node exchange their addresses.
    Swap(usize),
    /// A grant goes if it is there, and comes if not.
    Toggle(Grant),
    /// kill -9 of the agent.
    Kill(usize),
    Restart(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    One(Act),
    /// A pod goes and comes again as it was.
    Bounce(Seat),
    /// Another service's pod takes cgroup path, namespace name and address of one that has just gone.
    Reuse(Seat, Service),
    /// A workload goes from one seat and comes up at another.
    Move(Seat, Seat),
    /// There and back at once.
    Flicker(Grant),
    /// kill -9 between a change and its acknowledgement, and a restart.
    KillAtChange(usize, Grant),
    /// A connection that stays open.
    Dial(Seat, Target),
}

/// What a step does to the model.
pub struct Done {
    pub after: State,
    /// The settled states on the way, from the one before to `after`.
    pub way: Vec<State>,
    /// Connections that must end now.
    pub ends: Vec<Live>,
    /// Connections that may end or live on, or whose program has gone.
    pub let_go: Vec<Live>,
}

impl Act {
    /// Whether it can happen.
    fn fits(self, state: &State) -> bool {
        match self {
            Self::Start(seat) => state.place(seat).pod.is_none(),
            Self::Stop(seat) | Self::Again(seat) => state.place(seat).pod.is_some(),
            Self::Declare(seat, service) => state.place(seat).declared != service,
            Self::Swap(node) => state.nodes[node].agent && state.nodes[node].seats.iter().all(|place| place.pod.is_some()),
            Self::Toggle((from, to)) => from != to,
            Self::Kill(node) => state.nodes[node].agent,
            Self::Restart(node) => !state.nodes[node].agent,
        }
    }

    fn pass(self, state: &mut State) {
        let instance = state.last_instance + 1;
        match self {
            Self::Start(seat) => {
                let taken: Vec<Address> = state.nodes[seat.node].seats.iter().filter_map(|place| Some(place.pod?.address)).collect();
                let free = (0..SEATS).map(|index| Address { node: seat.node, index }).find(|address| !taken.contains(address));
                let place = state.place_mut(seat);
                (place.pod, place.listener) = (free.map(|address| Pod { instance, address }), None);
                state.last_instance = instance;
            }
            Self::Stop(seat) => state.place_mut(seat).pod = None,
            Self::Again(seat) => {
                let place = state.place_mut(seat);
                (place.pod, place.listener) = (place.pod.map(|pod| Pod { instance, ..pod }), None);
                state.last_instance = instance;
            }
            Self::Declare(seat, service) => state.place_mut(seat).declared = service,
            Self::Swap(node) => {
                let [first, second] = &mut state.nodes[node].seats;
                if let (Some(first), Some(second)) = (&mut first.pod, &mut second.pod) {
                    std::mem::swap(&mut first.address, &mut second.address);
                }
            }
            Self::Toggle(grant) => {
                if !state.grants.remove(&grant) {
                    state.grants.insert(grant);
                }
            }
            Self::Kill(node) => state.nodes[node].agent = false,
            Self::Restart(node) => state.nodes[node].agent = true,
        }
    }
}

impl Step {
    pub fn acts(self, state: &State) -> Vec<Act> {
        match self {
            Self::One(act) => vec![act],
            Self::Bounce(seat) => vec![Act::Stop(seat), Act::Start(seat)],
            Self::Reuse(seat, service) => vec![Act::Stop(seat), Act::Declare(seat, Some(service)), Act::Start(seat)],
            Self::Move(from, to) => {
                let service = state.place(from).declared;
                let declared = [Act::Declare(from, None), Act::Declare(to, service)];
                [vec![Act::Stop(from)], declared.into_iter().filter(|act| act.fits(state)).collect(), vec![Act::Start(to)]].concat()
            }
            Self::Flicker(grant) => vec![Act::Toggle(grant), Act::Toggle(grant)],
            Self::KillAtChange(node, grant) => vec![Act::Toggle(grant), Act::Kill(node), Act::Restart(node)],
            Self::Dial(..) => Vec::new(),
        }
    }

    pub fn fits(self, state: &State) -> bool {
        if let Self::Dial(from, to) = self {
            return state.live.len() < LIVE_MAX && dialled(state, from, to).is_some();
        }
        let mut state = state.clone();
        self.acts(&state).into_iter().all(|act| {
            let fits = act.fits(&state);
            act.pass(&mut state);
            fits
        })
    }

    pub fn pass(self, before: &State) -> Done {
        let mut after = before.clone();
        let mut way = vec![before.clone()];
        let acts = self.acts(before);
        for act in &acts {
            act.pass(&mut after);
            after.settle();
            way.push(after.clone());
        }
        if let Self::Dial(from, to) = self
            && let Some(mut live) = dialled(before, from, to)
        {
            after.last_dial += 1;
            live.id = after.last_dial;
            after.live.push(live);
            return Done { after, way, ends: Vec::new(), let_go: Vec::new() };
        }
        let (mut ends, mut let_go) = (Vec::new(), Vec::new());
        for live in std::mem::take(&mut after.live) {
            let caller_lives = after.place(live.from.0).pod == Some(live.from.1);
            if !caller_lives || acts.iter().any(|act| unsettles(*act, &live)) || self == Self::Flicker((live.from.2, live.to.2)) {
                let_go.push(live);
            } else if after.holds(&live) {
                after.live.push(live);
            } else {
                ends.push(live);
            }
        }
        Done { after, way, ends, let_go }
    }
}

impl Done {
    /// Who may answer before everything has settled.
    pub fn may_answer(&self, from: Source, to: Target) -> BTreeSet<Instance> {
        let answers = self.way.iter().filter_map(|state| match state.expect(from, to) {
            Expect::Answered { by, .. } => Some(by),
            _ => None,
        });
        answers.flatten().collect()
    }
}

/// Proxies carry what crosses, and it goes with them; what an address carried goes with the address.
fn unsettles(act: Act, live: &Live) -> bool {
    let ends_on = |node: usize| live.from.0.node == node || live.to.0.node == node;
    match act {
        Act::Kill(node) => live.crosses() && ends_on(node),
        Act::Swap(node) => ends_on(node),
        _ => false,
    }
}

/// The connection, where exactly one instance must answer.
fn dialled(state: &State, from: Seat, to: Target) -> Option<Live> {
    let Expect::Answered { by, always: true } = state.expect(Source::Seat(from), to) else { return None };
    let (1, Some(instance)) = (by.len(), by.first()) else { return None };
    let end = |seat: Seat| Some((seat, state.place(seat).pod?, state.identity(seat)?));
    let to = all_seats().find(|seat| state.place(*seat).pod.is_some_and(|pod| pod.instance == *instance))?;
    Some(Live { id: 0, from: end(from)?, to: end(to)? })
}

/// The model as proptest drives it.
pub struct Model;

impl ReferenceStateMachine for Model {
    type State = State;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<State> {
        Just(State::initial()).boxed()
    }

    fn transitions(state: &State) -> BoxedStrategy<Step> {
        let kinds = candidates().into_iter().filter_map(|(weight, steps)| {
            let fitting: Vec<Step> = steps.into_iter().filter(|step| step.fits(state)).collect();
            (!fitting.is_empty()).then(|| (weight, sample::select(fitting).boxed()))
        });
        Union::new_weighted(kinds.collect()).boxed()
    }

    fn apply(state: State, step: &Step) -> State {
        step.pass(&state).after
    }

    fn preconditions(state: &State, step: &Step) -> bool {
        step.fits(state)
    }
}

/// Every step there is, in kinds with a weight each. The cheap and the telling come often.
fn candidates() -> Vec<(u32, Vec<Step>)> {
    let seats: Vec<Seat> = all_seats().collect();
    let services = [Service::Web, Service::Api, Service::Db];
    let each = |make: fn(Seat) -> Act| -> Vec<Step> { seats.iter().map(|seat| Step::One(make(*seat))).collect() };
    let named = |make: fn(Seat, Service) -> Step| seats.iter().flat_map(|seat| services.map(|service| make(*seat, service))).collect::<Vec<_>>();
    let grants: Vec<Grant> = services.iter().flat_map(|from| services.map(|to| (*from, to))).filter(|(from, to)| from != to).collect();
    let of_grants = |make: fn(Grant) -> Step| grants.iter().map(|grant| make(*grant)).collect::<Vec<_>>();
    let of_nodes = |make: fn(usize) -> Act| (0..NODES).map(|node| Step::One(make(node))).collect::<Vec<_>>();
    let pairs = seats.iter().flat_map(|from| seats.iter().map(|to| Step::Move(*from, *to)));
    let changes = (0..NODES).flat_map(|node| grants.iter().map(move |grant| Step::KillAtChange(node, *grant)));
    let dials = seats.iter().flat_map(|from| {
        let addresses = seats.iter().map(|seat| Target::Address(Address { node: seat.node, index: seat.index }));
        addresses.chain(services.map(Target::Service)).map(|to| Step::Dial(*from, to))
    });
    vec![
        (12, dials.collect()),
        (8, of_grants(|grant| Step::One(Act::Toggle(grant)))),
        (6, named(Step::Reuse)),
        (4, seats.iter().map(|seat| Step::Bounce(*seat)).collect()),
        (4, each(Act::Again)),
        (4, each(Act::Stop)),
        (6, each(Act::Start)),
        (4, named(|seat, service| Step::One(Act::Declare(seat, Some(service))))),
        (2, each(|seat| Act::Declare(seat, None))),
        (3, pairs.collect()),
        (3, of_grants(Step::Flicker)),
        (3, changes.collect()),
        (5, of_nodes(Act::Kill)),
        (6, of_nodes(Act::Restart)),
        (1, of_nodes(Act::Swap)),
    ]
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(seat) => write!(f, "start a pod at {seat}"),
            Self::Stop(seat) => write!(f, "stop the pod at {seat}"),
            Self::Again(seat) => write!(f, "remove the cgroup of {seat} and make it again"),
            Self::Declare(seat, Some(service)) => write!(f, "enrol {seat} as {service}"),
            Self::Declare(seat, None) => write!(f, "withdraw {seat}"),
            Self::Swap(node) => write!(f, "let the pods of node {} exchange addresses", node_name(*node)),
            Self::Toggle((from, to)) => write!(f, "grant or revoke {from} -> {to}"),
            Self::Kill(node) => write!(f, "kill -9 the agent of node {}", node_name(*node)),
            Self::Restart(node) => write!(f, "start the agent of node {}", node_name(*node)),
        }
    }
}

impl Step {
    /// For people; whether a grant goes or comes depends on the state before.
    pub fn line(self, before: &State) -> String {
        let toggle = |grant: &Grant| if before.grants.contains(grant) { "revoke" } else { "grant" };
        match self {
            Self::One(Act::Toggle(grant)) => format!("{} {} -> {}", toggle(&grant), grant.0, grant.1),
            Self::One(act) => act.to_string(),
            Self::Bounce(seat) => format!("stop the pod at {seat} and start it again at once"),
            Self::Reuse(seat, service) => format!("stop the pod at {seat} and start one of {service} in its place at once"),
            Self::Move(from, to) => format!("move the pod at {from} to {to}"),
            Self::Flicker(grant) if before.grants.contains(&grant) => format!("revoke {} -> {} and grant it again at once", grant.0, grant.1),
            Self::Flicker(grant) => format!("grant {} -> {} and revoke it at once", grant.0, grant.1),
            Self::KillAtChange(node, grant) => {
                format!("{} {} -> {}, kill -9 the agent of node {} at once, start it again", toggle(&grant), grant.0, grant.1, node_name(node))
            }
            Self::Dial(from, to) => format!("dial {to} from {from} and keep the connection"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A1: Seat = Seat { node: 0, index: 0 };
    const A2: Seat = Seat { node: 0, index: 1 };
    const B1: Seat = Seat { node: 1, index: 0 };
    const WEB_API: Grant = (Service::Web, Service::Api);

    fn run(steps: &[Step]) -> Done {
        let mut state = State::initial();
        let mut last = None;
        for step in steps {
            assert!(step.fits(&state), "{}", step.line(&state));
            let done = step.pass(&state);
            state = done.after.clone();
            last = Some(done);
        }
        last.expect("at least one step")
    }

    #[test]
    fn a_kept_connection_ends_with_its_grant_and_not_with_another() {
        let dial = Step::Dial(A1, Target::Service(Service::Api));
        assert_eq!(run(&[dial, Step::One(Act::Toggle(WEB_API))]).ends.len(), 1);
        let other = run(&[dial, Step::One(Act::Toggle((Service::Web, Service::Db)))]);
        assert!(other.ends.is_empty() && other.after.live.len() == 1);
    }

    #[test]
    fn what_is_revoked_while_no_agent_looks_ends_when_one_does() {
        let dead = [Step::Dial(A1, Target::Service(Service::Api)), Step::One(Act::Kill(0)), Step::One(Act::Toggle(WEB_API))];
        assert_eq!(run(&dead).after.live.len(), 1);
        assert_eq!(run(&[dead.as_slice(), &[Step::One(Act::Restart(0))]].concat()).ends.len(), 1);
    }

    #[test]
    fn what_crosses_may_go_with_an_agent_and_what_does_not_stays() {
        let near = Step::Dial(A1, Target::Service(Service::Api));
        let far = Step::Dial(A1, Target::Service(Service::Db));
        let done = run(&[near, far, Step::One(Act::Kill(0))]);
        assert_eq!((done.let_go.len(), done.after.live.len(), done.ends.len()), (1, 1, 0));
    }

    #[test]
    fn only_what_a_state_on_the_way_allows_may_be_answered_on_the_way() {
        let done = run(&[Step::Reuse(A2, Service::Db)]);
        let to = Target::Address(Address { node: 0, index: 1 });
        // Web may reach the api that was there and the db that is there now, db only ever the former.
        assert_eq!(done.may_answer(Source::Seat(A1), to), BTreeSet::from([2, 5]));
        assert_eq!(done.may_answer(Source::Seat(B1), Target::Service(Service::Api)), BTreeSet::from([2]));
        assert!(done.may_answer(Source::Seat(A2), Target::Service(Service::Web)).is_empty());
        assert_eq!(done.after.expect(Source::Seat(B1), Target::Service(Service::Api)), Expect::Silent);
    }

    #[test]
    fn the_first_free_address_is_taken() {
        let stops = [Step::One(Act::Stop(A1)), Step::One(Act::Stop(A2)), Step::One(Act::Start(A2))];
        assert_eq!(run(&stops).after.place(A2).pod.map(|pod| pod.address), Some(Address { node: 0, index: 0 }));
    }

    #[test]
    fn from_every_state_something_can_happen() {
        use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
        let mut runner = TestRunner::deterministic();
        for _ in 0..200 {
            let (mut state, steps, _) = Model::sequential_strategy(1..40_usize).new_tree(&mut runner).expect("a sequence").current();
            for step in steps {
                assert!(step.fits(&state));
                state = step.pass(&state).after;
            }
        }
    }
}
