use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use warren_net::{Endpoint, Expect, Identity, Profile, Protocol};

use super::*;

const MIB: u64 = 1 << 20;
const WHOLE: u64 = 24 * MIB;

#[test]
fn one_peer_has_what_its_path_takes() {
    let mut parts = [wanting(12 * MIB)];
    settle(WHOLE, &mut parts);
    assert_eq!((parts[0].window, parts[0].held), (12 * MIB, 12 * MIB));
    parts[0].wants = MIB;
    settle(WHOLE, &mut parts);
    assert_eq!((parts[0].window, parts[0].held), (MIB, 12 * MIB));
}

#[test]
fn what_a_lowered_window_held_is_given_to_others_once_it_is_acknowledged() {
    let mut parts = [wanting(16 * MIB)];
    settle(WHOLE, &mut parts);
    let mut parts = [parts[0], wanting(16 * MIB)];
    settle(WHOLE, &mut parts);
    assert_eq!(windows(&parts), [12 * MIB, 8 * MIB]);
    parts[0].held = parts[0].window;
    settle(WHOLE, &mut parts);
    assert_eq!(windows(&parts), [12 * MIB, 12 * MIB]);
}

#[test]
fn who_never_acknowledges_leaves_the_others_equal_parts_of_the_rest() {
    let mut parts = vec![wanting(16 * MIB)];
    settle(WHOLE, &mut parts);
    for _ in 0..4 {
        parts.push(wanting(16 * MIB));
        settle(WHOLE, &mut parts);
        acknowledge(&mut parts[1..]);
        settle(WHOLE, &mut parts);
    }
    assert_eq!(parts[0].held, 16 * MIB);
    assert_eq!(windows(&parts[1..]), [2 * MIB; 4]);
}

#[test]
fn slow_peers_leave_a_fast_one_what_it_wants() {
    let mut parts = vec![wanting(MIB / 4); 29];
    parts.push(wanting(16 * MIB));
    settle(WHOLE, &mut parts);
    assert_eq!(parts[29].window, 16 * MIB);
    assert!(parts[..29].iter().all(|part| part.window == MIB / 4));
}

proptest! {
    #[test]
    fn no_more_is_held_than_there_is(
        steps in prop::collection::vec((0..8usize, 0..20 * MIB, any::<bool>()), 1..60),
    ) {
        let mut parts = Vec::new();
        for (index, wants, acknowledged) in steps {
            match parts.get_mut(index) {
                None => parts.push(wanting(wants)),
                Some(part) => part.wants = wants,
            }
            settle(WHOLE, &mut parts);
            let held: u64 = parts.iter().map(|part| part.held).sum();
            prop_assert!(held <= WHOLE, "{:?}", parts);
            prop_assert!(parts.iter().all(|part| part.window <= part.held), "{:?}", parts);
            if acknowledged {
                acknowledge(&mut parts);
            }
        }
        // When all is acknowledged everybody has its part.
        for _ in 0..=parts.len() {
            acknowledge(&mut parts);
            settle(WHOLE, &mut parts);
        }
        let wants: Vec<_> = parts.iter().map(|part| part.wants).collect();
        let fair = divide(WHOLE, &wants);
        for (part, fair) in parts.iter().zip(fair) {
            prop_assert!(part.window.abs_diff(fair) <= 1, "{:?}", parts);
        }
    }
}

fn wanting(wants: u64) -> Part {
    Part {
        wants,
        ..Part::default()
    }
}

fn windows(parts: &[Part]) -> Vec<u64> {
    parts.iter().map(|part| part.window).collect()
}

fn acknowledge(parts: &mut [Part]) {
    parts.iter_mut().for_each(|part| part.held = part.window);
}

/// Whose other ends are real, and from some moment on as good as dead.
#[test]
fn thirty_peers_that_acknowledge_nothing_hold_no_more_than_there_is() {
    const PEERS: usize = 30;
    const WHOLE: u64 = 4 * MIB;
    let mut ours = Builder::new_multi_thread();
    let ours = ours.worker_threads(1).enable_all().build().unwrap();
    let (connections, _frozen) = connect(&ours, PEERS);
    let sends = Sends::new(WHOLE);
    let sent = ours.block_on(async {
        let mut answers = Vec::new();
        for (connection, number) in connections.iter().zip(0..) {
            let sending = sends.begin(SessionId(number), connection);
            let (stream, unread) = connection.quinn().open_bi().await.unwrap();
            answers.push((sending, stream, unread));
        }
        let (mut sent, mut before) = (0, None);
        // As windows change, who was full may write on.
        while before.replace(sent) != Some(sent) {
            for (sending, stream, _) in &mut answers {
                sent += fill(sending, stream);
            }
        }
        sent
    });
    let idle = PEERS as u64 * u64::from(IDLE_WINDOW_BYTES);
    assert!(sent <= WHOLE + idle, "{sent} bytes");
    assert!(sent >= WHOLE, "{sent} bytes: not all of it was of use");
}

