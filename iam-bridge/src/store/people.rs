//! What the local provider keeps: users, their sessions, and what a session gave to clients. No password and no token, only what recognises one.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::{StoreError, connect, explain};
use crate::provider::password::{Cost, Stored};

pub(super) const TABLES: &str = "
CREATE TABLE person (name TEXT NOT NULL PRIMARY KEY, subject TEXT NOT NULL UNIQUE, salt BLOB NOT NULL, hash BLOB NOT NULL,
    memory_kib INTEGER NOT NULL, passes INTEGER NOT NULL, lanes INTEGER NOT NULL, groups TEXT NOT NULL, disabled INTEGER NOT NULL, created_at INTEGER NOT NULL);
CREATE TABLE person_session (sid TEXT NOT NULL PRIMARY KEY, cookie_hash BLOB NOT NULL UNIQUE, subject TEXT NOT NULL REFERENCES person (subject) ON DELETE CASCADE,
    auth_at INTEGER NOT NULL, seen_at INTEGER NOT NULL);
CREATE INDEX person_session_by_subject ON person_session (subject);
CREATE TABLE person_grant (id BLOB NOT NULL PRIMARY KEY, sid TEXT NOT NULL REFERENCES person_session (sid) ON DELETE CASCADE, client TEXT NOT NULL,
    code_hash BLOB NOT NULL UNIQUE, scope TEXT NOT NULL, generation INTEGER NOT NULL, rotated_at INTEGER NOT NULL, created_at INTEGER NOT NULL);
CREATE INDEX person_grant_by_session ON person_grant (sid);
";

const USER: &str = "name, subject, salt, hash, memory_kib, passes, lanes, groups, disabled, created_at";

