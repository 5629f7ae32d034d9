//! A small catalog, to which each case adds documents, and findings as one line each.

use weft_catalog::{Catalog, Finding};

/// A catalog without findings, to which each case adds documents.
pub(crate) const BASE: &str = "\
apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: { name: corp }
spec: { trustDomain: corp.example, baseDomain: apps.corp.example }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: team-a }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: stock, namespace: shop }
spec: { type: application, owner: team-a, ports: [ { name: web, port: 80, targetPort: 8080 } ] }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: old, namespace: shop }
spec: { type: application, owner: team-a, lifecycle: deprecated, ports: [ { name: web, port: 80 } ] }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: cards, namespace: finance }
spec: { type: interface, owner: team-a, external: [ { cidr: 203.0.113.0/24, port: 443 } ] }
";

pub(crate) fn findings(texts: &[(&str, &str)]) -> Vec<Finding> {
    match Catalog::parse(texts.iter().copied()) {
        Ok(catalog) => catalog.warnings,
        Err(findings) => findings,
    }
}

/// `expect`: for each finding, in order, `severity line `what is underlined` message | help`, where message and help may be beginnings.
#[track_caller]
pub(crate) fn check(added: &str, expect: &[&str]) {
    let found = findings(&[("base.yaml", BASE), ("x.yaml", added)]);
    let shown: Vec<String> = found.iter().map(one_line).collect();
    assert_eq!(shown.len(), expect.len(), "findings:\n{}\nof\n{added}", shown.join("\n"));
    for (got, want) in shown.iter().zip(expect) {
        let (want_message, want_help) = want.split_once(" | ").unwrap_or((want, ""));
        let (got_message, got_help) = got.split_once(" | ").unwrap();
        assert!(got_message.starts_with(want_message) && got_help.starts_with(want_help), "\ngot  {got}\nwant {want}\nof\n{added}");
    }
}

pub(crate) fn one_line(f: &Finding) -> String {
    let at = f.at.as_ref().map_or("-".to_owned(), |p| {
        let covered: String = f.snippet.iter().flat_map(|s| s.chars()).skip(p.column as usize - 1).take(p.length as usize).collect();
        format!("{} `{covered}`", p.line)
    });
    format!("{} {at} {} | {}", f.severity, f.message, f.help.as_deref().unwrap_or(""))
}

/// A service `shop/x` with this spec on line 4, beside what every service needs.
pub(crate) fn service(spec: &str) -> String {
    format!(
        "apiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: x, namespace: shop }}\nspec: {{ type: application, owner: team-a, {spec} }}\n"
    )
}
