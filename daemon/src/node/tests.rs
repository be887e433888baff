//! A node whose events are taken in one by one, so that what happens in between can be said.

mod choosing;
mod following;
mod keeping;
mod publishing;
mod showing;
mod touching;
mod waiting;
mod withholding;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use warren_net::{Identity, Profile, Protocol};
use warren_proto::code::exchange::{Giving, Receiving};
use warren_proto::code::{Body, Code, ExchangeId};
use warren_proto::content::{Content, Link, TrackerAddress};
use warren_proto::id::TrackerPin;
use warren_proto::swarm::Transport;

use super::ending::Data;
use super::shares::Preparing;
use super::trackers::OWN;
use super::*;
use crate::control::model::{Event, LimitRequest, RegisterRequest, Registered, SelectRequest};
use crate::control::wish::{Change, Files, Wish};
use crate::home::known_trackers;
use crate::hooks::Hooks;
use crate::memory::DEFAULT_MIB;
use crate::portmap::{self, PortMapping};
use crate::punch::StunServer;
use crate::share::{Phase, Watcher};
use crate::store::db::{ShareDb, ShareRecord, ShareState};
use crate::store::disk::RealDisk;
use crate::store::register::{Hashing, Special, hash_share};
use crate::store::samples::Sample;
use crate::store::taken::Placing;
use crate::tracker::{TrackerEvent, TrackerFault, TrackerId, Way};

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Of whatever tracker.
const PIN: TrackerPin = TrackerPin([1; 16]);

type Selected = oneshot::Receiver<Result<Event, ApiError>>;

#[tokio::test]
async fn patterns_are_tried_on_a_whole_share_outside_of_the_node() {
    let mut scene = Scene::new();
    let swarm = scene.seed(&Sample::mixed());
    let mut selected = scene.select("nothing-like-it");
    assert!(selected.try_recv().is_err(), "the node itself has looked");
    let error = scene.until_answered(selected).await.unwrap_err();
    assert_eq!(error.code, "no_match");
    let selected = scene.select("z");
    scene.until_answered(selected).await.unwrap();
    let share = &scene.node.shares[&swarm];
    assert!(share.picked.is_none() && !share.is_choosing);
}

#[tokio::test]
async fn shares_are_shown_by_how_their_name_or_content_id_begins() {
    let mut scene = Scene::new();
    let swarm = scene.seed(&Sample::mixed());
    let id = scene.node.shares[&swarm].record.id.to_string();
    for (beginning, count) in [
        ("", 1),
        ("pho", 1),
        (&id[..6], 1),
        ("otos", 0),
        (&id[1..], 0),
    ] {
        let shown = scene.node.shown_shares(beginning);
        assert_eq!(shown.len(), count, "{beginning}");
    }
}

#[tokio::test]
async fn a_download_that_cannot_begin_leaves_no_limit_to_a_later_one() {
    let mut scene = Scene::new();
    let sample = Sample::mixed();
    let downloads = scene.node.config.downloads.clone();
    std::fs::create_dir_all(downloads.join("photos.part")).unwrap();
    let (events, mut watched) = mpsc::channel(16);
    let (swarm, before) = (scene.begin(&sample, events), SpeedLimit::default());
    scene.limit_down(Some("photos"), 1_000_000).await;
    assert_ne!(scene.node.limit_of(&swarm), before);
    let refused = scene.until_told(&mut watched).await;
    assert!(matches!(&refused, Event::Error(error) if error.code == "target_exists"));
    assert_eq!(scene.node.limit_of(&swarm), before);
    until(|| scene.node.config.depot.limits().unwrap().1.is_empty()).await;
}

#[tokio::test]
async fn of_a_peer_no_more_is_taken_in_than_the_narrower_limit_lets_through() {
    let mut scene = Scene::new();
    let (events, _watched) = mpsc::channel(16);
    let swarm = scene.begin(&Sample::mixed(), events);
    for (whole, share, expected) in [
        (0, 8_000_000, Some(1_000_000)),
        (80_000_000, 8_000_000, Some(1_000_000)),
        (800_000, 8_000_000, Some(100_000)),
        (800_000, 0, Some(100_000)),
        (0, 0, None),
    ] {
        scene.limit_down(None, whole).await;
        scene.limit_down(Some("photos"), share).await;
        let rate = scene.node.down_rate([swarm].iter());
        assert_eq!(rate, expected, "{whole} and {share}");
    }
}

