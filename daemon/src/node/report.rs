//! What people and scripts see: progress, the end of downloads, trackers, shares and peers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::mpsc;
use warren_proto::content::path::printable;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::transfer::Standing;
use warren_proto::wire::Paths;

use super::Node;
use super::peers::Peer;
use super::trackers::{OWN, TrackerState};
use crate::control::attempt::{Attempt, dependence_word, filtering_word, hairpins, mapping_word};
use crate::control::doctor::{Machine, Snapshot};
use crate::control::model::{
    self, ApiError, Done, Event, PeerCounts, PeerPath, Progress, ShareStanding, ShareState,
};
use crate::control::wish::SEE_ALL;
use crate::control::words::about;
use crate::pace::is_exempt;
use crate::share::changes::HINT;
use crate::share::{Phase, Share, Watcher};
use crate::store::db::ShareRecord;

/// Tries after which QUIC takes it that packets of a size do not get through.
const TRIES_OF_A_SIZE: u64 = 3;

/// Paths that take less than this, in bytes of a UDP payload, are told of. What remains of 1,500 bytes in
/// the usual tunnels (PPPoE 1,492, WireGuard 1,420) is more.
const NARROW_BYTES: u16 = 1_300;

impl Node {
    /// Shows every watcher how far its download is, and lets go of those who left.
    pub(super) fn show_progress(&mut self, now: Instant) {
        for swarm in self.active.clone() {
            let Some(share) = self.shares.get_mut(&swarm) else {
                continue;
            };
            share.rate.sample(now, share.received.bytes());
            share.watchers.retain(|watcher| !watcher.events.is_closed());
            if share.watchers.is_empty() {
                continue;
            }
            let progress = self.progress(&swarm);
            let watchers = self.shares.get(&swarm).map(|share| &share.watchers);
            for watcher in watchers.into_iter().flatten() {
                // Who does not read gets the next one.
                let _ = watcher.events.try_send(Event::Progress(progress.clone()));
            }
        }
    }

    fn progress(&self, swarm: &SwarmId) -> Progress {
        let Some(share) = self.shares.get(swarm) else {
            return Progress::default();
        };
        let download = self.download_of(swarm);
        let (verified_bytes, bytes) = share.bytes(download);
        let phase = match share.state(download) {
            ShareState::Hashing => model::Phase::Hashing,
            ShareState::Metadata => model::Phase::Metadata,
            ShareState::Waiting => model::Phase::Waiting,
            _ => model::Phase::Downloading,
        };
        let waits = phase == model::Phase::Waiting;
        let name = Some(share.record.name.clone()).filter(|name| !name.is_empty());
        let peers = self.peer_counts(swarm);
        Progress {
            verified_bytes,
            bytes,
            rate_bytes_per_s: share.rate.bytes_per_s(),
            peers,
            phase: Some(phase),
            name,
            files: share.file_counts(),
            note: waits.then(|| self.why_waiting(share, peers)),
            advice: if waits { repair_advice(share) } else { None },
        }
    }

    fn peer_counts(&self, swarm: &SwarmId) -> PeerCounts {
        let mut counts = PeerCounts::default();
        let joined = self
            .peers
            .values()
            .filter(|peer| peer.joined(swarm).is_some());
        joined.for_each(|peer| count(&mut counts, peer));
        counts
    }

    /// Why a share waits, and what can be done about it.
    fn note_waiting(&self, share: &Share, peers: PeerCounts) -> String {
        let why = self.why_waiting(share, peers);
        match repair_advice(share) {
            Some(advice) => format!("{why}. {advice}"),
            None => why,
        }
    }

