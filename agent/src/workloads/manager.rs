//! Which workloads there are, and how far each has come. Decides when to enrol and when to withdraw; [`Plumbing`] knows how.
//!
//! It reads no clock: every step is told the time.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};
use tracing::{info, warn};
use weft_types::{ServiceId, ServiceRef, WorkloadUid};

use super::{
    spec::{FieldError, Origin, Spec},
    view::{Enrolled, Picture, Seen},
};
use crate::{limits, mesh::Chain};

/// The part that touches the kernel, the holder and the proxy.
pub trait Plumbing {
    /// An open namespace with its listeners, enrolled or about to be.
    type Held;
    /// Looks whether cgroup and namespace are there, and which they are.
    fn look(&self, spec: &Spec) -> Result<Instance, String>;
    /// Opens the namespace; takes its listeners from the holder, or makes and deposits them.
    fn open(&mut self, spec: &Spec) -> Result<Self::Held, String>;
    fn cookie(&self, held: &Self::Held) -> u64;
    fn addresses(&self, held: &Self::Held) -> Result<Vec<IpAddr>, String>;
    /// Serves the listeners, enrols, reads back. Called again, it replaces.
    fn enrol(&mut self, spec: &Spec, held: &mut Self::Held, service: ServiceId, addresses: &[IpAddr]) -> Result<(), String>;
    /// Whether the kernel still holds everything; else what is missing.
    fn read_back(&self, held: &Self::Held) -> Result<(), String>;
    /// Something of an enrolled workload was missing, and what came of enrolling it again.
    fn drifted(&self, spec: &Spec, missing: &str, repaired: Result<(), &str>);
    /// Ends its connections, takes it out of the kernel, closes its listeners here and in the holder.
    fn withdraw(&mut self, spec: &Spec, held: Self::Held);
    /// Whether a service may be enrolled now (it is in the snapshot, and its SVID is here), and as whom; else why not.
    fn admit(&self, service: &ServiceRef) -> Result<ServiceId, String>;
    /// Takes everything out of kernel and holder that is none of `keep`: what an earlier agent left there.
    fn withdraw_others(&mut self, keep: &[(&Spec, &Self::Held)]);
    /// Repairs what is neither kernel nor namespace: the holder's side.
    fn maintain(&mut self, held: &[(&Spec, &Self::Held)]);
    /// Keeps the live workloads for the next start.
    fn save(&self, specs: &mut dyn Iterator<Item = &Spec>);
}

/// One life of a cgroup and a namespace: a restart under the same path is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    pub cgroup: u64,
    pub netns: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("this node has {} workloads and takes no more", limits::WORKLOADS_MAX)]
    Full,
    #[error("workload {uid}: {problem}")]
    Absent { uid: WorkloadUid, problem: String },
    #[error("workload {uid} could not be enrolled in time: {problem}")]
    Timeout { uid: WorkloadUid, problem: String },
    #[error("workload {0} was removed before it was enrolled")]
    Removed(WorkloadUid),
}

pub type AddReply = oneshot::Sender<Result<Seen, AddError>>;

pub struct Manager<P: Plumbing> {
    plumbing: P,
    entries: Vec<Entry<P::Held>>,
    /// Refusals of the bridge.
    refused: HashMap<WorkloadUid, String>,
    picture: watch::Sender<Arc<Picture>>,
}

struct Entry<H> {
    spec: Spec,
    state: State<H>,
    problem: Option<String>,
    present: bool,
    /// No try of this instance before this moment, after one that failed. Another one is tried at once: a unit that ends of being refused is never the same again.
    not_before: Option<(Instant, Instance)>,
    waiting: Vec<(Instant, AddReply)>,
    /// Somebody asked for it and it has never been enrolled: it goes when nobody waits any more.
    provisional: bool,
}

enum State<H> {
    Unidentified,
    Enrolled(Box<Live<H>>),
}

struct Live<H> {
    held: H,
    cookie: u64,
    instance: Instance,
    service: ServiceId,
    addresses: Vec<IpAddr>,
    /// When the kernel was last read back; `None`: it is due.
    looked: Option<Instant>,
    read_back: bool,
}