#[tokio::test]
async fn who_chooses_of_a_share_that_goes_is_told_so_and_nothing_of_it_comes_back() {
    let (mut scene, sample) = (Scene::new(), Sample::mixed());
    for is_begun_again in [false, true] {
        let (swarm, _watched) = scene.download(&sample).await;
        let jobs = scene.node.disk_jobs.clone();
        let busy = jobs.acquire_many(DISK_JOBS as u32).await.unwrap();
        let selected = scene.select("z");
        let (answer, removed) = oneshot::channel();
        scene.node.remove_share(swarm, Data::Kept, answer);
        removed.await.unwrap().unwrap();
        let (events, _watched) = mpsc::channel(16);
        if is_begun_again {
            scene.begin(&sample, events);
        }
        drop(busy);
        let error = scene.until_answered(selected).await.unwrap_err();
        assert_eq!(error.code, "removed");
        if is_begun_again {
            scene.until_downloading(swarm).await;
        }
        let records = scene.node.config.depot.records().unwrap();
        let wishes: Vec<_> = records.into_iter().map(|record| record.wish).collect();
        assert_eq!(wishes, vec![Wish::default(); usize::from(is_begun_again)]);
    }
}

#[tokio::test]
async fn what_is_being_verified_is_not_removed_without_its_data() {
    let (mut scene, sample) = (Scene::new(), Sample::mixed());
    let (swarm, _watched) = scene.download(&sample).await;
    scene.node.shares.get_mut(&swarm).unwrap().verifying = Some(crate::share::Verifying::default());
    let (answer, removed) = oneshot::channel();
    scene.node.remove_share(swarm, Data::Kept, answer);
    let error = removed.await.unwrap().unwrap_err();
    assert_eq!(error.code, "being_verified");
    assert!(scene.node.shares.contains_key(&swarm));
    let (answer, removed) = oneshot::channel();
    scene.node.remove_share(swarm, Data::Deleted, answer);
    removed.await.unwrap().unwrap();
    assert!(scene.node.shares.is_empty());
}

#[tokio::test]
async fn what_lies_in_the_place_of_another_share_is_not_repaired() {
    let mut scene = Scene::new();
    let (ours, _watched) = scene.download(&Sample::mixed()).await;
    let file = Sample::file("film", vec![7; 1000]);
    let (theirs, _watched) = scene.download(&file).await;
    let id = scene.node.shares[&ours].record.id.to_string();
    let path = scene.node.shares[&ours].record.path.clone();
    scene.node.shares.get_mut(&theirs).unwrap().record.path = path;
    let error = scene.node.verify(&id).unwrap_err();
    assert_eq!(error.code, "target_exists");
    let removed = scene.node.take_out(theirs);
    assert!(removed.is_some());
    scene.node.verify(&id).unwrap();
}

#[tokio::test]
async fn whoever_shares_something_is_told_that_the_tracker_does_not_answer() {
    let mut scene = Scene::new();
    let path = scene.folder.path().join("film.mkv");
    std::fs::write(&path, "a film").unwrap();
    for answers in [false, true] {
        let own = scene.node.trackers.get_mut(&OWN).unwrap();
        (own.pin, own.connected) = (Some(TrackerPin([1; 16])), answers);
        own.cause = (!answers).then(|| "no answer".to_owned());
        let registered = scene.register(&path).await;
        let warned = registered.warnings.iter();
        let warned = warned.filter(|it| it.contains("127.0.0.1:9 does not answer"));
        assert_eq!(warned.count(), usize::from(!answers), "{registered:?}");
        assert!(registered.link.is_some());
    }
}

#[tokio::test]
async fn what_could_not_be_registered_is_not_shared_after_a_restart() {
    let mut scene = Scene::new();
    let own = scene.node.trackers.get_mut(&OWN).unwrap();
    (own.pin, own.connected) = (Some(TrackerPin([1; 16])), true);
    let path = scene.folder.path().join("film.mkv");
    std::fs::write(&path, "a film").unwrap();
    // There is something else where the .p2p should go.
    let last = scene.try_register(&path, Some(&path)).await;
    assert!(matches!(last, Event::Error(_)), "{last:?}");
    assert!(scene.node.shares.is_empty());
    assert_eq!(scene.node.config.depot.records().unwrap().len(), 0);
    scene.register(&path).await;
    assert_eq!(scene.node.config.depot.records().unwrap().len(), 1);
}

