//! Packages of npm that tests run, exactly those of `tests/node/package-lock.json`, in a directory of the build. Debian's npm brings them, by their hashes
//! and without a script of theirs being run; Node itself is among them, because Debian's is older than they want.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use weft_host::Package;

use crate::process;

const PACKAGES: &[Package] = &[Package { name: "nodejs", probe: "node" }, Package { name: "npm", probe: "npm" }];
const LOCK: &str = "package-lock.json";
/// Written last: what lies beside it is whole.
const DONE: &str = "installed.json";

/// Installs them, unless they are there. Tests find them in `node/` of the target directory.
pub(crate) fn install() -> Result<()> {
    let (from, to) = (process::root().join("tests/node"), process::target_dir().join("node"));
    let wanted = fs::read(from.join(LOCK)).with_context(|| format!("cannot read {LOCK} in {}", from.display()))?;
    if fs::read(to.join(DONE)).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    weft_host::ensure(PACKAGES)?;
    println!("    installing the packages of {} into {}", from.join(LOCK).display(), to.display());
    fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
    for name in ["package.json", LOCK] {
        fs::copy(from.join(name), to.join(name)).with_context(|| format!("cannot copy {name} to {}", to.display()))?;
    }
    process::output(&mut ci(&to))?;
    link(&to)?;
    fs::write(to.join(DONE), wanted).with_context(|| format!("cannot write {DONE} in {}", to.display()))
}

/// npm links the program into `.bin` or not, by its version.
fn link(dir: &Path) -> Result<()> {
    let programs = ["x64", "arm64"].map(|processor| format!("node_modules/node-linux-{processor}/bin/node"));
    let program = programs.iter().find(|program| dir.join(program).is_file()).context("npm has installed no node for this processor")?;
    let _ = fs::remove_file(dir.join("node"));
    std::os::unix::fs::symlink(program, dir.join("node")).with_context(|| format!("cannot link node in {}", dir.display()))
}

fn ci(dir: &Path) -> Command {
    let mut command = Command::new("npm");
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]).current_dir(dir);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_a_hash_and_no_host() {
        let text = fs::read_to_string(process::root().join("tests/node").join(LOCK)).unwrap();
        let lock: serde_json::Value = serde_json::from_str(&text).unwrap();
        let packages = lock["packages"].as_object().unwrap();
        assert!(packages.len() > 3);
        for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            assert!(package["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-")), "{name}");
            // Whoever installs chooses the registry.
            assert!(package.get("resolved").is_none() && package.get("hasInstallScript").is_none(), "{name}");
        }
    }
}
