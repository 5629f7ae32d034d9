//! The listening side: a tunnel to one workload of this node, chosen by the name that the caller asks for, whose every header is judged, and delivered to the application or refused.

use std::{io, net::SocketAddr, os::fd::AsFd as _, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::sync::CancellationToken;
use weft_ebpf_common::{Addr, Attestation, PATH_DELIVERED, SIDE_CLIENT};
use weft_policy::{Index, ResolvedKind};
use weft_snapshot::Port;
use weft_tunnel::{Answer, Header, HeaderDecoder, HeaderError};
use weft_types::{Protocol, Reason, SpiffeId, Verdict};

use super::{
    Shared,
    account::{Account, Failure, fresh_flow_id},
    fair::Share,
    host::{Bound, LocalWorkload, Measure, Point},
    knocks::Knock,
    limits::{DELIVERY_CONNECT, DESCRIPTORS_IN, HANDSHAKE_IN, HEADER, READY_WAIT, TUNNEL_IDLE},
    live::Claim,
    read_ahead::ReadAhead,
    ready::ready,
    relay::{Around, Carried, Outcome, relay},
    residents::Residents,
    sockets,
    tunnel::{Tunnel, TunnelError},
};

/// The listener of one namespace.
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    pub(crate) residents: Residents,
}

/// One workload's side of a connection.
pub(crate) struct Inbound {
    pub(crate) shared: Arc<Shared>,
    pub(crate) workload: Arc<LocalWorkload>,
    /// The workload has gone.
    pub(crate) gone: CancellationToken,
}

type Greeted = tokio_rustls::StartHandshake<ReadAhead>;

impl Door {
    pub(crate) async fn handle(&self, socket: TcpStream, from: SocketAddr, shaking: OwnedSemaphorePermit) {
        let (host, from) = (&self.shared.host, from.ip().to_canonical());
        let share = Share::Address(from);
        let _place = match self.shared.budget.take(share, DESCRIPTORS_IN) {
            Ok(place) => place,
            Err(failure) => {
                host.measure(Measure::Refused { point: Point::In, reason: failure.reason });
                return tracing::debug!(%from, detail = failure.detail, "no tunnel");
            }
        };
        let Some(knock) = self.shared.knocks.enter(from, shaking, || host.measure(Measure::Bound(Bound::Handshakes))).await else { return };
        if let Some((inbound, greeted)) = self.shared.fair.run(share, self.greet(socket)).await {
            inbound.handle(share, greeted, knock).await;
        }
    }

    /// Hears whom the caller asks for.
    async fn greet(&self, socket: TcpStream) -> Option<(Inbound, Greeted)> {
        let host = &self.shared.host;
        let failed = |detail: String| {
            host.measure(Measure::Handshake { point: Point::In, ok: false });
            tracing::debug!(detail, "no tunnel");
            None
        };
        if let Err(e) = sockets::tune(&socket) {
            return failed(e.to_string());
        }
        let greeted = match timeout(HANDSHAKE_IN, LazyConfigAcceptor::new(rustls::server::Acceptor::default(), ReadAhead::new(socket))).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(e)) => return failed(e.to_string()),
            Err(_) => return failed(format!("no greeting within {} s", HANDSHAKE_IN.as_secs())),
        };
        let Some(asked) = self.residents.asked(host, greeted.client_hello().server_name()) else {
            return failed("nobody lives in this namespace any more".to_owned());
        };
        Some((Inbound { shared: self.shared.clone(), workload: asked.workload, gone: asked.gone }, greeted))
    }
}

impl Inbound {
    async fn handle(&self, nobody: Share, greeted: Greeted, knock: Knock) {
        let accepted = tokio::select! {
            biased;
            () = self.gone.cancelled() => return,
            accepted = self.shared.fair.run(nobody, self.shake_hands(greeted)) => accepted,
        };
        drop(knock);
        self.shared.host.measure(Measure::Handshake { point: Point::In, ok: accepted.is_ok() });
        let (tunnel, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(detail) => return tracing::debug!(workload = %self.workload.uid, detail, "no tunnel"),
        };
        let caller = self.shared.host.index().and_then(|index| index.by_identity(&peer).map(|service| service.id));
        let share = Share::Caller(self.workload.number, caller);
        self.shared.fair.run(share, self.serve_all(share, tunnel, &peer)).await;
    }