#[tokio::test]
async fn our_nat_is_surveyed_by_our_own_tracker_and_by_another_while_that_is_not_there() {
    let mut scene = Scene::new();
    let node = &mut scene.node;
    let addresses = [1, 2].map(|n| TrackerAddress {
        host: "127.0.0.1".parse().unwrap(),
        port: 9 + n,
        pin: TrackerPin([n as u8; 16]),
    });
    node.ensure_trackers(&addresses);
    let ids: Vec<TrackerId> = node.trackers.keys().copied().collect();
    let [own, first, second] = ids[..] else {
        panic!("{ids:?}");
    };
    assert_eq!(own, OWN);
    let mut surveyed = |id: TrackerId, is_there: bool| {
        node.handle_tracker(id, tracker_event(id, is_there));
        let by = node.trackers.iter().filter(|(_, it)| it.is_surveyed_by);
        let by: Vec<TrackerId> = by.map(|(id, _)| *id).collect();
        assert!(by.len() <= 1, "{by:?}");
        by.first().copied()
    };
    assert_eq!(surveyed(second, true), Some(second));
    assert_eq!(surveyed(first, true), Some(second), "it goes on");
    assert_eq!(surveyed(own, true), Some(own));
    assert_eq!(surveyed(second, false), Some(own));
    assert_eq!(surveyed(own, false), Some(first));
    assert_eq!(surveyed(own, true), Some(own));
    assert_eq!(surveyed(first, false), Some(own));
    assert_eq!(surveyed(own, false), None);
}

#[tokio::test]
async fn a_code_that_nobody_waits_for_any_more_is_not_proven_to_be_known() {
    let mut scene = Scene::new();
    scene.node.handle_tracker(OWN, tracker_event(OWN, true));
    for has_gone in [false, true] {
        let (exchange, asked) = scene.open_code();
        let asked = (!has_gone).then_some(asked);
        assert!(
            scene
                .node
                .handle_opening_passed(exchange, &second_message())
        );
        let is_proving = scene.node.codes.openings.under_way.contains_key(&exchange);
        assert_eq!(is_proving, !has_gone);
        drop(asked);
    }
    // What was proven is given up, too, once nobody waits for it.
    scene.node.watch_openings(Instant::now());
    assert!(scene.node.codes.openings.under_way.is_empty());
    let (answer, asked) = oneshot::channel();
    drop(asked);
    scene.node.open_code(code(), answer);
    assert!(scene.node.codes.openings.under_way.is_empty());
}

#[tokio::test]
async fn a_code_is_opened_anew_on_the_next_connection_unless_it_was_guessed_already() {
    let mut scene = Scene::new();
    scene.node.handle_tracker(OWN, tracker_event(OWN, true));
    let (first, mut asked) = scene.open_code();
    scene.node.handle_tracker(OWN, tracker_event(OWN, false));
    scene.node.watch_openings(Instant::now());
    let openings = &scene.node.codes.openings;
    assert_eq!((openings.under_way.len(), openings.waiting.len()), (0, 1));
    assert!(asked.try_recv().is_err(), "it is given up too soon");
    scene.node.handle_tracker(OWN, tracker_event(OWN, true));
    scene.node.watch_openings(Instant::now());
    let exchange = *scene.node.codes.openings.under_way.keys().next().unwrap();
    assert_ne!(exchange, first);
    assert!(
        scene
            .node
            .handle_opening_passed(exchange, &second_message())
    );
    scene.node.handle_tracker(OWN, tracker_event(OWN, false));
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.code, "tracker_unreachable");
}

fn code() -> Code {
    "7-film-alibi".parse().unwrap()
}

/// What some sharer says to somebody else: it is no worse than what it would say to us.
fn second_message() -> Body {
    let (_, first) = Receiving::begin(&code(), &PIN, [1; 32]);
    let (_, second) = Giving::begin(&code(), &PIN, &first, [2; 32]).unwrap();
    second
}

