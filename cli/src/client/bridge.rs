//! The IAM bridge's socket for people.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tonic::transport::Channel;
use weft_api::{
    bridge::v1::{CreateJoinTokenRequest, GetSnapshotRequest, ListNodesRequest, RemoveNodeRequest, StatusRequest, admin_client::AdminClient},
    connect_unix,
    limits::MESSAGE_MAX_BYTES,
};
use weft_snapshot::Snapshot;
use weft_types::NodeName;

use super::{ClientError, Program, call, convert};
use crate::view::{BridgeView, NodeView, Stamp};

#[derive(Clone, Debug)]
pub struct Bridge {
    pub socket: PathBuf,
    pub(super) channel: Channel,
    client: AdminClient<Channel>,
}

impl Bridge {
    pub async fn connect(socket: impl AsRef<Path>) -> Result<Self, ClientError> {
        let socket = socket.as_ref().to_owned();
        let channel = connect_unix(&socket).await.map_err(|e| ClientError::connect(Program::Bridge, &socket, e))?;
        let client = AdminClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX_BYTES);
        Ok(Self { socket, channel, client })
    }

    pub async fn status(&self) -> Result<BridgeView, ClientError> {
        let status = call(Program::Bridge, &self.socket, self.client.clone().status(StatusRequest {})).await?;
        Ok(convert::bridge(status))
    }

    /// Nodes with the reason of the last refused snapshot, empty when none was.
    pub async fn nodes(&self) -> Result<Vec<(NodeView, String)>, ClientError> {
        let list = call(Program::Bridge, &self.socket, self.client.clone().list_nodes(ListNodesRequest {})).await?;
        Ok(list.nodes.into_iter().map(convert::bridge_node).collect())
    }

    /// `None`: no revision yet.
    pub async fn snapshot(&self) -> Result<Option<Snapshot>, ClientError> {
        let envelope = match call(Program::Bridge, &self.socket, self.client.clone().get_snapshot(GetSnapshotRequest {})).await {
            Err(e) if e.is_not_found() => return Ok(None),
            other => other?,
        };
        let unreadable = |message| ClientError::Snapshot { program: Program::Bridge, socket: self.socket.clone(), message };
        convert::snapshot_of(&envelope).map_err(unreadable)
    }

    pub async fn create_token(&self, node: &NodeName, may_run: Vec<String>, ttl: Duration) -> Result<(String, Option<Stamp>), ClientError> {
        let request = CreateJoinTokenRequest { node: node.to_string(), may_run, ttl_seconds: ttl.as_secs() };
        let made = call(Program::Bridge, &self.socket, self.client.clone().create_join_token(request)).await?;
        Ok((made.token, Stamp::seconds(made.expires_at)))
    }

    pub async fn remove_node(&self, node: &NodeName) -> Result<(), ClientError> {
        call(Program::Bridge, &self.socket, self.client.clone().remove_node(RemoveNodeRequest { node: node.to_string() })).await.map(drop)
    }
}