/// After an enrolment that failed.
const RETRY: Duration = Duration::from_secs(1);

impl<P: Plumbing> Manager<P> {
    pub fn new(plumbing: P) -> (Self, watch::Receiver<Arc<Picture>>) {
        let (picture, seen) = watch::channel(Arc::default());
        (Self { plumbing, entries: Vec::new(), refused: HashMap::new(), picture }, seen)
    }

    /// Adds a live workload, or answers for the same one again. The reply comes when it is enrolled, or at `deadline`, when it is given up.
    pub fn add(&mut self, spec: Spec, now: Instant, deadline: Instant, reply: AddReply) {
        if let Some(known) = self.entries.iter_mut().find(|e| e.spec.same_as(&spec)) {
            known.waiting.push((deadline, reply));
            known.not_before = None;
            return self.step(now);
        }
        if let Err(e) = self.may_add(&spec) {
            let _ = reply.send(Err(e));
            return;
        }
        let mut entry = Entry { provisional: true, waiting: vec![(deadline, reply)], ..Entry::new(spec) };
        entry.present = true;
        self.entries.push(entry);
        self.save();
        self.step(now);
    }

    fn may_add(&self, spec: &Spec) -> Result<(), AddError> {
        if self.entries.len() >= limits::WORKLOADS_MAX {
            return Err(AddError::Full);
        }
        self.entries.iter().try_for_each(|e| spec.agrees_with(&e.spec))?;
        self.plumbing.look(spec).map(drop).map_err(|problem| AddError::Absent { uid: spec.uid.clone(), problem })
    }

    /// Takes a workload out of the mesh; false: there is none of that name.
    pub fn remove(&mut self, uid: &WorkloadUid) -> bool {
        let Some(at) = self.entries.iter().position(|e| e.spec.uid == *uid) else { return false };
        let entry = self.entries.remove(at);
        self.discard(entry, "it was removed");
        self.save();
        self.publish();
        true
    }

    /// Makes the static workloads exactly these. A live one that stands in the way of a static one stays; the static one is reported and left out.
    pub fn set_static(&mut self, specs: Vec<Spec>, now: Instant) -> Vec<String> {
        let gone = |e: &Entry<P::Held>| e.spec.origin == Origin::Static && !specs.iter().any(|s| s.same_as(&e.spec));
        while let Some(at) = self.entries.iter().position(gone) {
            let entry = self.entries.remove(at);
            self.discard(entry, "the workloads file does not name it any more");
        }
        self.extend(specs, now)
    }

    /// Adds workloads that nobody waits for; returns what stood in the way.
    pub fn extend(&mut self, specs: Vec<Spec>, now: Instant) -> Vec<String> {
        let mut refused = Vec::new();
        for spec in specs {
            if let Some(known) = self.entries.iter_mut().find(|e| e.spec.same_as(&spec)) {
                known.spec.origin = spec.origin;
                continue;
            }
            match self.entries.iter().try_for_each(|e| spec.agrees_with(&e.spec)) {
                Ok(()) => self.entries.push(Entry::new(spec)),
                Err(e) => refused.push(format!("workload {}: {}", spec.uid, Chain(&e))),
            }
        }
        self.step(now);
        refused
    }

    /// What the bridge refuses, complete.
    pub fn set_refused(&mut self, refused: HashMap<WorkloadUid, String>, now: Instant) {
        self.refused = refused;
        self.step(now);
    }

    /// Where the workloads live, or are waited for.
    pub fn cgroups(&self) -> impl Iterator<Item = &std::path::Path> {
        self.entries.iter().map(|e| e.spec.cgroup.as_path())
    }

    /// Looks at every workload once.
    pub fn step(&mut self, now: Instant) {
        let mut vanished = false;
        for mut entry in std::mem::take(&mut self.entries) {
            if self.advance(&mut entry, now) {
                entry.answer(now);
                if entry.gave_up() {
                    self.discard(entry, "it could not be enrolled in time");
                    vanished = true;
                } else {
                    self.entries.push(entry);
                }
            } else {
                self.discard(entry, "its cgroup or namespace is gone");
                vanished = true;
            }
        }
        if vanished {
            self.save();
        }
        self.publish();
    }

