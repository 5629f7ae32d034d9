//! Debian packages that a step needs: installed when they are missing, with the services they bring kept from starting.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{host::Unmet, process};

/// A package and the file that shows that it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) probe: &'static str,
}

/// Names of the packages whose probe is not there.
pub(crate) fn missing(packages: &[Package]) -> Vec<&'static str> {
    packages.iter().filter(|package| !Path::new(package.probe).exists()).map(|package| package.name).collect()
}

/// Installs what is missing; an index of packages is fetched only when the one at hand does not do.
pub(crate) fn ensure(packages: &[Package]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    if process::find_program("apt-get").is_none() {
        return Err(Unmet(format!("{} missing and there is no apt-get: install them with your package manager", missing.join(", "))).into());
    }
    println!("    installing {}", missing.join(" "));
    let _quiet = NoServices::begin(Path::new("/usr/sbin/policy-rc.d"))?;
    if install(&missing).is_err() {
        process::output(apt().arg("update"))?;
        install(&missing)?;
    }
    let still = self::missing(packages);
    if !still.is_empty() {
        bail!("apt-get reported success but {} are not there", still.join(", "));
    }
    Ok(())
}

fn install(names: &[&str]) -> Result<()> {
    process::output(apt().args(["install", "-y", "--no-install-recommends"]).args(names)).map(drop)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
    command
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
        fs::write(policy, "#!/bin/sh\n# Written by `cargo xtask` for the length of one installation.\nexit 101\n")
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
        let packages = [Package { name: "here", probe: "/bin/sh" }, Package { name: "gone", probe: "/no/such/file" }];
        assert_eq!(missing(&packages), ["gone"]);
    }
}
