//! Notices of cgroups that are made, so that a workload that starts again under its old path is enrolled before it has got far. Only a
//! hint: what is missed, the next sweep finds.

use std::{
    collections::HashMap,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
};

use crate::limits;

pub struct Arrivals {
    notices: Option<Arc<OwnedFd>>,
    /// Directories, and whether the last look still wanted them.
    watched: HashMap<PathBuf, i32>,
    ended: Arc<AtomicBool>,
}

impl Arrivals {
    /// `tell` is called after something has been made, and says whether anybody still listens. Where the kernel has no inotify left,
    /// nothing is ever told.
    pub fn new(tell: impl Fn() -> bool + Send + 'static) -> Self {
        let notices = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map(Arc::new).ok();
        let ended = Arc::new(AtomicBool::new(false));
        if let Some(fd) = notices.clone() {
            let ended = ended.clone();
            let started = thread::Builder::new().name("weft-arrivals".into()).spawn(move || follow(&fd, &ended, tell));
            if let Err(error) = started {
                tracing::warn!(%error, "new cgroups are noticed by the sweep only");
            }
        }
        Self { notices, watched: HashMap::new(), ended }
    }

    /// Watches where these cgroups are, or would be made.
    pub fn expect<'a>(&mut self, cgroups: impl Iterator<Item = &'a Path>) {
        let Some(fd) = &self.notices else { return };
        let mut wanted: Vec<&Path> = cgroups.filter_map(|c| c.parent()?.ancestors().find(|a| self.watched.contains_key(*a) || a.exists())).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.truncate(limits::ARRIVALS_MAX);
        let gone: Vec<PathBuf> = self.watched.keys().filter(|w| wanted.binary_search(&w.as_path()).is_err() || !w.exists()).cloned().collect();
        for dir in gone {
            if let Some(wd) = self.watched.remove(&dir) {
                let _ = inotify::remove_watch(fd, wd);
            }
        }
        for dir in wanted {
            if !self.watched.contains_key(dir)
                && let Ok(wd) = inotify::add_watch(fd, dir, inotify::WatchFlags::CREATE | inotify::WatchFlags::ONLYDIR)
            {
                self.watched.insert(dir.to_owned(), wd);
            }
        }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn follow(fd: &OwnedFd, ended: &AtomicBool, tell: impl Fn() -> bool) {
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    while !ended.load(Ordering::Relaxed) {
        let ready = poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&second));
        if !matches!(ready, Ok(n) if n > 0) {
            continue;
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(fd, &mut buffer);
        let news = inotify::ReadFlags::CREATE | inotify::ReadFlags::QUEUE_OVERFLOW;
        let mut told = false;
        while let Ok(event) = reader.next() {
            told |= event.events().intersects(news);
        }
        // That a watch has ended, which is an event too, is nothing new.
        if !told {
            continue;
        }
        if !tell() {
            return;
        }
        // A burst is one look, and the next.
        thread::sleep(limits::ARRIVALS_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[test]
    fn what_is_made_where_it_is_expected_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (tx, rx) = mpsc::channel();
        let mut arrivals = Arrivals::new(move || tx.send(()).is_ok());
        let cgroup = dir.path().join("slice/unit");
        arrivals.expect([cgroup.as_path()].into_iter());
        std::fs::create_dir(dir.path().join("slice")).unwrap();
        rx.recv_timeout(Duration::from_secs(5)).unwrap();
        arrivals.expect([cgroup.as_path()].into_iter());
        for _ in 0..2 {
            std::fs::create_dir(&cgroup).unwrap();
            rx.recv_timeout(Duration::from_secs(5)).unwrap();
            std::fs::remove_dir(&cgroup).unwrap();
        }
        arrivals.expect(std::iter::empty());
        std::fs::create_dir(&cgroup).unwrap();
        assert!(rx.recv_timeout(Duration::from_millis(200)).is_err());
    }
}
