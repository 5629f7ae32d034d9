//! The gateway's messages, field for field as docs/snapshot.md lists them.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Gateway {
    #[prost(uint32, tag = "1")]
    pub(crate) service: u32,
    #[prost(string, tag = "2")]
    pub(crate) base_domain: String,
    #[prost(uint32, tag = "3")]
    pub(crate) public_port: u32,
    #[prost(string, tag = "4")]
    pub(crate) title: String,
    #[prost(string, tag = "5")]
    pub(crate) support: String,
    #[prost(string, tag = "6")]
    pub(crate) accent: String,
    #[prost(string, tag = "7")]
    pub(crate) accent_dark: String,
    /// 0 none, 1 SVG, 2 PNG.
    #[prost(uint32, tag = "8")]
    pub(crate) logo_kind: u32,
    #[prost(bytes = "vec", tag = "9")]
    pub(crate) logo: Vec<u8>,
    #[prost(uint32, tag = "10")]
    pub(crate) listen_port: u32,
    /// 0: none.
    #[prost(uint32, tag = "11")]
    pub(crate) redirect_port: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Route {
    #[prost(uint32, tag = "1")]
    pub(crate) rule: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) service: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) port: u32,
    /// 1 HTTP/1.1, 2 HTTP/2, 3 gRPC.
    #[prost(uint32, tag = "4")]
    pub(crate) upstream: u32,
    #[prost(string, tag = "5")]
    pub(crate) host: String,
    /// 1 exact (also with `{segment}`), 2 prefix.
    #[prost(uint32, tag = "6")]
    pub(crate) path_kind: u32,
    #[prost(string, tag = "7")]
    pub(crate) path: String,
    /// A prefix; empty: none.
    #[prost(string, tag = "8")]
    pub(crate) rewrite: String,
    /// 1 public, 2 authenticated, 3 groups.
    #[prost(uint32, tag = "9")]
    pub(crate) access: u32,
    #[prost(string, repeated, tag = "10")]
    pub(crate) groups: Vec<String>,
    #[prost(string, repeated, tag = "11")]
    pub(crate) methods: Vec<String>,
    #[prost(message, optional, tag = "12")]
    pub(crate) cors: Option<Cors>,
    /// 0 by default, 1 a tile of its own, 2 hidden.
    #[prost(uint32, tag = "13")]
    pub(crate) shown: u32,
    #[prost(string, tag = "14")]
    pub(crate) title: String,
    #[prost(string, tag = "15")]
    pub(crate) icon: String,
    #[prost(string, tag = "16")]
    pub(crate) category: String,
    #[prost(string, tag = "17")]
    pub(crate) declared_at: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Cors {
    #[prost(string, repeated, tag = "1")]
    pub(crate) origins: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) methods: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) headers: Vec<String>,
    #[prost(bool, tag = "4")]
    pub(crate) credentials: bool,
    #[prost(uint32, tag = "5")]
    pub(crate) max_age_seconds: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct IdentityProvider {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) title: String,
    #[prost(bool, tag = "3")]
    pub(crate) builtin: bool,
    #[prost(string, tag = "4")]
    pub(crate) issuer: String,
    #[prost(string, tag = "5")]
    pub(crate) client_id: String,
    #[prost(string, tag = "6")]
    pub(crate) client_secret_file: String,
    #[prost(string, repeated, tag = "7")]
    pub(crate) scopes: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    pub(crate) groups_claims: Vec<String>,
    #[prost(string, tag = "9")]
    pub(crate) username_claim: String,
    #[prost(string, tag = "10")]
    pub(crate) email_claim: String,
    #[prost(string, tag = "11")]
    pub(crate) name_claim: String,
    #[prost(string, repeated, tag = "12")]
    pub(crate) groups: Vec<String>,
    /// 0: none.
    #[prost(uint32, tag = "13")]
    pub(crate) via_service: u32,
    #[prost(uint32, tag = "14")]
    pub(crate) via_port: u32,
    #[prost(string, tag = "15")]
    pub(crate) declared_at: String,
    #[prost(string, repeated, tag = "16")]
    pub(crate) api_audiences: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Bookmark {
    #[prost(string, tag = "1")]
    pub(crate) title: String,
    #[prost(string, tag = "2")]
    pub(crate) url: String,
    #[prost(string, tag = "3")]
    pub(crate) icon: String,
    #[prost(string, tag = "4")]
    pub(crate) category: String,
    #[prost(string, repeated, tag = "5")]
    pub(crate) groups: Vec<String>,
}
