//! Sessions and tickets in SQLite: sealed rows, found by the hash of a ticket. Every change is durable when its call returns (WAL, a sync at each commit).
//!
//! It decides nothing: whether a session is over is asked of `session.rs`, who is told of an end of `sessions.rs`.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, named_params, params};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    limits,
    seal::{KeyRing, SealError},
    sso::{
        opaque::OpaqueHash,
        session::{Content, Session, SessionId},
    },
};

/// Version of the tables.
const SCHEMA: i64 = 1;

const TABLES: &str = "
CREATE TABLE session (
    id BLOB NOT NULL PRIMARY KEY, user_key BLOB NOT NULL, sid_key BLOB, created_at INTEGER NOT NULL, ends_at INTEGER NOT NULL,
    last_seen INTEGER NOT NULL, sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX session_by_user ON session (user_key);
CREATE INDEX session_by_sid ON session (sid_key) WHERE sid_key IS NOT NULL;
CREATE TABLE ticket (
    hash BLOB NOT NULL PRIMARY KEY, session BLOB NOT NULL REFERENCES session (id) ON DELETE CASCADE, host TEXT NOT NULL,
    issued_at INTEGER NOT NULL, seen INTEGER NOT NULL DEFAULT 0, retires_at INTEGER
) WITHOUT ROWID;
CREATE INDEX ticket_by_session ON ticket (session, host);
";

pub(crate) struct Store {
    db: Connection,
    path: PathBuf,
    keys: KeyRing,
    /// [`limits::SESSIONS_MAX`]; tests reach a smaller one.
    pub(crate) max_sessions: u64,
}

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot open database {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("database {path}: the file system is full")]
    Full { path: PathBuf },
    #[error("database {path} cannot be used")]
    Sql { path: PathBuf, source: rusqlite::Error },
    #[error("database {path} has tables of version {found}, this program knows version {SCHEMA}: run the release that wrote it, or a newer one")]
    Schema { path: PathBuf, found: i64 },
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("a session's content cannot be written")]
    Content(#[source] serde_json::Error),
    #[error("the provider's answer makes a session of more than {} bytes", limits::SESSION_MAX_BYTES)]
    TooLarge,
    #[error("there are {} sessions already", limits::SESSIONS_MAX)]
    TooMany,
    #[error("a session has tickets for {} hosts already", limits::HOSTS_PER_SESSION_MAX)]
    TooManyHosts,
    #[error("the gateway is stopping")]
    Stopping,
}

/// A session and when it was last used.
pub(crate) struct SessionRow {
    pub(crate) session: Session,
    pub(crate) last_seen: u64,
}

/// A ticket of one session at one host.
#[derive(Clone, Debug)]
pub(crate) struct TicketRow {
    pub(crate) session: SessionId,
    pub(crate) issued_at: u64,
    pub(crate) seen: bool,
    pub(crate) retires_at: Option<u64>,
}

/// A session as it rests.
struct SealedRow {
    id: SessionId,
    user: [u8; 32],
    created_at: u64,
    ends_at: u64,
    last_seen: u64,
    sealed: Vec<u8>,
}

impl SealedRow {
    fn open(self, keys: &KeyRing) -> Result<SessionRow, String> {
        let Self { id, created_at, ends_at, last_seen, .. } = self;
        let plain = keys.open_sealed(&context(id, &self.user, created_at, ends_at), &self.sealed).map_err(|error| error.to_string())?;
        let content: Content = serde_json::from_slice(&plain).map_err(|error| error.to_string())?;
        let Content { person, tokens, agent, refreshed_at, refresh_at } = content;
        Ok(SessionRow { session: Session { id, person, created_at, ends_at, refreshed_at, agent, refresh_at, tokens }, last_seen })
    }
}

impl TicketRow {
    pub(crate) fn is_retired(&self, now: u64) -> bool {
        self.retires_at.is_some_and(|at| now >= at)
    }
}

