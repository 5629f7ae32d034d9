//! What the proxy buffers, counted for the share in whose turn it was taken.
//!
//! A share has large buffers as long as it holds less than [`BUFFERED_PER_SHARE_MAX_BYTES`] and less than is left for all; beyond, its
//! buffers are small. So a stalled connection more costs it next to nothing, while nothing of it ever waits for another to give memory back:
//! a thousand readers that sleep do not stop the one that reads. What is left then is bounded by the budget of connections.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::limits::{BUFFER_BYTES, BUFFERED_MAX_BYTES, BUFFERED_PER_SHARE_MAX_BYTES, SMALL_BUFFER_BYTES};

thread_local! {
    static CURRENT: RefCell<Option<Arc<Held>>> = const { RefCell::new(None) };
}

/// Of all shares.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bytes: AtomicUsize,
    /// Buffers that were small because their share, or all, held too much.
    refused: AtomicU64,
}

/// Of one share.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: AtomicUsize,
    all: Arc<Memory>,
}

/// Some bytes, given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    held: Option<Arc<Held>>,
    pub(crate) bytes: usize,
}

impl Memory {
    pub(crate) fn holder(self: &Arc<Self>) -> Arc<Held> {
        Arc::new(Held { bytes: AtomicUsize::new(0), all: self.clone() })
    }

    /// Bytes held now, and how many times a share had only a small buffer.
    pub(crate) fn used(&self) -> (usize, u64) {
        (self.bytes.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

impl Held {
    /// Two threads that ask at once may both find the last room: the bound is exceeded by a buffer a worker at most.
    fn charge(self: &Arc<Self>) -> Charge {
        let (own, all) = (self.bytes.load(Ordering::Relaxed), self.all.bytes.load(Ordering::Relaxed));
        let free = BUFFERED_MAX_BYTES.saturating_sub(all);
        let fits = own + BUFFER_BYTES <= BUFFERED_PER_SHARE_MAX_BYTES.min(free);
        if !fits {
            self.all.refused.fetch_add(1, Ordering::Relaxed);
        }
        let bytes = if fits { BUFFER_BYTES } else { SMALL_BUFFER_BYTES };
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
        Charge { held: Some(self.clone()), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            held.all.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// What `work` buffers is `held`'s.
pub(crate) fn on_behalf_of<T>(held: &Arc<Held>, work: impl FnOnce() -> T) -> T {
    let before = CURRENT.replace(Some(held.clone()));
    let done = work();
    CURRENT.set(before);
    done
}

/// Room for one buffer of whoever has the turn. Outside of every turn nothing is counted, and little is given.
pub(crate) fn room() -> Charge {
    CURRENT.with_borrow(|held| held.as_ref().map_or(Charge { held: None, bytes: SMALL_BUFFER_BYTES }, Held::charge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_its_bound_a_share_has_small_buffers_and_a_neighbour_large_ones() {
        let memory = Arc::new(Memory::default());
        let (greedy, polite) = (memory.holder(), memory.holder());
        let taken: Vec<_> = (0..2000).map(|_| on_behalf_of(&greedy, room)).collect();
        let large = taken.iter().filter(|c| c.bytes == BUFFER_BYTES).count();
        assert_eq!(large, BUFFERED_PER_SHARE_MAX_BYTES / BUFFER_BYTES);
        assert_eq!(memory.used(), (large * BUFFER_BYTES + (2000 - large) * SMALL_BUFFER_BYTES, 2000 - large as u64));
        assert_eq!(on_behalf_of(&polite, room).bytes, BUFFER_BYTES);
        drop(taken);
        assert_eq!(memory.used().0, 0);
        assert_eq!(on_behalf_of(&greedy, room).bytes, BUFFER_BYTES, "and what was given back can be had again");
        assert_eq!(room().bytes, SMALL_BUFFER_BYTES, "nobody's");
    }

    #[test]
    fn all_shares_together_are_bounded() {
        let memory = Arc::new(Memory::default());
        let taken: Vec<_> = (0..100).map(|_| memory.holder()).flat_map(|held| (0..1000).map(move |_| on_behalf_of(&held, room)).collect::<Vec<_>>()).collect();
        let small = taken.iter().filter(|c| c.bytes == SMALL_BUFFER_BYTES).count();
        assert!(memory.used().0 - small * SMALL_BUFFER_BYTES <= BUFFERED_MAX_BYTES);
        assert!(on_behalf_of(&memory.holder(), room).bytes > 0);
    }
}
