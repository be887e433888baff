//! A chunk of several grains is passed on while it comes, and none of it that was not verified.

use std::{path::Path, sync::Arc};

use tokio::time::timeout;
use warren_daemon::control::model::Event;
use warren_net::{FrameReader, FrameWriter};
use warren_proto::{
    limits::GRAIN_BYTES,
    wire::{Part, PeerAnswer, PeerMessage, PeerRequest},
};

use crate::{
    By, DEADLINE,
    daemon::Daemon,
    liar::{Liar, Lie, Role},
    relaying::{ALIAS, Member},
    share::Share,
    source, start_tracker, until,
};

const CHUNK_BYTES: u32 = 2 * GRAIN_BYTES;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_half_of_a_chunk_is_had_before_the_second_has_come() {
    let share = Arc::new(Share::of_two_grains());
    let place = tempfile::Builder::new().prefix("w").tempdir().unwrap();
    let tracker = start_tracker(place.path());
    let daemon = Daemon::start(place.path(), 2, &tracker).await;
    let seed = Arc::clone(&share);
    let liar = Liar::join(&tracker, seed, Lie::HoldsBack, Role::Dials).await;
    let mut events = daemon
        .download(source(&share, By::Manifest, &tracker))
        .await;
    until("the daemon to ask", || liar.requests() > 0).await;
    let member = Member::join(&tracker, &share, daemon.key());
    let mut member = timeout(DEADLINE, member).await.expect("in time");

    let chunk = timeout(DEADLINE, started(&mut member))
        .await
        .expect("in time");
    let passed = timeout(DEADLINE, ask(&member, chunk))
        .await
        .expect("in time");
    let mut stream = passed.into_inner();
    let grain = GRAIN_BYTES as usize;
    let mut bytes = vec![1; 2 * grain];
    let first = stream.read_exact(&mut bytes[..grain]);
    timeout(DEADLINE, first).await.expect("in time").unwrap();
    liar.go_on();
    let second = stream.read_exact(&mut bytes[grain..]);
    timeout(DEADLINE, second).await.expect("in time").unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));

    match timeout(DEADLINE, events.last()).await.expect("in time") {
        Event::Done(done) => share.check(Path::new(&done.path)),
        other => panic!("{other:?}"),
    }
    daemon.stop().await;
}

/// A chunk that is on its way to the daemon.
async fn started(member: &mut Member) -> u32 {
    loop {
        if let PeerMessage::Started { chunks, .. } = member.hear().await
            && let Some(run) = chunks.iter().next()
        {
            return run.start;
        }
    }
}

/// Asks for it, and reads the head of the answer.
async fn ask(member: &Member, chunk: u32) -> FrameReader {
    let (send, receive) = member.connection.quinn().open_bi().await.unwrap();
    let request = PeerRequest::Chunk {
        alias: ALIAS,
        part: Part::Content,
        chunk,
        offset: 0,
        len: CHUNK_BYTES,
    };
    FrameWriter::new(send).send(&request).await.unwrap();
    let mut reader = FrameReader::new(receive);
    let answer: PeerAnswer = reader.recv().await.unwrap().unwrap();
    let bytes = CHUNK_BYTES.into();
    assert_eq!(answer, PeerAnswer::Data { bytes });
    reader
}
