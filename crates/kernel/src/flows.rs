//! The flow ring's reading end. What an event means to people is `weft-telemetry`'s business.

use std::{
    io,
    mem::MaybeUninit,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};
use weft_ebpf_common::FlowEvent;

use crate::{KernelError, limits::FLOW_DRAIN_MAX};

/// The one reader of the flow ring; dropping it lets another be made.
pub struct FlowRing {
    fd: AsyncFd<RingBuf<MapData>>,
    more: bool,
    taken: Arc<AtomicBool>,
}

impl FlowRing {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(ring: RingBuf<MapData>, taken: &Arc<AtomicBool>) -> Result<Self, KernelError> {
        if taken.swap(true, Ordering::AcqRel) {
            return Err(KernelError::RingTaken);
        }
        // SAFETY: the ring's descriptor is its map's, which it owns and never replaces; `AsyncFd` owns the ring from here on.
        match unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) } {
            Ok(fd) => Ok(Self { fd, more: true, taken: Arc::clone(taken) }),
            Err(e) => {
                taken.store(false, Ordering::Release);
                Err(KernelError::Ring(e.into_parts().1))
            }
        }
    }

    /// Waits until there may be events. Cancel safe.
    pub async fn readable(&mut self) -> io::Result<()> {
        if self.more {
            return Ok(());
        }
        let mut guard = self.fd.readable_mut().await?;
        // Cleared before the ring is read: an event that comes in between makes it ready again.
        guard.clear_ready();
        self.more = true;
        Ok(())
    }

    /// Takes what is there, at most [`FLOW_DRAIN_MAX`] events.
    pub fn drain(&mut self) -> Vec<FlowEvent> {
        let mut events = Vec::new();
        while events.len() < FLOW_DRAIN_MAX {
            match self.fd.get_mut().next() {
                Some(item) => events.extend(event(&item)),
                None => {
                    self.more = false;
                    break;
                }
            }
        }
        events
    }
}

impl Drop for FlowRing {
    fn drop(&mut self) {
        self.taken.store(false, Ordering::Release);
    }
}

/// An entry of another size is none of this ABI version and is skipped.
fn event(bytes: &[u8]) -> Option<FlowEvent> {
    if bytes.len() != size_of::<FlowEvent>() {
        return None;
    }
    let mut e = MaybeUninit::<FlowEvent>::uninit();
    // SAFETY: the sizes are equal, and a flow event consists of integers only, so any bytes make one.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), e.as_mut_ptr().cast(), bytes.len());
        Some(e.assume_init())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_another_size_is_skipped() {
        let mut bytes = [0_u8; size_of::<FlowEvent>()];
        bytes[..8].copy_from_slice(&7_u64.to_ne_bytes());
        assert_eq!(event(&bytes).unwrap().flow, 7);
        assert!(event(&bytes[1..]).is_none());
    }
}
