//! The manager against a node of paper: what exists, and what was done, in order.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};
use weft_types::{ServiceId, ServiceRef};

use super::*;
use crate::limits;

#[derive(Default)]
struct Paper {
    /// Namespace path → instance, cookie.
    places: HashMap<String, (Instance, u64)>,
    services: HashMap<String, u32>,
    addresses: Vec<IpAddr>,
    missing: Option<String>,
    broken: Option<String>,
    done: Vec<String>,
    saved: Vec<String>,
}

#[derive(Clone, Default)]
struct Node(Rc<RefCell<Paper>>);

impl Plumbing for Node {
    type Held = u64;
    fn look(&self, spec: &Spec) -> Result<Instance, String> {
        self.0.borrow().places.get(spec.netns.to_str().unwrap()).map(|p| p.0).ok_or_else(|| "its namespace is not there".to_owned())
    }
    fn open(&mut self, spec: &Spec) -> Result<u64, String> {
        Ok(self.0.borrow().places[spec.netns.to_str().unwrap()].1)
    }
    fn cookie(&self, held: &u64) -> u64 {
        *held
    }
    fn addresses(&self, _: &u64) -> Result<Vec<IpAddr>, String> {
        Ok(self.0.borrow().addresses.clone())
    }
    fn enrol(&mut self, spec: &Spec, _: &mut u64, service: ServiceId, addresses: &[IpAddr]) -> Result<(), String> {
        let mut paper = self.0.borrow_mut();
        if let Some(broken) = &paper.broken {
            return Err(broken.clone());
        }
        paper.missing = None;
        let entry = format!("enrol {} as {service} at {addresses:?}", spec.uid);
        paper.done.push(entry);
        Ok(())
    }
    fn read_back(&self, _: &u64) -> Result<(), String> {
        self.0.borrow().missing.clone().map_or(Ok(()), Err)
    }
    fn drifted(&self, _: &Spec, _: &str, _: Result<(), &str>) {}
    fn withdraw(&mut self, spec: &Spec, _: u64) {
        self.0.borrow_mut().done.push(format!("withdraw {}", spec.uid));
    }
    fn admit(&self, service: &ServiceRef) -> Result<ServiceId, String> {
        self.0.borrow().services.get(&service.to_string()).map(|id| ServiceId(*id)).ok_or_else(|| "it has no SVID yet".to_owned())
    }
    fn withdraw_others(&mut self, keep: &[(&Spec, &u64)]) {
        let kept: Vec<&str> = keep.iter().map(|(s, _)| s.uid.as_str()).collect();
        self.0.borrow_mut().done.push(format!("keep {}", kept.join(" ")));
    }
    fn maintain(&mut self, _: &[(&Spec, &u64)]) {}
    fn save(&self, specs: &mut dyn Iterator<Item = &Spec>) {
        let saved = specs.filter(|s| s.origin == Origin::Live).map(|s| s.uid.to_string()).collect();
        self.0.borrow_mut().saved = saved;
    }
}

struct Bench {
    node: Node,
    manager: Manager<Node>,
    picture: watch::Receiver<std::sync::Arc<Picture>>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let node = Node::default();
        node.0.borrow_mut().addresses = vec!["10.0.0.2".parse().unwrap()];
        let (manager, picture) = Manager::new(node.clone());
        Self { node, manager, picture, now: Instant::now() }
    }

    fn place(&self, netns: &str, life: u64) {
        self.node.0.borrow_mut().places.insert(netns.to_owned(), (Instance { cgroup: life, netns: life }, life));
    }

    fn admit(&self, service: &str, id: u32) {
        self.node.0.borrow_mut().services.insert(service.to_owned(), id);
    }

    fn step(&mut self, passed: Duration) {
        self.now += passed;
        self.manager.step(self.now);
    }

    fn add(&mut self, spec: Spec) -> oneshot::Receiver<Result<Seen, AddError>> {
        let (reply, answer) = oneshot::channel();
        self.manager.add(spec, self.now, self.now + Duration::from_secs(10), reply);
        answer
    }

    #[track_caller]
    fn check(&mut self, done: &[&str], states: &[(&str, bool, &str)]) {
        assert_eq!(std::mem::take(&mut self.node.0.borrow_mut().done), done);
        let picture = self.picture.borrow().clone();
        let seen: BTreeMap<_, _> =
            picture.workloads.iter().map(|w| (w.uid.as_str(), (w.enrolled.is_some(), w.problem.as_deref().unwrap_or_default()))).collect();
        assert_eq!(seen, states.iter().map(|(uid, enrolled, problem)| (*uid, (*enrolled, *problem))).collect());
    }
}

