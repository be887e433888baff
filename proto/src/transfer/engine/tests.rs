//! What the engine decides at single events, and what holds for any.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::download::simulation::{CHUNK_BYTES, chunks, key};
use super::super::selection::tests::of_chunks;
use super::super::{Priority, Reach};
use super::slots;
use super::*;
use crate::content::{Layout, Run, ShareName};
use crate::transfer;

const SWARM: SwarmId = SwarmId([1; 32]);
const OTHER: SwarmId = SwarmId([2; 32]);
const RTT: Duration = Duration::from_millis(40);

struct Steps {
    engine: Engine,
    now: Instant,
    uploads: u64,
    /// What each upload is of, and what is left of it.
    asked: BTreeMap<UploadId, (SwarmId, u32)>,
    sending: BTreeSet<UploadId>,
}

impl Steps {
    /// An engine with a share of so many chunks, of which it has all or none.
    fn new(count: u32, has_all: bool) -> Steps {
        let now = Instant::now();
        let engine = Engine::new(now, 7);
        let mut steps = Steps {
            engine,
            now,
            uploads: 0,
            asked: BTreeMap::new(),
            sending: BTreeSet::new(),
        };
        steps.open(SWARM, count, has_all);
        steps
    }

    fn open(&mut self, swarm: SwarmId, count: u32, has_all: bool) {
        let content = chunks(count);
        let have = if has_all {
            ChunkSet::full(count)
        } else {
            ChunkSet::empty(count)
        };
        self.tell(Event::Opened {
            swarm,
            content,
            have,
        });
    }

    fn tell(&mut self, event: Event) {
        self.engine.handle(self.now, event).unwrap();
    }

    fn share(&mut self, event: transfer::Event) {
        let swarm = SWARM;
        self.tell(Event::Share { swarm, event });
    }

    fn join(&mut self, n: u8) {
        let (peer, rtt, reach) = (key(n), RTT, Reach::Direct);
        self.share(transfer::Event::PeerJoined { peer, rtt, reach });
    }

    fn has(&mut self, n: u8, start: u32, count: u32) {
        let runs = vec![Run { start, count }];
        let peer = key(n);
        self.share(transfer::Event::Has { peer, runs });
    }

    /// A peer asks for a chunk.
    fn ask(&mut self, swarm: SwarmId, n: u8, chunk: u32) -> UploadId {
        self.ask_for(swarm, n, chunk, CHUNK_BYTES)
    }

    /// A peer asks for so many bytes of a chunk.
    fn ask_for(&mut self, swarm: SwarmId, n: u8, chunk: u32, bytes: u32) -> UploadId {
        self.uploads += 1;
        let upload = UploadId(self.uploads);
        let content = chunks(1000);
        self.tell(Event::Asked {
            upload,
            swarm,
            peer: key(n),
            chunk: content.layout.chunk(chunk).unwrap(),
            bytes,
        });
        self.asked.insert(upload, (swarm, bytes));
        upload
    }

    /// All that is served shares the uplink, for so many steps. Bytes of the two shares that went out.
    fn share_uplink(&mut self, steps: u32) -> [u32; 2] {
        let mut given = [0; 2];
        for _ in 0..steps {
            self.wait(1);
            for upload in self.served() {
                self.sending.insert(upload);
            }
            let bytes = CHUNK_BYTES / 8;
            for upload in self.sending.clone() {
                let (swarm, left) = self.asked[&upload];
                given[usize::from(swarm == OTHER)] += bytes;
                self.tell(Event::Sent { upload, bytes });
                self.asked.insert(upload, (swarm, left - bytes));
                if left == bytes {
                    self.sending.remove(&upload);
                    self.tell(Event::UploadEnded { upload });
                }
            }
        }
        given
    }

    fn poll(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.engine.poll(self.now)).collect()
    }

    /// What is done about what peers have asked for.
    fn answers(&mut self) -> Vec<Action> {
        let is_answer = |action: &Action| {
            use Action::{Deny, PassOn, Refuse, Serve};
            matches!(
                action,
                Serve { .. } | Deny { .. } | Refuse { .. } | PassOn { .. }
            )
        };
        let actions = self.poll().into_iter();
        actions.filter(is_answer).collect()
    }

    fn served(&mut self) -> Vec<UploadId> {
        let actions = self.poll().into_iter();
        actions
            .filter_map(|action| match action {
                Action::Serve { upload } => Some(upload),
                _ => None,
            })
            .collect()
    }

    /// All of an upload goes out.
    fn send(&mut self, upload: UploadId) {
        let bytes = CHUNK_BYTES;
        self.tell(Event::Sent { upload, bytes });
        self.tell(Event::UploadEnded { upload });
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }
}

