//! The calling side: a captured connection is judged again, gets a tunnel to an endpoint of its destination, and is carried.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    sync::Arc,
};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use weft_ebpf_common::{Attestation, PATH_CAPTURED, TUNNEL_PORT};
use weft_policy::{Destination, Query, ResolvedKind};
use weft_tunnel::{Answer, Header};
use weft_types::{FlowId, Protocol, Reason, ServiceId, SpiffeId, Verdict};

use super::{
    Shared,
    account::{Account, Failure, fresh_flow_id},
    balance::Load,
    canary,
    fair::Share,
    host::{Bound, LocalWorkload, Measure, Point},
    limits::{ANSWER, ATTEMPTS_MAX, DESCRIPTORS_OUT, HANDSHAKE_OUT, HANDSHAKE_OUT_LAST, READY_WAIT, TUNNEL_CONNECT},
    live::Claim,
    pool::Key,
    read_ahead::ReadAhead,
    ready::{Ready, ready},
    relay::{Around, Carried, Outcome, relay},
    sockets,
    tls::{Outgoing, blame},
    tunnel::{Tunnel, TunnelError},
};

/// A listener's side of every connection it accepts.
pub(crate) struct Outbound {
    pub(crate) shared: Arc<Shared>,
    pub(crate) workload: Arc<LocalWorkload>,
    /// The workload has gone.
    pub(crate) gone: CancellationToken,
}

/// Whom to call.
struct Call {
    header: Header,
    claim: Claim,
    expected: SpiffeId,
    candidates: Vec<IpAddr>,
    ready: Ready,
}

struct Connected {
    tunnel: Tunnel,
    key: Key,
    claim: Claim,
    /// Held for as long as the connection lives.
    _load: Load,
}

/// What a header met.
enum Met {
    Accepted,
    Refused { reason: Reason, text: String },
    Broken(TunnelError),
}

impl Outbound {
    pub(crate) async fn handle(&self, application: TcpStream, caller: SocketAddr) {
        let share = Share::Workload(self.workload.number);
        self.shared.fair.run(share, self.handle_in_turn(share, application, caller)).await;
    }

    async fn handle_in_turn(&self, share: Share, application: TcpStream, caller: SocketAddr) {
        let host = &self.shared.host;
        // A caller that has already gone fails this, and is noticed below.
        let _ = sockets::tune(&application);
        let attestation = match self.attested(&application) {
            Ok(attestation) => attestation,
            Err(detail) => {
                Account::new(host, Point::Out, &self.workload, fresh_flow_id(), None).refused(&Failure::new(Reason::Unattested, detail));
                return sockets::reset(application);
            }
        };
        if canary::is_canary(&attestation) {
            return canary::answer(application, &attestation).await;
        }
        let dialled = SocketAddr::new(attestation.dialled.into(), attestation.dialled_port);
        let mut account = Account::new(host, Point::Out, &self.workload, FlowId(attestation.flow), Some(dialled));
        let _place = match self.shared.budget.take(share, DESCRIPTORS_OUT) {
            Ok(place) => place,
            Err(failure) => {
                sockets::reset(application);
                self.decide(&mut account, dialled);
                return account.refused(&failure);
            }
        };
        let gave_up = || Failure::new(Reason::UpstreamConnect, "the caller gave up before an endpoint had answered");
        let connected = tokio::select! {
            biased;
            () = self.gone.cancelled() => return sockets::reset(application),
            () = sockets::gone(&application) => Err(gave_up()),
            connected = self.connect(&attestation, dialled, caller, &mut account) => connected,
        };
        match connected {
            Ok(connected) => self.carry(application, connected, account).await,
            Err(failure) => {
                sockets::reset(application);
                account.refused(&failure);
            }
        }
    }

    /// The kernel's record of the accepted socket, if it speaks of a captured connection of this very workload.
    fn attested(&self, application: &TcpStream) -> Result<Attestation, String> {
        let found = self.shared.host.attestation(application.as_fd()).map_err(|e| format!("its attestation cannot be read: {e}"))?;
        let a = found.ok_or("nobody attested a connection to the agent's listener")?;
        if a.path != PATH_CAPTURED || a.netns != self.workload.netns_cookie || a.source != self.workload.service.0 {
            return Err(format!("it is attested for another way in: path {}, namespace {}, source {}", a.path, a.netns, a.source));
        }
        Ok(a)
    }

