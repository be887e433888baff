//! Compares every count a download keeps with what it counts.

use std::collections::BTreeSet;

use super::super::Reach;
use super::super::peer::Peer;
use super::{Action, Download};
use crate::content::ChunkIndex;
use crate::id::PublicKey;

/// What peers have suggested.
pub(super) type Suggested = BTreeSet<(PublicKey, u32)>;

/// Panics when a count is wrong.
pub(super) fn check(download: &Download) {
    chunks(download).for_each(|chunk| check_chunk(download, chunk));
    check_peers(download);
    check_requests(download);
    let sizes = download.have.iter();
    let sizes = sizes.map(|chunk| download.counted_bytes(chunk));
    assert_eq!(download.verified_bytes(), sizes.sum::<u64>());
    let first = chunks(download).filter(|chunk| is_wanted(download, *chunk));
    let first = first.filter(|chunk| download.is_first(*chunk)).count();
    assert_eq!(download.first_wanted as usize, first);
}

/// Panics unless a request is for a rarest wanted chunk of its peer's or, if there is none that
/// anybody has, a second copy; or for what the peer has suggested.
pub(super) fn check_choice(download: &Download, action: &Action, suggested: &Suggested) {
    let Action::Request { peer, chunk, .. } = action else {
        return;
    };
    if suggested.contains(&(*peer, chunk.value())) {
        return check_suggested(download, peer, *chunk);
    }
    assert!(download.selects(*chunk), "{chunk:?} is not selected");
    let requests = download.in_flight[chunk].len();
    assert!(
        (1..=2).contains(&requests),
        "{requests} requests for {chunk:?}"
    );
    let asked = &download.peers[peer];
    assert!(asked.holds.contains(*chunk), "{peer} lacks {chunk:?}");
    let is_relayed = asked.reach == Reach::Relayed;
    let is_orphan = |chunk: &ChunkIndex| direct_copies(download, *chunk) == 0;
    assert!(!is_relayed || is_orphan(chunk) && requests == 1, "relayed");
    let wanted = chunks(download).filter(|other| is_wanted(download, *other));
    let wanted = wanted.filter(|other| !is_relayed || is_orphan(other));
    if download.is_sequential() {
        // What is read soon comes first, and is copied where it would come late.
    } else if requests == 2 {
        let mut holders = wanted.map(|other| holders(download, other));
        assert!(holders.all(|holders| holders == 0), "copied too early");
    } else {
        let others = wanted.filter(|other| asked.holds.contains(*other));
        let mut others: Box<dyn Iterator<Item = ChunkIndex>> = Box::new(others);
        let rarest = copies(download, *chunk);
        // What others get from a seed may be left to them.
        let is_left = |other| asked.is_seed() && is_coming(download, other);
        if download.is_first(*chunk) {
            others = Box::new(others.filter(|other| download.is_first(*other)));
        } else {
            let first = chunks(download).filter(|it| download.is_first(*it));
            let mut first = first.filter(|it| is_wanted(download, *it));
            let may_ask = |it: &ChunkIndex| !is_relayed || is_orphan(it);
            let skipped = first.find(|it| asked.holds.contains(*it) && may_ask(it));
            assert_eq!(skipped, None, "comes first");
        }
        assert!(
            others.all(|other| copies(download, other) >= rarest || is_left(other)),
            "not the rarest"
        );
    }
}

/// Panics unless a chunk may be asked of a peer that has suggested it.
fn check_suggested(download: &Download, peer: &PublicKey, chunk: ChunkIndex) {
    assert!(download.selects(chunk), "{chunk:?} is not selected");
    let requests = download.in_flight[&chunk].len();
    assert!((1..=2).contains(&requests), "{requests} for {chunk:?}");
    let asked = &download.peers[peer];
    assert!(will_have(asked, chunk), "{peer} lacks {chunk:?}");
}

