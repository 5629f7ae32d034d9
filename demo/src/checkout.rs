//! Where things lie in the checkout that the demo was built from.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

#[derive(Clone, Debug)]
pub struct Checkout(PathBuf);

impl Checkout {
    /// Above the running program, else the directory it was built in.
    pub fn find() -> Result<Self> {
        let exe = std::env::current_exe()?;
        let built = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = exe.ancestors().chain(built.ancestors()).find(|d| d.join("examples/shop/catalog").is_dir());
        match found {
            Some(root) => Ok(Self(root.to_owned())),
            None => bail!("examples/shop is neither above {} nor above {}; run it from a checkout", exe.display(), built.display()),
        }
    }

    pub fn shop(&self, path: &str) -> PathBuf {
        self.0.join("examples/shop").join(path)
    }
}

/// This very program, for its helpers: still there when the file has been built anew meanwhile.
pub fn own_program() -> String {
    format!("/proc/{}/exe", std::process::id())
}
