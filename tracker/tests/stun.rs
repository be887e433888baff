//! A tracker's STUN over real sockets: both ports, both dialects, and the clients people have.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use warren_proto::swarm::Shape;
use warren_tracker::{AltAddress, AltAddressError, Config, StartError, Tracker};

/// Cookie and transaction of RFC 8489.
const CURRENT: [u8; 16] = [
    0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
];

/// Transaction of RFC 3489.
const CLASSIC: [u8; 16] = [5; 16];

/// CHANGE-REQUEST: another port, another address.
const CHANGE_PORT: &[u8] = &[0, 3, 0, 4, 0, 0, 0, 2];
const CHANGE_IP: &[u8] = &[0, 3, 0, 4, 0, 0, 0, 4];

const SUCCESS: [u8; 2] = [0x01, 0x01];
const ERROR: [u8; 2] = [0x01, 0x11];

/// Exit code of timeout(1) when there is no such program.
const NOT_FOUND: i32 = 127;

#[tokio::test]
async fn both_ports_answer_and_ignore_what_is_neither_stun_nor_quic() {
    for tracker in [start("127.0.0.1:0"), start("[::]:0")] {
        for port in tracker.ports() {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let noise = b"not STUN at all, nor QUIC";
            socket.send_to(noise, port).await.unwrap();
            let (from, answer) = ask(&socket, port, CURRENT, &[]).await;
            assert_eq!((from, answer.len()), (port, 32));
            assert_eq!(answer[..2], SUCCESS);
            let mapped = u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112;
            assert_eq!(mapped, socket.local_addr().unwrap().port());
        }
    }
}

#[tokio::test]
async fn a_request_without_the_cookie_gets_the_plain_address_and_its_own_transaction_back() {
    let tracker = start("127.0.0.1:0");
    let [main, second] = tracker.ports();
    for (port, other) in [(main, second), (second, main)] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (from, answer) = ask(&socket, port, CLASSIC, &[]).await;
        assert_eq!(from, port);
        let mapped = socket.local_addr().unwrap();
        let expected = [
            &[1, 1, 0, 24],
            &CLASSIC[..],
            &address(1, mapped),
            &address(5, other),
        ];
        assert_eq!(answer, expected.concat());
    }
}

#[tokio::test]
async fn who_asks_for_another_port_is_answered_from_it() {
    for tracker in [start("127.0.0.1:0"), start("[::]:0")] {
        let [main, second] = tracker.ports();
        for (port, other) in [(main, second), (second, main)] {
            for id in [CURRENT, CLASSIC] {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                let (from, answer) = ask(&socket, port, id, CHANGE_PORT).await;
                assert_eq!((from, &answer[..2]), (other, &SUCCESS[..]));
                assert_eq!(answer[4..20], id);
            }
        }
    }
}

#[tokio::test]
async fn who_asks_for_another_address_hears_that_there_is_none() {
    let tracker = start("127.0.0.1:0");
    for port in tracker.ports() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (from, answer) = ask(&socket, port, CURRENT, CHANGE_IP).await;
        assert_eq!((from, &answer[..2]), (port, &ERROR[..]));
        assert_eq!(answer[24..28], [0, 0, 4, 20]);
        assert_eq!(answer[40..46], [0, 0x0a, 0, 2, 0, 3]);
    }
}

#[tokio::test]
async fn without_a_second_port_a_change_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let config = Config {
        stun_listen: vec![],
        ..config(home.path(), "127.0.0.1:0")
    };
    let tracker = Tracker::start(config).unwrap();
    let port = tracker.local_addrs()[0];
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (from, answer) = ask(&socket, port, CURRENT, CHANGE_PORT).await;
    assert_eq!((from, &answer[..2]), (port, &ERROR[..]));
}

#[tokio::test]
async fn padded_requests_are_always_answered_and_bare_ones_within_limits() {
    let tracker = start("127.0.0.1:0");
    let [_, port] = tracker.ports();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let padding = [&[0x80, 0x22, 0, 8][..], &[b' '; 8]].concat();
    let (mut bare, mut padded) = (0, 0);
    for round in 0..200 {
        let id = |kind| {
            [&CURRENT[..14], &[round, kind]]
                .concat()
                .try_into()
                .unwrap()
        };
        send(&socket, port, id(0), &[]).await;
        send(&socket, port, id(1), &padding).await;
        // Answers come in order, so that of the padded request ends the wait for the other.
        loop {
            let (_, answer) = receive(&socket).await;
            match answer[19] {
                0 => bare += 1,
                _ => break padded += 1,
            }
        }
    }
    assert_eq!(padded, 200);
    assert!((32..200).contains(&bare), "{bare} of 200");
}

