//! The whole gateway over real sockets: an agent that says the policy, an identity provider, applications on addresses of their own, and clients that
//! speak TLS. Nothing of it needs root.

mod access;
mod agent;
mod apps;
mod balance;
mod browser;
mod client;
mod ends;
mod nobody;
mod policy;
mod program;
#[path = "../sso/provider.rs"]
#[allow(dead_code, reason = "the sign-on's own tests use the rest")]
mod provider;
mod reloads;
mod renewal;
mod routes;
mod seen;
mod socket;
mod stop;
mod streams;
mod tls;
mod told;
mod world;
