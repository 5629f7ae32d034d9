//! A clone of what is committed, to build something else from it than what is there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{metadata::Metadata, process};

/// A clone of what is committed. It shares the target directory, so that dependencies are warm, and stands at the same place every time, so that its
/// own crates are.
pub(crate) struct Copy {
    pub(crate) dir: PathBuf,
    pub(crate) head: String,
}

/// Where copies stand, below the target directory.
const COPIES: &str = "copies";

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("warning: {} could not be removed: {error}", self.dir.display());
        }
    }
}

impl Copy {
    /// `name`: where it stands, below the target directory.
    pub(crate) fn of_head(name: &str) -> Result<Copy> {
        let head = process::output(&mut process::git(["rev-parse", "--short", "HEAD"]))?.trim().to_owned();
        if !process::output(&mut process::git(["status", "--porcelain"]))?.is_empty() {
            println!("    what is not committed is not part of this");
        }
        let dir = process::target_dir().join(COPIES).join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}, left by a run that was killed", dir.display()))?;
        }
        set_apart()?;
        process::output(process::git(["clone", "--quiet", "--no-hardlinks", "."]).arg(&dir))?;
        Ok(Copy { dir, head })
    }

    pub(crate) fn apply(&self, patch: &Path) -> Result<()> {
        process::output(self.git(["apply"]).arg(patch))?;
        let text = fs::read_to_string(patch).with_context(|| format!("cannot read {}", patch.display()))?;
        // The kept object must follow its sources, or the build would refuse for that reason alone.
        if changes_kernel(&text) {
            process::run(&mut self.cargo(["xtask", "ebpf"]))?;
        }
        Ok(())
    }

    pub(crate) fn restore(&self) -> Result<()> {
        process::output(&mut self.git(["checkout", "--quiet", "--", "."])).map(drop)
    }

    pub(crate) fn cargo<'a>(&self, args: impl IntoIterator<Item = &'a (impl AsRef<std::ffi::OsStr> + ?Sized + 'a)>) -> Command {
        let mut command = process::cargo(args);
        command.current_dir(&self.dir).env("CARGO_TARGET_DIR", process::target_dir());
        command
    }

    fn git<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = process::git(args);
        command.current_dir(&self.dir);
        command
    }
}

/// Tells cargo that the crates of copies are others than the checkout's. It does not by itself: a crate is known by its place in its workspace, so what a
/// copy has changed would be taken for what the checkout has built, and the other way round.
fn set_apart() -> Result<()> {
    let settings = process::target_dir().join(COPIES).join(".cargo");
    let metadata = Metadata::read()?;
    let profiles: String = metadata.own().map(|package| format!("[profile.dev.package.{}]\ncodegen-units = 255\n", package.name)).collect();
    fs::create_dir_all(&settings)
        .and_then(|()| fs::write(settings.join("config.toml"), profiles))
        .with_context(|| format!("cannot write below {}", settings.display()))
}

fn changes_kernel(patch: &str) -> bool {
    patch.lines().any(|line| line.starts_with("+++ b/ebpf/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_kernel_programs_is_seen() {
        assert!(changes_kernel("--- a/ebpf/programs/src/main.rs\n+++ b/ebpf/programs/src/main.rs\n"));
        assert!(!changes_kernel("--- a/agent/src/main.rs\n+++ b/agent/src/main.rs\n"));
    }
}
