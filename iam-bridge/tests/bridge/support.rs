//! A bridge in this process on an ephemeral port, and a node that speaks to it as an agent does.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint, Uri},
};
use weft_api::{
    PROTOCOL_VERSION,
    bridge::v1::{
        Ack, BridgeMessage, CreateJoinTokenRequest, Envelope, Hello, IssueSvidRequest, IssueSvidResponse, JoinRequest, JoinResponse, NodeMessage, Refusal,
        StatusRequest, StatusResponse, Workload, WorkloadReport, admin_client::AdminClient, bridge_message::Message as Said, node_client::NodeClient,
        node_message::Message as Say,
    },
    connect_unix,
    limits::MESSAGE_MAX_BYTES,
};
use weft_iam_bridge::{Config, Running, start};
use weft_identity::{JoinToken, KeyAndCsr, Svid, TrustBundle, bridge_id, client_config, join_client_config};
use weft_snapshot::{Keyring, Snapshot};
use weft_types::{Revision, TrustDomain};

pub const DEADLINE: Duration = Duration::from_secs(20);

pub const MESH: &str = "apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: { name: corp }
spec: { trustDomain: corp.example, baseDomain: apps.corp.example, serviceRange: 100.64.0.0/16 }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: team-shop }
spec: { lead: alice@corp.example, contact: \"#shop\" }
";

/// A service of team-shop; `more` goes into its spec.
pub fn service(name: &str, more: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: {name}, namespace: {namespace} }}\n\
         spec:\n  type: application\n  owner: team-shop\n  ports: [ {{ name: web, port: 80, targetPort: 8080 }} ]\n{more}"
    )
}

/// Two services; orders may reach stock.
pub fn catalog(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("mesh.yaml"), MESH).unwrap();
    std::fs::write(dir.join("orders.yaml"), service("shop/orders", "  dependsOn: [ { service: stock } ]\n")).unwrap();
    std::fs::write(dir.join("stock.yaml"), service("shop/stock", "")).unwrap();
}

pub struct World {
    pub dir: TempDir,
    pub bridge: Option<Running>,
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        catalog(&dir.path().join("catalog"));
        let mut world = Self { dir, bridge: None };
        world.start().await;
        world
    }

    pub fn config(&self) -> Config {
        let dir = self.dir.path();
        Config {
            state_dir: dir.join("state"),
            catalog: dir.join("catalog"),
            listen: "127.0.0.1:0".parse().unwrap(),
            admin_socket: dir.join("bridge.sock"),
            svid_ttl: Duration::from_secs(60),
            node_cert_ttl: Duration::from_secs(3600),
            metrics: Some("127.0.0.1:0".parse().unwrap()),
            provider: None,
            log_level: "info".into(),
            log_format: weft_telemetry::LogFormat::Text,
        }
    }

    pub async fn start(&mut self) {
        self.bridge = Some(start(self.config()).await.unwrap());
    }

    pub async fn restart(&mut self) {
        self.bridge.take().unwrap().stop().await;
        self.start().await;
    }

    pub fn running(&self) -> &Running {
        self.bridge.as_ref().unwrap()
    }

    pub fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join("catalog").join(file);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(connect_unix(self.dir.path().join("bridge.sock")).await.unwrap()).max_decoding_message_size(MESSAGE_MAX_BYTES)
    }

    pub async fn token(&self, node: &str, may_run: &[&str]) -> String {
        let request = CreateJoinTokenRequest { node: node.into(), may_run: may_run.iter().map(|m| (*m).into()).collect(), ttl_seconds: 0 };
        self.admin().await.create_join_token(request).await.unwrap().into_inner().token
    }

    pub async fn status(&self) -> StatusResponse {
        self.admin().await.status(StatusRequest {}).await.unwrap().into_inner()
    }

    /// Waits until the status is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&StatusResponse) -> bool) -> StatusResponse {
        let look = async {
            loop {
                let status = self.status().await;
                if wanted(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, look).await.unwrap_or_else(|_| panic!("not in time: {what}"))
    }

    pub async fn channel(&self, config: Arc<ClientConfig>) -> Result<Channel, tonic::transport::Error> {
        channel(self.running().nodes, config).await
    }

    pub async fn try_join(&self, token: &str, node: &str) -> Result<Node, Status> {
        let key = KeyAndCsr::generate().unwrap();
        let joined = join_with(self.running().nodes, token, node, &key).await?;
        Ok(Node::new(self, key, joined).await)
    }

    pub async fn join(&self, node: &str, may_run: &[&str]) -> Node {
        let token = self.token(node, may_run).await;
        self.try_join(&token, node).await.unwrap()
    }
}

