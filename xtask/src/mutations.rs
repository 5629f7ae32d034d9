//! `cargo xtask test mutations`: breaks one promise at a time in a copy of the tree, and requires the suite that guards it to turn red.
//!
//! A patch in `tests/mutations/` opens with lines for people and one for us: `# suite: NAME [arguments of cargo test]`. A patch that
//! does not compile proves nothing and is an error; so is a suite that is red before anything was broken.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{process, suite};

/// The suite that a mutation must turn red.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Suite {
    name: String,
    args: Vec<String>,
}

impl Suite {
    /// Reads it from the header of a patch.
    pub(crate) fn of(patch: &str) -> Result<Suite> {
        let header = patch.lines().take_while(|line| !line.starts_with("diff ") && !line.starts_with("--- "));
        let line = header.filter_map(|line| line.strip_prefix("# suite:")).next().context("no line `# suite: NAME` before the diff")?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let name = words.next().unwrap_or_default();
        if !suite::exists(&name) {
            bail!("`# suite: {name}` names no suite of `cargo xtask test`");
        }
        Ok(Suite { name, args: words.collect() })
    }

    fn shown(&self) -> String {
        [vec![self.name.clone()], self.args.clone()].concat().join(" ")
    }
}

struct Mutation {
    name: String,
    path: PathBuf,
    suite: Suite,
    /// The kept object must follow its sources, or the build would refuse for that reason alone.
    kernel: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Red,
    Green,
    DoesNotBuild,
}

/// All of them, or those named.
pub(crate) fn run(names: &[String]) -> Result<()> {
    let mut mutations = read(&process::root().join("tests/mutations"))?;
    if let Some(unknown) = names.iter().find(|name| !mutations.iter().any(|mutation| mutation.name == **name)) {
        bail!("tests/mutations holds no {unknown}.patch");
    }
    mutations.retain(|mutation| names.is_empty() || names.contains(&mutation.name));
    if mutations.is_empty() {
        bail!("tests/mutations holds no patch");
    }
    let copy = Copy::of_head()?;
    println!("    {} mutations of {}", mutations.len(), copy.head);
    for suite in mutations.iter().map(|mutation| &mutation.suite).collect::<BTreeSet<_>>() {
        println!("\n    control: {}", suite.shown());
        if copy.judge(suite)? != Outcome::Green {
            bail!("{} is not green without a mutation: nothing would follow from red", suite.shown());
        }
    }
    let mut rows = Vec::new();
    for mutation in &mutations {
        println!("\n    mutation: {}", mutation.name);
        let begun = Instant::now();
        copy.apply(mutation)?;
        let outcome = copy.judge(&mutation.suite);
        copy.restore()?;
        rows.push((mutation, outcome?, begun.elapsed()));
    }
    println!();
    for (mutation, outcome, time) in &rows {
        let verdict = match outcome {
            Outcome::Red => "red, as it must be",
            Outcome::Green => "GREEN: the promise is not guarded",
            Outcome::DoesNotBuild => "DOES NOT BUILD: proves nothing",
        };
        println!("  {:<32} {:<28} {:>6.1} s  {verdict}", mutation.name, mutation.suite.shown(), time.as_secs_f64());
    }
    let wrong = rows.iter().filter(|(_, outcome, _)| *outcome != Outcome::Red).count();
    if wrong > 0 {
        bail!("{wrong} of {} mutations did not turn their suite red", rows.len());
    }
    Ok(())
}

fn read(dir: &Path) -> Result<Vec<Mutation>> {
    let mut mutations = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let suite = Suite::of(&text).with_context(|| path.display().to_string())?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        mutations.push(Mutation { name, path, suite, kernel: changes_kernel(&text) });
    }
    mutations.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutations)
}

fn changes_kernel(patch: &str) -> bool {
    patch.lines().any(|line| line.starts_with("+++ b/ebpf/"))
}

/// A clone of what is committed. It shares the target directory, so that dependencies are warm, and stands at the same place every time,
/// since cargo takes a crate at another path for another crate.
struct Copy {
    dir: PathBuf,
    head: String,
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("warning: {} could not be removed: {error}", self.dir.display());
        }
    }
}

impl Copy {
    fn of_head() -> Result<Copy> {
        let head = process::output(&mut process::git(["rev-parse", "--short", "HEAD"]))?.trim().to_owned();
        if !process::output(&mut process::git(["status", "--porcelain"]))?.is_empty() {
            println!("    what is not committed is not part of this");
        }
        let dir = process::target_dir().join("mutations");
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}, left by a run that was killed", dir.display()))?;
        }
        process::output(process::git(["clone", "--quiet", "--no-hardlinks", "."]).arg(&dir))?;
        Ok(Copy { dir, head })
    }

    fn apply(&self, mutation: &Mutation) -> Result<()> {
        process::output(self.git(["apply"]).arg(&mutation.path))?;
        if mutation.kernel {
            process::run(&mut self.cargo(["xtask", "ebpf"]))?;
        }
        Ok(())
    }

    fn restore(&self) -> Result<()> {
        process::output(&mut self.git(["checkout", "--quiet", "--", "."])).map(drop)
    }

    /// Builds first, so that red can only mean a test.
    fn judge(&self, suite: &Suite) -> Result<Outcome> {
        for build in [["build", "--locked"].as_slice(), &["test", "--locked", "--workspace", "--no-run"]] {
            if !self.cargo(build).status().context("cargo cannot be started")?.success() {
                return Ok(Outcome::DoesNotBuild);
            }
        }
        let mut command = self.cargo(["xtask", "test", &suite.name]);
        if !suite.args.is_empty() {
            command.arg("--").args(&suite.args);
        }
        let status = command.status().context("cargo cannot be started")?;
        match status.code() {
            Some(0) => Ok(Outcome::Green),
            Some(1) => Ok(Outcome::Red),
            _ => bail!("`cargo xtask test {}` ended with {status}: that is neither green nor red", suite.shown()),
        }
    }

    fn cargo<'a>(&self, args: impl IntoIterator<Item = &'a (impl AsRef<std::ffi::OsStr> + ?Sized + 'a)>) -> Command {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_the_suite_and_its_arguments() {
        let check = |patch: &str, expect: Option<(&str, &[&str])>| {
            let expect = expect.map(|(name, args)| Suite { name: name.into(), args: args.iter().map(|arg| (*arg).into()).collect() });
            assert_eq!(Suite::of(patch).ok(), expect, "{patch}");
        };
        check("Peers are not verified.\n# suite: privileged --test wire\ndiff --git a/x b/x\n", Some(("privileged", &["--test", "wire"])));
        check("# suite: unit\n--- a/x\n", Some(("unit", &[])));
        check("# suite: nothing\n", None);
        check("# suite: mutations\n", None);
        check("diff --git a/x b/x\n# suite: unit\n", None);
        check("", None);
    }

    #[test]
    fn a_change_of_kernel_programs_is_seen() {
        assert!(changes_kernel("--- a/ebpf/programs/src/main.rs\n+++ b/ebpf/programs/src/main.rs\n"));
        assert!(!changes_kernel("--- a/agent/src/main.rs\n+++ b/agent/src/main.rs\n"));
    }
}
