//! The agent as a whole: built, run, drained.

mod build;
mod run;
mod tasks;

use std::{sync::Arc, time::SystemTime};

use tokio_util::sync::CancellationToken;
use weft_kernel::Kernel;

pub use build::{host_options, judge, kernel_options, places, preflight};
pub use run::run;

use crate::{
    bridge::LinkStatus,
    config::Config,
    flows::Store,
    holder,
    mesh::Mesh,
    metrics::Metrics,
    node::{Applier, Drift, Namespaces, Workloads},
    proxy::Proxy,
    warnings::Warnings,
    workloads::{Places, View},
};

/// Everything that the agent's parts ask of each other.
pub struct Node {
    pub config: Config,
    pub places: Places,
    pub kernel: Arc<Kernel>,
    pub mesh: Arc<Mesh>,
    pub holder: Arc<holder::Link>,
    pub proxy: Proxy,
    pub applier: Arc<Applier>,
    pub workloads: Workloads,
    pub view: View,
    pub namespaces: Arc<Namespaces>,
    pub drift: Arc<Drift>,
    pub flows: Arc<Store>,
    pub link: Arc<LinkStatus>,
    pub metrics: Arc<Metrics>,
    pub warnings: Arc<Warnings>,
    pub started_at: SystemTime,
    /// Cancelled when the agent ends: no new work from then on.
    pub shutdown: CancellationToken,
}
