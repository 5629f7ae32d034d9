//! What a provider is asked for one person: where to sign in, tokens for a code, tokens anew, more claims. And which ID tokens are believed.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::DateTime;
use http::{Method, Request, header};
use openidconnect::{
    AccessToken, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError, ClientId, CsrfToken, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge,
    PkceCodeVerifier, RefreshToken, RequestTokenError, Scope, SignatureVerificationError, TokenResponse as _, core::CoreErrorResponseType,
    core::CoreResponseType,
};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{
    limits,
    sso::{
        claims::Person,
        client::HttpError,
        oidc::{ALGORITHMS, IdToken, TokenAnswer, Verifier},
        provider::{Known, Provider, ProviderError, chain},
        session::{Session, Tokens},
    },
};

type Claims = Map<String, Value>;
type TokenError = RequestTokenError<HttpError, openidconnect::StandardErrorResponse<CoreErrorResponseType>>;

/// A sign-in that begins.
pub(crate) struct Begun {
    pub(crate) url: String,
    pub(crate) verifier: Zeroizing<String>,
    pub(crate) nonce: Zeroizing<String>,
}

/// Somebody whom the provider has vouched for.
pub(crate) struct Vouched {
    pub(crate) person: Person,
    pub(crate) tokens: Tokens,
    /// When the access token ends, in Unix seconds.
    pub(crate) ends_at: Option<u64>,
}

impl Provider {
    pub(crate) async fn begin(self: &Arc<Self>, state: String, redirect: &str, now: u64) -> Result<Begun, ProviderError> {
        let known = self.known(now).await?;
        let client = self.client(&known, Some(redirect))?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let mut request = client.authorize_url(flow, move || CsrfToken::new(state), Nonce::new_random).set_pkce_challenge(challenge);
        for scope in self.config.scopes.iter().filter(|scope| *scope != "openid") {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, _, nonce) = request.url();
        Ok(Begun { url: url.into(), verifier: Zeroizing::new(verifier.into_secret()), nonce: Zeroizing::new(nonce.secret().clone()) })
    }

    /// Tokens for a code.
    pub(crate) async fn redeem(self: &Arc<Self>, code: &str, begun: (&str, &str), redirect: &str, now: u64) -> Result<Vouched, ProviderError> {
        let (verifier, nonce) = begun;
        let known = self.known(now).await?;
        let client = self.client(&known, Some(redirect))?;
        let http = self.caller();
        let request = client.exchange_code(AuthorizationCode::new(code.to_owned())).map_err(|e| self.unreachable(e.to_string()))?;
        let answer = request.set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned())).request_async(&http).await.map_err(|e| self.explain(&e))?;
        let token = answer.id_token().ok_or_else(|| self.bad_token("there is no ID token in the answer"))?;
        let claims = self.verify_or_ask(token, &known, Some(nonce), now).await?;
        self.vouched(&answer, Some(claims), None, now).await
    }

    /// The person and their tokens anew.
    pub(crate) async fn refresh(self: &Arc<Self>, session: &Session, now: u64) -> Result<Vouched, ProviderError> {
        let refresh = session.tokens.refresh.as_ref().ok_or_else(|| self.unreachable("there is no refresh token".to_owned()))?;
        let known = self.known(now).await?;
        let client = self.client(&known, None)?;
        let http = self.caller();
        let token = RefreshToken::new(refresh.to_string());
        let answer = client.exchange_refresh_token(&token).map_err(|e| self.unreachable(e.to_string()))?.request_async(&http).await;
        let answer = answer.map_err(|e| self.explain(&e))?;
        let claims = match answer.id_token() {
            Some(token) => Some(self.verify_or_ask(token, &known, None, now).await?),
            None => None,
        };
        self.vouched(&answer, claims, Some(session), now).await
    }

    /// Where a browser is sent to sign out of the provider too.
    pub(crate) fn logout_url(&self, session: &Session, back: &str) -> Option<String> {
        let known = self.last()?;
        let mut url = known.metadata.additional_metadata().end_session_endpoint.as_ref()?.url().clone();
        if !matches!(url.scheme(), "https" | "http") {
            return None;
        }
        let mut query = url.query_pairs_mut();
        if let Some(token) = &session.tokens.id {
            query.append_pair("id_token_hint", token);
        }
        query.append_pair("client_id", &self.config.client_id).append_pair("post_logout_redirect_uri", back);
        drop(query);
        Some(url.into())
    }

    /// One more try with newer keys when the token names one that is not known.
    async fn verify_or_ask(&self, token: &IdToken, known: &Arc<Known>, nonce: Option<&str>, now: u64) -> Result<Claims, ProviderError> {
        match verify(token, known, &self.config.client_id, nonce, now) {
            Err(Unbelieved::UnknownKey) => {
                let newer = self.newer(known, now, limits::DIRECT_SPACING_SECONDS).await.ok_or_else(|| self.bad_token(Unbelieved::UnknownKey))?;
                verify(token, &newer, &self.config.client_id, nonce, now).map_err(|e| self.bad_token(e))
            }
            other => other.map_err(|e| self.bad_token(e)),
        }
    }

    async fn vouched(&self, answer: &TokenAnswer, claims: Option<Claims>, before: Option<&Session>, now: u64) -> Result<Vouched, ProviderError> {
        let fresh = claims.is_some();
        // A refresh need not bring an ID token (OpenID Connect Core section 12.2): then the last one stands, and userinfo is the newer of the two.
        let stored = || before.and_then(|before| payload(before.tokens.id.as_ref()?));
        let mut all = claims.or_else(stored).unwrap_or_default();
        if (!fresh || self.config.claims.lacks(&all))
            && let Some(more) = self.user_info(answer.access_token()).await?
        {
            if all.get("sub").is_some_and(|subject| more.get("sub") != Some(subject)) {
                return Err(self.bad_token("userinfo is about somebody else"));
            }
            if !fresh {
                // A provider may leave a claim out that would be empty: groups that it does not say now are of the past.
                self.config.claims.forget_groups(&mut all);
            }
            for (name, value) in more {
                if !fresh || !all.contains_key(&name) {
                    all.insert(name, value);
                }
            }
        }
        let person = match before {
            // The provider said nothing at all about the person.
            Some(before) if all.is_empty() => before.person.clone(),
            _ => self.config.person(&all).map_err(|source| ProviderError::Claims { provider: self.config.name.clone(), source })?,
        };
        if before.is_some_and(|before| before.person.subject != person.subject) {
            return Err(self.bad_token("it is about somebody else than before"));
        }
        let old = before.map(|before| before.tokens.clone()).unwrap_or_default();
        let tokens = Tokens {
            issuer: self.config.issuer.clone(),
            refresh: answer.refresh_token().map(|token| Zeroizing::new(token.secret().clone())).or(old.refresh),
            id: answer.id_token().map(|token| Zeroizing::new(token.to_string())).or(old.id),
            sid: all.get("sid").and_then(Value::as_str).map(str::to_owned).or(old.sid),
        };
        Ok(Vouched { person, tokens, ends_at: answer.expires_in().map(|life| now.saturating_add(life.as_secs())) })
    }

    /// More claims (OpenID Connect Core section 5.3). `None`: the provider has no such endpoint.
    async fn user_info(&self, token: &AccessToken) -> Result<Option<Claims>, ProviderError> {
        let Some(known) = self.last() else { return Ok(None) };
        let Some(endpoint) = known.metadata.userinfo_endpoint() else { return Ok(None) };
        let bearer = format!("Bearer {}", token.secret());
        let request =
            Request::builder().method(Method::GET).uri(endpoint.as_str()).header(header::AUTHORIZATION, bearer).header(header::ACCEPT, "application/json");
        let request = request.body(Vec::new()).map_err(|e| self.unreachable(e.to_string()))?;
        let answer = self.caller()(request).await.map_err(|e| self.unreachable(chain(&e)))?;
        if !answer.status().is_success() {
            return Err(self.unreachable(format!("userinfo answered {}", answer.status())));
        }
        let claims = serde_json::from_slice(answer.body()).map_err(|_| self.unreachable("userinfo is no JSON object".to_owned()))?;
        Ok(Some(claims))
    }

    /// A refusal is about the person or the code; that this client is not known is about the configuration, and ends nobody's session.
    fn explain(&self, error: &TokenError) -> ProviderError {
        match error {
            RequestTokenError::ServerResponse(answer) if *answer.error() != CoreErrorResponseType::InvalidClient => {
                ProviderError::Refused { provider: self.config.name.clone(), problem: chain(error) }
            }
            _ => self.unreachable(chain(error)),
        }
    }

    fn bad_token(&self, problem: impl ToString) -> ProviderError {
        ProviderError::Token { provider: self.config.name.clone(), problem: problem.to_string() }
    }
}

