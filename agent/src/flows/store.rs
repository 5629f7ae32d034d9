//! The last flows of this node, in memory, bounded; and everyone who follows them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::broadcast;
use weft_types::{FlowId, ServiceRef, Verdict};

use super::{
    record::{Record, Side},
    request::RequestRecord,
};
use crate::limits;

#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    followers: broadcast::Sender<Flow>,
}

/// What is kept under an id; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// One end of a connection.
    Connection(Arc<Record>),
    Request(Arc<RequestRecord>),
}

/// Which flows somebody wants to see.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub from: Option<From>,
    pub to: Option<ServiceRef>,
    pub verdict: Option<Verdict>,
    /// Unix milliseconds.
    pub since_ms: i64,
}

/// Whose flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    Service(ServiceRef),
    User(String),
}

#[derive(Debug, Default)]
struct Inner {
    /// By order of arrival.
    records: BTreeMap<u64, Flow>,
    places: HashMap<(FlowId, Side), u64>,
    /// Places of requests, the oldest first.
    requests: VecDeque<u64>,
    next: u64,
    /// How many have been forgotten at the bound.
    forgotten: u64,
    max: usize,
    /// Of these.
    requests_max: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self::with_capacity(limits::FLOWS_MAX, limits::REQUESTS_MAX, limits::FOLLOWER_LAG_MAX)
    }
}

impl Store {
    fn with_capacity(max: usize, requests_max: usize, lag: usize) -> Self {
        Self { inner: Mutex::new(Inner { max, requests_max, ..Inner::default() }), followers: broadcast::channel(lag).0 }
    }

    /// Keeps a new flow, or merges it into what is known of its side; followers see the result. At the bound the oldest is forgotten.
    pub fn record(&self, record: Record) {
        let mut inner = self.lock();
        let kept = inner.keep(record);
        // Sent under the lock, so that followers see the changes of one flow in order. Nobody listening is no error.
        let _ = self.followers.send(Flow::Connection(kept));
    }

    /// Keeps a request; `false`: its id is taken, and what is kept under it stays as it is. At the bound of requests their oldest is forgotten, so
    /// that however many people come, connections are not forgotten for them.
    pub fn record_request(&self, request: RequestRecord) -> bool {
        let mut inner = self.lock();
        if [Side::Out, Side::In, Side::Request].iter().any(|side| inner.places.contains_key(&(request.id, *side))) {
            return false;
        }
        let kept = Flow::Request(Arc::new(request));
        inner.add(kept.clone());
        let _ = self.followers.send(kept);
        true
    }

    /// The flow of an id; where this node holds both its ends, the one that denied, else the caller's.
    pub fn get(&self, id: FlowId) -> Option<Flow> {
        let inner = self.lock();
        let side = |side| inner.places.get(&(id, side)).and_then(|place| inner.records.get(place)).cloned();
        match (side(Side::Out), side(Side::In)) {
            (Some(out), Some(inward)) if out.verdict() == Verdict::Allow && inward.verdict() == Verdict::Deny => Some(inward),
            (out, inward) => out.or(inward).or_else(|| side(Side::Request)),
        }
    }

    /// The newest `last` (0: all) that pass the filter, oldest first; with new ones from that moment on, none lost and none twice, if `follow`.
    pub fn select(&self, filter: &Filter, last: usize, follow: bool) -> (Vec<Flow>, Option<broadcast::Receiver<Flow>>) {
        let inner = self.lock();
        let most = if last == 0 { usize::MAX } else { last };
        let mut found: Vec<_> = inner.records.values().rev().filter(|r| filter.passes(r)).take(most).cloned().collect();
        found.reverse();
        (found, follow.then(|| self.followers.subscribe()))
    }

    pub fn kept(&self) -> usize {
        self.lock().records.len()
    }

    pub fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Inner {
    fn keep(&mut self, record: Record) -> Arc<Record> {
        let key = (record.id, record.side());
        if let Some(Flow::Connection(known)) = self.places.get(&key).and_then(|place| self.records.get_mut(place)) {
            Arc::make_mut(known).merge(record);
            return known.clone();
        }
        let kept = Arc::new(record);
        self.add(Flow::Connection(kept.clone()));
        kept
    }

    fn add(&mut self, flow: Flow) {
        let request = matches!(flow, Flow::Request(_));
        if request && self.requests.len() >= self.requests_max {
            let oldest = self.requests.front().copied();
            oldest.into_iter().for_each(|place| self.forget(place));
        }
        if self.records.len() >= self.max
            && let Some((&oldest, _)) = self.records.first_key_value()
        {
            self.forget(oldest);
        }
        self.places.insert(flow.key(), self.next);
        if request {
            self.requests.push_back(self.next);
        }
        self.records.insert(self.next, flow);
        self.next += 1;
    }

    /// `place` is the oldest of all, or the oldest request.
    fn forget(&mut self, place: u64) {
        let Some(flow) = self.records.remove(&place) else { return };
        self.places.remove(&flow.key());
        if self.requests.front() == Some(&place) {
            self.requests.pop_front();
        }
        self.forgotten += 1;
    }
}

impl Flow {
    fn key(&self) -> (FlowId, Side) {
        match self {
            Self::Connection(r) => (r.id, r.side()),
            Self::Request(r) => (r.id, Side::Request),
        }
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::Connection(r) => r.verdict,
            Self::Request(r) => r.verdict,
        }
    }
}