    /// Reads every enrolled workload back from the kernel, whenever that was done last.
    pub fn read_back(&mut self, now: Instant) {
        for entry in &mut self.entries {
            if let State::Enrolled(live) = &mut entry.state {
                live.looked = None;
            }
        }
        self.step(now);
    }

    /// Withdraws nothing: what is in the kernel stays enforced while no agent runs.
    pub fn close(self) {
        for mut entry in self.entries {
            entry.refuse_all();
        }
    }

    pub fn withdraw_others(&mut self) {
        self.plumbing.withdraw_others(&held(&self.entries));
    }

    pub fn maintain(&mut self) {
        self.plumbing.maintain(&held(&self.entries));
    }

    /// One step of one workload; false when it is to be forgotten.
    fn advance(&mut self, entry: &mut Entry<P::Held>, now: Instant) -> bool {
        let looked = self.plumbing.look(&entry.spec);
        entry.present = looked.is_ok();
        let (instance, service) = match looked.and_then(|i| Ok((i, self.admit(&entry.spec)?))) {
            Ok(found) => found,
            Err(problem) => {
                self.withdraw(entry, &problem);
                entry.trouble(problem);
                return entry.present || entry.spec.origin == Origin::Static;
            }
        };
        if matches!(&entry.state, State::Enrolled(live) if live.instance != instance || live.service != service) {
            self.withdraw(entry, "it is another one now");
            entry.not_before = None;
        }
        match &entry.state {
            State::Enrolled(_) => self.check(entry, now),
            State::Unidentified if entry.not_before.is_none_or(|(t, failed)| now >= t || failed != instance) => self.enrol(entry, instance, service, now),
            State::Unidentified => {}
        }
        true
    }

    fn admit(&self, spec: &Spec) -> Result<ServiceId, String> {
        if let Some(reason) = self.refused.get(&spec.uid) {
            return Err(format!("the IAM bridge refuses it: {reason}"));
        }
        self.plumbing.admit(&spec.service)
    }

    fn enrol(&mut self, entry: &mut Entry<P::Held>, instance: Instance, service: ServiceId, now: Instant) {
        match self.try_enrol(&entry.spec, instance, service, now) {
            Ok(live) => {
                info!(workload = %entry.spec.uid, service = %entry.spec.service, addresses = ?live.addresses, "enrolled");
                entry.state = State::Enrolled(live);
                entry.problem = None;
                entry.not_before = None;
                entry.provisional = false;
            }
            Err(problem) => {
                entry.trouble(problem);
                entry.not_before = Some((now + RETRY, instance));
            }
        }
    }

    fn try_enrol(&mut self, spec: &Spec, instance: Instance, service: ServiceId, now: Instant) -> Result<Box<Live<P::Held>>, String> {
        let mut held = self.plumbing.open(spec)?;
        let cookie = self.plumbing.cookie(&held);
        let done = self.plumbing.addresses(&held).and_then(|a| self.plumbing.enrol(spec, &mut held, service, &a).map(|()| a));
        match done {
            Ok(addresses) => Ok(Box::new(Live { held, cookie, instance, service, addresses, looked: Some(now), read_back: true })),
            Err(problem) => {
                self.plumbing.withdraw(spec, held);
                Err(problem)
            }
        }
    }

