//! One revision of the policy, as the gateway uses it. Replaced whole; a request is judged by one of them from its beginning to its end.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use crate::pages::Brand;
use prost::Message as _;
use thiserror::Error;
use tokio::sync::watch;
use weft_api::bridge::v1::Envelope;
use weft_policy::Index;
use weft_snapshot::{Gateway, IdentityProvider, Service, decode};
use weft_types::{HostName, Protocol, Revision, ServiceId, builtin};

/// Who waits for a revision, and who has it. `None`: there is none yet, or nothing is exposed in it.
pub type Worlds = watch::Receiver<Option<Arc<World>>>;

pub struct World {
    index: Index,
    portal_host: String,
    provider_host: Option<String>,
    hosts: HashSet<String>,
    /// Addresses that one workload alone has, by service.
    endpoints: HashMap<ServiceId, Vec<IpAddr>>,
    brand: Brand,
    /// `https://portal.D[:PORT]`.
    portal: String,
    /// Where forms of our pages may lead to.
    form_targets: Vec<String>,
}

#[derive(Debug, Error)]
pub enum WorldError {
    #[error("the agent sent no envelope that can be read")]
    Envelope(#[from] prost::DecodeError),
    #[error("the agent sent a snapshot that can't be read")]
    Snapshot(#[from] weft_snapshot::DecodeError),
    #[error("a host of the gateway is no name")]
    Host(#[from] weft_types::NameError),
}

impl World {
    /// Reads what the agent has verified. `None`: nothing is exposed.
    pub fn read(envelope: &[u8]) -> Result<Option<Self>, WorldError> {
        let snapshot = decode(&Envelope::decode(envelope)?.payload)?;
        Self::new(Index::new(Arc::new(snapshot)))
    }

    pub fn new(index: Index) -> Result<Option<Self>, WorldError> {
        let Some(gateway) = &index.snapshot().gateway else { return Ok(None) };
        let portal_host = gateway.portal_host()?.to_string();
        let provider_host = local_provider(gateway).map(|_| gateway.provider_host()).transpose()?.map(|h| h.to_string());
        let hosts = gateway.routes.iter().map(|route| route.host.to_string()).collect();
        let endpoints = endpoints(&index);
        let portal = gateway.origin(&gateway.portal_host()?);
        let brand = Brand::new(&gateway.branding);
        let form_targets = gateway.providers.iter().map(|provider| issuer(gateway, provider)).chain([portal.clone()]).collect();
        Ok(Some(Self { portal_host, provider_host, hosts, endpoints, brand, portal, form_targets, index }))
    }

    pub fn brand(&self) -> &Brand {
        &self.brand
    }

    /// The portal's origin.
    pub fn portal(&self) -> &str {
        &self.portal
    }

    /// Addresses that a form of ours may lead to by redirects: the portal and, to sign out there too, the identity providers.
    pub fn form_targets(&self) -> &[String] {
        &self.form_targets
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn revision(&self) -> Revision {
        self.index.snapshot().revision
    }

    pub fn gateway(&self) -> &Gateway {
        self.index.snapshot().gateway.as_ref().expect("a world has a gateway, or there is none")
    }

    pub fn portal_host(&self) -> &str {
        &self.portal_host
    }

    /// Where the local identity provider is reached by browsers.
    pub fn provider_host(&self) -> Option<&str> {
        self.provider_host.as_deref()
    }

    /// Whether any application is exposed at this host.
    pub fn has_routes(&self, host: &str) -> bool {
        self.hosts.contains(host)
    }

    /// Whether requests for this host are any business of this gateway.
    pub fn is_own_host(&self, host: &str) -> bool {
        self.has_routes(host) || host == self.portal_host || Some(host) == self.provider_host.as_deref()
    }

    pub fn origin(&self, host: &str) -> String {
        match host.parse::<HostName>() {
            Ok(host) => self.gateway().origin(&host),
            Err(_) => String::new(),
        }
    }

    /// Where workloads of a service take requests for its service port. Never empty: without a workload of its own address there is the virtual IP.
    pub fn backends(&self, service: &Service, port: u16) -> Vec<SocketAddr> {
        let target = service.ports.iter().find(|p| p.port == port && p.protocol == Protocol::Tcp).map_or(port, |p| p.target_port);
        match self.endpoints.get(&service.id) {
            Some(addresses) if !addresses.is_empty() => addresses.iter().map(|address| SocketAddr::new(*address, target)).collect(),
            _ => self.virtual_address(service, port).into_iter().collect(),
        }
    }

    pub fn virtual_address(&self, service: &Service, port: u16) -> Option<SocketAddr> {
        service.vip.map(|vip: Ipv4Addr| SocketAddr::new(vip.into(), port))
    }

    /// The local provider's service and port.
    pub fn local_provider(&self) -> Option<(&Service, u16)> {
        local_provider(self.gateway())?;
        Some((self.index.by_ref(&builtin::bridge())?, builtin::PROVIDER_PORT))
    }

    /// Where a provider is called in the mesh; `None`: at its own address.
    pub fn provider_address(&self, provider: &IdentityProvider) -> Option<SocketAddr> {
        let (service, port) = match &provider.via {
            _ if provider.builtin => self.local_provider()?,
            Some(via) => (self.index.service(via.service)?, via.port),
            None => return None,
        };
        self.virtual_address(service, port)
    }
}

/// As browsers know it.
pub fn issuer(gateway: &Gateway, provider: &IdentityProvider) -> String {
    if !provider.builtin {
        return provider.issuer.clone();
    }
    gateway.provider_host().map(|host| gateway.origin(&host)).unwrap_or_default()
}

fn local_provider(gateway: &Gateway) -> Option<&IdentityProvider> {
    gateway.providers.iter().find(|provider| provider.builtin)
}

/// An address that two workloads have says nothing of who answers there: such services are dialled at their virtual IP, and the agent chooses.
fn endpoints(index: &Index) -> HashMap<ServiceId, Vec<IpAddr>> {
    let all = &index.snapshot().endpoints;
    let mut holders: HashMap<IpAddr, usize> = HashMap::new();
    for address in all.iter().flat_map(|endpoint| &endpoint.addresses) {
        *holders.entry(*address).or_default() += 1;
    }
    let mut found: HashMap<ServiceId, Vec<IpAddr>> = HashMap::new();
    let mut shared: HashSet<ServiceId> = HashSet::new();
    for endpoint in all {
        // One address for a workload, so that its load is counted once.
        let own = endpoint.addresses.iter().filter(|address| holders[*address] == 1).min_by_key(|address| address.is_ipv6());
        match own {
            Some(address) => found.entry(endpoint.service).or_default().push(*address),
            None => {
                shared.insert(endpoint.service);
            }
        }
    }
    found.retain(|service, _| !shared.contains(service));
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use weft_catalog::Catalog;
    use weft_policy::{Compiled, Ids, compile};
    use weft_snapshot::{Endpoint, Snapshot};
    use weft_types::RuleId;

    use super::*;

    #[derive(Default)]
    struct Numbers(BTreeMap<String, u32>);

    impl Numbers {
        fn of(&mut self, key: String) -> u32 {
            let next = u32::try_from(self.0.len()).unwrap() + 1;
            *self.0.entry(key).or_insert(next)
        }
    }

    impl Ids for Numbers {
        fn service_id(&mut self, service: &weft_types::ServiceRef) -> ServiceId {
            ServiceId(self.of(service.to_string()))
        }

        fn vip(&mut self, service: &weft_types::ServiceRef, range: ipnet::Ipv4Net) -> Option<Ipv4Addr> {
            range.hosts().nth(self.service_id(service).0 as usize)
        }

        fn rule_id(&mut self, key: &str) -> RuleId {
            RuleId(self.of(key.to_owned()))
        }
    }

    /// A revision in which `shop/orders` is exposed at `orders.corp.example` to `access`, with workloads at these addresses; `shop/stock` has others.
    pub(crate) fn world(revision: u64, access: &str, orders: &[&str], stock: &[&str]) -> Arc<World> {
        let service = |name: &str, access: &str| {
            format!(
                "---\napiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ type: application, owner: a, \
                 ports: [ {{ name: web, port: 80, targetPort: 8080 }} ], expose: [ {{ port: web, access: {access} }} ] }}\n"
            )
        };
        let mesh = "apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: { name: corp }\nspec: { trustDomain: corp.example, baseDomain: corp.example }\n---\n\
                    apiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: { name: a }\n";
        let text = [mesh.to_owned(), service("orders", access), service("stock", "{ public: true }")].concat();
        let Compiled { services, grants, pending, teams, gateway, .. } =
            compile(&Catalog::parse([("all.yaml", text.as_str())]).unwrap(), &mut Numbers::default());
        let workloads = [("shop/orders", orders), ("shop/stock", stock)].into_iter().flat_map(|(name, all)| all.iter().map(move |address| (name, address)));
        let endpoint = |(i, (name, address)): (usize, (&str, &&str))| Endpoint {
            service: services.iter().find(|s| s.name.to_string() == name).unwrap().id,
            node: "a".parse().unwrap(),
            uid: format!("w{i}").parse().unwrap(),
            addresses: vec![address.parse().unwrap()],
        };
        let endpoints = workloads.enumerate().map(endpoint).collect();
        let (mesh, trust_domain) = ("corp".to_owned(), "corp.example".parse().unwrap());
        let snapshot = Snapshot { revision: Revision(revision), mesh, trust_domain, services, endpoints, grants, pending, teams, gateway };
        Arc::new(World::new(Index::new(Arc::new(snapshot))).unwrap().unwrap())
    }

    #[test]
    fn an_address_says_who_answers_or_the_agent_chooses() {
        let backends = |orders: &[&str], stock: &[&str]| {
            let world = world(1, "{ public: true }", orders, stock);
            let service = world.index().by_ref(&"shop/orders".parse().unwrap()).unwrap();
            let vip = world.virtual_address(service, 80).unwrap();
            (world.backends(service, 80), vip)
        };
        let at = |addresses: &[&str]| addresses.iter().map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
        assert_eq!(backends(&["10.0.0.1", "10.0.0.2"], &["10.0.0.3"]).0, at(&["10.0.0.1:8080", "10.0.0.2:8080"]));
        // Two of a host's own network, of this service and of another; and none at all.
        for (orders, stock) in [(&["10.0.0.1", "10.0.0.2"][..], &["10.0.0.2"][..]), (&["10.0.0.1", "10.0.0.1"], &[]), (&[], &["10.0.0.3"])] {
            let (found, vip) = backends(orders, stock);
            assert_eq!((found, vip.port()), (vec![vip], 80), "{orders:?} {stock:?}");
        }
    }
}
