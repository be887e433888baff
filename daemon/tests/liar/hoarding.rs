//! Peers that send what nobody reads.

use std::{sync::Arc, time::Duration};

use quinn::{RecvStream, SendStream};
use tokio::{task::JoinSet, time::timeout};
use warren_daemon::memory::LEAST_MIB;
use warren_net::IDLE_WINDOW_BYTES;
use warren_proto::{
    limits::GRAIN_BYTES,
    wire::{Part, PeerMessage, PeerRequest, encode},
};

use crate::{
    By, DEADLINE,
    daemon::Daemon,
    liar::{Liar, Lie, Role},
    relaying::{ALIAS, Member},
    share::Share,
    source, start_tracker,
};

const PEERS: usize = 30;

/// What each would send.
const FLOOD_BYTES: usize = 2 << 20;

/// After this nothing more is taken.
const STUCK: Duration = Duration::from_millis(500);

/// Each asks for something, does not take it, and sends on after the question, which the daemon reads no
/// further while it answers. The daemon wants content of them, too.
#[tokio::test(flavor = "multi_thread")]
async fn thirty_peers_that_are_not_read_make_a_daemon_hold_no_more_than_its_budget() {
    let share = Arc::new(Share::of_two_grains());
    let place = tempfile::Builder::new().prefix("w").tempdir().unwrap();
    let tracker = start_tracker(place.path());
    let daemon = Daemon::start(place.path(), 2, &tracker).await;
    let (seed, key) = (Arc::clone(&share), daemon.key());
    let _liar = Liar::join(&tracker, seed, Lie::GivesOne, Role::Dials).await;
    let source = source(&share, By::Manifest, &tracker);
    let _events = daemon.download(source).await;

    let mut floods = JoinSet::new();
    let mut members = Vec::new();
    for _ in 0..PEERS {
        let member = Member::join(&tracker, &share, key);
        let mut member = timeout(DEADLINE, member).await.expect("in time");
        let chunk = timeout(DEADLINE, had(&mut member)).await.expect("in time");
        floods.spawn(flood(ask(&member, chunk).await));
        members.push(member);
    }
    let sent: usize = floods.join_all().await.into_iter().sum();

    let requests = (LEAST_MIB as usize) << 19;
    let idle = PEERS * IDLE_WINDOW_BYTES as usize;
    assert!(
        sent >= idle / 2,
        "{sent} bytes: they were not allowed what they may"
    );
    assert!(sent <= requests + idle, "{sent} bytes");
    daemon.stop().await;
}

/// A chunk that the daemon has.
async fn had(member: &mut Member) -> u32 {
    loop {
        if let PeerMessage::Have { chunks, .. } = member.hear().await
            && let Some(run) = chunks.iter().next()
        {
            return run.start;
        }
    }
}

/// Asks for a chunk, whose answer nobody reads.
async fn ask(member: &Member, chunk: u32) -> (SendStream, RecvStream) {
    member.connection.set_send_window(2 * FLOOD_BYTES as u64);
    let (mut send, receive) = member.connection.quinn().open_bi().await.unwrap();
    let request = PeerRequest::Chunk {
        alias: ALIAS,
        part: Part::Content,
        chunk,
        offset: 0,
        len: 2 * GRAIN_BYTES,
    };
    send.write_all(&encode(&request)).await.unwrap();
    (send, receive)
}

/// Sends on until no more is taken for a while; how many bytes were taken.
async fn flood((mut send, _unread): (SendStream, RecvStream)) -> usize {
    let mut sent = 0;
    let piece = [7; 16 << 10];
    while sent < FLOOD_BYTES
        && let Ok(Ok(taken)) = timeout(STUCK, send.write(&piece)).await
    {
        sent += taken;
    }
    sent
}