pub async fn channel(addr: std::net::SocketAddr, config: Arc<ClientConfig>) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_: Uri| {
        let config = config.clone();
        async move {
            let tcp = TcpStream::connect(addr).await?;
            let name = ServerName::try_from("iam-bridge.weft-system.weft.internal").unwrap();
            TlsConnector::from(config).connect(name, tcp).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://weft.invalid").connect_with_connector(connector).await
}

pub async fn join_at(addr: std::net::SocketAddr, token: &str, node: &str) -> Result<JoinResponse, Status> {
    join_with(addr, token, node, &KeyAndCsr::generate().unwrap()).await
}

async fn join_with(addr: std::net::SocketAddr, token: &str, node: &str, key: &KeyAndCsr) -> Result<JoinResponse, Status> {
    let hash = JoinToken::parse(token).unwrap().ca_sha256;
    let channel = channel(addr, join_client_config(hash, &[b"h2"])).await.unwrap();
    let request = JoinRequest { token: token.into(), node: node.into(), csr: key.csr().to_vec(), protocol_version: PROTOCOL_VERSION };
    Ok(NodeClient::new(channel).join(request).await?.into_inner())
}

pub struct Node {
    pub svid: Svid,
    pub bundle: TrustBundle,
    pub keyring: Keyring,
    pub client: NodeClient<Channel>,
}

impl Node {
    async fn new(world: &World, key: KeyAndCsr, joined: JoinResponse) -> Self {
        let domain: TrustDomain = joined.trust_domain.parse().unwrap();
        let bundle = TrustBundle::new(domain, joined.trust_bundle.into_iter().map(Into::into).collect()).unwrap();
        let svid = key.into_svid(joined.certificate_chain.into_iter().map(Into::into).collect()).unwrap();
        let keyring = Keyring::new(joined.snapshot_keys.into_iter().map(|k| (k.id, k.public_key.try_into().unwrap())).collect());
        let client = Self::client(world, &svid, &bundle).await.unwrap();
        Self { svid, bundle, keyring, client }
    }

    /// A connection that presents this certificate.
    pub async fn client(world: &World, svid: &Svid, bundle: &TrustBundle) -> Result<NodeClient<Channel>, tonic::transport::Error> {
        let channel = world.channel(client_config(svid, bundle, &bridge_id(bundle.trust_domain()), &[b"h2"])).await?;
        Ok(NodeClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES))
    }

    pub async fn issue(&self, service: &str) -> Result<(KeyAndCsr, IssueSvidResponse), Status> {
        let key = KeyAndCsr::generate().unwrap();
        let request = IssueSvidRequest { service: service.into(), csr: key.csr().to_vec() };
        self.client.clone().issue_svid(request).await.map(|r| (key, r.into_inner()))
    }

    pub async fn stream(&self) -> Stream {
        self.stream_with(hello()).await
    }

    pub async fn stream_with(&self, first: Hello) -> Stream {
        self.stream_of(NodeMessage { message: Some(Say::Hello(first)) }).await
    }

    pub async fn stream_of(&self, first: NodeMessage) -> Stream {
        let (say, said) = mpsc::channel(8);
        say.send(first).await.unwrap();
        let inbound = self.client.clone().stream(ReceiverStream::new(said)).await.unwrap().into_inner();
        Stream { say, inbound, keyring: self.keyring.clone() }
    }
}

pub fn hello() -> Hello {
    Hello { protocol_version: PROTOCOL_VERSION, agent_version: "test".into(), schema_version: weft_snapshot::SCHEMA_VERSION, revision: 0 }
}

pub struct Stream {
    pub say: mpsc::Sender<NodeMessage>,
    inbound: Streaming<BridgeMessage>,
    keyring: Keyring,
}

impl Stream {
    pub async fn next(&mut self) -> Result<Said, Status> {
        let message = tokio::time::timeout(DEADLINE, self.inbound.message()).await.expect("a message in time")?;
        Ok(message.ok_or_else(|| Status::new(Code::Unknown, "the stream ended"))?.message.expect("a message of a known kind"))
    }

    /// The next envelope, as it came.
    pub async fn envelope(&mut self) -> weft_snapshot::Envelope {
        loop {
            if let Said::Envelope(envelope) = self.next().await.unwrap() {
                return from_wire(envelope);
            }
        }
    }

    /// The next envelope, opened.
    pub async fn snapshot(&mut self) -> Snapshot {
        let envelope = self.envelope().await;
        self.keyring.open(&envelope).unwrap()
    }

    /// The next snapshot of which `wanted` holds.
    pub async fn snapshot_when(&mut self, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        loop {
            let snapshot = self.snapshot().await;
            if wanted(&snapshot) {
                return snapshot;
            }
        }
    }

    /// How the stream ends.
    pub async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    pub async fn send(&self, message: Say) {
        self.say.send(NodeMessage { message: Some(message) }).await.unwrap();
    }

    pub async fn ack(&self, revision: u64, error: &str) {
        self.send(Say::Ack(Ack { revision, error: error.into() })).await;
    }

    /// Reports, and waits for the answer.
    pub async fn report(&mut self, workloads: &[(&str, &str, &str)]) -> Vec<Refusal> {
        let workload =
            |(uid, service, address): &(&str, &str, &str)| Workload { uid: (*uid).into(), service: (*service).into(), addresses: vec![(*address).into()] };
        self.send(Say::Workloads(WorkloadReport { workloads: workloads.iter().map(workload).collect() })).await;
        self.refusals().await
    }

    pub async fn refusals(&mut self) -> Vec<Refusal> {
        loop {
            if let Said::Refusals(refusals) = self.next().await.unwrap() {
                return refusals.refusals;
            }
        }
    }
}

pub fn from_wire(e: Envelope) -> weft_snapshot::Envelope {
    weft_snapshot::Envelope {
        schema_version: e.schema_version,
        revision: Revision(e.revision),
        base_revision: Revision(e.base_revision),
        payload: e.payload,
        key_id: e.key_id,
        signature: e.signature,
    }
}
