//! One stream of one node: hello first, then reports and acks one way, the newest snapshot and refusals the other.

use std::{sync::Arc, time::SystemTime};

use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use weft_api::{
    PROTOCOL_VERSION,
    bridge::v1::{self as wire, bridge_message::Message as Answer, node_message::Message as Said},
};
use weft_snapshot::{DELTA_SCHEMA_VERSION, SCHEMA_VERSION};
use weft_types::Revision;

use super::node::check_protocol;
use crate::{
    control::{End, Greeting, NodePeer, Published, Session, Shared, to_wire},
    limits,
    placement::Reported,
};

type Out = mpsc::Sender<Result<wire::BridgeMessage, Status>>;

/// Serves the stream to its end.
pub(super) async fn run(control: Shared, peer: NodePeer, mut inbound: Streaming<wire::NodeMessage>, out: Out, stop: CancellationToken) {
    let opened = open(&control, &peer, &mut inbound).await;
    let status = match opened {
        Err(status) => Some(status),
        Ok(mut session) => {
            let ended = tokio::select! {
                ended = talk(&control, &peer, &mut session, &mut inbound, &out) => ended,
                () = stop.cancelled() => Err(End::Stopping.into()),
                () = out.closed() => Ok(()),
            };
            let (node, id) = (peer.name.clone(), session.id);
            control.with(move |c| c.disconnect(&node, id, SystemTime::now())).await;
            ended.err()
        }
    };
    if let Some(status) = status {
        tracing::info!(node = %peer.name, reason = status.message(), "stream ends");
        // Whether the node still reads does not matter any more.
        let _ = timeout(limits::STOP_TIMEOUT, out.send(Err(status))).await;
    }
}

async fn open(control: &Shared, peer: &NodePeer, inbound: &mut Streaming<wire::NodeMessage>) -> Result<Session, Status> {
    let first = timeout(limits::HELLO_TIMEOUT, inbound.message()).await.map_err(|_| Status::deadline_exceeded("no hello came on the stream"))??;
    let Some(wire::NodeMessage { message: Some(Said::Hello(hello)) }) = first else {
        return Err(Status::invalid_argument("a stream starts with a hello"));
    };
    check_protocol(hello.protocol_version)?;
    if hello.schema_version < SCHEMA_VERSION {
        let theirs = hello.schema_version;
        return Err(Status::failed_precondition(format!(
            "the agent reads snapshots of version {theirs}, this bridge writes {SCHEMA_VERSION}: upgrade the agent"
        )));
    }
    let agent_version = hello.agent_version.chars().take(limits::TEXT_MAX_CHARS).collect();
    let greeting = Greeting { agent_version, revision: Revision(hello.revision), schema_version: hello.schema_version };
    let peer = peer.clone();
    Ok(control.with(move |c| c.connect(&peer, greeting, SystemTime::now())).await?)
}

