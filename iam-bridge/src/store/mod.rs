//! What must survive a restart, in SQLite: numbers that were given out, who joined, what nodes run, and the snapshot in force.
//!
//! What the local provider keeps of people stands beside it ([`People`]), on a connection of its own.
//!
//! It decides nothing. Every change is durable when its call returns: WAL with a sync at each commit.

mod ids;
mod nodes;
mod people;
mod tokens;

use std::{
    cell::RefCell,
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use ipnet::Ipv4Net;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use thiserror::Error;
use weft_types::Revision;

use crate::limits;

use ids::KnownRules;
pub(crate) use ids::TxIds;
pub(crate) use nodes::{NodeRow, Serial};
pub(crate) use people::{GrantRow, People, PeopleChange, SessionRow, UserRow};
pub(crate) use tokens::TokenRow;

/// Version of the tables.
const SCHEMA: i64 = 2;

const TABLES: &str = "
CREATE TABLE service (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE vip (service TEXT NOT NULL PRIMARY KEY, address INTEGER NOT NULL UNIQUE);
CREATE TABLE rule (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE);
CREATE TABLE published (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, service_range TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE token (id TEXT NOT NULL PRIMARY KEY, secret_hash BLOB NOT NULL, node TEXT NOT NULL, may_run TEXT NOT NULL, expires_at INTEGER NOT NULL);
CREATE TABLE node (name TEXT NOT NULL PRIMARY KEY, may_run TEXT NOT NULL, joined_at INTEGER NOT NULL, last_seen INTEGER NOT NULL, claims TEXT NOT NULL);
CREATE TABLE node_certificate (serial TEXT NOT NULL PRIMARY KEY, node TEXT NOT NULL, not_after INTEGER NOT NULL);
CREATE INDEX node_certificate_by_node ON node_certificate (node);
";

pub(crate) struct Store {
    db: Connection,
    path: PathBuf,
    rules: RefCell<KnownRules>,
}

#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("cannot open database {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("database {path}: the file system is full")]
    Full { path: PathBuf },
    #[error("database {path} cannot be used")]
    Sql { path: PathBuf, source: rusqlite::Error },
    #[error("database {path} has tables of version {found}, this program knows version {SCHEMA}: run the release that wrote it, or a newer one")]
    Schema { path: PathBuf, found: i64 },
    #[error("database {path} holds {what} that cannot be read: restore it from a backup")]
    Content { path: PathBuf, what: String },
}

/// The snapshot in force, as its payload's bytes.
pub(crate) struct PublishedRow {
    pub(crate) revision: Revision,
    pub(crate) service_range: Ipv4Net,
    pub(crate) payload: Vec<u8>,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let db = connect(path)?;
        Ok(Self { db, path: path.to_owned(), rules: RefCell::default() })
    }

    /// Several changes that are kept together or not at all: not at all unless [`Change::commit`] is called.
    pub(crate) fn change(&mut self) -> Result<Change<'_>, StoreError> {
        let path = &self.path;
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| explain(path, e))?;
        Ok(Change { tx, path, rules: &self.rules })
    }

    pub(crate) fn published(&self) -> Result<Option<PublishedRow>, StoreError> {
        let row = self
            .db
            .query_row("SELECT revision, service_range, payload FROM published", [], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?, r.get(2)?)))
            .optional()
            .map_err(|e| explain(&self.path, e))?;
        let Some((revision, range, payload)) = row else { return Ok(None) };
        let service_range = range.parse().map_err(|_| self.unreadable(format!("the service range {range:?}")))?;
        Ok(Some(PublishedRow { revision: Revision(revision.cast_unsigned()), service_range, payload }))
    }

    fn unreadable(&self, what: String) -> StoreError {
        StoreError::Content { path: self.path.clone(), what }
    }
}

/// A transaction.
pub(crate) struct Change<'a> {
    tx: Transaction<'a>,
    path: &'a Path,
    rules: &'a RefCell<KnownRules>,
}

