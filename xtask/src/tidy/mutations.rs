//! Patches must go on applying: a mutation that no longer fits breaks no promise.

use anyhow::Result;

use super::File;
use crate::{mutations, process};

pub(crate) fn check(files: &[File]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("tests/") && file.path.ends_with(".patch")) {
        if file.path.starts_with("tests/mutations/")
            && let Err(error) = mutations::Suite::of(&file.text)
        {
            findings.push(format!("{}: {error:#}", file.path));
        }
        if let Err(error) = process::output(&mut process::git(["apply", "--check", &file.path])) {
            findings.push(format!("{}: {error:#}", file.path));
        }
    }
    Ok(findings)
}
