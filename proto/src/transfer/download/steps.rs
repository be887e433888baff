//! What a download does at each single event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Reach;
use super::simulation::{CHUNK_BYTES, chunks, key, share};
use super::{Action, Download, Event, RequestId, consistency};
use crate::content::{ChunkSet, Content, HashList, Run, ShareName, tree};
use crate::id::PublicKey;
use crate::limits;
use crate::wire::NoReason;

#[test]
fn the_rarest_chunks_come_first() {
    // Peer n has the chunks from 10 n on, so the first are rarest.
    let mut steps = Steps::new(&chunks(40));
    for n in 0..4 {
        steps.join(n, &[(10 * u32::from(n), 40 - 10 * u32::from(n))]);
    }
    let asked = steps.poll();
    let first: Vec<u32> = asked
        .iter()
        .filter(|asked| asked.peer == key(0))
        .map(|asked| asked.chunk)
        .collect();
    assert!(
        first.len() > 3 && first[..first.len().min(10)].iter().all(|chunk| *chunk < 10),
        "{first:?}"
    );
    let last: BTreeSet<u32> = asked
        .iter()
        .filter(|asked| asked.peer == key(3))
        .map(|asked| asked.chunk)
        .collect();
    assert!(last.len() > 3 && last.iter().all(|chunk| *chunk >= 30));
}

#[test]
fn a_peer_with_everything_changes_no_order() {
    let asked = |seeds: u8| {
        let mut steps = Steps::new(&chunks(400));
        steps.join(1, &[(0, 400)]);
        steps.join(2, &[(0, 399)]);
        (0..seeds).for_each(|n| steps.join(10 + n, &[(0, 400)]));
        let first = steps.poll();
        first[0].chunk
    };
    assert_eq!([asked(0), asked(1), asked(5)], [399; 3]);
}

#[test]
fn equally_rare_chunks_come_in_another_order_for_every_seed() {
    let order = |seed| {
        let mut steps = Steps::with_seed(&chunks(500), seed);
        steps.join(1, &[(0, 500)]);
        steps
            .poll()
            .iter()
            .map(|asked| asked.chunk)
            .collect::<Vec<_>>()
    };
    assert_ne!(order(1), order(2));
    let spread: BTreeSet<u32> = order(1).iter().map(|chunk| chunk / 100).collect();
    assert!(spread.len() > 2, "{spread:?}");
}

#[test]
fn millions_of_chunks_are_no_burden() {
    // 32 TiB in chunks of 16 MiB, and a leech whose chunks are more common than most.
    let content = share(u64::from(limits::CHUNKS) * (16 << 20));
    let mut steps = Steps::new(&content);
    let count = content.layout.chunk_count();
    assert_eq!(count, limits::CHUNKS);
    (1..4).for_each(|n| steps.join(n, &[(0, count)]));
    steps.join(4, &[(count / 2, 100), (count - 100_000, 100_000)]);
    steps.handle(Event::Budget { bytes: u64::MAX });
    let mut verified = 0;
    while verified < 10_000 {
        let asked = steps.poll();
        assert!(!asked.is_empty());
        for asked in asked {
            steps.verify(&asked);
            verified += 1;
        }
    }
    assert_eq!(steps.download.have().count(), verified);
    consistency_of_counts(&steps.download);
}

#[test]
fn one_chunk_may_always_be_outstanding_unless_paused() {
    let mut steps = Steps::new(&chunks(10));
    steps.handle(Event::Budget { bytes: 0 });
    steps.join(1, &[(0, 10)]);
    assert!(steps.poll().is_empty());
    steps.handle(Event::Budget { bytes: 1 });
    let first = steps.poll();
    assert_eq!(first.len(), 1);
    assert_eq!(steps.download.outstanding_bytes(), u64::from(first[0].len));
    steps.handle(Event::Budget { bytes: 0 });
    steps.verify(&first[0]);
    assert!(steps.poll().is_empty());
    assert_eq!(
        (
            steps.download.outstanding_bytes(),
            steps.download.have().count()
        ),
        (0, 1)
    );
}