fn spec(origin: Origin, name: &str) -> Spec {
    let places = Places { mount: "/cg".into(), cgroup_root: "/cg".into(), managed: vec!["/cg/m".into()] };
    let cgroup = format!("m/{name}");
    Spec::new(&places, origin, None, &format!("shop/{name}"), cgroup.as_ref(), format!("/ns/{name}").as_ref()).unwrap()
}

const SWEEP: Duration = Duration::from_millis(250);

#[test]
fn a_static_workload_waits_for_its_place_and_its_svid() {
    let mut b = Bench::new();
    b.manager.set_static(vec![spec(Origin::Static, "a")], b.now);
    b.check(&[], &[("a", false, "its namespace is not there")]);
    b.place("/ns/a", 1);
    b.step(SWEEP);
    b.check(&[], &[("a", false, "it has no SVID yet")]);
    b.admit("shop/a", 5);
    b.step(SWEEP);
    b.check(&["enrol a as 5 at [10.0.0.2]"], &[("a", true, "")]);
    b.step(SWEEP);
    b.check(&[], &[("a", true, "")]);
    b.manager.withdraw_others();
    b.check(&["keep a"], &[("a", true, "")]);
}

#[test]
fn what_vanishes_is_withdrawn_at_the_next_look() {
    let mut b = Bench::new();
    b.place("/ns/a", 1);
    b.admit("shop/a", 5);
    b.place("/ns/l", 2);
    b.admit("shop/l", 6);
    b.manager.set_static(vec![spec(Origin::Static, "a")], b.now);
    assert!(b.add(spec(Origin::Live, "l")).try_recv().unwrap().unwrap().enrolled.is_some());
    assert_eq!(b.node.0.borrow().saved, ["l"]);
    b.check(&["enrol a as 5 at [10.0.0.2]", "enrol l as 6 at [10.0.0.2]"], &[("a", true, ""), ("l", true, "")]);
    b.node.0.borrow_mut().places.clear();
    b.step(SWEEP);
    b.check(&["withdraw a", "withdraw l"], &[("a", false, "its namespace is not there")]);
    assert!(b.node.0.borrow().saved.is_empty());
}

#[test]
fn a_restart_under_the_same_path_is_another_instance() {
    let mut b = Bench::new();
    b.place("/ns/a", 1);
    b.admit("shop/a", 5);
    b.manager.set_static(vec![spec(Origin::Static, "a")], b.now);
    b.place("/ns/a", 2);
    b.step(SWEEP);
    b.check(&["enrol a as 5 at [10.0.0.2]", "withdraw a", "enrol a as 5 at [10.0.0.2]"], &[("a", true, "")]);
    // The service was declared anew, under another number.
    b.admit("shop/a", 9);
    b.step(SWEEP);
    b.check(&["withdraw a", "enrol a as 9 at [10.0.0.2]"], &[("a", true, "")]);
}

#[test]
fn a_refused_or_expired_identity_is_withdrawn() {
    let mut b = Bench::new();
    b.place("/ns/a", 1);
    b.admit("shop/a", 5);
    b.manager.set_static(vec![spec(Origin::Static, "a")], b.now);
    b.manager.set_refused(HashMap::from([("a".parse().unwrap(), "not on this node".to_owned())]), b.now);
    b.check(&["enrol a as 5 at [10.0.0.2]", "withdraw a"], &[("a", false, "the IAM bridge refuses it: not on this node")]);
    b.manager.set_refused(HashMap::new(), b.now);
    b.check(&["enrol a as 5 at [10.0.0.2]"], &[("a", true, "")]);
    b.node.0.borrow_mut().services.clear();
    b.step(SWEEP);
    b.check(&["withdraw a"], &[("a", false, "it has no SVID yet")]);
}

#[test]
fn an_added_workload_is_answered_when_enrolled_or_given_up() {
    let mut b = Bench::new();
    assert!(matches!(b.add(spec(Origin::Live, "l")).try_recv().unwrap(), Err(AddError::Absent { .. })));
    b.place("/ns/l", 2);
    let mut answer = b.add(spec(Origin::Live, "l"));
    let mut again = b.add(spec(Origin::Live, "l"));
    b.step(SWEEP);
    assert!(answer.try_recv().is_err());
    b.admit("shop/l", 6);
    b.step(SWEEP);
    assert!(answer.try_recv().unwrap().is_ok() && again.try_recv().unwrap().is_ok());

    b.place("/ns/k", 3);
    let mut late = b.add(spec(Origin::Live, "k"));
    b.step(Duration::from_secs(11));
    let error = late.try_recv().unwrap().unwrap_err();
    assert!(matches!(&error, AddError::Timeout { problem, .. } if problem == "it has no SVID yet"), "{error}");
    b.check(&["enrol l as 6 at [10.0.0.2]"], &[("l", true, "")]);

    b.place("/ns/j", 4);
    drop(b.add(spec(Origin::Live, "j")));
    b.step(SWEEP);
    b.check(&[], &[("l", true, "")]);
    assert!(b.manager.remove(&"l".parse().unwrap()));
    assert!(!b.manager.remove(&"l".parse().unwrap()));
    b.check(&["withdraw l"], &[]);
}

