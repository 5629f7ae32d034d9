//! Dependencies point down. The house is drawn here once; `cargo xtask layers` compares the drawing with what cargo says.
//!
//! A crate that is not drawn is an error, so that where it belongs is decided when it is made.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Result, bail};

use crate::metadata::{Metadata, Node};

/// One floor of the house. A crate may use what is on a lower floor, and on its own floor only what [`SIDEWAYS`] draws.
struct Floor {
    name: &'static str,
    crates: &'static [&'static str],
}

/// Lowest first.
const HOUSE: &[Floor] = &[
    Floor { name: "this machine", crates: &["weft-host"] },
    Floor { name: "words and kernel ABI", crates: &["weft-types", "weft-ebpf-common"] },
    Floor { name: "model", crates: &["weft-snapshot", "weft-catalog"] },
    Floor { name: "policy", crates: &["weft-policy"] },
    Floor { name: "means", crates: &["weft-identity", "weft-tunnel", "weft-api", "weft-kernel", "weft-telemetry", "weft-config", "weft-lab", "weft-http"] },
    Floor { name: "programs", crates: &["weft-agent", "weft-gateway", "weft-iam-bridge", "weft-cli", "weft-demo"] },
    Floor { name: "end to end", crates: &["weft-tests", "weft-bench"] },
];

/// Arrows inside one floor, each with its reason.
const SIDEWAYS: &[(&str, &str)] = &[
    // What a file says of logs and metrics is read the same way everywhere.
    ("weft-config", "weft-telemetry"),
    // What is measured is the mesh that the tests raise.
    ("weft-bench", "weft-tests"),
];

/// Stands beside the house, linked with nothing in it but the ground floor: what builds and checks it, and the shop that is an example of a user's
/// programs.
const BESIDE: &[&str] = &["xtask", "shop-stock", "shop-storefront"];

/// No socket, no clock, no runtime: what these are linked with may not bring any.
const PURE: &[&str] = &["weft-types", "weft-ebpf-common", "weft-snapshot", "weft-catalog", "weft-policy", "weft-tunnel"];

/// What would make a pure crate impure.
const IMPURE: &[&str] = &["async-std", "aya", "hyper", "mio", "notify", "rusqlite", "rustls", "smol", "socket2", "tokio", "tonic", "tracing"];

/// One dependency between two crates of this repository.
type Arrow<'a> = (&'a str, &'a str);

pub(crate) fn run() -> Result<()> {
    let metadata = Metadata::read()?;
    let arrows = arrows(&metadata);
    let mut findings = undrawn(metadata.own().map(|package| package.name.as_str()));
    findings.extend(arrows.iter().filter_map(|arrow| judge(*arrow).err()));
    findings.extend(impurities(&metadata));
    if !findings.is_empty() {
        bail!("{} arrows or crates are not as xtask/src/layers.rs draws them:\n  {}", findings.len(), findings.join("\n  "));
    }
    println!("    {} crates, {} arrows, all pointing down", metadata.own().count(), arrows.len());
    Ok(())
}

fn arrows(metadata: &Metadata) -> BTreeSet<Arrow<'_>> {
    let nodes = metadata.nodes();
    let own: HashMap<&str, &str> = metadata.own().map(|package| (package.id.as_str(), package.name.as_str())).collect();
    own.iter()
        .filter_map(|(id, from)| nodes.get(id).map(|node| (*from, *node)))
        .flat_map(|(from, node)| node.deps.iter().filter_map(|dep| own.get(dep.pkg.as_str()).map(|to| (from, *to))).collect::<Vec<_>>())
        .filter(|(from, to)| from != to)
        .collect()
}

fn floor(name: &str) -> Option<usize> {
    HOUSE.iter().position(|floor| floor.crates.contains(&name))
}

fn undrawn<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names
        .filter(|name| floor(name).is_none() && !BESIDE.contains(name))
        .map(|name| format!("{name}: not in the drawing; add it to the floor it belongs on"))
        .collect()
}

