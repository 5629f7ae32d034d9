//! What is open and was let in ends when that is gone: another revision, a session that ended, a person whose groups are others. Whoever only listens
//! sends no request by which that would show, so the persons of open exchanges are taken anew from their provider here.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    door::Gate,
    identity::Identity,
    limits,
    sso::{Notice, Notices, SessionEvent, SessionId},
};

/// Looks at what is open whenever the policy is another one.
pub async fn heed_policy(gate: Arc<Gate>, stop: CancellationToken) {
    let mut worlds = gate.worlds.clone();
    loop {
        let revision = worlds.borrow_and_update().as_ref().map_or(0, |world| world.revision().0);
        gate.metrics.revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
        count(&gate, gate.live.revised(), "another revision");
        match stop.run_until_cancelled(worlds.changed()).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

/// Heeds the sessions of the sign-on in force.
pub async fn heed_sessions(gate: Arc<Gate>, stop: CancellationToken) {
    let mut identities = gate.identities.follow();
    loop {
        let identity = identities.borrow_and_update().clone();
        let heeding = async {
            match &identity {
                Some(identity) => heed(&gate, identity).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = identities.changed() => if changed.is_err() { return },
            () = heeding => return,
        }
    }
}

async fn heed(gate: &Arc<Gate>, identity: &Arc<Identity>) {
    let mut notices = identity.sso.sessions().subscribe();
    tokio::join!(be_told(gate, identity, &mut notices), keep_renewed(gate, identity));
}

async fn be_told(gate: &Arc<Gate>, identity: &Arc<Identity>, notices: &mut Notices) {
    loop {
        match notices.next().await {
            Some(Notice::One(SessionEvent::Ended(id, _))) => count(gate, gate.live.session_is(id, None), "a session that ended"),
            Some(Notice::One(SessionEvent::Changed(id))) => renew(gate, identity, vec![id]).await,
            Some(Notice::Missed) => renew(gate, identity, gate.live.sessions()).await,
            None => std::future::pending().await,
        }
    }
}

/// The first time at once: what happened before there was a subscription was not told.
async fn keep_renewed(gate: &Arc<Gate>, identity: &Arc<Identity>) {
    let mut pause = Duration::ZERO;
    loop {
        sleep(pause).await;
        pause = limits::LIVE_RENEWAL;
        count(gate, gate.live.expire(gate.identities.now()), "a token that has ended");
        renew(gate, identity, gate.live.sessions()).await;
    }
}

/// Takes the persons of these sessions anew, as far as that is due, and ends what they may not hold open any more.
async fn renew(gate: &Arc<Gate>, identity: &Arc<Identity>, sessions: Vec<SessionId>) {
    let mut under_way = JoinSet::new();
    for id in sessions {
        if under_way.len() >= limits::LIVE_RENEWALS_MAX {
            under_way.join_next().await;
        }
        let (gate, sso) = (Arc::clone(gate), Arc::clone(&identity.sso));
        under_way.spawn(async move {
            // What cannot be looked at is not known to be over.
            if let Ok(session) = sso.renew(id).await {
                count(&gate, gate.live.session_is(id, session.as_ref().map(|session| &session.person)), "a session that is not what it was");
            }
        });
    }
    while under_way.join_next().await.is_some() {}
}

fn count(gate: &Gate, ended: usize, by: &str) {
    if ended > 0 {
        gate.metrics.revoked.inc_by(ended as u64);
        tracing::info!(ended, by, "open exchanges are ended: what had let them in is gone");
    }
}
