//! The space that xtask's own steps need; the rest of what a machine must have is `weft-host`'s.

use weft_host::Unmet;

use crate::process;

/// A cold build of the workspace with its tests takes about 4 GiB, a warm one next to nothing.
const BUILD_SPACE_MIB: u64 = 256;

/// Room for a build, and for a laboratory.
pub(crate) fn space() -> Result<(), Unmet> {
    weft_host::space(&process::target_dir(), BUILD_SPACE_MIB, "set CARGO_TARGET_DIR to a larger file system")?;
    weft_host::work_space(&weft_host::work_dir())
}
