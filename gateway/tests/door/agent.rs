//! The node's agent, as far as its gateway sees it: it says which policy is in force, and is told of requests.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
};

use prost::Message as _;
use tokio::{
    net::UnixListener,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_api::{
    agent::v1::Flow,
    bridge::v1::Envelope,
    gateway::v1::{
        FollowRequest, FollowResponse, ReportRequest, ReportResponse,
        mesh_server::{Mesh, MeshServer},
    },
};
use weft_snapshot::{SigningKey, Snapshot};

pub(crate) struct Agent {
    pub(crate) socket: PathBuf,
    shared: Arc<Shared>,
    key: SigningKey,
}

struct Shared {
    envelope: watch::Sender<Option<Vec<u8>>>,
    flows: Mutex<Vec<Flow>>,
    stop: Mutex<CancellationToken>,
}

impl Agent {
    pub(crate) fn start(dir: &Path) -> Self {
        let shared = Arc::new(Shared { envelope: watch::channel(None).0, flows: Mutex::default(), stop: Mutex::default() });
        let agent = Self { socket: dir.join("agent.sock"), shared, key: SigningKey::generate().unwrap().0 };
        agent.come();
        agent
    }

    /// Listens; after [`Agent::go`] again, with all that it knew.
    pub(crate) fn come(&self) {
        let stop = CancellationToken::new();
        *self.shared.stop.lock().unwrap() = stop.clone();
        let _ = std::fs::remove_file(&self.socket);
        let incoming = UnixListenerStream::new(UnixListener::bind(&self.socket).unwrap());
        let serving = tonic::transport::Server::builder().add_service(MeshServer::from_arc(Arc::clone(&self.shared))).serve_with_incoming(incoming);
        tokio::spawn(async move { stop.run_until_cancelled(serving).await });
    }

    /// Ends, and leaves its socket behind.
    pub(crate) fn go(&self) {
        self.shared.stop().cancel();
    }

    pub(crate) fn say(&self, snapshot: &Snapshot) {
        let envelope = self.key.sign(snapshot.revision, weft_snapshot::encode(snapshot));
        let envelope = Envelope {
            schema_version: envelope.schema_version,
            revision: envelope.revision.0,
            base_revision: 0,
            payload: envelope.payload,
            key_id: envelope.key_id,
            signature: envelope.signature,
        };
        self.say_bytes(envelope.encode_to_vec());
    }

    pub(crate) fn say_bytes(&self, envelope: Vec<u8>) {
        self.shared.envelope.send_replace(Some(envelope));
    }

    pub(crate) fn flows(&self) -> Vec<Flow> {
        self.shared.flows.lock().unwrap().clone()
    }
}

impl Shared {
    fn stop(&self) -> CancellationToken {
        self.stop.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl Mesh for Shared {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

    async fn follow(&self, _: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let (send, receive) = mpsc::channel(1);
        let (mut envelopes, stop) = (self.envelope.subscribe(), self.stop());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                let envelope = envelopes.borrow_and_update().clone();
                if let Some(envelope) = envelope
                    && send.send(Ok(FollowResponse { envelope })).await.is_err()
                {
                    return;
                }
                if envelopes.changed().await.is_err() {
                    return;
                }
            }
        }));
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn report(&self, request: Request<Streaming<ReportRequest>>) -> Result<Response<ReportResponse>, Status> {
        let mut reports = request.into_inner();
        let stop = self.stop();
        while let Some(report) = stop.run_until_cancelled(reports.message()).await.unwrap_or(Err(Status::unavailable("gone")))? {
            self.flows.lock().unwrap().extend(report.flows);
        }
        Ok(Response::new(ReportResponse {}))
    }
}
