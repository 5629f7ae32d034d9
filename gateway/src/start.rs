//! From a configuration to a running gateway, and back in order.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use weft_http::{Drain, Drained, Limits, Pool, PoolLimits, Server, Tcp};
use weft_telemetry::{Probes, render, serve_http};
use weft_types::builtin;

use crate::{
    agent::{self, Reporter, Standing},
    certificates::{Certificates, server_config},
    config::Config,
    door::{AccessLog, BackChannel, Backends, Gate, Redirect, Teller},
    identity::Identities,
    limits,
    listen::{Plain, Public, accept_plain, bind},
    live::Live,
    metrics::Metrics,
    sso::{self, Notice, SessionEvent},
    world::{World, Worlds},
};

/// A gateway at work.
pub struct Running {
    pub metrics: Option<SocketAddr>,
    /// The public listener.
    pub public: SocketAddr,
    reload: mpsc::Sender<()>,
    accepting: CancellationToken,
    stop: CancellationToken,
    drain: Drain,
    grace: Duration,
    tasks: JoinSet<()>,
    _telemetry: Option<weft_telemetry::Server>,
}

/// Opens everything, waits for the first revision in which something is exposed, and listens.
pub async fn start(config: Config) -> Result<Running> {
    let certificates = Certificates::load(config.certificates.clone())?;
    let tls = server_config(Arc::clone(&certificates))?;
    let metrics = Arc::new(Metrics::default());
    let log = AccessLog::open(config.access_log.clone(), metrics.log_lost.clone()).context("the access log cannot be opened")?;
    let (stop, accepting, drain) = (CancellationToken::new(), CancellationToken::new(), Drain::new());
    let (worlds, standing) = (watch::channel(None), Standing::default());
    let (worlds_in, mut worlds) = worlds;
    let (reporter, flows) = Reporter::new(metrics.flows_lost.clone());
    let mut tasks = JoinSet::new();
    let live = Arc::new(Live::default());
    let telemetry = match config.metrics {
        None => None,
        Some(address) => {
            let state = Watched { worlds: worlds.clone(), standing: standing.clone(), certificates: Arc::clone(&certificates), live: Arc::clone(&live) };
            Some(serve_http(address, probes(&metrics, state)).await?)
        }
    };
    tasks.spawn(agent::follow(config.agent_socket.clone(), worlds_in, standing.clone(), stop.clone()));
    tasks.spawn(agent::report(config.agent_socket.clone(), flows, stop.clone()));
    let (reload, nudge) = mpsc::channel(1);
    tasks.spawn(certificates.watch(nudge, stop.clone()));

    let identities = Identities::new(config.clone(), worlds.clone(), Arc::new(sso::plain))?;
    let world = first(&mut worlds).await?;
    identities.settle(&world);
    tasks.spawn(Arc::clone(&identities).keep(stop.clone()));
    let gate = Arc::new(Gate {
        worlds: worlds.clone(),
        identities,
        pool: Pool::new(Tcp, PoolLimits::default()),
        backends: Backends::default(),
        live: Arc::clone(&live),
        teller: Arc::new(Teller::new(reporter, log, Arc::clone(&metrics))),
        metrics,
        trusted_proxies: config.trusted_proxies.clone(),
    });
    tasks.spawn(revise(Arc::clone(&gate), stop.clone()));
    tasks.spawn(heed_sessions(Arc::clone(&gate), stop.clone()));
    let listeners = Listeners { gate, tls, drain: drain.clone(), address: config.listen, stop: accepting.clone() };
    let open = listeners.open(&world).await?;
    let public = open.public.local_addr()?;
    tasks.spawn(listeners.keep(open, worlds));
    Ok(Running {
        metrics: telemetry.as_ref().map(weft_telemetry::Server::addr),
        public,
        reload,
        accepting,
        stop,
        drain,
        grace: config.drain,
        tasks,
        _telemetry: telemetry,
    })
}

impl Running {
    /// Looks at the certificates' files now.
    pub fn reload(&self) {
        // One that waits already will do.
        let _ = self.reload.try_send(());
    }

    /// Takes no more connections, lets what runs end within the grace, tells WebSockets to go, and then ends the rest.
    pub async fn stop(mut self) -> Drained {
        self.accepting.cancel();
        let drained = self.drain.drain(self.grace).await;
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), ended).await;
        drained
    }

    /// Returns when a part of the gateway has ended by itself, which none should.
    pub async fn failed(&mut self) {
        self.tasks.join_next().await;
    }
}

async fn first(worlds: &mut Worlds) -> Result<Arc<World>> {
    let world = worlds.wait_for(Option::is_some).await.context("the agent is not asked any more")?;
    world.clone().context("a world that is there is there")
}

