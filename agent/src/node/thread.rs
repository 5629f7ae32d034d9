//! The one thread that owns the workloads. It may block: it enters namespaces and speaks to the kernel.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, TrySendError},
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
pub struct Workloads(mpsc::SyncSender<Command>);

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

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("the agent is ending")]
    Ending,
    #[error("{} requests wait for the thread that enrols: try again", limits::WORKLOAD_COMMANDS)]
    Busy,
}

impl Workloads {
    /// Waits until the workload is enrolled, at most [`limits::ENROL_TIMEOUT`].
    pub async fn add(&self, spec: Spec) -> Result<Result<Seen, AddError>, Unanswered> {
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Add(Box::new(spec), reply))?;
        answer.await.map_err(|_| Unanswered::Ending)
    }

    /// False: there was none.
    pub async fn remove(&self, uid: WorkloadUid) -> Result<bool, Unanswered> {
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Remove(uid, reply))?;
        answer.await.map_err(|_| Unanswered::Ending)
    }

    fn ask(&self, command: Command) -> Result<(), Unanswered> {
        self.0.try_send(command).map_err(|e| match e {
            TrySendError::Full(_) => Unanswered::Busy,
            TrySendError::Disconnected(_) => Unanswered::Ending,
        })
    }

    /// Reads the static file again. Where requests wait already, each of them looks at the file first.
    pub fn reload(&self) {
        let _ = self.0.try_send(Command::Reload);
    }

    /// What the bridge refuses, complete.
    pub fn refused(&self, refused: HashMap<WorkloadUid, String>) {
        let _ = self.0.send(Command::Refused(refused));
    }

    /// Snapshot or SVIDs have changed. Where requests wait already, the sweep finds out as soon.
    pub fn look(&self) {
        let _ = self.0.try_send(Command::Look);
    }

    /// Reads every enrolled workload back from the kernel; afterwards the view tells what is there.
    pub async fn read_back(&self) -> Result<(), Unanswered> {
        let (done, answer) = oneshot::channel();
        self.ask(Command::ReadBack(done))?;
        answer.await.map_err(|_| Unanswered::Ending)
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
    let (commands, inbox) = mpsc::sync_channel(limits::WORKLOAD_COMMANDS);
    let (manager, picture) = Manager::new(plumbing);
    let tell = commands.clone();
    let arrivals = Arrivals::new(move || !matches!(tell.try_send(Command::Look), Err(TrySendError::Disconnected(_))));
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
