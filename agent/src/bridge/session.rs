//! One stream to the bridge, from hello to its end.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::{info, warn};
use weft_api::{
    PROTOCOL_VERSION,
    bridge::v1::{
        Ack, BridgeHello, BridgeMessage, Hello, IssueSvidRequest, NodeMessage, Refusals, Workload, WorkloadReport, bridge_message, node_client::NodeClient,
        node_message,
    },
};
use weft_identity::{KeyAndCsr, Svid};
use weft_types::ServiceRef;

use super::{Bridge, join, join::Refused};
use crate::{
    limits,
    mesh::{Membership, jittered},
    snapshots,
    workloads::Picture,
};

pub(super) struct Session {
    bridge: Arc<Bridge>,
    client: NodeClient<Channel>,
    outbox: mpsc::Sender<NodeMessage>,
    issuing: JoinSet<(ServiceRef, anyhow::Result<Svid>)>,
    under_way: BTreeSet<ServiceRef>,
    /// After a failure: tries so far, and when the next is due.
    again: HashMap<ServiceRef, (u32, Instant)>,
    reported: Vec<Workload>,
}

/// Why a session ended without an error.
pub(super) enum End {
    /// The node has a new certificate and shows it with a new connection.
    Renewed,
    /// The agent is ending.
    Shutdown,
}

