//! Documents that name code must name code that exists.
//!
//! In ARCHITECTURE.md every backticked path, every `path::symbol` and every bare identifier is looked up; in every Markdown file a
//! relative link must lead to a file. Shell lines, addresses and prose in backticks are left alone.

use std::collections::HashSet;

use super::File;

const DOCUMENT: &str = "ARCHITECTURE.md";

/// Endings that make a word a path wherever it begins.
const ENDINGS: &[&str] = &[".rs", ".toml", ".proto", ".md", ".patch", ".bpf.o"];

/// Words that stand before the name of a symbol where it is made, or gets its methods.
const DEFINERS: &[&str] =
    &["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "macro_rules!", "mut", "union", "message", "service", "rpc", "impl"];

pub(crate) fn check(files: &[File]) -> Vec<String> {
    let tree = Tree::new(files);
    let mut findings: Vec<String> = files.iter().filter(|file| file.path.ends_with(".md")).flat_map(|file| dead_links(file, &tree)).collect();
    match files.iter().find(|file| file.path == DOCUMENT) {
        Some(document) => {
            findings.extend(spans(&document.text).filter_map(|(line, span)| tree.judge(span).err().map(|why| format!("{DOCUMENT}:{line}: `{span}`: {why}"))))
        }
        None => findings.push(format!("{DOCUMENT} is missing")),
    }
    findings
}

struct Tree<'a> {
    files: &'a [File],
    entries: HashSet<&'a str>,
    words: HashSet<&'a str>,
}

impl<'a> Tree<'a> {
    fn new(files: &'a [File]) -> Tree<'a> {
        let mut entries = HashSet::new();
        let mut words = HashSet::new();
        for file in files {
            entries.insert(file.path.as_str());
            entries.extend(file.path.match_indices('/').map(|(at, _)| &file.path[..at]));
            if [".rs", ".toml", ".proto", ".py", ".service", ".yaml"].iter().any(|end| file.path.ends_with(end)) {
                words.extend(file.text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()));
            }
        }
        Tree { files, entries, words }
    }

    fn judge(&self, span: &str) -> Result<(), String> {
        let (path, symbol) = split_symbol(span);
        if self.looks_like_a_path(path) {
            return self.path(path.trim_end_matches('/'), symbol);
        }
        let name = span.trim_end_matches("()");
        if is_identifier(name) && !self.words.contains(name) {
            return Err("no source has this word".into());
        }
        if name.contains("::") && name.split("::").all(is_identifier) {
            return match name.split("::").find(|part| !self.words.contains(part)) {
                Some(part) => Err(format!("no source has the word {part}")),
                None => Ok(()),
            };
        }
        Ok(())
    }

    fn looks_like_a_path(&self, word: &str) -> bool {
        let plain = !word.starts_with('/') && !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "._-/".contains(c));
        let first = word.split('/').next().unwrap_or_default();
        let below_the_root = word.contains('/') && self.files.iter().any(|file| file.path.starts_with(first) && file.path[first.len()..].starts_with('/'));
        plain && (below_the_root || word.ends_with('/') || ENDINGS.iter().any(|ending| word.ends_with(ending)))
    }

    fn path(&self, path: &str, symbol: Option<&str>) -> Result<(), String> {
        if !self.entries.contains(path) {
            return Err("does not exist".into());
        }
        let Some(symbol) = symbol else { return Ok(()) };
        let text = self.files.iter().find(|file| file.path == path).map_or("", |file| &file.text);
        match symbol.trim_end_matches("()").split("::").find(|part| !defines(text, part)) {
            Some(part) => Err(format!("{path} defines no {part}")),
            None => Ok(()),
        }
    }
}

/// `path.rs::symbol` as its two parts.
fn split_symbol(span: &str) -> (&str, Option<&str>) {
    for ending in ENDINGS {
        if let Some(at) = span.find(&format!("{ending}::")) {
            let (path, symbol) = span.split_at(at + ending.len());
            return (path, Some(&symbol[2..]));
        }
    }
    (span, None)
}

