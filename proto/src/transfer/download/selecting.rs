//! Which chunks are wanted at all, and how that changes while others are on their way.

use std::sync::Arc;
use std::time::Instant;

use super::super::availability::UNKNOWN;
use super::super::selection::Selection;
use super::{Download, RequestId};
use crate::content::ChunkIndex;

impl Download {
    /// Takes a new selection. What is verified stays, selected or not.
    pub(super) fn select(&mut self, now: Instant, selection: Arc<Selection>) {
        self.selection = Some(selection);
        let stale = self.recount_missing();
        self.recount_first();
        for id in stale {
            self.cancel(now, id);
        }
        let verified = self.have.iter().map(|chunk| self.counted_bytes(chunk));
        self.verified_bytes = verified.sum();
        for peer in self.peers.values_mut() {
            peer.useful = peer.holds.bits().intersection_count(&self.missing) as u32;
            peer.floor = UNKNOWN;
            peer.let_go();
        }
        self.read_on();
        self.mind_all();
    }

    /// Wants what is selected now and was not before, and lets go of the rest. Returns the requests
    /// that are no longer of use.
    fn recount_missing(&mut self) -> Vec<RequestId> {
        let lacking = (0..self.have.len()).filter_map(|chunk| self.have.index(chunk));
        let lacking = lacking.filter(|chunk| !self.have.contains(*chunk));
        let mut stale = Vec::new();
        for chunk in lacking.collect::<Vec<_>>() {
            let is_selected = self.selects(chunk);
            let bit = chunk.value() as usize;
            let was_missing = self.missing.contains(bit);
            self.missing.set(bit, is_selected);
            match (was_missing, is_selected) {
                (false, true) => drop(self.want(chunk)),
                (true, false) => {
                    self.unwant(chunk);
                    stale.extend(self.in_flight.get(&chunk).into_iter().flatten());
                }
                (true, true) | (false, false) => (),
            }
        }
        stale
    }

    /// Counts the chunks that come before others anew, and starts to read from the beginning.
    fn recount_first(&mut self) {
        let selection = self.selection.as_ref();
        let first = selection.map_or(0, |selection| {
            let first = selection.first().ones();
            first
                .filter(|chunk| self.holders.is_wanted(*chunk as u32))
                .count()
        });
        self.first_wanted = first as u32;
        self.read = 0;
    }

    /// Whether the chunk is to be fetched, or was.
    pub(super) fn selects(&self, chunk: ChunkIndex) -> bool {
        let selection = self.selection.as_ref();
        selection.is_none_or(|selection| selection.wants(chunk))
    }

    /// Whether nothing is left out.
    pub(super) fn wants_everything(&self) -> bool {
        let selection = self.selection.as_ref();
        selection.is_none_or(|selection| selection.is_everything())
    }

    /// Whether the chunk comes before others.
    pub(super) fn is_first(&self, chunk: ChunkIndex) -> bool {
        let selection = self.selection.as_ref();
        selection.is_some_and(|selection| selection.first().contains(chunk.value() as usize))
    }

    /// How many bytes of the chunk are of selected files.
    pub(super) fn counted_bytes(&self, chunk: ChunkIndex) -> u64 {
        let len = self.content.layout.chunk_len(chunk);
        let selection = self.selection.as_ref();
        selection
            .map_or(len, |selection| selection.bytes_of(chunk, len))
            .into()
    }
}