    /// Follows the addresses, and repairs what somebody took out of the kernel.
    fn check(&mut self, entry: &mut Entry<P::Held>, now: Instant) {
        let State::Enrolled(live) = &mut entry.state else { return };
        let due = live.looked.is_none_or(|at| now.duration_since(at) >= limits::READ_BACK) || live.addresses.is_empty();
        if !due {
            return;
        }
        live.looked = Some(now);
        live.read_back = false;
        let missing = self.plumbing.read_back(&live.held).err();
        let addresses = match self.plumbing.addresses(&live.held) {
            Ok(addresses) => addresses,
            Err(problem) => return entry.trouble(problem),
        };
        if missing.is_none() && addresses == live.addresses {
            live.read_back = true;
            entry.problem = None;
            return;
        }
        if addresses != live.addresses {
            info!(workload = %entry.spec.uid, ?addresses, before = ?live.addresses, "the addresses of a workload have changed");
        }
        let enrolled = self.plumbing.enrol(&entry.spec, &mut live.held, live.service, &addresses);
        if let Some(missing) = &missing {
            self.plumbing.drifted(&entry.spec, missing, enrolled.as_ref().copied().map_err(String::as_str));
        }
        match enrolled {
            Ok(()) => {
                live.addresses = addresses;
                live.read_back = true;
                entry.problem = None;
            }
            // What cannot be repaired is not enforced as it should be: denied, and tried again.
            Err(problem) => {
                entry.not_before = Some((now + RETRY, live.instance));
                self.withdraw(entry, &problem);
                entry.trouble(problem);
            }
        }
    }

    fn withdraw(&mut self, entry: &mut Entry<P::Held>, why: &str) {
        if let State::Enrolled(live) = std::mem::replace(&mut entry.state, State::Unidentified) {
            info!(workload = %entry.spec.uid, service = %entry.spec.service, why, "withdrawn");
            self.plumbing.withdraw(&entry.spec, live.held);
        }
    }

    fn discard(&mut self, mut entry: Entry<P::Held>, why: &str) {
        self.withdraw(&mut entry, why);
        entry.refuse_all();
    }

    fn save(&self) {
        self.plumbing.save(&mut self.entries.iter().map(|e| &e.spec));
    }

    fn publish(&self) {
        let picture = Picture::new(self.entries.iter().map(|e| Seen { refused: self.refused.contains_key(&e.spec.uid), ..e.seen() }).collect());
        self.picture.send_if_modified(|now| {
            let changed = **now != picture;
            if changed {
                *now = Arc::new(picture);
            }
            changed
        });
    }
}

impl<H> Entry<H> {
    fn new(spec: Spec) -> Self {
        Self { spec, state: State::Unidentified, problem: None, present: false, not_before: None, waiting: Vec::new(), provisional: false }
    }

    fn trouble(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            warn!(workload = %self.spec.uid, service = %self.spec.service, problem, "workload is not as it should be");
            self.problem = Some(problem);
        }
    }

    /// Tells those who wait, if it is enrolled or their time is up.
    fn answer(&mut self, now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        let seen = self.seen();
        let enrolled = matches!(self.state, State::Enrolled(_));
        for (deadline, reply) in std::mem::take(&mut self.waiting) {
            if enrolled {
                let _ = reply.send(Ok(seen.clone()));
            } else if now >= deadline {
                let _ = reply.send(Err(AddError::Timeout { uid: self.spec.uid.clone(), problem: self.problem.clone().unwrap_or_default() }));
            } else if !reply.is_closed() {
                self.waiting.push((deadline, reply));
            }
        }
    }

    fn gave_up(&self) -> bool {
        self.provisional && self.waiting.is_empty()
    }

    fn refuse_all(&mut self) {
        for (_, reply) in self.waiting.drain(..) {
            let _ = reply.send(Err(AddError::Removed(self.spec.uid.clone())));
        }
    }

    fn seen(&self) -> Seen {
        let enrolled = match &self.state {
            State::Unidentified => None,
            State::Enrolled(live) => Some(Enrolled {
                service: live.service,
                cgroup_id: live.instance.cgroup,
                netns_cookie: live.cookie,
                addresses: live.addresses.clone(),
                read_back: live.read_back,
            }),
        };
        Seen {
            uid: self.spec.uid.clone(),
            service: self.spec.service.clone(),
            cgroup: self.spec.cgroup.clone(),
            netns: self.spec.netns.clone(),
            origin: self.spec.origin,
            present: self.present,
            refused: false,
            enrolled,
            problem: self.problem.clone(),
        }
    }
}

fn held<H>(entries: &[Entry<H>]) -> Vec<(&Spec, &H)> {
    entries
        .iter()
        .filter_map(|e| match &e.state {
            State::Enrolled(live) => Some((&e.spec, &live.held)),
            State::Unidentified => None,
        })
        .collect()
}