fn judge((from, to): Arrow<'_>) -> Result<(), String> {
    if BESIDE.contains(&to) || (BESIDE.contains(&from) && floor(to) != Some(0)) {
        return Err(format!("{from} -> {to}: {} are linked with nothing of weft but \"{}\"", BESIDE.join(", "), HOUSE[0].name));
    }
    if BESIDE.contains(&from) {
        return Ok(());
    }
    let (Some(upper), Some(lower)) = (floor(from), floor(to)) else {
        // Said once, by `undrawn`.
        return Ok(());
    };
    let (here, there) = (HOUSE[upper].name, HOUSE[lower].name);
    match upper.cmp(&lower) {
        std::cmp::Ordering::Greater => Ok(()),
        std::cmp::Ordering::Equal if SIDEWAYS.contains(&(from, to)) => Ok(()),
        std::cmp::Ordering::Equal => Err(format!("{from} -> {to}: sideways on \"{here}\", where no arrow is drawn")),
        std::cmp::Ordering::Less => Err(format!("{from} -> {to}: up from \"{here}\" to \"{there}\"")),
    }
}

fn impurities(metadata: &Metadata) -> Vec<String> {
    let nodes = metadata.nodes();
    let mut findings = Vec::new();
    for package in metadata.own().filter(|package| PURE.contains(&package.name.as_str())) {
        for id in linked(&nodes, &package.id) {
            if let Some(found) = metadata.package(id).filter(|found| IMPURE.contains(&found.name.as_str())) {
                findings.push(format!("{} -> {}: a pure crate is linked with it", package.name, found.name));
            }
        }
    }
    findings
}

/// Everything that a package is linked with, itself included.
fn linked<'a>(nodes: &HashMap<&'a str, &'a Node>, id: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        if found.insert(id) {
            open.extend(nodes.get(id).into_iter().flat_map(|node| node.deps.iter().filter(|dep| dep.is_linked()).map(|dep| dep.pkg.as_str())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: &str, to: &str, expect: Result<(), &str>) {
        assert_eq!(judge((from, to)), expect.map_err(str::to_owned), "{from} -> {to}");
    }

    #[test]
    fn arrows_point_down() {
        check("weft-agent", "weft-policy", Ok(()));
        check("weft-policy", "weft-types", Ok(()));
        check("weft-bench", "weft-tests", Ok(()));
        check("weft-policy", "weft-kernel", Err("weft-policy -> weft-kernel: up from \"policy\" to \"means\""));
        check("weft-kernel", "weft-lab", Err("weft-kernel -> weft-lab: sideways on \"means\", where no arrow is drawn"));
        check("weft-cli", "weft-agent", Err("weft-cli -> weft-agent: sideways on \"programs\", where no arrow is drawn"));
        check("xtask", "weft-types", Err("xtask -> weft-types: xtask, shop-stock, shop-storefront are linked with nothing of weft but \"this machine\""));
        check("xtask", "weft-host", Ok(()));
    }

    #[test]
    fn a_crate_that_is_not_drawn_is_found() {
        assert_eq!(undrawn(["weft-types", "xtask"].into_iter()), Vec::<String>::new());
        assert_eq!(undrawn(["weft-new"].into_iter()), ["weft-new: not in the drawing; add it to the floor it belongs on"]);
    }

    #[test]
    fn a_runtime_is_found_behind_another_crate_but_not_behind_a_test() {
        let check = |kind: &str, expect: &[&str]| {
            let json = format!(
                r#"{{"packages":[
                    {{"id":"p","name":"weft-policy","source":null}},
                    {{"id":"m","name":"between","source":"r"}},
                    {{"id":"t","name":"tokio","source":"r"}}],
                  "resolve":{{"nodes":[
                    {{"id":"p","deps":[{{"pkg":"m","dep_kinds":[{{"kind":{kind}}}]}}]}},
                    {{"id":"m","deps":[{{"pkg":"t","dep_kinds":[{{"kind":null}}]}}]}},
                    {{"id":"t","deps":[]}}]}}}}"#
            );
            assert_eq!(impurities(&serde_json::from_str(&json).unwrap()), expect, "{kind}");
        };
        check("null", &["weft-policy -> tokio: a pure crate is linked with it"]);
        check("\"dev\"", &[]);
    }

    #[test]
    fn every_crate_stands_on_one_floor() {
        let mut names: Vec<&str> = HOUSE.iter().flat_map(|floor| floor.crates).copied().chain(BESIDE.iter().copied()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
