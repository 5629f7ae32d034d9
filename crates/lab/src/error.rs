//! What can go wrong in a laboratory.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use thiserror::Error;
use weft_host::Unmet;

#[derive(Debug, Error)]
pub enum LabError {
    #[error("`{command}` failed ({status}): {stderr}")]
    Command { command: String, status: ExitStatus, stderr: String },
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{what}: not within {deadline:?}; last seen: {last}")]
    Timeout { what: String, deadline: Duration, last: String },
    #[error("another lab holds {} ({holder}); stop it first", lock.display())]
    Locked { lock: PathBuf, holder: String },
    #[error("{what} ended early ({status}); its log {} ends:\n{log_tail}", log.display())]
    Ended { what: String, status: String, log: PathBuf, log_tail: String },
    #[error("{0}")]
    Precondition(String),
    #[error("{0}")]
    Malformed(String),
}

impl From<Unmet> for LabError {
    fn from(unmet: Unmet) -> Self {
        Self::Precondition(unmet.0)
    }
}

impl LabError {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
