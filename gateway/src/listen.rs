//! The gateway's listeners: the public one, the one that only redirects, and the back channel. A port that the policy moves is opened before the
//! former one is closed.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weft_http::{Server, Wire};

use crate::{
    door::{BackChannel, Door, Gate, Redirect},
    limits,
};

/// What every public connection needs.
#[derive(Clone)]
pub struct Public {
    pub gate: Arc<Gate>,
    pub server: Server,
    pub tls: Arc<ServerConfig>,
    /// Connections that are open.
    pub slots: Arc<Semaphore>,
    pub handshakes: Arc<Semaphore>,
}

/// Binds a listener; where the address is `::` it takes IPv4 too.
pub fn bind(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(address, port))?;
    socket.listen(limits::BACKLOG)
}

impl Public {
    /// Takes connections until told to stop.
    pub async fn accept(self, listener: TcpListener, stop: CancellationToken) {
        loop {
            let next = async { (Arc::clone(&self.slots).acquire_owned().await, listener.accept().await) };
            let Some((slot, accepted)) = stop.run_until_cancelled(next).await else { return };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    cannot_accept(&error).await;
                    continue;
                }
            };
            let this = self.clone();
            tokio::spawn(async move {
                this.gate.metrics.connections.inc();
                this.serve(stream, peer).await;
                this.gate.metrics.connections.dec();
                drop(slot);
            });
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let handshake = async {
            let _turn = self.handshakes.acquire().await;
            TlsAcceptor::from(Arc::clone(&self.tls)).accept(stream).await
        };
        let stream = match timeout(limits::HANDSHAKE_WAIT, handshake).await {
            Ok(Ok(stream)) => stream,
            failed => {
                self.gate.metrics.handshakes_failed.inc();
                let why = failed.map_or_else(|_| "it took too long".to_owned(), |result| result.err().map(|e| e.to_string()).unwrap_or_default());
                tracing::debug!(%peer, why, "a TLS handshake failed");
                return;
            }
        };
        let Some(wire) = Wire::from_alpn(stream.get_ref().1.alpn_protocol()) else { return };
        let door = Door { gate: Arc::clone(&self.gate), peer };
        if let Err(error) = self.server.serve(stream, wire, door).await {
            tracing::debug!(%peer, %error, "a connection did not end in order");
        }
    }
}

/// Plain HTTP/1.1, few at a time: the redirect and the back channel.
pub async fn accept_plain(listener: TcpListener, server: Server, handler: Plain, stop: CancellationToken) {
    let (slots, tasks) = (Arc::new(Semaphore::new(limits::PLAIN_CONNECTIONS_MAX)), TaskTracker::new());
    loop {
        let next = async { (Arc::clone(&slots).acquire_owned().await, listener.accept().await) };
        let Some((slot, accepted)) = stop.run_until_cancelled(next).await else { return };
        match accepted {
            Ok((stream, _)) => {
                let (server, handler) = (server.clone(), handler.clone());
                tasks.spawn(async move {
                    let ended = match handler {
                        Plain::Redirect(redirect) => server.serve(stream, Wire::Http1, redirect).await,
                        Plain::BackChannel(channel) => server.serve(stream, Wire::Http1, channel).await,
                    };
                    drop((ended, slot));
                });
            }
            Err(error) => cannot_accept(&error).await,
        }
    }
}

/// Who answers on a plain listener.
#[derive(Clone)]
pub enum Plain {
    Redirect(Redirect),
    BackChannel(BackChannel),
}

/// Out of descriptors, most likely: trying at once would only burn the processor.
async fn cannot_accept(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    sleep(std::time::Duration::from_millis(50)).await;
}
