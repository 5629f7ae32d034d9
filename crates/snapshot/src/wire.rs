//! The payload's messages, field for field as docs/snapshot.md lists them. Nothing outside this crate sees them.

use prost::Message;

pub(crate) use crate::gateway::wire::{Bookmark, Gateway, IdentityProvider, Route};

/// Field numbers of [`Snapshot`], which the decoder walks itself so that one element at a time is in memory.
pub(crate) mod field {
    pub(crate) const REVISION: u32 = 1;
    pub(crate) const MESH: u32 = 2;
    pub(crate) const TRUST_DOMAIN: u32 = 3;
    pub(crate) const SERVICES: u32 = 4;
    pub(crate) const ENDPOINTS: u32 = 5;
    pub(crate) const GRANTS: u32 = 6;
    pub(crate) const PENDING: u32 = 7;
    pub(crate) const TEAMS: u32 = 8;
    /// From here on: only in payloads of [`crate::GATEWAY_SCHEMA_VERSION`].
    pub(crate) const GATEWAY: u32 = 9;
    pub(crate) const ROUTES: u32 = 10;
    pub(crate) const PROVIDERS: u32 = 11;
    pub(crate) const BOOKMARKS: u32 = 12;
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Snapshot {
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    #[prost(string, tag = "2")]
    pub(crate) mesh: String,
    #[prost(string, tag = "3")]
    pub(crate) trust_domain: String,
    #[prost(message, repeated, tag = "4")]
    pub(crate) services: Vec<Service>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) endpoints: Vec<Endpoint>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) grants: Vec<Grant>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) pending: Vec<Pending>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) teams: Vec<Team>,
    #[prost(message, optional, tag = "9")]
    pub(crate) gateway: Option<Gateway>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) routes: Vec<Route>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) providers: Vec<IdentityProvider>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) bookmarks: Vec<Bookmark>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Service {
    #[prost(uint32, tag = "1")]
    pub(crate) id: u32,
    #[prost(string, tag = "2")]
    pub(crate) namespace: String,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    /// 1 application, 2 resource, 3 interface.
    #[prost(uint32, tag = "4")]
    pub(crate) kind: u32,
    #[prost(string, tag = "5")]
    pub(crate) title: String,
    #[prost(string, tag = "6")]
    pub(crate) owner: String,
    #[prost(string, tag = "7")]
    pub(crate) capability: String,
    #[prost(string, tag = "8")]
    pub(crate) lifecycle: String,
    #[prost(string, tag = "9")]
    pub(crate) identity: String,
    /// Host order; absent: none.
    #[prost(fixed32, optional, tag = "10")]
    pub(crate) vip: Option<u32>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) ports: Vec<Port>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) externals: Vec<External>,
    #[prost(string, tag = "13")]
    pub(crate) declared_at: String,
    #[prost(string, repeated, tag = "14")]
    pub(crate) consumers: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Port {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) target_port: u32,
    /// IANA's protocol number.
    #[prost(uint32, tag = "4")]
    pub(crate) protocol: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct External {
    /// 4 or 16 bytes in network order.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) network: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(crate) prefix_bits: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) port: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) protocol: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Endpoint {
    #[prost(uint32, tag = "1")]
    pub(crate) service: u32,
    #[prost(string, tag = "2")]
    pub(crate) node: String,
    #[prost(string, tag = "3")]
    pub(crate) uid: String,
    /// Each 4 or 16 bytes in network order.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) addresses: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Grant {
    #[prost(uint32, tag = "1")]
    pub(crate) rule: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) source: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) destination: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) port: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) protocol: u32,
    #[prost(bool, tag = "6")]
    pub(crate) needs_l7: bool,
    #[prost(string, tag = "7")]
    pub(crate) declared_at: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pending {
    #[prost(uint32, tag = "1")]
    pub(crate) source: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) destination: u32,
    /// 0: every declared port.
    #[prost(uint32, tag = "3")]
    pub(crate) port: u32,
    #[prost(string, tag = "4")]
    pub(crate) declared_at: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Team {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) lead: String,
    #[prost(string, tag = "3")]
    pub(crate) contact: String,
    /// Only in payloads of [`crate::GATEWAY_SCHEMA_VERSION`].
    #[prost(string, repeated, tag = "4")]
    pub(crate) groups: Vec<String>,
}
