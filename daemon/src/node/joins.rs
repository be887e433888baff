//! The swarms joined with peers, and what is said of them.
//!
//! On a connection each swarm is joined by itself: both sides prove that they know the content id,
//! the one that wants something first. Only then is anything said about the share, but for this: of a
//! seed of a public share the first chunks are asked in the same breath, see [`Node::presume`].

use std::time::{Duration, Instant};

use warren_proto::content::Run;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::proof::Proof;
use warren_proto::transfer::Event;
use warren_proto::wire::{MemberState, PeerMessage};

use super::Node;
use super::peers::Peer;
use crate::peer::Close;
use crate::peer::session::SessionId;
use crate::share::Phase;
use crate::share::offer::Offer;

/// Joins for swarms that we are not in, or with a wrong proof, after which a peer is guessing.
const REFUSALS: u32 = 256;

impl Node {
    /// Sends our proof for the swarm, unless that was done or the peer is not connected, or has yet to
    /// prove its key.
    pub(super) fn join_if_connected(&mut self, key: PublicKey, swarm: SwarmId) {
        let (Some(share), Some(peer)) = (self.shares.get(&swarm), self.peers.get_mut(&key)) else {
            return;
        };
        let introduced = self.introduced.get(&key);
        let is_introduced = introduced.is_some_and(|swarms| swarms.contains(&swarm));
        let is_private = share.record.secret.is_some();
        // Somebody on the path may be there in its place: they shall not learn what else we have in
        // common, and of what is private nothing.
        if peer.connection.is_early() && (is_private || !is_introduced) {
            return;
        }
        let joint = peer.joints.entry(swarm).or_default();
        if joint.ours.is_some() || share.banned.contains(&key) {
            return;
        }
        let alias = peer.next_alias;
        peer.next_alias = peer.next_alias.wrapping_add(1);
        joint.ours = Some(alias);
        let proof = peer.proof(share, peer.connection.side(), &self.config.key);
        let join = PeerMessage::Join {
            alias,
            swarm,
            proof,
        };
        if peer.say(join) {
            self.presume(key, swarm);
        } else {
            self.drop_peer(key, Close::TooSlow);
        }
    }

    /// Asks a seed in the same breath in which we join, a round trip before it can have told what
    /// it has.
    fn presume(&mut self, key: PublicKey, swarm: SwarmId) {
        let (Some(share), Some(peer)) = (self.shares.get(&swarm), self.peers.get_mut(&key)) else {
            return;
        };
        let known = share.members.get(&key).map(|known| known.state);
        let (Phase::Downloading(active), Some(joint)) = (&share.phase, peer.joints.get_mut(&swarm))
        else {
            return;
        };
        // The chunks we ask for say something of the share, which nobody may learn of a private one.
        let is_private = share.record.secret.is_some();
        let is_known = joint.theirs.is_some() || joint.is_source;
        if is_private || known != Some(MemberState::Seed) || is_known {
            return;
        }
        joint.is_source = true;
        let (rtt, reach) = (peer.connection.rtt(), peer.reach());
        let runs = vec![Run {
            start: 0,
            count: active.writer.offer.content.layout.chunk_count(),
        }];
        for event in [
            Event::PeerJoined {
                peer: key,
                rtt,
                reach,
            },
            Event::Has { peer: key, runs },
        ] {
            self.tell_download(swarm, event);
        }
    }

    pub(super) fn handle_peer_message(
        &mut self,
        key: PublicKey,
        session: SessionId,
        message: PeerMessage,
    ) {
        let Some(peer) = self.peers.get(&key).filter(|peer| peer.session == session) else {
            return self.handle_late_message(key, session, message);
        };
        match message {
            PeerMessage::Join {
                alias,
                swarm,
                proof,
            } => self.handle_join(key, alias, swarm, &proof),
            PeerMessage::Refused { swarm } => self.handle_refused(key, swarm),
            PeerMessage::Describe { alias, size, name } => {
                // An alias that means nothing (any more) is no fault: it may just have ended.
                if let Some(swarm) = peer.swarm_of(alias) {
                    self.handle_described(swarm, key, size, name);
                }
            }
            PeerMessage::Have { alias, chunks } => {
                if let Some(swarm) = peer.swarm_of(alias) {
                    self.note_has(swarm, key, &chunks);
                }
                self.handle_chunks(key, alias, |peer| Event::Has {
                    peer,
                    runs: chunks.into_vec(),
                });
            }
            PeerMessage::Lost { alias, chunks } => {
                self.handle_chunks(key, alias, |peer| Event::Lacks {
                    peer,
                    runs: chunks.into_vec(),
                });
            }
            PeerMessage::Started { alias, chunks } => {
                self.handle_chunks(key, alias, |peer| Event::Started {
                    peer,
                    runs: chunks.into_vec(),
                });
            }
            PeerMessage::Suggest { alias, chunks } => {
                self.handle_chunks(key, alias, |peer| Event::Suggested {
                    peer,
                    runs: chunks.into_vec(),
                });
            }
            PeerMessage::Supplied { alias, supplied } => {
                self.handle_chunks(key, alias, |peer| Event::Supplied { peer, supplied });
            }
            PeerMessage::Leave { alias } => {
                if let Some(swarm) = peer.swarm_of(alias) {
                    self.unjoin(key, &swarm);
                }
            }
            PeerMessage::Yield { yields } => self.handle_yield(key, yields),
            PeerMessage::Hello(hello) => self.handle_hello(key, hello.features),
            PeerMessage::RelayAsk { alias, peer } => self.handle_relay_ask(key, alias, peer),
            PeerMessage::RelayOpen { id, peer, rtt_ms } => {
                let rtt = Duration::from_millis(rtt_ms.into());
                self.handle_relay_open(key, (id, peer), rtt);
            }
            PeerMessage::RelayRefused { peer, reason } => {
                self.handle_relay_refused(key, peer, reason);
            }
        }
    }

