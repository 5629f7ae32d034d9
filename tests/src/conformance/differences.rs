//! Where the paths differ, and the page that says which of it is meant.

use std::fmt;

use anyhow::{Context as _, Result};

use super::{Facts, Way};

/// The page, as people read it.
const PAGE: &str = include_str!("../../../docs/conformance-sockets.md");

/// One fact of one case that is another than without the mesh.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub case: String,
    pub way: String,
    pub fact: String,
    pub without: String,
    pub with: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} | {} | {} | {} | {} |", self.case, self.way, self.fact, self.without, self.with)
    }
}

/// What `seen` shows that `plain` does not, or shows otherwise.
pub fn between(case: &str, way: Way, plain: &Facts, seen: &Facts) -> Vec<Difference> {
    let mut names: Vec<&String> = plain.keys().chain(seen.keys()).collect();
    names.sort();
    names.dedup();
    let value = |facts: &Facts, name| facts.get(name).cloned().unwrap_or_else(|| "–".to_owned());
    names
        .into_iter()
        .map(|name| Difference { case: case.to_owned(), way: way.to_string(), fact: name.clone(), without: value(plain, name), with: value(seen, name) })
        .filter(|d| d.without != d.with)
        .collect()
}

/// The rows of the page's table.
pub fn documented() -> Result<Vec<Difference>> {
    rows(PAGE)
}

/// What was seen and is not on the page, and what is on the page and was not seen. `ran`: the cases that were tried.
pub fn unexplained(seen: &[Difference], page: &[Difference], ran: &[String]) -> Vec<String> {
    let undocumented = seen.iter().filter(|d| !page.contains(d)).map(|d| format!("not on the page:      {d}"));
    let gone = page.iter().filter(|d| ran.contains(&d.case) && !seen.contains(d)).map(|d| format!("no longer happens:    {d}"));
    undocumented.chain(gone).collect()
}

fn rows(page: &str) -> Result<Vec<Difference>> {
    let table = page.lines().skip_while(|l| !l.starts_with("| case ")).skip(2).take_while(|l| l.starts_with('|'));
    table
        .map(|line| {
            let cells: Vec<String> = line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect();
            let [case, way, fact, without, with, _why] = <[String; 6]>::try_from(cells).ok().with_context(|| format!("not six cells: {line}"))?;
            Ok(Difference { case, way, fact, without, with })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_documented_and_what_no_longer_happens_are_both_told() {
        let facts = |value: &str| Facts::from([("client: read".to_owned(), value.to_owned())]);
        let seen = between("fin", Way::TwoNodes, &facts("end"), &facts("ECONNRESET"));
        let page = rows(
            "# x\n\n| case | path | fact | without | with | why |\n|--|--|--|--|--|--|\n| fin | two nodes | client: read | end | ECONNRESET | because |\n",
        )
        .unwrap();
        assert_eq!(seen, page);
        let ran = ["fin".to_owned()];
        assert_eq!(unexplained(&seen, &page, &ran), [""; 0]);
        assert_eq!(unexplained(&seen, &[], &ran).len(), 1);
        assert_eq!(unexplained(&[], &page, &ran).len(), 1);
        assert_eq!(unexplained(&[], &page, &[]), [""; 0], "a case that did not run says nothing");
        assert_eq!(between("fin", Way::SameNode, &facts("end"), &facts("end")), []);
    }
}
