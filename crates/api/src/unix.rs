//! gRPC over a unix socket, as the command line and tests use it.

use std::{
    io,
    path::{Path, PathBuf},
};

use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::limits::UNIX_CONNECT_TIMEOUT;

#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("no socket at {0}: is the program running, and is this the path in its configuration?")]
    Absent(PathBuf),
    #[error("no permission to use {0}: the socket belongs to the user that runs the program")]
    Permission(PathBuf),
    #[error("nobody answers at {0}: the program that made the socket is gone")]
    Refused(PathBuf),
    #[error("cannot connect to {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} does not speak gRPC: {source}")]
    Grpc { path: PathBuf, source: tonic::transport::Error },
}

/// Connects to the program that listens at `path`. The first connection is made at once, so that the error says what is wrong; later ones are made when needed.
pub async fn connect_unix(path: impl Into<PathBuf>) -> Result<Channel, ConnectError> {
    let path = path.into();
    // tonic hides the cause of a failed connect behind "transport error".
    drop(UnixStream::connect(&path).await.map_err(|source| explain(&path, source))?);
    let target = path.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let target = target.clone();
        async move { UnixStream::connect(target).await.map(TokioIo::new) }
    });
    // The authority is required by HTTP/2 and means nothing on a unix socket.
    Endpoint::from_static("http://weft.invalid")
        .connect_timeout(UNIX_CONNECT_TIMEOUT)
        .connect_with_connector(connector)
        .await
        .map_err(|source| ConnectError::Grpc { path, source })
}

fn explain(path: &Path, source: io::Error) -> ConnectError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ConnectError::Absent(path),
        io::ErrorKind::PermissionDenied => ConnectError::Permission(path),
        io::ErrorKind::ConnectionRefused => ConnectError::Refused(path),
        _ => ConnectError::Io { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_and_an_abandoned_socket_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        assert!(matches!(connect_unix(&path).await, Err(ConnectError::Absent(_))));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(connect_unix(&path).await, Err(ConnectError::Refused(_))));
    }
}
