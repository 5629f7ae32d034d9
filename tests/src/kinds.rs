//! Workloads that are not one container in one namespace: several in one, and those of the host.

use std::time::Duration;

use anyhow::{Result, bail};
use weft_api::agent::v1 as agent;
use weft_lab::{Place, eventually};

use crate::{Mesh, MeshOptions, Outcome, SETTLE, probe};

/// `caller` may reach `server`, `far`, `inner` and `hosted`; `inner` and `hosted` may reach `server` and `far`. `other` and `stranger`, who
/// live where those live, may reach nothing and may be reached by nobody.
pub const KINDS: &str = r##"apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: { name: test }
spec: { trustDomain: corp.example, serviceRange: 100.64.0.0/16 }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: shop }
spec: { lead: alice@corp.example, contact: "#shop" }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: caller, namespace: shop }
spec:
  type: application
  owner: shop
  ports: [ { name: web, port: 80, targetPort: 8081 } ]
  dependsOn: [ { service: server, port: web }, { service: far, port: web }, { service: inner, port: web }, { service: hosted, port: web } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: inner, namespace: shop }
spec:
  type: application
  owner: shop
  ports: [ { name: web, port: 80, targetPort: 8080 } ]
  dependsOn: [ { service: server, port: web }, { service: far, port: web } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: other, namespace: shop }
spec: { type: application, owner: shop, ports: [ { name: web, port: 80, targetPort: 8080 } ] }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: hosted, namespace: shop }
spec:
  type: application
  owner: shop
  ports: [ { name: web, port: 80, targetPort: 8080 } ]
  dependsOn: [ { service: server, port: web }, { service: far, port: web } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: stranger, namespace: shop }
spec: { type: application, owner: shop, ports: [ { name: web, port: 80, targetPort: 8080 } ] }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: server, namespace: shop }
spec: { type: application, owner: shop, ports: [ { name: web, port: 80, targetPort: 8080 } ] }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: far, namespace: shop }
spec: { type: application, owner: shop, ports: [ { name: web, port: 80, targetPort: 8080 } ] }
"##;

/// `caller` on both nodes, `server` on a, `far` on b.
pub fn options() -> MeshOptions {
    MeshOptions {
        catalog: KINDS.to_owned(),
        workloads: vec![("a", "caller", "shop/caller"), ("a", "server", "shop/server"), ("b", "far", "shop/far"), ("b", "far-caller", "shop/caller")],
        ..MeshOptions::default()
    }
}

impl Mesh {
    /// Adds a workload while the agent runs; `netns` is empty for the host's.
    pub fn enrol(&self, node: usize, uid: &str, service: &str, cgroup: &str, netns: &str) -> Result<agent::Workload> {
        let request = agent::AddWorkloadRequest { uid: uid.to_owned(), service: service.to_owned(), cgroup: cgroup.to_owned(), netns: netns.to_owned() };
        self.call(node, async |mut c| c.add_workload(request).await)
    }

    pub fn discharge(&self, node: usize, uid: &str) -> Result<()> {
        let request = agent::RemoveWorkloadRequest { uid: uid.to_owned() };
        self.call(node, async |mut c| c.remove_workload(request).await).map(drop)
    }

    /// Waits until every node knows so many endpoints of a service.
    pub fn endpoints(&self, service: &str, count: usize) -> Result<()> {
        eventually(SETTLE, &format!("{count} endpoints of {service}"), || -> Result<()> {
            for node in 0..self.agents.len() {
                let snapshot = self.snapshot(node)?;
                let id = snapshot.services.iter().find(|s| s.name.to_string() == service).map(|s| s.id);
                let known = snapshot.endpoints.iter().filter(|e| Some(e.service) == id).count();
                if known != count || self.status(node)?.kernel_revision != self.status(0)?.kernel_revision {
                    bail!("node {node} knows {known}");
                }
            }
            Ok(())
        })
        .map_err(Into::into)
    }

    /// A place with the cgroup of a workload of that name, in the namespace of another place.
    pub fn inside(&self, node: usize, space: &Place, cgroup: &str) -> Result<Place> {
        Ok(space.in_cgroup(&self.nodes[node].cgroup().join(cgroup))?)
    }
}

/// As [`probe()`], until it works or time is up: listeners and endpoints become known a moment after they are there.
pub fn reaches(from: &Place, to: &str, port: u16, marker: &str) -> Result<Outcome> {
    eventually(Duration::from_secs(10), "an answer", || {
        let outcome = probe(from, "tcp", to, port, marker)?;
        if outcome.ok { Ok(outcome) } else { bail!("{outcome:?}") }
    })
    .map_err(Into::into)
}
