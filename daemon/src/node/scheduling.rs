//! The engine's decisions over all shares, carried out: what to fetch, whom to serve, what to tell.
//!
//! A share that is complete is open to the engine only while somebody is joined with us in its
//! swarm, so that a thousand idle shares cost nothing.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use warren_proto::content::{ChunkIndex, ChunkSet, Content, Run};
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::limits;
use warren_proto::transfer::engine::{Action, Event, News, UploadId};
use warren_proto::transfer::{self, Download};
use warren_proto::wire::{Bounded, PeerMessage};

use super::Node;
use super::peers::Peer;
use crate::peer::Close;
use crate::peer::session::SessionId;
use crate::share::{Phase, Share};

/// A peer asks for bytes of a chunk, and waits for its turn.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Names it.
    pub(crate) upload: UploadId,
    /// Who.
    pub(crate) peer: PublicKey,
    /// On which connection.
    pub(crate) session: SessionId,
    /// Of which swarm.
    pub(crate) swarm: SwarmId,
    /// Of which chunk.
    pub(crate) chunk: ChunkIndex,
    /// How many bytes.
    pub(crate) bytes: u32,
    /// Where to say how it goes on; dropped when it will not, because we are busy.
    pub(crate) turn: oneshot::Sender<Turn>,
}

/// How it goes on with what a peer asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is its turn.
    Serve,
    /// The chunk is not here, and will not be soon.
    Deny,
}

/// Something a peer asked for.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) session: SessionId,
    /// Who asked, and of which swarm.
    of: (PublicKey, SwarmId),
    /// Where to say how it goes on, until that is known.
    turn: Option<oneshot::Sender<Turn>>,
}

impl Node {
    /// Does what the engine says until it has nothing more to say.
    pub(super) fn carry_out_all(&mut self, now: Instant) {
        while let Some(action) = self.engine.poll(now) {
            match action {
                Action::Share { swarm, action } => self.carry_out(swarm, action),
                Action::Serve { upload } => self.give_turn(upload, Turn::Serve),
                Action::Deny { upload } => self.give_turn(upload, Turn::Deny),
                Action::PassOn { swarm, request } => self.pass_on(swarm, request),
                Action::Refuse { upload } => drop(self.uploads.remove(&upload)),
                Action::Announce { swarm, news } => self.tell_all(&swarm, &news),
                Action::Suggest { swarm, peer, runs } => self.suggest(&swarm, peer, &runs),
                Action::Judged {
                    swarm,
                    peer,
                    standing,
                } => self.note_standing(&swarm, peer, standing),
            }
        }
    }

    /// What is fetched of a share, while it is open.
    pub(super) fn download_of(&self, swarm: &SwarmId) -> Option<&Download> {
        self.engine.download(swarm)
    }

    /// Opens a share, or opens it anew, and says what of it is wanted.
    pub(super) fn open_share(
        &mut self,
        swarm: SwarmId,
        content: std::sync::Arc<Content>,
        have: ChunkSet,
    ) {
        self.tell_engine(Event::Opened {
            swarm,
            content,
            have,
        });
        let selection = self.shares.get(&swarm).and_then(Share::selection);
        if selection.is_some_and(|selection| !selection.is_plain()) {
            self.tell_selection(swarm);
        }
    }

    /// Opens a complete share that somebody joins.
    pub(super) fn open_complete(&mut self, swarm: SwarmId) {
        let complete = |share: &Share| match &share.phase {
            Phase::Seeding(offer) => Some((offer.content.clone(), offer.have_now())),
            _ => None,
        };
        if self.download_of(&swarm).is_some() {
            return;
        }
        if let Some((content, have)) = self.shares.get(&swarm).and_then(complete) {
            self.open_share(swarm, content, have);
        }
    }

    /// Closes a share; nothing happens if it is not open.
    pub(super) fn close_share(&mut self, swarm: SwarmId) {
        self.tell_engine(Event::Closed { swarm });
    }

    /// Closes a whole share of so many bytes while its files are moved: nothing can be read meanwhile, and all of it is
    /// here.
    pub(super) fn close_to_move(&mut self, swarm: SwarmId, bytes: u64) {
        let phase = Phase::Preparing {
            verified_bytes: Arc::new(bytes.into()),
            bytes,
            is_new: false,
        };
        self.close_share(swarm);
        self.set_phase(swarm, phase);
    }

    /// Closes a complete share that nobody is joined in any more.
    pub(super) fn close_if_idle(&mut self, swarm: SwarmId) {
        let seeds = |share: &Share| matches!(share.phase, Phase::Seeding(_));
        let seeds = self.shares.get(&swarm).is_some_and(seeds);
        if seeds && self.download_of(&swarm).is_some_and(Download::is_alone) {
            self.close_share(swarm);
        }
    }

