//! Becoming a node of a mesh, and staying one.

use std::path::Path;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;
use weft_api::{
    PROTOCOL_VERSION,
    bridge::v1::{JoinRequest, JoinResponse, RenewRequest, SigningKey, node_client::NodeClient},
};
use weft_identity::{JoinToken, KeyAndCsr, Svid, TrustBundle};
use weft_types::{NodeName, SpiffeId, TrustDomain};

use super::channel::dial_to_join;
use crate::{limits, mesh::Membership};

/// What the bridge made of a join or a renewal.
pub(super) struct Joined {
    pub(super) node: Svid,
    pub(super) membership: Membership,
}

pub(super) fn read_token(file: &Path) -> anyhow::Result<JoinToken> {
    let text = std::fs::read_to_string(file).with_context(|| format!("join token file {}", file.display()))?;
    JoinToken::parse(&text).with_context(|| format!("join token file {}", file.display()))
}

/// Whether a token is for the mesh of which these are the roots.
pub(super) fn is_for(token: &JoinToken, bundle: &TrustBundle) -> bool {
    bundle.certificates().iter().any(|c| Sha256::digest(c).as_slice() == token.ca_sha256)
}

pub(super) async fn join(address: &str, token: &JoinToken, name: &NodeName) -> anyhow::Result<Joined> {
    let mut client = dial_to_join(address, token.ca_sha256).await?;
    let key = KeyAndCsr::generate()?;
    let request = JoinRequest { token: token.reveal().to_string(), node: name.to_string(), csr: key.csr().to_vec(), protocol_version: PROTOCOL_VERSION };
    let answer = within(client.join(request)).await.context("the IAM bridge refuses the join")?;
    let joined = read(answer, key, name)?;
    if !is_for(token, &joined.membership.bundle) {
        bail!("the IAM bridge handed out roots that do not hold the CA of the join token");
    }
    Ok(joined)
}

pub(super) async fn renew(client: &mut NodeClient<Channel>, name: &NodeName) -> anyhow::Result<Joined> {
    let key = KeyAndCsr::generate()?;
    let answer = within(client.renew(RenewRequest { csr: key.csr().to_vec() })).await.context("the IAM bridge refuses to renew the node's certificate")?;
    read(answer, key, name)
}

pub(super) async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>) -> anyhow::Result<T> {
    match tokio::time::timeout(limits::BRIDGE_CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Refused(status).into()),
        Err(_) => bail!("no answer within {} s", limits::BRIDGE_CALL_TIMEOUT.as_secs()),
    }
}

/// A status, shown by its message alone.
#[derive(Debug)]
pub(super) struct Refused(pub(super) tonic::Status);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.message() {
            "" => write!(f, "{}", self.0.code()),
            message => f.write_str(message),
        }
    }
}

impl std::error::Error for Refused {}

fn read(answer: JoinResponse, key: KeyAndCsr, name: &NodeName) -> anyhow::Result<Joined> {
    let trust_domain: TrustDomain = answer.trust_domain.parse()?;
    let membership = membership(trust_domain.clone(), answer.trust_bundle, answer.snapshot_keys)?;
    let node = key.into_svid(answer.certificate_chain.into_iter().map(Into::into).collect()).context("the IAM bridge sent an unusable certificate")?;
    let expected = SpiffeId::Node { trust_domain, name: name.clone() };
    if node.id != expected {
        bail!("the IAM bridge made the node {} instead of {expected}", node.id);
    }
    Ok(Joined { node, membership })
}

/// From the wire's roots and keys.
pub(super) fn membership(trust_domain: TrustDomain, bundle: Vec<Vec<u8>>, keys: Vec<SigningKey>) -> anyhow::Result<Membership> {
    let bundle = TrustBundle::new(trust_domain, bundle.into_iter().map(Into::into).collect())?;
    let snapshot_keys = keys
        .into_iter()
        .map(|k| Ok((k.id, k.public_key.try_into().map_err(|_| anyhow::anyhow!("the IAM bridge sent a snapshot key that is no Ed25519 key"))?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    if snapshot_keys.is_empty() {
        bail!("the IAM bridge sent no snapshot key");
    }
    Ok(Membership { bundle: bundle.into(), snapshot_keys })
}