    async fn carry(&self, application: TcpStream, connected: Connected, mut account: Account) {
        let Connected { mut tunnel, key, claim, _load } = connected;
        let carried = Carried::default();
        let lease = self.shared.live.enter(claim, self.workload.number);
        // A revision may have come while the tunnel was being made; from here on `revoke` sees the connection.
        if self.shared.host.index().is_some_and(|now| !claim.holds(&now)) || self.gone.is_cancelled() {
            sockets::reset(application);
            return account.refused(&Failure::new(Reason::NoGrant, "the grant went away while the tunnel was being made"));
        }
        account.opened(tunnel.key_exchange());
        let outcome = relay(application, &mut tunnel, &Around { host: &self.shared.host, lease: &lease, carried: &carried }).await;
        account.closed(&carried, &outcome);
        if matches!(outcome, Outcome::Finished) && tunnel.may_go_on() {
            if let Err(bound) = self.shared.pool.put(key, tunnel) {
                self.shared.host.measure(Measure::Bound(bound));
            }
            if self.gone.is_cancelled() {
                self.shared.pool.forget(self.workload.number);
            }
        }
    }

    async fn connect(&self, attestation: &Attestation, dialled: SocketAddr, caller: SocketAddr, account: &mut Account) -> Result<Connected, Failure> {
        let ready = ready(&self.shared.host, self.workload.service, READY_WAIT).await?;
        let call = self.judge(ready, FlowId(attestation.flow), dialled, caller, account)?;
        let none = format!("the snapshot knows no endpoint of {}: is one running, on a node that is connected?", call.expected);
        let mut last = Failure::new(Reason::NoEndpoint, none);
        let mut tried = Vec::new();
        while tried.len() < ATTEMPTS_MAX {
            let Some(load) = self.shared.balance.pick(&call.candidates, &tried) else { break };
            tried.push(load.endpoint);
            self.shared.full(load.full, Bound::Endpoints);
            let is_last = tried.len() == ATTEMPTS_MAX.min(call.candidates.len());
            match self.call(&call, SocketAddr::new(load.endpoint, TUNNEL_PORT), is_last).await {
                Ok((tunnel, key)) => {
                    load.succeeded();
                    return Ok(Connected { tunnel, key, claim: call.claim, _load: load });
                }
                Err(failure) if failure.elsewhere => {
                    load.failed();
                    last = failure;
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    /// For the record of what is refused whatever the policy says.
    fn decide(&self, account: &mut Account, dialled: SocketAddr) {
        if let Some(index) = self.shared.host.index() {
            account.decided(index.decide(&self.query(dialled)));
        }
    }

    fn query(&self, dialled: SocketAddr) -> Query {
        Query { source: self.workload.service, destination: Destination::Address { addr: dialled.ip(), port: dialled.port() }, protocol: Protocol::Tcp }
    }

    /// Decides again, since policy may have changed between the kernel's verdict and now.
    fn judge(&self, ready: Ready, flow: FlowId, dialled: SocketAddr, caller: SocketAddr, account: &mut Account) -> Result<Call, Failure> {
        let index = &ready.index;
        let decision = index.decide(&self.query(dialled));
        let (verdict, reason, service_port, miss) = (decision.verdict, decision.reason, decision.port, decision.nearest_miss.clone());
        let destination = decision.destination.as_ref().map(|d| (d.id, d.identity.clone()));
        account.decided(decision);
        if verdict == Verdict::Deny {
            return Err(Failure::new(reason, miss.unwrap_or_default()));
        }
        let (Some((destination, expected)), Some(resolved)) = (destination, index.resolve(dialled.ip())) else {
            return Err(Failure::new(Reason::UnknownDestination, format!("{dialled} belongs to no service of the mesh")));
        };
        let candidates = match resolved.kind {
            ResolvedKind::Vip => self.addresses(&ready, destination, dialled.is_ipv4()),
            ResolvedKind::Endpoint => vec![dialled.ip()],
            ResolvedKind::External => return Err(Failure::new(Reason::UnknownDestination, format!("{dialled} is outside the mesh and has no tunnel"))),
        };
        let claim = Claim { source: self.workload.service, destination, service_port };
        let caller = SocketAddr::new(caller.ip().to_canonical(), caller.port());
        Ok(Call { header: Header { destination: dialled, caller, flow, service_port }, claim, expected, candidates, ready })
    }

    /// One address of each endpoint, of the dialled family where it has one.
    fn addresses(&self, ready: &Ready, service: ServiceId, v4: bool) -> Vec<IpAddr> {
        let endpoints = ready.index.endpoints(service);
        let one = |addresses: &[IpAddr]| addresses.iter().find(|a| a.is_ipv4() == v4).or(addresses.first()).copied();
        endpoints.iter().filter_map(|e| one(&e.addresses)).collect()
    }

    /// An accepted tunnel to one endpoint: a warm one if there is one, else a fresh one.
    async fn call(&self, call: &Call, endpoint: SocketAddr, is_last: bool) -> Result<(Tunnel, Key), Failure> {
        let shared = &self.shared;
        let outgoing = shared.configs.outgoing(self.workload.service, &call.ready.svid, &call.ready.bundle, &call.expected);
        let outgoing = outgoing.ok_or_else(|| Failure::new(Reason::NoEndpoint, format!("{} is no identity that can be called", call.expected)))?;
        shared.full(outgoing.full, Bound::Configs);
        let key = Key { workload: self.workload.number, endpoint, generation: outgoing.generation };
        let warm = shared.pool.take(&key);
        shared.host.measure(Measure::Pool { hit: warm.is_some() });
        if let Some(mut tunnel) = warm {
            match ask(&mut tunnel, &call.header).await {
                Met::Accepted => return Ok((tunnel, key)),
                Met::Refused { reason, text } => return Err(refusal(endpoint, reason, &text)),
                // It died while it idled. Nothing of the application was sent, so a fresh one may be asked.
                Met::Broken(e) => tracing::debug!(%endpoint, error = %e, "a warm tunnel was dead"),
            }
        }
        let mut tunnel = self.dial(outgoing, endpoint, is_last).await?;
        match ask(&mut tunnel, &call.header).await {
            Met::Accepted => Ok((tunnel, key)),
            Met::Refused { reason, text } => Err(refusal(endpoint, reason, &text)),
            Met::Broken(TunnelError::Io(e)) => Err(Failure::elsewhere(blame(&e), format!("{endpoint} ended the tunnel before its answer: {e}"))),
            Met::Broken(e) => Err(Failure::elsewhere(Reason::PeerRefused, format!("{endpoint} gave no answer: {e}"))),
        }
    }

    async fn dial(&self, outgoing: Outgoing, endpoint: SocketAddr, is_last: bool) -> Result<Tunnel, Failure> {
        let host = &self.shared.host;
        let socket = sockets::connect(host, &self.workload, endpoint, TUNNEL_CONNECT, |_| Ok(())).await.map_err(|e| {
            Failure::elsewhere(Reason::UpstreamConnect, format!("{endpoint} cannot be reached: {e}: is its node up, and its workload enrolled?"))
        })?;
        let within = if is_last { HANDSHAKE_OUT_LAST } else { HANDSHAKE_OUT };
        let handshake = TlsConnector::from(outgoing.config).connect(outgoing.name, ReadAhead::new(socket));
        let done = timeout(within, handshake).await;
        host.measure(Measure::Handshake { point: Point::Out, ok: matches!(done, Ok(Ok(_))) });
        match done {
            Err(_) => {
                let detail = format!("{endpoint} did not shake hands within {} s: is the agent of its node running?", within.as_secs());
                Err(Failure::elsewhere(Reason::UpstreamConnect, detail))
            }
            Ok(Err(e)) => Err(Failure::elsewhere(blame(&e), format!("handshake with {endpoint} failed: {e}"))),
            Ok(Ok(stream)) => {
                let tunnel = Tunnel::new(tokio_rustls::TlsStream::Client(stream));
                let speaks = tunnel.speaks_weft();
                speaks.then_some(tunnel).ok_or_else(|| Failure::elsewhere(Reason::PeerRefused, format!("{endpoint} does not speak weft/1")))
            }
        }
    }
}

async fn ask(tunnel: &mut Tunnel, header: &Header) -> Met {
    let asked = timeout(ANSWER, async {
        tunnel.send_header(header).await?;
        tunnel.answer().await
    });
    match asked.await {
        Ok(Ok(Answer::Accepted)) => Met::Accepted,
        Ok(Ok(Answer::Refused { reason, text })) => Met::Refused { reason, text },
        Ok(Err(e)) => Met::Broken(e),
        Err(_) => Met::Broken(TunnelError::Late(ANSWER.as_secs())),
    }
}

/// What the other node says counts as its refusal, except where it only could not reach its own application.
fn refusal(endpoint: SocketAddr, reason: Reason, text: &str) -> Failure {
    let detail = format!("{endpoint} answered {reason}: {text}");
    match reason {
        Reason::UpstreamConnect => Failure::elsewhere(reason, detail),
        Reason::WrongDestination | Reason::NoSnapshot | Reason::Unidentified => Failure::elsewhere(Reason::PeerRefused, detail),
        _ => Failure::new(Reason::PeerRefused, detail),
    }
}
