//! What the kernel programs say of themselves (aya-log), forwarded to `tracing`. Diagnostics only: flows have their own ring.

use std::{io, path::Path};

use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use crate::{KernelError, pins::Pins, sys};

/// The reading end of the kernel programs' log.
pub struct Diagnostics {
    fd: AsyncFd<EbpfLogger<ToTracing>>,
}

impl Diagnostics {
    /// Must be called within a tokio runtime.
    pub(crate) fn open(pins: &Pins) -> Result<Self, KernelError> {
        let program = program_of(&pins.link("weft_sockops")).map_err(KernelError::Ring)?;
        let logger = EbpfLogger::init_from_id_with_logger(program, ToTracing).map_err(|e| KernelError::Ring(io::Error::other(e)))?;
        // SAFETY: the logger owns its ring's map and never replaces it; `AsyncFd` owns the logger from here on.
        let fd = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }.map_err(|e| KernelError::Ring(e.into_parts().1))?;
        Ok(Self { fd })
    }

    /// Forwards until the descriptor fails; run it as a task of its own.
    pub async fn forward(mut self) -> io::Result<()> {
        loop {
            let mut guard = self.fd.readable_mut().await?;
            guard.clear_ready();
            guard.get_inner_mut().flush();
        }
    }
}

fn program_of(link: &Path) -> io::Result<u32> {
    use std::os::fd::AsFd as _;
    Ok(sys::link_info(sys::open_pin(link)?.as_fd())?.prog_id)
}

struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args();
        match record.level() {
            log::Level::Error => tracing::error!(target: "weft_kernel::programs", "{text}"),
            log::Level::Warn => tracing::warn!(target: "weft_kernel::programs", "{text}"),
            log::Level::Info => tracing::info!(target: "weft_kernel::programs", "{text}"),
            log::Level::Debug => tracing::debug!(target: "weft_kernel::programs", "{text}"),
            log::Level::Trace => tracing::trace!(target: "weft_kernel::programs", "{text}"),
        }
    }

    fn flush(&self) {}
}
