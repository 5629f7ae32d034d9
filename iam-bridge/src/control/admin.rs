//! What people ask of the bridge on its socket.

use std::time::{Duration, SystemTime};

use thiserror::Error;
use tracing::info;
use weft_identity::{JoinToken, TokenError};
use weft_types::{Consumer, NodeName, Revision};
use zeroize::Zeroizing;

use super::{Control, End, PublishError, unix};
use crate::{
    limits,
    placement::Claim,
    store::{StoreError, TokenRow},
};

#[derive(Debug, Error)]
pub(crate) enum AdminError {
    #[error("a node may run at most {max} patterns of services, {found} are named", max = limits::MAY_RUN_MAX)]
    TooManyPatterns { found: usize },
    #[error("a join token lives for at most {} days", limits::TOKEN_TTL_MAX.as_secs() / 86_400)]
    TooLong,
    #[error("there are {max} join tokens that have not expired, a further one is not kept", max = limits::TOKENS_MAX)]
    TooManyTokens,
    #[error("no node {0} has joined")]
    NoSuchNode(NodeName),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::Publish(error.into())
    }
}

/// One node as `ListNodes` shows it.
#[derive(Debug)]
pub(crate) struct NodeReport {
    pub(crate) name: NodeName,
    pub(crate) may_run: Vec<Consumer>,
    pub(crate) connected: bool,
    pub(crate) agent_version: String,
    pub(crate) acked: Revision,
    pub(crate) error: String,
    pub(crate) last_seen: i64,
    pub(crate) workloads: Vec<Claim>,
}

/// The bridge as `Status` shows it.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) trust_domain: String,
    pub(crate) mesh: String,
    pub(crate) revision: Revision,
    pub(crate) catalog_errors: Vec<String>,
    pub(crate) catalog_warnings: Vec<String>,
    pub(crate) ca_fingerprint: [u8; 32],
    pub(crate) ca_not_after: i64,
}

impl Control {
    /// A token for one node, and when it expires.
    pub(crate) fn create_token(
        &mut self,
        node: NodeName,
        may_run: Vec<Consumer>,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<(Zeroizing<String>, i64), AdminError> {
        if may_run.len() > limits::MAY_RUN_MAX {
            return Err(AdminError::TooManyPatterns { found: may_run.len() });
        }
        let ttl = if ttl.is_zero() { limits::TOKEN_TTL } else { ttl };
        if ttl > limits::TOKEN_TTL_MAX {
            return Err(AdminError::TooLong);
        }
        let token = JoinToken::generate(self.ca.fingerprint())?;
        let row = TokenRow { id: token.id.clone(), secret_hash: token.secret_hash(), node, may_run, expires_at: unix(now + ttl) };
        let change = self.store.change()?;
        change.drop_expired_tokens(unix(now))?;
        if change.count_tokens()? >= limits::TOKENS_MAX {
            return Err(AdminError::TooManyTokens);
        }
        change.add_token(&row)?;
        change.commit()?;
        let may_run = row.may_run.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        info!(target: "weft_audit", event = "token", token = token.id, node = %row.node, may_run, expires_at = row.expires_at, "join token made");
        Ok((token.reveal(), row.expires_at))
    }

    pub(crate) fn list_nodes(&self) -> Vec<NodeReport> {
        let report = |(name, node): (&NodeName, &super::Node)| NodeReport {
            name: name.clone(),
            may_run: node.may_run.clone(),
            connected: node.session.is_some(),
            agent_version: node.agent_version.clone(),
            acked: node.acked,
            error: node.error.clone(),
            last_seen: node.last_seen,
            workloads: node.claims.clone(),
        };
        self.nodes.iter().map(report).collect()
    }

    /// The node's workloads vanish from the snapshot, its certificates and tokens mean nothing from now on.
    pub(crate) fn remove_node(&mut self, name: &NodeName) -> Result<(), AdminError> {
        let Some(node) = self.nodes.remove(name) else { return Err(AdminError::NoSuchNode(name.clone())) };
        if let Err(error) = self.settle(|change| change.remove_node(name)) {
            self.nodes.insert(name.clone(), node);
            return Err(error.into());
        }
        Self::end_session(node.session, End::Removed);
        self.count_connected();
        info!(target: "weft_audit", event = "remove", node = %name, "node removed");
        Ok(())
    }

    pub(crate) fn overview(&self) -> Overview {
        Overview {
            trust_domain: self.ca.trust_domain().to_string(),
            mesh: self.plan.snapshot.mesh.clone(),
            revision: self.plan.snapshot.revision,
            catalog_errors: self.catalog_errors.clone(),
            catalog_warnings: self.catalog_warnings.clone(),
            ca_fingerprint: self.ca.fingerprint(),
            ca_not_after: unix(self.ca.not_after()),
        }
    }
}
