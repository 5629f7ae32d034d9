//! What everyone else may know of the workloads: a picture, replaced whole whenever something changes.

use std::{collections::HashMap, net::IpAddr, path::PathBuf, sync::Arc};

use tokio::sync::watch;
use weft_types::{ServiceId, ServiceRef, WorkloadUid};

use super::Origin;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub uid: WorkloadUid,
    pub service: ServiceRef,
    pub cgroup: PathBuf,
    pub netns: PathBuf,
    pub origin: Origin,
    /// Its cgroup and namespace are there.
    pub present: bool,
    /// The bridge refuses it.
    pub refused: bool,
    /// `None` while it is unidentified, and so denied.
    pub enrolled: Option<Enrolled>,
    /// Why it is not enrolled, or what the last look at the kernel missed.
    pub problem: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    pub service: ServiceId,
    pub cgroup_id: u64,
    pub netns_cookie: u64,
    pub addresses: Vec<IpAddr>,
    /// Every entry and link was there at the last look.
    pub read_back: bool,
}

/// One moment's picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    pub workloads: Vec<Seen>,
    by_netns: HashMap<u64, usize>,
}

/// The reading end; cheap to clone.
#[derive(Clone, Debug)]
pub struct View(watch::Receiver<Arc<Picture>>);

impl Picture {
    pub fn new(workloads: Vec<Seen>) -> Self {
        let by_netns = workloads.iter().enumerate().filter_map(|(i, w)| Some((w.enrolled.as_ref()?.netns_cookie, i))).collect();
        Self { workloads, by_netns }
    }

    pub fn by_uid(&self, uid: &WorkloadUid) -> Option<&Seen> {
        self.workloads.iter().find(|w| w.uid == *uid)
    }

    pub fn by_netns(&self, cookie: u64) -> Option<&Seen> {
        self.by_netns.get(&cookie).map(|i| &self.workloads[*i])
    }
}

impl View {
    pub fn new(receiver: watch::Receiver<Arc<Picture>>) -> Self {
        Self(receiver)
    }

    pub fn now(&self) -> Arc<Picture> {
        self.0.borrow().clone()
    }

    /// Waits for the next change; `false` when there will be none.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}
