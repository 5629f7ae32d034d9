//! What a gateway needs beyond services and grants: its routes, who vouches for people, and what the portal shows. All that agents
//! judge by it is which of the gateway's ports are open to everybody.

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod wire;

use serde::Serialize;
use weft_types::{ClaimPath, HostName, Method, NameError, PathPattern, RuleId, ServiceId, builtin};

/// There is one where something is exposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gateway {
    /// The service that the gateway's workloads are.
    pub service: ServiceId,
    /// Portal and sign-on are at `portal.` of it, the local identity provider at `id.`.
    pub base_domain: HostName,
    /// TCP port of every public address.
    pub public_port: u16,
    /// TCP port that the gateway listens on; the kernel lets everybody in there.
    pub listen_port: u16,
    /// The same of the port where plain HTTP is only told the way to https; another one.
    pub redirect_port: Option<u16>,
    pub branding: Branding,
    /// Sorted by host and pattern.
    pub routes: Vec<Route>,
    /// Sorted by name; never none.
    pub providers: Vec<IdentityProvider>,
    /// Sorted by category, title, URL.
    pub bookmarks: Vec<Bookmark>,
}

impl Gateway {
    /// # Errors
    /// When the base domain is too long for it, which no decoded snapshot has.
    pub fn portal_host(&self) -> Result<HostName, NameError> {
        self.base_domain.child(builtin::PORTAL_HOST)
    }

    /// # Errors
    /// As [`Gateway::portal_host`].
    pub fn provider_host(&self) -> Result<HostName, NameError> {
        self.base_domain.child(builtin::PROVIDER_HOST)
    }

    /// The ports at which anybody may connect to it.
    pub fn open_ports(&self) -> impl Iterator<Item = u16> {
        std::iter::once(self.listen_port).chain(self.redirect_port)
    }

    /// `https://HOST`, with the port where it is not the one that everybody expects.
    pub fn origin(&self, host: &HostName) -> String {
        match self.public_port {
            443 => format!("https://{host}"),
            port => format!("https://{host}:{port}"),
        }
    }

    pub(crate) fn is_sorted(&self) -> bool {
        self.routes.is_sorted_by(|a, b| (&a.host, &a.path) <= (&b.host, &b.path))
            && self.providers.is_sorted_by(|a, b| a.name <= b.name)
            && self.bookmarks.is_sorted_by(|a, b| a.order() <= b.order())
    }

    pub(crate) fn sort(&mut self) {
        self.routes.sort_by(|a, b| (&a.host, &a.path).cmp(&(&b.host, &b.path)));
        self.providers.sort_by(|a, b| a.name.cmp(&b.name));
        self.bookmarks.sort_by(|a, b| a.order().cmp(&b.order()));
    }
}

/// How the portal looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Branding {
    pub title: String,
    /// Whom to ask when nothing else helps: free text, an address or a URL. Empty: nobody is named.
    pub support: String,
    /// `#rrggbb`; empty: the portal's own.
    pub accent: String,
    /// The same where it is dark.
    pub accent_dark: String,
    pub logo: Option<Logo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Logo {
    pub kind: LogoKind,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogoKind {
    Svg,
    Png,
}

impl LogoKind {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Svg => "image/svg+xml",
            Self::Png => "image/png",
        }
    }
}

/// Where requests of one host and pattern go, and whose may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Stable while the declaration says the same.
    pub rule: RuleId,
    pub service: ServiceId,
    /// Service port; the gateway dials the service's virtual IP at it.
    pub port: u16,
    pub upstream: Upstream,
    pub host: HostName,
    pub path: PathPattern,
    /// What stands for the pattern's prefix on the way to the application.
    pub rewrite: Option<PathPattern>,
    pub access: Access,
    /// Empty: every one.
    pub methods: Vec<Method>,
    pub cors: Option<Cors>,
    pub portal: PortalEntry,
    /// `file:line` of the exposure.
    pub declared_at: String,
}

impl Route {
    /// The path that goes to the application for `path`, which the route has taken.
    pub fn upstream_path(&self, path: &str) -> String {
        match &self.rewrite {
            Some(with) => self.path.rewritten(path, with.as_str()),
            None => path.to_owned(),
        }
    }

    /// HEAD is GET without the body (RFC 9110 §9.3.2).
    pub fn admits_method(&self, method: &str) -> bool {
        let named = |m: &str| self.methods.iter().any(|n| n.as_str() == m);
        self.methods.is_empty() || named(method) || method == "HEAD" && named("GET")
    }
}

/// What the application speaks behind the mesh, never over TLS of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Upstream {
    #[default]
    Http,
    /// HTTP/2 with prior knowledge.
    H2c,
    /// The same, and failures are told as gRPC tells them.
    Grpc,
}

impl Upstream {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    Public,
    /// Whoever has signed in.
    Authenticated,
    /// Whoever has signed in and is of one of them; never none.
    Groups(Vec<String>),
}

/// What scripts of other origins may ask; answered before anybody is asked to sign in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cors {
    /// `https://HOST[:PORT]`, or `*` alone for every origin, which then never sends credentials.
    pub origins: Vec<String>,
    /// Empty: those of the route, or every one.
    pub methods: Vec<Method>,
    /// In lower case.
    pub headers: Vec<String>,
    pub credentials: bool,
    /// How long browsers may remember the answer; 0: not at all.
    pub max_age_seconds: u32,
}

/// How a route appears in the portal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortalEntry {
    pub shown: Shown,
    pub title: String,
    pub icon: String,
    pub category: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// An application without a tile of its own is shown by the first of these that the person may open.
    #[default]
    Default,
    /// A tile of its own.
    Own,
    Hidden,
}

/// Who vouches for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdentityProvider {
    pub name: String,
    pub title: String,
    /// The IAM bridge's own: issuer and client follow from the mesh.
    pub builtin: bool,
    pub issuer: String,
    pub client_id: String,
    /// On the gateway's host; the secret itself is never here. Empty: a public client, or the local provider.
    pub client_secret_file: String,
    pub scopes: Vec<String>,
    pub claims: Claims,
    /// Groups that are taken from it, when they are named; others that it says are as if it had not. Empty: all.
    pub groups: Vec<String>,
    /// Audiences of bearer tokens that API clients may send; empty: none of its tokens are taken.
    pub api_audiences: Vec<String>,
    /// Where the gateway reaches it in the mesh; `None`: by the issuer's own address.
    pub via: Option<Via>,
    pub declared_at: String,
}

impl IdentityProvider {
    /// Whether the provider is believed about this group; one that it is not believed about counts as if it had not been said.
    pub fn vouches_for(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|g| g == group)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Via {
    pub service: ServiceId,
    /// Service port.
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// Together; a claim that is absent says nothing.
    pub groups: Vec<ClaimPath>,
    pub username: ClaimPath,
    pub email: ClaimPath,
    pub name: ClaimPath,
}

/// As OpenID Connect Core 1.0 §5.1 names them, and groups as most providers do.
impl Default for Claims {
    fn default() -> Self {
        let claim = |s: &str| s.parse().expect("a claim");
        Self { groups: vec![claim("groups")], username: claim("preferred_username"), email: claim("email"), name: claim("name") }
    }
}

/// Something outside that the portal shows beside the applications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bookmark {
    pub title: String,
    pub url: String,
    pub icon: String,
    pub category: String,
    /// Empty: for whoever has signed in.
    pub groups: Vec<String>,
}

impl Bookmark {
    fn order(&self) -> (&str, &str, &str) {
        (&self.category, &self.title, &self.url)
    }
}
