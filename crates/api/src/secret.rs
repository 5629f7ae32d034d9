//! Messages that carry a password or a join token: what `Debug` shows of them is everything else.

use std::fmt::{Debug, Formatter, Result};

use crate::bridge::v1::{AddUserRequest, AddUserResponse, CreateJoinTokenResponse, JoinRequest, SetUserPasswordRequest, SetUserPasswordResponse};

impl Debug for AddUserRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("AddUserRequest").field("name", &self.name).field("groups", &self.groups).finish_non_exhaustive()
    }
}

impl Debug for AddUserResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("AddUserResponse").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Debug for SetUserPasswordRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("SetUserPasswordRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Debug for SetUserPasswordResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("SetUserPasswordResponse").finish_non_exhaustive()
    }
}

impl Debug for JoinRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("JoinRequest").field("node", &self.node).field("protocol_version", &self.protocol_version).finish_non_exhaustive()
    }
}

impl Debug for CreateJoinTokenResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CreateJoinTokenResponse").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_whose_secret_it_is_and_not_the_secret() {
        let password = || "correct horse".to_owned();
        let shown = [
            format!("{:?}", AddUserRequest { name: "alice".into(), groups: vec![], password: password() }),
            format!("{:?}", AddUserResponse { user: None, password: password() }),
            format!("{:?}", SetUserPasswordRequest { name: "alice".into(), password: password() }),
            format!("{:?}", SetUserPasswordResponse { password: password() }),
            format!("{:?}", JoinRequest { token: password(), node: "a".into(), csr: vec![], protocol_version: 1 }),
            format!("{:?}", CreateJoinTokenResponse { token: password(), expires_at: 0 }),
        ];
        assert!(shown.iter().all(|s| !s.contains("horse")) && shown[0].contains("alice") && shown[2].contains("alice"), "{shown:?}");
    }
}
