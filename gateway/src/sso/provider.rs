//! What is known of one provider: asked for when it is first needed, kept on disk, and good until there is something newer.
//!
//! An outage of the provider therefore breaks new sign-ins only: signatures are checked, and sessions go on.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use http::{Request, StatusCode};
use jsonwebtoken::jwk::Jwk;
use openidconnect::{AuthType, ClientId, ClientSecret, IssuerUrl, RedirectUrl, core::CoreClientAuthMethod};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use weft_config::private::{read_private, write_private};

use crate::{
    limits,
    sso::{
        claims::ClaimError,
        client::{HttpClient, HttpError, HttpFuture},
        config::{ProviderConfig, is_trusted_address},
        oidc::{Client, Keys, Metadata},
    },
};

/// Bytes of the file that keeps what is known.
const FILE_MAX_BYTES: u64 = 4 << 20;

#[derive(Debug, Error)]
pub enum ProviderError {
    /// It cannot be asked, or its answer makes no sense: nothing follows for anybody's session.
    #[error("identity provider {provider} cannot be asked: {problem}")]
    Unreachable { provider: String, problem: String },
    /// It said no.
    #[error("identity provider {provider} refuses: {problem}")]
    Refused { provider: String, problem: String },
    /// It said something that is not believed.
    #[error("identity provider {provider} sent a token that is not accepted: {problem}")]
    Token { provider: String, problem: String },
    #[error("identity provider {provider} sent claims that are not accepted")]
    Claims { provider: String, source: ClaimError },
}

/// Discovery and keys, as they were at one moment.
pub(crate) struct Known {
    pub(crate) metadata: Metadata,
    pub(crate) keys: Keys,
    /// The same keys for tokens that openidconnect has no type for.
    pub(crate) jwks: Vec<Jwk>,
    fetched_at: u64,
}

pub(crate) struct Provider {
    pub(crate) config: ProviderConfig,
    http: HttpClient,
    file: PathBuf,
    state: Mutex<State>,
    /// Held by whoever asks: the others wait for the answer instead of asking too.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    known: Option<Arc<Known>>,
    asked_at: Option<u64>,
}

/// The file: what a provider says of itself, which is no secret but must not be anybody's to write.
#[derive(Serialize, Deserialize)]
struct Kept {
    fetched_at: u64,
    metadata: Value,
    keys: Value,
}

impl Provider {
    pub(crate) fn new(config: ProviderConfig, http: HttpClient, state_dir: &Path) -> Self {
        let file = state_dir.join(format!("provider-{}.json", config.name));
        let provider = Self { config, http, file, state: Mutex::default(), asking: tokio::sync::Mutex::default() };
        // A file that cannot be read costs one question to the provider.
        let known = provider.read().map_err(|problem| tracing::warn!(provider = provider.config.name, problem, "last-known provider cannot be read"));
        provider.lock().known = known.ok().flatten();
        provider
    }

    /// What is known; asks when nothing is, and behind the caller's back when it is old.
    pub(crate) async fn known(self: &Arc<Self>, now: u64) -> Result<Arc<Known>, ProviderError> {
        const SPACING: u64 = limits::DISCOVERY_SPACING_SECONDS;
        let Some(known) = self.last() else { return self.ask(None, now, SPACING).await };
        if now >= known.fetched_at.saturating_add(limits::DISCOVERY_FRESH_SECONDS) && self.may_ask(now, SPACING) {
            let (provider, old) = (Arc::clone(self), Arc::clone(&known));
            tokio::spawn(async move {
                provider.ask(Some(old), now, SPACING).await.map(drop).map_err(|error| tracing::warn!(%error, "last-known provider stays in force"))
            });
        }
        Ok(known)
    }

    /// What is known without asking anybody.
    pub(crate) fn last(&self) -> Option<Arc<Known>> {
        self.lock().known.clone()
    }

    /// Something newer than `old`, which lacks a key; `None` when the provider was asked less than `spacing` seconds ago, or cannot be asked.
    pub(crate) async fn newer(&self, old: &Arc<Known>, now: u64, spacing: u64) -> Option<Arc<Known>> {
        let newer = self.ask(Some(Arc::clone(old)), now, spacing).await.ok()?;
        (!Arc::ptr_eq(&newer, old)).then_some(newer)
    }

    fn may_ask(&self, now: u64, spacing: u64) -> bool {
        self.lock().asked_at.is_none_or(|at| now >= at.saturating_add(spacing))
    }

    /// Asks, unless somebody else did since `old` was current, or a moment ago.
    async fn ask(&self, old: Option<Arc<Known>>, now: u64, spacing: u64) -> Result<Arc<Known>, ProviderError> {
        let _turn = self.asking.lock().await;
        let current = self.last();
        if let Some(current) = &current
            && old.as_ref().is_none_or(|old| !Arc::ptr_eq(old, current))
        {
            return Ok(Arc::clone(current));
        }
        if !self.may_ask(now, spacing) {
            return current.ok_or_else(|| self.unreachable("it did not answer a moment ago, and is asked again soon".to_owned()));
        }
        self.lock().asked_at = Some(now);
        let known = Arc::new(self.discover(now).await?);
        if let Err(error) = self.write(&known) {
            tracing::warn!(provider = self.config.name, error, "what is known of the provider cannot be kept: a restart during its outage will not know it");
        }
        self.lock().known = Some(Arc::clone(&known));
        Ok(known)
    }

