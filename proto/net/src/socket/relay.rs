//! Datagrams that go through a tracker: their header, and batches of them (PROTOCOL.md, *Relay*).
//!
//! ```text
//! byte 0      0x30, which is neither QUIC (RFC 9000 §17) nor STUN's Binding (RFC 8489 §5)
//! bytes 1..4  0
//! bytes 4..16 the session
//! then        one QUIC datagram
//! ```
//!
//! A GRO batch may hold datagrams of several sessions, and QUIC of the tracker connection between
//! them: all of it comes from one address. So a batch is taken apart by *runs* of one session.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use warren_proto::id::RelayId;

/// Length of what precedes each QUIC datagram.
pub(super) const HEADER_BYTES: usize = 16;

/// The first byte of the header.
pub(super) const FIRST_BYTE: u8 = 0x30;

/// What the header begins with.
const MAGIC: [u8; 4] = [FIRST_BYTE, 0, 0, 0];

/// Longest relayed datagram that every path takes unfragmented: a QUIC datagram of 1,200 bytes
/// (RFC 9000 §14.1) and the header.
const SAFE_BYTES: usize = 1_200 + HEADER_BYTES;

/// One datagram on its way through a tunnel to a tracker, or from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The session.
    pub id: RelayId,
    /// One QUIC datagram, without the header.
    pub bytes: Bytes,
}

/// Datagrams that arrived together, of one sender and one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayBatch {
    /// Where they came from, canonical. Anyone can write a source address.
    pub from: SocketAddr,
    /// Which of our addresses they were sent to, where the system says so.
    pub local_ip: Option<IpAddr>,
    /// The session that their headers name.
    pub id: RelayId,
    /// Length of each, with its header, but of the last, which may be shorter.
    pub segment: usize,
    /// The datagrams one after the other, each with its header.
    pub bytes: Bytes,
}

impl Relayed {
    /// The same as one batch, as if it had come by UDP; from nowhere.
    pub fn wrap(&self) -> RelayBatch {
        RelayBatch {
            from: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            local_ip: None,
            id: self.id,
            segment: self.bytes.len() + HEADER_BYTES,
            bytes: wrap(self.id, &self.bytes, self.bytes.len()),
        }
    }
}

impl RelayBatch {
    /// How many datagrams these are.
    pub fn datagram_count(&self) -> u64 {
        self.bytes.len().div_ceil(self.segment.max(1)) as u64
    }

    /// Length of the longest, without its header.
    pub fn longest_datagram(&self) -> usize {
        self.segment
            .min(self.bytes.len())
            .saturating_sub(HEADER_BYTES)
    }

    /// The datagrams one by one, without their headers. Their bytes are not copied.
    pub fn datagrams(&self) -> impl Iterator<Item = Relayed> {
        let (segment, length) = (self.segment.max(1), self.bytes.len());
        (0..length).step_by(segment).map(move |start| {
            let end = length.min(start + segment);
            Relayed {
                id: self.id,
                bytes: self.bytes.slice((start + HEADER_BYTES).min(end)..end),
            }
        })
    }

    /// What may be sent at once. Datagrams that the path may not take leave one by one: as a batch
    /// the kernel refuses them with an error after which quinn-udp sends no more batches at all.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let part_bytes = match self.segment > SAFE_BYTES {
            true => self.segment,
            false => self.bytes.len(),
        };
        self.bytes.chunks(part_bytes.max(1))
    }
}

/// Consecutive segments of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// `None`: they look like relayed ones and are not.
    pub(super) id: Option<RelayId>,
    /// Where in the batch.
    pub(super) bytes: Range<usize>,
    /// How many.
    pub(super) segments: u64,
}

/// Whether a segment claims to be a relayed datagram.
pub(super) fn is_relayed(segment: &[u8]) -> bool {
    segment.first() == Some(&FIRST_BYTE)
}

/// The session of a relayed datagram; `None` if the header is none, or nothing follows.
pub(super) fn session(segment: &[u8]) -> Option<RelayId> {
    let (header, payload) = segment.split_first_chunk::<HEADER_BYTES>()?;
    let id = header.strip_prefix(&MAGIC)?;
    (!payload.is_empty()).then_some(RelayId(id.try_into().ok()?))
}

/// The runs of relayed datagrams in a batch; what lies between them is left out.
pub(super) fn runs(batch: &[u8], stride: usize) -> impl Iterator<Item = Run> {
    let stride = stride.max(1);
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut segments = batch[at..].chunks(stride);
        let skipped = segments.by_ref().position(is_relayed)?;
        let start = at + skipped * stride;
        let id = session(segment_at(batch, stride, start));
        let more = segments.take_while(|segment| is_relayed(segment) && session(segment) == id);
        let segments = 1 + more.count();
        at = (start + segments * stride).min(batch.len());
        Some(Run {
            id,
            bytes: start..at,
            segments: segments as u64,
        })
    })
}

/// Puts the header before every segment; `segment` is the length without it.
pub(super) fn wrap(id: RelayId, contents: &[u8], segment: usize) -> Bytes {
    let segments = contents.chunks(segment.max(1));
    let mut wrapped = BytesMut::with_capacity(contents.len() + segments.len() * HEADER_BYTES);
    for segment in segments {
        wrapped.put_slice(&MAGIC);
        wrapped.put_slice(&id.0);
        wrapped.put_slice(segment);
    }
    wrapped.freeze()
}

