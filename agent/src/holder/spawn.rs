//! Finding the holder, starting one where none answers, and ending it.

use std::{
    fs::OpenOptions,
    io,
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use thiserror::Error;

use super::{Client, HolderError};
use crate::{config::Config, limits};

#[derive(Debug, Error)]
pub enum SpawnError {
    #[error("cannot start a holder")]
    Start(#[source] io::Error),
    #[error("the holder that was started ended with {0}; its log is {1}")]
    Ended(std::process::ExitStatus, PathBuf),
    #[error("no holder answers at {0} in time")]
    Timeout(PathBuf),
}

/// A client of the running holder, or of a new one: a child in the agent's cgroup that outlives the agent.
pub fn ensure(config: &Config) -> Result<(Client, Option<Child>), SpawnError> {
    let socket = config.holder_socket();
    if let Ok(client) = Client::connect(&socket) {
        return Ok((client, None));
    }
    let mut child = start(config).map_err(SpawnError::Start)?;
    let deadline = Instant::now() + limits::HOLDER_TIMEOUT;
    loop {
        if let Ok(client) = Client::connect(&socket) {
            return Ok((client, Some(child)));
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(SpawnError::Ended(status, log_file(config)));
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(SpawnError::Timeout(socket));
        }
        // There is no event to wait for: the socket appears when the holder is ready.
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Ends the holder at `socket`; false: none answered.
pub fn stop(socket: &Path) -> Result<bool, HolderError> {
    match Client::connect(socket) {
        Ok(client) => client.stop().map(|()| true),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn start(config: &Config) -> io::Result<Child> {
    // Its own log file: a holder that kept the agent's standard error open would keep whoever reads it waiting.
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log_file(config))?;
    // The link works even where the file was replaced since this process began.
    Command::new("/proc/self/exe")
        .arg0("weft-agent")
        .args(["hold".as_ref(), "--config".as_ref(), config.file.as_os_str()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}

fn log_file(config: &Config) -> PathBuf {
    config.run_dir.join("holder.log")
}
