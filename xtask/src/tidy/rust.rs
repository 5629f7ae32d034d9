//! Rust sources: each opens with what it is, stays one room, and keeps unsafe where it belongs.

use super::File;

/// Past this a file is two rooms.
const LINES_MAX: usize = 600;

/// Where the kernel is spoken to, and what runs in it.
const UNSAFE_ALLOWED: &[&str] = &["ebpf/", "crates/kernel/"];

/// How far above an unsafe block its reason may begin.
const REASON_LINES: usize = 8;

pub(crate) fn check(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    if !opens_with_docs(&file.text) {
        findings.push(format!("{}: does not open with `//!`: say what the module is, and what it is not", file.path));
    }
    let lines = production_lines(&file.text);
    if lines > LINES_MAX {
        findings.push(format!("{}: {lines} lines without tests, {LINES_MAX} allowed: this is two rooms", file.path));
    }
    let allowed = UNSAFE_ALLOWED.iter().any(|dir| file.path.starts_with(dir));
    for (number, line) in code_lines(&file.text) {
        if has_word(line, "unsafe") && opens_unsafe(line) {
            if !allowed {
                findings.push(format!("{}:{number}: unsafe outside of {}", file.path, UNSAFE_ALLOWED.join(", ")));
            } else if !has_reason(&file.text, number) {
                findings.push(format!("{}:{number}: unsafe without a `SAFETY:` comment", file.path));
            }
        }
        if ["todo!(", "unimplemented!(", "dbg!("].iter().any(|word| line.contains(word)) {
            findings.push(format!("{}:{number}: unfinished: {}", file.path, line.trim()));
        }
    }
    findings
}

fn opens_with_docs(text: &str) -> bool {
    text.lines().map(str::trim).find(|line| !line.is_empty()).is_some_and(|line| line.starts_with("//!"))
}

/// Lines before the module of tests, which by custom comes last.
fn production_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')).unwrap_or(lines.len())
}

/// Lines with their numbers from 1, without comments and without string literals that stand on one line.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let code = line.split("//").next().unwrap_or_default();
        let code = code.split('"').next().unwrap_or_default();
        (!code.trim().is_empty()).then_some((index + 1, code))
    })
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// A block, or a promise made by an implementation or an attribute. An `unsafe fn` asks its caller, and a lint's name is no code.
fn opens_unsafe(line: &str) -> bool {
    ["unsafe {", "unsafe impl", "unsafe extern", "unsafe("].iter().any(|form| line.contains(form))
}

fn has_reason(text: &str, number: usize) -> bool {
    let first = number.saturating_sub(REASON_LINES + 1);
    text.lines().take(number).skip(first).any(|line| line.contains("SAFETY:")) || text.lines().nth(number - 1).is_some_and(|line| line.contains("unsafe("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(path: &str, text: &str, expect: &[&str]) {
        assert_eq!(check(&File { path: path.into(), text: text.into() }), expect, "{path}: {text}");
    }

    #[test]
    fn a_module_opens_with_its_purpose() {
        check_text("a.rs", "//! What it is.\n", &[]);
        check_text("a.rs", "\n\n//! What it is.\n", &[]);
        check_text("a.rs", "use x;\n//! Late.\n", &["a.rs: does not open with `//!`: say what the module is, and what it is not"]);
        check_text("a.rs", "// A remark.\n", &["a.rs: does not open with `//!`: say what the module is, and what it is not"]);
    }

    #[test]
    fn only_lines_before_the_tests_count() {
        let long = "//! Long.\n".to_owned() + &"fn f() {}\n".repeat(600);
        check_text("a.rs", &long, &["a.rs: 601 lines without tests, 600 allowed: this is two rooms"]);
        let tested = "//! Short.\n#[cfg(test)]\nmod tests {\n".to_owned() + &"fn f() {}\n".repeat(900) + "}\n";
        check_text("a.rs", &tested, &[]);
    }

    #[test]
    fn unsafe_stays_with_the_kernel_and_says_why() {
        check_text("agent/src/a.rs", "//! A.\nlet a = unsafe { b() };\n", &["agent/src/a.rs:2: unsafe outside of ebpf/, crates/kernel/"]);
        check_text("crates/kernel/src/a.rs", "//! A.\nlet a = unsafe { b() };\n", &["crates/kernel/src/a.rs:2: unsafe without a `SAFETY:` comment"]);
        check_text("crates/kernel/src/a.rs", "//! A.\n// SAFETY: b asks for nothing.\nlet a = unsafe { b() };\n", &[]);
        check_text("agent/src/a.rs", "//! A.\n#![forbid(unsafe_code)]\n// unsafe { in words }\nlet a = \"unsafe { in text }\";\n", &[]);
    }

    #[test]
    fn what_is_unfinished_is_found() {
        let unfinished = format!("//! A.\n{}!()\n", "todo");
        check_text("a.rs", &unfinished, &[&format!("a.rs:2: unfinished: {}!()", "todo")]);
        check_text("a.rs", &format!("//! A.\n// {}!() in words\n", "todo"), &[]);
    }
}
