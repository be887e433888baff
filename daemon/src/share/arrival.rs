//! A chunk on its way to us, of which grains are passed on as they verify.
//!
//! Nobody is given a byte that was not verified, so the grain list is fetched from whoever sends the
//! chunk, once somebody waits for it. The bytes are those of the chunk's own buffer and not copies of them;
//! once it is whole, or will not come, they are let go, and whoever still reads goes on from the files.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use warren_proto::content::tree::Expected;
use warren_proto::content::{ChunkIndex, Content, HashList};

use super::writer::is_run;
use crate::store::segments::Segments;

/// A grain of the chunk is not what the list says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WrongGrain;

/// What there is of it for others.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    grains: OnceLock<Grains>,
    /// Verified grains from the first one on, with where each begins.
    passed: Mutex<Vec<(u32, Bytes)>>,
    progress: watch::Sender<Progress>,
    learnt: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    verified: u32,
    is_over: bool,
}

/// The grain list of a chunk: as it travels, and what it means.
#[derive(Debug)]
struct Grains {
    list: Bytes,
    expected: Vec<(u32, Expected)>,
}

impl Arrival {
    /// Learns the grain list; false when it is not that of the chunk.
    pub(crate) fn learn(&self, content: &Content, chunk: ChunkIndex, list: Vec<u8>) -> bool {
        let bytes = Bytes::copy_from_slice(&list);
        let list = HashList::from_bytes(list);
        let expected = list.and_then(|list| content.expected_grains(chunk, &list));
        let Some(expected) = expected else {
            return false;
        };
        let list = bytes;
        // A second one is the same.
        let _ = self.grains.set(Grains { list, expected });
        self.learnt.notify_one();
        true
    }

    /// Returns once the grain list is known, once.
    pub(crate) async fn learnt(&self) {
        self.learnt.notified().await;
    }

    /// The grain list, once it is known.
    pub(crate) fn list(&self) -> Option<Bytes> {
        self.grains.get().map(|grains| grains.list.clone())
    }

    /// Verifies what has come since the last call, as whole grains, and lets others have it. Returns how
    /// many bytes from the first one on are verified; none before the list is known.
    ///
    /// # Errors
    ///
    /// When a grain is wrong.
    pub(crate) fn advance(&self, bytes: &Segments) -> Result<u32, WrongGrain> {
        let Some(grains) = self.grains.get() else {
            return Ok(0);
        };
        let mut passed = self.passed();
        let mut verified = self.progress.borrow().verified;
        let before = verified;
        for (len, expected) in grains.expected.iter().skip(passed.len()) {
            let (start, len) = (verified as usize, *len as usize);
            if start + len > bytes.len() {
                break;
            }
            if !is_run(bytes, (start, len), *expected) {
                return Err(WrongGrain);
            }
            passed.push((verified, bytes.share(start, len)));
            verified += len as u32;
        }
        drop(passed);
        if verified > before {
            self.progress.send_modify(|now| now.verified = verified);
        }
        Ok(verified)
    }

    /// A run of grains, once it is there; `None` when it will not come from here.
    pub(crate) async fn read(&self, offset: u32, len: u32) -> Option<Vec<Bytes>> {
        let end = offset.checked_add(len)?;
        let mut progress = self.progress.subscribe();
        let is_settled = |now: &Progress| now.is_over || now.verified >= end;
        if progress.wait_for(is_settled).await.ok()?.is_over {
            return None;
        }
        let passed = self.passed();
        let grains = passed
            .iter()
            .filter(|(at, _)| (offset..end).contains(at))
            .map(|(_, grain)| grain.clone());
        let grains: Vec<_> = grains.collect();
        // It may have ended just now.
        (!grains.is_empty()).then_some(grains)
    }

    /// Nothing more is passed on from here: the chunk is in the files, or will not come.
    pub(crate) fn end(&self) {
        self.progress.send_modify(|now| now.is_over = true);
        self.passed().clear();
    }

