//! The disks of a guest: one with Debian, made once and never written to, and one with what a suite brings, made for each run.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use super::kernel::Kernel;
use crate::{debian, process};

/// Besides what the suites name: an init system, what loads modules, and what a person who looks inside expects.
const PACKAGES: &[&str] = &["dbus", "iproute2", "kmod", "procps", "systemd", "systemd-sysv", "util-linux"];
const SYSTEM_MIB: u64 = 2048;

/// An ext4 image of Debian with `packages`.
pub(crate) fn system(cache: &Path, packages: &[&str]) -> Result<PathBuf> {
    let mut names: Vec<&str> = PACKAGES.iter().chain(packages).copied().collect();
    names.sort_unstable();
    names.dedup();
    let digest = Sha256::digest(names.join(" "));
    let image = cache.join(format!("vm-{}-{}.ext4", debian::RELEASE, digest.iter().take(4).map(|b| format!("{b:02x}")).collect::<String>()));
    if image.exists() {
        return Ok(image);
    }
    let tarball = debian::bare_root(cache)?;
    println!("    making the guest's disk; this takes a minute, once");
    let root = debian::Room(cache.join(format!("vm-{}", std::process::id())));
    fs::create_dir(&root.0).with_context(|| format!("cannot make {}", root.0.display()))?;
    process::output(Command::new("tar").arg("-xpf").arg(tarball).arg("-C").arg(&root.0))?;
    debian::sources(&root.0)?;
    install(&root.0, &names)?;
    fs::write(root.0.join("etc/hostname"), "weft\n")?;
    let partial = image.with_extension("partial");
    make(&root.0, &partial, SYSTEM_MIB)?;
    fs::rename(&partial, &image).with_context(|| format!("cannot name {}", image.display()))?;
    Ok(image)
}

/// What a suite brings: the folder that becomes `/weft` in the guest, with the kernel's modules in it.
pub(crate) struct Luggage(tempfile::TempDir);

impl Luggage {
    pub(crate) fn new(kernel: &Kernel) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("weft-vm-").tempdir_in("/var/tmp")?;
        fs::create_dir_all(dir.path().join("lib"))?;
        process::output(Command::new("cp").args(["-a"]).arg(kernel.modules()).arg(dir.path().join("lib/modules")))?;
        Ok(Self(dir))
    }

    /// Takes a built program along, without what only a debugger reads.
    pub(crate) fn program(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.0.path().join(to);
        fs::create_dir_all(to.parent().unwrap_or(self.0.path()))?;
        process::output(Command::new("strip").arg("-g").arg("-o").arg(&to).arg(from)).map(drop)
    }

    /// What [`super::inside`] will run.
    pub(crate) fn plan(&self, lines: &str) -> Result<()> {
        fs::write(self.0.path().join(super::inside::PLAN), lines).context("cannot write the plan")
    }

    /// A file that lies over the guest's root.
    pub(crate) fn file(&self, path: &str, text: &str) -> Result<()> {
        let to = self.overlay(path)?;
        fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))
    }

    pub(crate) fn link(&self, path: &str, target: &str) -> Result<()> {
        let at = self.overlay(path)?;
        symlink(target, &at).with_context(|| format!("cannot link {}", at.display()))
    }

    fn overlay(&self, path: &str) -> Result<PathBuf> {
        let to = self.0.path().join("overlay").join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap_or(self.0.path()))?;
        Ok(to)
    }

    /// The disk of it, in a file that goes with the luggage.
    pub(crate) fn disk(&self) -> Result<PathBuf> {
        let said = process::output(Command::new("du").args(["-sm"]).arg(self.0.path()))?;
        let Some(used) = said.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()) else { bail!("`du` said {said}") };
        let image = self.0.path().with_extension("ext4");
        make(self.0.path(), &image, used + used / 4 + 32)?;
        Ok(image)
    }
}

impl Drop for Luggage {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.path().with_extension("ext4"));
    }
}

fn make(tree: &Path, image: &Path, mib: u64) -> Result<()> {
    process::output(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(tree).arg(image).arg(format!("{mib}M"))).map(drop)
}

/// In a mount namespace of its own, for maintainer scripts that read /proc; nothing they bring is started.
fn install(root: &Path, names: &[&str]) -> Result<()> {
    let policy = root.join("usr/sbin/policy-rc.d");
    super::kernel::write_program(&policy, "#!/bin/sh\nexit 101\n")?;
    for words in [vec!["update"], [&["install", "-y", "--no-install-recommends"], names].concat()] {
        process::output(
            Command::new("unshare")
                .args(["--mount", "--propagation", "private", "--mount-proc=/proc", "--root"])
                .arg(root)
                .args(["env", "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "apt-get", "-q"])
                .args(words),
        )?;
    }
    fs::remove_file(policy).context("cannot let services start again")
}