async fn talk(control: &Shared, peer: &NodePeer, session: &mut Session, inbound: &mut Streaming<wire::NodeMessage>, out: &Out) -> Result<(), Status> {
    let hello = wire::BridgeHello {
        protocol_version: PROTOCOL_VERSION,
        bridge_version: env!("CARGO_PKG_VERSION").to_owned(),
        snapshot_keys: std::mem::take(&mut session.keys),
        trust_bundle: std::mem::take(&mut session.bundle),
    };
    send(out, Answer::Hello(hello)).await?;
    // Always, even if the node names this very revision: a restored database could have given the number twice.
    session.snapshots.mark_changed();
    let mut node = Told::default();
    loop {
        tokio::select! {
            changed = session.end.changed() => {
                let end = *session.end.borrow_and_update();
                return match (changed, end) {
                    (Ok(()), None) => continue,
                    (_, end) => Err(end.unwrap_or(End::Stopping).into()),
                };
            }
            changed = session.snapshots.changed() => {
                changed.map_err(|_| Status::from(End::Stopping))?;
                let published = Arc::clone(&session.snapshots.borrow_and_update());
                node.bring(&published, session, out).await?;
            }
            changed = session.refusals.changed() => {
                if changed.is_err() {
                    // The handle is gone, and says why.
                    let end = *session.end.borrow_and_update();
                    return Err(end.unwrap_or(End::Replaced).into());
                }
                let refused = Arc::clone(&session.refusals.borrow_and_update());
                let refusals = refused.iter().map(|r| wire::Refusal { uid: r.uid.clone(), reason: r.reason.clone() }).collect();
                send(out, Answer::Refusals(wire::Refusals { refusals })).await?;
            }
            said = inbound.message() => match said? {
                None => return Ok(()),
                Some(message) => {
                    if let Some(Said::Ack(ack)) = &message.message
                        && !ack.error.is_empty()
                        && node.refused(Revision(ack.revision))
                    {
                        session.metrics.delta_fallbacks.inc();
                        session.snapshots.mark_changed();
                    }
                    heed(control, peer, message).await?;
                }
            }
        }
    }
}

/// What the node has been sent on this stream.
#[derive(Default)]
struct Told {
    /// What it holds once it has read everything, so far as is known. `None`: nothing that a change could build upon.
    held: Option<Revision>,
    /// The newest revision that was sent whole.
    whole: Revision,
}

impl Told {
    /// Sends what leads from what the node holds to the snapshot in force: changes if it can use them, else the whole.
    async fn bring(&mut self, published: &Published, session: &Session, out: &Out) -> Result<(), Status> {
        let line = published.line(session.schema_version);
        let changes = self.held.filter(|_| session.schema_version >= DELTA_SCHEMA_VERSION).and_then(|held| line.since(held));
        let whole = changes.is_none();
        if whole {
            self.whole = published.snapshot.revision;
        }
        for envelope in changes.map_or_else(|| vec![&line.envelope], |changes| changes.iter().map(|d| &**d).collect()) {
            session.metrics.sent(whole, envelope.payload.len());
            send(out, Answer::Envelope(to_wire(envelope))).await?;
        }
        self.held = Some(published.snapshot.revision);
        Ok(())
    }

    /// The node keeps another revision than it was sent; true: it was sent a change, and the whole may still be taken.
    fn refused(&mut self, revision: Revision) -> bool {
        self.held = None;
        revision > self.whole
    }
}

async fn heed(control: &Shared, peer: &NodePeer, message: wire::NodeMessage) -> Result<(), Status> {
    let peer = peer.clone();
    match message.message {
        Some(Said::Workloads(report)) => {
            let found = report.workloads.len();
            if found > limits::WORKLOADS_MAX {
                return Err(Status::resource_exhausted(format!("the report names {found} workloads, at most {} are read", limits::WORKLOADS_MAX)));
            }
            let reported = report.workloads.into_iter().map(|w| Reported { uid: w.uid, service: w.service, addresses: w.addresses }).collect();
            control.with(move |c| c.report(&peer, reported, SystemTime::now())).await?;
            tokio::time::sleep(limits::REPORT_SPACING).await;
        }
        Some(Said::Ack(ack)) => control.with(move |c| c.ack(&peer, Revision(ack.revision), &ack.error, SystemTime::now())).await,
        Some(Said::Hello(_)) => return Err(Status::invalid_argument("a stream has one hello")),
        None => return Err(Status::invalid_argument("a message is of a kind that this bridge does not know")),
    }
    Ok(())
}

async fn send(out: &Out, message: Answer) -> Result<(), Status> {
    let message = wire::BridgeMessage { message: Some(message) };
    match timeout(limits::SEND_TIMEOUT, out.send(Ok(message))).await {
        Ok(sent) => sent.map_err(|_| Status::cancelled("the node closed the stream")),
        Err(_) => Err(Status::deadline_exceeded("the node reads too slowly")),
    }
}
