//! Bytes of one chunk in memory, in pieces that can be shared.

use bytes::{Bytes, BytesMut};
use warren_proto::content::tree::GRAIN_BYTES;

/// Length of each piece but the last: a grain, where a chunk is part of a large file.
const SEGMENT_BYTES: usize = GRAIN_BYTES as usize;

/// The first bytes of a chunk, all of them in the end.
#[derive(Debug)]
pub struct Segments {
    full: Vec<Bytes>,
    last: BytesMut,
    len: usize,
    room: usize,
}

impl Segments {
    /// None of `room` bytes.
    pub fn new(room: usize) -> Segments {
        Segments {
            full: Vec::with_capacity(room.div_ceil(SEGMENT_BYTES)),
            last: BytesMut::new(),
            len: 0,
            room,
        }
    }

    /// Appends as many of these bytes as there is room for.
    pub fn append(&mut self, bytes: &[u8]) {
        let mut bytes = &bytes[..bytes.len().min(self.room - self.len)];
        while !bytes.is_empty() {
            if self.last.capacity() == 0 {
                let left = self.room - self.len;
                self.last = BytesMut::with_capacity(left.min(SEGMENT_BYTES));
            }
            let left = (self.room - self.len).min(SEGMENT_BYTES - self.last.len());
            let (now, later) = bytes.split_at(bytes.len().min(left));
            self.last.extend_from_slice(now);
            self.len += now.len();
            bytes = later;
            if self.last.len() == SEGMENT_BYTES {
                self.full.push(std::mem::take(&mut self.last).freeze());
            }
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes from `offset` on, as many as there are of `len`, in order.
    pub fn run(&self, offset: usize, len: usize) -> impl Iterator<Item = &[u8]> {
        let end = offset.saturating_add(len);
        let pieces = self.full.iter().map(|piece| &piece[..]);
        let starts = (0..).step_by(SEGMENT_BYTES);
        let pieces = pieces.chain([&self.last[..]]).zip(starts);
        pieces.filter_map(move |(piece, start): (&[u8], usize)| {
            let from = offset.saturating_sub(start).min(piece.len());
            let to = end.saturating_sub(start).min(piece.len());
            piece.get(from..to).filter(|part| !part.is_empty())
        })
    }

    /// The same bytes as one; not copied where they are one piece.
    pub fn share(&self, offset: usize, len: usize) -> Bytes {
        let within = offset % SEGMENT_BYTES;
        match self.full.get(offset / SEGMENT_BYTES) {
            Some(piece) if within + len <= piece.len() => piece.slice(within..within + len),
            _ => self.run(offset, len).collect::<Vec<_>>().concat().into(),
        }
    }
}

impl From<&[u8]> for Segments {
    fn from(bytes: &[u8]) -> Segments {
        let mut segments = Segments::new(bytes.len());
        segments.append(bytes);
        segments
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_appended_is_there_in_order(
            lens in prop::collection::vec(0usize..100_000, 0..6),
            room in 0usize..300_000,
            (offset, len) in (0usize..320_000, 0usize..200_000),
        ) {
            let bytes: Vec<u8> = (0..lens.iter().sum::<usize>()).map(|n| (n % 251) as u8).collect();
            let (mut segments, mut rest) = (Segments::new(room), bytes.as_slice());
            for len in lens {
                segments.append(rest.split_off(..len).unwrap());
            }
            let kept = &bytes[..bytes.len().min(room)];
            prop_assert_eq!((segments.len(), segments.is_empty()), (kept.len(), kept.is_empty()));
            let from = offset.min(kept.len());
            let expected = &kept[from..(offset + len).min(kept.len()).max(from)];
            let run: Vec<_> = segments.run(offset, len).collect();
            prop_assert_eq!(run.concat(), expected);
            prop_assert_eq!(&segments.share(offset, len)[..], expected);
        }
    }

    #[test]
    fn a_whole_piece_is_shared_and_not_copied() {
        let segments = Segments::from(&[7; 3 * SEGMENT_BYTES][..]);
        let shared = segments.share(SEGMENT_BYTES, SEGMENT_BYTES);
        assert_eq!(shared.as_ptr(), segments.full[1].as_ptr());
    }
}
