//! Bearer tokens of API clients: JWTs of a configured provider for a configured audience (RFC 9068 where the provider follows it). Opaque tokens are refused:
//! to believe one, the provider would have to be asked at every request.

use std::sync::Arc;

use http::{HeaderMap, header};
use thiserror::Error;

use crate::{
    limits,
    sso::{
        claims::{ClaimError, Person},
        config::ProviderConfig,
        jws::{self, JwsError, Verified},
        provider::{Provider, ProviderError},
    },
};

#[derive(Debug, Error)]
pub(crate) enum BearerError {
    #[error(transparent)]
    Jws(#[from] JwsError),
    #[error("the token's issuer is not configured here")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token has expired, or says not when it will")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
    #[error("the token is of another kind than an access token")]
    Kind,
    #[error(transparent)]
    Claims(#[from] ClaimError),
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

/// The bearer token of a request. `Err`: there are several, or the header is no text.
pub(crate) fn token(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    let mut found = None;
    for value in headers.get_all(header::AUTHORIZATION) {
        let scheme = value.as_bytes().get(..7).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            continue;
        }
        let text = value.to_str().map_err(|_| ())?;
        if found.replace(text[7..].trim()).is_some() {
            return Err(());
        }
    }
    Ok(found)
}

/// Whose token it says to be. One that is of no configured issuer is none of the gateway's business where a ticket says who asks.
pub(crate) fn issuer<'a>(token: &str, providers: &'a [Arc<Provider>]) -> Result<&'a Arc<Provider>, BearerError> {
    let issuer = jws::claimed_issuer(token)?;
    providers.iter().find(|provider| provider.config.issuer == issuer).ok_or(BearerError::Issuer)
}

/// Whom a bearer token speaks for, and until when, in Unix seconds.
pub(crate) async fn person(token: &str, providers: &[Arc<Provider>], now: u64) -> Result<(Person, u64), BearerError> {
    let provider = issuer(token, providers)?;
    if provider.config.api_audiences.is_empty() {
        return Err(BearerError::Audience);
    }
    let known = provider.known(now).await?;
    let verified = match jws::verify(token, &known.jwks) {
        Err(JwsError::UnknownKey) => {
            let newer = provider.newer(&known, now, limits::DISCOVERY_SPACING_SECONDS).await.ok_or(JwsError::UnknownKey)?;
            jws::verify(token, &newer.jwks)?
        }
        other => other?,
    };
    check(&verified, &provider.config, now)
}

fn check(token: &Verified, config: &ProviderConfig, now: u64) -> Result<(Person, u64), BearerError> {
    let claims = &token.claims;
    let kind = token.typ.as_deref().map(|typ| typ.to_ascii_lowercase());
    if !matches!(kind.as_deref(), None | Some("jwt" | "at+jwt" | "application/at+jwt")) || claims.contains_key("events") || claims.contains_key("nonce") {
        return Err(BearerError::Kind);
    }
    if claims.get("iss").and_then(|iss| iss.as_str()) != Some(config.issuer.as_str()) {
        return Err(BearerError::Issuer);
    }
    if !jws::is_for(claims, &config.api_audiences) {
        return Err(BearerError::Audience);
    }
    let time = |name: &str| jws::time(claims, name).map_err(|()| BearerError::Early);
    let ends_at = jws::time(claims, "exp").ok().flatten().ok_or(BearerError::Expired)?;
    let ends_at = ends_at.saturating_add(limits::LEEWAY_SECONDS);
    if now >= ends_at {
        return Err(BearerError::Expired);
    }
    let latest = now.saturating_add(limits::LEEWAY_SECONDS);
    if time("nbf")?.is_some_and(|at| at > latest) || time("iat")?.is_some_and(|at| at > latest) {
        return Err(BearerError::Early);
    }
    Ok((config.person(claims)?, ends_at))
}
