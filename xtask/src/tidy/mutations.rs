//! Patches must go on applying: a mutation that no longer fits breaks no promise. And each must be named where the promises are listed.

use anyhow::Result;

use super::File;
use crate::{mutations, process};

const PROMISES: &str = "docs/guarantees.md";

pub(crate) fn check(files: &[File]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let promises = files.iter().find(|file| file.path == PROMISES).map_or("", |file| &file.text);
    for file in files.iter().filter(|file| file.path.starts_with("tests/") && file.path.ends_with(".patch")) {
        if let Some(name) = file.path.strip_prefix("tests/mutations/").and_then(|name| name.strip_suffix(".patch")) {
            if let Err(error) = mutations::Suite::of(&file.text) {
                findings.push(format!("{}: {error:#}", file.path));
            }
            if !promises.contains(&format!("`{name}`")) {
                findings.push(format!("{}: {PROMISES} does not say which promise it breaks", file.path));
            }
        }
        if let Err(error) = process::output(&mut process::git(["apply", "--check", &file.path])) {
            findings.push(format!("{}: {error:#}", file.path));
        }
    }
    Ok(findings)
}