/// Package `stun-client` of Debian: Vovida's client of RFC 3489.
#[tokio::test(flavor = "multi_thread")]
async fn the_classic_client_finds_no_nat_on_this_machine() {
    let tracker = start("[::]:0");
    for port in tracker.ports() {
        let address = port.to_string();
        let Some(out) = run("stun", &[&address]).await else {
            return;
        };
        assert!(out.contains("Primary: Open"), "{out}");
        for test in ["1", "2", "3"] {
            let out = run("stun", &[&address, test, "-v"]).await.unwrap();
            assert!(out.contains("ok=1"), "{out}");
            assert!(out.contains("mappedAddr=127.0.0.1:"), "{out}");
        }
    }
}

/// Package `coturn` of Debian: clients of RFC 8489 and RFC 5780.
#[tokio::test(flavor = "multi_thread")]
async fn the_clients_of_coturn_find_no_nat_on_this_machine() {
    let tracker = start("[::]:0");
    for port in tracker.ports().map(|port| port.port().to_string()) {
        for (address, reflexive) in [("127.0.0.1", "127.0.0.1:"), ("::1", "::1")] {
            if address == "::1" && UdpSocket::bind("[::1]:0").await.is_err() {
                continue;
            }
            let Some(out) = run("turnutils_stunclient", &["-p", &port, address]).await else {
                return;
            };
            let expected = format!("UDP reflexive addr: {reflexive}");
            assert!(out.contains(&expected), "{out}");
        }
        let args = ["-m", "-f", "-L", "127.0.0.1", "-p", &port, "127.0.0.1"];
        let out = run("turnutils_natdiscovery", &args).await.unwrap();
        assert_eq!(out.matches("No NAT!").count(), 2, "{out}");
        assert!(!out.contains("error"), "{out}");
    }
}

#[tokio::test]
async fn a_second_address_answers_as_the_first_whatever_the_sockets_are_bound_to() {
    for listen in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let tracker = start_alternate(listen, "127.0.0.2").unwrap();
        let [second] = tracker.tracker.alt_addrs() else {
            panic!("one second address for {listen}");
        };
        assert_eq!(second.ip().to_string(), "127.0.0.2");
        assert_eq!(second.port(), tracker.ports()[1].port(), "{listen}");
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for id in [CURRENT, CLASSIC] {
            let (from, answer) = ask(&socket, *second, id, &[]).await;
            assert_eq!((from, &answer[..2]), (*second, &SUCCESS[..]));
        }
        let (_, answer) = ask(&socket, *second, CURRENT, CHANGE_IP).await;
        assert_eq!(answer[..2], ERROR);
    }
}

#[tokio::test]
async fn bare_requests_to_the_second_address_count_against_the_same_limit() {
    let tracker = start_alternate("127.0.0.1:0", "127.0.0.2").unwrap();
    let second = tracker.tracker.alt_addrs()[0];
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let padding = [&[0x80, 0x22, 0, 8][..], &[b' '; 8]].concat();
    let [main, _] = tracker.ports();
    let is_served = async |port, round| {
        for (kind, attributes) in [(0, &[][..]), (1, &padding)] {
            let id = [&CURRENT[..14], &[round, kind]].concat();
            send(&socket, port, id.try_into().unwrap(), attributes).await;
        }
        let (_, answer) = receive(&socket).await;
        let is_bare = answer[19] == 0;
        if is_bare {
            receive(&socket).await;
        }
        is_bare
    };
    let mut round = 0;
    while is_served(main, round).await {
        round += 1;
    }
    let mut served = 0;
    for round in 200..220 {
        served += usize::from(is_served(second, round).await);
    }
    assert!(served < 20, "a limit of its own");
}

