//! Which route takes a request: of one host, an exact path before one with `{segment}`s before the longest prefix.
//!
//! Of two paths with `{segment}`s the one that is plain at the first step where they differ comes first.

use std::collections::HashMap;

use weft_snapshot::Route;
use weft_types::{HostName, PathKind, Segment, url_path};

/// Indices into the routes that it was made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    by_host: HashMap<HostName, Host>,
}

#[derive(Clone, Debug, Default)]
struct Host {
    exact: HashMap<String, usize>,
    templates: Step,
    /// Without the slash at the end, so that `/` is empty.
    prefixes: HashMap<String, usize>,
    /// Of the longest prefix, in bytes: no longer part of a path is looked up.
    prefix_max_bytes: usize,
}

/// Where one gets by some steps of a path.
#[derive(Clone, Debug, Default)]
struct Step {
    literals: HashMap<String, Step>,
    any: Option<Box<Step>>,
    route: Option<usize>,
}

impl Routes {
    /// Of two routes that take the same paths the first has them; the catalog and the snapshot refuse that anyway.
    pub(crate) fn new(routes: &[Route]) -> Self {
        let mut all = Self::default();
        for (i, route) in routes.iter().enumerate() {
            let host = all.by_host.entry(route.host.clone()).or_default();
            let text = route.path.as_str();
            match route.path.kind() {
                PathKind::Exact => {
                    host.exact.entry(text.to_owned()).or_insert(i);
                }
                PathKind::Template => host.templates.grow(route.path.segments(), i),
                PathKind::Prefix => {
                    let text = text.strip_suffix('/').unwrap_or(text);
                    host.prefixes.entry(text.to_owned()).or_insert(i);
                    host.prefix_max_bytes = host.prefix_max_bytes.max(text.len());
                }
            }
        }
        all
    }

    /// `None` also for a path that is not in normal form, or the gateway's own: no application ever gets to see one. Nor does it see one that it could
    /// read as another route's, by leaving out parameters (`/admin;x`).
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<usize> {
        let host = self.by_host.get(host)?;
        let found = host.find(path)?;
        match url_path::without_parameters(path) {
            Some(other) => Some(found).filter(|_| host.find(&other) == Some(found)),
            None => Some(found),
        }
    }

    /// Every host that something is exposed at, in no order.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.by_host.keys()
    }
}

impl Host {
    fn find(&self, path: &str) -> Option<usize> {
        if url_path::check_normal(path).is_err() || url_path::is_own(path) {
            return None;
        }
        let exact = self.exact.get(path).copied();
        exact.or_else(|| self.templates.find(path.strip_prefix('/'))).or_else(|| self.longest_prefix(path))
    }

    fn longest_prefix(&self, path: &str) -> Option<usize> {
        let borders = path.bytes().enumerate().rev().filter(|(_, byte)| *byte == b'/').map(|(i, _)| i);
        let mut candidates = [path.len()].into_iter().chain(borders).filter(|end| *end <= self.prefix_max_bytes);
        candidates.find_map(|end| self.prefixes.get(&path[..end]).copied())
    }
}

impl Step {
    fn grow<'a>(&mut self, mut path: impl Iterator<Item = Segment<'a>>, route: usize) {
        let mut at = self;
        for segment in path.by_ref() {
            at = match segment {
                Segment::Literal(literal) => at.literals.entry(literal.to_owned()).or_default(),
                Segment::Any => at.any.get_or_insert_default(),
            };
        }
        at.route.get_or_insert(route);
    }

    /// `rest` is what is left of the path behind a slash; `None`: nothing. It goes no deeper than the patterns do.
    fn find(&self, rest: Option<&str>) -> Option<usize> {
        let Some(rest) = rest else { return self.route };
        let (step, rest) = rest.split_once('/').map_or((rest, None), |(step, rest)| (step, Some(rest)));
        let plain = self.literals.get(step).and_then(|next| next.find(rest));
        plain.or_else(|| self.any.as_ref().filter(|_| !step.is_empty())?.find(rest))
    }
}
