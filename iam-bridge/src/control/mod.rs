//! What the bridge knows and decides, behind one lock: catalog in force, nodes, placement, snapshot. No socket and no clock: callers pass the time.
//!
//! Every change goes to the database first and into memory when it is there; a change that cannot be kept is as if it had never been asked for.

mod admin;
mod catalog;
mod nodes;
mod sessions;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use ipnet::Ipv4Net;
use thiserror::Error;
use tokio::sync::watch;
use weft_api::bridge::v1 as wire;
use weft_identity::{Ca, TrustBundle};
use weft_snapshot::{Endpoint, Envelope, GATEWAY_DELTA_SCHEMA_VERSION, SigningKey, Snapshot};
use weft_types::{Consumer, NodeName, Revision};

pub(crate) use admin::{AdminError, NodeReport, Overview};
pub(crate) use catalog::{CatalogProblem, chain, trust_domain};
pub(crate) use nodes::{Credentials, NodePeer, RequestError};
pub(crate) use sessions::{End, Greeting, Session};

use crate::{
    limits,
    metrics::Metrics,
    placement::{self, Claim, NodeView, Placement, Refusal},
    store::{NodeRow, PublishedRow, Serial, Store, StoreError},
};

/// The one lock. What is done under it ends quickly, but goes to disk: async code calls it through [`Shared::with`].
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Control>>);

pub(crate) struct Control {
    store: Store,
    ca: Ca,
    bundle: TrustBundle,
    signing: SigningKey,
    ttls: Ttls,
    plan: Plan,
    nodes: BTreeMap<NodeName, Node>,
    placement: Placement,
    published: watch::Sender<Arc<Published>>,
    /// What is wrong with the catalog's directory now.
    catalog_errors: Vec<String>,
    catalog_warnings: Vec<String>,
    /// Place of the next new claim in the order of all.
    next_claim: u64,
    next_session: u64,
    metrics: Arc<Metrics>,
}

/// Lives of what is signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ttls {
    pub(crate) svid: Duration,
    pub(crate) node: Duration,
}

/// The part of a snapshot that follows from the catalog, and what else of it counts here.
#[derive(Clone, Debug)]
struct Plan {
    /// Without endpoints; its revision is that of the snapshot in force.
    snapshot: Snapshot,
    service_range: Ipv4Net,
}

/// The snapshot in force, ready to be sent.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) snapshot: Snapshot,
    whole: Line,
    /// What nodes get that read of no gateway, once there has been one; `None`: the same.
    plain: Option<Line>,
}

impl Published {
    /// What a node gets that reads schemas up to this one.
    pub(crate) fn line(&self, schema_version: u32) -> &Line {
        let reads_all = schema_version >= GATEWAY_DELTA_SCHEMA_VERSION;
        self.plain.as_ref().filter(|_| !reads_all).unwrap_or(&self.whole)
    }

    /// Whether readers of these two get the same.
    fn same_line(&self, a: u32, b: u32) -> bool {
        std::ptr::eq(self.line(a), self.line(b))
    }

    pub(crate) fn envelope(&self) -> &Envelope {
        &self.whole.envelope
    }
}

/// One revision as one kind of reader gets it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) envelope: Envelope,
    /// Changes that lead here, each from the revision before; the last is the newest.
    deltas: Vec<Arc<Envelope>>,
}

impl Line {
    /// The changes that lead from `held` to here; `None`: only the whole does.
    pub(crate) fn since(&self, held: Revision) -> Option<&[Arc<Envelope>]> {
        let first = self.deltas.iter().position(|d| d.base_revision == held)?;
        Some(&self.deltas[first..])
    }
}

struct Node {
    may_run: Vec<Consumer>,
    claims: Vec<Claim>,
    /// Of the last report, what could not even be read.
    unreadable: Vec<Refusal>,
    serials: Vec<Serial>,
    /// Unix seconds.
    last_seen: i64,
    agent_version: String,
    /// Highest schema of an envelope that its last agent read; 0: none has come since the bridge started.
    schema_version: u32,
    acked: Revision,
    /// The last nack.
    error: String,
    session: Option<sessions::Handle>,
}

