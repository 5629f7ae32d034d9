//! The one thread that owns the workloads. It may block: it enters namespaces and speaks to the kernel.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Instant,
};

use tokio::sync::{oneshot, watch};
use tracing::info;
use weft_types::WorkloadUid;

use super::{arrivals::Arrivals, static_file::StaticFile};
use crate::{
    limits,
    mesh::Chain,
    warnings::{Topic, Warnings},
    workloads::{AddError, AddReply, Manager, Picture, Places, Plumbing, Seen, Spec, load_live, read_static},
};

/// Speaks to the thread; cheap to clone.
#[derive(Clone)]
pub struct Workloads(mpsc::Sender<Command>);

enum Command {
    Add(Box<Spec>, AddReply),
    Remove(WorkloadUid, oneshot::Sender<bool>),
    Reload,
    Refused(HashMap<WorkloadUid, String>),
    Look,
    ReadBack(oneshot::Sender<()>),
    Stop,
}

/// Where workloads come from.
pub struct Sources {
    pub places: Places,
    pub static_file: StaticFile,
    pub live_file: PathBuf,
    pub warnings: Arc<Warnings>,
}

/// The agent is ending.
#[derive(Debug, thiserror::Error)]
#[error("the agent is ending")]
pub struct Ending;

impl Workloads {
    /// Waits until the workload is enrolled, at most [`limits::ENROL_TIMEOUT`].
    pub async fn add(&self, spec: Spec) -> Result<Result<Seen, AddError>, Ending> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Command::Add(Box::new(spec), reply)).map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }

    /// False: there was none.
    pub async fn remove(&self, uid: WorkloadUid) -> Result<bool, Ending> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Command::Remove(uid, reply)).map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }

    /// Reads the static file again.
    pub fn reload(&self) {
        let _ = self.0.send(Command::Reload);
    }

    /// What the bridge refuses, complete.
    pub fn refused(&self, refused: HashMap<WorkloadUid, String>) {
        let _ = self.0.send(Command::Refused(refused));
    }

    /// Snapshot or SVIDs have changed.
    pub fn look(&self) {
        let _ = self.0.send(Command::Look);
    }

    /// Reads every enrolled workload back from the kernel; afterwards the view tells what is there.
    pub async fn read_back(&self) -> Result<(), Ending> {
        let (done, answer) = oneshot::channel();
        self.0.send(Command::ReadBack(done)).map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }

    pub fn stop(&self) {
        let _ = self.0.send(Command::Stop);
    }
}

/// Starts the thread. Everything known from before is tried once, and what is in the kernel beyond that is withdrawn, before `ready` is told.
pub fn start<P>(plumbing: P, sources: Sources, ready: oneshot::Sender<()>) -> std::io::Result<(Workloads, watch::Receiver<Arc<Picture>>, JoinHandle<()>)>
where
    P: Plumbing + Send + 'static,
    P::Held: Send,
{
    let (commands, inbox) = mpsc::channel();
    let (manager, picture) = Manager::new(plumbing);
    let tell = commands.clone();
    let arrivals = Arrivals::new(move || tell.send(Command::Look).is_ok());
    let run = move || Thread { manager, sources, arrivals }.run(&inbox, ready);
    let thread = std::thread::Builder::new().name("weft-workloads".into()).spawn(run)?;
    Ok((Workloads(commands), picture, thread))
}

struct Thread<P: Plumbing> {
    manager: Manager<P>,
    sources: Sources,
    arrivals: Arrivals,
}

impl<P: Plumbing> Thread<P> {
    fn run(mut self, inbox: &mpsc::Receiver<Command>, ready: oneshot::Sender<()>) {
        self.restore();
        self.manager.withdraw_others();
        let _ = ready.send(());
        let (mut swept, mut maintained) = (Instant::now(), Instant::now());
        loop {
            let wait = limits::WORKLOAD_SWEEP.saturating_sub(swept.elapsed());
            let command = inbox.recv_timeout(wait);
            let now = Instant::now();
            // Before anything is looked at: what has just come is what the file says now.
            self.watch(now);
            match command {
                Ok(Command::Add(spec, reply)) => self.manager.add(*spec, now, now + limits::ENROL_TIMEOUT, reply),
                Ok(Command::Remove(uid, reply)) => drop(reply.send(self.manager.remove(&uid))),
                Ok(Command::Reload) => self.reload(now),
                Ok(Command::Refused(refused)) => self.manager.set_refused(refused, now),
                Ok(Command::ReadBack(done)) => {
                    self.manager.read_back(now);
                    let _ = done.send(());
                }
                Ok(Command::Look) => self.manager.step(now),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return self.manager.close(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // A flood of commands must not keep a vanished workload waiting.
            if swept.elapsed() >= limits::WORKLOAD_SWEEP {
                self.manager.step(now);
                swept = now;
                self.arrivals.expect(self.manager.cgroups());
            }
            if maintained.elapsed() >= limits::MAINTENANCE {
                self.manager.maintain();
                maintained = now;
            }
        }
    }

    fn restore(&mut self) {
        let now = Instant::now();
        self.reload(now);
        let messages = match load_live(&self.sources.live_file, &self.sources.places) {
            Ok((specs, mut messages)) => {
                messages.extend(self.manager.extend(specs, now));
                messages
            }
            Err(e) => {
                vec![format!("saved live workloads cannot be read, so they stay denied until they are added again: {}: {e}", self.sources.live_file.display())]
            }
        };
        self.sources.warnings.set(Topic::LiveWorkloads, messages);
    }

    fn watch(&mut self, now: Instant) {
        if let Some(file) = self.sources.static_file.path()
            && self.sources.static_file.has_changed()
        {
            info!(file = %file.display(), "the workloads file has changed");
            self.reload(now);
        }
    }

    /// A file that cannot be read changes nothing.
    fn reload(&mut self, now: Instant) {
        let Some(file) = self.sources.static_file.path() else { return };
        self.sources.static_file.begin();
        let messages = match read_static(file, &self.sources.places) {
            Ok(specs) => self.manager.set_static(specs, now),
            Err(e) => vec![format!("the workloads of before stay: {}", Chain(&e))],
        };
        self.sources.warnings.set(Topic::WorkloadsFile, messages);
    }
}
