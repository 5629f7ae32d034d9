//! The two checks of `deny.toml` that must not depend on an installed cargo-deny: banned crates and allowed licences.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The house, and the kernel programs' workspace of its own.
const WORKSPACES: &[&str] = &["Cargo.toml", "ebpf/Cargo.toml"];

#[derive(Deserialize)]
struct DenyFile {
    bans: Bans,
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

pub(crate) fn check() -> Result<Vec<String>> {
    let text = fs::read_to_string(process::root().join("deny.toml")).context("cannot read deny.toml")?;
    let rules: DenyFile = toml::from_str(&text).context("deny.toml lacks what this check reads")?;
    let mut findings = Vec::new();
    for manifest in WORKSPACES {
        findings.extend(used(&built(manifest)?, &rules));
        let lock = manifest.replace(".toml", ".lock");
        findings.extend(sources(&lock, &fs::read_to_string(process::root().join(&lock)).with_context(|| format!("cannot read {lock}"))?));
    }
    Ok(findings)
}

/// What is really built, one `name version|licence` a line. A lock file also names what other platforms would need.
fn built(manifest: &str) -> Result<String> {
    let args = [
        "tree",
        "--manifest-path",
        manifest,
        "--workspace",
        "--target",
        "x86_64-unknown-linux-gnu",
        "-e",
        "normal,build,dev",
        "--prefix",
        "none",
        "-f",
        "{p}|{l}",
    ];
    process::output(&mut process::cargo(args))
}

fn used(tree: &str, rules: &DenyFile) -> BTreeSet<String> {
    let mut findings = BTreeSet::new();
    for (package, licence) in tree.lines().filter_map(|line| line.trim_end_matches(" (*)").split_once('|')) {
        let mut words = package.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if let Some(ban) = rules.bans.deny.iter().find(|ban| ban.name == name) {
            findings.insert(format!("{name} {version}: banned: {}", ban.reason));
        }
        if !is_allowed(licence, &rules.licenses.allow) {
            findings.insert(format!("{name} {version}: licence \"{licence}\" is not allowed by deny.toml"));
        }
    }
    findings
}

fn sources(lock: &str, text: &str) -> Vec<String> {
    let foreign = text.lines().filter_map(|line| line.strip_prefix("source = ")).map(|source| source.trim_matches('"')).filter(|source| *source != REGISTRY);
    foreign.map(|source| format!("{lock}: a crate comes from {source}")).collect()
}

/// An SPDX expression: AND binds tighter than OR, `/` is the old way to write OR.
fn is_allowed(expression: &str, allow: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, at: 0, allow };
    let allowed = parser.any();
    allowed && parser.at == words.len()
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
    allow: &'a [String],
}

impl Parser<'_> {
    fn any(&mut self) -> bool {
        let mut allowed = self.all();
        while self.take("OR") {
            allowed |= self.all();
        }
        allowed
    }

    fn all(&mut self) -> bool {
        let mut allowed = self.one();
        while self.take("AND") {
            allowed &= self.one();
        }
        allowed
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let allowed = self.any();
            return self.take(")") && allowed;
        }
        let Some(word) = self.words.get(self.at) else { return false };
        self.at += 1;
        let mut licence = (*word).to_owned();
        if self.take("WITH") {
            licence = format!("{licence} WITH {}", self.words.get(self.at).copied().unwrap_or_default());
            self.at += 1;
        }
        self.allow.contains(&licence)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        let allow = ["MIT".to_owned(), "Apache-2.0".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
        let check = |expression: &str, expect| assert_eq!(is_allowed(expression, &allow), expect, "{expression}");
        check("MIT", true);
        check("GPL-3.0", false);
        check("MIT OR GPL-3.0", true);
        check("MIT/GPL-3.0", true);
        check("MIT AND GPL-3.0", false);
        check("GPL-3.0 OR MIT AND Apache-2.0", true);
        check("(MIT OR GPL-3.0) AND Apache-2.0", true);
        check("(MIT OR Apache-2.0) AND GPL-3.0", false);
        check("Apache-2.0 WITH LLVM-exception", true);
        check("MIT WITH LLVM-exception", false);
        check("(MIT", false);
        check("", false);
    }

    #[test]
    fn a_banned_crate_a_foreign_licence_and_a_foreign_source_are_found() {
        let rules = toml::from_str("[bans]\ndeny = [{ crate = \"ring\", reason = \"one provider\" }]\n[licenses]\nallow = [\"MIT\"]\n").unwrap();
        let tree = "weft v0 (/src/weft)|MIT\nring v1|MIT\nring v1|MIT (*)\nviral v2 (proc-macro)|AGPL-3.0\nnameless v3|\n";
        let found: Vec<String> = used(tree, &rules).into_iter().collect();
        let licence = |name: &str, licence: &str| format!("{name}: licence \"{licence}\" is not allowed by deny.toml");
        assert_eq!(found, [licence("nameless v3", ""), "ring v1: banned: one provider".into(), licence("viral v2", "AGPL-3.0")]);

        let lock = format!("source = \"{REGISTRY}\"\nsource = \"git+elsewhere\"\n");
        assert_eq!(sources("Cargo.lock", &lock), ["Cargo.lock: a crate comes from git+elsewhere"]);
    }
}
