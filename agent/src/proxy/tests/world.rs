//! Two nodes in one process: real sockets, real TLS, real policy. Only the kernel is played: what it would attest is told by the test,
//! and namespaces are loopback addresses.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::timeout,
};
use weft_ebpf_common::{Addr, Attestation, PATH_CAPTURED, SIDE_SERVER, TUNNEL_PORT};
use weft_identity::{Ca, KeyAndCsr, Svid, TrustBundle};
use weft_policy::Index;
use weft_snapshot::{Endpoint, Grant, Port, Service, ServiceKind, Snapshot};
use weft_types::{Protocol, Revision, RuleId, ServiceId, SpiffeId};

use crate::proxy::{FlowRecord, Host, LocalWorkload, Measure, Point, Proxy, Residents, Serving};

pub(crate) const CLIENT: ServiceId = ServiceId(1);
pub(crate) const SERVER: ServiceId = ServiceId(2);
pub(crate) const OTHER: ServiceId = ServiceId(3);
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// An agent with everything that a proxy asks of it in memory.
pub(crate) struct Node {
    pub(crate) index: Mutex<Option<Arc<Index>>>,
    pub(crate) svids: Mutex<HashMap<ServiceId, Arc<Svid>>>,
    pub(crate) bundle: Mutex<Option<Arc<TrustBundle>>>,
    changed: watch::Sender<u64>,
    /// What the kernel attests of the next accepted socket.
    pub(crate) attests: Mutex<Option<Attestation>>,
    pub(crate) deliveries: Mutex<Vec<Attestation>>,
    pub(crate) measures: Mutex<Vec<Measure>>,
    records: Mutex<Vec<FlowRecord>>,
    recorded: watch::Sender<usize>,
    flows: AtomicU64,
}

impl Node {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            index: Mutex::default(),
            svids: Mutex::default(),
            bundle: Mutex::default(),
            changed: watch::channel(0).0,
            attests: Mutex::default(),
            deliveries: Mutex::default(),
            measures: Mutex::default(),
            records: Mutex::default(),
            recorded: watch::channel(0).0,
            flows: AtomicU64::new(1),
        })
    }

    pub(crate) fn tick(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    pub(crate) fn set_index(&self, index: &Arc<Index>) {
        *self.index.lock().unwrap() = Some(index.clone());
        self.tick();
    }

    /// The first record that fits, also one that is still to come.
    pub(crate) async fn record_of(&self, fits: impl Fn(&FlowRecord) -> bool) -> FlowRecord {
        let mut recorded = self.recorded.subscribe();
        let found = async {
            loop {
                recorded.mark_unchanged();
                if let Some(r) = self.records.lock().unwrap().iter().find(|r| fits(r)) {
                    return r.clone();
                }
                recorded.changed().await.unwrap();
            }
        };
        let found = timeout(DEADLINE, found).await;
        found.unwrap_or_else(|_| panic!("no such record among {:#?}", self.records.lock().unwrap()))
    }

    pub(crate) async fn finished(&self) -> FlowRecord {
        self.record_of(|r| r.duration.is_some()).await
    }

    pub(crate) fn count(&self, what: Measure) -> usize {
        self.measures.lock().unwrap().iter().filter(|m| **m == what).count()
    }
}

impl Host for Node {
    fn index(&self) -> Option<Arc<Index>> {
        self.index.lock().unwrap().clone()
    }

    fn svid(&self, service: ServiceId) -> Option<Arc<Svid>> {
        self.svids.lock().unwrap().get(&service).cloned()
    }

