//! `cargo xtask test --kernel LINE`: the privileged tests under another kernel, with the programs of this checkout. Each test program has a guest of its
//! own, so that one that hangs or takes the kernel down costs nobody else's answer.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use weft_host::Need;

use crate::{debian, demo, process, suite, vm};

/// Of one test program. Emulated, everything takes about ten times as long.
const DEADLINE: Duration = Duration::from_secs(45 * 60);
/// The guest's disk, its parts while they are made, and the test programs.
const SPACE_MIB: u64 = 6 * 1024;
/// Where programs lie in the guest: test programs look for the others one folder above their own.
const BIN: &str = "bin";

/// `args`: what `cargo test` would be handed: `--test NAME` chooses programs, what is left is theirs.
pub(crate) fn run(line: &str, args: &[String]) -> Result<()> {
    weft_host::require(&[Need::Root])?;
    let cache = debian::cache()?;
    weft_host::space(&cache, SPACE_MIB, "set XDG_CACHE_HOME to a larger file system")?;
    weft_host::ensure(vm::PACKAGES)?;
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    debian::remove_left_over(&cache)?;
    let kernel = vm::Kernel::fetch(&cache, line)?;
    let system = vm::system(&cache, &suite::PACKAGES.iter().map(|package| package.name).collect::<Vec<_>>())?;

    let (chosen, rest) = split(args);
    let luggage = vm::Luggage::new(&cache, &kernel)?;
    demo::build()?;
    let programs = programs(&chosen)?;
    for test in &programs {
        luggage.program(test, &inside(test))?;
    }
    bring(&luggage)?;

    println!("    Linux {}, emulated: everything takes about ten times as long", kernel.version);
    let (mut rows, mut red) = (Vec::new(), 0);
    for test in &programs {
        let begun = Instant::now();
        luggage.plan(&[format!("/weft/{}", inside(test))].iter().chain(&rest).cloned().collect::<Vec<_>>().join("\t"))?;
        let guest =
            vm::Guest { kernel: &kernel, system: &system, luggage: &luggage, init: "/weft/bin/xtask guest", append: "", capture: None, deadline: DEADLINE };
        let outcome = guest.run().and_then(|said| ended(&said));
        red += usize::from(outcome.is_err());
        let outcome = outcome.map_or_else(|error| format!("RED: {error:#}"), |()| "green".to_owned());
        rows.push(format!("  {:<14} {:>7.1} s  {outcome}", name(test), begun.elapsed().as_secs_f64()));
        println!("{}", rows.last().map_or("", String::as_str));
    }
    println!("\n    Linux {}:\n{}", kernel.version, rows.join("\n"));
    if red > 0 {
        bail!("{red} of {} test programs are red under Linux {}", programs.len(), kernel.version);
    }
    Ok(())
}

/// What the guest said of its end.
fn ended(said: &[String]) -> Result<()> {
    match said.iter().rev().find_map(|line| line.strip_prefix(vm::EXIT)?.trim().parse::<i32>().ok()) {
        Some(0) => Ok(()),
        Some(code) => bail!("exit code {code}"),
        None => bail!("the guest ended without saying how the tests went"),
    }
}

/// Where a test program lies in the guest, below `/weft`.
fn inside(test: &Path) -> String {
    format!("{BIN}/deps/{}", test.file_name().unwrap_or_default().to_string_lossy())
}

/// `wire` of `wire-0123456789abcdef`.
fn name(test: &Path) -> String {
    let stem = test.file_name().unwrap_or_default().to_string_lossy();
    stem.rsplit_once('-').map_or(&*stem, |(name, _)| name).to_owned()
}

/// Every program of weft that a test may start.
pub(crate) fn bring(luggage: &vm::Luggage) -> Result<()> {
    for name in ["weft", "weft-agent", "weft-iam-bridge", "weft-demo", "gateway-client", "shop-buy", "shop-stock", "shop-storefront", "xtask"] {
        let program = process::built(name);
        if program.exists() {
            luggage.program(&program, &format!("{BIN}/{name}"))?;
        }
    }
    Ok(())
}

/// What names test programs, and what is handed to them.
fn split(args: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut chosen, mut rest) = (Vec::new(), Vec::new());
    let mut words = args.iter().filter(|word| *word != "--");
    while let Some(word) = words.next() {
        match word.strip_prefix("--test") {
            Some("") => chosen.extend(words.next().cloned()),
            Some(name) if name.starts_with('=') => chosen.push(name[1..].to_owned()),
            _ => rest.push(word.clone()),
        }
    }
    (chosen, rest)
}

/// Builds the test programs and says where they are.
fn programs(chosen: &[String]) -> Result<Vec<PathBuf>> {
    let names = if chosen.is_empty() { suite::test_names(&process::root().join("tests/tests"))? } else { chosen.to_vec() };
    let args = suite::privileged_args(&names, &["--no-run".to_owned(), "--message-format=json-render-diagnostics".to_owned()]);
    let said = process::output(&mut process::cargo(args))?;
    let (mut found, dir) = (Vec::new(), process::root().join("tests/tests"));
    for message in said.lines() {
        let message: serde_json::Value = serde_json::from_str(message).context("cargo wrote what is not JSON")?;
        // Other packages have tests of the same names, which need no privilege.
        let ours = message["target"]["src_path"].as_str().is_some_and(|source| Path::new(source).starts_with(&dir));
        if let Some(path) = message["executable"].as_str().filter(|_| ours) {
            found.push(Path::new(path).to_owned());
        }
    }
    if found.len() != names.len() {
        bail!("cargo built {} test programs of {}", found.len(), names.len());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_and_the_rest_is_handed_over() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let check = |args: &str, chosen: &str, rest: &str| assert_eq!(split(&words(args)), (words(chosen), words(rest)), "{args}");
        check("", "", "");
        check("--test wire --test=states -- group --nocapture", "wire states", "group --nocapture");
    }
}