    fn why_waiting(&self, share: &Share, peers: PeerCounts) -> String {
        let no_tracker = self.trackers.values().all(|tracker| !tracker.connected);
        match self.trackers.get(&OWN) {
            Some(own) if no_tracker => {
                let cause = own.why_unreached(Instant::now());
                let cause = cause.as_deref().unwrap_or("connecting");
                format!(
                    "tracker {} is not reached ({cause}); trying again",
                    own.address
                )
            }
            _ if peers.total() > 0 => "no connected peer has what is missing; waiting".to_owned(),
            _ if share.members.is_empty() && is_repaired(share) => {
                "nobody who has what is missing is connected; waiting".to_owned()
            }
            _ if share.members.is_empty() => "no peer has it yet; waiting for one".to_owned(),
            _ => {
                let obstacles = share.members.values().map(|known| known.obstacle);
                match obstacles.clone().all(|obstacle| obstacle.is_some()) {
                    true => self.why_unreachable(obstacles.flatten()),
                    false if is_repaired(share) => {
                        "nobody who has what is missing is connected; trying to connect".to_owned()
                    }
                    false => "connecting to peers".to_owned(),
                }
            }
        }
    }

    /// Tells all watchers that the share is complete.
    pub(super) fn tell_done(&mut self, swarm: SwarmId) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        if !matches!(share.phase, Phase::Seeding(_)) {
            return;
        }
        let ((_, bytes), files) = (share.bytes(None), share.file_counts());
        let instead_of = share.numbered_instead_of();
        let instead_of = instead_of.map(|path| path.display().to_string());
        let verified = share.verifying.take();
        let repaired_bytes = verified.as_ref().map(|it| it.wrong_bytes);
        let kept = verified.and_then(|it| it.kept.get().map(|kept| kept.display().to_string()));
        for watcher in std::mem::take(&mut share.watchers) {
            let found = watcher.found;
            let done = Event::Done(Done {
                path: share.record.path.display().to_string(),
                content_id: share.record.id.to_string(),
                bytes: found.map_or(bytes, |found| found.bytes),
                files: found.map_or(files, |found| found.files),
                seconds: watcher.since.elapsed().as_secs_f64(),
                already: found.is_some(),
                resumed: watcher.was_paused,
                instead_of: instead_of.clone().filter(|_| found.is_some()),
                renamed: None,
                repaired_bytes,
                kept: kept.clone(),
            });
            tell_last(watcher, done);
        }
    }

    /// Tells all watchers why the share goes no further.
    pub(super) fn tell_error(&mut self, swarm: SwarmId, error: &ApiError) {
        if let Some(share) = self.shares.get_mut(&swarm) {
            let error = error_about(share, error.clone());
            for watcher in std::mem::take(&mut share.watchers) {
                tell_last(watcher, error.clone().into());
            }
        }
    }

    /// Trackers, the port of our router, limits, and shares.
    pub(super) fn status(&self) -> Vec<Event> {
        let trackers = self.shown_trackers().map(Event::Tracker);
        let port = Event::PortMapping(self.port.shown());
        let before = trackers.chain([port, self.shown_limits()]);
        let codes = self.shown_codes().map(Event::Code);
        before.chain(self.shown_shares("")).chain(codes).collect()
    }

    /// All shares whose name or content id begins so.
    pub(super) fn shown_shares(&self, beginning: &str) -> Vec<Event> {
        // Each of thousands would be written out to be compared.
        let may_be_id = beginning.bytes().all(|byte| byte.is_ascii_hexdigit());
        let begins = |record: &ShareRecord| {
            record.name.starts_with(beginning)
                || may_be_id && record.id.to_string().starts_with(beginning)
        };
        let is_meant =
            |share: &Share| !share.is_preview && (beginning.is_empty() || begins(&share.record));
        let counts = self.all_peer_counts();
        let count_of = |swarm: &SwarmId| counts.get(swarm).copied().unwrap_or_default();
        let mut shown = Vec::new();
        if beginning.is_empty() {
            shown.reserve_exact(self.shares.len());
        }
        let meant = self.shares.iter().filter(|(_, share)| is_meant(share));
        shown.extend(meant.map(|(swarm, share)| {
            let mut shown = self.shown(swarm, share, count_of(swarm));
            // Of thousands it would make a long answer longer still.
            let is_told = !beginning.is_empty() && !share.record.name.is_empty();
            shown.path = is_told.then(|| share.record.path.display().to_string());
            Event::Share(shown)
        }));
        shown
    }

    /// Of all swarms at once: each peer is in few of thousands.
    fn all_peer_counts(&self) -> BTreeMap<SwarmId, PeerCounts> {
        let mut counts: BTreeMap<SwarmId, PeerCounts> = BTreeMap::new();
        for peer in self.peers.values() {
            let joints = peer.joints.iter();
            for (swarm, _) in joints.filter(|(_, joint)| joint.is_joined()) {
                count(counts.entry(*swarm).or_default(), peer);
            }
        }
        counts
    }

    /// One share.
    pub(super) fn shown_share(&self, swarm: &SwarmId) -> Option<model::Share> {
        let share = self.shares.get(swarm)?;
        Some(self.shown(swarm, share, self.peer_counts(swarm)))
    }

    fn shown(&self, swarm: &SwarmId, share: &Share, peers: PeerCounts) -> model::Share {
        let download = self.download_of(swarm);
        let (verified_bytes, bytes) = share.bytes(download);
        let (state, limit) = (share.state(download), self.limit_of(swarm));
        model::Share {
            content_id: share.record.id.to_string(),
            name: share.record.name.clone(),
            bytes,
            verified_bytes,
            state,
            path: None,
            in_place: share.record.state == crate::store::db::ShareState::Registered,
            also: share.also(),
            complete: share.is_complete(),
            peers,
            direct_bytes: share.received.direct_bytes,
            relayed_bytes: share.received.relayed_bytes,
            files: share.file_counts(),
            up_bits_per_s: limit.up_bits_per_s,
            down_bits_per_s: limit.down_bits_per_s,
            expires_unix_ms: share.terms.expires_unix_ms,
            max_downloads: share.terms.max_downloads,
            downloads: share
                .terms
                .max_downloads
                .map(|_| share.terms.takers.len() as u32),
            followed: self.shown_followed(swarm),
            published: self.shown_published(swarm),
            note: match state {
                ShareState::Waiting => Some(self.note_waiting(share, peers)),
                _ => note(share),
            },
        }
    }

    /// Our own comes first.
    fn shown_trackers(&self) -> impl Iterator<Item = model::Tracker> {
        self.trackers.values().map(|tracker| model::Tracker {
            address: tracker.address.to_string(),
            key: tracker.pin.map_or(String::new(), |pin| pin.to_string()),
            connected: tracker.connected,
            way: tracker.way(),
            note: tracker.why_unreached(Instant::now()),
            fault: tracker.fault,
            program: tracker.program.clone(),
            relays: tracker.relays,
            mapping: mapping_word(self.nat.mapping).to_owned(),
            mapping_depends_on: self.nat.dependence.map(|it| dependence_word(it).to_owned()),
            filtering: filtering_word(self.nat.filtering).to_owned(),
            hairpinning: hairpins(self.nat.hairpinning),
        })
    }

    /// The latest attempts to reach peers, oldest first.
    pub(super) fn attempts(&self) -> Vec<Event> {
        let attempts = self.config.punch.records().attempts();
        attempts.into_iter().map(Event::Attempt).collect()
    }

    /// Where a peer is: of one behind a tunnel, the tracker.
    fn address_of(&self, peer: &Peer) -> String {
        let address = peer.connection.remote_address();
        match self.trackers.get(&OWN) {
            Some(own) if peer.connection.route() == Some(address) => own.address.to_string(),
            _ => address.to_string(),
        }
    }

    /// Connected peers.
    pub(super) fn connected_peers(&self) -> Vec<Event> {
        self.shown_peers().map(Event::Peer).collect()
    }

    fn shown_peers(&self) -> impl Iterator<Item = model::Peer> {
        let proven = self.peers.iter().filter(|(_, it)| it.common.is_proven());
        proven.map(|(key, peer)| {
            let made = self.config.punch.records().made(key);
            let standings = self.standings_of(key);
            model::Peer {
                peer: key.to_string(),
                path: peer.path(),
                address: self.address_of(peer),
                kind: made.as_ref().and_then(|made| made.kind),
                side: peer.connection.side().into(),
                reached_ms: made.as_ref().and_then(Attempt::reached_ms),
                relayed_by: self.relayer_of(key, peer),
                why_relayed: self.why_relayed(key, peer),
                rtt_ms: peer.connection.rtt().as_secs_f64() * 1000.0,
                down_bytes: peer.common.down_bytes.load(Ordering::Relaxed),
                up_bytes: peer.common.up_bytes.load(Ordering::Relaxed),
                unlimited: is_exempt(&peer.connection),
                standing: standings
                    .iter()
                    .map(|it| it.standing)
                    .max()
                    .unwrap_or_default(),
                standings,
            }
        })
    }

    /// Why a peer is reached through a relay, where one of us was started so.
    fn why_relayed(&self, key: &PublicKey, peer: &Peer) -> Option<String> {
        let mut shares = self.shares.values();
        let wants_relay = |share: &Share| {
            let known = share.members.get(key);
            known.is_some_and(|known| known.paths == Paths::RelayOnly)
        };
        let who = match peer.path() {
            PeerPath::Lan | PeerPath::Direct => return None,
            PeerPath::Relay if self.config.paths == Paths::RelayOnly => "this daemon",
            PeerPath::Relay if shares.any(wants_relay) => "the peer",
            PeerPath::Relay => return None,
        };
        Some(format!("{who} was started with --relay-only"))
    }

    /// Why peers that we know have no path in common with us; empty when none is such.
    fn why_forbidden(&self) -> String {
        let members = self
            .shares
            .values()
            .flat_map(|share| share.members.values());
        self.why_unreachable(members.filter_map(|known| known.obstacle))
    }

    /// What the downloads think of a peer that are not content with it.
    fn standings_of(&self, key: &PublicKey) -> Vec<ShareStanding> {
        let now = Instant::now();
        let standing = |(swarm, share): (&SwarmId, &Share)| {
            let standing = match share.banned.contains(key) {
                true => Standing::Banned,
                false => self.download_of(swarm)?.standing(key)?,
            };
            let id = share.record.id.to_string();
            (standing != Standing::Good).then(|| ShareStanding::new(id, standing, now))
        };
        self.shares.iter().filter_map(standing).collect()
    }

    /// All that is known of how we are connected.
    pub(super) fn snapshot(&self) -> Snapshot {
        let own = self.trackers.get(&OWN);
        let candidates = self.config.candidates.iter();
        let (attempts, under_way) = self.config.punch.records().by_state();
        let counts = self.all_peer_counts();
        Snapshot {
            trackers: self.shown_trackers().collect(),
            tracker_is_here: own.is_some_and(TrackerState::is_local) || self.port.is_local(),
            listening: self.config.endpoint.local_addr(),
            addresses: candidates.map(|it| it.address.ip()).collect(),
            port: self.port.shown(),
            attempts,
            under_way,
            peers: self.shown_peers().collect(),
            narrow_bytes: self.peers.values().filter_map(narrow_bytes).collect(),
            clock_ahead_ms: self
                .trackers
                .values()
                .find_map(TrackerState::clock_ahead_ms),
            idx: self.config.idx,
            paths: self.config.paths,
            why_forbidden: self.why_forbidden(),
            limits: self.limits(),
            shares: self
                .shares
                .iter()
                .filter(|(_, share)| !share.is_preview)
                .map(|(swarm, share)| {
                    let peers = counts.get(swarm).copied().unwrap_or_default();
                    self.shown(swarm, share, peers)
                })
                .collect(),
            changed: self.paths_of_changed(),
            machine: Machine::default(),
        }
    }

    /// Where the shares lie of which something is no longer what was shared, by content id.
    fn paths_of_changed(&self) -> BTreeMap<String, PathBuf> {
        let shares = self.shares.values();
        let changed = shares.filter(|share| share.state(None) == model::ShareState::Changed);
        let paths = changed.map(|it| (it.record.id.to_string(), it.record.path.clone()));
        paths.collect()
    }
}