fn tracker_event(id: TrackerId, is_there: bool) -> TrackerEvent {
    let at = |port| (Ipv4Addr::LOCALHOST, port).into();
    match is_there {
        true => TrackerEvent::Connected {
            pin: TrackerPin([100 + id.0 as u8; 16]),
            public: None,
            features: 0,
            stun: StunServer {
                main: at(9),
                other: None,
                alternate: None,
            },
            proving: None,
            way: Way {
                transport: Transport::Udp,
                port: 9,
            },
            rtt: Duration::ZERO,
            tunnel: None,
        },
        false => TrackerEvent::Lost {
            cause: "it is gone".into(),
            fault: TrackerFault::Silent,
            mismatch: None,
        },
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap();
}

fn register_request(path: &Path, output: Option<&Path>) -> RegisterRequest {
    RegisterRequest {
        path: path.to_str().unwrap().into(),
        output: output.map(|output| output.to_str().unwrap().into()),
        skip_special: false,
        update: false,
        code: None,
        expire_s: None,
        max_downloads: None,
    }
}

/// A node without peers, whose tracker does not answer.
struct Scene {
    node: Node,
    events: mpsc::Receiver<NodeEvent>,
    folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Scene {
    fn new() -> Scene {
        Scene::of(tempfile::tempdir().unwrap())
    }

    /// The next run of the same daemon.
    fn restarted(self) -> Scene {
        let Scene { node, folder, .. } = self;
        drop(node);
        let mut scene = Scene::of(folder);
        let depot = scene.node.config.depot.clone();
        scene.node.restore(depot.records().unwrap());
        scene.node.restore_terms(depot.terms().unwrap());
        scene
    }

    fn of(folder: tempfile::TempDir) -> Scene {
        let identity = Identity::generate().unwrap();
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let endpoint = Endpoint::bind(any, &identity, &[Protocol::Peer], Profile::Daemon).unwrap();
        let (sender, events) = channel();
        let stop = CancellationToken::new();
        let off = PortMapping::Off;
        let (ports, _) = portmap::start(off, endpoint.local_addr(), sender.clone(), stop.clone());
        let punch = crate::punch::start(
            endpoint.clone(),
            sender.clone(),
            Vec::new(),
            ports,
            folder.path().join("guessing"),
            stop.clone(),
        );
        let db = ShareDb::open(&folder.path().join("state.db")).unwrap();
        let journals = folder.path().join("journals");
        std::fs::create_dir_all(&journals).unwrap();
        let config = NodeConfig {
            idx: 1,
            key: identity.public_key(),
            pace: Pace::start(endpoint.socket(), &stop),
            memory: Arc::new(Memory::new(DEFAULT_MIB)),
            endpoint,
            punch,
            depot: Arc::new(Depot::new(db, journals)),
            downloads: folder.path().join("downloads"),
            paths: Paths::Any,
            relay: None,
            candidates: Vec::new(),
            hooks: Hooks::default(),
            started: None,
            stop: stop.clone(),
        };
        let own = OwnTracker {
            address: "127.0.0.1:9".parse().unwrap(),
            pin: None,
            known: known_trackers(folder.path()).unwrap(),
        };
        Scene {
            node: Node::new(config, sender, own),
            events,
            folder,
            _stop: stop.drop_guard(),
        }
    }

    /// Shares it, as `client register` does.
    fn seed(&mut self, sample: &Sample) -> SwarmId {
        let path = self.folder.path().join(sample.content.name.as_str());
        sample.lay_out(&path);
        let hashed = hash_share(&RealDisk, &path, Special::Refuse, &Hashing::default()).unwrap();
        let record = ShareRecord {
            path,
            state: ShareState::Registered,
            identities: Some(hashed.identities),
            ..self.record(&sample.content)
        };
        let depot = &self.node.config.depot;
        let opened = depot.register(&record, &sample.content, || Ok(()));
        let opened = opened.map(|(opened, ())| opened);
        let phase = Phase::Preparing {
            verified_bytes: Arc::default(),
            bytes: 0,
            is_new: false,
        };
        let swarm = self.node.add(record, phase);
        self.node.handle_opened(swarm, opened);
        assert!(matches!(self.node.shares[&swarm].phase, Phase::Seeding(_)));
        swarm
    }

    /// Shares what is at the path.
    async fn register(&mut self, path: &Path) -> Registered {
        match self.try_register(path, None).await {
            Event::Registered(registered) => registered,
            other => panic!("{other:?}"),
        }
    }

    /// The same, with the `.p2p` at `output`; what is said last.
    async fn try_register(&mut self, path: &Path, output: Option<&Path>) -> Event {
        let (events, mut told) = mpsc::channel(16);
        let request = register_request(path, output);
        let config = &self.node.config;
        let places = (config.downloads.clone(), config.depot.clone());
        let node = self.node.me.clone();
        tokio::spawn(registering::hash(request, events, places, node));
        loop {
            let event = self.until_told(&mut told).await;
            if event.is_final() {
                return event;
            }
        }
    }

    /// Downloads it, as `client download` does.
    fn begin(&mut self, sample: &Sample, events: mpsc::Sender<Event>) -> SwarmId {
        let record = self.record(&sample.content);
        let how = Preparing::Create(sample.content.clone());
        let swarm = self.node.add_preparing(record, how);
        let watcher = Watcher::new(events);
        let share = self.node.shares.get_mut(&swarm).unwrap();
        share.watchers.push(watcher);
        swarm
    }

    async fn download(&mut self, sample: &Sample) -> (SwarmId, mpsc::Receiver<Event>) {
        let (events, watched) = mpsc::channel(16);
        let swarm = self.begin(sample, events);
        self.until_downloading(swarm).await;
        (swarm, watched)
    }

    /// Downloads the file alone that has no bytes: nobody is needed for that.
    async fn download_part(&mut self, sample: &Sample) -> SwarmId {
        let mut record = self.record(&sample.content);
        record.wish.files.only = vec!["empty".to_owned()];
        let how = Preparing::Create(sample.content.clone());
        let swarm = self.node.add_preparing(record, how);
        self.until_downloading(swarm).await;
        self.node.advance_share(swarm);
        let is_it = |phase: &Phase| matches!(phase, Phase::Seeding(_));
        self.until_phase(swarm, is_it).await;
        assert!(self.node.shares[&swarm].leaves_out());
        swarm
    }

    async fn until_downloading(&mut self, swarm: SwarmId) {
        let is_it = |phase: &Phase| matches!(phase, Phase::Downloading(_));
        self.until_phase(swarm, is_it).await;
    }

    async fn until_phase(&mut self, swarm: SwarmId, is_it: impl Fn(&Phase) -> bool) {
        let reached = async {
            while !is_it(&self.node.shares[&swarm].phase) {
                let event = self.events.recv().await.unwrap();
                self.take_in(event);
            }
        };
        timeout(DEADLINE, reached).await.unwrap();
    }

    /// A download that nobody has begun.
    fn record(&mut self, content: &Content) -> ShareRecord {
        ShareRecord {
            id: content.id,
            kind: content.kind,
            secret: None,
            name: content.name.as_str().to_owned(),
            path: self.node.config.downloads.join(content.name.as_str()),
            state: ShareState::Downloading,
            manifest: None,
            trackers: Vec::new(),
            identities: None,
            added_unix_ms: self.node.next_number(),
            wish: Wish::default(),
            settled: None,
            placing: Placing::default(),
        }
    }

    /// Types a code, and gets as far as message 1.
    fn open_code(&mut self) -> (ExchangeId, oneshot::Receiver<Result<Link, ApiError>>) {
        let before: Vec<_> = self.node.codes.openings.under_way.keys().copied().collect();
        let (answer, asked) = oneshot::channel();
        self.node.open_code(code(), answer);
        let mut under_way = self.node.codes.openings.under_way.keys();
        let exchange = under_way.find(|it| !before.contains(it)).unwrap();
        (*exchange, asked)
    }

    async fn limit_down(&mut self, share: Option<&str>, bits_per_s: u64) {
        let request = LimitRequest {
            share: share.map(String::from),
            down_bits_per_s: Some(bits_per_s),
            ..LimitRequest::default()
        };
        let (answer, answered) = oneshot::channel();
        let limit = Command::Limit(request, answer);
        self.node.handle_command(limit);
        answered.await.unwrap().unwrap();
    }

    /// Wants these files alone of the share of which there is one.
    fn select(&mut self, pattern: &str) -> Selected {
        let (answer, answered) = oneshot::channel();
        let files = Files {
            only: vec![pattern.to_owned()],
            except: Vec::new(),
        };
        let share = self.node.shares.values().next().unwrap();
        let request = SelectRequest {
            share: share.record.name.clone(),
            change: Change {
                files: Some(files),
                ..Change::default()
            },
        };
        self.node.handle_command(Command::Select(request, answer));
        answered
    }

    /// Lets the node know of everything but the tracker, of which the tests speak for themselves.
    fn take_in(&mut self, event: NodeEvent) {
        if !matches!(event, NodeEvent::Tracker { .. }) {
            self.node.handle(event);
        }
    }

    /// Takes in what is reported until there is something to be told.
    async fn until_told(&mut self, watched: &mut mpsc::Receiver<Event>) -> Event {
        let told = async {
            loop {
                tokio::select! {
                    biased;
                    told = watched.recv() => return told.unwrap(),
                    event = self.events.recv() => self.take_in(event.unwrap()),
                }
            }
        };
        timeout(DEADLINE, told).await.unwrap()
    }

    /// Takes in what is reported until there is an answer.
    async fn until_answered<T>(&mut self, mut answer: oneshot::Receiver<T>) -> T {
        let answered = async {
            loop {
                tokio::select! {
                    biased;
                    answer = &mut answer => return answer.unwrap(),
                    event = self.events.recv() => self.take_in(event.unwrap()),
                }
            }
        };
        timeout(DEADLINE, answered).await.unwrap()
    }
}
