//! The userspace half of the data path: takes captured connections of local workloads, carries them over the `weft/1` tunnel with the
//! workloads' own identities, and delivers what comes in. It reaches the kernel, the snapshot and the SVIDs through [`Host`] only.
//!
//! Deliberately absent: no namespace is entered here, no policy is invented here (`weft_policy::Index` decides), nothing is retried
//! once a byte of the application may have been seen by the other side.

mod account;
mod balance;
mod budget;
mod buffers;
mod canary;
mod fair;
mod host;
mod inbound;
mod keepalive;
mod knocks;
mod limits;
mod live;
mod memory;
mod outbound;
mod pool;
mod read_ahead;
mod ready;
mod relay;
mod residents;
mod sockets;
#[cfg(test)]
mod tests;
mod tls;
mod tunnel;
mod turns;
mod watched;

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

pub(crate) use account::fresh_flow_id;
pub use canary::answer_of;
pub use host::{Bound, End, FlowRecord, Host, LocalWorkload, Measure, Point};
pub use residents::Residents;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weft_policy::Index;

use self::{
    balance::Balance, budget::Budget, fair::Fair, inbound::Door, knocks::Knocks, live::Live, memory::Memory, outbound::Outbound, pool::Pool, tls::Configs,
};

/// The proxy of one node. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

/// A listener that is being served. To drop it changes nothing.
#[derive(Debug)]
pub struct Serving {
    accepting: CancellationToken,
    task: JoinHandle<()>,
}

pub(crate) struct Shared {
    host: Arc<dyn Host>,
    live: Arc<Live>,
    pool: Pool,
    balance: Arc<Balance>,
    fair: Arc<Fair>,
    budget: Arc<Budget>,
    memory: Arc<Memory>,
    knocks: Knocks,
    configs: Configs,
    /// No connection is accepted any more, and idle tunnels end.
    draining: CancellationToken,
    /// The task of every accepted connection.
    accepted: TaskTracker,
    /// Of each workload that has been served: cancelled when it goes.
    workloads: Mutex<HashMap<u32, CancellationToken>>,
}

impl Proxy {
    /// Needs a running tokio runtime.
    pub fn new(host: Arc<dyn Host>) -> Self {
        let memory = Arc::<Memory>::default();
        let shared = Arc::new(Shared {
            host,
            live: Arc::default(),
            pool: Pool::default(),
            balance: Arc::default(),
            fair: Fair::new(memory.clone()),
            budget: Budget::of_process(),
            memory,
            knocks: Knocks::default(),
            configs: Configs::default(),
            draining: CancellationToken::new(),
            accepted: TaskTracker::new(),
            workloads: Mutex::default(),
        });
        tokio::spawn(sweep(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// Serves the listener, bound inside the workload's namespace, that its captured connections arrive at.
    pub fn serve_capture(&self, workload: Arc<LocalWorkload>, listener: TcpListener) -> io::Result<Serving> {
        let outbound = Arc::new(Outbound { shared: self.shared.clone(), gone: self.shared.gone(workload.number), workload });
        self.serve(listener, outbound.gone.clone(), limits::CONNECTIONS_PER_LISTENER_MAX, move |socket, caller, _| {
            let outbound = outbound.clone();
            async move { outbound.handle(socket, caller).await }
        })
    }

    /// Serves the listener that the tunnel's port of a namespace is steered to, for those who live there: see [`Self::move_in`].
    pub fn serve_tunnel(&self, residents: Residents, listener: TcpListener) -> io::Result<Serving> {
        let door = Arc::new(Door { shared: self.shared.clone(), residents });
        self.serve(listener, CancellationToken::new(), limits::HANDSHAKES_PER_LISTENER_MAX, move |socket, from, shaking| {
            let door = door.clone();
            async move { door.handle(socket, from, shaking).await }
        })
    }

    /// From now on tunnels may ask for this workload.
    pub fn move_in(&self, residents: &Residents, workload: Arc<LocalWorkload>) {
        residents.add(workload.clone(), self.shared.gone(workload.number));
    }

    /// Closes every live connection that `now` does not allow any more; returns how many. Call it after [`Host::index`] returns `now`.
    pub fn revoke(&self, now: &Index) -> usize {
        self.shared.live.revoke(now)
    }

    /// The workload is gone: stops accepting for it, closes its live connections and its warm tunnels.
    pub fn forget(&self, workload: u32) {
        if let Some(gone) = self.shared.workloads().remove(&workload) {
            gone.cancel();
        }
        self.shared.live.end_workload(workload);
        self.shared.pool.forget(workload);
    }

    /// Stops accepting, closes idle tunnels and waits until every accepted connection has ended, also one that is not carried yet, at most
    /// `deadline`. Returns how many are left; they go on.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.shared.draining.cancel();
        self.shared.pool.close();
        self.shared.accepted.close();
        let _ = tokio::time::timeout(deadline, self.shared.accepted.wait()).await;
        self.shared.accepted.len()
    }

    /// Connections that are being carried.
    pub fn live(&self) -> usize {
        self.shared.live.len()
    }

    /// Descriptors that connections hold, and how many there are for them.
    pub fn descriptors(&self) -> (usize, usize) {
        self.shared.budget.used()
    }

    /// Bytes that connections have buffered, and how many times one was given a small buffer because its share, or all, held too much.
    pub fn buffered(&self) -> (usize, u64) {
        self.shared.memory.used()
    }

    /// `starting` bounds the connections that have not yet given their second permit back.
    fn serve<H, F>(&self, listener: TcpListener, gone: CancellationToken, starting: usize, handle: H) -> io::Result<Serving>
    where
        H: Fn(TcpStream, SocketAddr, OwnedSemaphorePermit) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let accepting = gone.child_token();
        let (draining, accepted) = (self.shared.draining.clone(), self.shared.accepted.clone());
        let all = Arc::new(Semaphore::new(limits::CONNECTIONS_PER_LISTENER_MAX));
        let starting = Arc::new(Semaphore::new(starting));
        let stop = accepting.clone();
        let accept = async move {
            loop {
                let (Ok(open), Ok(start)) = (all.clone().acquire_owned().await, starting.clone().acquire_owned().await) else { return };
                match listener.accept().await {
                    Ok((socket, from)) => {
                        let connection = handle(socket, from, start);
                        accepted.spawn(async move {
                            connection.await;
                            drop(open);
                        });
                    }
                    Err(e) => {
                        tracing::warn!(error = %e, "cannot accept: are descriptors left?");
                        sleep(limits::ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = draining.cancelled() => {}
                () = accept => {}
            }
        });
        Ok(Serving { accepting, task })
    }
}

impl Serving {
    /// Stops accepting; open connections go on. The listener is closed when this returns, so that what waits in its backlog is left to
    /// whoever holds a duplicate.
    pub async fn stop(self) {
        self.accepting.cancel();
        let _ = self.task.await;
    }
}

impl Shared {
    fn full(&self, full: bool, what: Bound) {
        if full {
            self.host.measure(Measure::Bound(what));
        }
    }

    fn gone(&self, workload: u32) -> CancellationToken {
        self.workloads().entry(workload).or_default().clone()
    }

    fn workloads(&self) -> MutexGuard<'_, HashMap<u32, CancellationToken>> {
        self.workloads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(shared: Weak<Shared>) {
    loop {
        sleep(limits::POOL_SWEEP).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.pool.sweep();
    }
}
