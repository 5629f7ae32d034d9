//! One provider, two gateways' sign-on that trust it (the one under test, and another application's), the back channel, and a clock ahead of the provider's.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpListener;
use weft_gateway::sso::{Caller, Head, HttpClient, Lifetimes, Parts, ProviderConfig, Sso, SsoConfig, plain};

use crate::provider::Foreign;

pub(crate) const PORTAL: &str = "portal.localhost";
pub(crate) const SHOP: &str = "shop.localhost";
pub(crate) const STOCK: &str = "stock.localhost";
/// Another application of the same provider: its auth host and its only one.
pub(crate) const WIKI: &str = "wiki.localhost";
pub(crate) const PORT: u16 = 8443;
pub(crate) const REFRESH_SECONDS: u64 = 30;
/// How long anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World<P> {
    pub(crate) provider: Arc<P>,
    pub(crate) sso: Arc<Sso>,
    pub(crate) wiki: Arc<Sso>,
    pub(crate) back_channel: BackChannel,
    ahead: Arc<AtomicU64>,
    dir: TempDir,
}

impl<P: Foreign> World<P> {
    pub(crate) async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let back_channel = BackChannel::listen().await?;
        let theirs = dir.path().join("provider");
        std::fs::create_dir(&theirs)?;
        let provider = P::install(&theirs, &back_channel.url()).await?;
        provider.start().await?;
        let ahead = Arc::new(AtomicU64::new(0));
        let sso = open(dir.path(), PORTAL, provider.client("weft"), &ahead)?;
        let wiki = open(dir.path(), WIKI, provider.client("wiki"), &ahead)?;
        back_channel.leads_to(&sso);
        Ok(Self { provider: Arc::new(provider), sso, wiki, back_channel, ahead, dir })
    }

    /// The gateway's clock goes on; the provider's does not.
    pub(crate) fn pass(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }

    /// A new gateway on the state of the one before.
    pub(crate) fn restart_gateway(&mut self) -> Result<()> {
        self.sso = open(self.dir.path(), PORTAL, self.provider.client("weft"), &self.ahead)?;
        self.back_channel.leads_to(&self.sso);
        Ok(())
    }
}

fn open(dir: &Path, auth_host: &str, provider: ProviderConfig, ahead: &Arc<AtomicU64>) -> Result<Arc<Sso>> {
    let config = SsoConfig {
        auth_host: auth_host.to_owned(),
        public_port: PORT,
        lifetimes: Lifetimes { refresh: REFRESH_SECONDS, ..Lifetimes::default() },
        providers: vec![provider],
        state_dir: dir.join(auth_host),
    };
    let ahead = Arc::clone(ahead);
    let clock = Arc::new(move || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()) + ahead.load(Ordering::SeqCst));
    let has_routes = Arc::new(|host: &str| host == SHOP || host == STOCK);
    Ok(Sso::open(&config, Parts { http: http_client(), has_routes, clock, render: Arc::new(plain), patience: PATIENCE })?)
}

pub(crate) fn http_client() -> HttpClient {
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().map(|tls| tls.with_root_certificates(RootCertStore::empty()));
    Caller { timeout: PATIENCE, ..Caller::new(Arc::new(tls.expect("TLS 1.2 and 1.3").with_no_client_auth())) }.client()
}

/// Where the provider calls the gateway: a plain listener, as on the mesh.
pub(crate) struct BackChannel {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    sso: Mutex<Option<Arc<Sso>>>,
    answers: Mutex<Vec<StatusCode>>,
}

impl BackChannel {
    async fn listen() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, state) = (listener.local_addr()?, Arc::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, state })
    }

    fn url(&self) -> String {
        format!("http://{}/.weft/backchannel-logout", self.address)
    }

    fn leads_to(&self, sso: &Arc<Sso>) {
        *lock(&self.state.sso) = Some(Arc::clone(sso));
    }

    /// What the provider's calls were answered with, in order.
    pub(crate) fn answers(&self) -> Vec<StatusCode> {
        lock(&self.state.answers).clone()
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let sso = lock(&state.sso).clone().expect("a gateway");
    let asked = Head { method: &head.method, host: PORTAL, path: head.uri.path(), query: head.uri.query(), headers: &head.headers };
    let status = sso.serve(&asked, &body).await.map_or(StatusCode::NOT_FOUND, |answer| answer.status());
    lock(&state.answers).push(status);
    Ok(Response::builder().status(status).body(Full::default()).expect("a response"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
