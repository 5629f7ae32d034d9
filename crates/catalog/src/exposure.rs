//! What is open to people, and who vouches for them: the gateway's side of the catalog as the domain sees it.

use weft_types::{ClaimPath, HostName, Label, Method, PathPattern, PortRef, ServiceRef};

use crate::Position;

/// One way from outside to a port of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Service port, TCP.
    pub port: u16,
    pub upstream: Upstream,
    /// In full.
    pub host: HostName,
    pub path: PathPattern,
    /// What stands for the pattern's prefix on the way to the application.
    pub rewrite: Option<PathPattern>,
    pub access: Access,
    /// Empty: every one.
    pub methods: Vec<Method>,
    pub cors: Option<Cors>,
    /// `None`: as the portal shows what says nothing.
    pub portal: Option<PortalTile>,
    pub at: Position,
}

/// What the application speaks, by its port's `appProtocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Upstream {
    #[default]
    Http,
    H2c,
    Grpc,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    Public,
    Authenticated,
    /// Any of them; never none.
    Groups(Vec<String>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// `https://HOST[:PORT]`, or `*` alone.
    pub origins: Vec<String>,
    pub methods: Vec<Method>,
    /// In lower case.
    pub headers: Vec<String>,
    pub credentials: bool,
    pub max_age_seconds: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortalTile {
    /// Empty: the service's.
    pub title: String,
    pub icon: String,
    pub category: String,
    pub hidden: bool,
}

/// How the portal looks, and whom it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branding {
    pub title: String,
    pub support: String,
    /// `#rrggbb` in lower case; empty: the portal's own.
    pub accent: String,
    pub accent_dark: String,
    pub logo: Option<Logo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logo {
    pub kind: LogoKind,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogoKind {
    Svg,
    Png,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProvider {
    pub name: Label,
    pub title: String,
    /// `None`: the IAM bridge's own.
    pub client: Option<Client>,
    pub claims: Claims,
    /// Groups that are taken from it; empty: all.
    pub groups: Vec<String>,
    /// Audiences of bearer tokens that API clients may send; empty: none are taken.
    pub api_audiences: Vec<String>,
    pub at: Position,
}

/// How weft is known at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub issuer: String,
    pub id: String,
    /// On the gateway's host. Empty: a public client.
    pub secret_file: String,
    pub scopes: Vec<String>,
    /// Where the provider is in the mesh; `None`: outside, at the issuer's address.
    pub via: Option<Via>,
}

/// A service and one of its ports, which must be the only one where it is not named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    pub service: ServiceRef,
    pub port: Option<PortRef>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub groups: Vec<ClaimPath>,
    pub username: ClaimPath,
    pub email: ClaimPath,
    pub name: ClaimPath,
}

/// Something outside that the portal shows beside the applications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    pub title: String,
    pub url: String,
    pub icon: String,
    pub category: String,
    /// Empty: for whoever has signed in.
    pub groups: Vec<String>,
    pub at: Position,
}
