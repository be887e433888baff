//! A peer that proves membership like any other and then lies. Beside an honest seed it costs time
//! and nothing else; alone it puts nothing in place.
//!
//! [`liar`] is the peer, [`forger`] a tracker that lies, [`hoarding`] peers that send what nobody reads, [`relaying`] peers that would have more passed on than they may, [`passing`] chunks that are passed on while they come, [`daemon`] runs honest daemons in this process, [`share`] is what is shared.
//! Who asks to meet is dialled, so every lie is told once by a liar that dials and once by one that is
//! dialled.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

mod daemon;
mod forger;
mod hoarding;
mod liar;
mod log;
mod meeting;
mod passing;
mod relaying;
mod share;

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use warren_daemon::control::model::{Event, Source, Standing};
use warren_proto::{content::manifest::Manifest, limits};
use warren_tracker::{Config, Tracker};

use daemon::Daemon;
use liar::{Liar, Lie, Role};
use share::Share;

/// How long anything may take. A silent peer may be given up only after its connection has been
/// idle for 30 s.
const DEADLINE: Duration = Duration::from_secs(90);

/// Gap between two looks at a state.
const POLL: Duration = Duration::from_millis(20);

/// Otherwise the other tests could pass because the liar is misunderstood.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_lie_the_liar_is_a_seed_like_any_other() {
    for role in [Role::Dials, Role::IsDialled] {
        for by in [By::Manifest, By::Link] {
            for share in [Share::file(), Share::tree()] {
                let share = Arc::new(share);
                let place = tempfile::Builder::new().prefix("w").tempdir().unwrap();
                let tracker = start_tracker(place.path());
                let daemon = Daemon::start(place.path(), 2, &tracker).await;
                let seed = Arc::clone(&share);
                let liar = Liar::join(&tracker, seed, Lie::Nothing, role).await;
                let mut events = daemon.download(source(&share, by, &tracker)).await;
                match timeout(DEADLINE, events.last()).await.expect("in time") {
                    Event::Done(done) => share.check(Path::new(&done.path)),
                    other => panic!("{other:?}"),
                }
                assert!(liar.requests() > 0);
                daemon.stop().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_twice_is_asked_for_each_chunk_once() {
    for role in [Role::Dials, Role::IsDialled] {
        let share = Arc::new(Share::file());
        let place = tempfile::Builder::new().prefix("w").tempdir().unwrap();
        let tracker = start_tracker(place.path());
        let daemon = Daemon::start(place.path(), 2, &tracker).await;
        let seed = Arc::clone(&share);
        let liar = Liar::join(&tracker, seed, Lie::JoinsTwice, role).await;
        let source = source(&share, By::Manifest, &tracker);
        let mut events = daemon.download(source).await;
        match timeout(DEADLINE, events.last()).await.expect("in time") {
            Event::Done(done) => share.check(Path::new(&done.path)),
            other => panic!("{other:?}"),
        }
        let chunks = share.content().layout.chunk_count() as usize;
        assert_eq!(liar.requests(), chunks);
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_a_file_are_thrown_away() {
    check(Share::file(), By::Manifest, Lie::WrongBytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_a_tree_are_thrown_away() {
    check(Share::tree(), By::Manifest, Lie::WrongBytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_what_only_a_link_names_are_thrown_away() {
    check(Share::file(), By::Link, Lie::WrongBytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_a_listing_are_thrown_away() {
    check(Share::tree(), By::Link, Lie::WrongBytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_list_that_is_another_files_is_thrown_away() {
    check(Share::file(), By::Link, Lie::WrongHashes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_of_a_tree_that_are_anothers_are_thrown_away() {
    check(Share::tree(), By::Link, Lie::WrongHashes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_one_byte_too_large_is_found_out() {
    check(Share::file(), By::Link, Lie::Size(share::FILE_BYTES + 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_no_file_has_is_refused() {
    check(Share::file(), By::Link, Lie::Size(u64::MAX)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_of_nothing_is_refused() {
    check(Share::file(), By::Link, Lie::Size(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_larger_than_any_is_refused() {
    let bytes = limits::MANIFEST_BYTES as u64 + 1;
    check(Share::tree(), By::Link, Lie::Size(bytes)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leaves_the_folder_is_not_used() {
    check(Share::file(), By::Link, Lie::Name("../../evil")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_beyond_the_last_end_the_connection() {
    check(Share::file(), By::Manifest, Lie::HaveBeyondTheEnd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_longer_than_the_request_is_not_taken() {
    check(Share::file(), By::Manifest, Lie::EndlessAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_hash_list_is_not_taken() {
    check(Share::file(), By::Link, Lie::EndlessAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stops_short_is_asked_for_again() {
    check(Share::file(), By::Manifest, Lie::ShortAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_frames_stop_nobody_else() {
    check(Share::file(), By::Manifest, Lie::EndlessFrames).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_after_a_request_stops_nobody_else() {
    check(Share::file(), By::Manifest, Lie::Silence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_about_the_hashes_stops_nobody_else() {
    check(Share::tree(), By::Link, Lie::Silence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_wrong_gets_and_gives_nothing() {
    check(Share::file(), By::Manifest, Lie::WrongProof).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_thought_of_a_peer_is_shown_and_logged_with_its_reason() {
    let log = log::thoughts();
    for (lie, expected) in [
        (Lie::AlwaysBusy, Standing::Busy),
        (Lie::ShortAnswer, Standing::Failed),
    ] {
        let share = Arc::new(Share::file());
        let place = tempfile::Builder::new().prefix("w").tempdir().unwrap();
        let tracker = start_tracker(place.path());
        let daemon = Daemon::start(place.path(), 2, &tracker).await;
        let role = Role::IsDialled;
        let liar = Liar::join(&tracker, Arc::clone(&share), lie, role).await;
        let name = liar.key().to_string();
        let _events = daemon
            .download(source(&share, By::Manifest, &tracker))
            .await;
        let shown = async {
            loop {
                let peers = daemon.peers().await;
                let peer = peers.into_iter().find(|it| it.standing == expected);
                match peer {
                    Some(peer) => return peer,
                    None => sleep(POLL).await,
                }
            }
        };
        let peer = timeout(DEADLINE, shown).await.expect("in time");
        assert_eq!(peer.peer, name);
        let [shown] = &peer.standings[..] else {
            panic!("{peer:?}");
        };
        assert_eq!(shown.content_id, share.content().id.to_string());
        assert_eq!(shown.standing, expected);
        assert!(shown.pause_ms.is_some() && !shown.reason.is_empty());
        assert!(log.name_both(&name, &format!("standing=\"{}\"", expected.word())));
        assert!(log.name_both(&name, &format!("reason=\"{}\"", shown.reason)));
        daemon.stop().await;
    }
}

/// How the download is named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Manifest,
    Link,
}

async fn check(share: Share, by: By, lie: Lie) {
    let share = Arc::new(share);
    let told_by = |role| {
        let share = Arc::clone(&share);
        // In tasks, so that the two take their time together.
        tokio::spawn(timeout(3 * DEADLINE, check_role(share, by, lie, role)))
    };
    let (dialling, dialled) = (told_by(Role::Dials), told_by(Role::IsDialled));
    dialling.await.unwrap().expect("over in time");
    dialled.await.unwrap().expect("over in time");
}

/// Lets the liar have a download for itself until it has lied, and then lets an honest seed join.
async fn check_role(share: Arc<Share>, by: By, lie: Lie, role: Role) {
    let log = log::warnings();
    let place = tempfile::Builder::new().prefix("w").tempdir().unwrap();
    let place = place.path();
    let tracker = start_tracker(place);
    let downloading = Daemon::start(place, 2, &tracker).await;
    let liar = Liar::join(&tracker, Arc::clone(&share), lie, role).await;
    let mut events = downloading.download(source(&share, by, &tracker)).await;
    until("the liar to lie", || liar.lies() > 0).await;
    if lie.must_be_caught() {
        let name = liar.key().to_string();
        until("the liar to be caught", || {
            liar.is_turned_away() || log.name(&name)
        })
        .await;
    }
    assert_nothing_in_place(&downloading, &share, place);

    let honest = Daemon::start(place, 1, &tracker).await;
    let original = place.join("original").join(share.name());
    share.write(&original);
    let id = honest.register(&original).await.content_id;
    assert_eq!(id, share.content().id.to_string());

    let done = timeout(DEADLINE, events.last()).await.expect("in time");
    match done {
        Event::Done(done) => share.check(Path::new(&done.path)),
        other => panic!("{lie:?} by one that {role:?}: {other:?}"),
    }
    assert_nothing_outside(place);
    if lie == Lie::WrongProof {
        let asked = liar.requests();
        // Each chunk once, in the same breath as our join, and no more once its own has come.
        assert!(
            asked <= share.all_chunks().count as usize,
            "asked {asked} times"
        );
    }
    downloading.stop().await;
    honest.stop().await;
    tracker.shutdown().await;
}

/// Nothing under the name of the share, and nothing outside.
#[track_caller]
fn assert_nothing_in_place(daemon: &Daemon, share: &Share, place: &Path) {
    assert!(!daemon.downloads().join(share.name()).exists());
    assert_nothing_outside(place);
}

/// Nothing at the place where [`Lie::Name`] wants it.
#[track_caller]
fn assert_nothing_outside(place: &Path) {
    for path in ["evil", "downloads/evil"] {
        assert!(!place.join(path).exists(), "{path}");
    }
}

fn source(share: &Share, by: By, tracker: &Tracker) -> Source {
    let address = tracker.local_addrs()[0];
    let tracker = format!("{address}#{}", tracker.pin()).parse().unwrap();
    match by {
        By::Manifest => Source::Manifest {
            bytes: Manifest::new(share.content().clone(), vec![tracker], None).encode(),
        },
        By::Link => Source::Link {
            text: share.link(tracker).to_string(),
        },
    }
}

fn start_tracker(place: &Path) -> Tracker {
    let any = "127.0.0.1:0".parse().unwrap();
    let config = Config {
        listen: vec![any],
        stun_listen: vec![any],
        ..Config::new(place.join("t"))
    };
    Tracker::start(config).unwrap()
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(POLL).await;
        }
    };
    let waited = timeout(DEADLINE, waiting).await;
    waited.unwrap_or_else(|_| panic!("waited {} s for {what}", DEADLINE.as_secs()));
}