#[tokio::test]
async fn a_second_address_that_is_none_is_refused_with_what_to_do() {
    use AltAddressError::{LowPort, NotOurs, NotSecond, Third};
    let refused = |asked: &str| match start_alternate("127.0.0.1:0", asked).map(drop) {
        Err(StartError::AltAddress(error)) => error,
        other => panic!("{asked}: {other:?}"),
    };
    for not_ours in ["192.0.2.77", "0.0.0.0", "224.0.0.1", "2001:db8::77"] {
        assert!(matches!(refused(not_ours), NotOurs { .. }), "{not_ours}");
    }
    let first = refused("127.0.0.1:59003");
    assert!(matches!(first, NotSecond { .. }));
    assert!(first.hint().contains("--public"), "{}", first.hint());
    assert!(matches!(refused("127.0.0.2:443"), LowPort { port: 443 }));
    let home = tempfile::tempdir().unwrap();
    let both = Config {
        alt_addresses: alternates(&["127.0.0.2", "127.0.0.3"]),
        ..config(home.path(), "127.0.0.1:0")
    };
    let error = Tracker::start(both).map(drop).unwrap_err();
    assert!(matches!(error, StartError::AltAddress(Third { .. })));
}

fn alternates(texts: &[&str]) -> Vec<AltAddress> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn start_alternate(listen: &str, alternate: &str) -> Result<Running, StartError> {
    let home = tempfile::tempdir().unwrap();
    let config = Config {
        alt_addresses: alternates(&[alternate]),
        ..config(home.path(), listen)
    };
    let tracker = Tracker::start(config)?;
    Ok(Running {
        tracker,
        _home: home,
    })
}

struct Running {
    tracker: Tracker,
    _home: tempfile::TempDir,
}

impl Running {
    /// Main port and second port, at the address where tests reach them.
    fn ports(&self) -> [SocketAddr; 2] {
        [self.tracker.local_addrs()[0], self.tracker.stun_addrs()[0]]
            .map(|bound| SocketAddr::new([127, 0, 0, 1].into(), bound.port()))
    }
}

fn start(listen: &str) -> Running {
    let home = tempfile::tempdir().unwrap();
    let tracker = Tracker::start(config(home.path(), listen)).unwrap();
    Running {
        tracker,
        _home: home,
    }
}

fn config(home: &std::path::Path, listen: &str) -> Config {
    Config {
        listen: vec![listen.parse().unwrap()],
        tcp_listen: vec![],
        stun_listen: vec![listen.parse().unwrap()],
        alt_addresses: vec![],
        also_at: vec![],
        public: None,
        relay_bits_per_s: None,
        shape: Shape::default(),
        home: home.to_owned(),
    }
}

async fn ask(
    socket: &UdpSocket,
    to: SocketAddr,
    id: [u8; 16],
    attributes: &[u8],
) -> (SocketAddr, Vec<u8>) {
    send(socket, to, id, attributes).await;
    receive(socket).await
}

/// Sends a Binding request.
async fn send(socket: &UdpSocket, to: SocketAddr, id: [u8; 16], attributes: &[u8]) {
    let length = attributes.len() as u8;
    let request = [&[0, 1, 0, length], &id[..], attributes].concat();
    socket.send_to(&request, to).await.unwrap();
}

async fn receive(socket: &UdpSocket) -> (SocketAddr, Vec<u8>) {
    let mut bytes = [0; 256];
    let received = timeout(Duration::from_secs(10), socket.recv_from(&mut bytes));
    let (length, from) = received.await.unwrap().unwrap();
    (from, bytes[..length].to_vec())
}

/// A whole address attribute of RFC 3489.
fn address(kind: u8, address: SocketAddr) -> Vec<u8> {
    let [high, low] = address.port().to_be_bytes();
    vec![0, kind, 0, 8, 0, 1, high, low, 127, 0, 0, 1]
}

/// How a program ends and what it prints, or `None` where it is not installed.
async fn run(program: &str, args: &[&str]) -> Option<String> {
    let mut command = Command::new("timeout");
    command.arg("60").arg(program).args(args);
    let ran = tokio::task::spawn_blocking(move || command.output());
    let output = ran.await.unwrap().unwrap();
    if output.status.code() == Some(NOT_FOUND) {
        // Not by a macro, whose output passing tests keep to themselves.
        let line = format!("SKIPPED: {program} is not installed\n");
        io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Some(format!("{}\n{text}", output.status))
}
