//! The two doors of the bridge: gRPC over TLS for nodes, gRPC on a unix socket for people. They translate and bound; `control` decides.

mod accept;
mod admin;
mod identity;
mod io;
mod node;
mod session;
mod status;
mod users;

use std::sync::Arc;

use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use weft_api::{
    bridge::v1::{admin_server::AdminServer, node_server::NodeServer, users_server::UsersServer},
    limits::MESSAGE_MAX_BYTES,
};

pub(crate) use identity::OwnCertificate;

use crate::{control::Shared, limits, metrics::Metrics, provider::SharedProvider};

/// Serves nodes until told to stop.
pub(crate) async fn serve_nodes(listener: TcpListener, control: Shared, own: Arc<OwnCertificate>, metrics: Arc<Metrics>, stop: CancellationToken) {
    let (ready, connections) = mpsc::channel(limits::HANDSHAKES_MAX);
    let accepting = tokio::spawn(accept::accept(listener, own, metrics, ready, stop.clone()));
    let service = NodeServer::new(node::NodeService::new(control, stop.clone()))
        .max_decoding_message_size(limits::NODE_MESSAGE_MAX_BYTES)
        .max_encoding_message_size(MESSAGE_MAX_BYTES);
    let served = Server::builder()
        .max_concurrent_streams(limits::REQUESTS_PER_CONNECTION)
        .http2_max_header_list_size(limits::HEADERS_MAX_BYTES)
        .http2_keepalive_interval(Some(limits::KEEPALIVE))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE))
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the listener for nodes failed");
    }
    accepting.abort();
}

/// Serves people until told to stop.
pub(crate) async fn serve_admin(listener: tokio::net::UnixListener, control: Shared, people: Option<SharedProvider>, stop: CancellationToken) {
    let users = UsersServer::new(users::UsersService::new(people)).max_decoding_message_size(limits::ADMIN_MESSAGE_MAX_BYTES);
    let service = AdminServer::new(admin::AdminService::new(control))
        .max_decoding_message_size(limits::ADMIN_MESSAGE_MAX_BYTES)
        .max_encoding_message_size(MESSAGE_MAX_BYTES);
    let served = Server::builder()
        .max_concurrent_streams(limits::REQUESTS_PER_CONNECTION)
        .http2_max_header_list_size(limits::HEADERS_MAX_BYTES)
        .add_service(service)
        .add_service(users)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the admin socket failed");
    }
}
