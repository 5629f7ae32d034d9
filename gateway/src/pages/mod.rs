//! Every page that a person sees, as pure functions from what is known to HTML.
//!
//! No clock, no socket, no request: a page is told who looks at it and what there is to show. What it shows is text, escaped by the template engine; an address becomes a link
//! only if it is of the web. Pages hold no script and no style of their own: both are [`assets`], and [`headers()`] says so to the browser.

mod address;
mod agent;
pub mod assets;
mod brand;
mod denied;
mod find;
mod headers;
mod icons;
mod layout;
mod limits;
mod portal;
mod problem;
mod sessions;
mod sign_on;
#[cfg(test)]
mod tests;
mod when;

use http::StatusCode;

pub use brand::Brand;
pub use denied::{Denied, denied, denied_json};
pub use headers::{Kind, headers};
pub use layout::Frame;
pub use portal::{App, Portal, Reach, apps_json, portal};
pub use problem::{Fault, Problem, Retry, Trouble, Upstream, problem, problem_json};
pub use sessions::{Line, Sessions, sessions};
pub use sign_on::sign_on;

/// A page that is an answer by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: StatusCode,
    pub html: String,
}

/// Paths that the pages lead to. Those of sessions exist on the portal's host only, the others on every host.
pub mod paths {
    /// JSON for the portal's script: which of a person's apps answer ([`super::apps_json`]).
    pub const APPS: &str = "/.weft/apps.json";
    /// A person's own sessions.
    pub const SESSIONS: &str = "/.weft/sessions";
    /// POST, form: `csrf`, `session`. Ends that session of the person.
    pub const END_SESSION: &str = "/.weft/sessions/end";
    /// POST, form: `csrf`. Ends all of the person's sessions but this one.
    pub const END_OTHERS: &str = "/.weft/sessions/end-others";
    /// POST, form: `csrf`. Signs out.
    pub const SIGN_OUT: &str = "/.weft/logout";
    /// What stands before the name of an asset.
    pub const ASSETS: &str = "/.weft/assets/";
}