#[test]
fn no_peer_takes_the_whole_budget_while_others_have_something() {
    let mut steps = Steps::new(&chunks(100));
    steps.handle(Event::Budget {
        bytes: 8 * u64::from(CHUNK_BYTES),
    });
    (1..=3).for_each(|n| steps.join(n, &[(0, 100)]));
    // One is much faster, and would take all of it.
    let mut per_peer = BTreeMap::new();
    for asked in steps.poll() {
        *per_peer.entry(asked.peer).or_insert(0) += 1;
    }
    assert_eq!(per_peer.len(), 3);
    assert_eq!(per_peer.values().sum::<u32>(), 8);
}

#[test]
fn who_leaves_takes_its_requests_along_and_others_are_asked() {
    let mut steps = Steps::new(&chunks(4));
    steps.join(1, &[(0, 4)]);
    let asked = steps.poll();
    assert_eq!(asked.len(), 4);
    steps.handle(Event::PeerLeft { peer: key(1) });
    assert_eq!(steps.actions(), []);
    assert_eq!(
        (
            steps.download.outstanding_bytes(),
            steps.download.has_source()
        ),
        (0, false)
    );
    asked.iter().for_each(|asked| steps.verify(asked));
    assert_eq!(steps.download.have().count(), 0, "late events are ignored");
    steps.join(2, &[(0, 4)]);
    assert_eq!(steps.poll().len(), 4);
}

#[test]
fn joining_twice_is_leaving_and_joining() {
    let mut steps = Steps::new(&chunks(4));
    steps.join(1, &[(0, 4)]);
    assert_eq!(steps.poll().len(), 4);
    steps.join(1, &[(0, 1)]);
    assert_eq!(steps.poll().len(), 1);
}

#[test]
fn what_others_say_is_on_its_way_to_them_is_asked_for_in_the_end() {
    // One peer has all, one has a few chunks, and says that it will get all others: it never does.
    let mut steps = Steps::new(&chunks(40));
    steps.join(1, &[(0, 40)]);
    steps.join(2, &[(30, 10)]);
    let runs = vec![Run {
        start: 0,
        count: 30,
    }];
    let peer = key(2);
    steps.handle(Event::Started { peer, runs });
    for _ in 0..200 {
        let asked = steps.poll();
        asked.iter().for_each(|asked| steps.verify(asked));
        if steps.download.is_complete() {
            return;
        }
        if asked.is_empty() {
            steps.sleep();
        }
    }
    panic!("{} chunks came", steps.download.have().count());
}

#[test]
fn a_busy_peer_is_left_alone_ever_longer_until_it_serves() {
    let mut steps = Steps::new(&chunks(1));
    steps.join(1, &[(0, 1)]);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let id = steps.poll()[0].id;
        steps.refuse(id, NoReason::Busy);
        assert!(steps.poll().is_empty());
        pauses.push(steps.sleep());
    }
    assert!(pauses[0] < Duration::from_millis(320));
    assert!(
        pauses[..6].windows(2).all(|pair| pair[0] < pair[1]),
        "{pauses:?}"
    );
    assert!(pauses[7] > Duration::from_secs(10) && pauses[7] <= Duration::from_secs(20));
    let asked = steps.poll()[0];
    steps.verify(&asked);
    let runs = vec![Run { start: 0, count: 1 }];
    steps.handle(Event::Forgotten { runs });
    let id = steps.poll()[0].id;
    steps.refuse(id, NoReason::Busy);
    assert!(steps.poll().is_empty());
    assert!(steps.sleep() < Duration::from_millis(320));
}