/// An error whose hint names this share, where it was for any.
pub(super) fn error_about(share: &Share, error: ApiError) -> ApiError {
    // Where a manifest lies that somebody has named, only the client knows.
    let hint = error.hint.replace(SEE_ALL, "See all in: client top IDX");
    let hint = about(&hint, &share.record.id, &share.record.path);
    ApiError { hint, ..error }
}

/// Whether it fetches what is wrong of what was here.
fn is_repaired(share: &Share) -> bool {
    share.verifying.is_some() || share.record.placing.found
}

/// What whoever waits for the end of a repair should know.
fn repair_advice(share: &Share) -> Option<String> {
    if !is_repaired(share) {
        return None;
    }
    let kept = share.verifying.as_ref().and_then(|it| it.kept.get());
    let kept = kept.map(|kept| {
        let kept = printable(&kept.display().to_string());
        format!("What was edited here is kept in {kept}. ")
    });
    let ends = match (share.record.placing.found, &share.record.settled) {
        (true, None) => {
            "; until then its name ends in .part. Not to wait: client remove NAME IDX ends the share and gives it its name back"
        }
        (true, Some(_)) => {
            "; until then it lies in a folder beside, whose name ends in .part. Not to wait: client remove NAME IDX ends the share and gives its files their names back"
        }
        (false, _) => "",
    };
    let advice = format!(
        "{}What is wrong or missing is fetched once somebody who has it is connected{ends}",
        kept.unwrap_or_default()
    );
    Some(about(&advice, &share.record.id, &share.record.path))
}

