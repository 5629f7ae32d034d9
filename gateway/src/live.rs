//! What is open and was let in: WebSockets, event streams, long answers. Each ends when what let it in is gone: the session, the group, the route.
//!
//! A request is judged before it is registered here, and what it was judged by may be gone in between: so ends are remembered for a while, and a
//! revision that came later is asked again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio_util::sync::CancellationToken;
use weft_policy::Who;
use weft_types::{Revision, ServiceId};

use crate::{
    limits,
    sso::{Person, SessionId},
    world::{World, Worlds},
};

/// What is known of one exchange.
#[derive(Clone, Debug)]
pub struct Held {
    pub session: Option<SessionId>,
    /// `None`: nobody who is known.
    pub person: Option<Person>,
    /// When the token that says so ends, in Unix seconds.
    pub until: Option<u64>,
    pub method: String,
    pub host: String,
    pub path: String,
    pub service: ServiceId,
    /// What it was judged by.
    pub revision: Revision,
}

pub struct Live {
    worlds: Worlds,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    held: HashMap<u64, (Held, CancellationToken)>,
    by_session: HashMap<SessionId, Vec<u64>>,
    /// What became of sessions lately; `None`: it has ended.
    recent: HashMap<SessionId, (Instant, Option<Person>)>,
    /// When those were last forgotten that are recent no more.
    swept: Option<Instant>,
}

/// One exchange, registered until this is dropped.
pub struct Lease {
    live: Arc<Live>,
    number: u64,
    /// Cancelled when the exchange has to end.
    pub ended: CancellationToken,
}

impl Live {
    pub fn new(worlds: Worlds) -> Arc<Self> {
        Arc::new(Self { worlds, inner: Mutex::default() })
    }

    /// Registers an exchange; its token may be cancelled at once.
    pub fn hold(self: &Arc<Self>, mut held: Held) -> Lease {
        let ended = CancellationToken::new();
        let mut inner = self.lock();
        // Under the lock: a revision that comes now finds this exchange registered.
        let world = self.worlds.borrow().clone();
        let became = held.session.and_then(|session| inner.recent.get(&session)).map(|(_, became)| became.clone());
        let is_over = became.as_ref().is_some_and(Option::is_none);
        let is_other = became.is_some() || world.as_ref().is_none_or(|world| world.revision() != held.revision);
        if let Some(person) = became {
            held.person = person;
        }
        if is_over || is_other && !may(world.as_deref(), &held) {
            ended.cancel();
        }
        inner.next += 1;
        let number = inner.next;
        if let Some(session) = held.session {
            inner.by_session.entry(session).or_default().push(number);
        }
        inner.held.insert(number, (held, ended.clone()));
        drop(inner);
        Lease { live: Arc::clone(self), number, ended }
    }

    pub fn count(&self) -> usize {
        self.lock().held.len()
    }

    /// Another revision is in force: what it would not let in ends.
    pub fn revised(&self) -> usize {
        let inner = self.lock();
        let world = self.worlds.borrow().clone();
        let over = inner.held.values().filter(|(held, token)| !token.is_cancelled() && !may(world.as_deref(), held));
        over.map(|(_, token)| token.cancel()).count()
    }

    /// A session has ended (`None`), or its person may be another than before.
    pub fn session_is(&self, session: SessionId, person: Option<&Person>) -> usize {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let world = self.worlds.borrow().clone();
        inner.remember(session, person);
        let mut ended = 0;
        for number in inner.by_session.get(&session).into_iter().flatten() {
            let Some((held, token)) = inner.held.get_mut(number) else { continue };
            held.person = person.cloned();
            if !token.is_cancelled() && (person.is_none() || !may(world.as_deref(), held)) {
                token.cancel();
                ended += 1;
            }
        }
        ended
    }

    /// What was let in by a token that has ended since ends too.
    pub fn expire(&self, now: u64) -> usize {
        let inner = self.lock();
        let over = inner.held.values().filter(|(held, token)| !token.is_cancelled() && held.until.is_some_and(|until| now >= until));
        over.map(|(_, token)| token.cancel()).count()
    }