    fn passed(&self) -> MutexGuard<'_, Vec<(u32, Bytes)>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends an arrival when it is dropped.
#[derive(Debug)]
pub(crate) struct Ending(pub(crate) Arc<Arrival>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use warren_proto::content::ShareName;
    use warren_proto::content::tree::{GRAIN_BYTES, grain_cvs, subtree_cv};

    use super::*;

    /// The shortest file whose chunks are two grains.
    const FILE_BYTES: usize = (128 << 20) + 1;

    #[tokio::test]
    async fn grains_are_had_as_they_verify_and_not_after_the_end() {
        let (content, chunk, data) = sample();
        let arrival = Arc::new(Arrival::default());
        let mut segments = Segments::new(data.len());
        let (first, second) = data.split_at(GRAIN_BYTES as usize);
        segments.append(first);
        assert_eq!(arrival.advance(&segments), Ok(0));
        assert!(arrival.learn(&content, chunk, list(&data)));
        assert_eq!(arrival.advance(&segments), Ok(GRAIN_BYTES));
        let read = arrival.read(0, GRAIN_BYTES).await;
        assert_eq!(read.map(|grains| grains.concat()), Some(first.to_vec()));
        let rest = arrival.read(GRAIN_BYTES, GRAIN_BYTES);
        tokio::pin!(rest);
        assert_eq!((&mut rest).now_or_never(), None);
        segments.append(second);
        assert_eq!(arrival.advance(&segments), Ok(2 * GRAIN_BYTES));
        assert_eq!(
            rest.await.map(|grains| grains.concat()),
            Some(second.to_vec())
        );
        let too_much = arrival.read(0, 3 * GRAIN_BYTES);
        tokio::pin!(too_much);
        assert_eq!((&mut too_much).now_or_never(), None);
        drop(Ending(arrival.clone()));
        assert_eq!(too_much.await, None);
        assert_eq!(arrival.read(0, GRAIN_BYTES).await, None);
    }

    #[test]
    fn wrong_grains_and_wrong_lists_are_told() {
        let (content, chunk, mut data) = sample();
        let arrival = Arrival::default();
        let good = list(&data);
        let mut bad = good.clone();
        bad[40] ^= 1;
        assert!(!arrival.learn(&content, chunk, bad));
        assert!(!arrival.learn(&content, chunk, good[..32].to_vec()));
        assert!(!arrival.learn(&content, chunk, good[1..].to_vec()));
        assert!(arrival.list().is_none());
        assert!(arrival.learn(&content, chunk, good.clone()));
        assert_eq!(arrival.list().as_deref(), Some(&good[..]));
        data[GRAIN_BYTES as usize] ^= 1;
        assert_eq!(arrival.advance(&data[..].into()), Err(WrongGrain));
    }

    /// A file of nothing, and the second of its chunks.
    fn sample() -> (Content, ChunkIndex, Vec<u8>) {
        let chunk_bytes = 2 * GRAIN_BYTES as usize;
        let data = vec![0; chunk_bytes];
        let hash = |start: usize| {
            let len = chunk_bytes.min(FILE_BYTES - start);
            subtree_cv(&data[..len], start as u64)
        };
        let hashes = (0..FILE_BYTES).step_by(chunk_bytes).map(hash).collect();
        let name = ShareName::parse("nothing").unwrap();
        let content = Content::file(name, FILE_BYTES as u64, hashes).unwrap();
        let chunk = content.layout.chunk(1).unwrap();
        let expected = content.layout.extents(chunk).next().unwrap();
        assert_eq!((expected.offset, expected.len), (131_072, 131_072));
        (content, chunk, data)
    }

    fn list(data: &[u8]) -> Vec<u8> {
        let offset = data.len() as u64;
        let position = warren_proto::content::tree::Position::Subtree { offset };
        grain_cvs(data, position).as_bytes().to_vec()
    }
}
