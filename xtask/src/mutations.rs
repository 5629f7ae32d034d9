//! `cargo xtask test mutations`: breaks one promise at a time in a copy of the tree, and requires the suite that guards it to turn red.
//!
//! A patch in `tests/mutations/` opens with lines for people and one for us: `# suite: NAME [arguments of cargo test]`. A patch that
//! does not compile proves nothing and is an error; so is a suite that is red before anything was broken.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{copy::Copy, process, suite};

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
    let copy = Copy::of_head("mutations")?;
    println!("    {} mutations of {}", mutations.len(), copy.head);
    for suite in mutations.iter().map(|mutation| &mutation.suite).collect::<BTreeSet<_>>() {
        println!("\n    control: {}", suite.shown());
        if judge(&copy, suite)? != Outcome::Green {
            bail!("{} is not green without a mutation: nothing would follow from red", suite.shown());
        }
    }
    let mut rows = Vec::new();
    for mutation in &mutations {
        println!("\n    mutation: {}", mutation.name);
        let begun = Instant::now();
        copy.apply(&mutation.path)?;
        let outcome = judge(&copy, &mutation.suite);
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
        mutations.push(Mutation { name, path, suite });
    }
    mutations.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutations)
}

/// Builds first, so that red can only mean a test.
fn judge(copy: &Copy, suite: &Suite) -> Result<Outcome> {
    for build in [["build", "--locked"].as_slice(), &["test", "--locked", "--workspace", "--no-run"]] {
        if !copy.cargo(build).status().context("cargo cannot be started")?.success() {
            return Ok(Outcome::DoesNotBuild);
        }
    }
    let mut command = copy.cargo(["xtask", "test", &suite.name]);
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
}