/// Why an ID token is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unbelieved {
    #[error("it is signed with a key that is not known")]
    UnknownKey,
    #[error("{0}")]
    Claims(String),
}

/// OpenID Connect Core section 3.1.3.7, with the leeway that the library has no setting for, and `azp` and `nbf`, which it does not look at.
/// `nonce` is absent in a refresh, where a provider need not repeat it (section 12.2).
pub(crate) fn verify(token: &IdToken, known: &Known, client_id: &str, nonce: Option<&str>, now: u64) -> Result<Claims, Unbelieved> {
    let other = |text: &str| Unbelieved::Claims(text.to_owned());
    let text = Zeroizing::new(token.to_string());
    if text.len() > limits::TOKEN_MAX_BYTES {
        return Err(other("it is too long"));
    }
    let at = |seconds: u64| i64::try_from(seconds).ok().and_then(|s| DateTime::from_timestamp(s, 0)).unwrap_or(DateTime::UNIX_EPOCH);
    let (earliest, latest) = (at(now.saturating_sub(limits::LEEWAY_SECONDS)), at(now.saturating_add(limits::LEEWAY_SECONDS)));
    let verifier = Verifier::new_public_client(ClientId::new(client_id.to_owned()), known.metadata.issuer().clone(), known.keys.clone())
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || earliest)
        .set_issue_time_verifier_fn(move |issued| if issued <= latest { Ok(()) } else { Err("it was issued in the future".to_owned()) });
    let expected = nonce.map(|nonce| Nonce::new(nonce.to_owned()));
    let checked = token.claims(&verifier, |sent: Option<&Nonce>| match (&expected, sent) {
        (None, _) => Ok(()),
        (Some(expected), Some(sent)) if same(expected.secret(), sent.secret()) => Ok(()),
        _ => Err("the nonce is not the one that was sent".to_owned()),
    });
    checked.map_err(|error| match error {
        ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => Unbelieved::UnknownKey,
        error => Unbelieved::Claims(chain(&error)),
    })?;
    let claims = payload(&text).ok_or_else(|| other("its claims are no JSON object"))?;
    if claims.get("azp").is_some_and(|azp| azp.as_str() != Some(client_id)) {
        return Err(other("it was issued to another client (azp)"));
    }
    if claims.get("nbf").is_some_and(|nbf| nbf.as_f64().is_none_or(|nbf| nbf > (now + limits::LEEWAY_SECONDS) as f64)) {
        return Err(other("it is not valid yet (nbf)"));
    }
    Ok(claims)
}

/// The claims of a token that was verified before.
fn payload(token: &str) -> Option<Claims> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn same(a: &str, b: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}
