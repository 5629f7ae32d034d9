//! Numbers for names: given once, kept for ever, never given to another name.

use std::{cell::RefCell, collections::HashMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use rusqlite::{OptionalExtension as _, Transaction, params};
use weft_policy::Ids;
use weft_types::{RuleId, ServiceId, ServiceRef};

use crate::limits;

/// Numbers of rules that the database is known to hold, so that a change of the catalog asks it about new rules only. A number once given stays, so
/// nothing here ever becomes wrong.
pub(crate) type KnownRules = HashMap<String, u32>;

/// Gives numbers within one transaction. A failure is kept for [`TxIds::finish`], and the numbers given after it mean nothing.
pub(crate) struct TxIds<'a> {
    tx: &'a Transaction<'a>,
    rules: &'a RefCell<KnownRules>,
    failed: Option<rusqlite::Error>,
}

impl<'a> TxIds<'a> {
    pub(super) fn new(tx: &'a Transaction<'a>, rules: &'a RefCell<KnownRules>) -> Self {
        Self { tx, rules, failed: None }
    }

    pub(crate) fn finish(self) -> Result<(), rusqlite::Error> {
        self.failed.map_or(Ok(()), Err)
    }

    fn keep<T>(&mut self, result: rusqlite::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }

    /// The row's number, made when absent. AUTOINCREMENT never gives a number again, even after its row is gone.
    fn number(&self, find: &str, make: &str, name: &str) -> rusqlite::Result<u32> {
        match self.known(find, name)? {
            Some(id) => Ok(id),
            None => self.made(make, name),
        }
    }

    fn known(&self, find: &str, name: &str) -> rusqlite::Result<Option<u32>> {
        self.tx.prepare_cached(find)?.query_row([name], |r| r.get(0)).optional()
    }

    fn made(&self, make: &str, name: &str) -> rusqlite::Result<u32> {
        self.tx.prepare_cached(make)?.execute([name])?;
        let id = self.tx.last_insert_rowid();
        u32::try_from(id).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, id))
    }

    /// One made now is remembered only when it is found again: the transaction may yet be given up.
    fn rule(&self, key: &str) -> rusqlite::Result<u32> {
        let Some(id) = self.known("SELECT id FROM rule WHERE key = ?1", key)? else {
            return self.made("INSERT INTO rule (key) VALUES (?1)", key);
        };
        let mut rules = self.rules.borrow_mut();
        if rules.len() >= limits::RULES_KNOWN_MAX {
            rules.clear();
        }
        rules.insert(key.to_owned(), id);
        Ok(id)
    }

    fn find_vip(&self, service: &str, range: Ipv4Net) -> rusqlite::Result<Option<Ipv4Addr>> {
        let known: Option<u32> = self.tx.prepare_cached("SELECT address FROM vip WHERE service = ?1")?.query_row([service], |r| r.get(0)).optional()?;
        if let Some(address) = known.map(Ipv4Addr::from).filter(|a| usable(*a, range)) {
            return Ok(Some(address));
        }
        let Some(address) = self.free_vip(range)? else { return Ok(None) };
        // One that the range no longer holds makes place for the new one.
        let keep = "INSERT INTO vip (service, address) VALUES (?1, ?2) ON CONFLICT (service) DO UPDATE SET address = ?2";
        self.tx.prepare_cached(keep)?.execute(params![service, u32::from(address)])?;
        Ok(Some(address))
    }

    /// The address after the highest one given, and only when the range's end is reached the lowest free one: a new service does not soon get the address
    /// that another one had.
    fn free_vip(&self, range: Ipv4Net) -> rusqlite::Result<Option<Ipv4Addr>> {
        let (low, high) = (u32::from(range.network()), u32::from(range.broadcast()));
        let highest: Option<u32> =
            self.tx.prepare_cached("SELECT max(address) FROM vip WHERE address BETWEEN ?1 AND ?2")?.query_row([low, high], |r| r.get(0))?;
        let next = highest.map_or(low, |h| h.saturating_add(1));
        if let Some(address) = (next..=high).take(4).map(Ipv4Addr::from).find(|a| usable(*a, range)) {
            return Ok(Some(address));
        }
        let mut taken = self.tx.prepare_cached("SELECT address FROM vip WHERE address BETWEEN ?1 AND ?2 ORDER BY address")?;
        let taken: Vec<u32> = taken.query_map([low, high], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut taken = taken.into_iter().peekable();
        Ok((low..=high).filter(|a| taken.next_if_eq(a).is_none()).map(Ipv4Addr::from).find(|a| usable(*a, range)))
    }
}

