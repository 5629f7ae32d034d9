//! Bounds of a catalog. Each is an error that names it, never a part left out.

/// One file, in bytes.
pub const FILE_MAX_BYTES: u64 = 1 << 20;
/// All files together, in bytes.
pub const TOTAL_MAX_BYTES: u64 = 64 << 20;
/// Files of one catalog.
pub const FILES_MAX: usize = 4_096;
/// Directory levels below the catalog's own.
pub const DEPTH_MAX: usize = 16;
/// A file's path relative to the catalog, in bytes.
pub const PATH_MAX_BYTES: usize = 512;
/// Documents of all files together.
pub const DOCUMENTS_MAX: usize = 65_536;
/// YAML nodes of one document.
pub const NODES_MAX: usize = 50_000;
/// Nested lists and maps of one document.
pub const NESTING_MAX: usize = 16;
/// Aliases of one document.
pub const ALIASES_MAX: usize = 100;
/// Ports of one service.
pub const PORTS_MAX: usize = 256;
/// Address ranges of one interface.
pub const EXTERNALS_MAX: usize = 1_024;
/// Address ranges of all interfaces: half of the kernel's table, which holds two generations.
pub const ALL_EXTERNALS_MAX: usize = 4_096;
/// Consumers of one service.
pub const CONSUMERS_MAX: usize = 1_024;
/// Dependencies of one service.
pub const DEPENDENCIES_MAX: usize = 4_096;
/// A title, contact, group, icon and the like, in characters.
pub const TEXT_MAX_CHARS: usize = 200;
/// Exposures of one service.
pub const EXPOSURES_MAX: usize = 256;
/// Exposures of all services.
pub const ALL_EXPOSURES_MAX: usize = 16_384;
/// Groups of one exposure, bookmark or team.
pub const GROUPS_MAX: usize = 256;
/// Methods of one exposure.
pub const METHODS_MAX: usize = 32;
/// Origins whose scripts may use one exposure, and headers that they may send.
pub const CORS_MAX: usize = 64;
/// How long a browser may remember an answer to a preflight, in seconds. None of them remembers longer.
pub const CORS_AGE_MAX_SECONDS: u32 = 86_400;
/// Identity providers.
pub const PROVIDERS_MAX: usize = 16;
/// Groups that are taken from one identity provider.
pub const PROVIDER_GROUPS_MAX: usize = 1_024;
/// Scopes asked of one identity provider.
pub const SCOPES_MAX: usize = 32;
/// Audiences of bearer tokens that are taken from one identity provider.
pub const AUDIENCES_MAX: usize = 16;
/// Claims that hold groups, of one identity provider.
pub const CLAIMS_MAX: usize = 8;
/// Bookmarks of the portal.
pub const BOOKMARKS_MAX: usize = 1_024;
/// The portal's logo, in bytes.
pub const LOGO_MAX_BYTES: usize = 32 << 10;
/// A URL, in bytes.
pub const URL_MAX_BYTES: usize = 1_024;
/// Findings that are reported; the last one then says how many more there are.
pub const FINDINGS_MAX: usize = 1_000;
