//! Finding one's way in the cgroup-v2 tree: its mount, a path in it, the processes of a workload.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::limits::CGROUP_PIDS_MAX;

/// Where cgroup v2 is mounted: on hybrid systems beside the v1 controllers.
pub fn mount_point() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    find_mount(&text).context("cgroup v2 is not mounted here: `mount -t cgroup2 none /sys/fs/cgroup` (or /sys/fs/cgroup/unified)")
}

/// proc(5): `36 35 98:0 /root /mount/point options… - type source options`. The mount that shows the whole tree wins.
fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    let mut part = None;
    for line in mountinfo.lines() {
        let Some((fields, after)) = line.split_once(" - ") else { continue };
        let mut fields = fields.split(' ').skip(3);
        let (Some(root), Some(point), true) = (fields.next(), fields.next(), after.starts_with("cgroup2 ")) else { continue };
        if root == "/" {
            return Some(PathBuf::from(point));
        }
        part.get_or_insert_with(|| PathBuf::from(point));
    }
    part
}

/// The cgroup that `weft run` uses: `wanted` (absolute, below the node's `root`, or below `mount`), else a fresh name below the first
/// managed subtree. It must lie inside a managed subtree, where a process without an identity is denied: there is no moment in which it
/// could talk unjudged.
pub fn place(mount: &Path, root: &str, managed: &[String], wanted: Option<&Path>, fresh: &str) -> Result<PathBuf> {
    let managed: Vec<PathBuf> = managed.iter().map(|m| absolute(mount, Path::new(m))).collect();
    let Some(first) = managed.first() else {
        bail!("the agent names no managed cgroup subtree: set managed = [\"weft.slice\"] in its configuration");
    };
    let Some(wanted) = wanted else { return Ok(first.join(fresh)) };
    if wanted.components().any(|c| c == std::path::Component::ParentDir) {
        bail!("cgroup {} must not hold \"..\"", wanted.display());
    }
    let below = wanted.strip_prefix("/").unwrap_or(wanted);
    let candidates = [absolute(mount, wanted), absolute(mount, Path::new(root)).join(below)];
    let fits = |dir: &&PathBuf| managed.iter().any(|m| dir.starts_with(m) && *dir != m);
    candidates.iter().find(fits).cloned().with_context(|| {
        let names: Vec<String> = managed.iter().map(|m| m.display().to_string()).collect();
        format!("cgroup {} lies below no managed subtree of the agent ({})", wanted.display(), names.join(", "))
    })
}

/// Agents and people write cgroups absolute, or as /proc/PID/cgroup does: below the mount.
pub fn absolute(mount: &Path, path: &Path) -> PathBuf {
    if path.starts_with(mount) { path.to_owned() } else { mount.join(path.strip_prefix("/").unwrap_or(path)) }
}

/// Below the mount, without a leading slash.
pub fn relative(mount: &Path, dir: &Path) -> String {
    dir.strip_prefix(mount).unwrap_or(dir).display().to_string()
}

/// Processes of a cgroup and of all below it, the oldest first.
pub fn processes(dir: &Path) -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    collect(dir, &mut pids)?;
    let mut aged: Vec<(u64, u32)> = pids.into_iter().filter_map(|pid| start_time(pid).map(|t| (t, pid))).collect();
    aged.sort_unstable();
    Ok(aged.into_iter().map(|(_, pid)| pid).collect())
}

fn collect(dir: &Path, pids: &mut Vec<u32>) -> io::Result<()> {
    let mut text = String::new();
    fs::File::open(dir.join("cgroup.procs"))?.read_to_string(&mut text)?;
    // 0 stands for a process outside our PID namespace.
    pids.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()).filter(|pid| *pid != 0));
    for entry in fs::read_dir(dir)?.flatten() {
        if pids.len() < CGROUP_PIDS_MAX && entry.file_type().is_ok_and(|t| t.is_dir()) {
            // A child that is threaded or just gone has nothing to add.
            let _ = collect(&entry.path(), pids);
        }
    }
    Ok(())
}

/// proc(5), field 22 of stat, counted behind the command's closing bracket, which the command itself may hold.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_tree_is_preferred_over_a_part_of_it() {
        let text = "30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                    40 30 0:27 /a /mnt/part rw - cgroup2 cgroup2 rw\n\
                    31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(text), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount("40 30 0:27 /a /mnt/part rw - cgroup2 cgroup2 rw\n"), Some("/mnt/part".into()));
        assert_eq!(find_mount("30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"), None);
    }

    #[test]
    fn a_cgroup_is_placed_inside_a_managed_subtree_or_refused() {
        let mount = Path::new("/sys/fs/cgroup");
        let managed = ["/sys/fs/cgroup/node-a/weft.slice".to_owned()];
        let check = |wanted: Option<&str>, expect: &str| {
            let got = place(mount, "/sys/fs/cgroup/node-a", &managed, wanted.map(Path::new), "shop-orders-7")
                .map_or_else(|e| e.to_string(), |d| d.display().to_string());
            assert!(got.contains(expect), "{got}");
        };
        check(None, "/sys/fs/cgroup/node-a/weft.slice/shop-orders-7");
        check(Some("node-a/weft.slice/x"), "/sys/fs/cgroup/node-a/weft.slice/x");
        check(Some("/node-a/weft.slice/x"), "/sys/fs/cgroup/node-a/weft.slice/x");
        check(Some("/sys/fs/cgroup/node-a/weft.slice/x"), "/sys/fs/cgroup/node-a/weft.slice/x");
        check(Some("weft.slice/x"), "/sys/fs/cgroup/node-a/weft.slice/x");
        check(Some("node-a/weft.slice"), "lies below no managed subtree of the agent (/sys/fs/cgroup/node-a/weft.slice)");
        check(Some("node-a/weft.slice-other/x"), "lies below no managed subtree");
        check(Some("node-a/weft.slice/../x"), "must not hold");
        assert!(place(mount, "", &[], None, "x").unwrap_err().to_string().contains("names no managed cgroup subtree"));
    }

    #[test]
    fn this_process_has_a_start_time() {
        assert!(start_time(std::process::id()).is_some_and(|t| t > 0));
    }
}
