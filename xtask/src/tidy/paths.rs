//! No file names a place that exists on one machine only.

use super::File;

/// Where people keep their work. In pieces, so that this file passes its own check.
const PLACES: &[&str] = &[concat!("/", "Users/"), concat!("/", "work/")];

pub(crate) fn check(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for place in PLACES {
            if line.match_indices(place).any(|(at, _)| begins_a_path(line, at)) {
                findings.push(format!("{}:{}: names {place}, a place on somebody's machine", file.path, index + 1));
            }
        }
    }
    findings
}

/// `docs/place/` goes on with a path, `"/place/` begins one.
fn begins_a_path(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}$/".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(text: &str, expect: usize) {
        assert_eq!(check(&File { path: "a".into(), text: text.into() }).len(), expect, "{text}");
    }

    #[test]
    fn absolute_places_are_found_and_relative_ones_are_not() {
        check_text(concat!("open(\"/", "Users/me/x\")"), 1);
        check_text(concat!("/", "work/x"), 1);
        check_text(concat!("docs/", "work/x and ~/", "work/y"), 0);
        check_text("/run/weft/agent.sock", 0);
    }
}
