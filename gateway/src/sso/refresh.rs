//! A session's person taken anew from the provider: one refresh for however many requests, and none of them fails by it.

use std::sync::Arc;

use crate::sso::{
    Sso,
    provider::ProviderError,
    session::{Session, SessionId},
    sessions::{End, Live},
    store::StoreError,
};

impl Sso {
    /// Takes a session's person anew if that is due: for whoever holds a stream that sends no requests. `None`: the session is over.
    pub async fn renew(self: &Arc<Self>, id: SessionId) -> Result<Option<Arc<Session>>, StoreError> {
        let now = self.now();
        match self.blocking(move |sessions| sessions.live(id, now)).await? {
            Some(live) => self.fresh(live, now).await,
            None => Ok(None),
        }
    }

    /// The session, refreshed if that is due. Whoever comes first asks the provider, in a task of its own that outlives the request: a token that was
    /// handed out must not be lost because a browser went away. The others wait. `None`: it has ended.
    pub(crate) async fn fresh(self: &Arc<Self>, live: Arc<Live>, now: u64) -> Result<Option<Arc<Session>>, StoreError> {
        let session = live.session();
        if self.provider_of(&session).is_none() {
            let id = session.id;
            self.blocking(move |sessions| sessions.end(id, End::Refused)).await?;
            return Ok(None);
        }
        if !session.refresh_is_due(now) {
            return Ok(Some(session));
        }
        let turn = match Arc::clone(&live.flight).try_lock_owned() {
            Ok(turn) => {
                let Ok(place) = Arc::clone(&self.refreshes).try_acquire_owned() else { return Ok(Some(session)) };
                let (sso, live) = (Arc::clone(self), Arc::clone(&live));
                let flight = tokio::spawn(async move {
                    sso.refresh(&live, now).await;
                    drop((turn, place));
                });
                tokio::time::timeout(self.parts.patience, flight).await.is_ok()
            }
            Err(_) => tokio::time::timeout(self.parts.patience, live.flight.lock()).await.is_ok(),
        };
        if !turn {
            // The provider is slow, which is nobody's fault here.
            return Ok(Some(session));
        }
        let id = session.id;
        Ok(self.blocking(move |sessions| sessions.live(id, now)).await?.map(|live| live.session()))
    }

    async fn refresh(self: &Arc<Self>, live: &Live, now: u64) {
        let session = live.session();
        // Somebody may have done it between the look and the turn.
        if !session.refresh_is_due(now) {
            return;
        }
        let Some(provider) = self.provider_of(&session) else { return };
        let id = session.id;
        let kept = match provider.refresh(&session, now).await {
            Ok(vouched) => {
                let refresh_at = Some(self.sessions.refresh_at(vouched.ends_at, now));
                let next = Session { person: vouched.person, tokens: vouched.tokens, refreshed_at: now, refresh_at, ..Session::clone(&session) };
                self.blocking(move |sessions| sessions.refreshed(next)).await.map(drop)
            }
            Err(error @ ProviderError::Unreachable { .. }) => {
                tracing::warn!(session = %id, %error, "a session goes on with what is known of its person");
                self.sessions.put_off(live, now);
                Ok(())
            }
            Err(error) => {
                tracing::info!(session = %id, %error, "a session is not gone on with");
                self.blocking(move |sessions| sessions.end(id, End::Refused)).await.map(drop)
            }
        };
        if let Err(error) = kept {
            tracing::error!(session = %id, %error, "a refresh could not be kept");
            self.sessions.put_off(live, now);
        }
    }
}
