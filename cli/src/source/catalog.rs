//! A catalog directory, linted or compiled on the spot.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;
use serde::Serialize;
use thiserror::Error;
use weft_catalog::{Catalog, Finding};
use weft_policy::{Ids, compile};
use weft_snapshot::Snapshot;
use weft_types::{Revision, RuleId, ServiceId, ServiceRef};

/// Stands where a catalog was compiled on the spot: a revision that no bridge gives, as 0 would mean that there is no snapshot.
pub const OFFLINE: Revision = Revision(u64::MAX);

/// All that is wrong with a directory.
#[derive(Debug, Default)]
pub struct Lint {
    pub findings: Vec<FindingView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingView {
    /// error, warning
    pub severity: &'static str,
    /// Relative to the directory; `null`: of the catalog as a whole.
    pub file: Option<String>,
    /// From 1; `null`: of the whole file.
    pub line: Option<u32>,
    pub column: Option<u32>,
    pub message: String,
    pub help: Option<String>,
    /// As `weft lint` prints it.
    #[serde(skip)]
    pub text: String,
}

#[derive(Debug, Error)]
#[error("the catalog in {dir} has errors:\n\n{findings}")]
pub struct CatalogError {
    dir: String,
    findings: String,
}

impl Lint {
    pub fn read(dir: &Path) -> Result<Self> {
        readable(dir)?;
        Ok(Self { findings: weft_catalog::lint(dir).iter().map(FindingView::from).collect() })
    }

    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|f| f.severity == "error").count()
    }

    pub fn warnings(&self) -> usize {
        self.findings.len() - self.errors()
    }
}

impl From<&Finding> for FindingView {
    fn from(f: &Finding) -> Self {
        let line = f.at.as_ref().filter(|at| at.line != 0);
        Self {
            severity: if f.is_error() { "error" } else { "warning" },
            file: f.at.as_ref().map(|at| at.file.to_string()),
            line: line.map(|at| at.line),
            column: line.map(|at| at.column),
            message: f.message.clone(),
            help: f.help.clone(),
            text: f.to_string(),
        }
    }
}

/// What the bridge would make of this directory, without endpoints and virtual IPs, which only it can give.
pub fn compile_catalog(dir: &Path) -> Result<Snapshot> {
    readable(dir)?;
    let catalog = Catalog::load(dir).map_err(|findings| CatalogError {
        dir: dir.display().to_string(),
        findings: findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"),
    })?;
    let compiled = compile(&catalog, &mut Fresh::default());
    let snapshot = Snapshot {
        revision: OFFLINE,
        mesh: catalog.mesh.name.to_string(),
        trust_domain: catalog.mesh.trust_domain.clone(),
        services: compiled.services,
        endpoints: Vec::new(),
        grants: compiled.grants,
        pending: compiled.pending,
        teams: compiled.teams,
        gateway: compiled.gateway,
    };
    Ok(snapshot.sorted())
}

/// A directory that cannot be read is an error, not a finding.
fn readable(dir: &Path) -> Result<()> {
    std::fs::read_dir(dir).map(drop).with_context(|| format!("cannot read catalog directory {}", dir.display()))
}

/// Numbers for one answer; the bridge has its own, which it keeps.
#[derive(Default)]
struct Fresh {
    services: BTreeMap<ServiceRef, u32>,
    rules: BTreeMap<String, u32>,
}

impl Ids for Fresh {
    fn service_id(&mut self, service: &ServiceRef) -> ServiceId {
        let next = u32::try_from(self.services.len()).unwrap_or(u32::MAX).saturating_add(1);
        ServiceId(*self.services.entry(service.clone()).or_insert(next))
    }

    /// None: an address that the bridge would not give must not be answered for.
    fn vip(&mut self, _: &ServiceRef, _: Ipv4Net) -> Option<Ipv4Addr> {
        None
    }

    fn rule_id(&mut self, key: &str) -> RuleId {
        let next = u32::try_from(self.rules.len()).unwrap_or(u32::MAX).saturating_add(1);
        RuleId(*self.rules.entry(key.to_owned()).or_insert(next))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::output::{Style, lint};

    fn check(yaml: &str, expect: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), yaml).unwrap();
        let text = lint(Style::default(), &Lint::read(dir.path()).unwrap());
        expect.iter().for_each(|e| assert!(text.contains(e), "{text}"));
    }

    const GOOD: &str =
        "apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: { name: corp }\nspec: { trustDomain: corp.example, serviceRange: 100.64.0.0/16 }\n";

    #[test]
    fn findings_are_shown_as_the_catalog_words_them_and_counted() {
        check(&GOOD.replace("trustDomain", "trustDomian"), &["error: ", "--> a.yaml:4:", "trustDomian", "\n1 error\n"]);
        let team = "---\napiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: { name: t }\nspec: { lead: a, contact: b }\n";
        let service = "---\napiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: { name: a, namespace: n }\nspec: { type: application, owner: t }\n";
        check(&format!("{GOOD}{team}{service}"), &["ok: no findings"]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_finding() {
        let e = format!("{:#}", Lint::read(Path::new("/nowhere/catalog")).unwrap_err());
        assert_eq!(e, "cannot read catalog directory /nowhere/catalog: No such file or directory (os error 2)");
    }
}
