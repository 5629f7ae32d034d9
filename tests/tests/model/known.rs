//! Sequences that real bugs of meshes were made of. They come first in every run.

use super::{
    rules::{Seat, Service, Target},
    steps::{Act, Step},
};

const A1: Seat = Seat { node: 0, index: 0 };
const A2: Seat = Seat { node: 0, index: 1 };
const B1: Seat = Seat { node: 1, index: 0 };
const B2: Seat = Seat { node: 1, index: 1 };
const API: Target = Target::Service(Service::Api);
const DB: Target = Target::Service(Service::Db);
const WEB_API: (Service, Service) = (Service::Web, Service::Api);
const WEB_DB: (Service, Service) = (Service::Web, Service::Db);
const API_DB: (Service, Service) = (Service::Api, Service::Db);

pub fn sequences() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        ("an address is taken right after a stop", vec![Step::Dial(A1, API), Step::Reuse(A2, Service::Db), Step::Reuse(A1, Service::Api)]),
        ("a cgroup is made again under its path", vec![Step::Dial(B2, DB), Step::One(Act::Again(A1)), Step::One(Act::Again(B1))]),
        (
            "a grant is revoked while no agent looks",
            vec![Step::Dial(A1, API), Step::Dial(A1, DB), Step::One(Act::Kill(0)), Step::One(Act::Toggle(WEB_API)), Step::One(Act::Restart(0))],
        ),
        ("a grant comes and goes", vec![Step::Dial(B2, API), Step::Flicker(API_DB), Step::Flicker(WEB_API)]),
        ("an agent is killed while it takes up a change", vec![Step::Dial(B2, API), Step::KillAtChange(0, WEB_API), Step::KillAtChange(1, WEB_DB)]),
        ("pods go and come while no agent looks", vec![Step::One(Act::Kill(0)), Step::Reuse(A2, Service::Db), Step::Bounce(A1), Step::One(Act::Restart(0))]),
        (
            "a workload is withdrawn while its pod lives on, and is another one then",
            vec![Step::Dial(A1, API), Step::One(Act::Declare(A2, None)), Step::One(Act::Declare(A2, Some(Service::Db))), Step::One(Act::Declare(A1, None))],
        ),
        (
            "a workload is withdrawn while no agent looks",
            vec![Step::Dial(A1, API), Step::One(Act::Kill(0)), Step::One(Act::Declare(A2, None)), Step::One(Act::Restart(0))],
        ),
        ("a workload moves to another node", vec![Step::Dial(B2, API), Step::One(Act::Stop(B1)), Step::Move(A2, B1), Step::Move(A1, A2)]),
    ]
}

#[test]
fn they_can_happen() {
    use super::rules::State;
    for (what, steps) in sequences() {
        let mut state = State::initial();
        for step in steps {
            assert!(step.fits(&state), "{what}: {}", step.line(&state));
            state = step.pass(&state).after;
        }
    }
}