#[test]
fn who_does_not_have_it_is_not_asked_for_it_again() {
    let mut steps = Steps::new(&chunks(2));
    steps.join(1, &[(0, 2)]);
    let asked = steps.poll();
    steps.refuse(asked[0].id, NoReason::NotHere);
    assert!(steps.poll().is_empty() && steps.download.has_source());
    steps.refuse(asked[1].id, NoReason::Changed);
    assert!(steps.poll().is_empty() && !steps.download.has_source());
    let runs = vec![Run {
        start: asked[0].chunk,
        count: 1,
    }];
    steps.handle(Event::Has { peer: key(1), runs });
    assert_eq!(
        steps.poll()[0].chunk,
        asked[0].chunk,
        "unless it says so anew"
    );
}

#[test]
fn after_a_broken_stream_the_chunk_is_asked_for_again() {
    let mut steps = Steps::new(&chunks(1));
    steps.join(1, &[(0, 1)]);
    let request = steps.poll()[0].id;
    steps.handle(Event::Failed { request });
    assert!(steps.poll().is_empty());
    assert!(steps.sleep() < Duration::from_secs(1));
    assert!(steps.poll()[0].id > request);
}

#[test]
fn a_ban_cancels_the_other_requests_first() {
    let mut steps = Steps::new(&chunks(3));
    steps.join(1, &[(0, 3)]);
    let asked = steps.poll();
    steps.handle(Event::Corrupt {
        request: asked[1].id,
    });
    let cancel = |n: usize| Action::Cancel {
        request: asked[n].id,
    };
    let expected = [cancel(0), cancel(2), Action::Ban { peer: key(1) }];
    assert_eq!(steps.actions(), expected);
    steps.join(1, &[(0, 3)]);
    assert!(steps.poll().is_empty() && !steps.download.has_source());
}

#[test]
fn what_stalls_is_asked_elsewhere_until_nobody_else_has_it() {
    let mut steps = Steps::new(&chunks(1));
    steps.join(1, &[(0, 1)]);
    let request = steps.poll()[0].id;
    steps.join(2, &[(0, 1)]);
    assert_eq!(steps.actions(), [], "an unknown peer is no better yet");
    steps.now += Duration::from_secs(10);
    let actions = steps.actions();
    let [
        cancel,
        Action::Request {
            request: copy,
            peer,
            ..
        },
    ] = actions[..]
    else {
        panic!("{actions:?}");
    };
    assert_eq!((cancel, peer), (Action::Cancel { request }, key(2)));
    // The first has paused long enough, and yet the second is waited for.
    let mut copy = copy;
    for _ in 0..6 {
        steps.refuse(copy, NoReason::Busy);
        copy = loop {
            match steps.poll()[..] {
                [asked] => break asked.id,
                _ => steps.sleep(),
            };
        };
        assert_eq!(steps.download.owners[&copy], key(2));
    }
    steps.handle(Event::PeerLeft { peer: key(2) });
    assert_eq!(steps.poll()[0].peer, key(1));
}

#[test]
fn a_stall_is_forgiven_after_a_minute() {
    let mut steps = Steps::new(&chunks(1));
    steps.join(1, &[(0, 1)]);
    steps.poll();
    steps.join(2, &[(0, 1)]);
    steps.now += Duration::from_secs(10);
    assert_eq!(steps.actions().len(), 2);
    steps.handle(Event::Budget { bytes: 0 });
    let request = *steps.download.owners.keys().next().unwrap();
    steps.handle(Event::Failed { request });
    steps.now += Duration::from_secs(61);
    assert!(steps.poll().is_empty());
    steps.handle(Event::Budget { bytes: 1 });
    let mut asked = BTreeSet::new();
    while let [request] = steps.poll()[..] {
        asked.insert(request.peer);
        steps.refuse(request.id, NoReason::Busy);
    }
    assert_eq!(asked, BTreeSet::from([key(1), key(2)]));
}

