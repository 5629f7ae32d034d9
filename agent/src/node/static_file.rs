//! The file of static workloads: where it is, and whether it still is what was read.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// Cheap to clone; all clones know the same.
#[derive(Clone, Debug)]
pub struct StaticFile {
    path: Option<PathBuf>,
    read: Arc<Mutex<Option<Stamp>>>,
}

/// What changes when a file is edited or replaced.
type Stamp = (u64, u64, Option<SystemTime>);

impl StaticFile {
    /// `None`: the configuration names no file.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, read: Arc::default() }
    }

    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// It is going to be read now.
    pub(super) fn begin(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = self.path().and_then(stamp);
    }

    /// Since it was read last. Whoever looks at a cgroup first and asks this then knows that what the file said of it was said before it was made.
    pub(super) fn has_changed(&self) -> bool {
        self.path().and_then(stamp) != *self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let m = std::fs::metadata(file).ok()?;
    Some((m.ino(), m.len(), m.modified().ok()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn whoever_edits_replaces_or_removes_it_changes_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, next) = (dir.path().join("workloads.toml"), dir.path().join("next"));
        let file = StaticFile::new(Some(path.clone()));
        let seen_elsewhere = file.clone();
        assert!(!file.has_changed(), "neither there nor read");
        let check = |change: &dyn Fn()| {
            change();
            assert!(seen_elsewhere.has_changed());
            file.begin();
            assert!(!seen_elsewhere.has_changed());
        };
        check(&|| fs::write(&path, "one").unwrap());
        check(&|| fs::write(&path, "another").unwrap());
        check(&|| {
            fs::write(&next, "another").unwrap();
            fs::rename(&next, &path).unwrap();
        });
        check(&|| fs::remove_file(&path).unwrap());
        assert!(!StaticFile::new(None).has_changed());
    }
}
