//! How much of what we ask for may be on its way at once, and who is let go where that is held up.
//!
//! What was asked of a peer and given up may still be sent ([`warren_net::Connection::unspent_bytes`]),
//! so it takes of what may be asked for. It is used up by what is asked of that peer next. Where too
//! much of it lies with peers of which nothing is asked, their connection ends, and they are met anew.

use warren_proto::content::Content;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::transfer::{self, engine};

use super::Node;
use super::limits::in_bytes;
use super::peers::Peer;
use crate::peer::Close;

/// Chunks are asked for ahead for so long, and never fewer than this.
const AHEAD_S: u64 = 2;
const AHEAD_CHUNKS: u64 = 4;

/// The part of all that may be asked for that may lie with idle peers, and with those that only take.
const UNSPENT_PART: u64 = 4;
const UNSPENT_PART_OF_TAKERS: u64 = 2;

impl Node {
    /// Sees to it that what may come never exceeds its part of the budget.
    pub(super) fn watch_budget(&mut self) {
        let whole = self.config.memory.requests_bytes();
        let unspent = self.unspent_bytes();
        if unspent > whole / UNSPENT_PART
            && let Some(key) = self.largest_unspent(unspent > whole / UNSPENT_PART_OF_TAKERS)
        {
            tracing::debug!(peer = %key, unspent, "connection ended to take back what may be sent on it");
            self.drop_peer(key, Close::Done);
        }
        let bytes = whole.saturating_sub(self.unspent_bytes());
        self.tell_engine(engine::Event::Budget { bytes });
    }

    /// What all peers may send though nobody waits for it.
    fn unspent_bytes(&self) -> u64 {
        let peers = self.peers.values();
        peers.map(|peer| peer.connection.unspent_bytes()).sum()
    }

    /// Who may send most of that and is asked for nothing: nor takes anything, unless `even_takers`.
    fn largest_unspent(&self, even_takers: bool) -> Option<PublicKey> {
        let takes = |peer: &Peer| self.uploads.values().any(|it| it.session == peer.session);
        let idle = self.peers.iter().filter(|(_, peer)| {
            let unspent = peer.connection.unspent_bytes() > 0;
            unspent && !peer.common.asks() && (even_takers || !takes(peer))
        });
        let largest = idle.max_by_key(|(_, peer)| peer.connection.unspent_bytes());
        largest.map(|(key, _)| *key)
    }

    /// Divides what may be asked for among the downloads; of one that is limited less is asked for
    /// ahead. Where the parts are less than a chunk, the engine sees to it that all of them together
    /// stay within the whole.
    pub(super) fn share_budget(&mut self) {
        let fetched = self.shares.values().filter_map(|share| {
            let content = share.downloaded()?;
            Some((share.swarm(), self.ahead_of(&share.swarm(), content)))
        });
        let fetched: Vec<_> = fetched.collect();
        let part = self.config.memory.requests_bytes() / (fetched.len() as u64).max(1);
        for (swarm, ahead) in fetched {
            let bytes = ahead.map_or(part, |ahead| ahead.min(part));
            self.tell_download(swarm, transfer::Event::Budget { bytes });
        }
    }

    /// What is to be asked for ahead of a share that is limited, in bytes.
    fn ahead_of(&self, swarm: &SwarmId, content: &Content) -> Option<u64> {
        let whole = self.manners.limit.down_bits_per_s;
        // Peers that are exempt are asked for as much as ever.
        let whole = whole.filter(|_| !self.manners.lan_unlimited);
        let own = self.limit_of(swarm).down_bits_per_s;
        let rate = in_bytes(whole.into_iter().chain(own).min()?);
        let least = AHEAD_CHUNKS * u64::from(content.layout.longest_chunk());
        Some((rate * AHEAD_S).max(least))
    }
}
