//! What no compiler checks. Every check is a plain function from text to findings; this file reads the repository and calls them.

mod architecture;
mod licences;
mod manifests;
mod mutations;
mod paths;
mod rust;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::process;

/// One file of the repository as the checks see it: its path from the root, and its text.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Written by a generator; its form is nobody's.
    pub(crate) fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }
}

pub(crate) fn run() -> Result<()> {
    let files = repository()?;
    let mut findings = Vec::new();
    for file in &files {
        if file.is_rust() && !file.is_generated() {
            findings.extend(rust::check(file));
        }
        if file.path.ends_with("Cargo.toml") {
            findings.extend(manifests::check(file));
        }
        findings.extend(paths::check(file));
    }
    findings.extend(architecture::check(&files));
    findings.extend(licences::check()?);
    findings.extend(mutations::check(&files)?);
    if !findings.is_empty() {
        bail!("{} findings:\n  {}", findings.len(), findings.join("\n  "));
    }
    println!("    {} files", files.len());
    Ok(())
}

/// Every text file that is committed or would be.
fn repository() -> Result<Vec<File>> {
    let list = process::output(&mut process::git(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    let mut files = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        let full: PathBuf = process::root().join(path);
        // Deleted but not yet committed, or a link.
        if !full.is_file() {
            continue;
        }
        let bytes = fs::read(&full).with_context(|| format!("cannot read {path}"))?;
        files.push(File { path: path.to_owned(), text: String::from_utf8(bytes).unwrap_or_default() });
    }
    Ok(files)
}
