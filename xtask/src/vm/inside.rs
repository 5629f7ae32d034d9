//! The first process of a guest that runs a test program: mounts, runs, says how it ended on the console, powers off.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::{
    mount::{MountFlags, mount},
    process::{WaitOptions, WaitStatus, wait},
    system::{RebootCommand, reboot},
};

/// Before the exit code, on a line of its own.
pub(crate) const EXIT: &str = "weft-guest: exit";
/// A program and its arguments, separated by tabs.
pub(super) const PLAN: &str = "plan";

/// Ends the machine in any case.
pub(crate) fn inside() -> Result<()> {
    let code = run().unwrap_or_else(|error| {
        println!("error: {error:#}");
        2
    });
    println!("{EXIT} {code}");
    // The console is slow, and what it has not sent yet would be lost.
    let _ = Command::new("stty").args(["-F", "/dev/console", "sane"]).status();
    thread::sleep(Duration::from_millis(200));
    reboot(RebootCommand::PowerOff).context("cannot power off")
}

fn run() -> Result<i32> {
    if std::process::id() != 1 {
        bail!("this is for the first process of a virtual machine: it ends by powering off");
    }
    prepare()?;
    let plan = fs::read_to_string(Path::new("/weft").join(PLAN)).context("cannot read the plan")?;
    println!("==> {plan}");
    one(&plan.split('\t').collect::<Vec<_>>())
}

fn prepare() -> Result<()> {
    let usual = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (kind, at, flags) in [
        ("proc", "/proc", usual),
        ("sysfs", "/sys", usual),
        ("cgroup2", "/sys/fs/cgroup", usual),
        // Whether programs are asked in security hooks, only a file tells before 6.8.
        ("securityfs", "/sys/kernel/security", usual),
        ("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV),
        ("tmpfs", "/tmp", MountFlags::NOSUID | MountFlags::NODEV),
    ] {
        mount(kind, at, kind, flags, None).with_context(|| format!("cannot mount {at}"))?;
    }
    fs::create_dir_all("/dev/pts")?;
    fs::create_dir_all("/dev/shm")?;
    mount("devpts", "/dev/pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, Some(c"newinstance,ptmxmode=666")).context("cannot mount /dev/pts")?;
    mount("tmpfs", "/dev/shm", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None).context("cannot mount /dev/shm")?;
    // Systemd would have made them.
    if !Path::new("/dev/fd").exists() {
        std::os::unix::fs::symlink("/proc/self/fd", "/dev/fd")?;
    }
    let lo = Command::new("/usr/sbin/ip").args(["link", "set", "lo", "up"]).status().context("cannot start ip")?;
    if !lo.success() {
        bail!("the loopback interface cannot be set up");
    }
    Ok(())
}

/// Probes get five times their time: an agent's start takes ten seconds here, and more on a busy machine. Orphans become children of the first process; one that is not waited for would look alive to a test.
fn one(words: &[&str]) -> Result<i32> {
    let [program, arguments @ ..] = words else { bail!("the plan is empty") };
    let environment = HashMap::from([
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("WEFT_PROBE_SECONDS", "40"),
    ]);
    let child = Command::new(program).args(arguments).env_clear().envs(environment).env("RUST_BACKTRACE", "0").stdin(Stdio::null()).spawn();
    let child = child.with_context(|| format!("cannot start {program}"))?;
    loop {
        let Some((pid, status)) = wait(WaitOptions::empty()).context("cannot wait")? else { continue };
        if pid.as_raw_nonzero().get().unsigned_abs() == child.id() {
            return Ok(code(status));
        }
    }
}

fn code(status: WaitStatus) -> i32 {
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}
