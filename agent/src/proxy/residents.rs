//! Who can be called in one namespace: most have one workload, a pod of several containers and the host have more.

use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use weft_types::SpiffeId;

use super::host::{Host, LocalWorkload};

/// Cheap to clone; clones are the same namespace.
#[derive(Clone, Debug, Default)]
pub struct Residents(Arc<RwLock<Vec<Resident>>>);

#[derive(Clone, Debug)]
pub(crate) struct Resident {
    pub(crate) workload: Arc<LocalWorkload>,
    /// Cancelled when it goes.
    pub(crate) gone: CancellationToken,
}

impl Residents {
    /// Replaces one of the same number.
    pub(crate) fn add(&self, workload: Arc<LocalWorkload>, gone: CancellationToken) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|r| r.workload.number != workload.number);
        all.push(Resident { workload, gone });
    }

    /// True when nobody is left.
    pub fn remove(&self, number: u32) -> bool {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|r| r.workload.number != number);
        all.is_empty()
    }

    /// Whom a caller asks for by name. One who asks for nobody here gets the first, whose handshake then refuses.
    pub(crate) fn asked(&self, host: &Arc<dyn Host>, server_name: Option<&str>) -> Option<Resident> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is = |r: &&Resident, name: &str| {
            let svid = host.svid(r.workload.service);
            svid.is_some_and(|s| same(weft_identity::identity_from_sni(name, s.id.trust_domain()).as_ref(), &s.id))
        };
        all.iter().find(|r| server_name.is_some_and(|name| is(r, name))).or(all.first()).cloned()
    }
}

fn same(asked: Option<&SpiffeId>, id: &SpiffeId) -> bool {
    asked == Some(id)
}