pub(crate) struct People {
    db: Connection,
    path: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct UserRow {
    /// As the provider normalised it.
    pub(crate) name: String,
    /// Random, and never given to another user, even one of the same name.
    pub(crate) subject: String,
    pub(crate) password: Stored,
    /// Sorted.
    pub(crate) groups: Vec<String>,
    pub(crate) disabled: bool,
    /// Unix seconds.
    pub(crate) created_at: i64,
}

/// A login, remembered.
#[derive(Clone, Debug)]
pub(crate) struct SessionRow {
    pub(crate) sid: String,
    /// SHA-256 of the cookie's value.
    pub(crate) cookie_hash: [u8; 32],
    pub(crate) subject: String,
    /// Unix seconds: when the password was typed, and when the session was last used.
    pub(crate) auth_at: i64,
    pub(crate) seen_at: i64,
}

/// What a code was traded for: the right to tokens, as long as the session lives.
#[derive(Clone, Debug)]
pub(crate) struct GrantRow {
    pub(crate) id: [u8; 16],
    pub(crate) sid: String,
    pub(crate) client: String,
    /// SHA-256 of the code, so that its second use is recognised.
    pub(crate) code_hash: [u8; 32],
    pub(crate) scope: String,
    /// Of the refresh token that counts now.
    pub(crate) generation: u32,
    /// Unix seconds.
    pub(crate) rotated_at: i64,
    pub(crate) created_at: i64,
}

impl People {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { db: connect(path)?, path: path.to_owned() })
    }

    /// Several changes that are kept together or not at all.
    pub(crate) fn change(&mut self) -> Result<PeopleChange<'_>, StoreError> {
        let path = &self.path;
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| explain(path, e))?;
        Ok(PeopleChange { tx, path })
    }

    pub(crate) fn user(&self, name: &str) -> Result<Option<UserRow>, StoreError> {
        self.one(&format!("SELECT {USER} FROM person WHERE name = ?1"), [name], user)
    }

    pub(crate) fn user_of(&self, subject: &str) -> Result<Option<UserRow>, StoreError> {
        self.one(&format!("SELECT {USER} FROM person WHERE subject = ?1"), [subject], user)
    }

    pub(crate) fn users(&self) -> Result<Vec<UserRow>, StoreError> {
        self.all(&format!("SELECT {USER} FROM person ORDER BY name"), [], user)
    }

    pub(crate) fn session(&self, cookie_hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError> {
        self.one("SELECT sid, cookie_hash, subject, auth_at, seen_at FROM person_session WHERE cookie_hash = ?1", [cookie_hash], session)
    }

    pub(crate) fn session_of(&self, sid: &str) -> Result<Option<SessionRow>, StoreError> {
        self.one("SELECT sid, cookie_hash, subject, auth_at, seen_at FROM person_session WHERE sid = ?1", [sid], session)
    }

    /// Least recently used first.
    pub(crate) fn sessions_of(&self, subject: &str) -> Result<Vec<SessionRow>, StoreError> {
        self.all("SELECT sid, cookie_hash, subject, auth_at, seen_at FROM person_session WHERE subject = ?1 ORDER BY seen_at, rowid", [subject], session)
    }

    pub(crate) fn grant(&self, id: &[u8; 16]) -> Result<Option<GrantRow>, StoreError> {
        self.one("SELECT id, sid, client, code_hash, scope, generation, rotated_at, created_at FROM person_grant WHERE id = ?1", [id.as_slice()], grant)
    }

    pub(crate) fn grant_of_code(&self, code_hash: &[u8; 32]) -> Result<Option<GrantRow>, StoreError> {
        self.one(
            "SELECT id, sid, client, code_hash, scope, generation, rotated_at, created_at FROM person_grant WHERE code_hash = ?1",
            [code_hash.as_slice()],
            grant,
        )
    }

    /// Oldest first.
    pub(crate) fn grants_of(&self, sid: &str) -> Result<Vec<GrantRow>, StoreError> {
        self.all(
            "SELECT id, sid, client, code_hash, scope, generation, rotated_at, created_at FROM person_grant WHERE sid = ?1 ORDER BY created_at, rowid",
            [sid],
            grant,
        )
    }

    fn one<T>(&self, sql: &str, params: impl rusqlite::Params, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Option<T>, StoreError> {
        let run = || self.db.prepare_cached(sql)?.query_row(params, read).optional();
        run().map_err(|e| explain(&self.path, e))
    }

    fn all<T>(&self, sql: &str, params: impl rusqlite::Params, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>, StoreError> {
        let run = || self.db.prepare_cached(sql)?.query_map(params, read)?.collect::<Result<_, _>>();
        run().map_err(|e| explain(&self.path, e))
    }
}

/// A transaction.
pub(crate) struct PeopleChange<'a> {
    tx: Transaction<'a>,
    path: &'a Path,
}

impl PeopleChange<'_> {
    pub(crate) fn commit(self) -> Result<(), StoreError> {
        let path = self.path;
        self.tx.commit().map_err(|e| explain(path, e))
    }

    pub(crate) fn add_user(&self, u: &UserRow) -> Result<(), StoreError> {
        let (p, groups) = (&u.password, groups_text(&u.groups));
        self.execute(
            &format!("INSERT INTO person ({USER}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"),
            params![u.name, u.subject, p.salt, p.hash, p.cost.memory_kib, p.cost.passes, p.cost.lanes, groups, u.disabled, u.created_at],
        )
    }

    pub(crate) fn set_password(&self, subject: &str, p: &Stored) -> Result<(), StoreError> {
        self.execute(
            "UPDATE person SET salt = ?2, hash = ?3, memory_kib = ?4, passes = ?5, lanes = ?6 WHERE subject = ?1",
            params![subject, p.salt, p.hash, p.cost.memory_kib, p.cost.passes, p.cost.lanes],
        )
    }

    pub(crate) fn set_groups(&self, subject: &str, groups: &[String]) -> Result<(), StoreError> {
        self.execute("UPDATE person SET groups = ?2 WHERE subject = ?1", params![subject, groups_text(groups)])
    }

    pub(crate) fn set_disabled(&self, subject: &str, disabled: bool) -> Result<(), StoreError> {
        self.execute("UPDATE person SET disabled = ?2 WHERE subject = ?1", params![subject, disabled])
    }

    /// With all sessions and grants.
    pub(crate) fn remove_user(&self, subject: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM person WHERE subject = ?1", [subject])
    }

    pub(crate) fn count_users(&self) -> Result<usize, StoreError> {
        self.count("SELECT count(*) FROM person")
    }

    pub(crate) fn count_sessions(&self) -> Result<usize, StoreError> {
        self.count("SELECT count(*) FROM person_session")
    }

    pub(crate) fn add_session(&self, s: &SessionRow) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO person_session (sid, cookie_hash, subject, auth_at, seen_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![s.sid, s.cookie_hash, s.subject, s.auth_at, s.seen_at],
        )
    }

    /// The same session after another login of the same user: another cookie, the same grants.
    pub(crate) fn renew_session(&self, s: &SessionRow) -> Result<(), StoreError> {
        self.execute(
            "UPDATE person_session SET cookie_hash = ?2, auth_at = ?3, seen_at = ?4 WHERE sid = ?1",
            params![s.sid, s.cookie_hash, s.auth_at, s.seen_at],
        )
    }

    pub(crate) fn touch_session(&self, sid: &str, now: i64) -> Result<(), StoreError> {
        self.execute("UPDATE person_session SET seen_at = ?2 WHERE sid = ?1", params![sid, now])
    }

    /// With its grants.
    pub(crate) fn remove_session(&self, sid: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM person_session WHERE sid = ?1", [sid])
    }

    /// Sessions that were begun or used before these points in time, with their grants.
    pub(crate) fn drop_stale_sessions(&self, auth_before: i64, seen_before: i64) -> Result<(), StoreError> {
        self.execute("DELETE FROM person_session WHERE auth_at <= ?1 OR seen_at <= ?2", params![auth_before, seen_before])
    }

    pub(crate) fn add_grant(&self, g: &GrantRow) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO person_grant (id, sid, client, code_hash, scope, generation, rotated_at, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![g.id, g.sid, g.client, g.code_hash, g.scope, g.generation, g.rotated_at, g.created_at],
        )
    }

    pub(crate) fn rotate_grant(&self, id: &[u8; 16], generation: u32, now: i64) -> Result<(), StoreError> {
        self.execute("UPDATE person_grant SET generation = ?2, rotated_at = ?3 WHERE id = ?1", params![id, generation, now])
    }

    pub(crate) fn remove_grant(&self, id: &[u8; 16]) -> Result<(), StoreError> {
        self.execute("DELETE FROM person_grant WHERE id = ?1", [id.as_slice()])
    }

    fn count(&self, sql: &str) -> Result<usize, StoreError> {
        let count: i64 = self.tx.query_row(sql, [], |r| r.get(0)).map_err(|e| explain(self.path, e))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
        let run = || self.tx.prepare_cached(sql)?.execute(params);
        run().map(drop).map_err(|e| explain(self.path, e))
    }
}

