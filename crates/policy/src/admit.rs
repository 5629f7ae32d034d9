//! Who may send which request: the one function that the gateway asks of each, and `weft can` of those that nobody has sent.

use serde::Serialize;
use weft_snapshot::{Access, Route};
use weft_types::{Method, Verdict};

use crate::Index;

/// Who sends a request, as far as the identity provider has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who<'a> {
    /// Nobody has signed in, or nothing of it could be verified.
    Anonymous,
    Person {
        /// For people to read; it decides nothing.
        name: &'a str,
        groups: &'a [String],
    },
}

/// The verdict on one request, without words; [`Index::explain_request`] finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission<'a> {
    Allow(Basis<'a>),
    /// Whoever signs in may be let in; nobody has.
    SignIn,
    /// Whoever it is is of none of the groups, any one of which would do.
    MissingGroup {
        any_of: &'a [String],
    },
    /// They may come in, but not ask that.
    Method {
        allowed: &'a [Method],
    },
}

/// What lets a request in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis<'a> {
    Public,
    Authenticated,
    /// The first of the route's groups that the person has.
    Group(&'a str),
}

/// Why a request is let in or not, as a word that programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessReason {
    Public,
    Authenticated,
    Group,
    OwnPage,
    SignIn,
    MissingGroup,
    Method,
    NoHost,
    NoRoute,
    NotNormal,
}

impl Admission<'_> {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    pub fn reason(&self) -> AccessReason {
        match self {
            Self::Allow(Basis::Public) => AccessReason::Public,
            Self::Allow(Basis::Authenticated) => AccessReason::Authenticated,
            Self::Allow(Basis::Group(_)) => AccessReason::Group,
            Self::SignIn => AccessReason::SignIn,
            Self::MissingGroup { .. } => AccessReason::MissingGroup,
            Self::Method { .. } => AccessReason::Method,
        }
    }
}

impl AccessReason {
    pub const ALL: [Self; 10] = [
        Self::Public,
        Self::Authenticated,
        Self::Group,
        Self::OwnPage,
        Self::SignIn,
        Self::MissingGroup,
        Self::Method,
        Self::NoHost,
        Self::NoRoute,
        Self::NotNormal,
    ];

    pub fn verdict(self) -> Verdict {
        match self {
            Self::Public | Self::Authenticated | Self::Group | Self::OwnPage => Verdict::Allow,
            _ => Verdict::Deny,
        }
    }

    /// The word; part of the public interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Authenticated => "authenticated",
            Self::Group => "group",
            Self::OwnPage => "own-page",
            Self::SignIn => "sign-in",
            Self::MissingGroup => "missing-group",
            Self::Method => "method",
            Self::NoHost => "no-host",
            Self::NoRoute => "no-route",
            Self::NotNormal => "not-normal",
        }
    }

    /// One sentence for people, without a full stop.
    pub fn explain(self) -> &'static str {
        match self {
            Self::Public => "it is open to everybody",
            Self::Authenticated => "it is open to whoever has signed in",
            Self::Group => "it is open to a group that they are in",
            Self::OwnPage => "it is a page of the gateway itself",
            Self::SignIn => "nobody has signed in",
            Self::MissingGroup => "they are in none of the groups that it is open to",
            Self::Method => "it does not take this method",
            Self::NoHost => "nothing is exposed at this host",
            Self::NoRoute => "nothing is exposed at this path",
            Self::NotNormal => "the path is not in the form that decisions are made on",
        }
    }
}

impl std::fmt::Display for AccessReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Index {
    /// The route that takes a request: `host` in lower case and without a port, `path` in normal form ([`weft_types::url_path::check_normal`]) and without
    /// its query. What is not so is taken by none.
    pub fn route(&self, host: &str, path: &str) -> Option<&Route> {
        let i = self.routes.find(host, path)?;
        self.snapshot().gateway.as_ref()?.routes.get(i)
    }

    /// Whether `who` may send a request of this method to `route`. Costs no allocation.
    pub fn admit<'a>(&self, route: &'a Route, who: Who<'_>, method: &str) -> Admission<'a> {
        let basis = match (&route.access, who) {
            (Access::Public, _) => Basis::Public,
            (_, Who::Anonymous) => return Admission::SignIn,
            (Access::Authenticated, Who::Person { .. }) => Basis::Authenticated,
            (Access::Groups(any_of), Who::Person { groups, .. }) => match any_of.iter().find(|group| groups.contains(group)) {
                Some(group) => Basis::Group(group),
                None => return Admission::MissingGroup { any_of },
            },
        };
        if route.admits_method(method) { Admission::Allow(basis) } else { Admission::Method { allowed: &route.methods } }
    }
}
