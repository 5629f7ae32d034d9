//! Who vouches for people, as the policy in force says it: the sign-on is told of every change, and is made anew only when its own host changes.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject as _};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use weft_snapshot::IdentityProvider;
use zeroize::Zeroizing;

use crate::{
    assertion::Assertions,
    config::Config,
    limits,
    sso::{Caller, ClaimMap, ClaimPath, Clock, HttpClient, Parts, ProviderConfig, Render, Secret, Sso, SsoConfig},
    world::{World, Worlds, issuer},
};

/// The gateway's client id at the local identity provider.
const LOCAL_CLIENT: &str = "weft-gateway";

/// The sign-on of one auth host.
pub struct Identity {
    pub sso: Arc<Sso>,
    pub assertions: Assertions,
    host: String,
    port: u16,
}

/// Follows the policy. Without an identity provider there is no sign-on, and whatever needs one is unavailable.
pub struct Identities {
    config: Config,
    worlds: Worlds,
    http: HttpClient,
    render: Render,
    clock: Clock,
    current: watch::Sender<Option<Arc<Identity>>>,
}

impl Identities {
    pub fn new(config: Config, worlds: Worlds, render: Render, clock: Clock) -> Result<Arc<Self>> {
        let http = calls(client_tls(&config.provider_roots)?, worlds.clone());
        Ok(Arc::new(Self { config, worlds, http, render, clock, current: watch::Sender::default() }))
    }

    pub fn current(&self) -> Option<Arc<Identity>> {
        self.current.borrow().clone()
    }

    /// The sign-on, and each that takes its place.
    pub fn follow(&self) -> watch::Receiver<Option<Arc<Identity>>> {
        self.current.subscribe()
    }

    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Brings the sign-on to what this revision says. False: something of it could not be done, and should be tried again.
    pub fn settle(&self, world: &World) -> bool {
        let mut whole = true;
        let mut providers = Vec::new();
        for provider in &world.gateway().providers {
            match self.provider(world, provider) {
                Ok(provider) => providers.push(provider),
                Err(error) => {
                    whole = false;
                    tracing::error!(
                        provider = provider.name,
                        declared_at = provider.declared_at,
                        error = format!("{error:#}"),
                        "an identity provider cannot be used"
                    );
                }
            }
        }
        match self.put_in_force(world, providers) {
            Ok(()) => whole,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "nobody can sign in");
                false
            }
        }
    }

    /// Keeps sessions and keys, and follows the policy, until told to stop.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut worlds = self.worlds.clone();
        let mut whole = true;
        loop {
            let pause = if whole { limits::SWEEP } else { limits::PROVIDER_RETRY };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = worlds.changed() => if changed.is_err() { return },
                () = sleep(pause) => {}
            }
            let world = worlds.borrow_and_update().clone();
            if let Some(world) = world {
                whole = self.settle(&world);
            }
            self.sweep().await;
        }
    }

    async fn sweep(&self) {
        let Some(identity) = self.current() else { return };
        if let Err(error) = identity.sso.sweep().await {
            tracing::error!(%error, "sessions that are over cannot be ended");
        }
        if let Err(error) = identity.assertions.rotate(self.now()) {
            tracing::error!(%error, "keys of assertions cannot be renewed");
        }
    }

    fn put_in_force(&self, world: &World, providers: Vec<ProviderConfig>) -> Result<()> {
        let gateway = world.gateway();
        let (host, port) = (world.portal_host(), gateway.public_port);
        if let Some(identity) = self.current().filter(|identity| identity.host == host && identity.port == port) {
            return identity.sso.reconfigure(&providers).context("the former identity providers stay");
        }
        let config =
            SsoConfig { auth_host: host.to_owned(), public_port: port, lifetimes: self.config.lifetimes, providers, state_dir: self.config.state_dir.clone() };
        let worlds = self.worlds.clone();
        let parts = Parts {
            http: Arc::clone(&self.http),
            has_routes: Arc::new(move |host| worlds.borrow().as_ref().is_some_and(|world| world.has_routes(host))),
            clock: Arc::clone(&self.clock),
            render: Arc::clone(&self.render),
            patience: limits::REFRESH_WAIT,
        };
        let sso = Sso::open(&config, parts)?;
        let assertions = Assertions::open(&self.config.state_dir.join("assertion-keys.json"), world.origin(host), self.now())?;
        self.current.send_replace(Some(Arc::new(Identity { sso, assertions, host: host.to_owned(), port })));
        Ok(())
    }

    fn provider(&self, world: &World, provider: &IdentityProvider) -> Result<ProviderConfig> {
        let path = |claim: &weft_types::ClaimPath| ClaimPath::new(claim.steps().iter().cloned());
        let claims = ClaimMap {
            user: path(&provider.claims.username),
            email: path(&provider.claims.email),
            name: path(&provider.claims.name),
            groups: provider.claims.groups.iter().map(path).collect(),
        };
        let (issuer, client_id, secret) = if provider.builtin {
            let file = self.config.local_provider_secret_file.as_ref();
            let file = file.context("the local provider needs local_provider_secret_file in the gateway's configuration")?;
            (issuer(world.gateway(), provider), LOCAL_CLIENT.to_owned(), Some(read_secret(file)?))
        } else {
            let file = Some(&provider.client_secret_file).filter(|file| !file.is_empty());
            (provider.issuer.clone(), provider.client_id.clone(), file.map(|file| read_secret(Path::new(file))).transpose()?)
        };
        Ok(ProviderConfig {
            name: provider.name.clone(),
            title: if provider.title.is_empty() { provider.name.clone() } else { provider.title.clone() },
            issuer,
            client_id,
            client_secret: secret,
            scopes: provider.scopes.clone(),
            claims,
            groups: provider.groups.clone(),
            api_audiences: provider.api_audiences.clone(),
        })
    }
}

