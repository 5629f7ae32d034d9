//! The relying party: who a request comes from, and how people sign in and out.
//!
//! [`Sso::identify`] says who asks, or what to answer instead. [`Sso::serve`] answers the gateway's own paths below `/.weft/`. What a person may open is not
//! decided here. The clock and the way to providers are parameters.

mod answer;
mod bearer;
mod claims;
mod client;
mod config;
mod cookie;
mod exchange;
mod head;
mod identify;
mod jws;
mod login;
mod logout;
mod oidc;
mod opaque;
mod place;
mod provider;
mod refresh;
mod session;
mod sessions;
mod signout;
mod store;
#[cfg(test)]
mod tests;
mod transaction;

use std::{
    fmt,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use thiserror::Error;
use tokio::sync::Semaphore;

pub use answer::{Answer, Page, Render, plain};
pub use claims::{ClaimError, ClaimMap, ClaimPath, Person};
pub use client::{Caller, HttpClient, HttpError, HttpFuture};
pub use config::{ConfigError, ProviderConfig, Secret, SsoConfig};
pub use cookie::{LOOP, TICKET, TRANSACTION_PREFIX, strip_request, strip_response};
pub use head::Head;
pub(crate) use head::Wants;
pub use identify::{Access, Identified, Who};
pub use place::HasRoutes;
pub use session::{Lifetimes, ParseSessionIdError, Session, SessionId};
pub use sessions::{End, Listed, Notice, Notices, SessionEvent, Sessions};
pub use store::StoreError;

use crate::{limits, seal::KeyRing, seal::SealError};
use logout::Used;
use place::Outside;
use provider::Provider;
use store::Store;
use transaction::{Entry, Table, Transaction};

/// Unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

#[derive(Debug, Error)]
pub enum SsoError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot make state_dir {path}")]
    StateDir { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the relying party is made of, beside its configuration.
pub struct Parts {
    pub http: HttpClient,
    pub has_routes: HasRoutes,
    pub clock: Clock,
    pub render: Render,
    /// How long a request waits for a refresh, usually [`limits::REFRESH_WAIT`]; then it goes on with what is known.
    pub patience: Duration,
}

type Providers = Arc<[Arc<Provider>]>;

pub struct Sso {
    outside: Outside,
    /// Replaced whole.
    providers: RwLock<Providers>,
    sessions: Arc<Sessions>,
    parts: Parts,
    under_way: Mutex<UnderWay>,
    refreshes: Arc<Semaphore>,
    state_dir: PathBuf,
}

struct UnderWay {
    sign_ins: Table<Transaction>,
    codes: Table<Entry>,
    logouts: Used,
}

impl Sso {
    /// Opens keys and sessions in the state directory, which must be this process's alone. Asks no provider: that is done when it is first needed.
    pub fn open(config: &SsoConfig, parts: Parts) -> Result<Arc<Self>, SsoError> {
        config.check()?;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.state_dir);
        made.map_err(|source| SsoError::StateDir { path: config.state_dir.clone(), source })?;
        let keys = KeyRing::open(&config.state_dir.join("session-keys.json"), (parts.clock)())?;
        let store = Store::open(&config.state_dir.join("sessions.db"), keys)?;
        let sso = Arc::new(Self {
            state_dir: config.state_dir.clone(),
            outside: Outside { auth_host: config.auth_host.clone(), port: config.public_port },
            providers: RwLock::new(Arc::new([])),
            sessions: Arc::new(Sessions::new(store, config.lifetimes)),
            under_way: Mutex::new(UnderWay {
                sign_ins: Table::new(limits::TRANSACTIONS_MAX, limits::TRANSACTION_SECONDS),
                codes: Table::new(limits::CODES_MAX, limits::CODE_SECONDS),
                logouts: Used::default(),
            }),
            refreshes: Arc::new(Semaphore::new(limits::REFRESHES_MAX)),
            parts,
        });
        sso.put_in_force(&config.providers);
        Ok(sso)
    }

    /// Takes other providers in force. What is known of those that stay as they were is kept; sessions of one that is gone, or has another issuer, end with
    /// their next request or renewal.
    pub fn reconfigure(&self, providers: &[ProviderConfig]) -> Result<(), ConfigError> {
        config::check_providers(providers)?;
        self.put_in_force(providers);
        Ok(())
    }

    fn put_in_force(&self, providers: &[ProviderConfig]) {
        let before = self.providers();
        let provider = |config: &ProviderConfig| match before.iter().find(|provider| provider.config == *config) {
            Some(same) => Arc::clone(same),
            None => Arc::new(Provider::new(config.clone(), Arc::clone(&self.parts.http), &self.state_dir)),
        };
        let after: Providers = providers.iter().map(provider).collect();
        *self.providers.write().unwrap_or_else(PoisonError::into_inner) = after;
    }

    /// All sessions: to list and end a person's own, and to be told of ends.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Ends what is over and forgets what is under way for too long. To be called every minute or so.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let now = self.now();
        {
            let mut under_way = self.under_way();
            under_way.sign_ins.sweep(now);
            under_way.codes.sweep(now);
        }
        self.blocking(move |sessions| sessions.sweep(now)).await
    }

    fn now(&self) -> u64 {
        (self.parts.clock)()
    }

    fn providers(&self) -> Providers {
        Arc::clone(&self.providers.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn provider(&self, name: &str) -> Option<Arc<Provider>> {
        self.providers().iter().find(|provider| provider.config.name == name).cloned()
    }

    /// The provider that a session is of, as long as it is the very one that vouched for its person.
    fn provider_of(&self, session: &Session) -> Option<Arc<Provider>> {
        self.provider(&session.person.provider).filter(|provider| provider.config.issuer == session.tokens.issuer)
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs what waits for the disk where it holds nobody up.
    async fn blocking<T: Send + 'static>(&self, f: impl FnOnce(&Sessions) -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
        let sessions = Arc::clone(&self.sessions);
        match tokio::task::spawn_blocking(move || f(&sessions)).await {
            Ok(result) => result,
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            Err(_) => Err(StoreError::Stopping),
        }
    }
}

impl fmt::Debug for Sso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let providers = self.providers();
        let providers: Vec<&str> = providers.iter().map(|provider| provider.config.name.as_str()).collect();
        f.debug_struct("Sso").field("outside", &self.outside).field("providers", &providers).finish_non_exhaustive()
    }
}
