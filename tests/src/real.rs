//! Real runtimes on a node: systemd as PID 1 of its own namespaces, and runc. Their root file system is this machine's own under an
//! overlay, so that nothing is installed and nothing is left.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use weft_lab::{Node, Place, Proc, eventually};

const START: Duration = Duration::from_secs(20);
const COMMAND: Duration = Duration::from_secs(20);

/// `$1`: an empty directory; what lies in `$1.in` is found at /weft. `$root` is the root afterwards.
const ROOT: &str = r#"set -e; T=$1; shift
mount -t tmpfs tmpfs "$T"; mkdir "$T/up" "$T/work" "$T/root"; root=$T/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$T/up,workdir=$T/work" "$root"
mkdir -p "$root/weft"; mount --bind "$T.in" "$root/weft"
"#;

/// `until.sh WORD COMMAND...`: runs the command until what it says has the word. Before its cgroup is enrolled a unit is refused; one that ended
/// of it would come back in another cgroup each time, and might never be found.
const UNTIL: &str = r#"word=$1; shift
while :; do "$@" 2>&1 | tee /dev/stderr | grep -q "$word" && exit 0; sleep 0.2; done
"#;

/// Only our units, the cgroup tree of this process as its root, and the network of whoever starts it.
const SYSTEMD: &str = r#"R=$root
mount -t proc proc $R/proc; mount -t sysfs -o ro sysfs $R/sys; mount -t cgroup2 cgroup2 $R/sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs $R/dev
for n in null zero full random urandom tty; do : > $R/dev/$n; mount --bind /dev/$n $R/dev/$n; done
mkdir $R/dev/shm; ln -s /proc/self/fd $R/dev/fd
mount -t tmpfs -o mode=755 tmpfs $R/run; mount -t tmpfs tmpfs $R/tmp
cd $R; mkdir -p run/old; pivot_root . run/old; cd /; umount -l /run/old; rmdir /run/old
exec /usr/bin/env -i container=weft PATH="$PATH" SYSTEMD_UNIT_PATH=/weft/units /lib/systemd/systemd --unit=weft.target
"#;

/// A systemd with units of ours, in the node's own network namespace. Their cgroups lie below `sys` in the managed subtree.
#[derive(Debug)]
pub struct Systemd {
    unshare: Proc,
    pid1: String,
    host: Place,
    files: PathBuf,
}

/// Where the units of `weft.slice` are, below the node's root.
pub const UNITS: &str = "weft.slice/sys/weft.slice";

impl Systemd {
    /// `units`: name, and what stands in `[Service]` beyond where it belongs and where its output goes.
    pub fn boot(node: &Node, units: &[(&str, String)]) -> Result<Self> {
        let host = node.place().in_cgroup(node.place().cgroup())?;
        let place = node.place().in_cgroup(&node.cgroup().join("weft.slice/sys"))?;
        let dir = node.dir().join("systemd");
        let files = node.dir().join("systemd.in");
        fs::create_dir_all(&dir)?;
        fs::create_dir_all(files.join("units"))?;
        let path = std::env::var("PATH")?;
        for (name, service) in units {
            let text = format!(
                "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n[Service]\nSlice=weft.slice\nEnvironment=PATH={path}\nStandardOutput=append:/weft/{name}.log\nStandardError=append:/weft/{name}.log\n{service}\n"
            );
            fs::write(files.join("units").join(name), text)?;
        }
        fs::write(files.join("units/weft.target"), "[Unit]\nDefaultDependencies=no\n")?;
        scripts(&files)?;
        let text = format!("{ROOT}{SYSTEMD}");
        let dir = dir.display().to_string();
        let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation", "private", "--uts", "--ipc", "--cgroup", "sh", "-c"];
        let argv: Vec<&str> = unshare.into_iter().chain([text.as_str(), "sh", dir.as_str()]).collect();
        let unshare = place.spawn("systemd", &argv)?;
        let children = format!("/proc/{0}/task/{0}/children", unshare.pid());
        let pid1 = eventually(START, "PID 1", || -> Result<String> {
            let pid = fs::read_to_string(&children)?.split_whitespace().next().context("no child")?.to_owned();
            let comm = fs::read_to_string(format!("/proc/{pid}/comm"))?;
            if comm.trim() == "systemd" { Ok(pid) } else { bail!("still {comm}") }
        })?;
        let booted = Self { unshare, pid1, host, files };
        eventually(START, "systemd to answer", || booted.ctl(&["is-active", "weft.target"])).with_context(|| format!("it said: {}", booted.unshare.log()))?;
        Ok(booted)
    }

    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        let argv: Vec<&str> = ["nsenter", "-t", &self.pid1, "-m", "-p", "-u", "-i", "-C", "-r", "systemctl"].into_iter().chain(args.iter().copied()).collect();
        Ok(self.host.check(&argv, COMMAND)?)
    }

    /// What a unit has printed.
    pub fn log(&self, unit: &str) -> String {
        fs::read_to_string(self.files.join(format!("{unit}.log"))).unwrap_or_default()
    }

    /// Runs a oneshot unit to its end; the last line it printed.
    pub fn run(&self, unit: &str) -> Result<String> {
        let _ = fs::remove_file(self.files.join(format!("{unit}.log")));
        self.ctl(&["start", unit])?;
        Ok(self.log(unit).lines().last().unwrap_or_default().to_owned())
    }
}

/// A container of raw runc in a given cgroup and namespace, with `/weft` as above.
#[derive(Debug)]
pub struct Container {
    process: Proc,
}

