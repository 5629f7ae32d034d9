//! The answer to one `weft can` question.

use serde::Serialize;
use weft_policy::{Decision, Party};
use weft_types::Verdict;

use crate::source::OFFLINE;

const BUILTIN: &str = "a rule of weft's own allows it: the gateway reaches what is exposed, and who vouches for people, and the local identity provider tells it who has signed out";

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnswerView {
    /// allow, deny
    pub verdict: String,
    /// The word of `weft_types::Reason`.
    pub reason: String,
    /// The same for people.
    pub explanation: String,
    /// `null`: decided on a catalog directory.
    pub revision: Option<u64>,
    /// `null`: no rule matched.
    pub rule: Option<u32>,
    pub rule_declared_at: Option<String>,
    /// The rule is weft's own: it follows from what is exposed.
    pub builtin: bool,
    pub source: Option<PartyView>,
    pub destination: Option<PartyView>,
    /// What was asked for, when it belongs to no service.
    pub address: Option<String>,
    pub port: u16,
    pub port_name: Option<String>,
    pub protocol: String,
    pub nearest_miss: Option<String>,
    /// YAML to add, for a default deny.
    pub patch: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartyView {
    pub service: String,
    pub identity: String,
    pub owner: String,
    pub declared_at: String,
}

impl AnswerView {
    pub fn allowed(&self) -> bool {
        self.verdict == "allow"
    }

    pub fn new(decision: Decision, address: Option<String>, port_name: Option<String>) -> Self {
        Self {
            verdict: match decision.verdict {
                Verdict::Allow => "allow".to_owned(),
                Verdict::Deny => "deny".to_owned(),
            },
            reason: decision.reason.to_string(),
            explanation: match decision.builtin {
                true if decision.verdict == Verdict::Allow => BUILTIN.to_owned(),
                _ => decision.reason.explain().to_owned(),
            },
            revision: (decision.revision != OFFLINE).then_some(decision.revision.0),
            rule: (decision.rule.0 != 0).then_some(decision.rule.0),
            rule_declared_at: decision.rule_declared_at,
            builtin: decision.builtin,
            source: decision.source.map(PartyView::from),
            address: decision.destination.is_none().then_some(address).flatten(),
            destination: decision.destination.map(PartyView::from),
            port: decision.port,
            port_name,
            protocol: decision.protocol.to_string(),
            nearest_miss: decision.nearest_miss,
            patch: decision.patch,
        }
    }

    /// `shop/orders:80`, or the address.
    pub fn to(&self) -> String {
        let host = match (&self.destination, &self.address) {
            (Some(d), _) => d.service.clone(),
            (None, Some(a)) if a.contains(':') => format!("[{a}]"),
            (None, a) => a.clone().unwrap_or_default(),
        };
        format!("{host}:{}", self.port)
    }
}

impl From<Party> for PartyView {
    fn from(p: Party) -> Self {
        Self { service: p.service.to_string(), identity: p.identity.to_string(), owner: p.owner.to_string(), declared_at: p.declared_at }
    }
}
