//! What is being sent: for each pair of peers the uploads from one to the other, one after the other
//! as on one connection, at the rate that the links give.
//!
//! A chunk is told in pieces as it goes out; the end of a piece is the only thing that happens here
//! by itself.

use std::collections::{BTreeMap, VecDeque};

use super::fluid::{FlowId, Fluid, LinkId};
use super::queue::{Nanos, Wakes};
use crate::transfer::RequestId;
use crate::transfer::engine::UploadId;

/// A piece ends where so much of a chunk is left, or half of it, so that the sender knows that it may
/// go on.
const LAST_PIECE: u32 = 64 * 1024;
const NANOS: f64 = 1e9;

/// How an upload ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// With the chunk.
    Whole,
    /// With bytes that are not the chunk's.
    Corrupt,
    /// Never: after some bytes nothing more comes.
    Silent,
}

/// An upload that is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upload {
    pub(super) id: UploadId,
    pub(super) request: RequestId,
    /// Bytes that will be sent.
    pub(super) bytes: u32,
    pub(super) fate: Fate,
}

/// A piece went out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) upload: Upload,
    pub(super) bytes: u32,
    pub(super) is_last: bool,
}

#[derive(Debug)]
struct Stream {
    from: u32,
    to: u32,
    queue: VecDeque<Upload>,
    /// Bytes of the first upload that went out by `since`.
    done: f64,
    since: Nanos,
    /// How many of them were told.
    told: u32,
}

/// All uploads that are being served.
#[derive(Debug)]
pub(super) struct Streams {
    fluid: Fluid,
    /// By the id of its flow.
    streams: Vec<Option<Stream>>,
    of_pair: BTreeMap<(u32, u32), FlowId>,
    wakes: Wakes,
    /// In how many pieces a chunk is told, beside the last.
    pieces: u32,
    changed: Vec<(FlowId, f64)>,
}

impl Streams {
    pub(super) fn new(pieces: u32) -> Streams {
        Streams {
            fluid: Fluid::default(),
            streams: Vec::new(),
            of_pair: BTreeMap::new(),
            wakes: Wakes::default(),
            pieces: pieces.max(1),
            changed: Vec::new(),
        }
    }

    /// Adds a link of so many bytes per second.
    pub(super) fn link(&mut self, bytes_per_s: f64) -> LinkId {
        self.fluid.link(bytes_per_s)
    }

    /// When a piece will have gone out.
    pub(super) fn first(&self) -> Option<Nanos> {
        self.wakes.first().map(|(at, _)| at)
    }

    /// Serves an upload after those before it of the same pair, over these links if it is the only
    /// one.
    pub(super) fn serve(
        &mut self,
        now: Nanos,
        (from, to): (u32, u32),
        upload: Upload,
        path: (&[LinkId], f64),
    ) {
        if let Some(id) = self.of_pair.get(&(from, to)) {
            if let Some(stream) = &mut self.streams[*id as usize] {
                stream.queue.push_back(upload);
            }
            return;
        }
        let (links, cap) = path;
        let id = self.fluid.start(links, cap);
        self.of_pair.insert((from, to), id);
        if self.streams.len() <= id as usize {
            self.streams.resize_with(id as usize + 1, || None);
        }
        let queue = VecDeque::from([upload]);
        self.streams[id as usize] = Some(Stream {
            from,
            to,
            queue,
            done: 0.0,
            since: now,
            told: 0,
        });
        self.settle(now);
    }

    /// Ends an upload; true when it had not ended.
    pub(super) fn stop(&mut self, now: Nanos, pair: (u32, u32), upload: UploadId) -> bool {
        let Some(&id) = self.of_pair.get(&pair) else {
            return false;
        };
        let Some(stream) = &mut self.streams[id as usize] else {
            return false;
        };
        let Some(at) = stream.queue.iter().position(|other| other.id == upload) else {
            return false;
        };
        stream.queue.remove(at);
        if at == 0 {
            (stream.done, stream.told, stream.since) = (0.0, 0, now);
            self.go_on(now, id);
        }
        true
    }

    /// Ends all uploads of a pair.
    pub(super) fn stop_all(&mut self, now: Nanos, pair: (u32, u32)) {
        if let Some(&id) = self.of_pair.get(&pair) {
            self.end(now, id);
        }
    }

    /// The next piece that has gone out by `now`.
    pub(super) fn poll(&mut self, now: Nanos) -> Option<Piece> {
        let (at, id) = self.wakes.first().filter(|(at, _)| *at <= now)?;
        let pieces = self.pieces;
        let stream = self.streams[id as usize].as_mut()?;
        let upload = *stream.queue.front()?;
        let sent = milestone(upload.bytes, stream.told, pieces);
        let piece = Piece {
            from: stream.from,
            to: stream.to,
            upload,
            bytes: sent - stream.told,
            is_last: sent == upload.bytes,
        };
        (stream.done, stream.told, stream.since) = (f64::from(sent), sent, at);
        if piece.is_last {
            stream.queue.pop_front();
            (stream.done, stream.told) = (0.0, 0);
        }
        self.go_on(at, id);
        Some(piece)
    }