    /// Sessions of which something is open, for when some of their ends may have been missed.
    pub fn sessions(&self) -> Vec<SessionId> {
        self.lock().by_session.keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remember(&mut self, session: SessionId, person: Option<&Person>) {
        let now = Instant::now();
        if self.swept.is_none_or(|at| now.duration_since(at) >= limits::ENDS_REMEMBERED) {
            self.recent.retain(|_, (at, _)| now.duration_since(*at) < limits::ENDS_REMEMBERED);
            self.swept = Some(now);
        }
        self.recent.insert(session, (now, person.cloned()));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut guard = self.live.lock();
        let inner = &mut *guard;
        let Some((held, _)) = inner.held.remove(&self.number) else { return };
        if let Some(session) = held.session
            && let Some(numbers) = inner.by_session.get_mut(&session)
        {
            numbers.retain(|number| *number != self.number);
            if numbers.is_empty() {
                inner.by_session.remove(&session);
            }
        }
    }
}

/// Whether this revision would let it in, to the same service. Without one nothing is exposed.
fn may(world: Option<&World>, held: &Held) -> bool {
    let who = held.person.as_ref().map_or(Who::Anonymous, |person| Who::Person { name: &person.user, groups: &person.groups });
    let Some(index) = world.map(World::index) else { return false };
    index.route(&held.host, &held.path).is_some_and(|route| route.service == held.service && index.admit(route, who, &held.method).is_allowed())
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::world::tests::world;

    const SALES: &str = "{ groups: [ sales ] }";

    fn person(group: &str) -> Person {
        Person { provider: "p".into(), subject: "1".into(), user: "alice".into(), email: None, name: None, groups: vec![group.to_owned()] }
    }

    fn held(session: u8, world: &World) -> Held {
        let service = world.index().by_ref(&"shop/orders".parse().unwrap()).unwrap().id;
        let (method, host, path) = ("GET".to_owned(), "orders.corp.example".to_owned(), "/".to_owned());
        let revision = world.revision();
        Held { session: Some(SessionId([session; 16])), person: Some(person("sales")), until: None, method, host, path, service, revision }
    }

    /// A request is judged by `before`; what `then` does is done before it is registered.
    #[track_caller]
    fn check(then: impl FnOnce(&watch::Sender<Option<Arc<World>>>, &Live), ends: bool) {
        let before = world(1, SALES, &[], &[]);
        let (worlds, current) = watch::channel(Some(Arc::clone(&before)));
        let live = Live::new(current);
        then(&worlds, &live);
        let lease = live.hold(held(1, &before));
        assert_eq!(lease.ended.is_cancelled(), ends);
        assert_eq!((live.count(), live.sessions().len()), (1, 1));
        drop(lease);
        assert_eq!((live.count(), live.sessions().len()), (0, 0));
    }

    #[test]
    fn what_happened_between_judgement_and_registration_counts() {
        let put = |worlds: &watch::Sender<_>, access: &str| drop(worlds.send_replace(Some(world(2, access, &[], &[]))));
        check(|_, _| {}, false);
        check(|worlds, _| put(worlds, SALES), false);
        check(|worlds, _| put(worlds, "{ groups: [ ops ] }"), true);
        check(|worlds, _| drop(worlds.send_replace(None)), true);
        let is = |session: u8, group: Option<&'static str>| {
            move |_: &watch::Sender<_>, live: &Live| {
                live.session_is(SessionId([session; 16]), group.map(person).as_ref());
            }
        };
        check(is(1, None), true);
        check(is(2, None), false);
        check(is(1, Some("kitchen")), true);
        check(is(1, Some("sales")), false);
    }

    #[test]
    fn what_is_registered_ends_once_and_by_its_own_reason() {
        let first = world(1, SALES, &[], &[]);
        let (worlds, current) = watch::channel(Some(Arc::clone(&first)));
        let live = Live::new(current);
        let (one, two) = (live.hold(held(1, &first)), live.hold(held(2, &first)));
        assert_eq!((live.revised(), live.session_is(SessionId([1; 16]), Some(&person("sales")))), (0, 0));
        assert_eq!((live.session_is(SessionId([1; 16]), None), live.session_is(SessionId([1; 16]), None)), (1, 0));
        assert!(one.ended.is_cancelled() && !two.ended.is_cancelled());
        let by_token = live.hold(Held { session: None, until: Some(100), ..held(3, &first) });
        assert_eq!((live.expire(99), live.expire(100), by_token.ended.is_cancelled()), (0, 1, true));
        worlds.send_replace(Some(world(2, "{ groups: [ ops ] }", &[], &[])));
        assert_eq!((live.revised(), live.revised(), two.ended.is_cancelled()), (1, 0, true));
    }
}
