//! TLS configurations, made once for each document and peer and kept while both live.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{
    ClientConfig, ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::ServerName;
use weft_identity::{Svid, TrustBundle};
use weft_types::{Reason, ServiceId, SpiffeId};

use super::limits::TLS_CONFIGS_MAX;

#[derive(Default)]
pub(crate) struct Configs {
    outgoing: Mutex<HashMap<(ServiceId, SpiffeId), Made<ClientConfig>>>,
    incoming: Mutex<HashMap<ServiceId, Made<ServerConfig>>>,
    generations: AtomicU64,
}

/// A configuration, and the very documents it was made of: a renewal brings other ones.
struct Made<C> {
    svid: Arc<Svid>,
    bundle: Arc<TrustBundle>,
    config: Arc<C>,
    generation: u64,
}

/// How to call one peer.
pub(crate) struct Outgoing {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
    /// Differs whenever the SVID or the roots do: a tunnel made under another generation is not used again.
    pub(crate) generation: u64,
    /// The table of configurations was full.
    pub(crate) full: bool,
}

impl Configs {
    /// `None`: nobody can be called by that identity.
    pub(crate) fn outgoing(&self, source: ServiceId, svid: &Arc<Svid>, bundle: &Arc<TrustBundle>, expected: &SpiffeId) -> Option<Outgoing> {
        let name = weft_identity::sni_for(expected)?;
        let make = || weft_identity::client_config(svid, bundle, expected, &[weft_tunnel::ALPN]);
        let (config, generation, full) = self.kept(&self.outgoing, (source, expected.clone()), svid, bundle, make);
        Some(Outgoing { config, name, generation, full })
    }

    pub(crate) fn incoming(&self, service: ServiceId, svid: &Arc<Svid>, bundle: &Arc<TrustBundle>) -> Arc<ServerConfig> {
        let make = || weft_identity::server_config(Arc::new(OneIdentity(svid.clone())), bundle, &[weft_tunnel::ALPN]);
        self.kept(&self.incoming, service, svid, bundle, make).0
    }

    fn kept<K: std::hash::Hash + Eq, C>(
        &self,
        table: &Mutex<HashMap<K, Made<C>>>,
        key: K,
        svid: &Arc<Svid>,
        bundle: &Arc<TrustBundle>,
        make: impl FnOnce() -> Arc<C>,
    ) -> (Arc<C>, u64, bool) {
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = table.get(&key).filter(|m| Arc::ptr_eq(&m.svid, svid) && Arc::ptr_eq(&m.bundle, bundle)) {
            return (made.config.clone(), made.generation, false);
        }
        let config = make();
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let full = table.len() >= TLS_CONFIGS_MAX;
        if full {
            table.clear();
        }
        table.insert(key, Made { svid: svid.clone(), bundle: bundle.clone(), config: config.clone(), generation });
        (config, generation, full)
    }
}

/// Presents one workload's SVID, and only to who asks for that workload.
#[derive(Debug)]
struct OneIdentity(Arc<Svid>);

impl ResolvesServerCert for OneIdentity {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = weft_identity::identity_from_sni(hello.server_name()?, self.0.id.trust_domain())?;
        (asked == self.0.id).then(|| self.0.certified_key())
    }
}

/// Whose fault a failed handshake of the calling side is.
pub(crate) fn blame(error: &io::Error) -> Reason {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => Reason::PeerIdentity,
        Some(rustls::Error::AlertReceived(_)) => Reason::PeerRefused,
        _ => Reason::UpstreamConnect,
    }
}