impl Session {
    pub(super) async fn run(bridge: Arc<Bridge>, client: NodeClient<Channel>) -> anyhow::Result<End> {
        let (outbox, messages) = mpsc::channel(limits::BRIDGE_QUEUE);
        let mut stream_client = client.clone();
        let mut session = Self { bridge, client, outbox, issuing: JoinSet::new(), under_way: BTreeSet::new(), again: HashMap::new(), reported: Vec::new() };
        session.send(node_message::Message::Hello(session.hello())).await?;
        let mut inbox = join::within(stream_client.stream(ReceiverStream::new(messages))).await.context("the IAM bridge refuses the stream")?;
        let first = tokio::time::timeout(limits::BRIDGE_CALL_TIMEOUT, inbox.message()).await.context("the IAM bridge does not say hello")?;
        session.greeted(first.map_err(Refused)?)?;

        let (mut view, mut changes) = (session.bridge.view.clone(), session.bridge.mesh.changes());
        session.report(&view.now()).await?;
        loop {
            let wake = session.start_issuing();
            let renew_at = session.bridge.mesh.node().map(|n| n.renew_at);
            tokio::select! {
                () = session.bridge.shutdown.cancelled() => return Ok(End::Shutdown),
                message = inbox.message() => match message.map_err(Refused)? {
                    Some(message) => session.receive(message).await?,
                    None => bail!("the IAM bridge ended the stream"),
                },
                there = view.changed() => {
                    if !there {
                        return Ok(End::Shutdown);
                    }
                    // Many workloads change together; the picture is complete anyway.
                    tokio::time::sleep(limits::REPORT_SETTLE).await;
                    session.report(&view.now()).await?;
                }
                _ = changes.changed() => {}
                Some(done) = session.issuing.join_next() => if let Ok((service, issued)) = done { session.issued(service, issued) },
                () = until(wake) => {}
                () = until(renew_at) => {
                    let joined = join::renew(&mut session.client, &session.bridge.node).await?;
                    session.bridge.mesh.set_node(joined.node);
                    session.bridge.mesh.set_membership(joined.membership);
                    info!("the node's certificate is renewed");
                    return Ok(End::Renewed);
                }
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol_version: PROTOCOL_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            schema_version: weft_snapshot::DELTA_SCHEMA_VERSION,
            revision: self.bridge.mesh.revision().0,
        }
    }

    fn greeted(&self, first: Option<BridgeMessage>) -> anyhow::Result<()> {
        let Some(BridgeMessage { message: Some(bridge_message::Message::Hello(hello)) }) = first else {
            bail!("the IAM bridge began with something else than hello");
        };
        if hello.protocol_version != PROTOCOL_VERSION {
            bail!("the IAM bridge speaks protocol version {}, this agent speaks {PROTOCOL_VERSION}: bring both to one release", hello.protocol_version);
        }
        info!(version = hello.bridge_version, "connected to the IAM bridge");
        self.take_roots(hello)?;
        self.bridge.status.seen();
        // Refusals of an earlier session may not hold any more; the bridge says them again after the report.
        self.bridge.workloads.refused(HashMap::new());
        Ok(())
    }

    fn take_roots(&self, hello: BridgeHello) -> anyhow::Result<()> {
        let Some(Membership { bundle, .. }) = self.bridge.mesh.membership() else { bail!("the node has not joined") };
        let new = join::membership(bundle.trust_domain().clone(), hello.trust_bundle, hello.snapshot_keys)?;
        self.bridge.mesh.set_membership(new);
        Ok(())
    }

    async fn receive(&mut self, message: BridgeMessage) -> anyhow::Result<()> {
        self.bridge.status.seen();
        match message.message {
            Some(bridge_message::Message::Envelope(envelope)) => {
                let (bridge, revision, delta) = (self.bridge.clone(), envelope.revision, envelope.base_revision != 0);
                let envelope = snapshots::from_wire(envelope);
                let applied = tokio::task::spawn_blocking(move || bridge.applier.apply(&envelope, &bridge.workloads)).await?;
                self.bridge.metrics.snapshot(delta, applied.is_ok());
                let error = applied.err().unwrap_or_default();
                if !error.is_empty() {
                    warn!(revision, error, "a revision is refused; the former stays in force");
                }
                self.send(node_message::Message::Ack(Ack { revision, error })).await
            }
            Some(bridge_message::Message::Refusals(refusals)) => {
                self.refused(refusals);
                Ok(())
            }
            Some(bridge_message::Message::Hello(hello)) => self.take_roots(hello),
            // A later version says more than this one understands.
            None => Ok(()),
        }
    }

    fn refused(&self, refusals: Refusals) {
        let refused = refusals.refusals.into_iter().filter_map(|r| Some((r.uid.parse().ok()?, r.reason))).collect();
        self.bridge.workloads.refused(refused);
    }

    /// All workloads that are here. Addresses are told only once the kernel enforces, so that nobody dials one before.
    async fn report(&mut self, picture: &Picture) -> anyhow::Result<()> {
        let workloads = picture
            .workloads
            .iter()
            .filter(|w| w.present)
            .map(|w| Workload {
                uid: w.uid.to_string(),
                service: w.service.to_string(),
                addresses: w.enrolled.iter().flat_map(|e| &e.addresses).map(ToString::to_string).collect(),
            })
            .collect::<Vec<_>>();
        if workloads == self.reported && !self.reported.is_empty() {
            return Ok(());
        }
        self.reported.clone_from(&workloads);
        self.send(node_message::Message::Workloads(WorkloadReport { workloads })).await
    }

    async fn send(&self, message: node_message::Message) -> anyhow::Result<()> {
        let sent = self.outbox.send(NodeMessage { message: Some(message) });
        match tokio::time::timeout(limits::BRIDGE_CALL_TIMEOUT, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => bail!("the IAM bridge ended the stream"),
            Err(_) => bail!("the IAM bridge does not read what it is sent"),
        }
    }

    /// Asks for every SVID that is missing or due; returns when the next one is.
    fn start_issuing(&mut self) -> Option<SystemTime> {
        let (now, instant) = (SystemTime::now(), Instant::now());
        let mut next: Option<SystemTime> = None;
        for service in wanted(&self.bridge.view.now()) {
            if self.under_way.contains(&service) {
                continue;
            }
            let due = self.due(&service, now).max(self.again.get(&service).map_or(now, |(_, at)| now + at.saturating_duration_since(instant)));
            if due <= now {
                self.under_way.insert(service.clone());
                self.issuing.spawn(issue(self.client.clone(), service));
            } else {
                next = Some(next.map_or(due, |n| n.min(due)));
            }
        }
        next
    }

    fn due(&self, service: &ServiceRef, now: SystemTime) -> SystemTime {
        let mesh = &self.bridge.mesh;
        let Some(issued) = mesh.svid(service) else { return now };
        let changed = mesh.index().and_then(|i| i.by_ref(service).map(|s| s.identity != issued.svid.id)).unwrap_or(false);
        if changed { now } else { issued.renew_at }
    }

    fn issued(&mut self, service: ServiceRef, issued: anyhow::Result<Svid>) {
        self.under_way.remove(&service);
        let mesh = &self.bridge.mesh;
        let right = issued.and_then(|svid| match mesh.trust_bundle() {
            Some(bundle) if svid.id.is_workload() && svid.id.trust_domain() == bundle.trust_domain() => Ok(svid),
            _ => bail!("the IAM bridge issued {}, which is no workload of this mesh", svid.id),
        });
        self.bridge.metrics.svid(right.is_ok());
        match right {
            Ok(svid) => {
                self.again.remove(&service);
                mesh.set_svid(&service, svid);
                self.bridge.workloads.look();
            }
            Err(error) => {
                let tries = self.again.get(&service).map_or(0, |(tries, _)| *tries);
                self.again.insert(service.clone(), (tries + 1, Instant::now() + backoff(tries)));
                let text = format!("{error:#}");
                if tries == 2 {
                    warn!(%service, error = text, "no SVID yet");
                }
                mesh.set_problem(&service, text);
            }
        }
    }
}

/// The services of the workloads that are here and may be.
fn wanted(picture: &Picture) -> BTreeSet<ServiceRef> {
    picture.workloads.iter().filter(|w| w.present && !w.refused).map(|w| w.service.clone()).collect()
}

async fn issue(mut client: NodeClient<Channel>, service: ServiceRef) -> (ServiceRef, anyhow::Result<Svid>) {
    let issued = async {
        let key = KeyAndCsr::generate()?;
        let request = IssueSvidRequest { service: service.to_string(), csr: key.csr().to_vec() };
        let answer = join::within(client.issue_svid(request)).await?;
        Ok(key.into_svid(answer.certificate_chain.into_iter().map(Into::into).collect())?)
    };
    let issued = issued.await;
    (service, issued)
}

/// The first tries follow closely: the bridge may not have read the report yet.
pub(super) fn backoff(tries: u32) -> Duration {
    jittered(limits::RECONNECT_MIN.saturating_mul(1 << tries.min(16)).min(limits::RECONNECT_MAX))
}

async fn until(at: Option<SystemTime>) {
    match at {
        None => std::future::pending().await,
        Some(at) => tokio::time::sleep(at.duration_since(SystemTime::now()).unwrap_or_default()).await,
    }
}