    async fn discover(&self, now: u64) -> Result<Known, ProviderError> {
        let issuer = IssuerUrl::new(self.config.issuer.clone()).map_err(|e| self.unreachable(e.to_string()))?;
        let client = self.caller();
        let metadata = Metadata::discover_async(issuer, &client).await.map_err(|e| self.unreachable(chain(&e)))?;
        self.trusted(metadata.authorization_endpoint().as_str())?;
        self.trusted(metadata.jwks_uri().as_str())?;
        for address in [metadata.token_endpoint().map(|a| a.as_str()), metadata.userinfo_endpoint().map(|a| a.as_str())].into_iter().flatten() {
            self.trusted(address)?;
        }
        if metadata.token_endpoint().is_none() {
            return Err(self.unreachable("its discovery names no token endpoint".to_owned()));
        }
        let keys = metadata.jwks().clone();
        if keys.keys().is_empty() {
            return Err(self.unreachable("it has no key that could be used".to_owned()));
        }
        Ok(Known { jwks: jwks(&keys), metadata, keys, fetched_at: now })
    }

    /// Discovery decides where secrets go: nowhere unencrypted.
    fn trusted(&self, address: &str) -> Result<(), ProviderError> {
        let without_query = address.split('?').next().unwrap_or_default();
        if is_trusted_address(without_query) { Ok(()) } else { Err(self.unreachable(format!("its discovery names {address}, which is not https"))) }
    }

    /// Calls the provider. What says nothing about the question is an error here, so that a refusal is always one.
    pub(crate) fn caller(&self) -> impl Fn(Request<Vec<u8>>) -> HttpFuture + Send + Sync + use<> {
        let http = Arc::clone(&self.http);
        move |request| {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let answer = http(request);
            Box::pin(async move {
                let response = answer.await?;
                let status = response.status();
                if status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) {
                    return Err(HttpError::Status { host, status });
                }
                if response.body().len() > limits::PROVIDER_ANSWER_MAX_BYTES {
                    return Err(HttpError::Body { host });
                }
                Ok(response)
            })
        }
    }

    /// The library's client for what is known.
    pub(crate) fn client(&self, known: &Known, redirect: Option<&str>) -> Result<Client, ProviderError> {
        let secret = self.config.client_secret.as_ref().map(|secret| ClientSecret::new(secret.reveal().to_owned()));
        let mut client = Client::from_provider_metadata(known.metadata.clone(), ClientId::new(self.config.client_id.clone()), secret);
        let methods = known.metadata.token_endpoint_auth_methods_supported();
        if methods.is_some_and(|m| m.contains(&CoreClientAuthMethod::ClientSecretPost) && !m.contains(&CoreClientAuthMethod::ClientSecretBasic)) {
            client = client.set_auth_type(AuthType::RequestBody);
        }
        match redirect {
            Some(redirect) => Ok(client.set_redirect_uri(RedirectUrl::new(redirect.to_owned()).map_err(|e| self.unreachable(e.to_string()))?)),
            None => Ok(client),
        }
    }

    pub(crate) fn unreachable(&self, problem: String) -> ProviderError {
        ProviderError::Unreachable { provider: self.config.name.clone(), problem }
    }

    fn read(&self) -> Result<Option<Arc<Known>>, String> {
        let Some(content) = read_private(&self.file, FILE_MAX_BYTES).map_err(|e| e.to_string())? else { return Ok(None) };
        let kept: Kept = serde_json::from_slice(&content).map_err(|e| e.to_string())?;
        let metadata: Metadata = serde_json::from_value(kept.metadata).map_err(|e| e.to_string())?;
        let keys: Keys = serde_json::from_value(kept.keys).map_err(|e| e.to_string())?;
        // Of another issuer: the configuration has changed since.
        if metadata.issuer().as_str() != self.config.issuer {
            return Ok(None);
        }
        let metadata = metadata.set_jwks(keys.clone());
        Ok(Some(Arc::new(Known { jwks: jwks(&keys), metadata, keys, fetched_at: kept.fetched_at })))
    }

    fn write(&self, known: &Known) -> Result<(), String> {
        let value = |v: Result<Value, serde_json::Error>| v.map_err(|e| e.to_string());
        let kept =
            Kept { fetched_at: known.fetched_at, metadata: value(serde_json::to_value(&known.metadata))?, keys: value(serde_json::to_value(&known.keys))? };
        let text = serde_json::to_vec(&kept).map_err(|e| e.to_string())?;
        write_private(&self.file, &text).map_err(|e| chain(&e))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys that jsonwebtoken does not know are left out, as openidconnect does.
fn jwks(keys: &Keys) -> Vec<Jwk> {
    let readable = |key| serde_json::to_value(key).and_then(serde_json::from_value).ok();
    keys.keys().iter().take(limits::PROVIDER_KEYS_MAX).filter_map(readable).collect()
}

/// An error with its sources, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
