//! Messages that carry a password: what `Debug` shows of them is everything else.

use std::fmt::{Debug, Formatter, Result};

use crate::bridge::v1::{AddUserRequest, AddUserResponse, SetUserPasswordRequest, SetUserPasswordResponse};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_whose_password_it_is_and_not_the_password() {
        let password = || "correct horse".to_owned();
        let shown = [
            format!("{:?}", AddUserRequest { name: "alice".into(), groups: vec![], password: password() }),
            format!("{:?}", AddUserResponse { user: None, password: password() }),
            format!("{:?}", SetUserPasswordRequest { name: "alice".into(), password: password() }),
            format!("{:?}", SetUserPasswordResponse { password: password() }),
        ];
        assert!(shown.iter().all(|s| !s.contains("horse")) && shown[0].contains("alice") && shown[2].contains("alice"), "{shown:?}");
    }
}
