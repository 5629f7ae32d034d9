//! The gateway's listeners: the public one, the one that only redirects, and the back channel. A port that the policy moves is opened before the
//! former one is closed.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use prometheus_client::metrics::gauge::Gauge;
use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use weft_http::{Server, Wire};
use weft_types::builtin;

use crate::{
    door::{BackChannel, Door, Gate, Redirect},
    limits,
    world::{World, Worlds},
};

/// Who answers on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Public,
    BackChannel,
    Redirect,
}

impl Role {
    /// What names its port.
    fn named(self) -> &'static str {
        match self {
            Self::Public => "the Mesh's listenPort",
            Self::BackChannel => "the back channel",
            Self::Redirect => "the Mesh's redirectPort",
        }
    }
}

/// All listeners, as the policy names their ports.
pub struct Listeners {
    entrance: Arc<Entrance>,
    address: IpAddr,
    stop: CancellationToken,
    open: HashMap<Role, Open>,
}

struct Open {
    address: SocketAddr,
    stop: CancellationToken,
}

/// A connection's place among those that may be open. What was a request and is a WebSocket keeps it.
pub struct Place {
    _slot: OwnedSemaphorePermit,
    /// Where it is counted.
    open: Option<Gauge>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            open.dec();
        }
    }
}

/// What a connection needs.
struct Entrance {
    gate: Arc<Gate>,
    server: Server,
    tls: Arc<ServerConfig>,
    /// For connections of each listener, so that a crowd at one keeps nobody from another.
    public: Arc<Semaphore>,
    channel: Arc<Semaphore>,
    redirect: Arc<Semaphore>,
}

impl Listeners {
    /// Opens every listener that this revision names.
    pub fn open(gate: Arc<Gate>, server: Server, tls: Arc<ServerConfig>, address: IpAddr, world: &World, stop: CancellationToken) -> Result<Self> {
        let entrance = Entrance {
            gate,
            server,
            tls,
            public: Arc::new(Semaphore::new(connections())),
            channel: Arc::new(Semaphore::new(limits::PLAIN_CONNECTIONS_MAX)),
            redirect: Arc::new(Semaphore::new(limits::PLAIN_CONNECTIONS_MAX)),
        };
        let mut listeners = Self { entrance: Arc::new(entrance), address, stop, open: HashMap::new() };
        for (role, port) in wanted(world) {
            let fail = || format!("cannot listen on {address} port {} ({}): another program may hold it", port.unwrap_or_default(), role.named());
            listeners.settle(role, port).with_context(fail)?;
        }
        Ok(listeners)
    }

    pub fn public(&self) -> SocketAddr {
        self.open.get(&Role::Public).map_or(SocketAddr::new(self.address, 0), |open| open.address)
    }

    /// Follows the ports that the policy names, until told to stop. A port that cannot be had is tried again; the former one stays meanwhile.
    pub async fn keep(mut self, mut worlds: Worlds) {
        let mut whole = true;
        loop {
            let again = async { if whole { std::future::pending().await } else { sleep(limits::PORT_RETRY).await } };
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = worlds.changed() => if changed.is_err() { return },
                () = again => {}
            }
            let Some(world) = worlds.borrow_and_update().clone() else { continue };
            whole = true;
            for (role, port) in wanted(&world) {
                if let Err(error) = self.settle(role, port) {
                    whole = false;
                    tracing::error!(?role, port, %error, "cannot listen on the port that the policy names; the former one stays");
                }
            }
        }
    }

    fn settle(&mut self, role: Role, port: Option<u16>) -> io::Result<()> {
        let former = self.open.get(&role).map(|open| open.address.port());
        if former == port {
            return Ok(());
        }
        let next = port.map(|port| bind(self.address, port)).transpose()?;
        if let Some(open) = self.open.remove(&role) {
            open.stop.cancel();
        }
        if let Some(listener) = next {
            let (address, stop) = (listener.local_addr()?, self.stop.child_token());
            tracing::info!(?role, %address, "listening");
            tokio::spawn(Arc::clone(&self.entrance).accept(role, listener, stop.clone()));
            self.open.insert(role, Open { address, stop });
        }
        Ok(())
    }
}

