//! All sessions: given, found, ended, and whoever holds something of them told. The database is the truth; memory only saves reading it again.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::broadcast;

use crate::{
    limits, random,
    sso::{
        claims::Person,
        opaque::{Opaque, OpaqueHash},
        session::{Lifetimes, Session, SessionId, Tokens, is_over},
        store::{SessionRow, Store, StoreError, TicketRow},
    },
};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not used for too long, or too old.
    Expired,
    /// Its person signed out.
    SignedOut,
    /// Its person, or an operator, ended it from elsewhere.
    Revoked,
    /// The provider signed its person out.
    ProviderLogout,
    /// The provider refused to go on with it.
    Refused,
    /// Its person has too many, and it was used least recently.
    Crowded,
}

/// What happened to a session. Whoever holds a stream of it closes it on an end (WebSockets with 1008), and judges it again on a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    Ended(SessionId, End),
    /// Its person's groups or names are others than before.
    Changed(SessionId),
}

/// What a subscriber learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    One(SessionEvent),
    /// Too far behind: ask about every session that is held, with [`Sessions::get`].
    Missed,
}

/// A subscription to what happens to sessions.
pub struct Notices(broadcast::Receiver<SessionEvent>);

impl Notices {
    /// `None`: there are no sessions any more, the gateway ends.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(event) => Some(Notice::One(event)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Notice::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// One line of the page that shows a person their own sessions.
#[derive(Clone, Debug)]
pub struct Listed {
    pub session: Arc<Session>,
    pub last_seen: u64,
}

pub struct Sessions {
    store: Mutex<Store>,
    cache: Mutex<Cache>,
    lifetimes: Lifetimes,
    events: broadcast::Sender<SessionEvent>,
}

/// A session in memory. `flight` is held by whoever refreshes it.
pub(crate) struct Live {
    session: Mutex<Arc<Session>>,
    last_seen: AtomicU64,
    stored_seen: AtomicU64,
    pub(crate) flight: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Cache {
    sessions: HashMap<SessionId, Arc<Live>>,
    tickets: HashMap<(OpaqueHash, String), TicketRow>,
}

/// A ticket's session.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) live: Arc<Live>,
    pub(crate) ticket_issued_at: u64,
}

impl Live {
    pub(crate) fn session(&self) -> Arc<Session> {
        Arc::clone(&lock(&self.session))
    }
}

impl Sessions {
    pub(crate) fn new(store: Store, lifetimes: Lifetimes) -> Self {
        let (events, _) = broadcast::channel(limits::EVENTS_KEPT);
        Self { store: Mutex::new(store), cache: Mutex::default(), lifetimes: lifetimes.bounded(), events }
    }

    pub fn subscribe(&self) -> Notices {
        Notices(self.events.subscribe())
    }

    /// Begins a session. Its person's least recently used one ends when there are too many.
    pub(crate) fn begin(&self, person: Person, tokens: Tokens, agent: &str, token_ends_at: Option<u64>, now: u64) -> Result<Arc<Session>, StoreError> {
        let session = Session {
            id: SessionId(random::bytes().map_err(crate::seal::SealError::from)?),
            person,
            created_at: now,
            ends_at: now.saturating_add(self.lifetimes.absolute),
            refreshed_at: now,
            agent: agent.chars().filter(|c| !c.is_control()).take(200).collect(),
            refresh_at: Some(self.refresh_at(token_ends_at, now)),
            tokens,
        };
        let mut store = lock(&self.store);
        let crowded = store.insert(&session)?;
        let session = self.keep(SessionRow { session, last_seen: now }).session();
        drop(store);
        crowded.into_iter().for_each(|id| self.tell_end(id, End::Crowded));
        Ok(session)
    }

    /// Before the access token ends, and not later than configured.
    pub(crate) fn refresh_at(&self, token_ends_at: Option<u64>, now: u64) -> u64 {
        let own = now.saturating_add(self.lifetimes.refresh);
        let token = token_ends_at.map_or(u64::MAX, |ends_at| {
            let life = ends_at.saturating_sub(now);
            ends_at - (life / 2).min(limits::LEEWAY_SECONDS)
        });
        own.min(token)
    }

    /// A new ticket at a host.
    pub(crate) fn give_ticket(&self, session: SessionId, host: &str, now: u64) -> Result<Opaque, StoreError> {
        let ticket = Opaque::generate().map_err(crate::seal::SealError::from)?;
        let mut store = lock(&self.store);
        store.add_ticket(ticket.hash(), session, host, now)?;
        // One of them may have gone to make room.
        lock(&self.cache).tickets.retain(|(_, at), row| row.session != session || at != host);
        Ok(ticket)
    }

