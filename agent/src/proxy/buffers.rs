//! Buffers that are held only while bytes are on their way: an idle connection has none.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

use super::{
    limits::{BUFFER_BYTES, SPARE_BUFFERS_MAX},
    memory::{Charge, room},
};

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Memory in the name of whoever has the turn, [`BUFFER_BYTES`] or less where that one holds too much. The large ones are lent by the worker
/// thread and go back to whichever thread drops them.
pub(crate) struct Buffer {
    memory: Box<[u8]>,
    _charge: Charge,
}

impl Buffer {
    pub(crate) fn take() -> Self {
        let charge = room();
        let spare = if charge.bytes == BUFFER_BYTES { SPARE.with_borrow_mut(Vec::pop) } else { None };
        Self { memory: spare.unwrap_or_else(|| vec![0; charge.bytes].into_boxed_slice()), _charge: charge }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if memory.len() < BUFFER_BYTES {
            return;
        }
        // A thread that is ending has no store any more; then the memory is simply freed.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_BUFFERS_MAX {
                spare.push(memory);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}