/// The datagrams of one run without their headers.
pub(super) fn unwrap(run: &[u8], stride: usize) -> Bytes {
    let mut unwrapped = BytesMut::with_capacity(run.len());
    for segment in run.chunks(stride.max(1)) {
        unwrapped.put_slice(segment.get(HEADER_BYTES..).unwrap_or_default());
    }
    unwrapped.freeze()
}

/// Moves the datagrams of session `id` to the front of the batch, without their headers, and says
/// how many bytes they take there.
pub(super) fn unwrap_in_place(batch: &mut [u8], stride: usize, id: RelayId) -> usize {
    let stride = stride.max(1);
    let mut end = 0;
    for start in (0..batch.len()).step_by(stride) {
        let segment = segment_at(batch, stride, start);
        if session(segment) == Some(id) {
            let payload = start + HEADER_BYTES..start + segment.len();
            let length = payload.len();
            batch.copy_within(payload, end);
            end += length;
        }
    }
    end
}

fn segment_at(batch: &[u8], stride: usize, start: usize) -> &[u8] {
    &batch[start..batch.len().min(start + stride)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: RelayId = RelayId([1; 12]);
    const TWO: RelayId = RelayId([2; 12]);

    #[test]
    fn the_header_is_as_the_protocol_says() {
        let wrapped = wrap(RelayId(*b"abcdefghijkl"), b"quic", 4);
        assert_eq!(wrapped[..], *b"\x30\0\0\0abcdefghijklquic");
        assert_eq!(session(&wrapped), Some(RelayId(*b"abcdefghijkl")));
    }

    #[test]
    fn a_short_or_foreign_header_names_no_session() {
        let wrapped = wrap(ONE, b"q", 1);
        for length in 0..=HEADER_BYTES {
            assert_eq!(session(&wrapped[..length]), None);
        }
        for at in 0..4 {
            let mut other = wrapped.to_vec();
            other[at] ^= 1;
            assert_eq!(session(&other), None);
        }
    }

    #[test]
    fn every_segment_gets_its_header_and_loses_it_again() {
        for tail in [1, 7, 100] {
            let contents: Vec<u8> = (0..200 + tail).map(|n| n as u8).collect();
            let mut wrapped = wrap(ONE, &contents, 100).to_vec();
            assert_eq!(wrapped.len(), contents.len() + 3 * HEADER_BYTES);
            assert!(wrapped.chunks(116).all(|it| session(it) == Some(ONE)));
            assert_eq!(unwrap(&wrapped, 116), contents);
            let length = unwrap_in_place(&mut wrapped, 116, ONE);
            assert_eq!(wrapped[..length], contents);
        }
    }

    #[test]
    fn a_batch_is_its_datagrams_whichever_way_they_go() {
        let contents: Vec<u8> = (0..250).collect();
        let batch = RelayBatch {
            from: SocketAddr::from(([192, 0, 2, 1], 5000)),
            local_ip: None,
            id: ONE,
            segment: 116,
            bytes: wrap(ONE, &contents, 100),
        };
        let datagrams: Vec<Relayed> = batch.datagrams().collect();
        let lengths: Vec<usize> = datagrams.iter().map(|it| it.bytes.len()).collect();
        assert_eq!(lengths, [100, 100, 50]);
        assert_eq!((batch.datagram_count(), batch.longest_datagram()), (3, 100));
        let wrapped: Vec<u8> = datagrams.iter().flat_map(|it| it.wrap().bytes).collect();
        assert_eq!(wrapped, batch.bytes);
    }

    #[test]
    fn a_batch_is_taken_apart_by_session() {
        let quic = vec![0x40; 20];
        let (one, two) = (wrap(ONE, b"abcd", 4), wrap(TWO, b"efgh", 4));
        let tail = wrap(ONE, b"i", 1);
        let batch = [&quic[..], &one, &one, &two, &quic, &tail].concat();
        let found: Vec<_> = runs(&batch, 20).collect();
        let run = |id, bytes, segments| Run {
            id: Some(id),
            bytes,
            segments,
        };
        let expected = [
            run(ONE, 20..60, 2),
            run(TWO, 60..80, 1),
            run(ONE, 100..117, 1),
        ];
        assert_eq!(found, expected);
        assert_eq!(unwrap(&batch[20..60], 20), b"abcdabcd"[..]);
        let mut batch = batch;
        assert_eq!(unwrap_in_place(&mut batch, 20, ONE), 9);
        assert_eq!(batch[..9], *b"abcdabcdi");
    }

    #[test]
    fn what_is_no_relayed_datagram_is_a_run_of_its_own() {
        let one = wrap(ONE, b"abcd", 4);
        let mut other = one.to_vec();
        other[3] = 1;
        let batch = [&one[..], &other, &other, &one, &one[..9]].concat();
        let ids: Vec<_> = runs(&batch, 20).map(|run| (run.id, run.segments)).collect();
        let expected = [(Some(ONE), 1), (None, 2), (Some(ONE), 1), (None, 1)];
        assert_eq!(ids, expected);
        assert_eq!(runs(&[], 0).count(), 0);
        assert_eq!(runs(&[FIRST_BYTE], 0).count(), 1);
    }
}
