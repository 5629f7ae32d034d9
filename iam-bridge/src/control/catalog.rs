//! A catalog that was read becomes the one in force, or leaves the former one where it is.

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;
use tokio::sync::watch;
use weft_catalog::{Catalog, Finding};
use weft_policy::Compiled;
use weft_snapshot::Snapshot;
use weft_types::{Revision, TrustDomain};

use super::{Control, Node, Parts, Plan, PublishError, next_snapshot, place, publish, sign};
use crate::{
    limits,
    store::{Change, PublishedRow, StoreError},
};

/// Why a catalog is not put in force.
#[derive(Debug, Error)]
pub(crate) enum CatalogProblem {
    #[error("{} in the catalog", count(.0))]
    Findings(Vec<Finding>),
    #[error(
        "trust domain {declared} of the Mesh document is not {own}, for which this bridge's CA was made: set it back, or start a new mesh with an empty state_dir"
    )]
    TrustDomain { declared: TrustDomain, own: TrustDomain },
    #[error("serviceRange {range} has no address left for {services}: choose a wider one")]
    ServiceRange { range: ipnet::Ipv4Net, services: String },
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("the stored snapshot of revision {0} cannot be read: restore the database from a backup")]
    Stored(Revision, #[source] weft_snapshot::DecodeError),
}

impl From<StoreError> for CatalogProblem {
    fn from(error: StoreError) -> Self {
        Self::Publish(error.into())
    }
}

impl CatalogProblem {
    /// One text for each thing that is wrong.
    pub(crate) fn texts(&self) -> Vec<String> {
        match self {
            Self::Findings(findings) => findings.iter().filter(|f| f.is_error()).map(ToString::to_string).collect(),
            other => vec![format!("error: {}", chain(other))],
        }
    }
}

impl Control {
    /// Starts from the catalog; or, when that is broken, from the snapshot that was in force, if there was one.
    pub(crate) fn open(mut parts: Parts, catalog: Result<Catalog, Vec<Finding>>) -> Result<Self, CatalogProblem> {
        let stored = parts.store.published()?.map(|row| restore(&parts, row)).transpose()?;
        let nodes: BTreeMap<_, _> = parts.store.nodes()?.into_iter().map(Node::of).collect();
        let next_claim = nodes.values().flat_map(|n| &n.claims).map(|c| c.since + 1).max().unwrap_or(1);
        let (first, plan) = match stored {
            Some((published, plan)) => (published, plan),
            None => first(&mut parts, catalog.as_ref().map_err(|f| CatalogProblem::Findings(f.clone()))?)?,
        };
        parts.metrics.revision.set(first.snapshot.revision.0.cast_signed());
        let placement = place(&plan, &nodes);
        let bundle = parts.ca.bundle().expect("a loaded CA is a usable root");
        let mut control = Self {
            store: parts.store,
            ca: parts.ca,
            bundle,
            signing: parts.signing,
            ttls: parts.ttls,
            plan,
            nodes,
            placement,
            published: watch::Sender::new(Arc::new(first)),
            catalog_errors: vec![],
            catalog_warnings: vec![],
            next_claim,
            next_session: 1,
            metrics: parts.metrics,
        };
        // What it could not keep now, the watcher tries again.
        control.read_catalog(catalog);
        Ok(control)
    }

    /// Puts a catalog in force, or keeps the former one and says why. False: the catalog is not to blame, and the same may succeed later.
    pub(crate) fn read_catalog(&mut self, catalog: Result<Catalog, Vec<Finding>>) -> bool {
        let (warnings, outcome) = match catalog {
            Ok(catalog) => (texts(&catalog.warnings), self.apply(&catalog)),
            Err(findings) => (texts(findings.iter().filter(|f| !f.is_error())), Err(CatalogProblem::Findings(findings))),
        };
        let settled = !matches!(outcome, Err(CatalogProblem::Publish(PublishError::Store(_))));
        let errors = outcome.err().map(|p| p.texts()).unwrap_or_default();
        self.metrics.catalog_errors.set(i64::try_from(errors.len()).unwrap_or(i64::MAX));
        if errors != self.catalog_errors {
            for error in errors.iter().take(limits::FINDINGS_MAX) {
                tracing::error!(revision = %self.plan.snapshot.revision, "the catalog is not put in force, the former one stays: {error}");
            }
            if errors.is_empty() {
                tracing::info!("the catalog is in force again as its files say");
            }
        }
        if warnings != self.catalog_warnings {
            warnings.iter().take(limits::FINDINGS_MAX).for_each(|warning| tracing::warn!("catalog: {warning}"));
        }
        (self.catalog_errors, self.catalog_warnings) = (bounded(errors), bounded(warnings));
        settled
    }

