//! The agent of this node: it says which policy is in force, and keeps what is told of requests. It knows this process by its cgroup; there is no secret.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use weft_api::{
    agent::v1::Flow,
    connect_unix,
    gateway::v1::{FollowRequest, ReportRequest, mesh_client::MeshClient},
    limits::MESSAGE_MAX_BYTES,
};

use crate::{limits, world::World};

/// How things stand with the agent, in words; `None`: all is well.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Mutex<Option<String>>>);

/// Takes what is told of requests; never waits.
#[derive(Clone, Debug)]
pub struct Reporter {
    flows: mpsc::Sender<Flow>,
    lost: Counter,
}

impl Standing {
    pub fn trouble(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if this is news.
    fn set(&self, trouble: Option<String>) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *now != trouble;
        *now = trouble;
        news
    }
}

impl Reporter {
    pub fn new(lost: Counter) -> (Self, mpsc::Receiver<Flow>) {
        let (flows, taken) = mpsc::channel(limits::FLOWS_QUEUED_MAX);
        (Self { flows, lost }, taken)
    }

    pub fn tell(&self, flow: Flow) {
        if self.flows.try_send(flow).is_err() {
            self.lost.inc();
        }
    }
}

/// Keeps the newest revision, for as long as the process lives: what was the last stays in force while the agent is away.
pub async fn follow(socket: PathBuf, worlds: watch::Sender<Option<Arc<World>>>, standing: Standing, stop: CancellationToken) {
    let mut pause = limits::AGENT_PAUSE_MIN;
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = follow_once(&socket, &worlds, &standing, &mut pause) => ended,
        };
        if standing.set(Some(ended.clone())) {
            tracing::warn!(why = ended, "the node's agent does not say which policy is in force; the last one stays");
        }
        wait(&mut pause, &stop).await;
    }
}

async fn follow_once(socket: &PathBuf, worlds: &watch::Sender<Option<Arc<World>>>, standing: &Standing, pause: &mut Duration) -> String {
    let mut client = match client(socket).await {
        Ok(client) => client,
        Err(error) => return error,
    };
    let mut stream = match client.follow(FollowRequest {}).await {
        Ok(response) => {
            standing.set(None);
            response.into_inner()
        }
        Err(status) => return status.message().to_owned(),
    };
    loop {
        match stream.message().await {
            Ok(Some(response)) => {
                *pause = limits::AGENT_PAUSE_MIN;
                match World::read(&response.envelope) {
                    Ok(world) => {
                        standing.set(None);
                        put_in_force(worlds, world);
                    }
                    Err(error) => {
                        standing.set(Some(error.to_string()));
                        tracing::error!(%error, "a revision cannot be used; the last one stays in force");
                    }
                }
            }
            Ok(None) => return "the agent has ended the stream".to_owned(),
            Err(status) => return status.message().to_owned(),
        }
    }
}

fn put_in_force(worlds: &watch::Sender<Option<Arc<World>>>, world: Option<World>) {
    match &world {
        Some(world) => tracing::info!(revision = world.revision().0, routes = world.gateway().routes.len(), "policy in force"),
        None => tracing::warn!("nothing is exposed in this revision"),
    }
    worlds.send_replace(world.map(Arc::new));
}

/// Brings what is told of requests to the agent. What comes while it is away is kept as far as there is room. When it is time to stop, what has come is
/// still brought.
pub async fn report(socket: PathBuf, mut flows: mpsc::Receiver<Flow>, stop: CancellationToken) {
    let mut pause = limits::AGENT_PAUSE_MIN;
    while !report_once(&socket, &mut flows, &mut pause, &stop).await && !stop.is_cancelled() {
        wait(&mut pause, &stop).await;
    }
}

/// True: all is told, and nothing more will come.
async fn report_once(socket: &PathBuf, flows: &mut mpsc::Receiver<Flow>, pause: &mut Duration, stop: &CancellationToken) -> bool {
    let Ok(mut client) = client(socket).await else { return false };
    let (send, receive) = mpsc::channel(1);
    let mut call = tokio::spawn(async move { client.report(ReceiverStream::new(receive)).await.map(drop) });
    loop {
        let mut batch = Vec::new();
        let came = tokio::select! {
            came = flows.recv_many(&mut batch, limits::FLOWS_PER_REPORT) => came,
            _ = &mut call => return false,
            () = stop.cancelled(), if !flows.is_closed() => {
                flows.close();
                continue;
            }
        };
        if came == 0 {
            drop(send);
            // The answer says that all has arrived.
            return call.await.is_ok();
        }
        if send.send(ReportRequest { flows: batch }).await.is_err() {
            return false;
        }
        *pause = limits::AGENT_PAUSE_MIN;
    }
}

async fn client(socket: &PathBuf) -> Result<MeshClient<Channel>, String> {
    let channel = connect_unix(socket).await.map_err(|e| e.to_string())?;
    Ok(MeshClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES))
}

async fn wait(pause: &mut Duration, stop: &CancellationToken) {
    let _ = stop.run_until_cancelled(sleep(*pause)).await;
    *pause = (*pause * 2).min(limits::AGENT_PAUSE_MAX);
}
