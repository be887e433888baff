//! Tells QUIC from everything else, segment by segment.
//!
//! A QUIC packet has its fixed bit set (RFC 9000 §17); ours always, since neither side greases it
//! (RFC 9287). A STUN message begins with two zero bits (RFC 8489 §5), so one bit decides.
//!
//! One receive buffer may hold many datagrams of one sender, run together by the kernel (GRO), and
//! the last may be shorter than the others: a STUN answer can arrive as the tail of a QUIC batch.

use std::io::IoSliceMut;

use quinn::udp::RecvMeta;

/// The fixed bit of QUIC's first byte.
const FIXED_BIT: u8 = 0x40;

/// Written over the first byte of what is not QUIC: without the fixed bit, quinn drops the packet
/// at once.
const NOT_QUIC: u8 = 0;

/// Hands every segment that is not QUIC to `take`, and every buffer with QUIC in it to `receive`,
/// which may drop more of it; true if anything is left for quinn.
///
/// A buffer in which nothing is left ends up with length 0. quinn must not be told of "0 buffers
/// received", so the caller reads on when this returns false.
pub(super) fn sort(
    bufs: &mut [IoSliceMut<'_>],
    metas: &mut [RecvMeta],
    mut take: impl FnMut(&RecvMeta, &[u8]),
    mut receive: impl FnMut(&mut RecvMeta, &mut [u8]) -> bool,
) -> bool {
    let mut any_left = false;
    for (buf, meta) in bufs.iter_mut().zip(metas) {
        let batch = &mut buf[..meta.len];
        if sort_buffer(batch, meta.stride, |segment| take(meta, segment)) && receive(meta, batch) {
            any_left = true;
        } else {
            meta.len = 0;
        }
    }
    any_left
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

fn sort_buffer(buf: &mut [u8], stride: usize, mut take: impl FnMut(&[u8])) -> bool {
    let mut any_quic = false;
    for segment in buf.chunks_mut(stride.max(1)) {
        if is_quic(segment) {
            any_quic = true;
        } else {
            take(segment);
            blank(segment);
        }
    }
    any_quic
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
        check(batch, 1200, &[&STUN], true);
    }

    #[test]
    fn a_stun_segment_between_quic_segments_is_taken() {
        let mut batch = vec![0xc3; 20];
        batch.extend_from_slice(&STUN);
        batch.extend_from_slice(&[0x40; 20]);
        check(batch, 20, &[&STUN], true);
    }

    #[test]
    fn a_buffer_without_quic_leaves_nothing_for_quinn() {
        check([STUN, STUN].concat(), 20, &[&STUN, &STUN], false);
        check(vec![0x80], 1, &[&[0x80]], false);
        check(Vec::new(), 0, &[], false);
    }

    #[test]
    fn pure_quic_is_left_alone() {
        check(vec![0x40; 2400], 1200, &[], true);
    }

    #[test]
    fn what_is_not_received_leaves_nothing_and_stun_is_not_asked_about() {
        let mut quic = vec![0x40; 20];
        let mut stun = STUN.to_vec();
        let mut metas = [RecvMeta::default(), RecvMeta::default()];
        for meta in &mut metas {
            (meta.len, meta.stride) = (20, 20);
        }
        let mut bufs = [IoSliceMut::new(&mut stun), IoSliceMut::new(&mut quic)];
        let mut asked = Vec::new();
        let receive = |_: &mut RecvMeta, batch: &mut [u8]| {
            asked.push(batch[0]);
            false
        };
        assert!(!sort(&mut bufs, &mut metas, |_, _| (), receive));
        assert_eq!(asked, [0x40]);
        assert!(metas.iter().all(|meta| meta.len == 0));
    }

    #[track_caller]
    fn check(mut batch: Vec<u8>, stride: usize, expected: &[&[u8]], left: bool) {
        let before = batch.clone();
        let mut metas = [RecvMeta {
            len: batch.len(),
            stride,
            ..RecvMeta::default()
        }];
        let mut taken = Vec::new();
        let any = sort(
            &mut [IoSliceMut::new(&mut batch)],
            &mut metas,
            |_, segment| {
                taken.push(segment.to_vec());
            },
            |_, _| true,
        );
        assert_eq!(taken, expected);
        assert_eq!(any, left);
        assert_eq!(metas[0].len, if left { before.len() } else { 0 });
        for (now, was) in batch
            .chunks(stride.max(1))
            .zip(before.chunks(stride.max(1)))
        {
            let quic = was[0] & FIXED_BIT != 0;
            assert_eq!(now[0], if quic { was[0] } else { NOT_QUIC });
            assert_eq!(now[1..], was[1..]);
        }
    }
}
