//! Taking everything back. The one way in which enforcement ends; an agent that goes, however it goes, leaves it in place.

use std::{fs, io, path::Path};

use rustix::mount::{UnmountFlags, unmount};
use weft_ebpf_common::Device;

use crate::{KernelError, object::VETH, pins, rtnl, table::Table, veth::SIDES};

/// Detaches every program and removes every table that agents have pinned below `bpffs`, of whatever ABI version, and unmounts the bpf file system
/// if it was mounted there for the agent alone. Returns how many programs were detached. No agent may run.
pub fn uninstall(bpffs: &Path) -> Result<usize, KernelError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| KernelError::Bpffs { path, source }
    };
    if !bpffs.exists() || !pins::is_bpffs(bpffs).map_err(failed(bpffs))? {
        return Ok(0);
    }
    let mut detached = take_off_classifiers(&pins::Pins::existing(bpffs))?;
    for entry in fs::read_dir(bpffs).map_err(failed(bpffs))? {
        let version = entry.map_err(failed(bpffs))?.path();
        if pins::is_version(&version) {
            detached += pins::remove(&version).map_err(failed(&version))?;
        }
    }
    if bpffs != Path::new("/sys/fs/bpf") && is_mount(bpffs).map_err(failed(bpffs))? && is_bare(bpffs).map_err(failed(bpffs))? {
        unmount(bpffs, UnmountFlags::empty()).map_err(|e| failed(bpffs)(e.into()))?;
    }
    match fs::remove_dir(bpffs) {
        // The mount point of the host's bpf file system, or somebody else's pins.
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy) => Ok(detached),
        Err(e) => Err(failed(bpffs)(e)),
        Ok(()) => Ok(detached),
    }
}

/// Where the kernel has no links for devices, the classifiers on those that the table names.
fn take_off_classifiers(pins: &pins::Pins) -> Result<usize, KernelError> {
    let Ok(devices) = Table::<u32, Device>::open(pins, "DEVICES") else { return Ok(0) };
    let mut count = 0;
    for index in devices.keys()? {
        let failed = |source| KernelError::Link { name: VETH.name.to_owned(), target: format!("interface {index}").into(), operation: "detach", source };
        for side in &SIDES {
            if rtnl::classifier(index, side.classifier).map_err(failed)?.is_some() {
                rtnl::remove_classifier(index, side.classifier).map_err(failed)?;
                count += 1;
            }
        }
    }
    Ok(count)
}

/// Nothing but the two files that the kernel puts into every bpf file system.
fn is_bare(dir: &Path) -> io::Result<bool> {
    let own = |name: &std::ffi::OsStr| name == "maps.debug" || name == "progs.debug";
    fs::read_dir(dir)?.try_fold(true, |bare, entry| Ok(bare && own(&entry?.file_name())))
}

fn is_mount(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let parent = path.parent().unwrap_or(Path::new("/"));
    Ok(fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bpf_file_system_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("v1")).unwrap();
        assert_eq!(uninstall(dir.path()).unwrap(), 0);
        assert!(dir.path().join("v1").exists());
        assert_eq!(uninstall(&dir.path().join("absent")).unwrap(), 0);
    }
}
