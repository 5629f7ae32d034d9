//! Bounds of one snapshot. Beyond any of them it is refused whole: half a policy is none.

/// Encoded payload, in bytes.
pub const PAYLOAD_MAX_BYTES: usize = 64 << 20;
/// One encoded service, endpoint, grant, pending dependency or team, in bytes.
pub const ELEMENT_MAX_BYTES: usize = 64 << 10;
/// Services.
pub const SERVICES_MAX: usize = 65_536;
/// Workload instances.
pub const ENDPOINTS_MAX: usize = 262_144;
/// Grants: half of the kernel table, which holds two generations.
pub const GRANTS_MAX: usize = 262_144;
/// Dependencies that wait for consent.
pub const PENDING_MAX: usize = 65_536;
/// Teams.
pub const TEAMS_MAX: usize = 65_536;
/// Ports of one service.
pub const PORTS_MAX: usize = 256;
/// Address ranges of one interface.
pub const EXTERNALS_MAX: usize = 1_024;
/// Consumers of one service.
pub const CONSUMERS_MAX: usize = 1_024;
/// Addresses of one workload instance.
pub const ADDRESSES_MAX: usize = 64;
/// Free text (title, contact, position in a file), in bytes.
pub const TEXT_MAX_BYTES: usize = 1_024;
/// Key id of an envelope, in bytes.
pub const KEY_ID_MAX_BYTES: usize = 64;
/// A change is sent instead of a whole snapshot only where it has at most this part of its size.
pub const DELTA_SAVES: usize = 2;
