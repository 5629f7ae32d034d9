//! The catalog as the domain sees it: names parsed, defaults filled in, every thing knows where it was written.

use ipnet::{IpNet, Ipv4Net};
use weft_types::{Consumer, HostName, Label, PortName, PortRef, Protocol, ServiceRef, TeamName, TrustDomain};

use crate::{Bookmark, Branding, Exposure, Finding, IdentityProvider, Position};

/// Everything that one directory declares, free of errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    pub mesh: Mesh,
    /// Sorted by name.
    pub teams: Vec<Team>,
    /// Sorted by name.
    pub services: Vec<Service>,
    /// What is allowed but probably not meant, and what this version does not do yet.
    pub warnings: Vec<Finding>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    pub name: Label,
    pub trust_domain: TrustDomain,
    /// Applications are exposed below it.
    pub base_domain: Option<HostName>,
    /// TCP port of every public address.
    pub public_port: u16,
    /// TCP port that the gateway listens on.
    pub listen_port: u16,
    /// Another, where plain HTTP is answered with the way to https.
    pub redirect_port: Option<u16>,
    /// Virtual IPs come from here.
    pub service_range: Ipv4Net,
    pub portal: Branding,
    /// Empty: the IAM bridge's own.
    pub identity_providers: Vec<IdentityProvider>,
    pub bookmarks: Vec<Bookmark>,
    pub at: Position,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    pub name: TeamName,
    pub lead: String,
    pub contact: String,
    pub groups: Vec<String>,
    pub at: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    Application,
    Resource,
    Interface,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lifecycle {
    Experimental,
    #[default]
    Production,
    Deprecated,
}

impl Lifecycle {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Experimental => "experimental",
            Self::Production => "production",
            Self::Deprecated => "deprecated",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: ServiceRef,
    pub kind: ServiceKind,
    pub title: String,
    pub owner: TeamName,
    pub capability: String,
    pub lifecycle: Lifecycle,
    /// `sa` of its identity.
    pub service_account: Label,
    pub workloads: Vec<Workload>,
    pub replicas_min: Option<u32>,
    pub ports: Vec<Port>,
    pub consumers: Vec<Consumer>,
    pub depends_on: Vec<Dependency>,
    pub external: Vec<External>,
    pub expose: Vec<Exposure>,
    pub at: Position,
}

/// How a running workload shows that it implements the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workload {
    ServiceAccount(Label),
    Container(String),
    Compose { project: String, service: String },
    SystemdUnit(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: PortName,
    pub port: u16,
    pub target_port: u16,
    pub protocol: Protocol,
    pub app_protocol: Option<String>,
    pub at: Position,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub target: ServiceRef,
    /// `None`: every declared port.
    pub port: Option<PortRef>,
    /// It speaks of HTTP, which this version cannot judge and so denies.
    pub http: bool,
    pub at: Position,
}

/// A place outside the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    pub cidr: IpNet,
    pub port: u16,
    pub protocol: Protocol,
    pub at: Position,
}

impl Catalog {
    /// Whether there is anything for a gateway to do, and so its own services.
    pub fn has_gateway(&self) -> bool {
        let mesh = &self.mesh;
        self.services.iter().any(|s| !s.expose.is_empty()) || !mesh.identity_providers.is_empty() || !mesh.bookmarks.is_empty()
    }

    /// Whether people sign in at the IAM bridge's own provider.
    pub fn has_local_provider(&self) -> bool {
        let all = &self.mesh.identity_providers;
        self.has_gateway() && (all.is_empty() || all.iter().any(|p| p.client.is_none()))
    }
}

impl Service {
    /// Whether `consumer` may declare a dependency on this service: its own namespace always, others by consent.
    pub fn consents_to(&self, consumer: &ServiceRef) -> bool {
        consumer.namespace == self.name.namespace || self.consumers.iter().any(|c| c.admits(consumer))
    }

    /// The ports that a dependency means: one, or all declared ones. An interface's are those of its ranges. Empty when `port` names none.
    pub fn ports_meant(&self, port: Option<&PortRef>) -> Vec<(u16, Protocol)> {
        ports_meant(&self.ports, &self.external, port)
    }
}

pub(crate) fn ports_meant(ports: &[Port], external: &[External], port: Option<&PortRef>) -> Vec<(u16, Protocol)> {
    let meant = |name: Option<&PortName>, number: u16| match port {
        None => true,
        Some(PortRef::Number(n)) => *n == number,
        Some(PortRef::Name(n)) => name == Some(n),
    };
    let own = ports.iter().filter(|p| meant(Some(&p.name), p.port)).map(|p| (p.port, p.protocol));
    let outside = external.iter().filter(|e| meant(None, e.port)).map(|e| (e.port, e.protocol));
    let mut all: Vec<_> = own.chain(outside).collect();
    all.sort_unstable();
    all.dedup();
    all
}
