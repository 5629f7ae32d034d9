//! A connection of a node, handshake done: whose it is, and how long it may live.

use std::{
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::SystemTime,
};

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use weft_identity::{Svid, peer_id};
use weft_types::SpiffeId;

use crate::{control::NodePeer, limits};

/// Who is at the other end; the requests of a connection carry it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    /// `None`: it presented no certificate, and may only join.
    pub(super) node: Option<NodePeer>,
}

pub(super) struct NodeIo {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// With the certificate ends the connection, so that no stream outlives its proof.
    deadline: Pin<Box<Sleep>>,
    _slots: Vec<OwnedSemaphorePermit>,
}

impl NodeIo {
    /// `stream`'s certificate was verified by the TLS configuration; here it is only read.
    pub(super) fn new(stream: TlsStream<TcpStream>, addr: SocketAddr, slots: Vec<OwnedSemaphorePermit>) -> io::Result<Self> {
        let (node, life) = match stream.get_ref().1.peer_certificates() {
            None => (None, limits::ANONYMOUS_TTL),
            Some(chain) => {
                let (peer, not_after) = read(chain)?;
                (Some(peer), not_after.duration_since(SystemTime::now()).unwrap_or_default())
            }
        };
        let deadline = Box::pin(tokio::time::sleep_until(Instant::now() + life));
        Ok(Self { stream, peer: Peer { addr, node }, deadline, _slots: slots })
    }

    pub(super) fn is_anonymous(&self) -> bool {
        self.peer.node.is_none()
    }

    pub(super) fn hold(&mut self, slot: OwnedSemaphorePermit) {
        self._slots.push(slot);
    }
}

fn read(chain: &[CertificateDer<'_>]) -> io::Result<(NodePeer, SystemTime)> {
    let id = peer_id(chain).map_err(io::Error::other)?;
    let SpiffeId::Node { name, .. } = id else { return Err(io::Error::other("the peer is no node")) };
    let (serial, not_after) = Svid::describe(&chain[0]).map_err(io::Error::other)?;
    Ok((NodePeer { name, serial }, not_after))
}

impl Connected for NodeIo {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for NodeIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the certificate of this connection has expired")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for NodeIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