/// Why a share is as it is, and what can be done about it.
fn note(share: &Share) -> Option<String> {
    let note = match &share.phase {
        Phase::Stopped { .. } if share.is_paused() => share.changes.as_ref()?.note(),
        Phase::Stopped {
            error,
            changed: true,
        } => match share.withheld() {
            // To verify it would be refused.
            Some(withheld) => format!(
                "{}, and {}. To give what is there now: client register PATH IDX; to end it: client remove NAME IDX",
                withheld.message, error.message
            ),
            None => format!("{}. {HINT}", error.message),
        },
        Phase::Stopped { error, .. } => return Some(error.message.clone()),
        Phase::Seeding(_) => match &share.changes {
            Some(changes) => changes.note(),
            None => share.rereading.note_at(Instant::now())?,
        },
        _ => return None,
    };
    let note = match share.pause.is_some() {
        true => note.replacen(HINT, &format!("{PAUSED}{HINT}"), 1),
        false => note,
    };
    Some(about(&note, &share.record.id, &share.record.path))
}

/// What comes first of what is paused.
const PAUSED: &str = "Go on with it first: client resume NAME IDX. ";

fn count(counts: &mut PeerCounts, peer: &Peer) {
    match peer.path() {
        PeerPath::Lan => counts.lan += 1,
        PeerPath::Direct => counts.direct += 1,
        PeerPath::Relay => counts.relay += 1,
    }
}

/// The largest packets that get through to a peer, in bytes of a UDP payload, where tries have shown that
/// larger ones do not.
fn narrow_bytes(peer: &Peer) -> Option<u16> {
    let path = peer.connection.quinn().stats().path;
    let has_tried = path.lost_plpmtud_probes >= TRIES_OF_A_SIZE;
    (has_tried && path.current_mtu < NARROW_BYTES).then_some(path.current_mtu)
}

/// The last event must arrive, and the node must not wait for it.
pub(super) fn tell_last(watcher: Watcher, event: Event) {
    if let Err(mpsc::error::TrySendError::Full(event)) = watcher.events.try_send(event) {
        tokio::spawn(async move { watcher.events.send(event).await });
    }
}
