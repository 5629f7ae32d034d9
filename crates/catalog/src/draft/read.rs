//! Single values: text into newtypes, each fault with its place.

use std::{fmt::Display, str::FromStr};

use ipnet::Ipv4Net;
use weft_types::{PortRef, Protocol};

use crate::{
    Position,
    document::Document,
    limits,
    raw::{Metadata, Text},
    report::Report,
    suggest,
};

/// As in Kubernetes.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";
/// The tunnel listens on it at every workload's address (`ebpf/common`, `TUNNEL_PORT`).
const TUNNEL_PORT: u16 = 15008;

pub(crate) struct Reader<'a, 'r> {
    pub(crate) document: &'a Document<'a>,
    pub(crate) report: &'a mut Report<'r>,
    /// What the document declares, in words.
    what: &'static str,
    /// A part was left out.
    pub(crate) broken: bool,
}

impl<'a, 'r> Reader<'a, 'r> {
    pub(crate) fn new(document: &'a Document<'a>, report: &'a mut Report<'r>, what: &'static str) -> Self {
        Self { document, report, what, broken: false }
    }

    pub(crate) fn at(&self, text: &Text) -> Position {
        self.document.position(text.referenced)
    }

    pub(crate) fn refuse(&mut self, at: &Position, message: impl Into<String>, help: Option<&str>) {
        self.broken = true;
        self.report.error(at, message).help_if(help.map(ToOwned::to_owned));
    }

    /// Without it a document is nothing, and nothing else of it is looked at.
    pub(crate) fn name<T: FromStr<Err: Display>>(&mut self, metadata: &Metadata) -> Option<(T, Position)> {
        let Some(name) = &metadata.name else {
            let message = format!("{} has no metadata.name", self.what);
            self.refuse(&self.document.beginning(), message, Some("add `metadata: { name: … }`"));
            return None;
        };
        self.parse(name).map(|parsed| (parsed, self.at(name)))
    }

    pub(crate) fn no_namespace(&mut self, metadata: &Metadata) {
        if let Some(namespace) = &metadata.namespace {
            let message = format!("a {} belongs to no namespace", self.what);
            self.refuse(&self.at(namespace), message, Some("remove metadata.namespace"));
        }
    }

    pub(crate) fn parse<T: FromStr<Err: Display>>(&mut self, text: &Text) -> Option<T> {
        text.value.parse().map_err(|e: T::Err| self.refuse(&self.at(text), e.to_string(), None)).ok()
    }

    /// Free text: not empty, one line, bounded.
    pub(crate) fn text(&mut self, text: Option<Text>) -> Option<String> {
        let text = text?;
        let at = self.at(&text);
        let fault = if text.value.trim().is_empty() {
            "text is empty".to_owned()
        } else if text.value.chars().count() > limits::TEXT_MAX_CHARS {
            format!("text is longer than {} characters", limits::TEXT_MAX_CHARS)
        } else if text.value.chars().any(char::is_control) {
            "text holds a control character".to_owned()
        } else {
            return Some(text.value);
        };
        self.refuse(&at, fault, None);
        None
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&mut self, field: &str, text: &Text, words: &[(&'static str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let all = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            let help = match suggest::closest(&text.value, words.iter().map(|(word, _)| *word)) {
                Some(close) => format!("did you mean {close}? it is one of {all}"),
                None => format!("it is one of {all}"),
            };
            self.refuse(&self.at(text), format!("{field} {:?} is not known", text.value), Some(&help));
        }
        found.map(|(_, value)| *value)
    }

    pub(crate) fn port_number(&mut self, text: &Text) -> Option<u16> {
        let at = self.at(text);
        match text.value.parse::<u16>() {
            Ok(TUNNEL_PORT) => {
                self.refuse(&at, format!("port {TUNNEL_PORT} belongs to the mesh's tunnel on every workload's address"), Some("choose another port"))
            }
            Ok(n) if n != 0 => return Some(n),
            _ => self.refuse(&at, format!("port {:?} is no number from 1 to 65535", text.value), None),
        }
        None
    }

    pub(crate) fn port_ref(&mut self, text: &Text) -> Option<PortRef> {
        if text.value.parse::<PortRef>().is_err() {
            let message = format!("port {:?} is neither a number from 1 to 65535 nor a port name", text.value);
            self.refuse(&self.at(text), message, None);
        }
        text.value.parse().ok()
    }

    pub(crate) fn protocol(&mut self, text: Option<&Text>) -> Option<Protocol> {
        match text {
            None => Some(Protocol::Tcp),
            Some(text) => self.word("protocol", text, &[("TCP", Protocol::Tcp), ("UDP", Protocol::Udp)]),
        }
    }

    pub(crate) fn ipv4_range(&mut self, text: &Text) -> Option<Ipv4Net> {
        let at = self.at(text);
        let Ok(range) = text.value.parse::<Ipv4Net>() else {
            self.refuse(&at, format!("range {:?} is no IPv4 prefix", text.value), Some("write it like 100.64.0.0/16"));
            return None;
        };
        if range.trunc() != range {
            let help = format!("the prefix is {}", range.trunc());
            self.refuse(&at, format!("range {range} has bits set behind its prefix"), Some(&help));
            return None;
        }
        Some(range)
    }

    /// A bounded list; one that is too long is left out whole.
    pub(crate) fn list<T>(&mut self, field: &str, list: Option<Vec<T>>, max: usize, at: &Position) -> Vec<T> {
        let list = list.unwrap_or_default();
        if list.len() > max {
            self.refuse(at, format!("spec.{field} has {} entries, at most {max} are allowed", list.len()), None);
            return vec![];
        }
        list
    }
}