    /// The sum of all rates of a sender's.
    pub(super) fn used(&self, link: LinkId) -> f64 {
        self.fluid.used(link)
    }

    fn go_on(&mut self, now: Nanos, id: FlowId) {
        let is_idle = self.streams[id as usize]
            .as_ref()
            .is_none_or(|stream| stream.queue.is_empty());
        if is_idle {
            self.end(now, id);
        } else {
            self.schedule(id);
        }
    }

    fn end(&mut self, now: Nanos, id: FlowId) {
        if let Some(stream) = self.streams[id as usize].take() {
            self.of_pair.remove(&(stream.from, stream.to));
        }
        self.wakes.set(id, None);
        self.fluid.end(id);
        self.settle(now);
    }

    /// Brings the rates up to date, and what follows from them.
    fn settle(&mut self, now: Nanos) {
        let mut changed = std::mem::take(&mut self.changed);
        self.fluid
            .settle(|flow, before| changed.push((flow, before)));
        for (id, before) in changed.drain(..) {
            if let Some(stream) = &mut self.streams[id as usize] {
                // A second change within one moment adds nothing.
                stream.done += before * (now - stream.since) as f64 / NANOS;
                stream.since = now;
            }
            self.schedule(id);
        }
        self.changed = changed;
    }

    fn schedule(&mut self, id: FlowId) {
        let Some(stream) = &self.streams[id as usize] else {
            return;
        };
        let Some(upload) = stream.queue.front() else {
            return;
        };
        let left = f64::from(milestone(upload.bytes, stream.told, self.pieces)) - stream.done;
        let rate = self.fluid.rate(id);
        let takes = (left.max(0.0) / rate * NANOS).ceil();
        let at = takes.is_finite().then(|| stream.since + takes as Nanos);
        self.wakes.set(id, at);
    }
}

/// Where the piece after the first `told` bytes ends.
fn milestone(bytes: u32, told: u32, pieces: u32) -> u32 {
    let next = told + bytes.div_ceil(pieces).max(LAST_PIECE);
    let last = bytes - LAST_PIECE.min(bytes / 2);
    if told < last { next.min(last) } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn upload(id: u64, bytes: u32) -> Upload {
        let request = RequestId::numbered(id);
        Upload {
            id: UploadId(id),
            request,
            bytes,
            fate: Fate::Whole,
        }
    }

    /// When each upload has gone out.
    fn ends(streams: &mut Streams) -> Vec<(u64, Nanos)> {
        let mut ends = Vec::new();
        while let Some(at) = streams.first() {
            while let Some(piece) = streams.poll(at) {
                ends.extend(piece.is_last.then_some((piece.upload.id.0, at)));
            }
        }
        ends
    }

    #[test]
    fn uploads_to_one_peer_go_one_after_the_other_and_to_several_side_by_side() {
        let mut streams = Streams::new(4);
        let up = streams.link(1e6);
        let down = [streams.link(1e7), streams.link(1e7)];
        let path = |to: usize| ([up, down[to]], f64::INFINITY);
        for (id, to) in [(1, 0), (2, 0), (3, 1)] {
            let (links, cap) = path(to);
            streams.serve(0, (7, to as u32), upload(id, 1_000_000), (&links, cap));
        }
        let found = ends(&mut streams);
        assert_eq!(found, [(1, 2 * SECOND), (3, 2 * SECOND), (2, 3 * SECOND)]);
    }

    #[test]
    fn an_upload_that_is_stopped_makes_room_at_once() {
        let mut streams = Streams::new(4);
        let (up, down) = (streams.link(1e6), streams.link(1e7));
        for (to, id) in [(1, 1), (1, 2), (2, 3)] {
            streams.serve(
                0,
                (0, to),
                upload(id, 1_000_000),
                (&[up, down], f64::INFINITY),
            );
        }
        assert!(
            streams.stop(SECOND, (0, 1), UploadId(1)),
            "half of it has gone out"
        );
        assert!(!streams.stop(SECOND, (0, 1), UploadId(1)));
        streams.stop_all(SECOND, (0, 2));
        assert_eq!(ends(&mut streams), [(2, 2 * SECOND)]);
        assert_eq!(streams.used(up), 0.0);
    }

    #[test]
    fn pieces_end_where_little_is_left() {
        let pieces = |bytes, count| {
            let mut told = vec![0];
            while told.last() != Some(&bytes) {
                told.push(milestone(bytes, told[told.len() - 1], count));
            }
            told
        };
        let kib = |ends: &[u32]| ends.iter().map(|end| end * 1024).collect::<Vec<_>>();
        assert_eq!(pieces(512 * 1024, 4), kib(&[0, 128, 256, 384, 448, 512]));
        assert_eq!(pieces(64 * 1024, 4), kib(&[0, 32, 64]));
        assert_eq!(pieces(1, 1), [0, 1]);
    }
}
