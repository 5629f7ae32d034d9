//! Control groups, version 2 only: where the hierarchy is, what id a directory has, where a process lives.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

use crate::KernelError;

/// `CGROUP2_SUPER_MAGIC`.
const CGROUP2_MAGIC: i64 = 0x6367_7270;
/// The hierarchy's root has this id; a namespace's view of it has another.
const ROOT_ID: u64 = 1;

/// Where the version 2 hierarchy is mounted; the first mount that shows its root.
pub fn mount_point() -> Result<PathBuf, KernelError> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(KernelError::cgroup(Path::new("/proc/self/mountinfo")))?;
    let mut view = None;
    for point in mounts_of(&mounts) {
        match id(&point) {
            Ok(ROOT_ID) => return Ok(point),
            Ok(_) => view = view.or(Some(point)),
            Err(_) => {}
        }
    }
    Err(view.map_or(KernelError::NoCgroup2, KernelError::CgroupNamespace))
}

/// The id by which kernel programs know the cgroup: its directory's inode.
pub fn id(dir: &Path) -> io::Result<u64> {
    if !is_cgroup2(dir)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a cgroup v2 directory"));
    }
    Ok(fs::metadata(dir)?.ino())
}

/// Directory of the cgroup that a process lives in.
pub fn of_pid(pid: u32) -> Result<PathBuf, KernelError> {
    let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = fs::read_to_string(&file).map_err(KernelError::cgroup(&file))?;
    let path = unified(&text).ok_or(KernelError::NoCgroup2)?;
    let mut dir = mount_point()?;
    dir.extend(path.split('/').filter(|part| !part.is_empty()));
    // In a cgroup namespace the file speaks of another root than the mount shows: believe only what the directory itself says.
    let procs = dir.join("cgroup.procs");
    let listed = fs::read_to_string(&procs).map_err(KernelError::cgroup(&procs))?;
    if listed.lines().any(|l| l.trim() == pid.to_string()) { Ok(dir) } else { Err(KernelError::CgroupNamespace(dir)) }
}

/// Creates the directory and its missing parents.
pub fn create(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    id(dir).map(drop)
}

/// Removes an empty cgroup; one that is not there is no error.
pub fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Moves a process; its children to come are born there.
pub fn move_pid(dir: &Path, pid: u32) -> io::Result<()> {
    fs::write(dir.join("cgroup.procs"), pid.to_string())
}

/// Processes of a cgroup and all below it.
pub(crate) fn processes(cgroup: &Path) -> Vec<u32> {
    let (mut open, mut pids) = (vec![cgroup.to_owned()], Vec::new());
    while let Some(dir) = open.pop() {
        let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        pids.extend(listed.lines().filter_map(|l| l.trim().parse::<u32>().ok()));
        let children = fs::read_dir(&dir).into_iter().flatten().flatten();
        open.extend(children.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    pids
}

pub(crate) fn is_cgroup2(dir: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(dir)?.f_type as i64 == CGROUP2_MAGIC)
}

/// How many levels `dir` lies below `root`; `None` when it does not. Both absolute; `..` is refused.
pub(crate) fn levels_below(root: &Path, dir: &Path) -> Option<u32> {
    let rest = dir.strip_prefix(root).ok()?;
    let mut levels = 0;
    for part in rest.components() {
        match part {
            Component::Normal(_) => levels += 1,
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(levels)
}

/// Mount points of type cgroup2, as mountinfo writes them (proc(5)): octal escapes for blanks.
fn mounts_of(mountinfo: &str) -> impl Iterator<Item = PathBuf> + '_ {
    mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let point = before.split(' ').nth(4)?;
        (kind == "cgroup2").then(|| PathBuf::from(point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")))
    })
}

/// The version 2 line of `/proc/<pid>/cgroup`.
fn unified(text: &str) -> Option<&str> {
    text.lines().find_map(|l| l.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_and_detours_refused() {
        let check = |root: &str, dir: &str, expect| assert_eq!(levels_below(Path::new(root), Path::new(dir)), expect, "{dir}");
        check("/cg", "/cg", Some(0));
        check("/cg", "/cg/a/b", Some(2));
        check("/cg/a", "/cg/ab", None);
        check("/cg/a", "/cg/a/../b", None);
        check("/", "/a", Some(1));
    }

    #[test]
    fn only_version_two_mounts_count() {
        let text = "30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw\n\
                    31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    32 25 0:28 / /a\\040b rw - cgroup2 none rw\n";
        assert_eq!(mounts_of(text).collect::<Vec<_>>(), [PathBuf::from("/sys/fs/cgroup/unified"), PathBuf::from("/a b")]);
        assert_eq!(unified("12:cpu:/x\n0::/weft.slice/a\n"), Some("/weft.slice/a"));
    }
}