    async fn serve_all(&self, share: Share, mut tunnel: Tunnel, peer: &SpiffeId) {
        // The first header is served even while the agent drains: its caller has no other agent to ask. Later ones have the next agent.
        let (mut patience, mut leave) = (HEADER, None);
        loop {
            let header = tokio::select! {
                biased;
                () = self.gone.cancelled() => return,
                header = next_header(&mut tunnel, patience, leave) => header,
            };
            let again = match header {
                Ok(Some(header)) => self.serve(share, &mut tunnel, peer, header).await,
                Ok(None) => return,
                Err(e) => return self.answer_nonsense(&mut tunnel, &e).await,
            };
            if !again || !tunnel.may_go_on() {
                return;
            }
            (patience, leave) = (TUNNEL_IDLE, Some(&self.shared.draining));
        }
    }

    async fn shake_hands(&self, greeted: Greeted) -> Result<(Tunnel, SpiffeId), String> {
        let ready = ready(&self.shared.host, self.workload.service, READY_WAIT).await.map_err(|(_, detail)| detail)?;
        let config = self.shared.configs.incoming(self.workload.service, &ready.svid, &ready.bundle);
        let shaken = timeout(HANDSHAKE_IN, greeted.into_stream(config)).await;
        let stream = shaken.map_err(|_| format!("no handshake within {} s", HANDSHAKE_IN.as_secs()))?.map_err(|e| e.to_string())?;
        let tunnel = Tunnel::new(tokio_rustls::TlsStream::Server(stream));
        if !tunnel.speaks_weft() {
            return Err("the peer does not speak weft/1".to_owned());
        }
        let peer = tunnel.peer().map_err(|e| e.to_string())?;
        Ok((tunnel, peer))
    }

    /// Judges, connects, answers and carries. Returns whether the tunnel may carry another connection.
    async fn serve(&self, share: Share, tunnel: &mut Tunnel, peer: &SpiffeId, header: Header) -> bool {
        let mut account = Account::new(&self.shared.host, Point::In, &self.workload, header.flow, Some(header.destination));
        let admitted = tokio::select! {
            biased;
            () = self.gone.cancelled() => return false,
            admitted = async {
                let place = self.shared.budget.take(share, DESCRIPTORS_IN)?;
                let (application, claim) = self.admit(tunnel, peer, &header, &mut account).await?;
                Ok::<_, Failure>((application, claim, place))
            } => admitted,
        };
        let (application, claim, _place) = match admitted {
            Ok(admitted) => admitted,
            Err(failure) => {
                account.refused(&failure);
                return refuse(tunnel, failure.reason).await;
            }
        };
        let lease = self.shared.live.enter(claim, self.workload.number);
        // A revision may have come while the application was being reached; from here on `revoke` sees the connection.
        if self.shared.host.index().is_some_and(|now| !claim.holds(&now)) || self.gone.is_cancelled() {
            sockets::reset(application);
            account.refused(&Failure::new(Reason::NoGrant, "the grant went away while the application was being reached"));
            return refuse(tunnel, Reason::NoGrant).await;
        }
        account.opened(tunnel.key_exchange());
        let carried = Carried::default();
        let outcome = match timeout(HEADER, tunnel.send_answer(&Answer::Accepted)).await {
            Ok(Ok(())) => relay(application, tunnel, &Around { host: &self.shared.host, lease: &lease, carried: &carried }).await,
            Ok(Err(e)) => unanswered(application, io::Error::other(e)),
            Err(late) => unanswered(application, late.into()),
        };
        account.closed(&carried, &outcome);
        matches!(outcome, Outcome::Finished)
    }

