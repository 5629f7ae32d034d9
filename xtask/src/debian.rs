//! A bare Debian root, made once and kept as a tarball in the cache, and what of this machine such a root needs to install packages.
//!
//! Package sources, resolver and certificates are this machine's; nothing here names a host.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use weft_host::Package;

use crate::process;

pub(crate) const RELEASE: &str = "bookworm";
/// All that the README asks a newcomer to have, besides Rust.
const INCLUDE: &str = "build-essential,git,ca-certificates";
const PACKAGES: &[Package] = &[Package { name: "debootstrap", probe: "/usr/sbin/debootstrap" }];

/// Where what took long to make or fetch is kept.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    base.map(|base| base.join("weft")).context("neither XDG_CACHE_HOME nor HOME is set: no place for the cache")
}

/// The tarball of the bare root, made once.
pub(crate) fn bare_root(cache: &Path) -> Result<PathBuf> {
    let tarball = cache.join(format!("{RELEASE}-{}.tar", INCLUDE.replace(',', "-")));
    if tarball.exists() {
        return Ok(tarball);
    }
    weft_host::ensure(PACKAGES)?;
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    println!("    making a bare Debian {RELEASE}; this takes two minutes, once");
    let made = Room(cache.join(format!("bare-{}", std::process::id())));
    process::output(Command::new("debootstrap").args(["--variant=minbase", &format!("--include={INCLUDE}"), RELEASE]).arg(&made.0))?;
    let partial = tarball.with_extension("partial");
    process::output(Command::new("tar").arg("-cpf").arg(&partial).arg("-C").arg(&made.0).arg("."))?;
    fs::rename(&partial, &tarball).with_context(|| format!("cannot name {}", tarball.display()))?;
    Ok(tarball)
}

/// What of this machine the root needs to reach the package sources.
pub(crate) fn sources(root: &Path) -> Result<()> {
    for path in [
        "/etc/resolv.conf",
        "/etc/hosts",
        "/etc/ssl/certs",
        "/usr/local/share/ca-certificates",
        "/etc/apt/sources.list",
        "/etc/apt/sources.list.d",
        "/etc/apt/keyrings",
        "/etc/apt/trusted.gpg.d",
        "/usr/share/keyrings",
    ] {
        copy(Path::new(path), root)?;
    }
    copy_proxy_settings(root)
}

/// Takes the path along as it is, links followed (a resolver file is often one), when this machine has it.
fn copy(path: &Path, root: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    let into = root.join(parent.strip_prefix("/").unwrap_or(parent));
    fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
    process::output(Command::new("cp").args(["-rL", "--remove-destination"]).arg(path).arg(&into)).map(drop)
}

/// Proxies and mirrors may stand in apt's settings; hooks and post-invoke commands there belong to packages the root has not.
fn copy_proxy_settings(root: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir("/etc/apt/apt.conf.d") else { return Ok(()) };
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        if fs::read_to_string(&path).is_ok_and(|text| text.contains("Acquire::")) {
            copy(&path, root)?;
        }
    }
    Ok(())
}

/// A folder that is removed when this goes. Nothing is mounted in it here: mounts are made in the other namespace only.
pub(crate) struct Room(pub(crate) PathBuf);

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: {} could not be removed: {error}", self.0.display());
        }
    }
}

/// Rooms of runs that were killed.
pub(crate) fn remove_left_over(cache: &Path) -> Result<()> {
    for path in fs::read_dir(cache)?.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(pid) = owner(&name)
            && !Path::new("/proc").join(pid.to_string()).exists()
        {
            println!("    removing {name}, left by a run that was killed");
            drop(Room(path));
        }
    }
    Ok(())
}

fn owner(name: &str) -> Option<u32> {
    ["fresh-", "bare-", "vm-"].iter().find_map(|kind| name.strip_prefix(kind))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rooms_of_a_run_have_an_owner() {
        assert_eq!(owner("fresh-12"), Some(12));
        assert_eq!(owner("bare-7"), Some(7));
        assert_eq!(owner("bookworm.tar"), None);
        assert_eq!(owner("fresh-x"), None);
    }
}