impl Filter {
    pub fn passes(&self, flow: &Flow) -> bool {
        let (destination, at_ms) = match flow {
            Flow::Connection(r) => (&r.destination, r.at_ms),
            Flow::Request(r) => (&r.destination, r.at_ms),
        };
        self.from.as_ref().is_none_or(|from| from.sent(flow))
            && self.to.as_ref().is_none_or(|to| destination.as_ref().is_some_and(|p| p.service == *to))
            && self.verdict.is_none_or(|v| flow.verdict() == v)
            && at_ms >= self.since_ms
    }
}

impl From {
    fn sent(&self, flow: &Flow) -> bool {
        match (self, flow) {
            (Self::Service(service), Flow::Connection(r)) => r.source.as_ref().is_some_and(|p| p.service == *service),
            (Self::User(user), Flow::Request(r)) => r.user.as_ref() == Some(user),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_policy::Party;
    use weft_types::{Path, Protocol, Reason, Revision, RuleId, ServiceId};

    use super::*;
    use crate::flows::record::Point;

    fn party(id: u32, name: &str) -> Option<Party> {
        Some(Party {
            id: ServiceId(id),
            service: name.parse().unwrap(),
            identity: format!("spiffe://corp.example/ns/shop/sa/x{id}").parse().unwrap(),
            owner: "team".parse().unwrap(),
            declared_at: "x.yaml:1".into(),
        })
    }

    fn kernel(id: u64) -> Record {
        Record {
            id: FlowId(id),
            at_ms: 1000 + id as i64,
            point: Point::KernelOut,
            verdict: Verdict::Allow,
            reason: Reason::Grant,
            revision: Revision(3),
            rule: RuleId(5),
            rule_declared_at: Some("orders.yaml:9".into()),
            source: party(1, "shop/web"),
            destination: party(2, "shop/orders"),
            address: Some("100.64.0.1".parse().unwrap()),
            port: 80,
            service_port: 80,
            protocol: Protocol::Tcp,
            path: Some(Path::Captured),
            pid: 42,
            command: "curl".into(),
            workload: Some("web".parse().unwrap()),
            bytes_out: 0,
            bytes_in: 0,
            duration_us: 0,
            detail: String::new(),
            key_exchange: String::new(),
        }
    }

    fn proxy(id: u64, reason: Reason) -> Record {
        Record {
            at_ms: 2000,
            point: Point::ProxyOut,
            verdict: reason.verdict(),
            reason,
            rule: RuleId(0),
            rule_declared_at: None,
            pid: 0,
            command: String::new(),
            bytes_out: 10,
            bytes_in: 20,
            duration_us: 30,
            detail: "connection reset".into(),
            key_exchange: "X25519MLKEM768".into(),
            ..kernel(id)
        }
    }

    pub(crate) fn request(id: u64, user: &str) -> RequestRecord {
        RequestRecord {
            id: FlowId(id),
            at_ms: 1000 + id as i64,
            verdict: Verdict::Allow,
            reason: "group".into(),
            revision: Revision(3),
            rule: RuleId(8),
            rule_declared_at: None,
            destination: party(2, "shop/orders"),
            address: None,
            port: 0,
            service_port: 80,
            workload: "gateway".parse().unwrap(),
            bytes_out: 0,
            bytes_in: 0,
            duration_us: 0,
            detail: String::new(),
            user: Some(user.to_owned()).filter(|u| !u.is_empty()),
            groups: vec![],
            method: "GET".into(),
            host: "shop.corp.example".into(),
            path: "/".into(),
            status: 200,
            missing: vec![],
        }
    }

    fn connection(store: &Store, id: u64) -> Option<Arc<Record>> {
        match store.get(FlowId(id))? {
            Flow::Connection(r) => Some(r),
            Flow::Request(r) => panic!("{r:?}"),
        }
    }

    fn ids(flows: &[Flow]) -> Vec<u64> {
        flows.iter().map(|f| f.key().0.0).collect()
    }

    #[test]
    fn a_request_never_stands_in_for_another_flow() {
        let store = Store::default();
        store.record(kernel(1));
        assert!(store.record_request(request(2, "alice")), "the control");
        for id in [1, 2] {
            let before = store.get(FlowId(id)).unwrap();
            assert!(!store.record_request(request(id, "mallory")));
            assert_eq!(store.get(FlowId(id)), Some(before));
        }
        // What the kernel saw under an id that a request took is shown all the same.
        store.record(kernel(2));
        assert_eq!((connection(&store, 2).unwrap().pid, store.kept()), (42, 3));
    }

    #[test]
    fn requests_make_room_for_requests_only() {
        let store = Store::with_capacity(5, 2, 8);
        store.record(kernel(1));
        (2..=9).for_each(|id| assert!(store.record_request(request(id, "alice"))));
        assert_eq!((ids(&store.select(&Filter::default(), 0, false).0), store.forgotten()), (vec![1, 8, 9], 6));
        // The oldest of all goes where all are too many, a request too.
        (10..=13).for_each(|id| store.record(kernel(id)));
        assert_eq!(ids(&store.select(&Filter::default(), 0, false).0), [9, 10, 11, 12, 13]);
        assert!(store.record_request(request(2, "alice")), "what is forgotten has no id any more");
        assert_eq!(ids(&store.select(&Filter::default(), 0, false).0), [10, 11, 12, 13, 2]);
        (20..=24).for_each(|id| store.record(kernel(id)));
        assert!(store.lock().requests.is_empty());
    }

    #[test]
    fn kernel_and_proxy_make_one_record_in_either_order() {
        for swap in [false, true] {
            let store = Store::default();
            let mut parts = vec![kernel(1), proxy(1, Reason::Grant)];
            if swap {
                parts.reverse();
            }
            parts.into_iter().for_each(|p| store.record(p));
            let r = connection(&store, 1).unwrap();
            assert_eq!(store.kept(), 1);
            assert_eq!((r.point, r.pid, r.rule, r.at_ms, r.bytes_in), (Point::KernelOut, 42, RuleId(5), 1001, 20));
            assert_eq!((r.key_exchange.as_str(), r.path), ("X25519MLKEM768", Some(Path::Captured)));
        }
    }

    #[test]
    fn the_denial_of_a_proxy_overrules_the_kernel() {
        for swap in [false, true] {
            let store = Store::default();
            let mut parts = vec![kernel(1), proxy(1, Reason::PeerRefused)];
            if swap {
                parts.reverse();
            }
            parts.into_iter().for_each(|p| store.record(p));
            let r = connection(&store, 1).unwrap();
            assert_eq!((r.point, r.verdict, r.reason, r.path), (Point::ProxyOut, Verdict::Deny, Reason::PeerRefused, None));
            assert_eq!((r.pid, r.rule), (42, RuleId(5)));
        }
    }

    #[test]
    fn both_ends_on_one_node_are_two_records_and_the_denial_is_shown() {
        let store = Store::default();
        store.record(kernel(1));
        store.record(Record { point: Point::ProxyIn, ..proxy(1, Reason::NoGrant) });
        assert_eq!(store.kept(), 2);
        assert_eq!(connection(&store, 1).unwrap().point, Point::ProxyIn);
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_bound() {
        let store = Store::with_capacity(3, 3, 8);
        (1..=5).for_each(|id| store.record(kernel(id)));
        assert_eq!(store.kept(), 3);
        assert!(store.get(FlowId(2)).is_none());
        assert!(store.get(FlowId(3)).is_some());
        // A forgotten one that comes again is new, not merged into a stranger.
        store.record(proxy(1, Reason::Grant));
        assert_eq!(connection(&store, 1).unwrap().pid, 0);
    }

    #[test]
    fn filters_choose_and_the_newest_come_oldest_first() {
        let store = Store::default();
        (1..=4).for_each(|id| store.record(kernel(id)));
        store.record(proxy(4, Reason::UpstreamConnect));
        let check = |filter: Filter, last, expect: &[u64]| {
            assert_eq!(ids(&store.select(&filter, last, false).0), expect);
        };
        let from = |name: &str| Filter { from: Some(From::Service(name.parse().unwrap())), ..Filter::default() };
        check(Filter::default(), 0, &[1, 2, 3, 4]);
        check(Filter::default(), 2, &[3, 4]);
        check(Filter { verdict: Some(Verdict::Deny), ..Filter::default() }, 0, &[4]);
        check(Filter { since_ms: 1003, ..from("shop/web") }, 0, &[3, 4]);
        check(Filter { to: Some("shop/web".parse().unwrap()), ..Filter::default() }, 0, &[]);
        // Whom a person is, no service is, and the other way round.
        for (id, user) in [(5, "alice"), (6, "bob"), (7, "")] {
            assert!(store.record_request(request(id, user)));
        }
        let of = |user: &str| Filter { from: Some(From::User(user.into())), ..Filter::default() };
        check(of("alice"), 0, &[5]);
        check(of(""), 0, &[]);
        check(from("shop/web"), 0, &[1, 2, 3, 4]);
        check(Filter { to: Some("shop/orders".parse().unwrap()), verdict: Some(Verdict::Allow), since_ms: 1004, ..Filter::default() }, 0, &[5, 6, 7]);
    }

    #[test]
    fn a_follower_sees_each_change_and_learns_what_it_missed() {
        let store = Store::with_capacity(100, 100, 2);
        store.record(kernel(1));
        let (old, new) = store.select(&Filter::default(), 0, true);
        let mut new = new.unwrap();
        assert_eq!(old.len(), 1);
        store.record(kernel(2));
        store.record(proxy(2, Reason::Grant));
        for expect in [0, 30] {
            assert!(matches!(new.try_recv(), Ok(Flow::Connection(r)) if r.duration_us == expect));
        }
        (3..=5).for_each(|id| store.record(kernel(id)));
        assert!(matches!(new.try_recv(), Err(broadcast::error::TryRecvError::Lagged(1))));
    }
}