impl Change<'_> {
    pub(crate) fn commit(self) -> Result<(), StoreError> {
        let path = self.path;
        self.tx.commit().map_err(|e| explain(path, e))
    }

    pub(crate) fn ids(&self) -> TxIds<'_> {
        TxIds::new(&self.tx, self.rules)
    }

    pub(crate) fn publish(&self, row: &PublishedRow) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO published (one, revision, service_range, payload) VALUES (1, ?1, ?2, ?3)
            ON CONFLICT (one) DO UPDATE SET revision = ?1, service_range = ?2, payload = ?3";
        self.execute(SQL, params![row.revision.0.cast_signed(), row.service_range.to_string(), row.payload])
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
        let run = || self.tx.prepare_cached(sql)?.execute(params);
        run().map(drop).map_err(|e| explain(self.path, e))
    }

    pub(crate) fn fail(&self, error: rusqlite::Error) -> StoreError {
        explain(self.path, error)
    }
}

/// A connection to the database, which is made or brought up to date if needed. Several may be open: one that writes waits for another.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let fail = |e| explain(path, e);
    // SQLite gives its log the mode of the database.
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    made.map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    let mut db = Connection::open(path).map_err(fail)?;
    db.busy_timeout(limits::DATABASE_WAIT).map_err(fail)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
    db.pragma_update(None, "foreign_keys", true).map_err(fail)?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
    let found: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
    match found {
        SCHEMA => {}
        0 => tx.execute_batch(TABLES).and_then(|()| tx.execute_batch(people::TABLES)).map_err(fail)?,
        1 => tx.execute_batch(people::TABLES).map_err(fail)?,
        found => return Err(StoreError::Schema { path: path.to_owned(), found }),
    }
    tx.pragma_update(None, "user_version", SCHEMA).map_err(fail)?;
    tx.commit().map_err(fail)?;
    Ok(db)
}

fn explain(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full { path },
        _ => StoreError::Sql { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uncommitted_change_leaves_nothing_and_a_committed_one_survives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.db");
        let row = |revision| PublishedRow { revision: Revision(revision), service_range: "100.64.0.0/16".parse().unwrap(), payload: vec![1, 2, 3] };
        let mut store = Store::open(&path).unwrap();
        assert!(store.published().unwrap().is_none());
        store.change().unwrap().publish(&row(7)).unwrap();
        assert!(store.published().unwrap().is_none());
        for revision in [7, u64::MAX] {
            let change = store.change().unwrap();
            change.publish(&row(revision)).unwrap();
            change.commit().unwrap();
            drop(store);
            store = Store::open(&path).unwrap();
            assert_eq!(store.published().unwrap().unwrap().revision, Revision(revision));
        }
    }

    #[test]
    fn tables_of_another_version_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.db");
        Store::open(&path).unwrap().db.pragma_update(None, "user_version", 9).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Schema { found: 9, .. })));
        let torn = dir.path().join("torn.db");
        std::fs::write(&torn, [7; 4096]).unwrap();
        assert!(matches!(Store::open(&torn), Err(StoreError::Sql { .. })));
    }

    #[test]
    fn tables_of_the_version_before_are_brought_up_to_date_and_keep_what_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(TABLES).unwrap();
        old.execute("INSERT INTO token VALUES ('7', x'00', 'a', '[]', 1)", []).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let store = Store::open(&path).unwrap();
        let count = |table: &str| store.db.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get::<_, i64>(0)).unwrap();
        assert_eq!((count("token"), count("person")), (1, 0));
    }

    #[test]
    fn commits_are_synced() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("b.db")).unwrap();
        let mode: String = store.db.pragma_query_value(None, "journal_mode", |r| r.get(0)).unwrap();
        let sync: i64 = store.db.pragma_query_value(None, "synchronous", |r| r.get(0)).unwrap();
        assert_eq!((mode.as_str(), sync), ("wal", 2));
    }
}
