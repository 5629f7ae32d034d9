//! What `cargo metadata` says, as far as the checks read it.

use std::collections::HashMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) resolve: Resolve,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    /// `None` for packages of this repository.
    pub(crate) source: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<Dep>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Dep {
    pub(crate) pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Debug, Deserialize)]
struct DepKind {
    /// `None` is a normal dependency.
    kind: Option<String>,
}

impl Dep {
    /// Whether it ends up in the program, as opposed to building or testing it.
    pub(crate) fn is_linked(&self) -> bool {
        self.dep_kinds.iter().any(|kind| kind.kind.is_none())
    }
}

impl Metadata {
    /// For the platform that weft is built for; what other platforms would pull in is not our business.
    pub(crate) fn read() -> Result<Metadata> {
        let json = process::output(&mut process::cargo(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]))?;
        serde_json::from_str(&json).context("cargo metadata wrote what is not its format")
    }

    pub(crate) fn package(&self, id: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.id == id)
    }

    /// Packages whose sources are in this repository.
    pub(crate) fn own(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_none())
    }

    pub(crate) fn nodes(&self) -> HashMap<&str, &Node> {
        self.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect()
    }
}
