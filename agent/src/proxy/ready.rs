//! What a connection needs before it can be judged: a snapshot, the workload's SVID, the roots. After a restart they take a moment.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout_at};
use weft_identity::{Svid, TrustBundle};
use weft_policy::Index;
use weft_types::{Reason, ServiceId};

use super::host::Host;

pub(crate) struct Ready {
    pub(crate) index: Arc<Index>,
    pub(crate) svid: Arc<Svid>,
    pub(crate) bundle: Arc<TrustBundle>,
}

/// Waits for all three, at most `within`; then says what is missing.
pub(crate) async fn ready(host: &Arc<dyn Host>, service: ServiceId, within: Duration) -> Result<Ready, (Reason, String)> {
    let deadline = Instant::now() + within;
    let mut changes = host.changes();
    loop {
        changes.mark_unchanged();
        let missing = match look(host, service) {
            Ok(ready) => return Ok(ready),
            Err(missing) => missing,
        };
        if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
            return Err(missing);
        }
    }
}

fn look(host: &Arc<dyn Host>, service: ServiceId) -> Result<Ready, (Reason, String)> {
    let index = host.index().ok_or_else(|| (Reason::NoSnapshot, "this node has no snapshot yet: is the IAM bridge reachable?".to_owned()))?;
    let no_svid = || (Reason::Unidentified, format!("this node has no SVID of service {service} yet: may it run that service?"));
    let svid = host.svid(service).ok_or_else(no_svid)?;
    if svid.not_after <= SystemTime::now() {
        return Err((Reason::Unidentified, format!("the SVID of {} has expired: is the IAM bridge reachable?", svid.id)));
    }
    let bundle = host.trust_bundle().ok_or_else(no_svid)?;
    Ok(Ready { index, svid, bundle })
}