impl Store {
    pub(crate) fn open(path: &Path, keys: KeyRing) -> Result<Self, StoreError> {
        let fail = |e| explain(path, e);
        // SQLite gives its log the mode of the database.
        let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        made.map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        let mut db = Connection::open(path).map_err(fail)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
        db.pragma_update(None, "foreign_keys", true).map_err(fail)?;
        // What was sealed with a key that is gone for good must not linger in free pages.
        db.pragma_update(None, "secure_delete", true).map_err(fail)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        match tx.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)? {
            SCHEMA => {}
            0 => {
                tx.execute_batch(TABLES).map_err(fail)?;
                tx.pragma_update(None, "user_version", SCHEMA).map_err(fail)?;
            }
            found => return Err(StoreError::Schema { path: path.to_owned(), found }),
        }
        tx.commit().map_err(fail)?;
        Ok(Self { db, path: path.to_owned(), keys, max_sessions: limits::SESSIONS_MAX as u64 })
    }

    /// What a provider's person is found by.
    pub(crate) fn user_key(&self, provider: &str, subject: &str) -> [u8; 32] {
        self.keys.index(&["user", provider, subject])
    }

    fn sid_key(&self, provider: &str, sid: &str) -> [u8; 32] {
        self.keys.index(&["sid", provider, sid])
    }

    fn sid_of(&self, session: &Session) -> Option<[u8; 32]> {
        session.tokens.sid.as_ref().map(|sid| self.sid_key(&session.person.provider, sid))
    }

    /// Keeps a new session. Returns the sessions of the same person that had to make room.
    pub(crate) fn insert(&mut self, session: &Session) -> Result<Vec<SessionId>, StoreError> {
        let user = self.user_key(&session.person.provider, &session.person.subject);
        let sid = self.sid_of(session);
        let sealed = self.sealed(session, &user)?;
        let path = self.path.clone();
        let fail = |e| explain(&path, e);
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        let all: i64 = tx.query_row("SELECT count(*) FROM session", [], |r| r.get(0)).map_err(fail)?;
        let mut own: Vec<SessionId> = {
            let mut found = tx.prepare_cached("SELECT id FROM session WHERE user_key = ?1 ORDER BY last_seen, created_at").map_err(fail)?;
            found.query_map([user], |r| r.get(0).map(SessionId)).map_err(fail)?.collect::<Result<_, _>>().map_err(fail)?
        };
        own.truncate((own.len() + 1).saturating_sub(limits::SESSIONS_PER_USER_MAX));
        for id in &own {
            tx.execute("DELETE FROM session WHERE id = ?1", [id.0]).map_err(fail)?;
        }
        if natural(all) - own.len() as u64 >= self.max_sessions {
            return Err(StoreError::TooMany);
        }
        const SQL: &str = "INSERT INTO session (id, user_key, sid_key, created_at, ends_at, last_seen, sealed) VALUES (?1, ?2, ?3, ?4, ?5, ?4, ?6)";
        tx.execute(SQL, params![session.id.0, user, sid, whole(session.created_at), whole(session.ends_at), sealed]).map_err(fail)?;
        tx.commit().map_err(fail)?;
        Ok(own)
    }

    /// Replaces what a refresh brought. False: the session has ended meanwhile, and stays ended.
    pub(crate) fn update(&mut self, session: &Session) -> Result<bool, StoreError> {
        let user = self.user_key(&session.person.provider, &session.person.subject);
        let sid = self.sid_of(session);
        let sealed = self.sealed(session, &user)?;
        const SQL: &str = "UPDATE session SET sealed = ?2, sid_key = ?4 WHERE id = ?1 AND user_key = ?3";
        self.run(SQL, params![session.id.0, sealed, user, sid]).map(|rows| rows > 0)
    }

    pub(crate) fn touch(&mut self, id: SessionId, last_seen: u64) -> Result<(), StoreError> {
        self.run("UPDATE session SET last_seen = max(last_seen, ?2) WHERE id = ?1", params![id.0, whole(last_seen)]).map(drop)
    }

    /// True if there was one.
    pub(crate) fn end(&mut self, id: SessionId) -> Result<bool, StoreError> {
        self.run("DELETE FROM session WHERE id = ?1", [id.0]).map(|rows| rows > 0)
    }

    pub(crate) fn session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        Ok(self.rows("id = :key", &id.0)?.pop())
    }

    pub(crate) fn of_user(&self, provider: &str, subject: &str) -> Result<Vec<SessionRow>, StoreError> {
        self.rows("user_key = :key", &self.user_key(provider, subject))
    }

    pub(crate) fn of_sid(&self, provider: &str, sid: &str) -> Result<Vec<SessionRow>, StoreError> {
        self.rows("sid_key = :key", &self.sid_key(provider, sid))
    }

    /// Sessions that are over.
    pub(crate) fn over(&self, idle: u64, now: u64) -> Result<Vec<SessionId>, StoreError> {
        const SQL: &str = "SELECT id FROM session WHERE ends_at <= ?1 OR last_seen <= ?2";
        let fail = |e| explain(&self.path, e);
        let mut found = self.db.prepare_cached(SQL).map_err(fail)?;
        // Nobody is idle since before there were clocks.
        let since = now.checked_sub(idle).map_or(-1, whole);
        found.query_map(params![whole(now), since], |r| r.get(0).map(SessionId)).map_err(fail)?.collect::<Result<_, _>>().map_err(fail)
    }

    /// Gives a session a ticket at a host. At the bound the oldest ticket of the host that is not in use goes.
    pub(crate) fn add_ticket(&mut self, hash: OpaqueHash, session: SessionId, host: &str, now: u64) -> Result<(), StoreError> {
        let path = self.path.clone();
        let fail = |e| explain(&path, e);
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        let hosts: i64 =
            tx.query_row("SELECT count(DISTINCT host) FROM ticket WHERE session = ?1 AND host <> ?2", params![session.0, host], |r| r.get(0)).map_err(fail)?;
        if natural(hosts) >= limits::HOSTS_PER_SESSION_MAX as u64 {
            return Err(StoreError::TooManyHosts);
        }
        // The one that the browser has shown goes last.
        const TRIM: &str = "DELETE FROM ticket WHERE hash IN (SELECT hash FROM ticket WHERE session = ?1 AND host = ?2
            ORDER BY seen = 1 AND retires_at IS NULL DESC, issued_at DESC LIMIT -1 OFFSET ?3)";
        tx.execute(TRIM, params![session.0, host, limits::TICKETS_PER_HOST_MAX as i64 - 1]).map_err(fail)?;
        const SQL: &str = "INSERT INTO ticket (hash, session, host, issued_at) VALUES (?1, ?2, ?3, ?4)";
        tx.execute(SQL, params![hash.0, session.0, host, whole(now)]).map_err(fail)?;
        tx.commit().map_err(fail)
    }

    pub(crate) fn ticket(&self, hash: OpaqueHash, host: &str) -> Result<Option<TicketRow>, StoreError> {
        const SQL: &str = "SELECT session, issued_at, seen, retires_at FROM ticket WHERE hash = ?1 AND host = ?2";
        let read = |r: &Row<'_>| {
            let retires_at: Option<i64> = r.get(3)?;
            Ok(TicketRow { session: SessionId(r.get(0)?), issued_at: natural(r.get(1)?), seen: r.get(2)?, retires_at: retires_at.map(natural) })
        };
        let find = || self.db.prepare_cached(SQL)?.query_row(params![hash.0, host], read).optional();
        find().map_err(|e| explain(&self.path, e))
    }

    /// When the last ticket of a session at a host was given.
    pub(crate) fn last_issued(&self, session: SessionId, host: &str) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT max(issued_at) FROM ticket WHERE session = ?1 AND host = ?2";
        let find = || self.db.prepare_cached(SQL)?.query_row(params![session.0, host], |r| r.get::<_, Option<i64>>(0));
        find().map(|at| at.map_or(0, natural)).map_err(|e| explain(&self.path, e))
    }

    /// A ticket is seen for the first time: the browser has it, so those that it sent before may go, but not while requests are under way with them.
    pub(crate) fn seen(&mut self, hash: OpaqueHash, ticket: &TicketRow, host: &str, now: u64) -> Result<(), StoreError> {
        let path = self.path.clone();
        let fail = |e| explain(&path, e);
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        const RETIRE: &str = "UPDATE ticket SET retires_at = ?3 WHERE session = ?1 AND host = ?2 AND seen = 1 AND retires_at IS NULL";
        tx.execute(RETIRE, params![ticket.session.0, host, whole(now.saturating_add(limits::TICKET_OVERLAP_SECONDS))]).map_err(fail)?;
        tx.execute("UPDATE ticket SET seen = 1, retires_at = NULL WHERE hash = ?1", [hash.0]).map_err(fail)?;
        tx.commit().map_err(fail)
    }

    pub(crate) fn drop_tickets(&mut self, now: u64) -> Result<usize, StoreError> {
        self.run("DELETE FROM ticket WHERE retires_at <= ?1", [whole(now)])
    }

    pub(crate) fn rotate_keys(&mut self, now: u64) -> Result<bool, StoreError> {
        Ok(self.keys.rotate(now)?)
    }

    fn run(&mut self, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        let run = || self.db.prepare_cached(sql)?.execute(params);
        run().map_err(|e| explain(&self.path, e))
    }

    /// A row that cannot be opened is nobody's session: it is left out, and ends with its time.
    fn rows(&self, which: &str, key: &[u8]) -> Result<Vec<SessionRow>, StoreError> {
        let sql = format!("SELECT id, user_key, created_at, ends_at, last_seen, sealed FROM session WHERE {which} ORDER BY created_at");
        let fail = |e| explain(&self.path, e);
        let mut statement = self.db.prepare_cached(&sql).map_err(fail)?;
        let read = |r: &Row<'_>| {
            Ok(SealedRow {
                id: SessionId(r.get(0)?),
                user: r.get(1)?,
                created_at: natural(r.get(2)?),
                ends_at: natural(r.get(3)?),
                last_seen: natural(r.get(4)?),
                sealed: r.get(5)?,
            })
        };
        let found: Vec<SealedRow> = statement.query_map(named_params! {":key": key}, read).map_err(fail)?.collect::<Result<_, _>>().map_err(fail)?;
        let opened = found.into_iter().filter_map(|row| {
            let id = row.id;
            row.open(&self.keys).map_err(|error| tracing::warn!(session = %id, error, "a session cannot be opened")).ok()
        });
        Ok(opened.collect())
    }

    fn sealed(&self, session: &Session, user: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
        let plain = Zeroizing::new(serde_json::to_vec(&session.content()).map_err(StoreError::Content)?);
        if plain.len() > limits::SESSION_MAX_BYTES {
            return Err(StoreError::TooLarge);
        }
        Ok(self.keys.seal(&context(session.id, user, session.created_at, session.ends_at), &plain)?)
    }
}

/// A row opens only as what it was written as: not as another session, another person's, or a longer one.
fn context(id: SessionId, user: &[u8; 32], created_at: u64, ends_at: u64) -> Vec<u8> {
    [b"weft.session.v1\0".as_slice(), &id.0, user, &created_at.to_be_bytes(), &ends_at.to_be_bytes()].concat()
}

/// SQLite's numbers are signed.
fn whole(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn explain(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full { path },
        _ => StoreError::Sql { path, source },
    }
}
