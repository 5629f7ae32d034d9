//! Where the provider listens: on a unix socket, for the front, or on a port.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use crate::{config::Listen, files::bind_for};

pub(crate) enum Door {
    Socket(UnixListener, PathBuf),
    Tcp(TcpListener),
}

/// As it is printed, with the port that it really has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    Socket(PathBuf),
    Tcp(SocketAddr),
}

impl Door {
    pub(crate) async fn open(listen: &Listen, group: Option<u32>) -> Result<Self> {
        match listen {
            Listen::Socket(path) => Ok(Self::Socket(open_socket(path, group)?, path.clone())),
            Listen::Tcp(addr) => {
                let bound = TcpListener::bind(addr).await;
                let held = || format!("cannot listen on {addr} for the provider: another program may hold the port (field provider.listen)");
                Ok(Self::Tcp(bound.with_context(held)?))
            }
        }
    }

    pub(crate) fn bound(&self) -> io::Result<Bound> {
        Ok(match self {
            Self::Socket(_, path) => Bound::Socket(path.clone()),
            Self::Tcp(listener) => Bound::Tcp(listener.local_addr()?),
        })
    }

    /// The peer's address; `None`: whoever may open the socket, which says whose a request is.
    pub(super) async fn accept(&self) -> io::Result<(Either<UnixStream, TcpStream>, Option<IpAddr>)> {
        match self {
            Self::Socket(listener, _) => Ok((Either::Left(listener.accept().await?.0), None)),
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Either::Right(stream), Some(peer.ip())))
            }
        }
    }
}

pub(super) fn open_socket(path: &Path, group: Option<u32>) -> Result<UnixListener> {
    let listener = bind_for(path, group)?;
    UnixListener::from_std(listener).with_context(|| format!("the socket {} cannot be used", path.display()))
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Tcp(addr) => addr.fmt(f),
        }
    }
}
