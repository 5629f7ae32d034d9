//! The agent as its proxy sees it.

use std::{io, net::SocketAddr, os::fd::BorrowedFd, sync::Arc, time::UNIX_EPOCH};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;
use weft_identity::{Svid, TrustBundle};
use weft_kernel::{Attestation, Kernel};
use weft_policy::Index;
use weft_types::ServiceId;

use super::plumbing::Namespaces;
use crate::{
    flows::{self, Store, truncate},
    limits,
    mesh::Mesh,
    metrics::Metrics,
    proxy::{FlowRecord, Host, LocalWorkload, Measure, Point},
};

pub struct NodeHost {
    pub kernel: Arc<Kernel>,
    pub mesh: Arc<Mesh>,
    pub namespaces: Arc<Namespaces>,
    pub flows: Arc<Store>,
    pub metrics: Arc<Metrics>,
}

impl Host for NodeHost {
    fn index(&self) -> Option<Arc<Index>> {
        self.mesh.index()
    }

    fn svid(&self, service: ServiceId) -> Option<Arc<Svid>> {
        self.mesh.svid_of(service)
    }

    fn trust_bundle(&self) -> Option<Arc<TrustBundle>> {
        self.mesh.trust_bundle()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.mesh.changes()
    }

    fn attestation(&self, socket: BorrowedFd<'_>) -> io::Result<Option<Attestation>> {
        self.kernel.attestation(socket)
    }

    fn set_delivery(&self, socket: BorrowedFd<'_>, delivery: &Attestation) -> io::Result<()> {
        self.kernel.set_delivery(socket, delivery)
    }

    fn is_listener(&self, workload: &LocalWorkload, to: SocketAddr) -> io::Result<bool> {
        self.kernel.is_listener(workload.netns_cookie, workload.service, to).map_err(io::Error::other)
    }

    fn segments(&self, socket: BorrowedFd<'_>) -> io::Result<u32> {
        weft_kernel::segments(socket)
    }

    fn socket(&self, workload: &LocalWorkload, domain: Domain) -> io::Result<Socket> {
        let netns = self.namespaces.get(workload.number).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the workload is gone"))?;
        let socket = netns.run(|| Socket::new(domain, Type::STREAM, Some(Protocol::TCP)))??;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn record(&self, flow: FlowRecord) {
        self.flows.record(record(flow));
    }

    fn measure(&self, what: Measure) {
        self.metrics.measure(what);
    }
}

fn record(f: FlowRecord) -> flows::Record {
    let mut detail = f.detail;
    truncate(&mut detail, limits::DETAIL_MAX_BYTES);
    flows::Record {
        id: f.id,
        at_ms: f.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64,
        point: match f.point {
            Point::Out => flows::Point::ProxyOut,
            Point::In => flows::Point::ProxyIn,
        },
        verdict: f.verdict,
        reason: f.reason,
        revision: f.revision,
        rule: f.rule,
        rule_declared_at: f.rule_declared_at,
        source: f.source,
        destination: f.destination,
        address: f.address.map(|a| a.ip()),
        port: f.address.map_or(0, |a| a.port()),
        service_port: f.service_port,
        protocol: f.protocol,
        path: f.path,
        pid: 0,
        command: String::new(),
        workload: Some(f.workload),
        bytes_out: f.bytes_out,
        bytes_in: f.bytes_in,
        // A connection that ended within a microsecond has ended all the same.
        duration_us: f.duration.map_or(0, |d| (d.as_micros() as u64).max(1)),
        detail,
        key_exchange: f.key_exchange.unwrap_or_default(),
    }
}
