//! What runs beside the requests: the flow ring, the kernel's log, sweeps, the metrics endpoint.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use prometheus_client::registry::Registry;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};
use weft_ebpf_common::{CANARY_PORT, REASON_UNATTESTED};
use weft_kernel::{FlowRing, Kernel};
use weft_telemetry::{Probes, ServeError, Server, render, serve_http};
use weft_types::{Reason, Revision};

use super::Node;
use crate::{
    flows::{Enricher, Known, Record, clock_offset},
    limits,
    mesh::Chain,
    metrics::Gauges,
    warnings::Topic,
};

/// Reads the ring until the agent ends: a successor reads it then.
pub(super) async fn flows(node: Arc<Node>) {
    let mut ring = match node.kernel.flow_ring() {
        Ok(ring) => ring,
        Err(error) => return node.warnings.set(Topic::Flows, vec![format!("flows of the kernel are not recorded: {}", Chain(&error))]),
    };
    let mut enricher = Enricher::default();
    loop {
        tokio::select! {
            () = node.shutdown.cancelled() => return,
            ready = ring.readable() => if let Err(error) = ready {
                return node.warnings.set(Topic::Flows, vec![format!("flows of the kernel are no longer recorded: {error}")]);
            },
            () = tokio::time::sleep(limits::RING_POLL) => {}
        }
        drain(&node, &mut ring, &mut enricher);
        // A flood of events leaves room for everything else.
        tokio::task::yield_now().await;
    }
}

fn drain(node: &Node, ring: &mut FlowRing, enricher: &mut Enricher) {
    let (workloads, clock_offset) = (node.view.now(), clock_offset());
    for event in ring.drain() {
        // Refused canaries are the agent's own doing; the kernel counts them.
        if event.reason == REASON_UNATTESTED && event.port == CANARY_PORT {
            continue;
        }
        let index = node.mesh.index_at(Revision(event.revision));
        let record = enricher.record(&event, &Known { index: index.as_deref(), workloads: &workloads, clock_offset });
        if record.reason == Reason::Translated {
            translated(node, &record);
        }
        node.metrics.event(&record);
        node.flows.record(record);
    }
}

/// Once a workload's service and a while: a client that is led away tries again.
fn translated(node: &Node, record: &Record) {
    let source = record.source.as_ref().map_or_else(|| "a workload".to_owned(), |p| p.service.to_string());
    let to = record.address.map_or_else(|| "an unknown address".to_owned(), |a| a.to_string());
    node.drift
        .report_once("translation", &format!("what {source} dialled is translated to {to}:{} in its namespace (nftables or iptables): refused", record.port));
}

/// The kernel programs' own log, into the agent's.
pub(super) async fn diagnostics(kernel: Arc<Kernel>) {
    match kernel.diagnostics() {
        Ok(log) => {
            if let Err(error) = log.forward().await {
                debug!(%error, "the log of the kernel programs has ended");
            }
        }
        Err(error) => debug!(error = %Chain(&error), "the kernel programs have no log"),
    }
}

/// Looks whether the kernel still holds the policy, seldom enough to cost nothing.
pub(super) async fn verify(node: Arc<Node>) {
    let mut rest = limits::VERIFY;
    loop {
        tokio::select! {
            () = node.shutdown.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
        }
        let (applier, began) = (node.applier.clone(), Instant::now());
        if let Ok(Some(found)) = tokio::task::spawn_blocking(move || applier.verify()).await {
            node.drift.report("policy", &found);
        }
        node.drift.age();
        rest = limits::VERIFY.max(began.elapsed() * limits::VERIFY_REST);
    }
}

