//! What a connection needs before it can be judged: a snapshot, the workload's SVID, the roots. After a restart they take a moment.

use std::{sync::Arc, time::SystemTime};

use tokio::time::{Instant, timeout_at};
use weft_identity::{Svid, TrustBundle};
use weft_policy::Index;
use weft_types::{Reason, ServiceId};

use super::{host::Host, limits::READY_WAIT};

pub(crate) struct Ready {
    pub(crate) index: Arc<Index>,
    pub(crate) svid: Arc<Svid>,
    pub(crate) bundle: Arc<TrustBundle>,
}

/// Waits for all three, at most [`READY_WAIT`]; then says what is missing.
pub(crate) async fn ready(host: &Arc<dyn Host>, service: ServiceId) -> Result<Ready, (Reason, String)> {
    let deadline = Instant::now() + READY_WAIT;
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
    let waited = READY_WAIT.as_secs();
    let index = host.index().ok_or_else(|| (Reason::NoSnapshot, format!("waited {waited} s for a snapshot: is the IAM bridge reachable?")))?;
    let no_svid = || (Reason::Unidentified, format!("waited {waited} s for an SVID of service {service}: may this node run it?"));
    let svid = host.svid(service).ok_or_else(no_svid)?;
    if svid.not_after <= SystemTime::now() {
        return Err((Reason::Unidentified, format!("the SVID of {} has expired: is the IAM bridge reachable?", svid.id)));
    }
    let bundle = host.trust_bundle().ok_or_else(no_svid)?;
    Ok(Ready { index, svid, bundle })
}
