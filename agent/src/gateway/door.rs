//! The listening socket, and which process has connected to it.
//!
//! A number of a process may be given to another one while its connection waits to be accepted, and the other may be a gateway. So a process is known by
//! a descriptor that the kernel opened of who connected, or, where it keeps none (before 6.5), by the number of a process that is known to have had it
//! all the while.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::sockopt::socket_peercred,
    process::{Pid, PidfdFlags, pidfd_open},
    time::{ClockId, Timespec, clock_gettime},
};
use tokio::net::{UnixListener, UnixStream};

/// The unit of times in `/proc/PID/stat` (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: u64 = 100;

pub struct Door {
    listener: UnixListener,
    /// Nobody was waiting at this time since boot: who is accepted now connected later.
    empty_at: Duration,
}

/// Somebody who has connected.
pub(super) struct Arrival {
    stream: UnixStream,
    process: Result<Process, NoProcess>,
}

/// The process that connected. While it lives, its number is its own.
#[derive(Debug)]
pub(super) struct Process {
    fd: OwnedFd,
    pub(super) pid: u32,
}

/// Why it is not known which process connected.
#[derive(Debug)]
pub(super) enum NoProcess {
    Gone,
    /// The number may have been another process's when the connection was made.
    Younger,
}

impl Door {
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        // The path is known to nobody yet.
        Ok(Self { listener: UnixListener::bind(path)?, empty_at: now() })
    }

    pub(super) async fn accept(&mut self) -> io::Result<Arrival> {
        let before = now();
        if !is_readable(&self.listener) {
            self.empty_at = before;
        }
        let (stream, _) = self.listener.accept().await?;
        let process = Process::behind(stream.as_fd(), self.empty_at);
        Ok(Arrival { stream, process })
    }
}

impl Arrival {
    pub(super) fn process(&self) -> Result<Process, NoProcess> {
        match &self.process {
            Ok(process) => process.fd.try_clone().map(|fd| Process { fd, pid: process.pid }).map_err(|_| NoProcess::Gone),
            Err(NoProcess::Gone) => Err(NoProcess::Gone),
            Err(NoProcess::Younger) => Err(NoProcess::Younger),
        }
    }

    pub(super) fn into_stream(self) -> UnixStream {
        self.stream
    }
}

impl Process {
    fn behind(stream: BorrowedFd<'_>, empty_at: Duration) -> Result<Self, NoProcess> {
        match weft_kernel::peer::pidfd(stream) {
            Ok(Some(fd)) => Self::of(fd),
            Ok(None) => Self::by_number(stream, empty_at),
            Err(_) => Err(NoProcess::Gone),
        }
    }

    fn of(fd: OwnedFd) -> Result<Self, NoProcess> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).map_err(|_| NoProcess::Gone)?;
        let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse::<i32>().ok());
        // -1: it has ended; 0: it is in no process namespace that this one can see.
        let pid = pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0).ok_or(NoProcess::Gone)?;
        Ok(Self { fd, pid })
    }

    /// The number is believed if whoever has it now had it before the connection could be made.
    fn by_number(stream: BorrowedFd<'_>, empty_at: Duration) -> Result<Self, NoProcess> {
        let pid: Pid = socket_peercred(stream).map_err(|_| NoProcess::Gone)?.pid;
        let fd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| NoProcess::Gone)?;
        let process = Self { fd, pid: pid.as_raw_nonzero().get().unsigned_abs() };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).map_err(|_| NoProcess::Gone)?;
        if !process.lives() {
            return Err(NoProcess::Gone);
        }
        let started = started(&stat).ok_or(NoProcess::Gone)?;
        if started <= empty_at { Ok(process) } else { Err(NoProcess::Younger) }
    }

    /// Whether what was read of its number until now was read of this very process.
    pub(super) fn lives(&self) -> bool {
        !is_readable(&self.fd)
    }
}

/// Of a listener: somebody waits; of a process: it has ended. What cannot be looked at is taken for that.
fn is_readable(fd: impl AsFd) -> bool {
    let mut wait = [PollFd::new(&fd, PollFlags::IN)];
    !matches!(poll(&mut wait, Some(&Timespec::default())), Ok(0))
}

/// The latest time since boot at which a process can have been started, by its `/proc/PID/stat`. Its second field may hold anything.
fn started(stat: &str) -> Option<Duration> {
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(Duration::from_millis((ticks + 1) * 1000 / TICKS_PER_SECOND))
}

/// Since boot, with the time that the machine slept.
fn now() -> Duration {
    let t = clock_gettime(ClockId::Boottime);
    Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as Plain;

    use super::*;

    /// Of this process; returns when that lies in the past, whatever it is rounded to.
    fn own_start() -> Duration {
        let started = started(&std::fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        while started >= now() {
            std::thread::sleep(Duration::from_millis(1));
        }
        started
    }

    #[test]
    fn a_process_is_known_by_descriptor_and_by_number() {
        let (one, _other) = Plain::pair().unwrap();
        let known = Process::behind(one.as_fd(), Duration::ZERO).unwrap();
        assert_eq!((known.pid, known.lives()), (std::process::id(), true));
        own_start();
        assert_eq!(Process::by_number(one.as_fd(), now()).unwrap().pid, std::process::id());
    }

    #[test]
    fn a_number_that_could_have_been_anothers_is_not_believed() {
        let (one, _other) = Plain::pair().unwrap();
        let started = own_start();
        assert!(Process::by_number(one.as_fd(), started).is_ok(), "the control");
        let before = started - Duration::from_millis(1);
        assert!(matches!(Process::by_number(one.as_fd(), before), Err(NoProcess::Younger)));
    }

    #[test]
    fn a_process_that_has_ended_is_not_read_of() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let process = Process { fd: pidfd_open(pid, PidfdFlags::empty()).unwrap(), pid: child.id() };
        assert!(process.lives());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.lives());
        assert!(matches!(Process::of(process.fd), Err(NoProcess::Gone)));
    }

    #[test]
    fn the_start_is_found_whatever_a_program_calls_itself() {
        let stat = |comm: &str| format!("7 ({comm}) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 10");
        for comm in ["sh", "a) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 1 9", ") (", ""] {
            assert_eq!(started(&stat(comm)), Some(Duration::from_millis(123_460)), "{comm}");
        }
        assert_eq!(started("7 (sh) S 1"), None);
    }

    #[tokio::test]
    async fn who_is_accepted_connected_after_the_door_was_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut door = Door::bind(&path).unwrap();
        let first = door.empty_at;
        let _one = Plain::connect(&path).unwrap();
        let arrival = door.accept().await.unwrap();
        assert_eq!((arrival.process().unwrap().pid, door.empty_at), (std::process::id(), first));
        let next = tokio::spawn(async move { door.accept().await.map(|_| door) });
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = now();
        let _two = Plain::connect(&path).unwrap();
        let door = next.await.unwrap().unwrap();
        assert!(door.empty_at > first && door.empty_at <= before, "{first:?} {:?} {before:?}", door.empty_at);
    }
}