    fn trust_bundle(&self) -> Option<Arc<TrustBundle>> {
        self.bundle.lock().unwrap().clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn attestation(&self, _: BorrowedFd<'_>) -> io::Result<Option<Attestation>> {
        let flow = self.flows.fetch_add(1, Ordering::Relaxed);
        Ok(self.attests.lock().unwrap().map(|a| Attestation { flow, ..a }))
    }

    fn set_delivery(&self, _: BorrowedFd<'_>, delivery: &Attestation) -> io::Result<()> {
        self.deliveries.lock().unwrap().push(*delivery);
        Ok(())
    }

    fn is_listener(&self, _: &LocalWorkload, _: SocketAddr) -> io::Result<bool> {
        Ok(true)
    }

    fn segments(&self, _: BorrowedFd<'_>) -> io::Result<u32> {
        Ok(0)
    }

    fn socket(&self, workload: &LocalWorkload, domain: Domain) -> io::Result<Socket> {
        let socket = Socket::new(domain, Type::STREAM, Some(IpProtocol::TCP))?;
        socket.bind(&SocketAddr::new(workload.addresses[0], 0).into())?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn record(&self, flow: FlowRecord) {
        self.records.lock().unwrap().push(flow);
        self.recorded.send_modify(|n| *n += 1);
    }

    fn measure(&self, what: Measure) {
        self.measures.lock().unwrap().push(what);
    }
}

/// `a` holds the client, `b` the server, `spare` an address where a second endpoint of the server may be.
pub(crate) struct World {
    pub(crate) ca: Ca,
    pub(crate) a: Arc<Node>,
    pub(crate) b: Arc<Node>,
    pub(crate) proxy_a: Proxy,
    pub(crate) proxy_b: Proxy,
    pub(crate) client: Arc<LocalWorkload>,
    pub(crate) server: Arc<LocalWorkload>,
    pub(crate) spare: IpAddr,
    pub(crate) capture: SocketAddr,
    /// The server's application.
    pub(crate) application: TcpListener,
    pub(crate) snapshot: Snapshot,
}

impl World {
    pub(crate) async fn new() -> Self {
        let world = Self::unserved().await;
        let listener = std::net::TcpListener::bind((world.server.addresses[0], TUNNEL_PORT)).unwrap();
        world.serve_tunnel(&world.proxy_b, listener);
        world
    }

    /// As the server's agent does.
    pub(crate) fn serve_tunnel(&self, proxy: &Proxy, listener: std::net::TcpListener) -> Serving {
        let residents = Residents::default();
        proxy.move_in(&residents, self.server.clone());
        proxy.serve_tunnel(residents, listener).unwrap()
    }

    /// As `new`, but nobody listens for tunnels.
    pub(crate) async fn unserved() -> Self {
        let net = network();
        let ip = |last| IpAddr::V4(Ipv4Addr::new(127, net[0], net[1], last));
        let application = TcpListener::bind((ip(2), 0)).await.unwrap();
        let snapshot = snapshot(ip(2), application.local_addr().unwrap().port());
        let now = SystemTime::now();
        let ca = Ca::create(&"corp.example".parse().unwrap(), now).unwrap().ca;
        let (a, b) = (Node::new(), Node::new());
        let index = Arc::new(Index::new(Arc::new(snapshot.clone())));
        for node in [&a, &b] {
            node.set_index(&index);
            *node.bundle.lock().unwrap() = Some(Arc::new(ca.bundle().unwrap()));
        }
        let workload = |uid: &str, service, number, address| {
            Arc::new(LocalWorkload { uid: uid.parse().unwrap(), service, number, netns_cookie: u64::from(number) + 70, addresses: vec![address] })
        };
        let (client, server) = (workload("client-1", CLIENT, 1, ip(1)), workload("server-1", SERVER, 2, ip(2)));
        a.svids.lock().unwrap().insert(CLIENT, svid(&ca, &snapshot, CLIENT));
        b.svids.lock().unwrap().insert(SERVER, svid(&ca, &snapshot, SERVER));
        *a.attests.lock().unwrap() = Some(captured(&client, SocketAddr::new(VIP.into(), 80)));
        let (proxy_a, proxy_b) = (Proxy::new(a.clone()), Proxy::new(b.clone()));
        let listener = std::net::TcpListener::bind((ip(1), 0)).unwrap();
        let capture = listener.local_addr().unwrap();
        proxy_a.serve_capture(client.clone(), listener).unwrap();
        Self { ca, a, b, proxy_a, proxy_b, client, server, spare: ip(3), capture, application, snapshot }
    }

    pub(crate) fn identity(&self, service: ServiceId) -> SpiffeId {
        self.snapshot.services.iter().find(|s| s.id == service).unwrap().identity.clone()
    }

    pub(crate) fn svid(&self, service: ServiceId) -> Arc<Svid> {
        svid(&self.ca, &self.snapshot, service)
    }

    pub(crate) fn svid_of(&self, id: &str) -> Svid {
        issue(&self.ca, &id.parse().unwrap())
    }

    /// The snapshot with one thing changed, as the next revision.
    pub(crate) fn revised(&self, change: impl FnOnce(&mut Snapshot)) -> Arc<Index> {
        let mut snapshot = self.snapshot.clone();
        snapshot.revision = Revision(2);
        change(&mut snapshot);
        Arc::new(Index::new(Arc::new(snapshot)))
    }

    pub(crate) fn without_grant(&self) -> Arc<Index> {
        self.revised(|s| s.grants.clear())
    }

    /// Dials as the client's application, captured.
    pub(crate) async fn dial(&self) -> TcpStream {
        self.try_dial().await.unwrap()
    }

    /// A refusal may come so quickly that `connect` itself reports the reset.
    pub(crate) async fn try_dial(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.client.addresses[0], 0))?;
        socket.connect(self.capture).await
    }

