//! Where maps and links are pinned: `BPFFS/v<ABI>/{maps,links}`. What is pinned outlives the agent; a file removed here is a program detached.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, mount};
use weft_ebpf_common::ABI_VERSION;

use crate::KernelError;

/// `BPF_FS_MAGIC`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Makes the directories, after mounting a bpf file system where there is none yet and the directory is empty.
    pub(crate) fn create(bpffs: &Path) -> Result<Self, KernelError> {
        ensure_bpffs(bpffs)?;
        let pins = Self { root: bpffs.join(format!("v{ABI_VERSION}")) };
        for dir in [pins.root.join("maps"), pins.root.join("links")] {
            fs::create_dir_all(&dir).map_err(|source| KernelError::Bpffs { path: dir, source })?;
        }
        Ok(pins)
    }

    /// What an agent has made there; nothing is created.
    pub(crate) fn existing(bpffs: &Path) -> Self {
        Self { root: bpffs.join(format!("v{ABI_VERSION}")) }
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.root.join("links").join(name)
    }

    /// Names of all pinned links.
    pub(crate) fn links(&self) -> Result<Vec<String>, KernelError> {
        let dir = self.root.join("links");
        let read = || -> io::Result<Vec<String>> { fs::read_dir(&dir)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect() };
        read().map_err(|source| KernelError::Bpffs { path: dir.clone(), source })
    }

    /// Detaches; a link that is not there is no error.
    pub(crate) fn remove_link(&self, name: &str) -> Result<(), KernelError> {
        let path = self.link(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KernelError::Bpffs { path, source }),
            _ => Ok(()),
        }
    }
}

/// Name of the pinned link of a namespace's `sk_lookup` instance.
pub(crate) fn lookup_link(cookie: u64) -> String {
    format!("lookup-{cookie}")
}

pub(crate) fn cookie_of_link(name: &str) -> Option<u64> {
    name.strip_prefix("lookup-")?.parse().ok()
}

pub(crate) fn is_bpffs(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type as i64 & 0xffff_ffff == BPF_FS_MAGIC)
}

/// Users expect an empty directory to do. A directory with content, or one that cannot be made, is theirs to sort out.
fn ensure_bpffs(path: &Path) -> Result<(), KernelError> {
    let failed = |source| KernelError::Bpffs { path: path.to_owned(), source };
    if !path.exists()
        && let Err(e) = fs::create_dir_all(path)
    {
        // Below /sys/fs/bpf nothing can be made until the bpf file system is there.
        let nearest = path.ancestors().find(|a| a.exists()).filter(|a| is_empty(a));
        return Err(nearest.map_or(failed(e), |a| KernelError::NotBpffs(a.to_owned())));
    }
    if is_bpffs(path).map_err(failed)? {
        return Ok(());
    }
    if !is_empty(path) {
        return Err(KernelError::NotBpffs(path.to_owned()));
    }
    mount("bpf", path, "bpf", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, Some(c"mode=700")).map_err(|e| failed(e.into()))
}

pub(crate) fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_content_is_not_mounted_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x"), "").unwrap();
        assert!(matches!(ensure_bpffs(dir.path()), Err(KernelError::NotBpffs(_))));
    }

    #[test]
    fn a_lookup_link_tells_its_namespace() {
        assert_eq!(cookie_of_link(&lookup_link(4711)), Some(4711));
        assert_eq!(cookie_of_link("weft_connect4"), None);
    }
}
