//! `weft-iam-bridge front`: the local provider's place in the mesh. It carries bytes between a port and the bridge's sockets, and has no key and no secret.
//!
//! It is a workload (`weft/iam-bridge`), which the bridge is not: agents must reach the bridge before anything is enrolled. It looks into nothing. In: from
//! whoever the mesh lets in to the provider, which is the one thing behind that socket. Out: from the bridge to the one address that it is configured with.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{config::FrontConfig, limits::front as limits, provider::peek};

/// A front at work.
pub struct Front {
    /// Where the mesh reaches it.
    pub addr: SocketAddr,
    /// No new connections.
    stop: CancellationToken,
    /// No connections at all.
    cut: CancellationToken,
    tasks: TaskTracker,
}

/// Listens, then relays. The bridge may come later.
///
/// # Errors
/// When the port cannot be had.
pub async fn start_front(config: FrontConfig) -> Result<Front> {
    let held = || format!("cannot listen on {} for the mesh: another program may hold the port (field front.listen)", config.listen);
    let listener = TcpListener::bind(config.listen).await.with_context(held)?;
    let front = Front { addr: listener.local_addr()?, stop: CancellationToken::new(), cut: CancellationToken::new(), tasks: TaskTracker::new() };
    let config = Arc::new(config);
    front.tasks.spawn(take_in(listener, config.clone(), front.tasks.clone(), front.stop.clone(), front.cut.clone()));
    for _ in 0..limits::WAITING {
        front.tasks.spawn(wait_for_tokens(config.clone(), front.stop.clone(), front.cut.clone()));
    }
    Ok(front)
}

impl Front {
    /// Lets what is open end by itself, and ends the rest.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(limits::DRAIN, self.tasks.wait()).await.is_err() {
            warn!(connections = self.tasks.len(), "some connections did not end in time");
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }
}

async fn take_in(listener: TcpListener, config: Arc<FrontConfig>, tasks: TaskTracker, stop: CancellationToken, cut: CancellationToken) {
    let (slots, told) = (Arc::new(Semaphore::new(limits::CONNECTIONS_MAX)), Arc::new(AtomicBool::new(false)));
    loop {
        let next = async { (slots.clone().acquire_owned().await, listener.accept().await) };
        match stop.run_until_cancelled(next).await {
            None => return,
            Some((slot, Ok((stream, peer)))) => {
                let (config, cut, told) = (config.clone(), cut.clone(), told.clone());
                tasks.spawn(async move {
                    if let Some(Err(error)) = cut.run_until_cancelled(inward(stream, &config.provider, &told)).await {
                        debug!(%peer, %error, "a connection to the provider failed");
                    }
                    drop(slot);
                });
            }
            Some((_, Err(error))) => {
                // Out of descriptors, most likely: trying at once would only burn the processor.
                info!(%error, "cannot accept a connection of the mesh");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// `told`: somebody has read already that the provider is away.
async fn inward(stream: TcpStream, provider: &Path, told: &AtomicBool) -> io::Result<()> {
    let found = UnixStream::connect(provider).await;
    let away = found.is_err();
    if told.swap(away, Ordering::Relaxed) != away {
        match &found {
            Ok(_) => info!(socket = %provider.display(), "the provider is back"),
            Err(error) => {
                warn!(socket = %provider.display(), %error, "the provider cannot be reached: does the bridge run, with [provider], and may this user open its socket?")
            }
        }
    }
    stream.set_nodelay(true)?;
    relay(stream, found?, limits::CONNECTION_TTL).await
}

/// One connection that waits at the bridge, and the next one when that has been used.
async fn wait_for_tokens(config: Arc<FrontConfig>, stop: CancellationToken, cut: CancellationToken) {
    loop {
        let waits = async {
            let stream = UnixStream::connect(&config.out).await?;
            stream.readable().await?;
            Ok::<_, io::Error>(stream)
        };
        let Some(spoken) = stop.run_until_cancelled(waits).await else { return };
        let done = match spoken {
            // The bridge has ended, or has one too many.
            Ok(stream) if !matches!(peek(&stream), Ok(1..)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(stream) => match cut.run_until_cancelled(outward(stream, &config.backchannel)).await {
                None => return,
                Some(done) => done.inspect_err(|error| warn!(to = config.backchannel, %error, "a logout token was not brought to the gateway")),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            debug!(socket = %config.out.display(), %error, "the bridge gives nothing out");
            if stop.run_until_cancelled(sleep(limits::RETRY)).await.is_none() {
                return;
            }
        }
    }
}

async fn outward(stream: UnixStream, to: &str) -> io::Result<()> {
    let gateway = timeout(limits::DIAL_TIMEOUT, TcpStream::connect(to)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    gateway.set_nodelay(true)?;
    relay(gateway, stream, limits::TELL_TTL).await
}

/// Each direction ends by itself, and the other one goes on.
async fn relay(mut a: impl AsyncRead + AsyncWrite + Unpin, mut b: impl AsyncRead + AsyncWrite + Unpin, at_most: Duration) -> io::Result<()> {
    timeout(at_most, copy_bidirectional(&mut a, &mut b)).await.map_err(|_| io::ErrorKind::TimedOut)?.map(drop)
}
