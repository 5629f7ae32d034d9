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
    by_netns: HashMap<u64, Vec<usize>>,
}

/// The reading end; cheap to clone.
#[derive(Clone, Debug)]
pub struct View(watch::Receiver<Arc<Picture>>);

impl Picture {
    pub fn new(workloads: Vec<Seen>) -> Self {
        let mut by_netns: HashMap<u64, Vec<usize>> = HashMap::new();
        for (i, enrolled) in workloads.iter().enumerate().filter_map(|(i, w)| Some((i, w.enrolled.as_ref()?))) {
            by_netns.entry(enrolled.netns_cookie).or_default().push(i);
        }
        Self { workloads, by_netns }
    }

    pub fn by_uid(&self, uid: &WorkloadUid) -> Option<&Seen> {
        self.workloads.iter().find(|w| w.uid == *uid)
    }

    /// The workload of that service in a namespace; of several the one in that very cgroup, if it is one of them. A namespace alone says
    /// nothing: a stranger may sit in it.
    pub fn resident(&self, cookie: u64, service: ServiceId, cgroup: u64) -> Option<&Seen> {
        let all = self.by_netns.get(&cookie)?.iter().map(|i| &self.workloads[*i]);
        let mut fits = all.filter_map(|w| Some((w, w.enrolled.as_ref().filter(|e| e.service == service)?)));
        let first = fits.next()?;
        let exact = std::iter::once(first).chain(fits).find(|(_, e)| e.cgroup_id == cgroup);
        Some(exact.unwrap_or(first).0)
    }

    /// The one that a namespace belongs to, if it belongs to one service.
    pub fn sole(&self, cookie: u64) -> Option<&Seen> {
        let all = self.by_netns.get(&cookie)?;
        let service = |i: &usize| self.workloads[*i].enrolled.as_ref().map(|e| e.service);
        let first = all.first()?;
        all.iter().all(|i| service(i) == service(first)).then(|| &self.workloads[*first])
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