    /// The application's side of a delivered connection.
    pub(crate) async fn accept(&self) -> TcpStream {
        timeout(DEADLINE, self.application.accept()).await.expect("nothing was delivered").unwrap().0
    }

    /// Both applications' ends of a connection that both nodes are carrying.
    pub(crate) async fn connected(&self) -> (TcpStream, TcpStream) {
        let opened = || self.a.count(Measure::Opened(Point::Out)) + self.b.count(Measure::Opened(Point::In));
        let before = opened();
        let client = self.dial().await;
        let server = self.accept().await;
        until(|| opened() == before + 2).await;
        (client, server)
    }
}

/// Waits for a condition that nobody announces.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, wait).await.expect("it never came to hold");
}

/// What the kernel attests of a socket that `workload` dialled `to` with.
pub(crate) fn captured(workload: &LocalWorkload, to: SocketAddr) -> Attestation {
    Attestation {
        revision: 1,
        netns: workload.netns_cookie,
        source: workload.service.0,
        destination: SERVER.0,
        rule: 9,
        path: PATH_CAPTURED,
        dialled: Addr::from(to.ip()),
        dialled_port: to.port(),
        service_port: 80,
        side: SIDE_SERVER,
        ..Attestation::default()
    }
}

fn svid(ca: &Ca, snapshot: &Snapshot, service: ServiceId) -> Arc<Svid> {
    let service = snapshot.services.iter().find(|s| s.id == service).unwrap();
    Arc::new(issue(ca, &service.identity))
}

fn issue(ca: &Ca, id: &SpiffeId) -> Svid {
    let key = KeyAndCsr::generate().unwrap();
    let chain = ca.sign(key.csr(), id, SystemTime::now(), Duration::from_secs(3600)).unwrap().chain;
    key.into_svid(chain).unwrap()
}

fn snapshot(server: IpAddr, target_port: u16) -> Snapshot {
    let service = |id: ServiceId, name: &str, vip| Service {
        id,
        name: format!("shop/{name}").parse().unwrap(),
        kind: ServiceKind::Application,
        title: String::new(),
        owner: "team-shop".parse().unwrap(),
        capability: name.to_owned(),
        lifecycle: "production".to_owned(),
        identity: format!("spiffe://corp.example/ns/shop/sa/{name}").parse().unwrap(),
        vip: Some(vip),
        ports: vec![Port { name: "web".parse().unwrap(), port: 80, target_port, protocol: Protocol::Tcp }],
        externals: Vec::new(),
        consumers: Vec::new(),
        declared_at: "shop.yaml:1".to_owned(),
    };
    Snapshot {
        revision: Revision(1),
        mesh: "corp".to_owned(),
        trust_domain: "corp.example".parse().unwrap(),
        services: vec![
            service(CLIENT, "client", Ipv4Addr::new(100, 64, 0, 1)),
            service(SERVER, "server", VIP),
            service(OTHER, "other", Ipv4Addr::new(100, 64, 0, 3)),
        ],
        endpoints: vec![endpoint("server-1", server)],
        grants: vec![Grant {
            rule: RuleId(9),
            source: CLIENT,
            destination: SERVER,
            port: 80,
            protocol: Protocol::Tcp,
            needs_l7: false,
            declared_at: "shop.yaml:7".to_owned(),
        }],
        pending: Vec::new(),
        teams: Vec::new(),
        gateway: None,
    }
}

pub(crate) fn endpoint(uid: &str, address: IpAddr) -> Endpoint {
    Endpoint { service: SERVER, node: "b".parse().unwrap(), uid: uid.parse().unwrap(), addresses: vec![address] }
}

/// A loopback /24 of its own for every world: the tunnel's port is the same everywhere.
fn network() -> [u8; 2] {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    [64 + (std::process::id() % 128) as u8, NEXT.fetch_add(1, Ordering::Relaxed)]
}
