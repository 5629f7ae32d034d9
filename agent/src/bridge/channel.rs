//! A gRPC channel over a TLS connection whose other end is exactly the bridge.

use std::{io, sync::Arc};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use weft_api::{bridge::v1::node_client::NodeClient, limits::MESSAGE_MAX_BYTES};
use weft_identity::{Svid, TrustBundle, bridge_id, client_config, join_client_config, peer_error, sni_for};
use weft_types::TrustDomain;

use crate::limits;

pub(super) const ALPN: &[&[u8]] = &[b"h2"];

#[derive(Debug, Error)]
pub enum DialError {
    #[error("the IAM bridge at {address} cannot be reached: {}", hint(source))]
    Connect { address: String, source: io::Error },
    #[error("the IAM bridge at {address} does not answer within {} s", limits::BRIDGE_CONNECT_TIMEOUT.as_secs())]
    Timeout { address: String },
    #[error("the IAM bridge at {address} is not believed: {}", tls_cause(source))]
    Tls { address: String, source: io::Error },
    #[error("the IAM bridge at {address} does not speak gRPC")]
    Grpc { address: String, source: tonic::transport::Error },
}

/// As the node that it is.
pub(super) async fn dial(address: &str, node: &Svid, bundle: &TrustBundle) -> Result<NodeClient<Channel>, DialError> {
    connect(address, client_config(node, bundle, &bridge_id(bundle.trust_domain()), ALPN)).await
}

/// As nobody yet, to the bridge whose CA has this hash.
pub(super) async fn dial_to_join(address: &str, ca_sha256: [u8; 32]) -> Result<NodeClient<Channel>, DialError> {
    connect(address, join_client_config(ca_sha256, ALPN)).await
}

async fn connect(address: &str, config: Arc<rustls::ClientConfig>) -> Result<NodeClient<Channel>, DialError> {
    let name = server_name();
    let open = {
        let address = address.to_owned();
        move || open(address.clone(), TlsConnector::from(config.clone()), name.clone())
    };
    // The first connection is made here, so that the error says what is wrong: tonic hides the cause behind "transport error".
    let mut first = Some(open().await?);
    let connector = tower::service_fn(move |_: Uri| {
        let (first, open) = (first.take(), open.clone());
        async move {
            match first {
                Some(stream) => Ok(TokioIo::new(stream)),
                None => open().await.map(TokioIo::new).map_err(io::Error::other),
            }
        }
    });
    let channel = Endpoint::from_static("http://iam-bridge.weft-system.weft.internal")
        .http2_keep_alive_interval(limits::BRIDGE_KEEPALIVE)
        .keep_alive_timeout(limits::BRIDGE_KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|source| DialError::Grpc { address: address.to_owned(), source })?;
    Ok(NodeClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES).max_encoding_message_size(MESSAGE_MAX_BYTES))
}

async fn open(address: String, tls: TlsConnector, name: ServerName<'static>) -> Result<tokio_rustls::client::TlsStream<TcpStream>, DialError> {
    let dialled = async {
        let stream = TcpStream::connect(&address).await.map_err(|source| DialError::Connect { address: address.clone(), source })?;
        let _ = stream.set_nodelay(true);
        tls.connect(name, stream).await.map_err(|source| DialError::Tls { address: address.clone(), source })
    };
    match tokio::time::timeout(limits::BRIDGE_CONNECT_TIMEOUT, dialled).await {
        Ok(done) => done,
        Err(_) => Err(DialError::Timeout { address }),
    }
}

/// The same in every trust domain.
fn server_name() -> ServerName<'static> {
    let any: TrustDomain = "weft.internal".parse().expect("a trust domain");
    sni_for(&bridge_id(&any)).expect("the bridge is a workload")
}

fn hint(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: is it running, and is bridge.address right?".to_owned(),
        _ => e.to_string(),
    }
}

/// rustls wraps the verifier's word twice.
fn tls_cause(e: &io::Error) -> String {
    let inner = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(tls) => peer_error(tls).map_or_else(|| tls.to_string(), ToString::to_string),
        None => e.to_string(),
    }
}
