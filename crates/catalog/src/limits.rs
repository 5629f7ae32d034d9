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
/// Findings that are reported; the last one then says how many more there are.
pub const FINDINGS_MAX: usize = 1_000;
