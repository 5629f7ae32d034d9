//! The catalog of services: documents with positions, and what is wrong with them.
//!
//! Reads files and judges what they say together; what follows from a good catalog (grants, tables) is `weft-policy`'s business.
//! Nothing is skipped in silence: what this version cannot do is a finding. docs/catalog.md describes every field.

mod check;
mod document;
mod draft;
mod exposure;
mod files;
mod finding;
pub mod limits;
mod logo;
mod model;
mod raw;
mod read;
mod reader;
mod report;
mod suggest;

use std::path::Path;

pub use exposure::{Access, Bookmark, Branding, Claims, Client, Cors, Exposure, IdentityProvider, Logo, LogoKind, PortalTile, Upstream, Via};
pub use finding::{Finding, Position, Severity};
pub use model::{Catalog, Dependency, External, Lifecycle, Mesh, Port, Service, ServiceKind, Team, Workload};
pub use reader::Reader;

impl Catalog {
    /// Reads every `*.yaml` and `*.yml` below `dir`.
    ///
    /// # Errors
    /// All findings, warnings too, when at least one is an error.
    pub fn load(dir: &Path) -> Result<Self, Vec<Finding>> {
        Reader::default().load(dir)
    }

    /// The same from texts that are at hand: pairs of file name and content.
    ///
    /// # Errors
    /// As [`Catalog::load`].
    pub fn parse<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Vec<Finding>> {
        let files: Vec<_> = texts.into_iter().map(|(name, text)| files::File { name: name.into(), text: text.to_owned() }).collect();
        Reader::default().judge(&files, vec![], &|_| Err("there is no directory to read it from".to_owned()))
    }
}

/// Everything that is to be said about a directory, in the order of files and lines; errors and warnings.
pub fn lint(dir: &Path) -> Vec<Finding> {
    match Catalog::load(dir) {
        Ok(catalog) => catalog.warnings,
        Err(findings) => findings,
    }
}
