//! Nodes that exist only on the wire: they join with a token, report workloads as an agent does, and hold what the bridge sends. What they report is
//! judged like any node's; nothing of the bridge is bypassed.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use weft_api::{
    PROTOCOL_VERSION,
    bridge::v1::{
        Ack, Hello, JoinRequest, NodeMessage, Workload, WorkloadReport, bridge_message::Message as Heard, node_client::NodeClient,
        node_message::Message as Said,
    },
    limits::MESSAGE_MAX_BYTES,
};
use weft_identity::{JoinToken, KeyAndCsr, TrustBundle, bridge_id, client_config, join_client_config, sni_for};
use weft_kernel::netns::Netns;
use weft_lab::Bridge;
use weft_snapshot::DELTA_SCHEMA_VERSION;

const JOINED: Duration = Duration::from_secs(60);

/// One such node; its stream ends when it is dropped.
pub struct Phantom {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<Result<()>>>,
}

impl Phantom {
    /// Joins as `node` and reports (uid, service, address); returns when the bridge has answered, and refuses none.
    pub fn join(bridge: &Bridge, node: &str, may_run: &[&str], workloads: Vec<(String, String, String)>) -> Result<Self> {
        let (token, address, netns) = (bridge.token(node, may_run)?, bridge.address(), bridge.machine().place().netns());
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let node = node.to_owned();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(live(token, node, Wire { address, netns }, workloads, tell, stopped))
        });
        let mut this = Self { stop: Some(stop), thread: Some(thread) };
        if told.recv_timeout(JOINED).is_err() {
            this.stop = None;
            let said = this.thread.take().map(|t| t.join().map_err(|_| anyhow::anyhow!("it panicked"))).context("no thread")??;
            said.context("a node of the crowd")?;
            bail!("a node of the crowd was not answered");
        }
        Ok(this)
    }
}

impl Drop for Phantom {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where the bridge is, and from which namespace it is dialled.
struct Wire {
    address: SocketAddr,
    netns: PathBuf,
}

impl Wire {
    async fn client(&self, config: Arc<ClientConfig>, bridge: &weft_types::SpiffeId) -> Result<NodeClient<Channel>> {
        let (address, name) = (self.address, sni_for(bridge).context("no server name")?);
        let socket = Netns::open(self.netns.clone())?.run(|| std::net::TcpStream::connect(address))??;
        socket.set_nonblocking(true)?;
        let mut stream = Some(TlsConnector::from(config).connect(name, TcpStream::from_std(socket)?).await?);
        let connector = tower::service_fn(move |_: Uri| {
            let stream = stream.take().map(TokioIo::new).ok_or_else(|| std::io::Error::other("the connection has ended"));
            async move { stream }
        });
        let channel = Endpoint::from_static("http://weft.invalid").connect_with_connector(connector).await?;
        Ok(NodeClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES).max_encoding_message_size(MESSAGE_MAX_BYTES))
    }
}

async fn live(
    token: String,
    node: String,
    wire: Wire,
    workloads: Vec<(String, String, String)>,
    tell: std::sync::mpsc::Sender<()>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let key = KeyAndCsr::generate()?;
    let any = bridge_id(&"weft.internal".parse()?);
    let mut anonymous = wire.client(join_client_config(JoinToken::parse(&token)?.ca_sha256, &[b"h2"]), &any).await?;
    let request = JoinRequest { token, node, csr: key.csr().to_vec(), protocol_version: PROTOCOL_VERSION };
    let joined = anonymous.join(request).await?.into_inner();
    let bundle = TrustBundle::new(joined.trust_domain.parse()?, joined.trust_bundle.into_iter().map(Into::into).collect())?;
    let svid = key.into_svid(joined.certificate_chain.into_iter().map(Into::into).collect())?;
    let mut client = wire.client(client_config(&svid, &bundle, &bridge_id(bundle.trust_domain()), &[b"h2"]), &any).await?;

    let (say, said) = mpsc::channel(8);
    let send = async |message| say.send(NodeMessage { message: Some(message) }).await;
    let hello = Hello { protocol_version: PROTOCOL_VERSION, agent_version: "crowd".to_owned(), schema_version: DELTA_SCHEMA_VERSION, revision: 0 };
    send(Said::Hello(hello)).await?;
    let mut inbound = client.stream(ReceiverStream::new(said)).await?.into_inner();
    let workloads = workloads.into_iter().map(|(uid, service, address)| Workload { uid, service, addresses: vec![address] }).collect();
    send(Said::Workloads(WorkloadReport { workloads })).await?;
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(()),
            message = inbound.message() => match message?.and_then(|m| m.message) {
                // It takes what it is sent: this is a test of the bridge and of the other nodes.
                Some(Heard::Envelope(envelope)) => send(Said::Ack(Ack { revision: envelope.revision, error: String::new() })).await?,
                Some(Heard::Refusals(refused)) => {
                    if let Some(first) = refused.refusals.first() {
                        bail!("{} workloads refused, the first: {}", refused.refusals.len(), first.reason);
                    }
                    let _ = tell.send(());
                }
                Some(Heard::Hello(_)) => {}
                None => bail!("the bridge ended the stream"),
            }
        }
    }
}
