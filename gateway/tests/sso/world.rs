//! A gateway's sign-on, a provider, and a clock that the test moves.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use weft_gateway::sso::{Caller, ClaimMap, Lifetimes, Parts, ProviderConfig, Secret, Sso, SsoConfig, plain};

use crate::provider::{API, CLIENT, CLIENT_SECRET, Provider};

pub(crate) const AUTH: &str = "portal.localhost";
pub(crate) const SHOP: &str = "shop.localhost";
pub(crate) const STOCK: &str = "stock.localhost";
pub(crate) const PORT: u16 = 8443;

/// Unix seconds, shared by gateway and provider.
#[derive(Clone)]
pub(crate) struct Time(Arc<AtomicU64>);

impl Time {
    pub(crate) fn start() -> Self {
        Self(Arc::new(AtomicU64::new(1_800_000_000)))
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

pub(crate) struct World {
    pub(crate) sso: Arc<Sso>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) time: Time,
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SsoConfig)) -> Self {
        let time = Time::start();
        let provider = Provider::start(time.clone()).await;
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&provider, dir.path());
        change(&mut config);
        let sso = open(&config, &time, caller(RootCertStore::empty()));
        Self { sso, provider, time, dir }
    }

    /// The same state directory, read by a new gateway.
    pub(crate) fn restarted(&self) -> Arc<Sso> {
        open(&config(&self.provider, self.dir.path()), &self.time, caller(RootCertStore::empty()))
    }
}

pub(crate) fn caller(roots: RootCertStore) -> Caller {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
    Caller { timeout: Duration::from_secs(60), ..Caller::new(Arc::new(tls)) }
}

pub(crate) fn open(config: &SsoConfig, time: &Time, caller: Caller) -> Arc<Sso> {
    open_with(config, time, caller, Duration::from_secs(60))
}

pub(crate) fn open_with(config: &SsoConfig, time: &Time, caller: Caller, patience: Duration) -> Arc<Sso> {
    let clock = time.clone();
    let has_routes = Arc::new(|host: &str| host == SHOP || host == STOCK);
    Sso::open(config, Parts { http: caller.client(), has_routes, clock: Arc::new(move || clock.now()), render: Arc::new(plain), patience }).unwrap()
}

pub(crate) fn config(provider: &Provider, dir: &Path) -> SsoConfig {
    SsoConfig {
        auth_host: AUTH.to_owned(),
        public_port: PORT,
        lifetimes: Lifetimes { idle: 7200, absolute: 43_200, refresh: 86_400 },
        providers: vec![provider_config("corp", provider)],
        state_dir: dir.to_owned(),
    }
}

pub(crate) fn provider_config(name: &str, provider: &Provider) -> ProviderConfig {
    ProviderConfig {
        name: name.to_owned(),
        title: format!("Account at {name}"),
        issuer: provider.issuer(),
        client_id: CLIENT.to_owned(),
        client_secret: Some(Secret::new(CLIENT_SECRET.to_owned())),
        scopes: vec!["openid".to_owned(), "email".to_owned(), "offline_access".to_owned()],
        claims: ClaimMap::default(),
        groups: Vec::new(),
        api_audiences: vec![API.to_owned()],
    }
}