/// Whatever needs a new look when the policy changes.
async fn revise(gate: Arc<Gate>, stop: CancellationToken) {
    let mut worlds = gate.worlds.clone();
    loop {
        let world = worlds.borrow_and_update().clone();
        gate.metrics.revision.set(world.as_ref().map_or(0, |world| i64::try_from(world.revision().0).unwrap_or(i64::MAX)));
        let ended = gate.live.revised(world.as_ref());
        count_revoked(&gate, ended, "another revision");
        match stop.run_until_cancelled(worlds.changed()).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

/// Sessions that end or change take what they hold open with them.
async fn heed_sessions(gate: Arc<Gate>, stop: CancellationToken) {
    loop {
        let Some(identity) = gate.identities.current() else {
            if stop.run_until_cancelled(sleep(limits::PROVIDER_RETRY)).await.is_none() {
                return;
            }
            continue;
        };
        let mut notices = identity.sso.sessions().subscribe();
        loop {
            let same = || gate.identities.current().is_some_and(|now| Arc::ptr_eq(&now, &identity));
            let notice = tokio::select! {
                () = stop.cancelled() => return,
                notice = notices.next() => notice,
                () = sleep(limits::SWEEP) => if same() { continue } else { break },
            };
            match notice {
                Some(Notice::One(SessionEvent::Ended(id, _))) => count_revoked(&gate, gate.live.session_is(id, None), "a session that ended"),
                Some(Notice::One(SessionEvent::Changed(id))) => look_again(&gate, &identity, id).await,
                Some(Notice::Missed) => {
                    for id in gate.live.sessions() {
                        look_again(&gate, &identity, id).await;
                    }
                }
                None => break,
            }
        }
    }
}

async fn look_again(gate: &Arc<Gate>, identity: &Arc<crate::identity::Identity>, id: sso::SessionId) {
    let (sessions, now) = (Arc::clone(identity.sso.sessions()), gate.identities.now());
    let found = tokio::task::spawn_blocking(move || sessions.get(id, now)).await;
    // What cannot be looked at is not known to be over.
    if let Ok(Ok(session)) = found {
        count_revoked(gate, gate.live.session_is(id, session.map(|session| session.person.clone())), "a person's groups");
    }
}

fn count_revoked(gate: &Gate, ended: usize, by: &str) {
    if ended > 0 {
        gate.metrics.revoked.inc_by(ended as u64);
        tracing::info!(ended, by, "open exchanges are ended: what had let them in is gone");
    }
}

struct Listeners {
    gate: Arc<Gate>,
    tls: Arc<ServerConfig>,
    drain: Drain,
    address: IpAddr,
    stop: CancellationToken,
}

/// The ports that the policy names.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ports {
    public: u16,
    redirect: Option<u16>,
}

struct Open {
    ports: Ports,
    public: TcpListener,
    redirect: Option<TcpListener>,
    channel: TcpListener,
}

impl Ports {
    fn of(world: &World) -> Self {
        Self { public: world.gateway().listen_port, redirect: world.gateway().redirect_port }
    }
}

impl Listeners {
    async fn open(&self, world: &World) -> Result<Open> {
        let ports = Ports::of(world);
        let listen = |port, what| {
            bind(self.address, port).with_context(|| format!("cannot listen on {} port {port}, {what}: another program may hold it", self.address))
        };
        Ok(Open {
            ports,
            public: listen(ports.public, "the Mesh's listenPort")?,
            redirect: ports.redirect.map(|port| listen(port, "the Mesh's redirectPort")).transpose()?,
            channel: listen(builtin::BACKCHANNEL_TARGET_PORT, "the back channel")?,
        })
    }

    /// Serves, and follows the ports that the policy names.
    async fn keep(self, open: Open, mut worlds: Worlds) {
        let server = Server::new(Limits::default(), self.drain.clone());
        let public = Public {
            gate: Arc::clone(&self.gate),
            server: server.clone(),
            tls: Arc::clone(&self.tls),
            slots: Arc::new(Semaphore::new(limits::CONNECTIONS_MAX)),
            handshakes: Arc::new(Semaphore::new(limits::HANDSHAKES_MAX)),
        };
        let channel = Plain::BackChannel(BackChannel { gate: Arc::clone(&self.gate) });
        tokio::spawn(accept_plain(open.channel, server.clone(), channel, self.stop.child_token()));
        let redirect = Plain::Redirect(Redirect { worlds: worlds.clone() });
        let mut ports = open.ports;
        let mut taking = self.stop.child_token();
        tokio::spawn(public.clone().accept(open.public, taking.clone()));
        let mut leading = self.stop.child_token();
        if let Some(listener) = open.redirect {
            tokio::spawn(accept_plain(listener, server.clone(), redirect.clone(), leading.clone()));
        }
        loop {
            match self.stop.run_until_cancelled(worlds.changed()).await {
                Some(Ok(())) => {}
                _ => return,
            }
            let wanted = worlds.borrow_and_update().as_ref().map_or(ports, |world| Ports::of(world));
            if wanted.public != ports.public
                && let Some(listener) = self.move_to(wanted.public)
            {
                let next = self.stop.child_token();
                tokio::spawn(public.clone().accept(listener, next.clone()));
                std::mem::replace(&mut taking, next).cancel();
                ports.public = wanted.public;
            }
            if wanted.redirect != ports.redirect {
                leading.cancel();
                leading = self.stop.child_token();
                if let Some(listener) = wanted.redirect.and_then(|port| self.move_to(port)) {
                    tokio::spawn(accept_plain(listener, server.clone(), redirect.clone(), leading.clone()));
                }
                ports.redirect = wanted.redirect;
            }
        }
    }

    fn move_to(&self, port: u16) -> Option<TcpListener> {
        match bind(self.address, port) {
            Ok(listener) => {
                tracing::info!(port, "listening on another port: the policy has moved it");
                Some(listener)
            }
            Err(error) => {
                tracing::error!(port, %error, "cannot listen on the port that the policy names");
                None
            }
        }
    }
}

struct Watched {
    worlds: Worlds,
    standing: Standing,
    certificates: Arc<Certificates>,
    live: Arc<Live>,
}

fn probes(metrics: &Arc<Metrics>, state: Watched) -> Probes {
    let (registry, counted) = (metrics.registry(), Arc::clone(metrics));
    let Watched { worlds, standing, certificates, live } = state;
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
