//! The bridge's own certificate, which it signs itself and renews at half its life.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_util::sync::CancellationToken;
use weft_identity::{Ca, KeyAndCsr, TrustBundle, bridge_id, bridge_server_config};

use crate::{
    control::{Control, Shared},
    limits,
};

/// The TLS configuration for nodes, with a certificate that is replaced while it is in use.
#[derive(Debug)]
pub(crate) struct OwnCertificate {
    pub(crate) config: Arc<ServerConfig>,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl OwnCertificate {
    pub(crate) fn new(ca: &Ca, bundle: &TrustBundle, now: SystemTime) -> Result<Self> {
        let current = Arc::new(Current(RwLock::new(issue(ca, now)?)));
        Ok(Self { config: bridge_server_config(current.clone(), bundle, &[b"h2"]), current })
    }

    /// Renews until told to stop. A failure is tried again soon: half a life is left.
    pub(crate) async fn renew(self: Arc<Self>, control: Shared, stop: CancellationToken) {
        let mut wait = limits::BRIDGE_CERT_TTL / 2;
        while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            wait = match control.with(|c| c.own_certificate(SystemTime::now())).await {
                Ok(key) => {
                    *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = key;
                    limits::BRIDGE_CERT_TTL / 2
                }
                Err(error) => {
                    tracing::error!("cannot renew the bridge's own certificate: {error:#}");
                    Duration::from_secs(60)
                }
            };
        }
    }
}

impl Control {
    fn own_certificate(&self, now: SystemTime) -> Result<Arc<CertifiedKey>> {
        issue(self.ca(), now)
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// With the root in the chain: a node that joins knows only its hash.
fn issue(ca: &Ca, now: SystemTime) -> Result<Arc<CertifiedKey>> {
    let key = KeyAndCsr::generate()?;
    let mut chain = ca.sign(key.csr(), &bridge_id(ca.trust_domain()), now, limits::BRIDGE_CERT_TTL).context("cannot sign the bridge's own certificate")?.chain;
    chain.push(ca.certificate().clone());
    Ok(key.into_svid(chain)?.certified_key())
}