/// A new state of the mesh cannot be published; the former one stays.
#[derive(Debug, Error)]
pub(crate) enum PublishError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the mesh is too large: its snapshot takes {bytes} bytes, {max} are possible", max = weft_snapshot::limits::PAYLOAD_MAX_BYTES)]
    Bytes { bytes: usize },
    #[error("the mesh is too large: it has {found} {what}, {max} are possible")]
    Count { what: &'static str, found: usize, max: usize },
}

/// What a control plane is made of.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) ca: Ca,
    pub(crate) signing: SigningKey,
    pub(crate) ttls: Ttls,
    pub(crate) metrics: Arc<Metrics>,
}

impl Shared {
    pub(crate) fn new(control: Control) -> Self {
        Self(Arc::new(Mutex::new(control)))
    }

    /// Runs `f` under the lock on a thread that may block.
    pub(crate) async fn with<T: Send + 'static>(&self, f: impl FnOnce(&mut Control) -> T + Send + 'static) -> T {
        let this = self.clone();
        match tokio::task::spawn_blocking(move || f(&mut this.lock())).await {
            Ok(value) => value,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        // Memory changes only after the database did, and in one piece.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Published>> {
        self.published.subscribe()
    }

    pub(crate) fn ca(&self) -> &Ca {
        &self.ca
    }

    pub(crate) fn current(&self) -> Arc<Published> {
        self.published.borrow().clone()
    }

    pub(crate) fn wire_bundle(&self) -> Vec<Vec<u8>> {
        self.bundle.certificates().iter().map(|c| c.to_vec()).collect()
    }

    fn wire_keys(&self) -> Vec<wire::SigningKey> {
        vec![wire::SigningKey { id: self.signing.id().to_owned(), public_key: self.signing.public_key().to_vec() }]
    }

    /// Judges all claims under the plan in force, publishes what comes out if it differs, and tells each node what is refused. `also` is kept with it.
    fn settle(&mut self, also: impl FnOnce(&crate::store::Change<'_>) -> Result<(), StoreError>) -> Result<(), PublishError> {
        let (placement, current) = (place(&self.plan, &self.nodes), self.current());
        let change = self.store.change()?;
        also(&change)?;
        let next = next_snapshot(&current.snapshot, &self.plan, &placement.endpoints)?;
        let published = next.map(|snapshot| publish(&change, &self.signing, Some(&current), snapshot, self.plan.service_range)).transpose()?;
        change.commit()?;
        self.accept(placement, published);
        Ok(())
    }

    /// The database has it: now memory and everybody else may know.
    fn accept(&mut self, placement: Placement, published: Option<Published>) {
        self.placement = placement;
        if let Some(published) = published {
            self.plan.snapshot.revision = published.snapshot.revision;
            self.metrics.revision.set(published.snapshot.revision.0.cast_signed());
            tracing::info!(
                revision = %published.snapshot.revision,
                services = published.snapshot.services.len(),
                endpoints = published.snapshot.endpoints.len(),
                grants = published.snapshot.grants.len(),
                routes = published.snapshot.gateway.as_ref().map_or(0, |g| g.routes.len()),
                bytes = published.envelope().payload.len(),
                delta_bytes = published.whole.deltas.last().map_or(0, |d| d.payload.len()),
                "snapshot published"
            );
            self.published.send_replace(Arc::new(published));
        }
        self.tell_refusals();
    }
}

impl Node {
    fn of(row: NodeRow) -> (NodeName, Self) {
        let node = Self {
            may_run: row.may_run,
            claims: row.claims,
            unreadable: vec![],
            serials: row.serials,
            last_seen: row.last_seen,
            agent_version: String::new(),
            schema_version: 0,
            acked: Revision(0),
            error: String::new(),
            session: None,
        };
        (row.name, node)
    }

    fn view<'a>(&'a self, name: &'a NodeName) -> NodeView<'a> {
        NodeView { name, may_run: &self.may_run, claims: &self.claims }
    }
}

fn place(plan: &Plan, nodes: &BTreeMap<NodeName, Node>) -> Placement {
    placement::place(&plan.snapshot.services, plan.service_range, nodes.iter().map(|(name, node)| node.view(name)))
}

/// What follows `current` when `plan` and `endpoints` hold; `None`: it is the same.
fn next_snapshot(current: &Snapshot, plan: &Plan, endpoints: &[Endpoint]) -> Result<Option<Snapshot>, PublishError> {
    use weft_snapshot::limits as bounds;
    let mut next = Snapshot { endpoints: endpoints.to_vec(), revision: current.revision, ..plan.snapshot.clone() }.sorted();
    if next == *current {
        return Ok(None);
    }
    for (what, found, max) in [
        ("services", next.services.len(), bounds::SERVICES_MAX),
        ("workloads", next.endpoints.len(), bounds::ENDPOINTS_MAX),
        ("grants", next.grants.len(), bounds::GRANTS_MAX),
        ("pending dependencies", next.pending.len(), bounds::PENDING_MAX),
        ("teams", next.teams.len(), bounds::TEAMS_MAX),
        ("routes", next.gateway.as_ref().map_or(0, |g| g.routes.len()), bounds::ROUTES_MAX),
        ("bookmarks", next.gateway.as_ref().map_or(0, |g| g.bookmarks.len()), bounds::BOOKMARKS_MAX),
    ] {
        if found > max {
            return Err(PublishError::Count { what, found, max });
        }
    }
    next.revision = Revision(current.revision.0 + 1);
    Ok(Some(next))
}

/// Keeps a snapshot in the database and signs it, and with it the change from `former`, which is in force.
fn publish(
    change: &crate::store::Change<'_>,
    signing: &SigningKey,
    former: Option<&Published>,
    snapshot: Snapshot,
    service_range: Ipv4Net,
) -> Result<Published, PublishError> {
    let payload = weft_snapshot::encode(&snapshot);
    if payload.len() > weft_snapshot::limits::PAYLOAD_MAX_BYTES {
        return Err(PublishError::Bytes { bytes: payload.len() });
    }
    let row = PublishedRow { revision: snapshot.revision, service_range, payload };
    change.publish(&row)?;
    Ok(sign(signing, former, snapshot, row.payload))
}

fn sign(signing: &SigningKey, former: Option<&Published>, snapshot: Snapshot, payload: Vec<u8>) -> Published {
    let whole = line(signing, former.map(|f| &f.whole), &snapshot, payload);
    // Who has had a plain one goes on from it, also when the gateway is gone.
    let plain = (snapshot.gateway.is_some() || former.is_some_and(|f| f.plain.is_some())).then(|| {
        let plain = snapshot.without_gateway();
        line(signing, former.map(|f| f.plain.as_ref().unwrap_or(&f.whole)), &plain, weft_snapshot::encode(&plain))
    });
    Published { snapshot, whole, plain }
}

fn line(signing: &SigningKey, former: Option<&Line>, snapshot: &Snapshot, payload: Vec<u8>) -> Line {
    let envelope = signing.sign(snapshot.revision, payload);
    let mut deltas = vec![];
    if let Some((former, delta)) = former.and_then(|f| Some((f, signing.sign_delta(&f.envelope, &envelope)?))) {
        let kept = former.deltas.len().saturating_sub(limits::DELTAS_KEPT - 1);
        deltas = former.deltas[kept..].iter().cloned().chain([Arc::new(delta)]).collect();
    }
    Line { envelope, deltas }
}

pub(crate) fn to_wire(e: &Envelope) -> wire::Envelope {
    wire::Envelope {
        schema_version: e.schema_version,
        revision: e.revision.0,
        base_revision: e.base_revision.0,
        payload: e.payload.clone(),
        key_id: e.key_id.clone(),
        signature: e.signature.clone(),
    }
}

/// Unix seconds.
pub(crate) fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
