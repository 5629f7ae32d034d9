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
/// Routes of the gateway.
pub const ROUTES_MAX: usize = 16_384;
/// Identity providers.
pub const PROVIDERS_MAX: usize = 16;
/// Bookmarks of the portal.
pub const BOOKMARKS_MAX: usize = 1_024;
/// Groups of one route, bookmark or team.
pub const GROUPS_MAX: usize = 256;
/// Groups that are taken from one identity provider.
pub const PROVIDER_GROUPS_MAX: usize = 1_024;
/// Methods of one route.
pub const METHODS_MAX: usize = 32;
/// Origins whose scripts may use one route.
pub const ORIGINS_MAX: usize = 64;
/// Headers that such scripts may send.
pub const HEADERS_MAX: usize = 64;
/// Scopes asked of one identity provider.
pub const SCOPES_MAX: usize = 32;
/// Audiences of bearer tokens that are taken from one identity provider.
pub const AUDIENCES_MAX: usize = 16;
/// Claims that hold groups, of one identity provider.
pub const CLAIMS_MAX: usize = 8;
/// The portal's logo, in bytes.
pub const LOGO_MAX_BYTES: usize = 32 << 10;
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
