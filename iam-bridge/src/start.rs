//! From a configuration to a running bridge. Whatever is missing is said before anything is served.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use weft_catalog::Reader;
use weft_telemetry::{Probes, render, serve_http};

use crate::{
    Config,
    config::{Listen, ProviderConfig},
    control::{CatalogProblem, Control, Parts, Shared, Ttls, trust_domain},
    files::{StateDir, bind_private},
    keys, limits,
    metrics::Metrics,
    provider::{Bound, Door, Provider, SharedProvider, WayOut, deliver, serve, set_up},
    server::{self, OwnCertificate},
    store::Store,
    watch,
};

/// In the state directory.
const DATABASE: &str = "bridge.db";

/// A bridge at work.
pub struct Running {
    /// Where nodes reach it.
    pub nodes: SocketAddr,
    pub metrics: Option<SocketAddr>,
    /// Where the local provider serves the gateway.
    pub provider: Option<Bound>,
    pub admin_socket: PathBuf,
    /// Sockets that go with it.
    sockets: Vec<PathBuf>,
    control: Shared,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _metrics: Option<weft_telemetry::Server>,
    _state: StateDir,
}

/// Opens everything that the configuration names, then serves.
///
/// # Errors
/// In words for the person who starts it: the chain of causes is the message.
pub async fn start(config: Config) -> Result<Running> {
    let now = SystemTime::now();
    let state = StateDir::open(&config.state_dir)?;
    let metrics = Arc::new(Metrics::default());
    let mut reader = Reader::default();
    let (seen, control, own) = open(&mut reader, &config, &state, metrics.clone(), now)?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| held(config.listen))?;
    let nodes = listener.local_addr()?;
    let endpoint = match config.metrics {
        None => None,
        Some(addr) => Some(serve_http(addr, probes(&metrics)).await?),
    };
    let admin = bind_private(&config.admin_socket)?;
    let admin = tokio::net::UnixListener::from_std(admin).context("the admin socket cannot be used")?;

    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let people = match &config.provider {
        None => None,
        Some(section) => Some(start_provider(section, set_up(section, &state, DATABASE, metrics.clone(), now)?, &mut tasks, &stop).await?),
    };
    let (provider, people) = people.unzip();
    let provider_sockets = config.provider.iter().flat_map(|p| match &p.listen {
        Listen::Socket(path) => vec![Some(path.clone()), p.out_socket.clone()],
        Listen::Tcp(_) => vec![p.out_socket.clone()],
    });
    let sockets = provider_sockets.flatten().chain([config.admin_socket.clone()]).collect();
    tasks.spawn(server::serve_nodes(listener, control.clone(), own.clone(), metrics, stop.clone()));
    tasks.spawn(server::serve_admin(admin, control.clone(), people, stop.clone()));
    tasks.spawn(own.renew(control.clone(), stop.clone()));
    tasks.spawn(watch::watch(config.catalog, reader, seen, control.clone(), stop.clone()));
    let metrics = endpoint.as_ref().map(weft_telemetry::Server::addr);
    Ok(Running { nodes, metrics, provider, admin_socket: config.admin_socket, sockets, control, stop, tasks, _metrics: endpoint, _state: state })
}

impl Running {
    /// Ends every stream with a reason, then everything else.
    pub async fn stop(mut self) {
        self.control.with(|c| c.end_all()).await;
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limits::STOP_TIMEOUT, ended).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }

    /// Returns when a part of the bridge has ended by itself, which none should.
    pub async fn failed(&mut self) {
        self.tasks.join_next().await;
    }
}

fn open(reader: &mut Reader, config: &Config, state: &StateDir, metrics: Arc<Metrics>, now: SystemTime) -> Result<(Option<u64>, Shared, Arc<OwnCertificate>)> {
    let store = Store::open(&state.file(DATABASE))?;
    let (seen, catalog) = watch::read(&config.catalog, reader);
    let domain = trust_domain(&store, &catalog).map_err(|p| broken(config, p))?;
    let ca = keys::ca(state, &domain, now)?;
    let own = OwnCertificate::new(&ca, &ca.bundle()?, now)?;
    let signing = keys::snapshot_key(state)?;
    let ttls = Ttls { svid: config.svid_ttl, node: config.node_cert_ttl };
    let control = Control::open(Parts { store, ca, signing, ttls, metrics }, catalog).map_err(|p| broken(config, p))?;
    // What is wrong may be mended by the time the watcher looks again.
    let seen = control.overview().catalog_errors.is_empty().then_some(seen);
    Ok((seen, Shared::new(control), Arc::new(own)))
}

/// The local provider, and what delivers its logout tokens.
async fn start_provider(config: &ProviderConfig, provider: Provider, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> Result<(Bound, SharedProvider)> {
    let (provider, logouts) = SharedProvider::new(provider);
    let door = Door::open(&config.listen, config.socket_group).await?;
    let bound = door.bound()?;
    let out = config.out_socket.as_ref().map(|path| WayOut::open(path, config.socket_group)).transpose()?;
    let (waiting, out) = out.unzip();
    if let (Some(listener), Some(out)) = (waiting, out.clone()) {
        tasks.spawn(out.serve(listener, stop.clone()));
    }
    tasks.spawn(serve(door, provider.clone(), config.proxies.clone(), stop.clone()));
    tasks.spawn(deliver(logouts, out, stop.clone()));
    Ok((bound, provider))
}

/// A first start needs a whole catalog: there is nothing to fall back on.
fn broken(config: &Config, problem: CatalogProblem) -> anyhow::Error {
    let text = problem.texts().join("\n\n");
    match problem {
        CatalogProblem::Findings(_) => anyhow::anyhow!("the catalog {} cannot be used, and no former one is known\n\n{text}", config.catalog.display()),
        other => anyhow::Error::new(other),
    }
}

fn held(addr: SocketAddr) -> String {
    format!("cannot listen on {addr} for nodes: another program may hold the port (field listen)")
}

fn probes(metrics: &Arc<Metrics>) -> Probes {
    let registry = metrics.registry();
    // Whoever is served here has a snapshot to give.
    Probes { metrics: Box::new(move || render(&registry)), ready: Box::new(|| Ok(())) }
}
