//! A place: one network namespace, one cgroup, one directory. Nodes, pods and machines are places; programs run in them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::{LabError, Proc, eventually, limits, shell};

/// Joins the cgroup before anything else happens, so that no descendant ever ran outside.
const ENTER_CGROUP: &str = r#"echo $$ >"$1/cgroup.procs" || exit 125; shift; exec "$@""#;
/// In a mount namespace of its own, so that the host keeps its /etc/hosts.
const BIND_HOSTS: &str = r#"mount --bind "$1" /etc/hosts || exit 125; shift; exec "$@""#;

#[derive(Debug)]
pub struct Place {
    name: String,
    netns: String,
    cgroup: PathBuf,
    dir: PathBuf,
    hosts: Option<PathBuf>,
    runs: AtomicU32,
}

impl Place {
    pub(crate) fn make(run: &str, name: &str, cgroup: &Path, dir: &Path) -> Result<Self, LabError> {
        let netns = format!("{run}-{name}");
        fs::create_dir_all(cgroup).map_err(LabError::io("create", cgroup))?;
        fs::create_dir_all(dir.join("log")).map_err(LabError::io("create", dir))?;
        shell::ip(&format!("netns add {netns}"))?;
        let place = Self { name: name.to_owned(), netns, cgroup: cgroup.to_owned(), dir: dir.to_owned(), hosts: None, runs: AtomicU32::new(0) };
        place.ip("link set lo up")?;
        Ok(place)
    }

    /// The same namespace, seen with another cgroup: an agent in its node, a stray process in a pod.
    pub fn in_cgroup(&self, cgroup: &Path) -> Result<Self, LabError> {
        fs::create_dir_all(cgroup).map_err(LabError::io("create", cgroup))?;
        Ok(Self {
            name: self.name.clone(),
            netns: self.netns.clone(),
            cgroup: cgroup.to_owned(),
            dir: self.dir.clone(),
            hosts: self.hosts.clone(),
            runs: AtomicU32::new(1000),
        })
    }

    /// Programs started from now on read this file as /etc/hosts.
    #[must_use]
    pub fn with_hosts(mut self, hosts: &Path) -> Self {
        self.hosts = Some(hosts.to_owned());
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn netns_name(&self) -> &str {
        &self.netns
    }

    /// As `ip netns` pins it.
    pub fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.netns)
    }

    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// For whatever its programs keep; logs are in `log/`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `ip` inside, with a line of arguments.
    pub fn ip(&self, line: &str) -> Result<String, LabError> {
        shell::ip(&format!("-n {} {line}", self.netns))
    }

    /// A command that will run inside; its standard streams are the caller's to choose. Its pid is that of the program: everything on the way execs.
    pub fn command<S: AsRef<str>>(&self, argv: &[S]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", ENTER_CGROUP, "sh"]).arg(&self.cgroup);
        command.arg("nsenter").arg(format!("--net={}", self.netns().display()));
        if let Some(hosts) = &self.hosts {
            command.args(["unshare", "--mount", "--propagation", "private", "sh", "-c", BIND_HOSTS, "sh"]).arg(hosts);
        }
        command.args(argv.iter().map(AsRef::as_ref));
        command
    }

    /// Starts a program that goes on; what it prints goes to `log/NAME.log`.
    pub fn spawn<S: AsRef<str>>(&self, name: &str, argv: &[S]) -> Result<Proc, LabError> {
        self.spawn_with(name, argv, |_| {})
    }

    /// As `spawn`, with a last word on the command: environment, directory, standard input.
    pub fn spawn_with<S: AsRef<str>>(&self, name: &str, argv: &[S], adjust: impl FnOnce(&mut Command)) -> Result<Proc, LabError> {
        let log = self.dir.join("log").join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).map_err(LabError::io("open", &log))?;
        let err = out.try_clone().map_err(LabError::io("duplicate", &log))?;
        let mut command = self.command(argv);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        adjust(&mut command);
        Proc::start(name, command, log)
    }

    /// Runs a program to its end and gives what it printed; past `deadline` it is killed and that is an error.
    pub fn output<S: AsRef<str>>(&self, argv: &[S], deadline: Duration) -> Result<Output, LabError> {
        let n = self.runs.fetch_add(1, Ordering::Relaxed);
        let path = |end: &str| self.dir.join("log").join(format!("run-{n}.{end}"));
        let (out, err) = (path("out"), path("err"));
        let open = |p: &Path| File::create(p).map_err(LabError::io("create", p));
        let mut command = self.command(argv);
        command.stdin(Stdio::null()).stdout(open(&out)?).stderr(open(&err)?);
        let shown = argv.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        let mut process = Proc::start(&shown, command, err.clone())?;
        let status = process.wait(deadline)?;
        let read = |p: &Path| fs::read(p).map_err(LabError::io("read", p));
        let output = Output { status, stdout: read(&out)?, stderr: read(&err)? };
        let _ = (fs::remove_file(&out), fs::remove_file(&err));
        Ok(output)
    }

    /// As `output`, but anything else than success is an error that carries what the program said.
    pub fn check<S: AsRef<str>>(&self, argv: &[S], deadline: Duration) -> Result<String, LabError> {
        let output = self.output(argv, deadline)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let command = argv.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        Err(LabError::Command { command, status: output.status, stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
    }

    /// The body that `http://ADDRESS/PATH` gives inside, asked by bash alone: a bare machine has no curl.
    pub fn http_get(&self, address: &str, path: &str) -> Result<String, LabError> {
        let (host, port) = address.rsplit_once(':').ok_or_else(|| LabError::Malformed(format!("{address:?} is not HOST:PORT")))?;
        let host = host.trim_matches(['[', ']']);
        let script = format!(r"exec 3<>/dev/tcp/{host}/{port} && printf 'GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n' >&3 && cat <&3");
        let answer = self.check(&["bash", "-c", &script], limits::HELPER_DEADLINE)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| LabError::Malformed(format!("{address}{path} gave no HTTP answer")))?;
        let status = head.lines().next().unwrap_or_default();
        if status.split_whitespace().nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(LabError::Malformed(format!("{address}{path}: {status}"))) }
    }

    /// Ends everything in the cgroup and below it.
    pub fn kill_all(&self) -> Result<(), LabError> {
        let switch = self.cgroup.join("cgroup.kill");
        eventually(limits::HELPER_DEADLINE, "an empty cgroup", || {
            if switch.exists() {
                fs::write(&switch, "1").map_err(|e| e.to_string())?;
            } else {
                for pid in pids_below(&self.cgroup) {
                    let _ = shell::sh(&["kill", "-9", &pid]);
                }
            }
            let left = pids_below(&self.cgroup);
            if left.is_empty() { Ok(()) } else { Err(format!("pids {}", left.join(" "))) }
        })
    }
}

/// Every process in a cgroup or below it.
pub fn pids_below(cgroup: &Path) -> Vec<String> {
    let mut pids: Vec<String> = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines().map(str::to_owned).collect();
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            pids.extend(pids_below(&entry.path()));
        }
    }
    pids
}