fn read_secret(path: &Path) -> Result<Secret> {
    let length = fs::metadata(path).with_context(|| format!("cannot read the client secret {}", path.display()))?.len();
    anyhow::ensure!(length <= limits::CLAIM_MAX_BYTES as u64, "{} is too long to be a client secret", path.display());
    let text = Zeroizing::new(fs::read_to_string(path).with_context(|| format!("cannot read the client secret {}", path.display()))?);
    let text = text.trim_end_matches(['\r', '\n']);
    // RFC 6749 appendix A.2: spaces too.
    let visible = |byte: u8| (0x20..=0x7e).contains(&byte);
    anyhow::ensure!(!text.trim().is_empty() && text.bytes().all(visible), "{} holds no client secret", path.display());
    Ok(Secret::new(text.to_owned()))
}

/// Providers that live in the mesh are called there, under their public names; the agent carries and encrypts it.
fn calls(tls: Arc<ClientConfig>, worlds: Worlds) -> HttpClient {
    Arc::new(move |request| {
        let mut caller = Caller::new(Arc::clone(&tls));
        if let Some(world) = worlds.borrow().as_ref() {
            caller.direct = direct(world);
        }
        (caller.client())(request)
    })
}

fn direct(world: &World) -> HashMap<String, std::net::SocketAddr> {
    let gateway = world.gateway();
    let entry = |provider: &IdentityProvider| {
        let issuer = url::Url::parse(&issuer(gateway, provider)).ok()?;
        Some((format!("{}:{}", issuer.host_str()?, issuer.port_or_known_default()?), world.provider_address(provider)?))
    };
    gateway.providers.iter().filter_map(entry).collect()
}

/// Without the file nobody outside the mesh is believed, which is fine where all providers are inside.
fn client_tls(roots: &PathBuf) -> Result<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    if roots.exists() {
        let certificates = CertificateDer::pem_file_iter(roots).with_context(|| format!("cannot read provider_roots {}", roots.display()))?;
        let (added, ignored) = store.add_parsable_certificates(certificates.filter_map(Result::ok));
        tracing::debug!(added, ignored, "roots for identity providers");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(store).with_no_client_auth()))
}
