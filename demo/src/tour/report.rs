//! One numbered line a claim.

use anyhow::{Context, Result};

#[derive(Default)]
pub(super) struct Report(u32);

impl Report {
    /// `proof` gives the evidence and its control, or why the claim does not hold; then the tour is over.
    pub(super) fn claim(&mut self, what: &str, proof: impl FnOnce() -> Result<(String, String)>) -> Result<()> {
        self.0 += 1;
        match proof() {
            Ok((evidence, control)) => println!("{:>2}  ok  {what}: {evidence} (control: {control})", self.0),
            Err(e) => {
                println!("{:>2} NOT  {what}: {e:#}", self.0);
                return Err(e).with_context(|| format!("claim {} does not hold: {what}", self.0));
            }
        }
        Ok(())
    }

    pub(super) fn count(&self) -> u32 {
        self.0
    }
}
