//! Debian packages that the shop is made of, installed when they are missing, with the services they bring kept from starting.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use weft_lab::precondition;

use crate::stage::Missing;

/// A file that shows that the package is there, and the package.
const NEEDED: &[(&str, &str)] = &[
    ("/usr/sbin/nginx", "nginx-light"),
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
    ("/usr/bin/psql", "postgresql-client-15"),
    ("/usr/bin/python3", "python3"),
    ("/usr/lib/python3/dist-packages/psycopg2", "python3-psycopg2"),
];
/// Debian's maintainer scripts ask it before they start a service; 101 is no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

pub fn ensure() -> Result<()> {
    let mut absent: Vec<&str> = NEEDED.iter().filter(|(probe, _)| !Path::new(probe).exists()).map(|(_, package)| *package).collect();
    absent.extend(precondition::tools().into_iter().map(|(_, package)| package));
    if absent.is_empty() {
        return Ok(());
    }
    println!("installing {}", absent.join(" "));
    if Command::new("apt-get").arg("--version").output().is_err() {
        return Err(Missing(format!("{} missing, and there is no apt-get: install them with your package manager", absent.join(", "))).into());
    }
    let _quiet = NoServices::begin()?;
    if install(&absent).is_err() {
        apt(&["update"])?;
        install(&absent)?;
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("cannot run apt-get")?;
    if !output.status.success() {
        bail!("`apt-get {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// While this lives no service is started; an answer that was there before stays, since a machine that has one has its reasons.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            fs::write(POLICY, "#!/bin/sh\n# Written by weft-demo for the length of one installation.\nexit 101\n")
                .with_context(|| format!("cannot write {POLICY}"))?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(e) = fs::remove_file(POLICY)
        {
            eprintln!("weft-demo: {POLICY} could not be removed: {e}");
        }
    }
}
