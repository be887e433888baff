//! Room for pieces of files on their way to peers.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warren_proto::limits::GRAIN_BYTES;

/// Grains of a piece where there is plenty of room: with 512 KiB, reads and switches of thread are few. They cost a
/// twentieth less processor time, both sides together, than 256 KiB do.
const PIECE_GRAINS: u32 = 8;

/// The longest piece.
pub(super) const PIECE_BYTES: u32 = PIECE_GRAINS * GRAIN_BYTES;

/// What may be read for peers and not written to them yet.
#[derive(Debug)]
pub(crate) struct Pieces {
    grains: Arc<Semaphore>,
    most: usize,
}

/// Room for a piece at a time, until this is dropped.
#[derive(Debug)]
pub(crate) struct PieceRoom {
    bytes: u32,
    _permit: Option<OwnedSemaphorePermit>,
}

impl PieceRoom {
    /// How large a piece may be: at least a grain.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }
}

impl Pieces {
    pub(super) fn new(bytes: u64) -> Pieces {
        let most =
            (bytes / u64::from(GRAIN_BYTES)).clamp(1, Semaphore::MAX_PERMITS as u64) as usize;
        Pieces {
            grains: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// Room for one reader, as large as is of use while at least half of all is free, and else for a
    /// grain; who finds none waits its turn.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the turn is lost.
    pub(crate) async fn take(&self) -> PieceRoom {
        let is_ample = 2 * self.grains.available_permits() >= self.most;
        let ample = || Arc::clone(&self.grains).try_acquire_many_owned(PIECE_GRAINS);
        match is_ample.then(ample) {
            Some(Ok(permit)) => PieceRoom {
                bytes: PIECE_BYTES,
                _permit: Some(permit),
            },
            _ => self.take_grain().await,
        }
    }

    /// Room for one grain at a time.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the turn is lost.
    pub(crate) async fn take_grain(&self) -> PieceRoom {
        PieceRoom {
            bytes: GRAIN_BYTES,
            // Nobody closes it.
            _permit: Arc::clone(&self.grains).acquire_owned().await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn many_readers_have_small_pieces_and_no_more_than_there_is_room_for() {
        let grain = u64::from(GRAIN_BYTES);
        let pieces = Pieces::new(32 * grain);
        let mut taken = Vec::new();
        while let Some(room) = pieces.take().now_or_never() {
            taken.push(room);
        }
        let bytes: Vec<_> = taken
            .iter()
            .map(|room| room.bytes() / GRAIN_BYTES)
            .collect();
        assert_eq!(bytes, [8, 8, 8, 1, 1, 1, 1, 1, 1, 1, 1]);
        taken.pop();
        assert!(pieces.take_grain().now_or_never().is_some());
    }

    #[test]
    fn the_smallest_room_is_a_grain() {
        let pieces = Pieces::new(0);
        let room = pieces.take().now_or_never().unwrap();
        assert_eq!(room.bytes(), GRAIN_BYTES);
        assert!(pieces.take().now_or_never().is_none());
    }
}
