//! A directory that is read again and again: a file whose text is what it was before is not parsed again. What its documents say about each other is
//! judged anew each time.

use std::{collections::HashMap, path::Path, sync::Arc};

use crate::{
    Catalog, Finding, check,
    files::{self, File},
    limits, logo,
    read::{self, Drafts},
    report::Report,
};

/// Gives a file of the catalog that is no document, by its path relative to the catalog; or says why not.
pub(crate) type Assets<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

/// Reads a catalog, and remembers what its files said.
#[derive(Debug, Default)]
pub struct Reader {
    known: HashMap<Arc<str>, Known>,
}

#[derive(Debug)]
struct Known {
    text: String,
    drafts: Drafts,
    findings: Vec<Finding>,
}

impl Reader {
    /// As [`Catalog::load`].
    ///
    /// # Errors
    /// As [`Catalog::load`].
    pub fn load(&mut self, dir: &Path) -> Result<Catalog, Vec<Finding>> {
        let (files, findings) = files::read(dir);
        self.judge(&files, findings, &|path| files::asset(dir, path))
    }

    pub(crate) fn judge(&mut self, files: &[File], findings: Vec<Finding>, assets: Assets<'_>) -> Result<Catalog, Vec<Finding>> {
        let mut former = std::mem::take(&mut self.known);
        let incomplete = findings.iter().any(Finding::is_error);
        let (mut report, mut drafts) = (Report::new(files, findings), Drafts { incomplete, ..Drafts::default() });
        for file in files {
            let room = limits::DOCUMENTS_MAX - drafts.documents;
            let known = former.remove(&file.name).filter(|k| k.text == file.text && k.drafts.documents <= room);
            let known = known.unwrap_or_else(|| Known::read(file, room));
            drafts.add(&known.drafts);
            report.extend(known.findings.iter().cloned());
            if known.drafts.full {
                break;
            }
            self.known.insert(file.name.clone(), known);
        }
        check::check(&drafts, &mut report);
        let logo = logo::read(&drafts, assets, &mut report);
        let findings = report.into_findings();
        if findings.iter().any(Finding::is_error) {
            return Err(findings);
        }
        match check::finish(&drafts) {
            Some((mut mesh, mut services)) => {
                mesh.portal.logo = logo;
                let mut teams = drafts.teams;
                teams.sort_by(|a, b| a.name.cmp(&b.name));
                services.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(Catalog { mesh, teams, services, warnings: findings })
            }
            None => Err(findings),
        }
    }
}

impl Known {
    fn read(file: &File, room: usize) -> Self {
        let mut report = Report::new(std::slice::from_ref(file), vec![]);
        let drafts = read::read(file, room, &mut report);
        let findings = report.into_raw();
        Self { text: file.text.clone(), drafts, findings }
    }
}
