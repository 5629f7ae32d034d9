//! The agent as the gateway of its node sees it: `weft.gateway.v1`, on a socket of its own that everybody may open and only a gateway is answered on.
//!
//! Who calls is what the kernel says: the process that connected lives in the cgroup of an enrolled workload of `weft/gateway`. Being root says nothing.
//! What a gateway is given is signed, and it can do nothing here but say what it decided.

mod caller;
mod connection;
mod door;
mod rate;
mod report;
mod service;

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{service::interceptor::InterceptedService, transport::Server};
use tracing::{debug, info};
use weft_api::{gateway::v1::mesh_server::MeshServer, limits::MESSAGE_MAX_BYTES};

use caller::{Caller, Refused};
use connection::Connection;
use door::Arrival;
pub use door::Door;
pub(crate) use report::USER;
use service::{MeshService, Standing};

use crate::{app::Node, files, limits};

/// Makes the socket, which answers once [`serve`] runs. Everybody may open it: a gateway needs no user of its own for it.
pub fn bind(path: &Path) -> anyhow::Result<Door> {
    files::bind_socket(path, 0o666, Door::bind).with_context(|| format!("cannot make the gateway's socket {}", path.display()))
}

/// Serves until the agent ends.
pub async fn serve(door: Door, node: Arc<Node>) {
    let (ready, connections) = mpsc::channel(1);
    let mesh = MeshServer::new(MeshService::new(node.clone()))
        .max_decoding_message_size(limits::GATEWAY_MESSAGE_MAX_BYTES)
        .max_encoding_message_size(MESSAGE_MAX_BYTES);
    let view = node.view.clone();
    // Before anything of the request is read.
    let checked = InterceptedService::new(mesh, move |request| service::check(request, &view.now()));
    let server = Server::builder()
        .max_concurrent_streams(limits::GATEWAY_STREAMS_MAX)
        .http2_max_header_list_size(limits::GATEWAY_HEADERS_MAX_BYTES)
        .add_service(checked)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), node.shutdown.clone().cancelled_owned());
    tokio::select! {
        served = server => if let Err(error) = served {
            tracing::error!(%error, "the gateway's socket is gone");
        },
        () = admit(door, &node, ready) => {}
    }
}

/// One after the other: whoever knocks without end makes others wait, and costs no more than one processor's share.
async fn admit(mut door: Door, node: &Arc<Node>, ready: mpsc::Sender<std::io::Result<Connection>>) {
    let (gateways, strangers) = (Arc::new(Semaphore::new(limits::GATEWAY_CONNECTIONS_MAX)), Arc::new(Semaphore::new(limits::STRANGERS_MAX)));
    loop {
        let arrival = match door.accept().await {
            Ok(arrival) => arrival,
            Err(error) => {
                // Out of descriptors, most likely: trying at once would only burn the processor.
                info!(%error, "cannot accept a connection of a gateway");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let caller = recognise(&arrival, node).await;
        let slot = |of: &Arc<Semaphore>| of.clone().try_acquire_owned().ok();
        let (slot, outcome) = match &caller {
            Caller::Gateway(_) => (slot(&gateways), "admitted"),
            Caller::Stranger(why) => {
                debug!(%why, "somebody at the gateway's socket is no gateway");
                (slot(&strangers), "refused")
            }
        };
        node.metrics.gateway_caller(if slot.is_some() { outcome } else { "full" });
        let Some(slot) = slot else { continue };
        drop(ready.send(Ok(connection(arrival, caller, slot, node))).await);
    }
}

async fn recognise(arrival: &Arrival, node: &Arc<Node>) -> Caller {
    let (picture, process) = (node.view.now(), arrival.process());
    let looked = tokio::task::spawn_blocking(move || Caller::recognise(process, &picture)).await;
    looked.unwrap_or(Caller::Stranger(Refused::Gone))
}

fn connection(arrival: Arrival, caller: Caller, slot: OwnedSemaphorePermit, node: &Arc<Node>) -> Connection {
    let standing = match &caller {
        Caller::Gateway(gateway) => Some(Standing::new(gateway.clone(), node.view.clone(), node.shutdown.clone())),
        Caller::Stranger(_) => None,
    };
    let end = async move {
        match standing {
            Some(mut standing) => {
                standing.ended().await;
                tokio::time::sleep(limits::GATEWAY_GRACE).await;
            }
            None => tokio::time::sleep(limits::STRANGER_TTL).await,
        }
    };
    Connection::new(arrival.into_stream(), caller, slot, Box::pin(end))
}
