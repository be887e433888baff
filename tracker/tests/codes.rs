//! Codes at a tracker over real sockets: what reaches whom, and what ends with a connection.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use warren_net::Identity;
use warren_proto::code::{Body, Closed, ExchangeId, Nameplate};
use warren_proto::wire::{Claimed, CodeNews, CodeRequest, FromTracker, ToTracker};

mod common;

use common::{Session, join, start, within};

const EXCHANGE: ExchangeId = ExchangeId([8; 8]);
const PLATE: Nameplate = Nameplate(1);

#[tokio::test]
async fn four_messages_go_between_the_two_and_not_a_fifth() {
    let (tracker, _home) = start();
    let (mut sharer, mut receiver) = (join(&tracker).await, join(&tracker).await);
    claim(&mut sharer, None).await;
    open(&mut receiver).await;
    let opened = CodeNews::Opened {
        nameplate: PLATE,
        exchange: EXCHANGE,
        message: body(1),
    };
    assert_eq!(hear(&mut sharer).await, opened);
    for number in 2..=4 {
        let passed = CodeNews::Passed {
            exchange: EXCHANGE,
            message: body(number),
        };
        let (from, to) = match number % 2 {
            0 => (&mut sharer, &mut receiver),
            _ => (&mut receiver, &mut sharer),
        };
        pass(from, number).await;
        assert_eq!(hear(to).await, passed);
    }
    pass(&mut receiver, 5).await;
    assert_eq!(hear(&mut receiver).await, closed(Closed::Late));
}

#[tokio::test]
async fn who_is_in_the_middle_of_it_hears_that_the_other_side_has_gone() {
    let (tracker, _home) = start();
    let (mut sharer, mut receiver) = (join(&tracker).await, join(&tracker).await);
    claim(&mut sharer, None).await;
    open(&mut receiver).await;
    hear(&mut sharer).await;
    sharer.connection.close(0, "done");
    assert_eq!(hear(&mut receiver).await, closed(Closed::Absent));
    open(&mut receiver).await;
    assert_eq!(
        hear(&mut receiver).await,
        closed(Closed::Absent),
        "its number is kept"
    );
}

#[tokio::test]
async fn a_number_goes_over_to_the_next_connection_of_its_daemon() {
    let (tracker, _home) = start();
    let identity = Identity::generate().unwrap();
    let mut sharer = Session::connect(&tracker, &identity).await;
    claim(&mut sharer, None).await;
    let mut again = Session::connect(&tracker, &identity).await;
    claim(&mut again, Some(PLATE)).await;
    let mut receiver = join(&tracker).await;
    open(&mut receiver).await;
    assert!(matches!(hear(&mut again).await, CodeNews::Opened { .. }));
}

async fn say(session: &mut Session, request: CodeRequest) {
    let message = ToTracker::Code(request);
    session.writer.send(&message).await.unwrap();
}

async fn hear(session: &mut Session) -> CodeNews {
    match within(session.reader.recv()).await.unwrap() {
        Some(FromTracker::Code(news)) => news,
        other => panic!("{other:?}"),
    }
}

/// Gets number 1.
async fn claim(session: &mut Session, nameplate: Option<Nameplate>) {
    let claim = CodeRequest::Claim {
        ticket: 5,
        nameplate,
        lifetime_s: 60,
    };
    say(session, claim).await;
    let kept = CodeNews::Claimed {
        ticket: 5,
        result: Claimed::Kept(PLATE),
    };
    assert_eq!(hear(session).await, kept);
}

async fn open(session: &mut Session) {
    let open = CodeRequest::Open {
        nameplate: PLATE,
        exchange: EXCHANGE,
        message: body(1),
    };
    say(session, open).await;
}

async fn pass(session: &mut Session, number: u8) {
    let pass = CodeRequest::Pass {
        exchange: EXCHANGE,
        message: body(number),
    };
    say(session, pass).await;
}

fn closed(reason: Closed) -> CodeNews {
    CodeNews::Closed {
        exchange: EXCHANGE,
        reason,
    }
}

fn body(number: u8) -> Body {
    Body::truncated([number; 33])
}
