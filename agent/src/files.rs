//! Files and sockets that others must not see half-written, or not at all.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Replaces `path` whole: written beside it, brought to disk, renamed. After a crash there is the old content or the new one.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let beside = beside(path);
    let written = write_new(&beside, content, mode).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
        return written;
    }
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Writes `content` into the file that is there, so that a bind mount of it sees the change.
pub fn write_in_place(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(mode).open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)
}

/// Makes a directory and its parents.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Makes a unix socket at `path` that only this user may use.
pub fn bind_private<L>(path: &Path, bind: impl FnOnce(&Path) -> io::Result<L>) -> io::Result<L> {
    bind_socket(path, 0o600, bind)
}

/// Makes a unix socket at `path` that may be used as `mode` says, from its first moment on: it is bound in a closed directory and moved into place.
pub fn bind_socket<L>(path: &Path, mode: u32, bind: impl FnOnce(&Path) -> io::Result<L>) -> io::Result<L> {
    let mut name = OsString::from(".");
    name.push(std::process::id().to_string());
    let dir = path.with_file_name(name);
    DirBuilder::new().mode(0o700).create(&dir)?;
    let inner = dir.join("s");
    let bound = bind(&inner).and_then(|listener| {
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&inner, path)?;
        Ok(listener)
    });
    if bound.is_err() {
        let _ = std::fs::remove_file(&inner);
    }
    let _ = std::fs::remove_dir(&dir);
    bound
}

/// A lock that ends with the process, however it ends. The file holds the owner's process id for people and for `stop`.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// `Ok(None)`: another process has it.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Some(Self { _file: file }))
    }
}

/// Tells systemd, if it started this process and wants to know, what has become of it (sd_notify(3)).
pub fn notify(what: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|s| s.as_encoded_bytes().first() == Some(&b'/')) else { return };
    if let Err(error) = UnixDatagram::unbound().and_then(|s| s.send_to(what.as_bytes(), socket)) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let _ = std::fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::MetadataExt as _, net::UnixListener};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_atomic(&path, b"one", 0o600).unwrap();
        let first = std::fs::metadata(&path).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        let second = std::fs::metadata(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(second.mode() & 0o777, 0o600);
        assert_ne!(first.ino(), second.ino());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_written_in_place_keeps_its_inode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        write_in_place(&path, b"a longer text", 0o644).unwrap();
        let first = std::fs::metadata(&path).unwrap().ino();
        write_in_place(&path, b"short", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), first);
    }

    #[test]
    fn a_private_socket_is_private_and_replaces_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        drop(bind_private(&path, |p| UnixListener::bind(p)).unwrap());
        let listener = bind_private(&path, |p| UnixListener::bind(p)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_socket_for_all_is_for_all_only_if_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.sock");
        let _listener = bind_socket(&path, 0o666, |p| UnixListener::bind(p)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
    }

    #[test]
    fn a_lock_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        let first = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        drop(first);
        assert!(Lock::take(&path).unwrap().is_some());
    }
}
