//! One listing of everything a run may leave behind, taken before and after it: equal, or red.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

/// Kernel programs of weft by the start of their names, as the kernel shows them (15 characters at most).
const PROGRAM_PREFIXES: &[&str] = &["weft_", "guard_"];
/// Every name that a run makes up has this in it; the rest of a machine may change as it likes meanwhile.
const MARK: &str = "weft-";

/// Every line is `kind name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    pub fn take() -> Self {
        let mut lines = BTreeSet::new();
        lines.extend(names("/run/netns").map(|n| format!("namespace {n}")));
        lines.extend(cgroups().into_iter().map(|c| format!("cgroup {c}")));
        for mount in fs::read_to_string("/proc/mounts").unwrap_or_default().lines() {
            let fields: Vec<&str> = mount.split(' ').collect();
            if let [_, target, kind, ..] = fields[..]
                && (kind == "bpf" || target.contains(MARK) || target.starts_with("/run/netns"))
            {
                lines.insert(format!("mount {target} {kind}"));
                if kind == "bpf" {
                    pins(Path::new(target), &mut lines);
                }
            }
        }
        lines.extend(programs());
        lines.extend(processes());
        lines.extend(names("/run/weft-lab").map(|n| format!("state {n}")));
        Self(lines)
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// What is here and was not in `before`.
    pub fn since<'a>(&'a self, before: &'a Self) -> Vec<&'a str> {
        self.0.difference(&before.0).map(String::as_str).collect()
    }

    pub(crate) fn programs_since(&self, before: &Self) -> usize {
        self.since(before).iter().filter(|line| line.starts_with("program ")).count()
    }

    /// Fails, naming each line, unless nothing came and nothing went.
    pub fn same_as(&self, before: &Self) -> Result<(), String> {
        let lines: Vec<String> =
            self.since(before).iter().map(|l| format!("left behind: {l}")).chain(before.since(self).iter().map(|l| format!("gone: {l}"))).collect();
        if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
    }
}

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|l| writeln!(f, "{l}"))
    }
}

fn names(dir: &str) -> impl Iterator<Item = String> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.contains(MARK))
}

fn cgroups() -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                found.push(entry.path().display().to_string());
                walk(&entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    if let Ok(root) = weft_host::cgroup2() {
        walk(&root, &mut found);
    }
    found.retain(|c| c.contains(MARK));
    found
}

fn pins(dir: &Path, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        lines.insert(format!("pin {}", entry.path().display()));
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            pins(&entry.path(), lines);
        }
    }
}

/// A link keeps its program and a program its maps, so the programs tell of all three.
fn programs() -> Vec<String> {
    let mine = aya::programs::loaded_programs().filter_map(Result::ok);
    mine.filter_map(|p| p.name_as_str().filter(|n| PROGRAM_PREFIXES.iter().any(|x| n.starts_with(x))).map(|n| format!("program {n} id {}", p.id()))).collect()
}

/// Processes in a cgroup of a run, or whose program is weft's. The dead that init has not reaped yet are init's.
fn processes() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()).filter(|p| *p != std::process::id()) else { continue };
        let read = |name: &str| fs::read_to_string(PathBuf::from(format!("/proc/{pid}/{name}"))).unwrap_or_default();
        let ours = read("cgroup").lines().any(|l| l.starts_with("0::") && l.contains(MARK));
        let comm = read("comm").trim().to_owned();
        // Memory is the first thing that a dying process gives up: what has no command line any more is dead, waiting for init, or gone.
        if read("cmdline").is_empty() {
            continue;
        }
        if ours || ["weft-agent", "weft-iam-bridge"].iter().any(|n| n.starts_with(&comm) && comm.len() >= 10) {
            found.push(format!("process {pid} {comm}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_came_and_what_went() {
        let before = Inventory(["mount a", "cgroup b"].map(str::to_owned).into());
        let after = Inventory(["mount a", "process 7 x"].map(str::to_owned).into());
        assert_eq!(after.same_as(&before).unwrap_err(), "left behind: process 7 x\ngone: cgroup b");
        assert_eq!(before.same_as(&before), Ok(()));
    }
}
