//! Nodes: how one joins, proves that it is one, renews its certificate, and gets SVIDs for what it runs.

use std::time::SystemTime;

use thiserror::Error;
use tracing::{info, warn};
use weft_identity::{JoinToken, SignError, Signed, TokenError};
use weft_types::{Consumer, NodeName, ServiceRef, SpiffeId};

use super::{Control, Node, PublishError, unix};
use crate::{
    limits, placement,
    store::{Serial, StoreError},
};

/// Who speaks, by the certificate that its TLS connection was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePeer {
    pub(crate) name: NodeName,
    /// Hex.
    pub(crate) serial: String,
}

/// A node's certificate and all it needs to believe the bridge.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) id: SpiffeId,
    pub(crate) signed: Signed,
    pub(crate) bundle: Vec<Vec<u8>>,
    pub(crate) keys: Vec<weft_api::bridge::v1::SigningKey>,
}

/// Why a node does not get what it asks for.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("join token {0} belongs to another mesh, or was made before this mesh had its CA")]
    ForeignToken(String),
    #[error("join token {0} is not known here: it was never made here, has expired or was removed; make one with `weft-iam-bridge token create`")]
    UnknownToken(String),
    #[error("join token {id} has expired: make a new one with `weft-iam-bridge token create --node {node}`")]
    ExpiredToken { id: String, node: NodeName },
    #[error("join token {id} is for another node than {node}")]
    OtherNode { id: String, node: NodeName },
    #[error("the mesh has {max} nodes, which is the most that one bridge serves", max = limits::NODES_MAX)]
    TooManyNodes,
    #[error("node {0} is not a member of this mesh any more, or its certificate was replaced: let it join again")]
    NotAMember(NodeName),
    #[error("{0}")]
    Placement(String),
    #[error("node {node} has reported no workload of {service} that the bridge accepted")]
    NotReported { node: NodeName, service: ServiceRef },
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<StoreError> for RequestError {
    fn from(error: StoreError) -> Self {
        Self::Publish(error.into())
    }
}

impl Control {
    /// Trades a token for a certificate. A node that joins again keeps what it reported and runs under the new token's terms.
    pub(crate) fn join(&mut self, token: &str, node: &NodeName, csr: &[u8], now: SystemTime) -> Result<Credentials, RequestError> {
        let outcome = self.try_join(token, node, csr, now);
        self.metrics.joined(outcome.is_ok());
        match &outcome {
            Ok((credentials, token)) => info!(target: "weft_audit", event = "join", %node, token, serial = credentials.signed.serial, "node joined"),
            Err(reason) => warn!(target: "weft_audit", event = "join-refused", %node, %reason, "node may not join"),
        }
        outcome.map(|(credentials, _)| credentials)
    }

    fn try_join(&mut self, token: &str, node: &NodeName, csr: &[u8], now: SystemTime) -> Result<(Credentials, String), RequestError> {
        let token = JoinToken::parse(token)?;
        let may_run = self.check_token(&token, node, now)?;
        let known = self.nodes.contains_key(node);
        if !known && self.nodes.len() >= limits::NODES_MAX {
            return Err(RequestError::TooManyNodes);
        }
        let credentials = self.sign_node(node, csr, now)?;
        let serials = self.serials_with(node, &credentials.signed, now);
        let former = self.nodes.remove(node);
        let mut joined = Node {
            may_run: may_run.clone(),
            claims: vec![],
            unreadable: vec![],
            serials: serials.clone(),
            last_seen: unix(now),
            agent_version: String::new(),
            schema_version: 0,
            acked: weft_types::Revision(0),
            error: String::new(),
            session: None,
        };
        let former = former.map(|mut f| {
            // What it said it runs is judged anew, as the token may name less than the last one did.
            joined.claims = f.claims.clone();
            joined.session = f.session.take();
            f
        });
        self.nodes.insert(node.clone(), joined);
        let kept = self.settle(|change| {
            change.join(node, &may_run, unix(now))?;
            change.set_serials(node, &serials)
        });
        if let Err(error) = kept {
            let joined = self.nodes.remove(node);
            if let Some(mut former) = former {
                former.session = joined.and_then(|j| j.session);
                self.nodes.insert(node.clone(), former);
            }
            return Err(error.into());
        }
        Ok((credentials, token.id))
    }

