//! A catalog compiled as the bridge does it, with numbers given in order.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use weft_catalog::Catalog;
use weft_policy::{Compiled, Ids, Index, compile};
use weft_snapshot::{Endpoint, Snapshot};
use weft_types::{Revision, RuleId, ServiceId, ServiceRef};

#[derive(Default)]
pub(crate) struct Numbers {
    services: BTreeMap<ServiceRef, u32>,
    rules: BTreeMap<String, u32>,
}

impl Ids for Numbers {
    fn service_id(&mut self, service: &ServiceRef) -> ServiceId {
        let next = u32::try_from(self.services.len()).unwrap() + 1;
        ServiceId(*self.services.entry(service.clone()).or_insert(next))
    }

    fn vip(&mut self, service: &ServiceRef, range: Ipv4Net) -> Option<Ipv4Addr> {
        let id = self.service_id(service).0;
        range.hosts().nth(id as usize - 1)
    }

    fn rule_id(&mut self, key: &str) -> RuleId {
        let next = u32::try_from(self.rules.len()).unwrap() + 1;
        RuleId(*self.rules.entry(key.to_owned()).or_insert(next))
    }
}

/// Mesh and team, which every catalog here needs.
pub(crate) const MESH: &str = "\
apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: { name: corp }
spec: { trustDomain: corp.example }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: team-a }
";

/// One MeshService in block form, so that a patch can be added at its end. `rest` is indented by two.
pub(crate) fn document(name: &str, kind: &str, rest: &str) -> String {
    let (namespace, short) = name.split_once('/').unwrap();
    format!(
        "apiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: {short}, namespace: {namespace} }}\nspec:\n  type: {kind}\n  owner: team-a\n{rest}"
    )
}

/// One file per document, named after the service.
pub(crate) fn catalog(documents: &[(String, String)]) -> Catalog {
    let files = documents.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    Catalog::parse([("mesh.yaml", MESH)].into_iter().chain(files)).unwrap_or_else(|findings| {
        let all: Vec<_> = findings.iter().map(ToString::to_string).collect();
        panic!("{}", all.join("\n\n"))
    })
}

pub(crate) fn compiled(catalog: &Catalog) -> Compiled {
    compile(catalog, &mut Numbers::default())
}

pub(crate) fn snapshot(catalog: &Catalog, endpoints: &[(&str, &str)]) -> Snapshot {
    let Compiled { services, grants, pending, teams, gateway, without_vip } = compiled(catalog);
    assert!(without_vip.is_empty());
    let endpoint = |(i, (service, address)): (usize, &(&str, &str))| Endpoint {
        service: services.iter().find(|s| s.name.to_string() == *service).unwrap().id,
        node: "a".parse().unwrap(),
        uid: format!("w{i}").parse().unwrap(),
        addresses: vec![address.parse().unwrap()],
    };
    let endpoints = endpoints.iter().enumerate().map(endpoint).collect();
    let (revision, mesh, trust_domain) = (Revision(3), "corp".to_owned(), "corp.example".parse().unwrap());
    let snapshot = Snapshot { revision, mesh, trust_domain, services, endpoints, grants, pending, teams, gateway };
    // What these tests judge is what a node would read.
    weft_snapshot::decode(&weft_snapshot::encode(&snapshot)).unwrap()
}

pub(crate) fn index(documents: &[(String, String)], endpoints: &[(&str, &str)]) -> Index {
    Index::new(Arc::new(snapshot(&catalog(documents), endpoints)))
}
