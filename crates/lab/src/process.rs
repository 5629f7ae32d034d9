//! A program that runs in a place. It ends when this value goes.

use std::{
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{LabError, eventually, limits};

#[derive(Debug)]
pub struct Proc {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where its own part of the log begins, in bytes: a former program of that name may have written before.
    log_start: usize,
    status: Option<ExitStatus>,
}

impl Proc {
    pub(crate) fn start(name: &str, mut command: Command, log: PathBuf) -> Result<Self, LabError> {
        // A group of its own: Ctrl-C at the terminal is for the lab, which then ends things in order.
        let log_start = fs::metadata(&log).map_or(0, |m| usize::try_from(m.len()).unwrap_or(usize::MAX));
        let child = command.process_group(0).spawn().map_err(LabError::io("start", name))?;
        Ok(Self { name: name.to_owned(), child, log, log_start, status: None })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        let all = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(all.get(self.log_start..).unwrap_or_default()).into_owned()
    }

    /// The end of the log, for error messages.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// For hand-made pipes; taken from the command that `spawn_with` adjusted.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    pub fn is_running(&mut self) -> bool {
        self.status().is_none()
    }

    /// Fails, with the end of the log, when the program has ended.
    pub fn still_running(&mut self) -> Result<(), LabError> {
        match self.status() {
            None => Ok(()),
            Some(status) => Err(LabError::Ended { what: self.name.clone(), status: describe(status), log: self.log.clone(), log_tail: self.log_tail(15) }),
        }
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.is_running()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        if let Ok(status) = self.child.wait() {
            self.status = Some(status);
        }
    }

    /// SIGTERM, and SIGKILL after the grace. Gives how it ended.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        let end = Instant::now() + limits::STOP_GRACE;
        while self.is_running() && Instant::now() < end {
            std::thread::sleep(limits::POLL_INTERVAL);
        }
        if self.is_running() {
            self.kill9();
        }
        self.status
    }

    /// Waits for the end; past the deadline the program is killed and that is an error.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus, LabError> {
        let what = format!("the end of `{}`", self.name);
        let outcome = eventually(deadline, &what, || self.status().ok_or("still running"));
        if outcome.is_err() {
            self.kill9();
        }
        outcome
    }

    /// Waits until the log holds `text`, while the program lives.
    pub fn wait_for_log(&mut self, text: &str, deadline: Duration) -> Result<(), LabError> {
        let what = format!("{text:?} in the log of `{}`", self.name);
        eventually(deadline, &what, || {
            if self.log().contains(text) { Ok(Ok(())) } else { self.still_running().map_or_else(|e| Ok(Err(e)), |()| Err(self.log_tail(3))) }
        })?
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill9();
        }
    }
}

fn describe(status: ExitStatus) -> String {
    status.signal().map_or_else(|| format!("exit {}", status.code().unwrap_or(-1)), |s| format!("signal {s}"))
}