/// Sweeps attestations that no accept took, and SVIDs whose time is up.
pub(super) async fn sweeps(node: Arc<Node>) {
    let (mut attestations, mut svids) = (interval(limits::ATTESTATION_SWEEP), interval(Duration::from_secs(1)));
    attestations.set_missed_tick_behavior(MissedTickBehavior::Delay);
    svids.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = node.shutdown.cancelled() => return,
            _ = svids.tick() => if node.mesh.drop_expired(SystemTime::now()) {
                node.workloads.look();
            },
            _ = attestations.tick() => {
                let kernel = node.kernel.clone();
                let sweep = move || Ok::<_, weft_kernel::KernelError>((kernel.sweep_attestations(limits::ATTESTATION_MAX_AGE)?, kernel.sweep_datagrams()?));
                match tokio::task::spawn_blocking(sweep).await.unwrap_or(Ok((0, 0))) {
                    Ok((0, 0)) => {}
                    Ok((handshakes, flows)) => debug!(handshakes, flows, "attestations of handshakes that nobody ended, and of idle flows of datagrams"),
                    Err(error) => warn!(error = %Chain(&error), "attestations cannot be swept"),
                }
            }
        }
    }
}

/// `None`: the configuration wants no metrics.
pub(super) async fn metrics(node: &Arc<Node>) -> Result<Option<Server>, ServeError> {
    let Some(addr) = node.config.metrics else { return Ok(None) };
    let (mut registry, gauges) = (Registry::default(), Gauges::default());
    node.metrics.register(&mut registry);
    gauges.register(&mut registry);
    let (scraped, asked) = (node.clone(), node.clone());
    let metrics = move || {
        measure(&gauges, &scraped);
        render(&registry)
    };
    serve_http(addr, Probes { metrics: Box::new(metrics), ready: Box::new(move || ready(&asked)) }).await.map(Some)
}

fn measure(g: &Gauges, node: &Node) {
    let state = node.kernel.state();
    g.revision.set(node.mesh.revision().0 as i64);
    g.kernel_revision.set(state.map_or(0, |s| s.revision()) as i64);
    g.live.set(node.proxy.live() as i64);
    let (used, all) = node.proxy.descriptors();
    g.descriptors.get_or_create(&[("state", "used")]).set(used as i64);
    g.descriptors.get_or_create(&[("state", "free")]).set(all.saturating_sub(used) as i64);
    let (buffered, small) = node.proxy.buffered();
    g.buffered.set(buffered as i64);
    g.small_buffers.inner().store(small, Ordering::Relaxed);
    g.flows_kept.set(node.flows.kept() as i64);
    g.flows_forgotten.inner().store(node.flows.forgotten(), Ordering::Relaxed);
    g.bridge_connected.set(node.link.now().connected.into());
    g.holder_connected.set(node.holder.is_connected().into());
    g.warnings.set(node.warnings.list().len() as i64);
    let picture = node.view.now();
    let enrolled = picture.workloads.iter().filter(|w| w.enrolled.is_some()).count();
    g.workloads.get_or_create(&[("class", "enrolled")]).set(enrolled as i64);
    g.workloads.get_or_create(&[("class", "unidentified")]).set((picture.workloads.len() - enrolled) as i64);
    for (name, count) in node.kernel.counters() {
        g.kernel.get_or_create(&[("counter", name)]).set(count as i64);
    }
    // Services come and go: what is gone is not shown for ever.
    g.svid_seconds.clear();
    let now = SystemTime::now();
    for (service, issued) in node.mesh.svids().into_iter().take(limits::METRIC_SERVICES_MAX) {
        let left = issued.svid.not_after.duration_since(now).unwrap_or_default();
        g.svid_seconds.get_or_create(&[("service", service.to_string())]).set(left.as_secs_f64());
    }
}

/// Ready: policy is in force, and every workload that is here is enrolled.
fn ready(node: &Node) -> Result<(), String> {
    if node.shutdown.is_cancelled() {
        return Err("the agent is ending".to_owned());
    }
    if node.mesh.revision().0 == 0 {
        return Err("there is no snapshot yet".to_owned());
    }
    let picture = node.view.now();
    let waiting = picture.workloads.iter().filter(|w| w.present && w.enrolled.is_none()).count();
    if waiting > 0 { Err(format!("{waiting} workloads are not enrolled yet")) } else { Ok(()) }
}