fn user(r: &Row<'_>) -> rusqlite::Result<UserRow> {
    let groups: String = r.get(7)?;
    let cost = Cost { memory_kib: r.get(4)?, passes: r.get(5)?, lanes: r.get(6)? };
    if !cost.is_sane() {
        return Err(rusqlite::Error::IntegralValueOutOfRange(4, cost.memory_kib.into()));
    }
    Ok(UserRow {
        name: r.get(0)?,
        subject: r.get(1)?,
        password: Stored { salt: r.get(2)?, hash: r.get(3)?, cost },
        groups: groups.split_whitespace().map(str::to_owned).collect(),
        disabled: r.get(8)?,
        created_at: r.get(9)?,
    })
}

fn session(r: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow { sid: r.get(0)?, cookie_hash: r.get(1)?, subject: r.get(2)?, auth_at: r.get(3)?, seen_at: r.get(4)? })
}

fn grant(r: &Row<'_>) -> rusqlite::Result<GrantRow> {
    Ok(GrantRow {
        id: r.get(0)?,
        sid: r.get(1)?,
        client: r.get(2)?,
        code_hash: r.get(3)?,
        scope: r.get(4)?,
        generation: r.get(5)?,
        rotated_at: r.get(6)?,
        created_at: r.get(7)?,
    })
}

/// A group's name has no blank.
fn groups_text(groups: &[String]) -> String {
    groups.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::random::System;

    fn somebody(name: &str) -> UserRow {
        let password = Stored::nobody(&mut System);
        UserRow { name: name.into(), subject: format!("s-{name}"), password, groups: vec!["a".into(), "b".into()], disabled: false, created_at: 7 }
    }

    #[test]
    fn a_user_goes_with_everything_and_another_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut people = People::open(&dir.path().join("b.db")).unwrap();
        let change = people.change().unwrap();
        for (n, name) in [(1, "alice"), (2, "bob")] {
            change.add_user(&somebody(name)).unwrap();
            let sid = format!("sid-{name}");
            change.add_session(&SessionRow { sid: sid.clone(), cookie_hash: [n; 32], subject: format!("s-{name}"), auth_at: 1, seen_at: 1 }).unwrap();
            let grant =
                GrantRow { id: [n; 16], sid, client: "c".into(), code_hash: [n; 32], scope: "openid".into(), generation: 0, rotated_at: 1, created_at: 1 };
            change.add_grant(&grant).unwrap();
        }
        change.commit().unwrap();
        let read = people.user("alice").unwrap().unwrap();
        assert_eq!((read.groups.len(), read.password == people.user_of("s-alice").unwrap().unwrap().password), (2, true));
        let change = people.change().unwrap();
        change.remove_user("s-alice").unwrap();
        change.commit().unwrap();
        assert!(people.user("alice").unwrap().is_none() && people.session(&[1; 32]).unwrap().is_none() && people.grant(&[1; 16]).unwrap().is_none());
        assert!(people.user("bob").unwrap().is_some() && people.session(&[2; 32]).unwrap().is_some() && people.grant_of_code(&[2; 32]).unwrap().is_some());
    }

    #[test]
    fn one_connection_waits_for_the_change_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.db");
        let (mut people, mut store) = (People::open(&path).unwrap(), super::super::Store::open(&path).unwrap());
        let held = store.change().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| people.change().and_then(|change| change.add_user(&somebody("alice")).and_then(|()| change.commit())));
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert!(!waits.is_finished());
            held.commit().unwrap();
            waits.join().unwrap().unwrap();
        });
        assert!(people.user("alice").unwrap().is_some());
    }

    #[test]
    fn a_cost_that_would_stop_the_bridge_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let mut people = People::open(&dir.path().join("b.db")).unwrap();
        let change = people.change().unwrap();
        change.add_user(&somebody("alice")).unwrap();
        change.commit().unwrap();
        people.db.execute("UPDATE person SET passes = 4000000000", []).unwrap();
        assert!(people.user("alice").is_err());
    }
}