#[test]
fn only_the_oldest_request_stalls_while_later_ones_move() {
    let mut steps = Steps::new(&chunks(3));
    steps.join(1, &[(0, 3)]);
    let asked = steps.poll();
    steps.now += Duration::from_secs(9);
    steps.handle(Event::Received {
        request: asked[1].id,
        bytes: 1,
    });
    assert_eq!(steps.actions(), []);
    steps.now += Duration::from_secs(1);
    let request = asked[0].id;
    assert_eq!(steps.actions(), [Action::Cancel { request }]);
    steps.now += Duration::from_secs(10);
    let others = asked[1..].iter().map(|asked| asked.id);
    let actions = steps.actions();
    for request in others {
        assert!(
            actions.contains(&Action::Cancel { request }),
            "nothing came for 10 s"
        );
    }
}

#[test]
fn what_does_not_come_is_copied_unless_copies_have_cost_too_much() {
    let mut steps = Steps::new(&chunks(1));
    steps.join(1, &[(0, 1)]);
    let mut copies = 0;
    for _ in 0..8 {
        let Asked { id, len, .. } = steps.poll()[0];
        steps.handle(Event::Received {
            request: id,
            bytes: len - 1,
        });
        steps.join(2, &[(0, 1)]);
        // The last byte is soon there, unless it does not come.
        assert!(steps.poll().is_empty());
        let copy = (0..50).find_map(|_| {
            steps.now += Duration::from_millis(100);
            steps.poll().pop()
        });
        let request = copy.map_or(id, |copy| copy.id);
        steps.handle(Event::Verified { request });
        let late = copy.map(|_| Action::Cancel { request: id });
        assert_eq!(steps.actions(), late.into_iter().collect::<Vec<_>>());
        copies += u32::from(copy.is_some());
        steps.handle(Event::PeerLeft { peer: key(2) });
        let runs = vec![Run { start: 0, count: 1 }];
        steps.handle(Event::Forgotten { runs });
    }
    assert_eq!(
        copies, 5,
        "four chunks are lost for the share, and the one that shows it"
    );
}

#[test]
fn progress_keeps_a_slow_request_alive_and_those_behind_it() {
    let mut steps = Steps::new(&chunks(3));
    steps.join(1, &[(0, 3)]);
    let asked = steps.poll();
    for request in asked.iter().map(|asked| asked.id) {
        for _ in 0..4 {
            steps.now += Duration::from_secs(9);
            steps.handle(Event::Received {
                request,
                bytes: 10_000,
            });
            assert_eq!(steps.actions(), []);
        }
        steps.handle(Event::Verified { request });
    }
    assert!(steps.download.is_complete());
}

#[test]
fn what_has_arrived_does_not_stall_while_it_is_verified() {
    let mut steps = Steps::new(&chunks(1));
    steps.join(1, &[(0, 1)]);
    let Asked { id, len, .. } = steps.poll()[0];
    steps.handle(Event::Received {
        request: id,
        bytes: len,
    });
    steps.now += Duration::from_secs(60);
    assert_eq!((steps.actions(), steps.download.deadline()), (vec![], None));
    steps.handle(Event::Verified { request: id });
    assert!(steps.download.is_complete() && steps.download.verified_bytes() == u64::from(len));
}

#[test]
fn what_is_lost_is_fetched_again() {
    let content = chunks(3);
    let len = content.layout.chunk_count();
    let mut download = Download::new(content.clone(), ChunkSet::full(len), 1);
    assert!(download.is_complete() && download.verified_bytes() == content.size);
    let now = Instant::now();
    let runs = vec![
        Run { start: 1, count: 1 },
        Run {
            start: 2,
            count: u32::MAX,
        },
    ];
    download.handle(now, Event::Forgotten { runs }).unwrap();
    assert!(!download.is_complete() && download.verified_bytes() == u64::from(CHUNK_BYTES));
    let mut steps = Steps { download, now };
    steps.join(1, &[(0, 3)]);
    let asked: BTreeSet<u32> = steps.poll().iter().map(|asked| asked.chunk).collect();
    assert_eq!(asked, BTreeSet::from([1, 2]));
}