fn suggestions(actions: &[Action]) -> BTreeMap<PublicKey, BTreeSet<u32>> {
    let mut suggested: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
    for action in actions {
        if let Action::Suggest { peer, runs, .. } = action {
            let chunks = runs.iter().flat_map(|run| run.start..run.start + run.count);
            suggested.entry(*peer).or_default().extend(chunks);
        }
    }
    suggested
}

#[test]
fn who_has_all_that_it_wants_suggests_only_what_it_has() {
    let mut steps = Steps::new(40, false);
    let (swarm, content, mut have) = (SWARM, chunks(40), ChunkSet::empty(40));
    have.insert(content.layout.chunk(0).unwrap());
    let only = |chunk: u32| match chunk {
        0 => Priority::Normal,
        _ => Priority::Skip,
    };
    let selection = of_chunks(&content.layout, transfer::Order::RarestFirst, only).into();
    steps.tell(Event::Opened {
        swarm,
        content,
        have,
    });
    steps.share(transfer::Event::Selected { selection });
    (1..4).for_each(|n| steps.join(n));
    steps.has(3, 0, 40);
    let mut told = Vec::new();
    for _ in 0..200 {
        told.extend(steps.poll());
        steps.wait(50);
    }
    for action in told {
        match action {
            Action::Suggest { runs, .. } => assert_eq!(runs, [Run { start: 0, count: 1 }]),
            Action::Announce { news, .. } => assert_eq!(news.supplied, None),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_seed_suggests_every_chunk_once() {
    let mut steps = Steps::new(200, true);
    (0..4).for_each(|n| steps.join(n));
    let mut seen = BTreeSet::new();
    let mut actions = steps.poll();
    while !suggestions(&actions).is_empty() {
        // All ask for what was suggested to them, and get it.
        for (peer, chunks) in suggestions(&std::mem::take(&mut actions)) {
            assert!(seen.is_disjoint(&chunks), "{peer} is told what others were");
            seen.extend(&chunks);
            for chunk in chunks {
                let upload = steps.ask(SWARM, peer.0[0], chunk);
                actions.extend(steps.poll());
                steps.send(upload);
                steps.has(peer.0[0], chunk, 1);
            }
        }
        actions.extend(steps.poll());
    }
    assert_eq!(seen.len(), 200);
}

#[test]
fn what_was_suggested_to_who_left_is_suggested_to_another() {
    let mut steps = Steps::new(8, true);
    steps.join(1);
    let first = suggestions(&steps.poll());
    assert_eq!(first[&key(1)].len(), 8);
    steps.join(2);
    assert!(suggestions(&steps.poll()).is_empty(), "nothing is left");
    steps.share(transfer::Event::PeerLeft { peer: key(1) });
    steps.has(2, 0, 1);
    let then = suggestions(&steps.poll());
    assert_eq!(then[&key(2)], (1..8).collect(), "what nobody has");
}

#[test]
fn a_leech_asks_first_for_what_was_suggested() {
    let mut steps = Steps::new(200, false);
    steps.join(1);
    steps.has(1, 0, 200);
    let runs = vec![Run {
        start: 120,
        count: 3,
    }];
    let peer = key(1);
    steps.share(transfer::Event::Suggested { peer, runs });
    let asked = steps.poll().into_iter().filter_map(|action| match action {
        Action::Share {
            action: transfer::Action::Request { chunk, .. },
            ..
        } => Some(chunk.value()),
        _ => None,
    });
    let asked: Vec<_> = asked.collect();
    assert_eq!(asked[..3], [120, 121, 122]);
    assert!(asked.len() > 3, "and then for others");
}

#[test]
fn chunks_on_their_way_to_others_are_asked_for_last() {
    let mut steps = Steps::new(40, false);
    (1..=2).for_each(|n| steps.join(n));
    steps.has(1, 0, 40);
    let runs = vec![Run {
        start: 0,
        count: 30,
    }];
    let peer = key(2);
    steps.share(transfer::Event::Started { peer, runs });
    let actions = steps.poll();
    let asked = actions.iter().filter_map(|action| match action {
        Action::Share {
            action: transfer::Action::Request { chunk, .. },
            ..
        } => Some(chunk.value()),
        _ => None,
    });
    let asked: Vec<_> = asked.take(10).collect();
    assert!(asked.iter().all(|chunk| *chunk >= 30), "{asked:?}");
}

#[test]
fn news_goes_out_at_once_and_then_together() {
    let mut steps = Steps::new(4, false);
    steps.join(1);
    steps.has(1, 0, 4);
    let all = Run { start: 0, count: 4 };
    let told = |actions: Vec<Action>| {
        let mut news = actions.into_iter().filter_map(|action| match action {
            Action::Announce { news, .. } => Some(news),
            _ => None,
        });
        (news.next(), news.next())
    };
    let (news, more) = told(steps.poll());
    assert_eq!((news.unwrap().started, more), (vec![all], None));
    let requests: Vec<_> = (0..4).map(transfer::RequestId).collect();
    for request in requests {
        steps.share(transfer::Event::Verified { request });
    }
    assert_eq!(told(steps.poll()), (None, None), "it is too soon");
    steps.now = steps.engine.deadline().unwrap();
    assert_eq!(told(steps.poll()).0.unwrap().have, vec![all]);
}

#[test]
fn nothing_is_due_once_there_is_nobody_to_tell() {
    let mut steps = Steps::new(4, false);
    (1..=2).for_each(|n| steps.join(n));
    steps.has(1, 0, 4);
    steps.poll();
    // Nobody has all that is lacking any more, which would be told in a moment.
    steps.share(transfer::Event::PeerLeft { peer: key(1) });
    steps.poll();
    assert!(steps.engine.deadline().is_some());
    steps.share(transfer::Event::PeerLeft { peer: key(2) });
    for _ in 0..10 {
        steps.wait(1000);
        steps.poll();
        let due = steps.engine.deadline();
        assert!(due.is_none_or(|due| due > steps.now), "it would spin");
    }
}

#[test]
fn few_are_served_at_once_the_neediest_and_who_has_waited_longest() {
    let mut steps = Steps::new(100, true);
    (1..=4).for_each(|n| steps.join(n));
    steps.has(1, 0, 50);
    steps.has(2, 0, 60);
    steps.has(3, 0, 10);
    steps.has(4, 0, 20);
    let uploads: Vec<_> = (1..=4).map(|n| steps.ask(SWARM, n, 99)).collect();
    assert_eq!(steps.served(), [uploads[2], uploads[0]]);
    assert_eq!(slots::MIN, 2);
    steps.send(uploads[2]);
    assert_eq!(steps.served(), [uploads[3]]);
    steps.tell(Event::UploadEnded { upload: uploads[1] });
    steps.send(uploads[3]);
    assert_eq!(steps.served(), [], "the last has given up");
}

#[test]
fn one_peer_is_served_in_the_order_in_which_it_asked() {
    let mut steps = Steps::new(100, true);
    steps.join(1);
    let uploads: Vec<_> = (0..5).map(|chunk| steps.ask(SWARM, 1, chunk)).collect();
    for upload in uploads {
        assert_eq!(steps.served(), [upload]);
        steps.send(upload);
    }
}

#[test]
fn shares_give_as_many_bytes_whatever_the_size_of_their_chunks_and_who_asks() {
    let mut steps = Steps::new(1000, true);
    steps.open(OTHER, 1000, true);
    let small = CHUNK_BYTES / 8;
    for chunk in 0..200 {
        for n in 1..=3 {
            steps.ask(SWARM, n, chunk);
        }
        for n in 4..=5 {
            steps.ask_for(OTHER, n, chunk, small);
        }
    }
    let given = steps.share_uplink(250);
    assert!(
        given[1] * 10 >= given[0] * 9 && given[0] * 10 >= given[1] * 9,
        "{given:?}"
    );
}

#[test]
fn a_share_with_a_limit_of_its_own_takes_no_places_of_others() {
    let mut steps = Steps::new(1000, true);
    steps.open(OTHER, 1000, true);
    let swarm = OTHER;
    let first: Vec<_> = (1..=2).map(|n| steps.ask(OTHER, n, 1)).collect();
    assert_eq!(steps.served(), first);
    let waits = steps.ask(SWARM, 1, 1);
    assert_eq!(steps.served(), []);
    steps.tell(Event::Limited {
        swarm,
        is_limited: true,
    });
    assert_eq!(steps.served(), [waits]);
    // And back: the places it takes count again.
    steps.tell(Event::Limited {
        swarm,
        is_limited: false,
    });
    steps.send(waits);
    steps.ask(SWARM, 1, 2);
    assert_eq!(steps.served(), []);
    steps.send(first[0]);
    assert_eq!(steps.served().len(), 1);
}

#[test]
fn who_asks_for_too_much_or_for_nothing_we_know_is_refused() {
    let mut steps = Steps::new(100, true);
    let upload = steps.ask(OTHER, 1, 0);
    assert_eq!(steps.poll(), [Action::Refuse { upload }]);
    let refused = (0..300).filter(|_| {
        steps.ask(SWARM, 1, 1);
        let actions = steps.poll();
        actions.iter().any(|it| matches!(it, Action::Refuse { .. }))
    });
    assert_eq!(refused.count(), 300 - 257, "one is served, 256 wait");
}

#[test]
fn who_takes_no_heed_of_suggestions_gets_no_more() {
    let mut steps = Steps::new(100, true);
    steps.join(1);
    let count = |steps: &mut Steps| suggestions(&steps.poll()).len();
    assert_eq!(count(&mut steps), 1);
    for _ in 0..10 {
        steps.wait(3000);
        steps.has(1, 0, 1);
        assert_eq!(count(&mut steps), 0);
    }
    steps.ask(SWARM, 1, 50);
    assert_eq!(count(&mut steps), 1);
}

#[test]
fn who_waits_comes_before_who_was_just_served() {
    let mut steps = Steps::new(100, true);
    (1..=3).for_each(|n| steps.join(n));
    let first = [1, 2].map(|n| steps.ask(SWARM, n, n.into()));
    assert_eq!(steps.served(), first);
    let waiting = steps.ask(SWARM, 3, 3);
    let more = steps.ask(SWARM, 1, 4);
    assert_eq!(steps.served(), []);
    let bytes = CHUNK_BYTES - 1;
    for (upload, next) in first.into_iter().zip([waiting, more]) {
        steps.tell(Event::Sent { upload, bytes });
        assert_eq!(steps.served(), [next], "before the last is quite out");
    }
}

#[test]
fn what_is_rare_is_served_before_what_others_have() {
    let mut steps = Steps::new(100, true);
    (1..=5).for_each(|n| steps.join(n));
    let first = [1, 2].map(|n| steps.ask(SWARM, n, n.into()));
    assert_eq!(steps.served(), first);
    steps.has(5, 7, 1);
    let common = steps.ask(SWARM, 3, 7);
    let rare = steps.ask(SWARM, 4, 8);
    steps.send(first[1]);
    assert_eq!(steps.served(), [rare]);
    steps.send(rare);
    assert_eq!(steps.served(), [common]);
}

#[test]
fn who_has_room_invites_another_to_what_that_lacks_and_leaves_alone_who_takes_no_heed() {
    let mut steps = Steps::new(10, false);
    steps.join(1);
    steps.has(1, 0, 1);
    steps.poll();
    let swarm = SWARM;
    let have = ChunkSet::full(10);
    let mut some = ChunkSet::empty(10);
    for chunk in 0..5 {
        some.insert(have.index(chunk).unwrap());
    }
    let content = chunks(10);
    steps.tell(Event::Opened {
        swarm,
        content,
        have: some,
    });
    steps.join(1);
    steps.has(1, 0, 4);
    let invited = |steps: &mut Steps| suggestions(&steps.poll()).remove(&key(1));
    steps.wait(20);
    assert_eq!(invited(&mut steps), Some(BTreeSet::from([4])));
    assert_eq!(invited(&mut steps), None, "one at a time");
    let mut invitations = 0;
    for _ in 0..50 {
        steps.wait(200);
        steps.has(1, 0, 4);
        invitations += usize::from(invited(&mut steps).is_some());
    }
    assert!(
        (2..8).contains(&invitations),
        "{invitations} in ten seconds"
    );
    let upload = steps.ask(SWARM, 1, 4);
    assert_eq!(steps.served(), [upload]);
    steps.has(1, 4, 1);
    steps.send(upload);
    steps.wait(5000);
    assert_eq!(invited(&mut steps), None, "it has everything of ours");
}

#[derive(Clone, Debug)]
enum Op {
    Ask(u8, bool),
    Sent(u64, u32),
    End(u64),
    Join(u8),
    Has(u8, u32),
    Leave(u8),
    Close(bool),
    Open(bool, bool),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..6u8, any::<bool>()).prop_map(|(n, other)| Op::Ask(n, other)),
        3 => (0..40u64, 0..200_000u32).prop_map(|(id, bytes)| Op::Sent(id, bytes)),
        3 => (0..40u64).prop_map(Op::End),
        1 => (0..6u8).prop_map(Op::Join),
        2 => (0..6u8, 0..8u32).prop_map(|(n, chunk)| Op::Has(n, chunk)),
        1 => (0..6u8).prop_map(Op::Leave),
        1 => any::<bool>().prop_map(Op::Close),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(other, all)| Op::Open(other, all)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_upload_is_served_or_refused_once_or_given_up(
        ops in prop::collection::vec((any_op(), 0..400u64), 1..150),
    ) {
        let mut steps = Steps::new(100, true);
        let (mut asked, mut ended, mut told) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let swarm = |other| if other { OTHER } else { SWARM };
        for (op, millis) in ops {
            steps.wait(millis);
            match op {
                Op::Ask(n, other) => drop(asked.insert(steps.ask(swarm(other), n, 5))),
                Op::Sent(id, bytes) => steps.tell(Event::Sent { upload: UploadId(id), bytes }),
                Op::End(id) => {
                    let upload = UploadId(id);
                    ended.extend(asked.contains(&upload).then_some(upload));
                    steps.tell(Event::UploadEnded { upload });
                }
                Op::Join(n) => steps.join(n),
                Op::Has(n, start) => steps.has(n, start, 1),
                Op::Leave(n) => steps.share(transfer::Event::PeerLeft { peer: key(n) }),
                Op::Close(other) => steps.tell(Event::Closed { swarm: swarm(other) }),
                Op::Open(other, all) => steps.open(swarm(other), 100, all),
            }
            for action in steps.poll() {
                if let Some(upload) = answered(&action) {
                    prop_assert!(asked.contains(&upload) && told.insert(upload), "{upload}");
                }
            }
            prop_assert!(steps.engine.poll(steps.now).is_none());
            prop_assert!(steps.engine.deadline().is_none_or(|at| at > steps.now));
        }
        // Whoever goes on sending gets everything answered.
        for _ in 0..1000 {
            let open = told.difference(&ended).copied().collect::<Vec<_>>();
            open.into_iter().for_each(|upload| {
                steps.send(upload);
                ended.insert(upload);
            });
            steps.wait(10);
            told.extend(steps.answers().iter().filter_map(answered));
        }
        prop_assert!(asked.is_subset(&told.union(&ended).copied().collect()));
    }
}

/// The upload that an action answers.
fn answered(action: &Action) -> Option<UploadId> {
    match action {
        Action::Serve { upload } | Action::Refuse { upload } | Action::Deny { upload } => {
            Some(*upload)
        }
        _ => None,
    }
}

#[test]
fn who_asks_for_what_is_on_its_way_waits_for_it() {
    let mut steps = Steps::new(10, false);
    (1..=3).for_each(|n| steps.join(n));
    steps.has(1, 0, 1);
    let request = asked_of(1, &steps.poll());
    let first = steps.ask(SWARM, 2, 0);
    let second = steps.ask(SWARM, 3, 0);
    let given_up = steps.ask(SWARM, 3, 0);
    steps.tell(Event::UploadEnded { upload: given_up });
    let lacking = steps.ask(SWARM, 2, 1);
    let denied = |upload| Action::Deny { upload };
    assert_eq!(steps.answers(), [denied(lacking)]);
    steps.share(transfer::Event::Verified { request });
    let serve = |upload| Action::Serve { upload };
    assert_eq!(steps.answers(), [first, second].map(serve));
}

#[test]
fn who_waits_for_what_does_not_come_is_told() {
    let mut steps = Steps::new(10, false);
    (1..=2).for_each(|n| steps.join(n));
    steps.has(1, 0, 1);
    let request = asked_of(1, &steps.poll());
    let upload = steps.ask(SWARM, 2, 0);
    assert_eq!(steps.answers(), []);
    steps.share(transfer::Event::Withdrawn { request });
    assert_eq!(steps.answers(), [Action::Deny { upload }]);
    // It has been asked for again.
    let upload = steps.ask(SWARM, 2, 0);
    assert_eq!(steps.answers(), []);
    steps.tell(Event::Closed { swarm: SWARM });
    assert_eq!(steps.answers(), [Action::Deny { upload }]);
}

#[test]
fn who_waits_for_what_has_stopped_coming_is_sent_elsewhere() {
    let mut steps = Steps::new(10, false);
    (1..=2).for_each(|n| steps.join(n));
    steps.has(1, 0, 1);
    let request = asked_of(1, &steps.poll());
    let upload = steps.ask(SWARM, 2, 0);
    let (silence, bytes) = (Duration::from_millis(1500), 1);
    steps.now += silence - Duration::from_millis(1);
    steps.share(transfer::Event::Received { request, bytes });
    steps.now += silence - Duration::from_millis(1);
    assert_eq!(steps.answers(), []);
    let deadline = steps.engine.deadline().unwrap();
    assert!(deadline <= steps.now + Duration::from_millis(1));
    steps.now += Duration::from_millis(1);
    assert_eq!(steps.answers(), [Action::Deny { upload }]);
}

#[test]
fn a_chunk_of_several_grains_is_passed_on_while_it_comes() {
    let (swarm, mut steps) = (SWARM, Steps::new(1, false));
    let content = two_grains();
    let chunk = content.layout.chunk(0).unwrap();
    let bytes = content.layout.chunk_len(chunk);
    steps.tell(Event::Opened {
        swarm,
        have: ChunkSet::empty(content.layout.chunk_count()),
        content,
    });
    (1..=4).for_each(|n| steps.join(n));
    steps.has(1, 0, 1);
    let request = asked_of(1, &steps.poll());
    let early = steps.ask_for(SWARM, 2, 0, bytes);
    assert_eq!(steps.answers(), [Action::PassOn { swarm, request }]);
    steps.tell(Event::Passable { swarm, request });
    let serve = |upload| Action::Serve { upload };
    assert_eq!(steps.answers(), [serve(early)]);
    let later = steps.ask_for(SWARM, 3, 0, bytes);
    assert_eq!(steps.answers(), [serve(later)]);
    steps.share(transfer::Event::PeerLeft { peer: key(1) });
    let upload = steps.ask_for(SWARM, 4, 0, bytes);
    assert_eq!(steps.answers(), [Action::Deny { upload }]);
    // It has ended.
    steps.tell(Event::Passable { swarm, request });
    let upload = steps.ask_for(SWARM, 4, 0, bytes);
    assert_eq!(steps.answers(), [Action::Deny { upload }]);
}

/// A file whose chunks are two grains.
fn two_grains() -> Arc<Content> {
    let size = (128 << 20) + 1;
    let count = Layout::file(size).unwrap().hash_count();
    let hashes = (0..count).map(|_| [0; 32]).collect();
    let name = ShareName::parse("large").unwrap();
    Arc::new(Content::file(name, size, hashes).unwrap())
}

#[test]
fn no_more_than_a_few_wait_for_one_chunk() {
    let mut steps = Steps::new(10, false);
    (1..=2).for_each(|n| steps.join(n));
    steps.has(1, 0, 1);
    steps.poll();
    for _ in 0..100 {
        steps.ask(SWARM, 2, 0);
    }
    let denied = steps.answers();
    assert_eq!(denied.len(), 92, "{denied:?}");
    assert!(denied.iter().all(|it| matches!(it, Action::Deny { .. })));
}

#[test]
fn another_is_invited_to_what_has_begun_to_come() {
    let mut steps = Steps::new(10, false);
    (1..=2).for_each(|n| steps.join(n));
    steps.has(1, 0, 1);
    let request = asked_of(1, &steps.poll());
    assert_eq!(suggestions(&steps.poll()), BTreeMap::new());
    let bytes = 1;
    steps.share(transfer::Event::Received { request, bytes });
    steps.wait(20);
    let invited = suggestions(&steps.poll());
    assert_eq!(invited, BTreeMap::from([(key(2), BTreeSet::from([0]))]));
}

/// The request of this peer among these actions.
fn asked_of(n: u8, actions: &[Action]) -> RequestId {
    let asked = actions.iter().find_map(|action| match action {
        Action::Share {
            action: transfer::Action::Request { request, peer, .. },
            ..
        } if *peer == key(n) => Some(*request),
        _ => None,
    });
    asked.unwrap()
}
