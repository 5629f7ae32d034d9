//! Nodes: what they may run, which certificates they hold, what they last said they run.

use rusqlite::params;
use weft_types::{Consumer, NodeName};

use super::{Change, Store, StoreError, explain};
use crate::placement::Claim;

#[derive(Clone, Debug)]
pub(crate) struct NodeRow {
    pub(crate) name: NodeName,
    pub(crate) may_run: Vec<Consumer>,
    /// Unix seconds.
    pub(crate) last_seen: i64,
    pub(crate) claims: Vec<Claim>,
    /// Oldest first.
    pub(crate) serials: Vec<Serial>,
}

/// A certificate that was signed for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Serial {
    /// Hex.
    pub(crate) serial: String,
    /// Unix seconds.
    pub(crate) not_after: i64,
}

impl Store {
    pub(crate) fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        let fail = |e| explain(&self.path, e);
        let mut query = self.db.prepare("SELECT name, may_run, last_seen, claims FROM node ORDER BY name").map_err(fail)?;
        let mut certificates = self.db.prepare("SELECT serial, not_after FROM node_certificate WHERE node = ?1 ORDER BY not_after, rowid").map_err(fail)?;
        let rows = query.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get(2)?, r.get::<_, String>(3)?))).map_err(fail)?;
        let mut nodes = Vec::new();
        for row in rows {
            let (name, may_run, last_seen, claims) = row.map_err(fail)?;
            let unreadable = || self.unreadable(format!("node {name}"));
            let serials = certificates.query_map([&name], |r| Ok(Serial { serial: r.get(0)?, not_after: r.get(1)? })).map_err(fail)?;
            nodes.push(NodeRow {
                serials: serials.collect::<Result<_, _>>().map_err(fail)?,
                may_run: serde_json::from_str(&may_run).map_err(|_| unreadable())?,
                claims: serde_json::from_str(&claims).map_err(|_| unreadable())?,
                name: name.parse().map_err(|_| unreadable())?,
                last_seen,
            });
        }
        Ok(nodes)
    }
}

impl Change<'_> {
    /// A node that joins, again or for the first time; what it said it runs stays.
    pub(crate) fn join(&self, node: &NodeName, may_run: &[Consumer], now: i64) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO node (name, may_run, joined_at, last_seen, claims) VALUES (?1, ?2, ?3, ?3, '[]')
            ON CONFLICT (name) DO UPDATE SET may_run = ?2, joined_at = ?3, last_seen = ?3";
        self.execute(SQL, params![node.as_str(), serde_json::to_string(may_run).expect("strings"), now])
    }

    pub(crate) fn set_serials(&self, node: &NodeName, serials: &[Serial]) -> Result<(), StoreError> {
        self.execute("DELETE FROM node_certificate WHERE node = ?1", [node.as_str()])?;
        for s in serials {
            self.execute("INSERT INTO node_certificate (serial, node, not_after) VALUES (?1, ?2, ?3)", params![s.serial, node.as_str(), s.not_after])?;
        }
        Ok(())
    }

    pub(crate) fn set_claims(&self, node: &NodeName, claims: &[Claim], now: i64) -> Result<(), StoreError> {
        let claims = serde_json::to_string(claims).expect("strings and numbers");
        self.execute("UPDATE node SET claims = ?2, last_seen = ?3 WHERE name = ?1", params![node.as_str(), claims, now])
    }

    pub(crate) fn seen(&self, node: &NodeName, now: i64) -> Result<(), StoreError> {
        self.execute("UPDATE node SET last_seen = ?2 WHERE name = ?1", params![node.as_str(), now])
    }

    /// The node, its certificates and its tokens.
    pub(crate) fn remove_node(&self, node: &NodeName) -> Result<(), StoreError> {
        self.execute("DELETE FROM node_certificate WHERE node = ?1", [node.as_str()])?;
        self.execute("DELETE FROM node WHERE name = ?1", [node.as_str()])?;
        self.drop_tokens_of(node)
    }
}
