//! Which ports anybody may connect to: those of weft's own gateway, whatever else a snapshot says. Nobody declares them for another service.

use weft_snapshot::Snapshot;
use weft_types::{ServiceId, builtin};

use crate::Index;

impl Index {
    /// TCP ports at which anybody, of the mesh or not, may connect to the workloads of that service, by the port that they listen on; sorted.
    pub fn public_ports(&self, service: ServiceId) -> &[u16] {
        match &self.public {
            Some((id, ports)) if *id == service => ports,
            _ => &[],
        }
    }
}

/// The gateway, if its name is the one, and its ports. Weft's own are none of them: a signature on a mistake opens nothing.
pub(crate) fn of(snapshot: &Snapshot) -> Option<(ServiceId, Vec<u16>)> {
    let gateway = snapshot.gateway.as_ref()?;
    let own = snapshot.services.iter().find(|s| s.id == gateway.service).filter(|s| s.name == builtin::gateway())?;
    let mut ports: Vec<u16> = gateway.open_ports().filter(|port| *port != 0 && !builtin::OWN_PORTS.contains(port)).collect();
    ports.sort_unstable();
    ports.dedup();
    Some((own.id, ports))
}
