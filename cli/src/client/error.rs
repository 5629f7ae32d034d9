//! Why the other end did not do as asked, and the way out.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use thiserror::Error;
use tonic::{Code, Status};
use weft_api::ConnectError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Agent,
    Bridge,
}

impl Program {
    fn binary(self) -> &'static str {
        match self {
            Self::Agent => "weft-agent",
            Self::Bridge => "weft-iam-bridge",
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Bridge => "bridge",
        })
    }
}

#[derive(Debug, Error)]
pub enum ClientError {
    #[error("no {program} at {socket}: there is no such socket; is {} running, and is this the path in its configuration?", program.binary())]
    Absent { program: Program, socket: PathBuf },
    #[error("no permission for the {program}'s socket {socket}: it belongs to the user that runs {}; try sudo", program.binary())]
    Permission { program: Program, socket: PathBuf },
    #[error("nobody listens at the {program}'s socket {socket}: {} has ended; start it again", program.binary())]
    Gone { program: Program, socket: PathBuf },
    #[error("cannot connect to the {program} at {socket}: {message}")]
    Connect { program: Program, socket: PathBuf, message: String },
    #[error("the {program} at {socket} does not answer within {seconds} s")]
    Silent { program: Program, socket: PathBuf, seconds: u64 },
    #[error("the {program} at {socket} does not know this request: it is of another version than this weft ({})", env!("CARGO_PKG_VERSION"))]
    Version { program: Program, socket: PathBuf },
    /// The other end's own words, which name the object.
    #[error("the {program} at {socket} says: {message}")]
    Said { program: Program, socket: PathBuf, code: Code, message: String },
    #[error("the {program} at {socket} sent a snapshot that this weft cannot read: {message}")]
    Snapshot { program: Program, socket: PathBuf, message: String },
}

impl ClientError {
    pub(super) fn connect(program: Program, socket: &Path, source: ConnectError) -> Self {
        let socket = socket.to_owned();
        match source {
            ConnectError::Absent(_) => Self::Absent { program, socket },
            ConnectError::Permission(_) => Self::Permission { program, socket },
            ConnectError::Refused(_) => Self::Gone { program, socket },
            ConnectError::Io { source, .. } => Self::Connect { program, socket, message: source.to_string() },
            ConnectError::Grpc { source, .. } => Self::Connect { program, socket, message: format!("it does not speak gRPC ({source})") },
        }
    }

    pub(super) fn refused(program: Program, socket: &Path, status: Status) -> Self {
        let socket = socket.to_owned();
        match status.code() {
            Code::Unimplemented => Self::Version { program, socket },
            code if status.message().is_empty() => Self::Said { program, socket, code, message: code.description().to_owned() },
            code => Self::Said { program, socket, code, message: status.message().to_owned() },
        }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Said { code: Code::NotFound, .. })
    }
}