    fn apply(&mut self, catalog: &Catalog) -> Result<(), CatalogProblem> {
        let own = self.ca.trust_domain();
        if catalog.mesh.trust_domain != *own {
            return Err(CatalogProblem::TrustDomain { declared: catalog.mesh.trust_domain.clone(), own: own.clone() });
        }
        let current = self.current();
        let change = self.store.change()?;
        let plan = compile(&change, catalog, current.snapshot.revision)?;
        let placement = place(&plan, &self.nodes);
        let next = next_snapshot(&current.snapshot, &plan, &placement.endpoints)?;
        let published = next.map(|snapshot| publish(&change, &self.signing, Some(&current), snapshot, plan.service_range)).transpose()?;
        change.commit()?;
        self.plan = plan;
        self.accept(placement, published);
        Ok(())
    }
}

fn restore(parts: &Parts, row: PublishedRow) -> Result<(super::Published, Plan), CatalogProblem> {
    let snapshot = weft_snapshot::decode(&row.payload).map_err(|e| CatalogProblem::Stored(row.revision, e))?;
    let plan = Plan { snapshot: Snapshot { endpoints: vec![], ..snapshot.clone() }, service_range: row.service_range };
    Ok((sign(&parts.signing, None, snapshot, row.payload), plan))
}

/// Revision 1 of a new mesh.
fn first(parts: &mut Parts, catalog: &Catalog) -> Result<(super::Published, Plan), CatalogProblem> {
    let change = parts.store.change()?;
    let plan = compile(&change, catalog, Revision(1))?;
    let published = publish(&change, &parts.signing, None, plan.snapshot.clone(), plan.service_range)?;
    change.commit()?;
    Ok((published, plan))
}

fn compile(change: &Change<'_>, catalog: &Catalog, revision: Revision) -> Result<Plan, CatalogProblem> {
    let mut ids = change.ids();
    let Compiled { services, grants, pending, teams, gateway, without_vip } = weft_policy::compile(catalog, &mut ids);
    ids.finish().map_err(|e| change.fail(e))?;
    let service_range = catalog.mesh.service_range;
    if !without_vip.is_empty() {
        let services = without_vip.iter().take(5).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(CatalogProblem::ServiceRange { range: service_range, services });
    }
    let mesh = &catalog.mesh;
    let snapshot = Snapshot {
        revision,
        mesh: mesh.name.to_string(),
        trust_domain: mesh.trust_domain.clone(),
        services,
        endpoints: vec![],
        grants,
        pending,
        teams,
        gateway,
    };
    Ok(Plan { snapshot: snapshot.sorted(), service_range })
}

fn texts<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Vec<String> {
    findings.into_iter().map(ToString::to_string).collect()
}

fn bounded(mut texts: Vec<String>) -> Vec<String> {
    if texts.len() > limits::FINDINGS_MAX {
        let rest = texts.len() - limits::FINDINGS_MAX;
        texts.truncate(limits::FINDINGS_MAX);
        texts.push(format!("and {rest} more: `weft lint` shows all"));
    }
    texts
}

fn count(findings: &[Finding]) -> String {
    match findings.iter().filter(|f| f.is_error()).count() {
        1 => "1 error".into(),
        n => format!("{n} errors"),
    }
}

/// An error with what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // A transparent error says its cause's words already.
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

/// The trust domain that a bridge starts with: the catalog's, or when that is broken the one that it had.
pub(crate) fn trust_domain(store: &crate::store::Store, catalog: &Result<Catalog, Vec<Finding>>) -> Result<TrustDomain, CatalogProblem> {
    if let Some(row) = store.published()? {
        let snapshot = weft_snapshot::decode(&row.payload).map_err(|e| CatalogProblem::Stored(row.revision, e))?;
        return Ok(snapshot.trust_domain);
    }
    match catalog {
        Ok(catalog) => Ok(catalog.mesh.trust_domain.clone()),
        Err(findings) => Err(CatalogProblem::Findings(findings.clone())),
    }
}
