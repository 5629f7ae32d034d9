//! The state directory and the admin socket: never half-written, never another user's.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock, statvfs};
use thiserror::Error;
use weft_config::private::{PrivateFileError, beside, hint, parent, read_private, write_private};
use zeroize::Zeroizing;

use crate::limits;

/// The state directory, held for this process alone.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// The lock ends with the process, however it ends.
    _lock: File,
}

#[derive(Debug, Error)]
pub(crate) enum FileError {
    #[error("cannot {verb} {path}{}", hint(.source))]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("state_dir {0} is in use by another weft-iam-bridge")]
    Locked(PathBuf),
    #[error("state_dir {path} has {free} bytes free, the bridge needs {}", limits::STATE_FREE_MIN_BYTES)]
    NoSpace { path: PathBuf, free: u64 },
    #[error(transparent)]
    Private(#[from] PrivateFileError),
    #[error("another program answers on the socket {0}")]
    SocketHeld(PathBuf),
    #[error("{0} is in the way: it is no socket, so the bridge does not remove it")]
    NoSocket(PathBuf),
}

impl StateDir {
    /// Makes the directory if needed, closes it to others, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let io = |verb| move |source| FileError::Io { verb, path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("make"))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io("close to others"))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock")).map_err(io("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(FileError::Locked(path.to_owned())),
            Err(e) => return Err(io("lock")(e.into())),
        }
        let space = statvfs(path).map_err(|e| io("measure")(e.into()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < limits::STATE_FREE_MIN_BYTES {
            return Err(FileError::NoSpace { path: path.to_owned(), free });
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// `None`: there is no such file.
    pub(crate) fn read_secret(&self, name: &str) -> Result<Option<Zeroizing<String>>, FileError> {
        read_secret(&self.file(name))
    }

    pub(crate) fn write_secret(&self, name: &str, content: &[u8]) -> Result<(), FileError> {
        write_secret(&self.file(name), content)
    }
}

/// `None`: there is no such file.
pub(crate) fn read_secret(path: &Path) -> Result<Option<Zeroizing<String>>, FileError> {
    let Some(content) = read_private(path, limits::SECRET_FILE_MAX_BYTES)? else { return Ok(None) };
    let text = std::str::from_utf8(&content).map_err(|e| FileError::Io {
        verb: "read",
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, e),
    })?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

pub(crate) fn write_secret(path: &Path, content: &[u8]) -> Result<(), FileError> {
    Ok(write_private(path, content)?)
}

/// Makes a unix socket that only this user may use.
pub(crate) fn bind_private(path: &Path) -> Result<UnixListener, FileError> {
    bind_for(path, None)
}

/// Makes a unix socket that only this user may use, and a group if one is named, from its first moment on: it is bound in a closed directory and
/// moved into place.
pub(crate) fn bind_for(path: &Path, group: Option<u32>) -> Result<UnixListener, FileError> {
    let io = |source| FileError::Io { verb: "make the socket", path: path.to_owned(), source };
    clear_stale(path)?;
    DirBuilder::new().recursive(true).mode(0o755).create(parent(path)).map_err(io)?;
    let dir = beside(path);
    let _ = std::fs::remove_file(dir.join("s"));
    let _ = std::fs::remove_dir(&dir);
    DirBuilder::new().mode(0o700).create(&dir).map_err(io)?;
    let inner = dir.join("s");
    let bound = UnixListener::bind(&inner).and_then(|listener| {
        if let Some(group) = group {
            std::os::unix::fs::chown(&inner, None, Some(group))?;
        }
        std::fs::set_permissions(&inner, Permissions::from_mode(if group.is_some() { 0o660 } else { 0o600 }))?;
        std::fs::rename(&inner, path)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    if bound.is_err() {
        let _ = std::fs::remove_file(&inner);
    }
    let _ = std::fs::remove_dir(&dir);
    bound.map_err(io)
}

/// A socket of a bridge that is gone may be replaced, nothing else.
fn clear_stale(path: &Path) -> Result<(), FileError> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FileError::Io { verb: "look at", path: path.to_owned(), source }),
        Ok(meta) if !meta.file_type().is_socket() => Err(FileError::NoSocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => Err(FileError::SocketHeld(path.to_owned())),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn secrets_are_for_their_owner_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        assert_eq!(mode(&dir.path().join("state")), 0o700);
        assert!(state.read_secret("key").unwrap().is_none());
        state.write_secret("key", b"one").unwrap();
        state.write_secret("key", b"two").unwrap();
        assert_eq!(state.read_secret("key").unwrap().unwrap().as_str(), "two");
        assert_eq!(mode(&state.file("key")), 0o600);
        std::fs::set_permissions(state.file("key"), Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(state.read_secret("key"), Err(FileError::Private(PrivateFileError::Readable { .. }))));
    }

    #[test]
    fn one_bridge_holds_a_state_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(FileError::Locked(_))));
        drop(first);
        assert!(StateDir::open(dir.path()).is_ok());
    }

    #[test]
    fn a_socket_is_private_and_only_an_abandoned_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/b.sock");
        let held = bind_private(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(matches!(bind_private(&path), Err(FileError::SocketHeld(_))));
        drop(held);
        assert!(bind_private(&path).is_ok());
        assert_eq!(std::fs::read_dir(dir.path().join("run")).unwrap().count(), 1);
        let file = dir.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        assert!(matches!(bind_private(&file), Err(FileError::NoSocket(_))));
    }

    #[test]
    fn a_socket_is_a_groups_if_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.sock");
        let own = std::fs::metadata(dir.path()).unwrap().gid();
        let _held = bind_for(&path, Some(own)).unwrap();
        assert_eq!((mode(&path), std::fs::metadata(&path).unwrap().gid()), (0o660, own));
    }
}
