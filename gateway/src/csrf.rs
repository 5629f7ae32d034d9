//! What binds a form of ours to the session that it was shown to, beside the origin that browsers say.

use std::sync::OnceLock;

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};

use crate::{random, sso::SessionId};

/// Of this process: a form that was shown by an earlier one is to be opened again.
fn key() -> Option<&'static hmac::Key> {
    static KEY: OnceLock<Option<hmac::Key>> = OnceLock::new();
    KEY.get_or_init(|| Some(hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>().ok()?))).as_ref()
}

/// Empty where there is no randomness; then no form fits.
pub fn token(session: SessionId) -> String {
    let tag = key().map(|key| hmac::sign(key, session.to_string().as_bytes()));
    tag.iter().flat_map(|tag| tag.as_ref()).map(|byte| format!("{byte:02x}")).collect()
}

pub fn fits(session: SessionId, said: &str) -> bool {
    let token = token(session);
    !token.is_empty() && verify_slices_are_equal(token.as_bytes(), said.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_session() {
        let ids: Vec<SessionId> = ["0".repeat(32), "1".repeat(32)].iter().map(|id| id.parse().unwrap()).collect();
        assert!(fits(ids[0], &token(ids[0])));
        for wrong in [token(ids[1]), String::new(), token(ids[0]).to_uppercase()] {
            assert!(!fits(ids[0], &wrong), "{wrong}");
        }
    }
}