#[test]
fn the_kernel_is_read_back_and_repaired_and_addresses_are_followed() {
    let mut b = Bench::new();
    b.place("/ns/a", 1);
    b.admit("shop/a", 5);
    b.manager.set_static(vec![spec(Origin::Static, "a")], b.now);
    b.node.0.borrow_mut().missing = Some("WORKLOADS".into());
    b.step(limits::READ_BACK);
    b.check(&["enrol a as 5 at [10.0.0.2]", "enrol a as 5 at [10.0.0.2]"], &[("a", true, "")]);
    b.node.0.borrow_mut().addresses = vec!["10.0.0.3".parse().unwrap()];
    b.step(limits::READ_BACK);
    b.check(&["enrol a as 5 at [10.0.0.3]"], &[("a", true, "")]);
    b.node.0.borrow_mut().missing = Some("NETNS".into());
    b.node.0.borrow_mut().broken = Some("table NETNS is full".into());
    b.step(limits::READ_BACK);
    b.check(&["withdraw a"], &[("a", false, "table NETNS is full")]);
    b.node.0.borrow_mut().broken = None;
    b.step(Duration::from_secs(1));
    b.check(&["enrol a as 5 at [10.0.0.3]"], &[("a", true, "")]);
}

#[test]
fn a_failed_enrolment_is_undone_and_tried_again_later() {
    let mut b = Bench::new();
    b.place("/ns/a", 1);
    b.admit("shop/a", 5);
    b.node.0.borrow_mut().broken = Some("table WORKLOADS is full".into());
    b.manager.set_static(vec![spec(Origin::Static, "a")], b.now);
    b.step(SWEEP);
    b.check(&["withdraw a"], &[("a", false, "table WORKLOADS is full")]);
    b.node.0.borrow_mut().broken = None;
    b.step(Duration::from_secs(1));
    b.check(&["enrol a as 5 at [10.0.0.2]"], &[("a", true, "")]);
}

#[test]
fn another_instance_is_tried_at_once_after_one_that_failed() {
    let mut b = Bench::new();
    b.place("/ns/a", 1);
    b.admit("shop/a", 5);
    b.node.0.borrow_mut().broken = Some("its process ended".into());
    b.manager.set_static(vec![spec(Origin::Static, "a")], b.now);
    b.check(&["withdraw a"], &[("a", false, "its process ended")]);
    b.node.0.borrow_mut().broken = None;
    b.step(SWEEP);
    b.check(&[], &[("a", false, "its process ended")]);
    b.place("/ns/a", 2);
    b.step(SWEEP);
    b.check(&["enrol a as 5 at [10.0.0.2]"], &[("a", true, "")]);
}

#[test]
fn several_workloads_live_in_one_namespace_and_go_one_by_one() {
    let mut b = Bench::new();
    b.place("/ns/a", 1);
    b.admit("shop/a", 5);
    b.place("/ns/b", 1);
    b.admit("shop/b", 6);
    b.manager.set_static(vec![spec(Origin::Static, "a"), spec(Origin::Static, "b")], b.now);
    b.check(&["enrol a as 5 at [10.0.0.2]", "enrol b as 6 at [10.0.0.2]"], &[("a", true, ""), ("b", true, "")]);
    b.manager.set_static(vec![spec(Origin::Static, "b")], b.now);
    b.check(&["withdraw a"], &[("b", true, "")]);
}

#[test]
fn the_file_replaces_all_static_workloads_and_no_live_one() {
    let mut b = Bench::new();
    b.place("/ns/a", 1);
    b.admit("shop/a", 5);
    b.place("/ns/l", 2);
    b.admit("shop/l", 6);
    b.manager.set_static(vec![spec(Origin::Static, "a")], b.now);
    let _answer = b.add(spec(Origin::Live, "l"));
    b.node.0.borrow_mut().done.clear();
    let mut other = spec(Origin::Static, "b");
    other.cgroup = "/cg/m/l".into();
    let refused = b.manager.set_static(vec![other], b.now);
    assert!(refused[0].contains("field cgroup"), "{refused:?}");
    b.check(&["withdraw a"], &[("l", true, "")]);
}
