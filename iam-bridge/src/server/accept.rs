//! Accepts connections of nodes and finishes their handshakes, each kind within its bounds, before gRPC sees them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{OwnCertificate, io::NodeIo};
use crate::{limits, metrics::Metrics};

pub(super) async fn accept(
    listener: TcpListener,
    own: Arc<OwnCertificate>,
    metrics: Arc<Metrics>,
    ready: mpsc::Sender<io::Result<NodeIo>>,
    stop: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let handshakes = Arc::new(Semaphore::new(limits::HANDSHAKES_MAX));
    let anonymous = Arc::new(Semaphore::new(limits::ANONYMOUS_MAX));
    loop {
        let slots = async { Some((connections.clone().acquire_owned().await.ok()?, handshakes.clone().acquire_owned().await.ok()?)) };
        let Some(Some((connection, handshake))) = stop.run_until_cancelled(slots).await else { return };
        let (stream, addr) = match stop.run_until_cancelled(listener.accept()).await {
            None => return,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                // Out of descriptors, most likely: trying at once would only burn the processor.
                info!(%error, "cannot accept a node's connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (own, metrics, ready, anonymous) = (own.clone(), metrics.clone(), ready.clone(), anonymous.clone());
        tokio::spawn(async move {
            match shake(&own, stream, addr, connection, &anonymous).await {
                Ok(io) => drop(ready.send(Ok(io)).await),
                Err(error) => {
                    metrics.handshake_failures.inc();
                    debug!(%addr, %error, "a node's connection is refused");
                }
            }
            drop(handshake);
        });
    }
}

async fn shake(own: &OwnCertificate, stream: TcpStream, addr: SocketAddr, slot: OwnedSemaphorePermit, anonymous: &Arc<Semaphore>) -> io::Result<NodeIo> {
    stream.set_nodelay(true)?;
    let shaken = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, TlsAcceptor::from(own.config.clone()).accept(stream)).await;
    let stream = shaken.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long"))??;
    let mut io = NodeIo::new(stream, addr, vec![slot])?;
    if io.is_anonymous() {
        let slot = anonymous.clone().try_acquire_owned().map_err(|_| io::Error::other("too many connections without a certificate"))?;
        io.hold(slot);
    }
    Ok(io)
}
