//! Where findings are gathered: it knows the text of every file, so that each finding can show its line.

use std::{collections::HashMap, sync::Arc};

use crate::{Finding, Position, Severity, files::File, limits};

#[derive(Debug, Default)]
pub(crate) struct Report<'a> {
    texts: HashMap<Arc<str>, &'a str>,
    findings: Vec<Finding>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(files: &'a [File], findings: Vec<Finding>) -> Self {
        Self { texts: files.iter().map(|f| (f.name.clone(), f.text.as_str())).collect(), findings }
    }

    pub(crate) fn error(&mut self, at: &Position, message: impl Into<String>) -> Entry<'_> {
        self.add(Severity::Error, Some(at), message.into())
    }

    pub(crate) fn warning(&mut self, at: &Position, message: impl Into<String>) -> Entry<'_> {
        self.add(Severity::Warning, Some(at), message.into())
    }

    /// Of the catalog as a whole.
    pub(crate) fn error_overall(&mut self, message: impl Into<String>) -> Entry<'_> {
        self.add(Severity::Error, None, message.into())
    }

    /// As they were found, for a report of more.
    pub(crate) fn into_raw(self) -> Vec<Finding> {
        self.findings
    }

    pub(crate) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// In the order of files and lines; bounded.
    pub(crate) fn into_findings(mut self) -> Vec<Finding> {
        self.findings.sort_by(|a, b| (a.at.is_none(), &a.at, a.severity).cmp(&(b.at.is_none(), &b.at, b.severity)));
        self.findings.dedup();
        if self.findings.len() > limits::FINDINGS_MAX {
            let rest = self.findings.split_off(limits::FINDINGS_MAX);
            let severity = if rest.iter().any(Finding::is_error) { Severity::Error } else { Severity::Warning };
            self.findings.push(Finding { severity, at: None, message: format!("catalog has {} more findings", rest.len()), help: None, snippet: None });
        }
        self.findings
    }

    fn add(&mut self, severity: Severity, at: Option<&Position>, message: String) -> Entry<'_> {
        let snippet = at.and_then(|at| self.line(at));
        self.findings.push(Finding { severity, at: at.cloned(), message, help: None, snippet });
        Entry(self.findings.len() - 1, &mut self.findings)
    }

    fn line(&self, at: &Position) -> Option<String> {
        let text = self.texts.get(&at.file)?;
        text.lines().nth(at.line.checked_sub(1)? as usize).map(|l| l.trim_end().to_owned())
    }
}

/// A finding just made, to be given its way out.
pub(crate) struct Entry<'a>(usize, &'a mut Vec<Finding>);

impl Entry<'_> {
    pub(crate) fn help(self, help: impl Into<String>) {
        self.1[self.0].help = Some(help.into());
    }

    /// The line holds what nobody may read, so it is not shown.
    pub(crate) fn secret(self, help: impl Into<String>) {
        self.1[self.0].help = Some(help.into());
        self.1[self.0].snippet = None;
    }

    pub(crate) fn help_if(self, help: Option<String>) {
        self.1[self.0].help = help;
    }
}