fn check_chunk(download: &Download, chunk: ChunkIndex) {
    let rarity = &download.rarity;
    assert_eq!(rarity.copies(chunk.value()), copies(download, chunk));
    let who = i64::from(download.holders.of(chunk.value()));
    assert_eq!(who, holders(download, chunk));
    let wanted = download.holders.is_wanted(chunk.value());
    assert_eq!(wanted, is_wanted(download, chunk));
    let direct = download.direct.copies(chunk.value());
    assert_eq!(direct, direct_copies(download, chunk));
    let has = download.have.contains(chunk);
    let missing = !has && download.selects(chunk);
    assert_eq!(download.missing.contains(chunk.value() as usize), missing);
    let in_flight = download.in_flight.contains_key(&chunk);
    let is_left_out = !has && !missing;
    let states = [has, in_flight, is_wanted(download, chunk), is_left_out];
    assert_eq!(
        states.iter().filter(|is| **is).count(),
        1,
        "{chunk:?}: {states:?}"
    );
    let Some(level) = rarity.wanted_level(chunk.value()) else {
        return;
    };
    assert!(download.direct.wanted_level(chunk.value()).is_some());
    // Of a seed, what others have or get may be hidden for a while.
    let may_ask = |peer: &&Peer| match peer.reach {
        Reach::Direct => !peer.is_seed(),
        Reach::Relayed => direct == 0,
    };
    let holders = download.peers.values().filter(may_ask);
    for peer in holders.filter(|peer| peer.holds.contains(chunk)) {
        assert!(
            peer.floor <= level,
            "{chunk:?} is below the floor of {peer:?}"
        );
    }
}

/// Whether a chunk that only those have who have everything is on its way to somebody.
fn is_coming(download: &Download, chunk: ChunkIndex) -> bool {
    let mut peers = download.peers.values();
    let is_spread = peers.any(|peer| !peer.is_seed() && peer.holds.contains(chunk));
    !is_spread && copies(download, chunk) > holders(download, chunk)
}

fn check_peers(download: &Download) {
    let seeds = download.peers.values().filter(|peer| peer.is_seed());
    assert_eq!(download.seeds as usize, seeds.count());
    for chunk in chunks(download) {
        let leeches = download.peers.values().filter(|peer| !peer.is_seed());
        let has = leeches.filter(|peer| peer.holds.contains(chunk)).count() > 0;
        assert_eq!(download.spread.contains(chunk.value() as usize), has);
    }
    for (key, peer) in &download.peers {
        assert!(!download.banned.contains(key));
        assert_eq!(peer.is_counted, peer.is_at_hand());
        let useful = chunks(download)
            .filter(|chunk| peer.holds.contains(*chunk) && !download.have.contains(*chunk))
            .filter(|chunk| download.selects(*chunk));
        assert_eq!(peer.useful as usize, useful.count());
        assert!(peer.shunned().all(|chunk| !peer.holds.contains(chunk)));
        let both = chunks(download)
            .filter(|chunk| peer.holds.contains(*chunk) && peer.started.contains(*chunk));
        assert_eq!(both.count(), 0, "had and on the way");
        for (id, request) in peer.requests() {
            assert_eq!(download.owners.get(&id), Some(key));
            assert!(download.in_flight[&request.chunk].contains(&id));
        }
    }
}

fn check_requests(download: &Download) {
    let peers = download.peers.values();
    let lens: Vec<u64> = peers
        .flat_map(|peer| peer.requests().map(|(_, request)| request.len.into()))
        .collect();
    assert_eq!(download.outstanding_bytes(), lens.iter().sum::<u64>());
    assert_eq!(download.owners.len(), lens.len());
    let in_flight = download.in_flight.values().map(Vec::len);
    assert_eq!(in_flight.sum::<usize>(), lens.len());
}

fn chunks(download: &Download) -> impl Iterator<Item = ChunkIndex> {
    (0..download.have.len()).filter_map(|chunk| download.have.index(chunk))
}

fn is_wanted(download: &Download, chunk: ChunkIndex) -> bool {
    download.rarity.wanted_level(chunk.value()).is_some()
}

fn holders(download: &Download, chunk: ChunkIndex) -> i64 {
    let peers = download.peers.values();
    peers.filter(|peer| peer.holds.contains(chunk)).count() as i64
}

fn copies(download: &Download, chunk: ChunkIndex) -> i64 {
    let peers = download.peers.values();
    peers.filter(|peer| will_have(peer, chunk)).count() as i64
}

fn direct_copies(download: &Download, chunk: ChunkIndex) -> i64 {
    let counted = download.peers.values().filter(|peer| peer.is_counted);
    counted.filter(|peer| will_have(peer, chunk)).count() as i64
}

fn will_have(peer: &Peer, chunk: ChunkIndex) -> bool {
    peer.holds.contains(chunk) || peer.started.contains(chunk)
}
