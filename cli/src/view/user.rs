//! Somebody who may sign in with the bridge's own identity provider.

use serde::Serialize;

use super::Stamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserView {
    pub name: String,
    /// The claim `sub`, which no other user ever gets.
    pub subject: String,
    pub groups: Vec<String>,
    pub disabled: bool,
    pub created_at: Option<Stamp>,
    /// Logins that are remembered now.
    pub sessions: u32,
}
