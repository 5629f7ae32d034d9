//! Logout tokens of the provider's back channel (OpenID Connect Back-Channel Logout 1.0 section 2.6): which are believed, and each once.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;
use thiserror::Error;

use crate::{
    limits,
    sso::{
        config::ProviderConfig,
        jws::{self, Verified},
    },
};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Whom a provider signs out: one of its sessions, or a person, or both where both are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignOut {
    pub(crate) subject: Option<String>,
    pub(crate) sid: Option<String>,
    /// The token's own id, and until when it has to be remembered.
    pub(crate) id: String,
    pub(crate) remember_until: u64,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum LogoutError {
    #[error("the logout token is of another type")]
    Type,
    #[error("the logout token's issuer is another one")]
    Issuer,
    #[error("the logout token is for another audience")]
    Audience,
    #[error("the logout token is too old, or from the future")]
    Time,
    #[error("the logout token names no logout event")]
    Event,
    #[error("the logout token has a nonce: it is an ID token")]
    Nonce,
    #[error("the logout token names neither a person nor a session")]
    Nobody,
    #[error("the logout token has no id (jti)")]
    NoId,
    #[error("the logout token was used before")]
    Replayed,
    #[error("too many logouts at once: try again")]
    Busy,
}

/// Everything of a logout token but its signature, which was checked before.
pub(crate) fn check(token: &Verified, config: &ProviderConfig, now: u64) -> Result<SignOut, LogoutError> {
    let claims = &token.claims;
    let text =
        |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty() && text.len() <= limits::CLAIM_MAX_BYTES).map(str::to_owned);
    let typ = token.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
    if !matches!(typ.strip_prefix("application/").unwrap_or(&typ), "logout+jwt" | "jwt") {
        return Err(LogoutError::Type);
    }
    if claims.get("iss").and_then(Value::as_str) != Some(config.issuer.as_str()) {
        return Err(LogoutError::Issuer);
    }
    if !jws::is_for(claims, std::slice::from_ref(&config.client_id)) {
        return Err(LogoutError::Audience);
    }
    let issued_at = jws::time(claims, "iat").ok().flatten().ok_or(LogoutError::Time)?;
    let oldest = issued_at.saturating_add(limits::LOGOUT_TOKEN_SECONDS);
    let ends_at = jws::time(claims, "exp").map_err(|()| LogoutError::Time)?.map_or(oldest, |ends_at| ends_at.min(oldest));
    let remember_until = ends_at.saturating_add(limits::LEEWAY_SECONDS);
    if issued_at > now.saturating_add(limits::LEEWAY_SECONDS) || now >= remember_until {
        return Err(LogoutError::Time);
    }
    if !claims.get("events").and_then(|events| events.get(EVENT)).is_some_and(Value::is_object) {
        return Err(LogoutError::Event);
    }
    if claims.contains_key("nonce") {
        return Err(LogoutError::Nonce);
    }
    let (subject, sid) = (text("sub"), text("sid"));
    // A name that is there and cannot be read must not widen the logout, or make it be about nobody.
    if (subject.is_none() && sid.is_none()) || (claims.contains_key("sid") && sid.is_none()) || (claims.contains_key("sub") && subject.is_none()) {
        return Err(LogoutError::Nobody);
    }
    Ok(SignOut { subject, sid, id: text("jti").ok_or(LogoutError::NoId)?, remember_until })
}

/// Ids of logout tokens that were used and would still be believed.
#[derive(Default)]
pub(crate) struct Used {
    ids: HashSet<(String, String)>,
    by_end: BTreeMap<u64, Vec<(String, String)>>,
}

impl Used {
    /// A provider's token is used now; an error if it was before.
    pub(crate) fn take(&mut self, provider: &str, id: &str, remember_until: u64, now: u64) -> Result<(), LogoutError> {
        let later = self.by_end.split_off(&(now + 1));
        for gone in std::mem::replace(&mut self.by_end, later).into_values().flatten() {
            self.ids.remove(&gone);
        }
        let key = (provider.to_owned(), id.to_owned());
        if self.ids.contains(&key) {
            return Err(LogoutError::Replayed);
        }
        if self.ids.len() >= limits::LOGOUT_IDS_MAX {
            return Err(LogoutError::Busy);
        }
        self.ids.insert(key.clone());
        self.by_end.entry(remember_until).or_default().push(key);
        Ok(())
    }