#[test]
fn news_out_of_range_is_refused_and_changes_nothing() {
    let mut steps = Steps::new(&chunks(3));
    steps.join(1, &[(0, 1)]);
    let (peer, runs) = (
        key(1),
        vec![Run { start: 1, count: 2 }, Run { start: 3, count: 1 }],
    );
    for event in [
        Event::Has {
            peer,
            runs: runs.clone(),
        },
        Event::Lacks {
            peer,
            runs: runs.clone(),
        },
    ] {
        let refused = steps.download.handle(steps.now, event);
        assert_eq!(refused.unwrap_err().run, runs[1]);
        consistency::check(&steps.download);
    }
    let stranger = Event::Has { peer: key(9), runs };
    assert!(steps.download.handle(steps.now, stranger).is_ok());
    assert_eq!(steps.poll().len(), 1);
}

#[test]
fn a_share_without_bytes_is_complete() {
    let content = share_without_bytes();
    let download = Download::new(content, ChunkSet::empty(0), 1);
    assert!(download.is_complete() && download.deadline().is_none());
}

fn share_without_bytes() -> Arc<Content> {
    let hashes: HashList = [tree::whole_hash(&[])].into_iter().collect();
    Arc::new(Content::file(ShareName::parse("empty").unwrap(), 0, hashes).unwrap())
}

/// Cheap enough for millions of chunks.
fn consistency_of_counts(download: &Download) {
    for peer in download.peers.values() {
        let useful = peer.holds.bits().intersection_count(&download.missing);
        assert_eq!(peer.useful as usize, useful);
    }
}

/// A request as yielded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) id: RequestId,
    pub(super) peer: PublicKey,
    pub(super) chunk: u32,
    len: u32,
}

/// A download driven by hand.
pub(super) struct Steps {
    pub(super) download: Download,
    pub(super) now: Instant,
}

impl Steps {
    pub(super) fn new(content: &Arc<Content>) -> Steps {
        Steps::with_seed(content, 1)
    }

    pub(super) fn with_seed(content: &Arc<Content>, seed: u64) -> Steps {
        let have = ChunkSet::empty(content.layout.chunk_count());
        let download = Download::new(content.clone(), have, seed);
        let now = Instant::now();
        Steps { download, now }
    }

    pub(super) fn handle(&mut self, event: Event) {
        self.download.handle(self.now, event).unwrap();
    }

    /// A peer 20 ms away with these runs.
    pub(super) fn join(&mut self, n: u8, runs: &[(u32, u32)]) {
        self.join_by(n, Reach::Direct, runs);
    }

    pub(super) fn join_by(&mut self, n: u8, reach: Reach, runs: &[(u32, u32)]) {
        let (peer, rtt) = (key(n), Duration::from_millis(20));
        self.handle(Event::PeerJoined { peer, rtt, reach });
        self.tell(n, runs);
    }

    /// A peer says that it has these too.
    pub(super) fn tell(&mut self, n: u8, runs: &[(u32, u32)]) {
        let runs = runs.iter().map(|&(start, count)| Run { start, count });
        let (peer, runs) = (key(n), runs.collect());
        self.handle(Event::Has { peer, runs });
    }

    pub(super) fn verify(&mut self, asked: &Asked) {
        let request = asked.id;
        self.handle(Event::Verified { request });
    }

    pub(super) fn refuse(&mut self, request: RequestId, reason: NoReason) {
        self.handle(Event::Refused { request, reason });
    }

    pub(super) fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.download.poll(self.now)).collect()
    }

    /// All that is to do, which is requests alone.
    pub(super) fn poll(&mut self) -> Vec<Asked> {
        let asked = |action| match action {
            Action::Request {
                request,
                peer,
                chunk,
                len,
            } => Asked {
                id: request,
                peer,
                chunk: chunk.value(),
                len,
            },
            Action::Cancel { .. } | Action::Ban { .. } => panic!("{action:?}"),
        };
        self.actions().into_iter().map(asked).collect()
    }

    /// Waits for the deadline and returns how long that was.
    pub(super) fn sleep(&mut self) -> Duration {
        let slept = self.download.deadline().unwrap() - self.now;
        self.now += slept;
        slept
    }
}
