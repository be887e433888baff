//! Memory for pieces of files, used again and again: fresh memory comes from the kernel page by page, each
//! with an interrupt and zeroes, which is a tenth of what sending costs where files are in the page cache.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Shorter ones are of the allocator's.
const SHORTEST: usize = 64 << 10;

/// What is kept for later at most, in bytes.
const MOST_KEPT_BYTES: usize = 4 << 20;

/// Memory that nobody uses now.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    free: Vec<Vec<u8>>,
    bytes: usize,
}

/// Bytes that are somebody's until this is dropped, however they are shared.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Arc<Buffers>,
}

impl Buffers {
    /// An empty buffer with room for just `len` bytes.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let found = (len >= SHORTEST).then(|| self.kept().take(len)).flatten();
        Buffer {
            bytes: found.unwrap_or_else(|| Vec::with_capacity(len)),
            home: self.clone(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The one that was used last, whose bytes are in the processor's cache.
    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        let fits = |free: &Vec<u8>| free.capacity() == len;
        let found = self.free.iter().rposition(fits)?;
        let taken = self.free.remove(found);
        self.bytes -= taken.capacity();
        Some(taken)
    }

    fn give(&mut self, mut bytes: Vec<u8>) {
        let capacity = bytes.capacity();
        if capacity >= SHORTEST && self.bytes + capacity <= MOST_KEPT_BYTES {
            bytes.clear();
            self.bytes += capacity;
            self.free.push(bytes);
        }
    }
}

impl Buffer {
    /// To be filled.
    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// To be shared; the memory is used again once nobody has any of it.
    pub(crate) fn share(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.kept().give(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 256 << 10;

    #[test]
    fn memory_is_used_again_once_nobody_has_any_of_it() {
        let buffers = Arc::new(Buffers::default());
        let mut first = buffers.take(PIECE);
        first.bytes_mut().extend_from_slice(&[7; 100]);
        let memory = first.bytes_mut().as_ptr();
        let shared = first.share();
        let part = shared.slice(50..);
        drop(shared);
        assert_ne!(buffers.take(PIECE).as_ref().as_ptr(), memory);
        assert_eq!(part, [7; 50][..]);
        drop(part);
        let again = buffers.take(PIECE);
        assert_eq!((again.as_ref().as_ptr(), again.as_ref().len()), (memory, 0));
        drop(again);
        assert_eq!(buffers.take(PIECE / 2).bytes_mut().capacity(), PIECE / 2);
    }

    #[test]
    fn no_more_is_kept_than_is_worth_it() {
        let buffers = Arc::new(Buffers::default());
        let many: Vec<Buffer> = (0..100).map(|_| buffers.take(PIECE)).collect();
        drop(many);
        assert_eq!(buffers.kept().bytes, MOST_KEPT_BYTES);
        drop(buffers.take(100));
        drop(buffers.take(2 * MOST_KEPT_BYTES));
        let kept = buffers.kept();
        assert_eq!(kept.free.len(), MOST_KEPT_BYTES / PIECE);
        assert_eq!(kept.bytes, MOST_KEPT_BYTES);
    }
}
