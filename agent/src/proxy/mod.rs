//! The userspace half of the data path: takes captured connections of local workloads, carries them over the `weft/1` tunnel with the
//! workloads' own identities, and delivers what comes in. It reaches the kernel, the snapshot and the SVIDs through [`Host`] only.
//!
//! Deliberately absent: no namespace is entered here, no policy is invented here (`weft_policy::Index` decides), nothing is retried
//! once a byte of the application may have been seen by the other side.

mod host;
mod limits;

use std::{net::TcpListener, sync::Arc, time::Duration};

pub use host::{End, FlowRecord, Host, LocalWorkload, Measure, Point};
use weft_policy::Index;

/// The proxy of one node. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    // …
}

/// A listener being served. Dropping the handle changes nothing; [`Serving::stop`] stops accepting and leaves the open connections alone.
pub struct Serving { }

impl Proxy {
    /// Needs a running tokio runtime.
    pub fn new(host: Arc<dyn Host>) -> Self;
    /// Serves the listener (bound inside the workload's namespace, non-blocking) that captured connections of `workload` arrive at.
    pub fn serve_capture(&self, workload: Arc<LocalWorkload>, listener: TcpListener) -> std::io::Result<Serving>;
    /// Serves the listener that port 15008 of `workload` is steered to.
    pub fn serve_tunnel(&self, workload: Arc<LocalWorkload>, listener: TcpListener) -> std::io::Result<Serving>;
    /// Closes every live connection that `now` does not allow any more; call it after `now` is what [`Host::index`] returns. Returns how many.
    pub fn revoke(&self, now: &Index) -> usize;
    /// The workload is gone: closes its live connections and its warm tunnels.
    pub fn forget(&self, workload: u32);
    /// Stops accepting, waits until every live connection has ended or `deadline` has passed. Returns how many are left (they go on).
    pub async fn drain(&self, deadline: Duration) -> usize;
    pub fn live(&self) -> usize;
}