impl Ids for TxIds<'_> {
    fn service_id(&mut self, service: &ServiceRef) -> ServiceId {
        let number = self.number("SELECT id FROM service WHERE name = ?1", "INSERT INTO service (name) VALUES (?1)", &service.to_string());
        ServiceId(self.keep(number).unwrap_or(0))
    }

    fn vip(&mut self, service: &ServiceRef, range: Ipv4Net) -> Option<Ipv4Addr> {
        let found = self.find_vip(&service.to_string(), range);
        self.keep(found).flatten()
    }

    fn rule_id(&mut self, key: &str) -> RuleId {
        let known = self.rules.borrow().get(key).copied();
        let number = known.map_or_else(|| self.rule(key), Ok);
        RuleId(self.keep(number).unwrap_or(0))
    }
}

/// Neither the network's own address nor its broadcast one.
fn usable(address: Ipv4Addr, range: Ipv4Net) -> bool {
    range.contains(&address) && address != range.network() && address != range.broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn service(name: &str) -> ServiceRef {
        format!("shop/{name}").parse().unwrap()
    }

    fn with<T>(store: &mut Store, f: impl FnOnce(&mut TxIds<'_>) -> T) -> T {
        let change = store.change().unwrap();
        let mut ids = change.ids();
        let value = f(&mut ids);
        ids.finish().unwrap();
        change.commit().unwrap();
        value
    }

    #[test]
    fn numbers_are_stable_and_never_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.db");
        let mut store = Store::open(&path).unwrap();
        let first = with(&mut store, |ids| (ids.service_id(&service("a")), ids.service_id(&service("b")), ids.rule_id("a -> b")));
        assert_eq!(first, (ServiceId(1), ServiceId(2), RuleId(1)));
        store.db.execute("DELETE FROM service", []).unwrap();
        drop(store);
        let mut store = Store::open(&path).unwrap();
        assert_eq!(with(&mut store, |ids| ids.service_id(&service("c"))), ServiceId(3));
        assert_eq!(with(&mut store, |ids| ids.rule_id("a -> b")), RuleId(1));
    }

    #[test]
    fn a_rolled_back_number_was_never_given() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("b.db")).unwrap();
        {
            let change = store.change().unwrap();
            assert_eq!(change.ids().service_id(&service("a")), ServiceId(1));
        }
        assert_eq!(with(&mut store, |ids| ids.service_id(&service("b"))), ServiceId(1));
    }

    #[test]
    fn virtual_ips_are_kept_and_come_from_the_range() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("b.db")).unwrap();
        let small: Ipv4Net = "100.64.0.0/30".parse().unwrap();
        let vip = |store: &mut Store, name: &str, range| with(store, |ids| ids.vip(&service(name), range)).map(|a| a.to_string());
        assert_eq!(vip(&mut store, "a", small).as_deref(), Some("100.64.0.1"));
        assert_eq!(vip(&mut store, "b", small).as_deref(), Some("100.64.0.2"));
        assert_eq!(vip(&mut store, "c", small), None);
        assert_eq!(vip(&mut store, "a", small).as_deref(), Some("100.64.0.1"));
        let other: Ipv4Net = "100.65.0.0/29".parse().unwrap();
        assert_eq!(vip(&mut store, "a", other).as_deref(), Some("100.65.0.1"));
        // What "a" left can be had when nothing else is free.
        assert_eq!(vip(&mut store, "c", small).as_deref(), Some("100.64.0.1"));
    }
}
