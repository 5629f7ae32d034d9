//! `weft.bridge.v1.Node`: what agents call.

use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_api::{PROTOCOL_VERSION, bridge::v1 as wire};
use weft_types::NodeName;

use super::{io::Peer, session};
use crate::control::{Credentials, NodePeer, Shared};

pub(super) struct NodeService {
    control: Shared,
    stop: CancellationToken,
}

impl NodeService {
    pub(super) fn new(control: Shared, stop: CancellationToken) -> Self {
        Self { control, stop }
    }
}

#[tonic::async_trait]
impl wire::node_server::Node for NodeService {
    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinResponse>, Status> {
        if let Some(peer) = request.extensions().get::<Peer>() {
            tracing::debug!(addr = %peer.addr, "a node asks to join");
        }
        let wire::JoinRequest { token, node, csr, protocol_version } = request.into_inner();
        check_protocol(protocol_version)?;
        let node: NodeName = node.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
        let joined = self.control.with(move |c| c.join(&token, &node, &csr, SystemTime::now())).await?;
        Ok(Response::new(respond(joined)))
    }

    async fn renew(&self, request: Request<wire::RenewRequest>) -> Result<Response<wire::JoinResponse>, Status> {
        let peer = node_of(&request)?;
        let csr = request.into_inner().csr;
        let renewed = self.control.with(move |c| c.renew(&peer, &csr, SystemTime::now())).await?;
        Ok(Response::new(respond(renewed)))
    }

    async fn issue_svid(&self, request: Request<wire::IssueSvidRequest>) -> Result<Response<wire::IssueSvidResponse>, Status> {
        let peer = node_of(&request)?;
        let wire::IssueSvidRequest { service, csr } = request.into_inner();
        let issued = self.control.with(move |c| c.issue_svid(&peer, &service, &csr, SystemTime::now()).map(|i| (i, c.wire_bundle()))).await?;
        let ((id, signed), trust_bundle) = issued;
        let certificate_chain = signed.chain.iter().map(|c| c.to_vec()).collect();
        let not_after = crate::control::unix(signed.not_after);
        Ok(Response::new(wire::IssueSvidResponse { certificate_chain, trust_bundle, spiffe_id: id.to_string(), not_after }))
    }

    type StreamStream = ReceiverStream<Result<wire::BridgeMessage, Status>>;

    async fn stream(&self, request: Request<Streaming<wire::NodeMessage>>) -> Result<Response<Self::StreamStream>, Status> {
        let peer = node_of(&request)?;
        // One message on its way is enough: what waits is taken from the newest state when there is room.
        let (out, messages) = mpsc::channel(1);
        tokio::spawn(session::run(self.control.clone(), peer, request.into_inner(), out, self.stop.clone()));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// A release that speaks another protocol is told so, in words that name both.
pub(super) fn check_protocol(theirs: u32) -> Result<(), Status> {
    if theirs == PROTOCOL_VERSION {
        return Ok(());
    }
    let older = if theirs < PROTOCOL_VERSION { "agent" } else { "bridge" };
    Err(Status::failed_precondition(format!("the agent speaks protocol version {theirs}, this bridge speaks {PROTOCOL_VERSION}: upgrade the {older}")))
}

fn node_of<T>(request: &Request<T>) -> Result<NodePeer, Status> {
    let peer = request.extensions().get::<Peer>().and_then(|p| p.node.clone());
    peer.ok_or_else(|| Status::unauthenticated("this needs the node's certificate: join first"))
}

fn respond(credentials: Credentials) -> wire::JoinResponse {
    wire::JoinResponse {
        certificate_chain: credentials.signed.chain.iter().map(|c| c.to_vec()).collect(),
        trust_bundle: credentials.bundle,
        trust_domain: credentials.id.trust_domain().to_string(),
        snapshot_keys: credentials.keys,
        spiffe_id: credentials.id.to_string(),
    }
}