    async fn admit(&self, tunnel: &Tunnel, peer: &SpiffeId, header: &Header, account: &mut Account) -> Result<(TcpStream, Claim), Failure> {
        let index = self.shared.host.index().ok_or_else(|| Failure::new(Reason::NoSnapshot, ""))?;
        let source = index.by_identity(peer).ok_or_else(|| Failure::new(Reason::UnknownPeer, format!("{peer} is no service of this snapshot")))?;
        let port = self.destination(&index, header)?;
        let claim = Claim { source: source.id, destination: self.workload.service, service_port: port.port };
        let decision = index.decide(&claim.query());
        let (verdict, reason, rule, miss) = (decision.verdict, decision.reason, decision.rule, decision.nearest_miss.clone());
        account.decided(decision);
        if verdict == Verdict::Deny {
            return Err(Failure::new(reason, miss.unwrap_or_default()));
        }
        let (caller, own) = tunnel.addresses().map_err(|e| Failure::new(Reason::UpstreamConnect, e.to_string()))?;
        let delivery = Attestation {
            flow: header.flow.0,
            revision: index.snapshot().revision.0,
            netns: self.workload.netns_cookie,
            source: source.id.0,
            destination: self.workload.service.0,
            rule: rule.0,
            path: PATH_DELIVERED,
            dialled: Addr::from(header.destination.ip()),
            dialled_port: header.destination.port(),
            // The address is the connection's own; only the port has to be believed.
            caller: Addr::from(caller),
            caller_port: header.caller.port(),
            service_port: port.port,
            side: SIDE_CLIENT,
            since_ns: 0,
        };
        let to = SocketAddr::new(own, port.target_port);
        let host = &self.shared.host;
        let listens = host.is_listener(&self.workload, to).map_err(|e| Failure::new(Reason::UpstreamConnect, format!("{to}: {e}")))?;
        if !listens {
            return Err(Failure::new(Reason::UpstreamConnect, format!("{to}: nobody of this workload listens there")));
        }
        let application = sockets::connect(host, &self.workload, to, DELIVERY_CONNECT, |socket| host.set_delivery(socket.as_fd(), &delivery)).await;
        let application = application.map_err(|e| Failure::new(Reason::UpstreamConnect, format!("{to}: {e}: does the application listen there?")))?;
        Ok((application, claim))
    }

    /// The port of this workload that the header speaks of, if it speaks of this workload at all.
    fn destination<'a>(&self, index: &'a Index, header: &Header) -> Result<&'a Port, Failure> {
        let (to, service) = (header.destination, self.workload.service);
        let vip = match index.resolve(to.ip()) {
            Some(r) if r.service == service && r.kind == ResolvedKind::Vip => true,
            Some(r) if r.service == service && r.kind == ResolvedKind::Endpoint => false,
            _ if self.workload.addresses.contains(&to.ip()) => false,
            _ => return Err(Failure::new(Reason::WrongDestination, format!("{} is no address of this workload's service", to.ip()))),
        };
        let port = index.service_port(service, header.service_port, Protocol::Tcp);
        let fits = port.filter(|p| to.port() == if vip { p.port } else { p.target_port });
        fits.ok_or_else(|| {
            Failure::new(Reason::UnknownPort, format!("{to} is not service port {}: the nodes may hold different revisions", header.service_port))
        })
    }

    async fn answer_nonsense(&self, tunnel: &mut Tunnel, error: &TunnelError) {
        if let TunnelError::Header(e) = error
            && *e != HeaderError::Reset
        {
            let failure = Failure::new(Reason::BadHeader, e.to_string());
            Account::new(&self.shared.host, Point::In, &self.workload, fresh_flow_id(), None).refused(&failure);
            let _ = timeout(HEADER, tunnel.send_answer(&Answer::refused(Reason::BadHeader, &e.to_string()))).await;
        }
        tracing::debug!(workload = %self.workload.uid, %error, "the tunnel is closed");
    }
}

fn unanswered(application: TcpStream, error: io::Error) -> Outcome {
    sockets::reset(application);
    Outcome::Broken(error)
}

/// The other side learns the reason and its sentence; what was nearly allowed is this side's business.
async fn refuse(tunnel: &mut Tunnel, reason: Reason) -> bool {
    let _ = timeout(HEADER, tunnel.send_answer(&Answer::refused(reason, reason.explain()))).await;
    false
}

/// `None`: the other side has closed, or has said nothing within `patience`, or `leave` has come while the tunnel is idle.
async fn next_header(tunnel: &mut Tunnel, patience: Duration, leave: Option<&CancellationToken>) -> Result<Option<Header>, TunnelError> {
    let mut decoder = HeaderDecoder::default();
    let mut deadline = Instant::now() + patience;
    loop {
        let begun = decoder.has_begun();
        let some = tokio::select! {
            biased;
            () = left(leave), if !begun => return Ok(None),
            some = timeout_at(deadline, tunnel.some_of_header(&mut decoder)) => some,
        };
        match some {
            Ok(Ok(Some(header))) => return Ok(Some(header)),
            Ok(Ok(None)) if !begun => deadline = Instant::now() + HEADER,
            Ok(Ok(None)) => {}
            Ok(Err(TunnelError::Ended | TunnelError::Io(_))) if !begun => return Ok(None),
            Ok(Err(e)) => return Err(e),
            Err(_) if !begun => return Ok(None),
            Err(_) => return Err(TunnelError::Late(HEADER.as_secs())),
        }
    }
}

async fn left(leave: Option<&CancellationToken>) {
    match leave {
        Some(leave) => leave.cancelled().await,
        None => std::future::pending().await,
    }
}
