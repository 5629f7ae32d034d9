//! From a configuration to a running gateway, and back in order.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use weft_http::{Drain, Drained, Limits, Pool, PoolLimits, Server, Tcp};
use weft_telemetry::{Probes, render, serve_http};

use crate::{
    agent::{self, Reporter, Standing},
    certificates::{Certificates, server_config},
    config::Config,
    door::{AccessLog, Backends, Gate, Reaches, Teller},
    identity::Identities,
    limits,
    listen::Listeners,
    live::Live,
    metrics::Metrics,
    pages::{self, Brand},
    revoke,
    sso::{Clock, Render},
    world::{World, Worlds},
};

/// A gateway at work.
pub struct Running {
    pub metrics: Option<SocketAddr>,
    /// The public listener, as it was at the start.
    pub public: SocketAddr,
    reload: mpsc::Sender<()>,
    accepting: CancellationToken,
    stop: CancellationToken,
    drain: Drain,
    grace: Duration,
    tasks: JoinSet<()>,
    log: AccessLog,
    _telemetry: Option<weft_telemetry::Server>,
}

/// Opens everything, waits for the first revision in which something is exposed, and listens.
pub async fn start(config: Config) -> Result<Running> {
    start_at(config, Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))).await
}

/// The same by another clock, which says how old sessions and tokens are.
pub async fn start_at(config: Config, clock: Clock) -> Result<Running> {
    let certificates = Certificates::load(config.certificates.clone())?;
    let tls = server_config(Arc::clone(&certificates))?;
    let metrics = Arc::new(Metrics::default());
    let log = AccessLog::open(config.access_log.as_deref(), metrics.log_lost.clone()).context("the access log cannot be opened")?;
    let (stop, accepting, drain) = (CancellationToken::new(), CancellationToken::new(), Drain::new());
    let (worlds_in, mut worlds) = watch::channel(None);
    let standing = Standing::default();
    let (reporter, flows) = Reporter::new(metrics.flows_lost.clone());
    let live = Live::new(worlds.clone());
    let telemetry = match config.metrics {
        None => None,
        Some(address) => {
            let state = Watched { worlds: worlds.clone(), standing: standing.clone(), certificates: Arc::clone(&certificates), live: Arc::clone(&live) };
            Some(serve_http(address, probes(&metrics, state)).await?)
        }
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(agent::follow(config.agent_socket.clone(), worlds_in, standing, stop.clone()));
    tasks.spawn(agent::report(config.agent_socket.clone(), flows, stop.clone()));
    let (reload, nudge) = mpsc::channel(1);
    tasks.spawn(certificates.watch(nudge, stop.clone()));

    let identities = Identities::new(config.clone(), worlds.clone(), looks(worlds.clone()), clock)?;
    let world = first(&mut worlds).await?;
    identities.settle(&world);
    tasks.spawn(Arc::clone(&identities).keep(stop.clone()));
    let gate = Arc::new(Gate {
        worlds: worlds.clone(),
        identities,
        pool: Pool::new(Tcp, PoolLimits::default()),
        backends: Backends::default(),
        reaches: Reaches::default(),
        live,
        teller: Arc::new(Teller::new(reporter, log.clone(), Arc::clone(&metrics))),
        metrics,
        trusted_proxies: config.trusted_proxies,
    });
    tasks.spawn(revoke::heed_policy(Arc::clone(&gate), stop.clone()));
    tasks.spawn(revoke::heed_sessions(Arc::clone(&gate), stop.clone()));
    let server = Server::new(Limits::default(), drain.clone());
    let listeners = Listeners::open(gate, server, tls, config.listen, &world, accepting.clone())?;
    let public = listeners.public();
    tasks.spawn(listeners.keep(worlds));
    let metrics = telemetry.as_ref().map(weft_telemetry::Server::addr);
    Ok(Running { metrics, public, reload, accepting, stop, drain, grace: config.drain, tasks, log, _telemetry: telemetry })
}

impl Running {
    /// Looks at the certificates' files now, and opens the access log anew.
    pub fn reload(&self) {
        self.log.reopen();
        // One that waits already will do.
        let _ = self.reload.try_send(());
    }

    /// Takes no more connections, lets what runs end within the grace, tells WebSockets to go, and then ends the rest. What is to be told of it is told.
    pub async fn stop(mut self) -> Drained {
        self.accepting.cancel();
        let drained = self.drain.drain(self.grace).await;
        self.stop.cancel();
        let told = async {
            while self.tasks.join_next().await.is_some() {}
            self.log.flush().await;
        };
        if timeout(limits::FAREWELL_WAIT, told).await.is_err() {
            tracing::warn!("not everything could be told before the end");
        }
        drained
    }

    /// Returns when a part of the gateway has ended by itself, which none should.
    pub async fn failed(&mut self) {
        self.tasks.join_next().await;
    }
}

/// Pages of signing in look like all others.
fn looks(worlds: Worlds) -> Render {
    Arc::new(move |page| match worlds.borrow().as_ref() {
        Some(world) => pages::sign_on(world.brand(), world.portal(), page),
        None => pages::sign_on(&Brand::default(), "", page),
    })
}

async fn first(worlds: &mut Worlds) -> Result<Arc<World>> {
    let world = worlds.wait_for(Option::is_some).await.context("the agent is not asked any more")?;
    world.clone().context("a world that is there is there")
}

struct Watched {
    worlds: Worlds,
    standing: Standing,
    certificates: Arc<Certificates>,
    live: Arc<Live>,
}

fn probes(metrics: &Arc<Metrics>, state: Watched) -> Probes {
    let Watched { worlds, standing, certificates, live } = state;
    let (registry, counted) = (metrics.registry(certificates.failed()), Arc::clone(metrics));
    let ready = move || match (worlds.borrow().is_some(), standing.trouble()) {
        (true, _) => Ok(()),
        (false, Some(trouble)) => Err(format!("no policy yet: {trouble}")),
        (false, None) => Err("no policy yet, or nothing is exposed".to_owned()),
    };
    let shown = move || {
        counted.live.set(i64::try_from(live.count()).unwrap_or(i64::MAX));
        counted.certificate_ends.set(certificates.not_after());
        render(&registry)
    };
    Probes { metrics: Box::new(shown), ready: Box::new(ready) }
}
