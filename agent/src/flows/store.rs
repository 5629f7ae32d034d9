//! The last flows of this node, in memory, bounded; and everyone who follows them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::broadcast;
use weft_types::{FlowId, ServiceRef, Verdict};

use super::record::{Record, Side};
use crate::limits;

#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    followers: broadcast::Sender<Arc<Record>>,
}

/// Which flows somebody wants to see.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub from: Option<ServiceRef>,
    pub to: Option<ServiceRef>,
    pub verdict: Option<Verdict>,
    /// Unix milliseconds.
    pub since_ms: i64,
}

#[derive(Debug, Default)]
struct Inner {
    /// By order of arrival.
    records: BTreeMap<u64, Arc<Record>>,
    places: HashMap<(FlowId, Side), u64>,
    next: u64,
    /// How many have been forgotten at the bound.
    forgotten: u64,
    max: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self::with_capacity(limits::FLOWS_MAX, limits::FOLLOWER_LAG_MAX)
    }
}

impl Store {
    fn with_capacity(max: usize, lag: usize) -> Self {
        Self { inner: Mutex::new(Inner { max, ..Inner::default() }), followers: broadcast::channel(lag).0 }
    }

    /// Keeps a new flow, or merges it into what is known of its side; followers see the result. At the bound the oldest is forgotten.
    pub fn record(&self, record: Record) {
        let mut inner = self.lock();
        let kept = inner.keep(record);
        // Sent under the lock, so that followers see the changes of one flow in order. Nobody listening is no error.
        let _ = self.followers.send(kept);
    }

    /// The flow of an id; where this node holds both its ends, the one that denied, else the caller's.
    pub fn get(&self, id: FlowId) -> Option<Arc<Record>> {
        let inner = self.lock();
        let side = |side| inner.places.get(&(id, side)).and_then(|place| inner.records.get(place)).cloned();
        match (side(Side::Out), side(Side::In)) {
            (Some(out), Some(inward)) if out.verdict == Verdict::Allow && inward.verdict == Verdict::Deny => Some(inward),
            (out, inward) => out.or(inward),
        }
    }

    /// The newest `last` (0: all) that pass the filter, oldest first; with new ones from that moment on, none lost and none twice, if `follow`.
    pub fn select(&self, filter: &Filter, last: usize, follow: bool) -> (Vec<Arc<Record>>, Option<broadcast::Receiver<Arc<Record>>>) {
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
        if let Some(known) = self.places.get(&key).and_then(|place| self.records.get_mut(place)) {
            Arc::make_mut(known).merge(record);
            return known.clone();
        }
        if self.records.len() >= self.max
            && let Some((_, oldest)) = self.records.pop_first()
        {
            self.places.remove(&(oldest.id, oldest.side()));
            self.forgotten += 1;
        }
        let kept = Arc::new(record);
        self.places.insert(key, self.next);
        self.records.insert(self.next, kept.clone());
        self.next += 1;
        kept
    }
}

impl Filter {
    pub fn passes(&self, r: &Record) -> bool {
        self.from.as_ref().is_none_or(|from| r.source.as_ref().is_some_and(|p| p.service == *from))
            && self.to.as_ref().is_none_or(|to| r.destination.as_ref().is_some_and(|p| p.service == *to))
            && self.verdict.is_none_or(|v| r.verdict == v)
            && r.at_ms >= self.since_ms
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

    #[test]
    fn kernel_and_proxy_make_one_record_in_either_order() {
        for swap in [false, true] {
            let store = Store::default();
            let mut parts = vec![kernel(1), proxy(1, Reason::Grant)];
            if swap {
                parts.reverse();
            }
            parts.into_iter().for_each(|p| store.record(p));
            let r = store.get(FlowId(1)).unwrap();
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
            let r = store.get(FlowId(1)).unwrap();
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
        assert_eq!(store.get(FlowId(1)).unwrap().point, Point::ProxyIn);
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_bound() {
        let store = Store::with_capacity(3, 8);
        (1..=5).for_each(|id| store.record(kernel(id)));
        assert_eq!(store.kept(), 3);
        assert!(store.get(FlowId(2)).is_none());
        assert!(store.get(FlowId(3)).is_some());
        // A forgotten one that comes again is new, not merged into a stranger.
        store.record(proxy(1, Reason::Grant));
        assert_eq!(store.get(FlowId(1)).unwrap().pid, 0);
    }

    #[test]
    fn filters_choose_and_the_newest_come_oldest_first() {
        let store = Store::default();
        (1..=4).for_each(|id| store.record(kernel(id)));
        store.record(proxy(4, Reason::UpstreamConnect));
        let check = |filter: Filter, last, expect: &[u64]| {
            let ids: Vec<u64> = store.select(&filter, last, false).0.iter().map(|r| r.id.0).collect();
            assert_eq!(ids, expect);
        };
        check(Filter::default(), 0, &[1, 2, 3, 4]);
        check(Filter::default(), 2, &[3, 4]);
        check(Filter { verdict: Some(Verdict::Deny), ..Filter::default() }, 0, &[4]);
        check(Filter { from: Some("shop/web".parse().unwrap()), since_ms: 1003, ..Filter::default() }, 0, &[3, 4]);
        check(Filter { to: Some("shop/web".parse().unwrap()), ..Filter::default() }, 0, &[]);
    }

    #[test]
    fn a_follower_sees_each_change_and_learns_what_it_missed() {
        let store = Store::with_capacity(100, 2);
        store.record(kernel(1));
        let (old, new) = store.select(&Filter::default(), 0, true);
        let mut new = new.unwrap();
        assert_eq!(old.len(), 1);
        store.record(kernel(2));
        store.record(proxy(2, Reason::Grant));
        assert_eq!(new.try_recv().unwrap().duration_us, 0);
        assert_eq!(new.try_recv().unwrap().duration_us, 30);
        (3..=5).for_each(|id| store.record(kernel(id)));
        assert!(matches!(new.try_recv(), Err(broadcast::error::TryRecvError::Lagged(1))));
    }
}
