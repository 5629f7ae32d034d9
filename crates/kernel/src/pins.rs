//! Where maps and links are pinned: `BPFFS/v<ABI>/{maps,links}`. What is pinned outlives the agent; a file removed here is a program detached.
//!
//! An agent of another ABI version has its own directory beside it, the *former* one to its successor, whichever of the two is newer.

use std::{
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, mount};
use weft_ebpf_common::{ABI_VERSION, CARRIED};

use crate::{KernelError, sys};

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

    /// The directory of another ABI version whose programs are in force.
    pub(crate) fn former(&self) -> Result<Option<Self>, KernelError> {
        let Some(bpffs) = self.root.parent() else { return Ok(None) };
        let failed = |source| KernelError::Bpffs { path: bpffs.to_owned(), source };
        for entry in fs::read_dir(bpffs).map_err(failed)? {
            let other = Self { root: entry.map_err(failed)?.path() };
            if other.root != self.root && is_version(&other.root) && !is_empty(&other.root.join("links")) && other.root.join("links").is_dir() {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// Pins the tables that both versions lay out alike here too.
    pub(crate) fn carry(&self, former: &Self) -> Result<(), KernelError> {
        for (name, _) in CARRIED {
            let (from, to) = (former.map(name), self.map(name));
            if to.exists() || !from.exists() {
                continue;
            }
            let pinned = sys::open_pin(&from).and_then(|map| sys::pin(map.as_fd(), &to));
            pinned.map_err(|source| KernelError::Bpffs { path: to, source })?;
        }
        Ok(())
    }

    /// Takes over the links, which stay what they are, and forgets the rest. A name that both have stays ours.
    pub(crate) fn inherit(&self, former: &Self) -> Result<(), KernelError> {
        for name in former.links()? {
            if !self.link(&name).exists() {
                let path = former.link(&name);
                fs::rename(&path, self.link(&name)).map_err(|source| KernelError::Bpffs { path, source })?;
            }
        }
        remove(&former.root).map(drop).map_err(|source| KernelError::Bpffs { path: former.root.clone(), source })
    }

    /// What an agent has made there; nothing is created.
    pub(crate) fn existing(bpffs: &Path) -> Self {
        Self { root: bpffs.join(format!("v{ABI_VERSION}")) }
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        let layout = CARRIED.iter().find(|(carried, _)| *carried == name);
        self.root.join("maps").join(layout.map_or_else(|| name.to_owned(), |(_, layout)| format!("{name}-{layout}")))
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

/// `v<number>`
pub(crate) fn is_version(path: &Path) -> bool {
    path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix('v')).is_some_and(|n| n.parse::<u32>().is_ok())
}

/// Removes the directory of one version; returns how many links there were. Programs go first: one that outlived its tables would refuse everything.
pub(crate) fn remove(version: &Path) -> io::Result<usize> {
    let links = empty(&version.join("links"))?;
    empty(&version.join("maps"))?;
    fs::remove_dir(version)?;
    Ok(links)
}

/// Removes a directory of pins; returns how many there were.
fn empty(dir: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let mut count = 0;
    for entry in entries {
        fs::remove_file(entry?.path())?;
        count += 1;
    }
    fs::remove_dir(dir)?;
    Ok(count)
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
    fn only_directories_of_a_version_are_ours() {
        for (name, ours) in [("v1", true), ("v12", true), ("v", false), ("vx", false), ("maps", false), ("1", false)] {
            assert_eq!(is_version(&Path::new("/b").join(name)), ours, "{name}");
        }
    }

    #[test]
    fn a_table_that_is_carried_over_is_named_with_its_layout() {
        let pins = Pins::existing(Path::new("/b"));
        assert_eq!(pins.map("SOCKS"), Path::new(&format!("/b/v{ABI_VERSION}/maps/SOCKS-{}", CARRIED[1].1)));
        assert_eq!(pins.map("GRANTS"), Path::new(&format!("/b/v{ABI_VERSION}/maps/GRANTS")));
    }

    #[test]
    fn a_lookup_link_tells_its_namespace() {
        assert_eq!(cookie_of_link(&lookup_link(4711)), Some(4711));
        assert_eq!(cookie_of_link("weft_connect4"), None);
    }
}
