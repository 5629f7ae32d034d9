//! Debian packages that a step needs: installed when they are missing, with the services they bring kept from starting.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::Unmet;

/// A package, and the file that shows that it is there: a path, or the name of a program.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    pub name: &'static str,
    pub probe: &'static str,
}

impl Package {
    fn is_there(&self) -> bool {
        if self.probe.contains('/') { Path::new(self.probe).exists() } else { find_program(self.probe).is_some() }
    }
}

/// Names of the packages whose probe is not there, each once.
pub fn missing<'a>(packages: impl IntoIterator<Item = &'a Package>) -> Vec<&'static str> {
    let mut names: Vec<_> = packages.into_iter().filter(|package| !package.is_there()).map(|package| package.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A program of `PATH`, or one of those that an ordinary user's `PATH` leaves out.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}

/// Installs what is missing; an index of packages is fetched only when the one at hand does not do.
pub fn ensure<'a>(packages: impl IntoIterator<Item = &'a Package> + Clone) -> Result<()> {
    let missing = missing(packages.clone());
    if missing.is_empty() {
        return Ok(());
    }
    if find_program("apt-get").is_none() {
        return Err(Unmet(format!("{} missing and there is no apt-get: install them with your package manager", missing.join(", "))).into());
    }
    println!("    installing {}", missing.join(" "));
    let _quiet = NoServices::begin(Path::new("/usr/sbin/policy-rc.d"))?;
    if install(&missing).is_err() {
        run(apt().arg("update"))?;
        install(&missing)?;
    }
    let still = self::missing(packages);
    if !still.is_empty() {
        bail!("apt-get reported success but {} are not there", still.join(", "));
    }
    Ok(())
}

fn install(names: &[&str]) -> Result<()> {
    run(apt().args(["install", "-y", "--no-install-recommends"]).args(names))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("cannot run apt-get")?;
    if !output.status.success() {
        bail!("apt-get failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// While this lives, Debian's maintainer scripts are told not to start services; what was there before comes back on drop.
struct NoServices {
    policy: PathBuf,
    saved: PathBuf,
}

impl NoServices {
    fn begin(policy: &Path) -> Result<NoServices> {
        let guard = NoServices { policy: policy.to_owned(), saved: policy.with_extension("d.weft-saved") };
        // A saved one means that an earlier run was killed: the file in its place is ours.
        if policy.exists() && !guard.saved.exists() {
            fs::rename(policy, &guard.saved).with_context(|| format!("cannot set {} aside", policy.display()))?;
        }
        fs::write(policy, "#!/bin/sh\n# Written by weft's demo or tests for the length of one installation.\nexit 101\n")
            .with_context(|| format!("cannot write {}", policy.display()))?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let restored = if self.saved.exists() { fs::rename(&self.saved, &self.policy) } else { fs::remove_file(&self.policy) };
        if let Err(error) = restored {
            eprintln!("warning: {} could not be restored: {error}", self.policy.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_for_services_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy-rc.d");
        drop(NoServices::begin(&policy).unwrap());
        assert!(!policy.exists(), "there was none before");

        fs::write(&policy, "theirs").unwrap();
        let guard = NoServices::begin(&policy).unwrap();
        assert!(fs::read_to_string(&policy).unwrap().contains("exit 101"));
        drop(guard);
        assert_eq!(fs::read_to_string(&policy).unwrap(), "theirs");

        // A run that was killed while ours was in place.
        std::mem::forget(NoServices::begin(&policy).unwrap());
        drop(NoServices::begin(&policy).unwrap());
        assert_eq!(fs::read_to_string(&policy).unwrap(), "theirs");
    }

    #[test]
    fn what_has_its_probe_is_not_missing() {
        let check = |probe, expect: &[&str]| assert_eq!(missing(&[Package { name: "it", probe }]), expect, "{probe}");
        check("/bin/sh", &[]);
        check("sh", &[]);
        check("/no/such/file", &["it"]);
        check("no-such-program", &["it"]);
    }
}