    /// A new ticket for a page, if the session was refreshed since the one it came with, and no successor is on its way.
    pub(crate) fn rotate_ticket(&self, found: &Found, host: &str, now: u64) -> Result<Option<Opaque>, StoreError> {
        let session = found.live.session();
        if found.ticket_issued_at >= session.refreshed_at {
            return Ok(None);
        }
        let last = lock(&self.store).last_issued(session.id, host)?;
        if now < last.saturating_add(limits::TICKET_ROTATION_SPACING_SECONDS) {
            return Ok(None);
        }
        self.give_ticket(session.id, host, now).map(Some)
    }

    /// The session of a ticket at a host, when memory knows all of it; `None` says nothing.
    pub(crate) fn find_in_memory(&self, hash: OpaqueHash, host: &str, now: u64) -> Option<Found> {
        let cache = lock(&self.cache);
        let ticket = cache.tickets.get(&(hash, host.to_owned()))?;
        let live = Arc::clone(cache.sessions.get(&ticket.session)?);
        let found = Found { ticket_issued_at: ticket.issued_at, live };
        if !ticket.seen || ticket.is_retired(now) || self.is_over(&found.live, now) {
            return None;
        }
        found.live.last_seen.fetch_max(now, Ordering::Relaxed);
        let stored = found.live.stored_seen.load(Ordering::Relaxed);
        (now < stored.saturating_add(limits::TOUCH_SPACING_SECONDS)).then_some(found)
    }

    /// The session of a ticket at a host. A session that is over ends here.
    pub(crate) fn find(&self, hash: OpaqueHash, host: &str, now: u64) -> Result<Option<Found>, StoreError> {
        let mut store = lock(&self.store);
        let Some(ticket) = store.ticket(hash, host)? else { return Ok(None) };
        if ticket.is_retired(now) {
            return Ok(None);
        }
        let Some(live) = self.load(&store, ticket.session)? else { return Ok(None) };
        if self.is_over(&live, now) {
            drop(store);
            self.end(ticket.session, End::Expired)?;
            return Ok(None);
        }
        live.last_seen.fetch_max(now, Ordering::Relaxed);
        if now >= live.stored_seen.load(Ordering::Relaxed).saturating_add(limits::TOUCH_SPACING_SECONDS) {
            store.touch(ticket.session, now)?;
            live.stored_seen.fetch_max(now, Ordering::Relaxed);
        }
        if !ticket.seen {
            store.seen(hash, &ticket, host, now)?;
            lock(&self.cache).tickets.retain(|(_, at), row| row.session != ticket.session || at != host);
        }
        let found = Found { ticket_issued_at: ticket.issued_at, live };
        let mut cache = lock(&self.cache);
        if cache.tickets.len() >= 2 * limits::SESSIONS_CACHED_MAX {
            cache.tickets.clear();
        }
        cache.tickets.insert((hash, host.to_owned()), TicketRow { seen: true, ..ticket });
        Ok(Some(found))
    }

    /// A session that is not over.
    pub fn get(&self, id: SessionId, now: u64) -> Result<Option<Arc<Session>>, StoreError> {
        Ok(self.live(id, now)?.map(|live| live.session()))
    }

    pub(crate) fn live(&self, id: SessionId, now: u64) -> Result<Option<Arc<Live>>, StoreError> {
        let store = lock(&self.store);
        Ok(self.load(&store, id)?.filter(|live| !self.is_over(live, now)))
    }

    /// A person's sessions, oldest first.
    pub fn of(&self, provider: &str, subject: &str, now: u64) -> Result<Vec<Listed>, StoreError> {
        let store = lock(&self.store);
        let rows = store.of_user(provider, subject)?;
        let live = rows.into_iter().map(|row| self.keep(row)).filter(|live| !self.is_over(live, now));
        Ok(live.map(|live| Listed { session: live.session(), last_seen: live.last_seen.load(Ordering::Relaxed) }).collect())
    }

    /// Ends a session everywhere at once. False: there was none.
    pub fn end(&self, id: SessionId, why: End) -> Result<bool, StoreError> {
        let mut store = lock(&self.store);
        let ended = store.end(id)?;
        self.forget(id);
        drop(store);
        if ended {
            self.tell_end(id, why);
        }
        Ok(ended)
    }

    /// Ends one of a person's own sessions; another's is as if it did not exist.
    pub fn end_own(&self, person: &Person, id: SessionId, why: End, now: u64) -> Result<bool, StoreError> {
        let own = self.of(&person.provider, &person.subject, now)?.iter().any(|listed| listed.session.id == id);
        if own { self.end(id, why) } else { Ok(false) }
    }

