//! Files with secrets, which are for their program's user only: never half-written, never readable by others.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use thiserror::Error;
use zeroize::Zeroizing;

#[derive(Debug, Error)]
pub enum PrivateFileError {
    #[error("cannot {verb} {path}{}", hint(.source))]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} may be read by others than its owner: its secrets may be known; chmod 600 {path} if you are sure they are not")]
    Readable { path: PathBuf },
    #[error("{path} is longer than {max} bytes")]
    TooLong { path: PathBuf, max: u64 },
    #[error("{path} cannot be read as {what}: {way_out}")]
    Content { path: PathBuf, what: &'static str, way_out: &'static str },
}

/// `None`: there is no such file.
pub fn read_private(path: &Path, max: u64) -> Result<Option<Zeroizing<Vec<u8>>>, PrivateFileError> {
    let io = |source| PrivateFileError::Io { verb: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io)?,
    };
    if file.metadata().map_err(io)?.mode() & 0o077 != 0 {
        return Err(PrivateFileError::Readable { path: path.to_owned() });
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(max + 1).read_to_end(&mut content).map_err(io)?;
    if content.len() as u64 > max {
        return Err(PrivateFileError::TooLong { path: path.to_owned(), max });
    }
    Ok(Some(content))
}

/// Replaces `path` whole: written beside it, brought to disk, renamed. After a crash there is the old content or the new one.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    let beside = beside(path);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(parent(path))?.sync_all()
    };
    // What a crash left behind is nobody's.
    let _ = std::fs::remove_file(&beside);
    write().map_err(|source| {
        let _ = std::fs::remove_file(&beside);
        PrivateFileError::Io { verb: "write", path: path.to_owned(), source }
    })
}

/// What most often is behind it.
pub fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ": the file system is full",
        io::ErrorKind::ReadOnlyFilesystem => ": the file system is read-only",
        io::ErrorKind::PermissionDenied => ": this user may not",
        _ => "",
    }
}

/// A hidden name in the same directory, so that a rename stays within one file system.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// The directory that it is in, for a name without one too.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_may_read_or_what_is_too_long_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(read_private(&path, 10).unwrap().is_none());
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_private(&path, 3).unwrap().unwrap().as_slice(), b"two");
        assert!(matches!(read_private(&path, 2), Err(PrivateFileError::TooLong { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_private(&path, 3), Err(PrivateFileError::Readable { .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