impl Container {
    /// `cgroup` and `netns` are a place's, `argv` runs in it.
    pub fn run(node: &Node, name: &str, place: &Place, argv: &[&str]) -> Result<Self> {
        let dir = node.dir().join(name);
        let files = node.dir().join(format!("{name}.in"));
        fs::create_dir_all(&dir)?;
        fs::create_dir_all(&files)?;
        scripts(&files)?;
        let cgroup = place.cgroup().strip_prefix(weft_kernel::cgroup::mount_point()?)?;
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": { "terminal": false, "user": { "uid": 0, "gid": 0 }, "args": argv, "cwd": "/", "env": [format!("PATH={}", std::env::var("PATH")?)] },
            "root": { "path": "ROOT", "readonly": false },
            "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
            "linux": {
                "cgroupsPath": format!("/{}", cgroup.display()),
                "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network", "path": place.netns() }],
            },
        });
        fs::write(files.join("config.json"), config.to_string())?;
        // What runc makes in the version 1 hierarchies goes with it, parents too.
        let script = format!(
            "{ROOT}mkdir $T/bundle $T/state; sed \"s|ROOT|$root|\" $T.in/config.json > $T/bundle/config.json
             trap 'for d in /sys/fs/cgroup/*/; do (cd $d && rmdir -p \"$1\") 2>/dev/null; done' EXIT
             runc --root $T/state run --bundle $T/bundle {}-{name}",
            node.name()
        );
        let (dir, relative) = (dir.display().to_string(), cgroup.display().to_string());
        let argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh", &dir, &relative];
        Ok(Self { process: node.place().spawn(name, &argv)? })
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<String> {
        self.process.wait(COMMAND)?;
        Ok(self.process.log())
    }

    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        Ok(self.process.wait_for_log(text, START)?)
    }
}

/// A containerd of its own, with the containers that it runs; all of them end with it.
#[derive(Debug)]
pub struct Containerd {
    process: Proc,
    node: Node,
    pid: String,
}

/// In namespaces of processes and mounts of its own, so that the shims, which leave their parent, end as well. `$1` as in [`ROOT`].
const CONTAINERD: &str = r#"mount -t proc proc /proc; mount -t tmpfs tmpfs /run/containerd 2>/dev/null || { mkdir -p /run/containerd; mount -t tmpfs tmpfs /run/containerd; }
printf 'version = 2\nroot = "%s/cd"\nstate = "/run/containerd/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "/run/containerd/weft.sock"\n' "$T" > "$T/config.toml"
exec containerd -c "$T/config.toml"
"#;

impl Containerd {
    pub fn start(node: &Node) -> Result<Self> {
        let dir = node.dir().join("containerd");
        let files = node.dir().join("containerd.in");
        fs::create_dir_all(&dir)?;
        fs::create_dir_all(&files)?;
        scripts(&files)?;
        let text = format!("{ROOT}{CONTAINERD}");
        let dir = dir.display().to_string();
        let argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation", "private", "sh", "-c", &text, "sh", &dir];
        let process = node.place().spawn("containerd", &argv)?;
        let children = format!("/proc/{0}/task/{0}/children", process.pid());
        let pid = eventually(START, "containerd", || -> Result<String> {
            Ok(fs::read_to_string(&children)?.split_whitespace().next().context("no child")?.to_owned())
        })?;
        let started = Self { process, node: node.clone(), pid };
        eventually(START, "containerd to answer", || started.ctr(&["version"])).with_context(|| started.process.log())?;
        Ok(started)
    }

    pub fn ctr(&self, args: &[&str]) -> Result<String> {
        let argv: Vec<&str> = self.client().into_iter().chain(args.iter().copied()).collect();
        Ok(self.node.place().check(&argv, COMMAND)?)
    }

    /// A container in that cgroup and namespace; its program's output is the process's.
    pub fn run(&self, name: &str, place: &Place, argv: &[&str]) -> Result<Proc> {
        let cgroup = format!("/{}", place.cgroup().strip_prefix(weft_kernel::cgroup::mount_point()?)?.display());
        let (root, netns) = (self.node.dir().join("containerd/root").display().to_string(), format!("network:{}", place.netns().display()));
        let path = format!("PATH={}", std::env::var("PATH")?);
        let run = ["run", "--rm", "--env", &path, "--rootfs", "--cgroup", &cgroup, "--with-ns", &netns, &root, name];
        let argv: Vec<&str> = self.client().into_iter().chain(run).chain(argv.iter().copied()).collect();
        Ok(self.node.place().spawn(name, &argv)?)
    }

    fn client(&self) -> [&str; 9] {
        ["nsenter", "-t", &self.pid, "-m", "-p", "-r", "ctr", "-a", "/run/containerd/weft.sock"]
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process.kill9();
        // What runc has made in the version 1 hierarchies.
        let Ok(below) = self.node.cgroup().strip_prefix(weft_kernel::cgroup::mount_point().unwrap_or_default()).map(std::path::Path::to_owned) else { return };
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_below(&hierarchy.path().join(&below));
        }
    }
}

/// Removes a cgroup of version 1 with everything below it, as far as it is empty.
fn remove_below(dir: &std::path::Path) {
    if weft_kernel::cgroup::id(dir).is_ok() {
        return;
    }
    fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).for_each(|e| remove_below(&e.path()));
    let _ = fs::remove_dir(dir);
}

fn scripts(dir: &std::path::Path) -> Result<()> {
    fs::write(dir.join("server.py"), include_str!("server.py"))?;
    fs::write(dir.join("until.sh"), UNTIL)?;
    Ok(fs::write(dir.join("probe.py"), include_str!("probe.py"))?)
}
