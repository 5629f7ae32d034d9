//! The local OpenID provider of the embedded default: people with passwords and groups, for a mesh that has no identity provider yet.
//!
//! A core without a socket and without a clock: [`Provider::handle`] takes a request and the time, and gives the answer; randomness is a parameter.
//! `serve` puts it on a socket. It asks for no consent, and it knows nothing of the mesh: another OpenID provider can take its place at any time.
//!
//! What it follows: OpenID Connect Core 1.0, Discovery 1.0, RP-Initiated Logout 1.0, Back-Channel Logout 1.0; RFC 6749, 7636 (S256 alone), 9068, 9207, 9700.

mod authorize;
mod clients;
mod codes;
mod cookies;
mod deliver;
mod discovery;
mod door;
mod jwt;
mod keys;
mod limiter;
mod login;
mod logout;
mod names;
mod out;
mod pages;
mod params;
pub(crate) mod password;
pub(crate) mod random;
mod respond;
mod serve;
mod sessions;
mod settings;
mod setup;
#[cfg(test)]
mod tests;
mod token;
mod userinfo;
mod users;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use thiserror::Error;

pub(crate) use clients::{Client, SecretHash};
pub(crate) use deliver::deliver;
pub use door::Bound;
pub(crate) use door::Door;
pub(crate) use login::{Checked, Pending};
pub(crate) use logout::Logout;
pub(crate) use out::{WayOut, peek};
pub(crate) use serve::{SharedProvider, serve};
pub(crate) use settings::{Issuer, Settings, origin};
pub(crate) use setup::set_up;
pub(crate) use users::{NewUser, User, UserError, group_change};

use codes::Codes;
use keys::{KeyError, KeyRing};
use limiter::Limiter;
use random::Random;
use respond::Answer;

use crate::{
    files::StateDir,
    limits::provider as limits,
    metrics::Metrics,
    store::{People, StoreError},
};

pub(crate) struct Provider {
    settings: Settings,
    people: People,
    keys: KeyRing,
    /// Seals refresh tokens.
    refresh: hmac::Key,
    /// Binds forms to browsers; a new one each start.
    forms: hmac::Key,
    codes: Codes,
    limiter: Limiter,
    random: Box<dyn Random>,
    /// Logout tokens that nobody has taken yet.
    outbox: Vec<Logout>,
    metrics: Arc<Metrics>,
}

/// How far a request came.
pub(crate) enum Step {
    Answer(Answer),
    /// A password must be looked at, which takes its time and needs nothing of the provider.
    Password(Box<Pending>),
}

#[derive(Debug, Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The doors of the provider, below its issuer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Discovery,
    Jwks,
    Authorize,
    Login,
    Token,
    Userinfo,
    Logout,
    ConfirmLogout,
}

impl Provider {
    pub(crate) fn open(
        state: &StateDir,
        people: People,
        settings: Settings,
        mut random: Box<dyn Random>,
        metrics: Arc<Metrics>,
        now: SystemTime,
    ) -> Result<Self, OpenError> {
        let refresh = keys::refresh_key(state, &mut *random)?;
        let forms = hmac::Key::new(hmac::HMAC_SHA256, random::bytes::<32>(&mut *random).as_slice());
        Ok(Self {
            settings,
            people,
            keys: KeyRing::open(state, now)?,
            refresh,
            forms,
            codes: Codes::default(),
            limiter: Limiter::new(limits::LIMITED_MAX),
            random,
            outbox: Vec::new(),
            metrics,
        })
    }

    /// Answers a request. `peer`: the browser's or client's own address, not a proxy's.
    #[cfg_attr(not(test), expect(dead_code, reason = "the listener takes the two halves, so that a password is looked at outside of its lock"))]
    pub(crate) fn handle(&mut self, request: Request<Bytes>, peer: IpAddr, now: SystemTime) -> Answer {
        match self.begin(&request, peer, now) {
            Step::Answer(answer) => answer,
            Step::Password(pending) => self.finish(pending.check(), now),
        }
    }

    /// The first half of [`Provider::handle`].
    pub(crate) fn begin(&mut self, request: &Request<Bytes>, peer: IpAddr, now: SystemTime) -> Step {
        if let Err(error) = self.keys.turn(now) {
            tracing::error!(%error, "the provider's keys are not replaced: the former ones go on");
        }
        let Some(endpoint) = Endpoint::of(request.uri().path()) else { return Step::Answer(respond::not_found()) };
        if !endpoint.methods().contains(request.method()) {
            return Step::Answer(respond::method_not_allowed(endpoint.methods()));
        }
        let answered = match endpoint {
            Endpoint::Discovery => Ok(respond::public(&self.discovery())),
            Endpoint::Jwks => Ok(respond::public(&self.keys.jwks())),
            Endpoint::Authorize => self.authorize(request, now),
            Endpoint::Token => self.token(request, now),
            Endpoint::Userinfo => self.userinfo(request, now),
            Endpoint::Logout => self.logout(request, now),
            Endpoint::ConfirmLogout => self.confirm_logout(request, now),
            Endpoint::Login => match self.login(request, peer, now) {
                Ok(step) => return step,
                Err(error) => Err(error),
            },
        };
        Step::Answer(answered.unwrap_or_else(|error| endpoint.unavailable(&error)))
    }

    /// The second half, when a password was looked at.
    pub(crate) fn finish(&mut self, checked: Checked, now: SystemTime) -> Answer {
        self.logged_in(checked, now).unwrap_or_else(|error| Endpoint::Login.unavailable(&error))
    }

    /// Logout tokens that are to be sent.
    pub(crate) fn take_logouts(&mut self) -> Vec<Logout> {
        std::mem::take(&mut self.outbox)
    }
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/.well-known/openid-configuration" => Self::Discovery,
            "/jwks" => Self::Jwks,
            "/authorize" => Self::Authorize,
            "/login" => Self::Login,
            "/token" => Self::Token,
            "/userinfo" => Self::Userinfo,
            "/logout" => Self::Logout,
            "/logout/confirm" => Self::ConfirmLogout,
            _ => return None,
        })
    }

    fn methods(self) -> &'static [Method] {
        match self {
            Self::Discovery | Self::Jwks => &[Method::GET, Method::HEAD],
            Self::Authorize | Self::Userinfo | Self::Logout => &[Method::GET, Method::POST],
            Self::Login | Self::Token | Self::ConfirmLogout => &[Method::POST],
        }
    }

    /// The database does not answer: nothing is given, and it is said who can do something about it.
    fn unavailable(self, error: &StoreError) -> Answer {
        tracing::error!(error = crate::control::chain(error), "the provider cannot answer");
        match self {
            Self::Token | Self::Userinfo | Self::Discovery | Self::Jwks => {
                respond::refused(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "the provider cannot reach its own store")
            }
            _ => pages::refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "Signing in and out is not possible just now: the identity provider cannot reach its own store.",
            ),
        }
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Whole seconds since 1970.
fn unix(time: SystemTime) -> i64 {
    let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    time.duration_since(UNIX_EPOCH).map_or_else(|e| -seconds(e.duration()), seconds)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