    fn check_token(&self, token: &JoinToken, node: &NodeName, now: SystemTime) -> Result<Vec<Consumer>, RequestError> {
        if token.ca_sha256 != self.ca.fingerprint() {
            return Err(RequestError::ForeignToken(token.id.clone()));
        }
        let row = self.store.token(&token.id)?.filter(|row| row.secret_hash == token.secret_hash());
        // Only who knows the secret learns more than that.
        let row = row.ok_or_else(|| RequestError::UnknownToken(token.id.clone()))?;
        if row.expires_at <= unix(now) {
            return Err(RequestError::ExpiredToken { id: row.id, node: row.node });
        }
        if row.node != *node {
            return Err(RequestError::OtherNode { id: row.id, node: node.clone() });
        }
        Ok(row.may_run)
    }

    /// Is this certificate one of a member's?
    pub(crate) fn authenticate(&self, peer: &NodePeer) -> Result<(), RequestError> {
        let member = self.nodes.get(&peer.name).is_some_and(|node| node.serials.iter().any(|s| s.serial == peer.serial));
        if member { Ok(()) } else { Err(RequestError::NotAMember(peer.name.clone())) }
    }

    pub(crate) fn renew(&mut self, peer: &NodePeer, csr: &[u8], now: SystemTime) -> Result<Credentials, RequestError> {
        self.authenticate(peer)?;
        let credentials = self.sign_node(&peer.name, csr, now)?;
        let serials = self.serials_with(&peer.name, &credentials.signed, now);
        let change = self.store.change()?;
        change.set_serials(&peer.name, &serials)?;
        change.seen(&peer.name, unix(now))?;
        change.commit()?;
        if let Some(node) = self.nodes.get_mut(&peer.name) {
            node.serials = serials;
            node.last_seen = unix(now);
        }
        info!(target: "weft_audit", event = "renew", node = %peer.name, serial = credentials.signed.serial, "node certificate renewed");
        Ok(credentials)
    }

    /// An SVID for a service that the node's token names and of which the node reported a workload. Both, or none.
    pub(crate) fn issue_svid(&mut self, peer: &NodePeer, service: &str, csr: &[u8], now: SystemTime) -> Result<(SpiffeId, Signed), RequestError> {
        let outcome = self.try_issue(peer, service, csr, now);
        self.metrics.svid(outcome.is_ok());
        let (node, service) = (&peer.name, service.chars().take(limits::TEXT_MAX_CHARS).collect::<String>());
        match &outcome {
            Ok((id, signed)) => info!(target: "weft_audit", event = "svid", %node, service, %id, serial = signed.serial, "SVID issued"),
            Err(reason) => warn!(target: "weft_audit", event = "svid-refused", %node, service, %reason, "SVID refused"),
        }
        outcome
    }

    fn try_issue(&self, peer: &NodePeer, service: &str, csr: &[u8], now: SystemTime) -> Result<(SpiffeId, Signed), RequestError> {
        self.authenticate(peer)?;
        let Some(node) = self.nodes.get(&peer.name) else { return Err(RequestError::NotAMember(peer.name.clone())) };
        let service: ServiceRef = service.parse().map_err(|e| RequestError::Placement(format!("{e}")))?;
        let services = &self.plan.snapshot.services;
        let found = placement::may_be(&service, node.view(&peer.name), |name| services.iter().find(|s| s.name == *name)).map_err(RequestError::Placement)?;
        if !self.placement.runs.contains(&(peer.name.clone(), found.id)) {
            return Err(RequestError::NotReported { node: peer.name.clone(), service });
        }
        let signed = self.ca.sign(csr, &found.identity, now, self.ttls.svid)?;
        Ok((found.identity.clone(), signed))
    }

    fn sign_node(&self, node: &NodeName, csr: &[u8], now: SystemTime) -> Result<Credentials, RequestError> {
        let id = SpiffeId::Node { trust_domain: self.ca.trust_domain().clone(), name: node.clone() };
        let signed = self.ca.sign(csr, &id, now, self.ttls.node)?;
        Ok(Credentials { id, signed, bundle: self.wire_bundle(), keys: self.wire_keys() })
    }

    /// The node's certificates that are still good, and a new one.
    fn serials_with(&self, node: &NodeName, signed: &Signed, now: SystemTime) -> Vec<Serial> {
        let former = self.nodes.get(node).map(|n| n.serials.clone()).unwrap_or_default();
        let mut serials: Vec<_> = former.into_iter().filter(|s| s.not_after > unix(now)).collect();
        serials.push(Serial { serial: signed.serial.clone(), not_after: unix(signed.not_after) });
        let surplus = serials.len().saturating_sub(limits::NODE_CERTS_MAX);
        serials.split_off(surplus)
    }
}
