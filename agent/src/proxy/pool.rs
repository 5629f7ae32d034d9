//! Warm tunnels: those that have carried a connection to its clean end and may carry the next one of the same caller to the same endpoint.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{
    host::Bound,
    limits::{POOL_IDLE, POOL_MAX, POOL_PER_KEY_MAX},
    tunnel::Tunnel,
};

/// Never shared across workloads, endpoints or identities; `generation` stands for the SVID, the roots and the expected identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) workload: u32,
    pub(crate) endpoint: SocketAddr,
    pub(crate) generation: u64,
}

#[derive(Default)]
pub(crate) struct Pool(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    tunnels: HashMap<Key, Vec<(Instant, Tunnel)>>,
    count: usize,
    closed: bool,
}

impl Pool {
    /// The one that idled least, if it is still of use.
    pub(crate) fn take(&self, key: &Key) -> Option<Tunnel> {
        let oldest = Instant::now().checked_sub(POOL_IDLE);
        loop {
            let (since, mut tunnel) = {
                let mut idle = self.lock();
                let found = idle.tunnels.get_mut(key)?.pop()?;
                idle.count -= 1;
                found
            };
            if oldest.is_none_or(|oldest| since > oldest) && tunnel.is_quiet() {
                return Some(tunnel);
            }
        }
    }

    /// Keeps a tunnel, or closes it at the bound and says so.
    pub(crate) fn put(&self, key: Key, tunnel: Tunnel) -> Result<(), Bound> {
        let mut idle = self.lock();
        if idle.closed {
            return Ok(());
        }
        if idle.count >= POOL_MAX {
            return Err(Bound::Pool);
        }
        let same = idle.tunnels.entry(key).or_default();
        if same.len() >= POOL_PER_KEY_MAX {
            return Err(Bound::Pool);
        }
        same.push((Instant::now(), tunnel));
        idle.count += 1;
        Ok(())
    }

    /// Closes what has idled too long or has been closed by the other side.
    pub(crate) fn sweep(&self) {
        let Some(oldest) = Instant::now().checked_sub(POOL_IDLE) else { return };
        self.keep(|_, since, tunnel| since > oldest && tunnel.is_quiet());
    }

    pub(crate) fn forget(&self, workload: u32) {
        self.keep(|key, _, _| key.workload != workload);
    }

    /// Closes all, now and from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.keep(|_, _, _| false);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().count
    }

    fn keep(&self, mut keep: impl FnMut(&Key, Instant, &mut Tunnel) -> bool) {
        let mut idle = self.lock();
        for (key, tunnels) in &mut idle.tunnels {
            tunnels.retain_mut(|(since, tunnel)| keep(key, *since, tunnel));
        }
        idle.tunnels.retain(|_, tunnels| !tunnels.is_empty());
        idle.count = idle.tunnels.values().map(Vec::len).sum();
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