#[test]
fn who_keeps_what_others_lack_loses_its_connection() {
    let mut ours = Builder::new_multi_thread();
    let ours = ours.worker_threads(1).enable_all().build().unwrap();
    let (connections, _frozen) = connect(&ours, 2);
    let sends = Sends::new(MIB / 2);
    let [keeps, lacks] = [0, 1].map(|index| &connections[index]);
    ours.block_on(async {
        let now = Instant::now();
        let sending = sends.begin(SessionId(0), keeps);
        let (mut stream, _unread) = keeps.quinn().open_bi().await.unwrap();
        fill(&sending, &mut stream);
        sends.end_overdue(now);
        let later = now + 2 * PATIENCE;
        sends.end_overdue(later);
        assert!(
            keeps.quinn().close_reason().is_none(),
            "nobody lacks anything"
        );

        let _lacking = sends.begin(SessionId(1), lacks);
        sends.end_overdue(later);
        sends.end_overdue(later + PATIENCE / 2);
        assert!(keeps.quinn().close_reason().is_none());
        sends.end_overdue(later + PATIENCE);
        assert!(keeps.quinn().close_reason().is_some());
        assert!(lacks.quinn().close_reason().is_none());
    });
}

/// Windows change all the time where many are served. What was held before is given back nevertheless.
#[test]
fn a_write_during_which_the_window_changes_gives_back_what_no_window_was_since_it_began() {
    let mut ours = Builder::new_multi_thread();
    let ours = ours.worker_threads(1).enable_all().build().unwrap();
    let (connections, _frozen) = connect(&ours, 4);
    let sends = Sends::new(FIRST_WANT);
    ours.block_on(async {
        let begin = |number| sends.begin(SessionId(number), &connections[number as usize]);
        let held = || sends.seats()[&SessionId(0)].part.held;
        let first = begin(0);
        let whole = sends.most_of_one();
        assert_eq!(held(), whole);
        first.begin_write();
        let _second = begin(1);
        first.end_write();
        assert_eq!(held(), whole, "so much may have been written under it");
        first.begin_write();
        let _third = begin(2);
        first.end_write();
        assert_eq!(held(), FIRST_WANT / 2, "the window when the write began");
        first.begin_write();
        first.end_write();
        assert_eq!(held(), FIRST_WANT / 3);
    });
}

/// Writes as much as may be written now; how much that was.
fn fill(sending: &Sending, stream: &mut quinn::SendStream) -> u64 {
    let (piece, mut sent) = ([7; 16 << 10], 0);
    loop {
        sending.begin_write();
        let Some(written) = stream.write(&piece).now_or_never() else {
            return sent;
        };
        sent += written.unwrap() as u64;
        sending.end_write();
    }
}

/// So many connections, whose other ends may be sent a lot and stop for good once they have said so.
fn connect(ours: &Runtime, peers: usize) -> (Vec<Connection>, impl Sized) {
    let identity = Identity::generate().unwrap();
    let mut theirs = Builder::new_current_thread();
    let theirs = theirs.enable_all().build().unwrap();
    let key = identity.public_key();
    let there = theirs.block_on(async { endpoint(&identity) });
    let to = there.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let theirs = std::thread::spawn(move || {
        let accepted = theirs.block_on(async {
            let mut accepted = Vec::new();
            for _ in 0..peers {
                let incoming = there.accept().await.unwrap();
                let connection = incoming.complete().await.unwrap();
                let expected = connection.expect(MIB);
                let mut ready = connection.quinn().open_uni().await.unwrap();
                ready.write_all(b"!").await.unwrap();
                accepted.push((connection, expected, ready));
            }
            stopped.await.unwrap();
            accepted
        });
        // Nothing drives them any more.
        (accepted, there, theirs)
    });
    let connections = ours.block_on(async {
        let here = endpoint(&Identity::generate().unwrap());
        let mut connections = Vec::new();
        for _ in 0..peers {
            let connection = here.connect(to, Protocol::Peer, Expect::Key(key));
            let connection = connection.await.unwrap();
            let mut ready = connection.quinn().accept_uni().await.unwrap();
            ready.read_exact(&mut [0]).await.unwrap();
            connections.push(connection);
        }
        connections
    });
    stop.send(()).unwrap();
    (connections, theirs.join().unwrap())
}

fn endpoint(identity: &Identity) -> Endpoint {
    let any = "127.0.0.1:0".parse().unwrap();
    Endpoint::bind(any, identity, &[Protocol::Peer], Profile::Daemon).unwrap()
}