    /// It could not be carried out: it may come again.
    pub(crate) fn give_back(&mut self, provider: &str, id: &str) {
        self.ids.remove(&(provider.to_owned(), id.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sso::claims::ClaimMap;

    const NOW: u64 = 1_000_000;

    fn config() -> ProviderConfig {
        ProviderConfig {
            name: "p".to_owned(),
            title: String::new(),
            issuer: "https://id".to_owned(),
            client_id: "weft".to_owned(),
            client_secret: None,
            scopes: Vec::new(),
            claims: ClaimMap::default(),
            groups: Vec::new(),
            api_audiences: Vec::new(),
        }
    }

    #[track_caller]
    fn check_with(typ: Option<&str>, change: Value, expect: Result<(Option<&str>, Option<&str>), LogoutError>) {
        let mut claims = json!({"iss": "https://id", "aud": "weft", "iat": NOW, "exp": NOW + 120, "jti": "1", "sub": "17", "sid": "s", "events": {EVENT: {}}});
        for (name, value) in change.as_object().unwrap() {
            if *value == json!("absent") {
                claims.as_object_mut().unwrap().remove(name)
            } else {
                claims.as_object_mut().unwrap().insert(name.clone(), value.clone())
            };
        }
        let token = Verified { typ: typ.map(str::to_owned), claims: claims.as_object().unwrap().clone() };
        let found = check(&token, &config(), NOW);
        let found = found.as_ref().map(|out| (out.subject.as_deref(), out.sid.as_deref())).map_err(Clone::clone);
        assert_eq!(found, expect, "{typ:?} {change}");
    }

    #[test]
    fn logout_tokens_of_all_providers_are_understood_and_nothing_else() {
        const BOTH: Result<(Option<&str>, Option<&str>), LogoutError> = Ok((Some("17"), Some("s")));
        let jwt = Some("logout+jwt");
        for typ in ["logout+jwt", "JWT", "jwt", "application/logout+jwt"] {
            check_with(Some(typ), json!({}), BOTH);
        }
        for typ in [None, Some("at+jwt"), Some("")] {
            check_with(typ, json!({}), Err(LogoutError::Type));
        }
        check_with(jwt, json!({"sid": "absent", "exp": "absent"}), Ok((Some("17"), None)));
        check_with(jwt, json!({"sub": "absent"}), Ok((None, Some("s"))));
        check_with(jwt, json!({"aud": ["x", "weft"]}), BOTH);
        check_with(jwt, json!({"sub": "absent", "sid": "absent"}), Err(LogoutError::Nobody));
        check_with(jwt, json!({"sid": 7}), Err(LogoutError::Nobody));
        check_with(jwt, json!({"iss": "https://other"}), Err(LogoutError::Issuer));
        check_with(jwt, json!({"aud": "other"}), Err(LogoutError::Audience));
        check_with(jwt, json!({"aud": "absent"}), Err(LogoutError::Audience));
        check_with(jwt, json!({"jti": "absent"}), Err(LogoutError::NoId));
        check_with(jwt, json!({"nonce": "n"}), Err(LogoutError::Nonce));
        for events in [json!("absent"), json!({}), json!({"other": {}}), json!({EVENT: "yes"})] {
            check_with(jwt, json!({"events": events}), Err(LogoutError::Event));
        }
        check_with(jwt, json!({"exp": NOW - 59}), BOTH);
        check_with(jwt, json!({"exp": NOW - 60}), Err(LogoutError::Time));
        check_with(jwt, json!({"iat": NOW + 60}), BOTH);
        check_with(jwt, json!({"iat": NOW + 61}), Err(LogoutError::Time));
        check_with(jwt, json!({"iat": "absent"}), Err(LogoutError::Time));
        check_with(jwt, json!({"iat": NOW - 659, "exp": "absent"}), BOTH);
        check_with(jwt, json!({"iat": NOW - 660, "exp": "absent"}), Err(LogoutError::Time));
        check_with(jwt, json!({"iat": NOW - 660, "exp": NOW + 99_999}), Err(LogoutError::Time));
    }

    #[test]
    fn a_token_is_used_once_and_forgotten_when_it_is_too_old() {
        let mut used = Used::default();
        assert_eq!(used.take("p", "1", 100, 10), Ok(()));
        assert_eq!(used.take("p", "1", 100, 99), Err(LogoutError::Replayed));
        assert_eq!(used.take("q", "1", 100, 99), Ok(()));
        used.give_back("p", "1");
        assert_eq!(used.take("p", "1", 100, 99), Ok(()));
        assert_eq!(used.take("p", "1", 200, 100), Ok(()));
        assert_eq!(used.ids.len(), 1);
        for n in 1..limits::LOGOUT_IDS_MAX {
            used.take("p", &format!("x{n}"), 200, 100).unwrap();
        }
        assert_eq!(used.take("p", "more", 200, 100), Err(LogoutError::Busy));
        assert_eq!(used.take("p", "more", 300, 200), Ok(()));
    }
}
