//! Tells QUIC from everything else, segment by segment.
//!
//! A QUIC packet has its fixed bit set (RFC 9000 §17); ours always, since neither side greases it
//! (RFC 9287). A STUN message begins with two zero bits (RFC 8489 §5), so one bit decides. A relayed
//! datagram ([`relay`]) lacks it too, so quinn drops what nobody takes out.
//!
//! One receive buffer may hold many datagrams of one sender, run together by the kernel (GRO), and
//! the last may be shorter than the others: a STUN answer can arrive as the tail of a QUIC batch.

use super::relay;

/// The fixed bit of QUIC's first byte.
const FIXED_BIT: u8 = 0x40;

/// Written over the first byte of what is not QUIC: without the fixed bit, quinn drops the packet
/// at once.
const NOT_QUIC: u8 = 0;

/// What a batch holds beside what was taken out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) quic: bool,
    /// Relayed datagrams, or what looks like them.
    pub(super) relayed: bool,
}

/// Hands every segment that is neither QUIC nor relayed to `take`, and blanks it.
pub(super) fn sort(batch: &mut [u8], stride: usize, mut take: impl FnMut(&[u8])) -> Found {
    let mut found = Found::default();
    for segment in batch.chunks_mut(stride.max(1)) {
        if is_quic(segment) {
            found.quic = true;
        } else if relay::is_relayed(segment) {
            found.relayed = true;
        } else {
            take(segment);
            blank(segment);
        }
    }
    found
}

/// Whether a segment is QUIC and wanted.
pub(super) fn is_quic(segment: &[u8]) -> bool {
    segment.first().is_some_and(|first| first & FIXED_BIT != 0)
}

/// Makes quinn drop a segment.
pub(super) fn blank(segment: &mut [u8]) {
    if let Some(first) = segment.first_mut() {
        *first = NOT_QUIC;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first 20 bytes of a Binding request (RFC 8489 §5).
    const STUN: [u8; 20] = [
        0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];

    #[test]
    fn a_short_stun_tail_of_a_quic_batch_is_taken_and_blanked() {
        let mut batch = vec![0x45; 3 * 1200];
        batch.extend_from_slice(&STUN);
        check(batch, 1200, &[&STUN], true, false);
    }

    #[test]
    fn a_stun_segment_between_quic_segments_is_taken() {
        let mut batch = vec![0xc3; 20];
        batch.extend_from_slice(&STUN);
        batch.extend_from_slice(&[0x40; 20]);
        check(batch, 20, &[&STUN], true, false);
    }

    #[test]
    fn a_buffer_without_quic_leaves_nothing_for_quinn() {
        check([STUN, STUN].concat(), 20, &[&STUN, &STUN], false, false);
        check(vec![0x80], 1, &[&[0x80]], false, false);
        check(Vec::new(), 0, &[], false, false);
    }

    #[test]
    fn pure_quic_is_left_alone() {
        check(vec![0x40; 2400], 1200, &[], true, false);
    }

    #[test]
    fn relayed_segments_stay_and_are_no_quic() {
        let mut batch = vec![relay::FIRST_BYTE; 20];
        check(batch.clone(), 20, &[], false, true);
        batch.extend_from_slice(&STUN);
        batch.push(0x40);
        check(batch, 20, &[&STUN], true, true);
    }

    #[track_caller]
    fn check(mut batch: Vec<u8>, stride: usize, expected: &[&[u8]], quic: bool, relayed: bool) {
        let before = batch.clone();
        let mut taken = Vec::new();
        let found = sort(&mut batch, stride, |segment| taken.push(segment.to_vec()));
        assert_eq!(taken, expected);
        assert_eq!(found, Found { quic, relayed });
        for (now, was) in batch
            .chunks(stride.max(1))
            .zip(before.chunks(stride.max(1)))
        {
            let stays = is_quic(was) || relay::is_relayed(was);
            assert_eq!(now[0], if stays { was[0] } else { NOT_QUIC });
            assert_eq!(now[1..], was[1..]);
        }
    }
}