/// The ports of a revision. `None`: no such listener.
fn wanted(world: &World) -> [(Role, Option<u16>); 3] {
    let gateway = world.gateway();
    [(Role::Public, Some(gateway.listen_port)), (Role::Redirect, gateway.redirect_port), (Role::BackChannel, Some(builtin::BACKCHANNEL_TARGET_PORT))]
}

/// Small answers do not wait for more, and a client that is gone without a word is noticed, also behind a WebSocket that is silent.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(limits::KEEPALIVE_IDLE).with_interval(limits::KEEPALIVE_INTERVAL))
}

/// Each public connection may need one to an application beside it.
fn connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    let connections = limits::CONNECTIONS_MAX.min(files.saturating_sub(limits::DESCRIPTORS_RESERVED) / 2).max(1);
    if connections < limits::CONNECTIONS_MAX {
        tracing::warn!(connections, files, "fewer connections than there could be: raise the limit of open files (LimitNOFILE)");
    }
    connections
}

/// Where the address is `::` it takes IPv4 too, and IPv4 alone on a machine that has no other.
fn bind(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    match bind_to(address, port) {
        Err(error) if address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
            bind_to(Ipv4Addr::UNSPECIFIED.into(), port)
        }
        bound => bound,
    }
}

fn bind_to(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(address, port))?;
    socket.listen(limits::BACKLOG)
}

impl Entrance {
    /// Takes connections until told to stop.
    async fn accept(self: Arc<Self>, role: Role, listener: TcpListener, stop: CancellationToken) {
        let slots = match role {
            Role::Public => &self.public,
            Role::BackChannel => &self.channel,
            Role::Redirect => &self.redirect,
        };
        loop {
            let next = async { (Arc::clone(slots).acquire_owned().await, listener.accept().await) };
            let Some((Ok(slot), accepted)) = stop.run_until_cancelled(next).await else { return };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: trying at once would only burn the processor.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(limits::ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let place = Arc::new(Place { _slot: slot, open: (role == Role::Public).then(|| self.gate.metrics.connections.clone()) });
            if let Some(open) = &place.open {
                open.inc();
            }
            let this = Arc::clone(&self);
            tokio::spawn(async move { this.serve(role, stream, peer, place).await });
        }
    }

    async fn serve(&self, role: Role, stream: TcpStream, peer: SocketAddr, place: Arc<Place>) {
        if let Err(error) = tune(&stream) {
            tracing::debug!(%peer, %error, "a connection that is gone already");
            return;
        }
        let gate = Arc::clone(&self.gate);
        let ended = match role {
            Role::Public => self.serve_tls(stream, peer, place).await,
            Role::BackChannel => self.server.serve(stream, Wire::Http1, BackChannel { gate }).await,
            Role::Redirect => self.server.serve(stream, Wire::Http1, Redirect { gate }).await,
        };
        if let Err(error) = ended {
            tracing::debug!(?role, %peer, %error, "a connection did not end in order");
        }
    }

    async fn serve_tls(&self, stream: TcpStream, peer: SocketAddr, place: Arc<Place>) -> Result<(), weft_http::Error> {
        let handshake = TlsAcceptor::from(Arc::clone(&self.tls)).accept(stream);
        let stream = match timeout(limits::HANDSHAKE_WAIT, handshake).await {
            Ok(Ok(stream)) => stream,
            failed => {
                self.gate.metrics.handshakes_failed.inc();
                let why = failed.map_or_else(|_| "it took too long".to_owned(), |result| result.err().map(|e| e.to_string()).unwrap_or_default());
                tracing::debug!(%peer, why, "a TLS handshake failed");
                return Ok(());
            }
        };
        let Some(wire) = Wire::from_alpn(stream.get_ref().1.alpn_protocol()) else { return Ok(()) };
        self.server.serve(stream, wire, Door { gate: Arc::clone(&self.gate), peer, place }).await
    }
}
