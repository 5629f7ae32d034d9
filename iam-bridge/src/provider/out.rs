//! The way out to the gateway: connections of the front, which wait here until there is something to say.
//!
//! The bridge is no workload of the mesh, so it cannot dial the gateway; the front can, and dials nothing else. It is the front that connects, so that
//! it has no socket that anybody could use, and needs no more than to open the bridge's.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use rustix::net::{RecvFlags, recv};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::door::open_socket;
use crate::limits::provider as limits;

/// Connections that wait; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct WayOut(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    streams: Mutex<VecDeque<UnixStream>>,
    came: Notify,
}

impl WayOut {
    pub(crate) fn open(path: &Path, group: Option<u32>) -> Result<(UnixListener, Self)> {
        Ok((open_socket(path, group)?, Self::default()))
    }

    /// Takes what comes until told to stop.
    pub(crate) async fn serve(self, listener: UnixListener, stop: CancellationToken) {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => self.keep(stream),
                Err(error) => {
                    info!(%error, "cannot accept a connection of the front");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        self.lock().clear();
    }

    /// A connection to the gateway. Waits for one.
    pub(super) async fn take(&self) -> UnixStream {
        loop {
            let came = self.0.came.notified();
            if let Some(stream) = self.next() {
                return stream;
            }
            came.await;
        }
    }

    fn keep(&self, stream: UnixStream) {
        let mut streams = self.lock();
        if streams.len() >= limits::FRONTS_WAITING_MAX {
            streams.pop_front();
        }
        streams.push_back(stream);
        drop(streams);
        self.0.came.notify_one();
    }

    /// The newest that is still open.
    fn next(&self) -> Option<UnixStream> {
        let mut streams = self.lock();
        let found = std::iter::from_fn(|| streams.pop_back()).find(is_open);
        if !streams.is_empty() {
            // Several may have come before who waits was woken once.
            self.0.came.notify_one();
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<UnixStream>> {
        self.0.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The front says nothing until it is spoken to.
fn is_open(stream: &UnixStream) -> bool {
    matches!(peek(stream), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

/// How many bytes are there, up to one; 0: none will come. Asks the kernel, where the runtime would only say what it has heard so far.
pub(crate) fn peek(stream: &UnixStream) -> io::Result<usize> {
    Ok(recv(stream, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?.1)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_front_that_has_gone_is_passed_over_and_one_that_comes_is_waited_for() {
        let way = WayOut::default();
        let (mut here, there) = UnixStream::pair().unwrap();
        way.keep(there);
        for _ in 0..3 {
            let (gone, there) = UnixStream::pair().unwrap();
            way.keep(there);
            drop(gone);
        }
        way.take().await.write_all(b"x").await.unwrap();
        assert_eq!(here.read_u8().await.unwrap(), b'x');
        let waits = tokio::spawn({
            let way = way.clone();
            async move { way.take().await }
        });
        tokio::task::yield_now().await;
        let (_here, there) = UnixStream::pair().unwrap();
        way.keep(there);
        tokio::time::timeout(Duration::from_secs(20), waits).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn no_more_wait_than_the_bound() {
        let way = WayOut::default();
        let pairs: Vec<_> = (0..limits::FRONTS_WAITING_MAX + 3).map(|_| UnixStream::pair().unwrap()).collect();
        let mut ours = Vec::new();
        for (here, there) in pairs {
            ours.push(here);
            way.keep(there);
        }
        assert_eq!(way.lock().len(), limits::FRONTS_WAITING_MAX);
        assert_eq!(ours[0].read(&mut [0]).await.unwrap(), 0, "the oldest is closed");
    }
}