fn defines(text: &str, symbol: &str) -> bool {
    let mut before = "";
    for word in text.split(|c: char| c.is_whitespace() || "(<:;{=,".contains(c)).filter(|word| !word.is_empty()) {
        if word == symbol && DEFINERS.contains(&before) {
            return true;
        }
        before = word;
    }
    // A variant or a field stands alone at the start of its line.
    text.lines().any(|line| {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        line.strip_prefix(symbol).is_some_and(|rest| rest.starts_with([':', ',', '(', ' ']) && !rest.starts_with("::"))
    })
}

fn is_identifier(word: &str) -> bool {
    word.len() > 1 && word.starts_with(|c: char| c.is_alphabetic() || c == '_') && word.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Inline code outside of fenced blocks, with its line.
fn spans(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().flat_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        let pieces: Vec<&str> = if fence || fenced { Vec::new() } else { line.split('`').skip(1).step_by(2).collect() };
        pieces.into_iter().map(move |piece| (index + 1, piece))
    })
}

fn dead_links(file: &File, tree: &Tree<'_>) -> Vec<String> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let full = resolve(folder, target);
            if !tree.entries.contains(full.as_str()) {
                findings.push(format!("{}:{}: link to {target}, which does not exist", file.path, index + 1));
            }
        }
    }
    findings
}

fn resolve(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Vec<File> {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        vec![
            file(
                "agent/src/flow.rs",
                "//! Flows.\npub struct Flow {\n    pub verdict: Verdict,\n}\nimpl Flow {\n    pub fn judge(&self) {}\n}\npub static mut COUNT: u32 = 0;\n",
            ),
            file("docs/a.md", "[up](../README.md) [gone](b.md) [out](https://example.org) [here](#x)\n"),
            file("README.md", "# x\n"),
        ]
    }

    #[track_caller]
    fn check_span(span: &str, expect: Result<(), &str>) {
        let files = repository();
        assert_eq!(Tree::new(&files).judge(span), expect.map_err(str::to_owned), "{span}");
    }

    #[test]
    fn paths_must_exist() {
        check_span("agent/src/flow.rs", Ok(()));
        check_span("agent/src/", Ok(()));
        check_span("agent/src/gone.rs", Err("does not exist"));
        check_span("agent/gone", Err("does not exist"));
        check_span("gone/", Err("does not exist"));
        check_span("Gone.md", Err("does not exist"));
    }

    #[test]
    fn what_is_no_path_of_ours_is_left_alone() {
        check_span("/run/weft/agent.sock", Ok(()));
        check_span("shop/orders", Ok(()));
        check_span("cargo xtask demo", Ok(()));
        check_span("spiffe://a/ns/b/sa/c", Ok(()));
    }

    #[test]
    fn symbols_must_be_defined_where_they_are_said_to_be() {
        check_span("agent/src/flow.rs::Flow", Ok(()));
        check_span("agent/src/flow.rs::Flow::judge", Ok(()));
        check_span("agent/src/flow.rs::verdict", Ok(()));
        check_span("agent/src/flow.rs::COUNT", Ok(()));
        check_span("agent/src/flow.rs::Verdict", Err("agent/src/flow.rs defines no Verdict"));
        check_span("agent/src/flow.rs::Flow::gone", Err("agent/src/flow.rs defines no gone"));
        check_span("agent/src/gone.rs::Flow", Err("does not exist"));
    }

    #[test]
    fn identifiers_must_be_words_of_the_sources() {
        check_span("Flow", Ok(()));
        check_span("judge()", Ok(()));
        check_span("Flow::judge", Ok(()));
        check_span("Gone", Err("no source has this word"));
        check_span("Flow::gone", Err("no source has the word gone"));
    }

    #[test]
    fn code_blocks_are_not_read() {
        let found: Vec<_> = spans("a `b` c `d`\n```\n`e`\n```\n`f`").collect();
        assert_eq!(found, [(1, "b"), (1, "d"), (5, "f")]);
    }

    #[test]
    fn links_must_lead_somewhere() {
        let files = repository();
        assert_eq!(dead_links(&files[1], &Tree::new(&files)), ["docs/a.md:1: link to b.md, which does not exist"]);
    }
}
