//! The answer to one question about a person and an address.

use serde::Serialize;
use weft_policy::{App, Contact, RequestDecision};

use crate::source::OFFLINE;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestView {
    /// allow, deny
    pub verdict: String,
    /// public, authenticated, group, own-page; sign-in, missing-group, method, no-host, no-route, not-normal
    pub reason: String,
    /// The same for people.
    pub explanation: String,
    /// `null`: decided on a catalog directory.
    pub revision: Option<u64>,
    /// `null`: no route took it.
    pub rule: Option<u32>,
    pub rule_declared_at: Option<String>,
    pub person: PersonView,
    pub method: String,
    pub url: String,
    /// `null`: no route took it, or the gateway itself did.
    pub app: Option<App>,
    /// The group that lets them in.
    pub group: Option<String>,
    /// Any one of these would do.
    pub missing: Vec<String>,
    /// Methods that the route takes, where it does not take this one.
    pub methods: Vec<String>,
    pub ask: Vec<Contact>,
    pub nearest_miss: Option<String>,
    /// The smallest one that would let it in.
    pub change: Option<String>,
    /// The same as YAML, where the catalog is a way.
    pub patch: Option<String>,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PersonView {
    /// `null`: anybody of the group, or (without groups) whoever has not signed in.
    pub user: Option<String>,
    pub groups: Vec<String>,
}

impl PersonView {
    pub fn is_anonymous(&self) -> bool {
        self.user.is_none() && self.groups.is_empty()
    }

    pub fn name(&self) -> String {
        match (&self.user, self.groups.first()) {
            (Some(user), _) => user.clone(),
            (None, Some(group)) => format!("a member of {group}"),
            (None, None) => "whoever has not signed in".to_owned(),
        }
    }
}

impl RequestView {
    pub fn allowed(&self) -> bool {
        self.verdict == "allow"
    }

    pub fn new(d: RequestDecision, person: PersonView, url: String, method: &str) -> Self {
        Self {
            verdict: d.verdict.to_string(),
            reason: d.reason.to_string(),
            explanation: d.reason.explain().to_owned(),
            revision: (d.revision != OFFLINE).then_some(d.revision.0),
            rule: (d.rule.0 != 0).then_some(d.rule.0),
            rule_declared_at: d.rule_declared_at,
            person,
            method: method.to_owned(),
            url,
            app: d.app,
            group: d.group,
            missing: d.missing,
            methods: d.methods,
            ask: d.ask,
            nearest_miss: d.nearest_miss,
            change: d.change,
            patch: d.patch,
            notes: vec![],
        }
    }
}