    /// Something about what is fetched of a share or what its peers have, unless a peer said it.
    pub(super) fn tell_download(&mut self, swarm: SwarmId, event: transfer::Event) {
        self.tell_engine(Event::Share { swarm, event });
    }

    /// A peer says which chunks it has or lacks.
    pub(super) fn handle_news(
        &mut self,
        swarm: SwarmId,
        peer: PublicKey,
        event: impl FnOnce(PublicKey) -> transfer::Event,
    ) {
        let event = event(peer);
        let told = Event::Share { swarm, event };
        if let Err(error) = self.engine.handle(Instant::now(), told) {
            tracing::debug!(%peer, %error, "peer claims chunks that do not exist");
            self.drop_peer(peer, Close::Protocol);
        }
    }

    /// A peer asks for bytes.
    pub(super) fn handle_asked(&mut self, asked: Asked) {
        let upload = Upload {
            session: asked.session,
            of: (asked.peer, asked.swarm),
            turn: Some(asked.turn),
        };
        self.uploads.insert(asked.upload, upload);
        self.tell_engine(Event::Asked {
            upload: asked.upload,
            swarm: asked.swarm,
            peer: asked.peer,
            chunk: asked.chunk,
            bytes: asked.bytes,
        });
    }

    /// Bytes went out.
    pub(super) fn handle_sent(&mut self, upload: UploadId, bytes: u32) {
        if let Some((peer, swarm)) = self.uploads.get(&upload).map(|upload| upload.of) {
            self.note_given(swarm, peer, bytes);
        }
        self.tell_engine(Event::Sent { upload, bytes });
    }

    /// An answer is over, given or not.
    pub(super) fn handle_answered(&mut self, upload: UploadId) {
        self.uploads.remove(&upload);
        self.tell_engine(Event::UploadEnded { upload });
    }

    /// Whatever a connection's peer has asked for is over.
    pub(super) fn end_uploads(&mut self, session: SessionId) {
        let its = |(_, upload): &(&UploadId, &Upload)| upload.session == session;
        let its = self.uploads.iter().filter(its);
        for upload in its.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.handle_answered(upload);
        }
    }

    /// Says what we have, and what is on its way to us; false when the peer does not read.
    pub(super) fn greet(&self, peer: &Peer, alias: u32, swarm: &SwarmId) -> bool {
        tell(peer, alias, &self.engine.greeting(swarm))
    }

    pub(super) fn tell_engine(&mut self, event: Event) {
        // Only claims of peers about chunks can be out of range.
        let _ = self.engine.handle(Instant::now(), event);
    }

    fn give_turn(&mut self, upload: UploadId, turn: Turn) {
        let asker = self.uploads.get_mut(&upload);
        let asker = asker.and_then(|upload| upload.turn.take());
        if asker.is_none_or(|asker| asker.send(turn).is_err()) {
            // Nobody waits for it any more.
            self.handle_answered(upload);
        }
    }

    fn tell_all(&mut self, swarm: &SwarmId, news: &News) {
        let deaf = self.peers.iter().filter(|(_, peer)| {
            let alias = peer.joined(swarm);
            alias.is_some_and(|alias| !tell(peer, alias, news))
        });
        let deaf: Vec<_> = deaf.map(|(key, _)| *key).collect();
        deaf.into_iter()
            .for_each(|key| self.drop_peer(key, Close::TooSlow));
    }

    fn suggest(&mut self, swarm: &SwarmId, key: PublicKey, runs: &[Run]) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let Some(alias) = peer.joined(swarm) else {
            return;
        };
        let suggest = |chunks| PeerMessage::Suggest { alias, chunks };
        if !say_runs(peer, runs, suggest) {
            self.drop_peer(key, Close::TooSlow);
        }
    }
}

/// Tells one peer; false when it does not read.
fn tell(peer: &Peer, alias: u32, news: &News) -> bool {
    let have = |chunks| PeerMessage::Have { alias, chunks };
    let started = |chunks| PeerMessage::Started { alias, chunks };
    let lost = |chunks| PeerMessage::Lost { alias, chunks };
    let supplied = |supplied| peer.say(PeerMessage::Supplied { alias, supplied });
    say_runs(peer, &news.have, have)
        && say_runs(peer, &news.started, started)
        && say_runs(peer, &news.lost, lost)
        && news.supplied.is_none_or(supplied)
}

fn say_runs(
    peer: &Peer,
    runs: &[Run],
    message: impl Fn(Bounded<Run, { limits::RUNS_PER_FRAME }>) -> PeerMessage,
) -> bool {
    let mut frames = runs.chunks(limits::RUNS_PER_FRAME);
    frames.all(|runs| peer.say(message(Bounded::truncated(runs.iter().copied()))))
}