    /// Ends what a provider's logout names: its own session `sid`, or all of a person, or both where both are named. Returns how many.
    pub(crate) fn end_by_provider(&self, provider: &str, subject: Option<&str>, sid: Option<&str>) -> Result<usize, StoreError> {
        let rows = {
            let store = lock(&self.store);
            match (subject, sid) {
                (_, Some(sid)) => store.of_sid(provider, sid)?,
                (Some(subject), None) => store.of_user(provider, subject)?,
                (None, None) => Vec::new(),
            }
        };
        let mut count = 0;
        for SessionRow { session, .. } in rows {
            if subject.is_none_or(|subject| subject == session.person.subject) && self.end(session.id, End::ProviderLogout)? {
                count += 1;
            }
        }
        Ok(count)
    }

    /// Keeps what a refresh brought. False: the session has ended meanwhile.
    pub(crate) fn refreshed(&self, next: Session) -> Result<bool, StoreError> {
        let mut store = lock(&self.store);
        if !store.update(&next)? {
            return Ok(false);
        }
        let Some(live) = self.load(&store, next.id)? else { return Ok(false) };
        let id = next.id;
        let changed = live.session().person != next.person;
        *lock(&live.session) = Arc::new(next);
        drop(store);
        if changed {
            // Nobody listening is no error.
            let _ = self.events.send(SessionEvent::Changed(id));
        }
        Ok(true)
    }

    /// Puts a refresh off that could not be done.
    pub(crate) fn put_off(&self, live: &Live, now: u64) {
        let mut session = lock(&live.session);
        let next = Session { refresh_at: Some(now.saturating_add(limits::REFRESH_RETRY_SECONDS)), ..Session::clone(&session) };
        *session = Arc::new(next);
    }

    /// Ends what is over, drops tickets that have retired, rotates the sealing key when it is due. To be called every minute or so.
    pub fn sweep(&self, now: u64) -> Result<usize, StoreError> {
        let over = {
            let mut store = lock(&self.store);
            store.rotate_keys(now)?;
            store.drop_tickets(now)?;
            self.store_last_seen(&mut store)?;
            store.over(self.lifetimes.idle, now)?
        };
        for id in &over {
            self.end(*id, End::Expired)?;
        }
        Ok(over.len())
    }

    /// Requests that memory answered count as uses too.
    fn store_last_seen(&self, store: &mut Store) -> Result<(), StoreError> {
        let used: Vec<(SessionId, Arc<Live>)> = lock(&self.cache).sessions.iter().map(|(id, live)| (*id, Arc::clone(live))).collect();
        for (id, live) in used {
            let (seen, stored) = (live.last_seen.load(Ordering::Relaxed), live.stored_seen.load(Ordering::Relaxed));
            if seen > stored {
                store.touch(id, seen)?;
                live.stored_seen.fetch_max(seen, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn is_over(&self, live: &Live, now: u64) -> bool {
        is_over(lock(&live.session).ends_at, live.last_seen.load(Ordering::Relaxed), self.lifetimes.idle, now)
    }

    /// From memory or the database, whose lock the caller holds: so nothing that ended in between is kept.
    fn load(&self, store: &Store, id: SessionId) -> Result<Option<Arc<Live>>, StoreError> {
        let known = lock(&self.cache).sessions.get(&id).cloned();
        if known.is_some() {
            return Ok(known);
        }
        Ok(store.session(id)?.map(|row| self.keep(row)))
    }

    /// One [`Live`] for a session, however often it is read.
    fn keep(&self, row: SessionRow) -> Arc<Live> {
        let mut cache = lock(&self.cache);
        if cache.sessions.len() >= limits::SESSIONS_CACHED_MAX {
            // What somebody holds stays: there must not be two flights for one session.
            cache.sessions.retain(|_, live| Arc::strong_count(live) > 1);
        }
        let live = cache.sessions.entry(row.session.id).or_insert_with(|| {
            Arc::new(Live {
                session: Mutex::new(Arc::new(row.session)),
                last_seen: AtomicU64::new(row.last_seen),
                stored_seen: AtomicU64::new(row.last_seen),
                flight: Arc::default(),
            })
        });
        Arc::clone(live)
    }

    fn forget(&self, id: SessionId) {
        let mut cache = lock(&self.cache);
        cache.sessions.remove(&id);
        cache.tickets.retain(|_, ticket| ticket.session != id);
    }

    fn tell_end(&self, id: SessionId, why: End) {
        self.forget(id);
        tracing::info!(session = %id, ?why, "session ended");
        // Nobody listening is no error.
        let _ = self.events.send(SessionEvent::Ended(id, why));
    }
}

/// Nothing is left half done while a lock is held, so what a panic leaves is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
