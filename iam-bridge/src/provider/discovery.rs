//! What the provider says of itself (OpenID Connect Discovery 1.0 section 3, RFC 8414).

use serde_json::{Value, json};

use super::{Provider, authorize::SCOPES};

impl Provider {
    pub(super) fn discovery(&self) -> Value {
        let issuer = &self.settings.issuer;
        json!({
            "issuer": issuer.as_str(),
            "authorization_endpoint": issuer.endpoint("/authorize"),
            "token_endpoint": issuer.endpoint("/token"),
            "userinfo_endpoint": issuer.endpoint("/userinfo"),
            "jwks_uri": issuer.endpoint("/jwks"),
            "end_session_endpoint": issuer.endpoint("/logout"),
            "scopes_supported": SCOPES,
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "prompt_values_supported": ["none", "login", "select_account"],
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "sid", "at_hash", "preferred_username", "name", "groups"],
            "claims_parameter_supported": false,
            "request_parameter_supported": false,
            "request_uri_parameter_supported": false,
            "authorization_response_iss_parameter_supported": true,
            "backchannel_logout_supported": true,
            "backchannel_logout_session_supported": true,
        })
    }
}