    /// News of chunks, by the peer's number for the swarm; one that means nothing (any more) is no fault.
    fn handle_chunks(&mut self, key: PublicKey, alias: u32, news: impl FnOnce(PublicKey) -> Event) {
        let peer = self.peers.get(&key);
        if let Some(swarm) = peer.and_then(|peer| peer.swarm_of(alias)) {
            self.handle_news(swarm, key, news);
        }
    }

    fn handle_join(&mut self, key: PublicKey, alias: u32, swarm: SwarmId, proof: &Proof) {
        let share = self.shares.get_mut(&swarm);
        let share =
            share.filter(|share| share.member_state().is_some() && !share.banned.contains(&key));
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let side = peer.connection.side().other();
        let Some(share) = share else {
            return self.refuse_join(key, swarm);
        };
        if peer.proof(share, side, &key) != *proof {
            tracing::debug!(peer = %key, "a peer does not know what it says it has");
            share.banned.insert(key);
            return self.refuse_join(key, swarm);
        }
        if let Some(offer) = share.offer() {
            peer.common.offer(alias, offer.clone());
        }
        let joint = peer.joints.entry(swarm).or_default();
        if let Some(before) = joint
            .theirs
            .replace(alias)
            .filter(|before| *before != alias)
        {
            peer.common.withdraw(before);
        }
        peer.stranger_since = None;
        self.join_if_connected(key, swarm);
        self.handle_joined(key, swarm);
    }

    fn refuse_join(&mut self, key: PublicKey, swarm: SwarmId) {
        self.unjoin(key, &swarm);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.refusals += 1;
        let answered = peer.say(PeerMessage::Refused { swarm });
        if !answered || peer.refusals > REFUSALS {
            self.drop_peer(key, Close::Protocol);
        }
    }

    /// Both sides have proven that they know the content.
    fn handle_joined(&mut self, key: PublicKey, swarm: SwarmId) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let (Some(alias), Some(share)) = (peer.joined(&swarm), self.shares.get_mut(&swarm)) else {
            return;
        };
        let (rtt, reach) = (peer.connection.rtt(), peer.reach());
        let (offer, joint) = (share.offer().cloned(), peer.joints.get_mut(&swarm));
        // Whoever joins anew may say so twice: what was asked of it meanwhile is still under way.
        let is_new = joint.is_some_and(|joint| !std::mem::replace(&mut joint.is_source, true));
        self.limit_peer(key);
        if is_new {
            self.open_complete(swarm);
            let peer = key;
            self.tell_download(swarm, Event::PeerJoined { peer, rtt, reach });
        }
        let offer = offer.zip(self.peers.get(&key));
        let told = offer.is_none_or(|(offer, peer)| {
            describe(peer, alias, &offer) && self.greet(peer, alias, &swarm)
        });
        if !told {
            return self.drop_peer(key, Close::TooSlow);
        }
        self.use_relayer(key, swarm);
    }

    fn handle_refused(&mut self, key: PublicKey, swarm: SwarmId) {
        let joint = self
            .peers
            .get(&key)
            .and_then(|peer| peer.joints.get(&swarm));
        if joint.is_some_and(|joint| joint.theirs.is_none()) {
            self.unjoin(key, &swarm);
        }
        // It may only have begun to prepare its share.
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.set_back_member(&key, Instant::now());
        }
    }

    fn unjoin(&mut self, key: PublicKey, swarm: &SwarmId) {
        if self
            .peers
            .get_mut(&key)
            .is_some_and(|peer| peer.unjoin(swarm))
        {
            self.peer_left(*swarm, key);
            self.end_sessions(key);
        }
    }

    /// Leaves a swarm on one connection.
    pub(super) fn leave_on(&mut self, key: PublicKey, swarm: &SwarmId) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let ours = peer.joints.get(swarm).and_then(|joint| joint.ours);
        let told = ours.is_none_or(|alias| peer.say(PeerMessage::Leave { alias }));
        self.unjoin(key, swarm);
        if !told {
            self.drop_peer(key, Close::TooSlow);
        }
    }

    /// Leaves a swarm on all connections.
    pub(super) fn leave_on_all(&mut self, swarm: &SwarmId) {
        for key in self.peers_with(swarm) {
            self.leave_on(key, swarm);
        }
    }

    /// Joins a swarm anew on every connection where it was joined, so that both sides say from the
    /// start what they have: after a link has become a download, or files were opened anew. While there is
    /// nothing to say, it is only left: who joins and then refuses to be joined is taken for a peer by the other
    /// side alone.
    pub(super) fn rejoin(&mut self, swarm: SwarmId) {
        let share = self.shares.get(&swarm);
        let is_member = share.is_some_and(|share| share.member_state().is_some());
        for key in self.peers_with(&swarm) {
            self.leave_on(key, &swarm);
            if is_member {
                self.join_if_connected(key, swarm);
            } else if let Some(peer) = self.peers.get_mut(&key) {
                // It is joined once there is.
                peer.joints.entry(swarm).or_default();
            }
        }
    }

    fn peers_with(&self, swarm: &SwarmId) -> Vec<PublicKey> {
        let peers = self.peers.iter();
        let with = peers.filter(|(_, peer)| peer.joints.contains_key(swarm));
        with.map(|(key, _)| *key).collect()
    }
}

/// Says what the share is; false when the peer does not read.
fn describe(peer: &Peer, alias: u32, offer: &Offer) -> bool {
    let size = offer.described_size();
    let name = offer.content.name.as_str().to_owned();
    peer.say(PeerMessage::Describe { alias, size, name })
}
