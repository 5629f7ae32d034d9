//! A process of the agent in a workload's cgroup and namespace, with no capability at all: what it may do there is what the workload may do.
//!
//! It enters the namespace and gives everything up before it is moved into the cgroup, and does nothing until it is told that it has been.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Take, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};
use weft_kernel::{cgroup, netns::Netns};

use super::plumbing::Place;
use crate::limits;

/// What the two processes say to each other.
const READY: &str = "ready\n";
const GO: &str = "go\n";

/// The agent's end. The process ends with this.
pub struct Inside {
    child: Child,
    /// Its end of input is the process's.
    _stdin: ChildStdin,
    said: BufReader<Take<ChildStdout>>,
    _below: Option<Below>,
}

impl Inside {
    /// Starts `weft-agent canary` with these arguments; it is at work when this returns.
    pub fn start(place: &Place, arguments: &[&str]) -> io::Result<Self> {
        let netns = format!("/proc/{}/fd/{}", std::process::id(), place.netns.as_fd().as_raw_fd());
        let mut command = Command::new("/proc/self/exe");
        command.args(["canary", &netns]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut inside = Self { child, _stdin: stdin, said: BufReader::new(stdout.take(limits::CANARY_ANSWER_MAX_BYTES)), _below: None };
        if inside.line()? != READY.trim_end() {
            return Err(io::Error::other("its process cannot enter the namespace"));
        }
        inside._below = enter(&place.cgroup, inside.child.id())?;
        inside._stdin.write_all(GO.as_bytes())?;
        Ok(inside)
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> io::Result<String> {
        // Whoever holds the workload's cgroup can stop the process for good.
        let patience = Timespec::try_from(limits::CANARY_TIMEOUT * 3).map_err(io::Error::other)?;
        if self.said.buffer().is_empty() && poll(&mut [PollFd::new(self.said.get_ref().get_ref(), PollFlags::IN)], Some(&patience))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "its process says nothing"));
        }
        let mut line = String::new();
        match self.said.read_line(&mut line)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its process ended before it had an answer")),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves the process into the cgroup, or into one below it where the kernel wants processes in leaves only.
fn enter(dir: &Path, pid: u32) -> io::Result<Option<Below>> {
    match cgroup::move_pid(dir, pid) {
        Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
            let below = Below(dir.join("weft-canary"));
            cgroup::create(&below.0)?;
            cgroup::move_pid(&below.0, pid)?;
            Ok(Some(below))
        }
        other => other.map(|()| None),
    }
}

/// A cgroup for as long as the process is in it.
struct Below(PathBuf);

impl Drop for Below {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The process's end: does `work` once it is inside, and ends.
pub fn work(netns: &Path, work: impl FnOnce() -> io::Result<()>) -> anyhow::Result<()> {
    let netns = Netns::open(netns)?;
    netns.run(|| {
        // Nobody comes back from here: without capabilities there is no way into another namespace.
        std::process::exit(match told().and_then(|()| work()) {
            Ok(()) => 0,
            Err(_) => 2,
        })
    })?;
    Ok(())
}

fn told() -> io::Result<()> {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    print!("{READY}");
    io::stdout().flush()?;
    let mut go = String::new();
    io::stdin().read_line(&mut go)?;
    if go == GO { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}
