//! Shows a tracker an address of ours by which we are not connected to it: that of the other IP family.
//!
//! [`AddressProof`] asks the tracker's STUN there, from our main socket, in the name of our session, and
//! yields what the answer says: where we are seen, and a token that we pass on by the connection. So the
//! tracker knows that we receive there. It asks again as often as the mapping, or the state of a
//! firewall, needs to be kept, which is also as often as a tracker wants to know.
//!
//! Who leads us to the server is the tracker, who may lie. So each question counts against what may go
//! to who does not answer ([`super::Allowance`]), and an answer without a token is none.
//!
//! Not here: who is told the address (`swarm::consent`), the tokens (`swarm::AddressTokens`).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::probe::Question;
use super::stun::{self, Message, Transaction};
use super::{Charge, MAIN, Transmit, usable_server};
use crate::wire::{AddressToken, SessionName};

/// STUN attribute of a request: the name of a session, 16 bytes. Of those that a server may ignore
/// (RFC 8489 §14), from the part that is for whoever asks for one.
pub const SESSION: u16 = 0xdacc;

/// STUN attribute of an answer: a token, 16 bytes.
pub const ADDRESS_TOKEN: u16 = 0xdacd;

/// Between two proofs.
const REFRESH: Duration = Duration::from_secs(20);

/// The same where nothing has come of the last ones: there is no way there, mostly.
const LONGEST_PAUSE: Duration = Duration::from_secs(320);

/// What shows that we receive at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Where the tracker sees us.
    pub address: SocketAddr,
    /// What it gave us there.
    pub token: AddressToken,
}

/// Asking → Resting when there is an answer, or no more to be hoped for; → Asking in time.
#[derive(Debug)]
enum Stage {
    Asking(Question),
    Resting { until: Instant },
}

/// Proves one address to one tracker, again and again.
#[derive(Debug)]
pub struct AddressProof {
    rng: StdRng,
    server: SocketAddr,
    session: SessionName,
    stage: Stage,
    /// How often in a row nothing has come of it.
    failures: u32,
    address: Option<SocketAddr>,
    proven: Option<Proven>,
    is_settled: bool,
}

impl AddressProof {
    /// Asks `server` at once; `None` if that can be none. Transactions come from `seed`.
    pub fn new(
        now: Instant,
        server: SocketAddr,
        session: SessionName,
        seed: [u8; 32],
    ) -> Option<AddressProof> {
        let server = usable_server(server)?;
        let mut proof = AddressProof {
            rng: StdRng::from_seed(seed),
            server,
            session,
            stage: Stage::Resting { until: now },
            failures: 0,
            address: None,
            proven: None,
            is_settled: false,
        };
        proof.restart(now);
        Some(proof)
    }

    /// Goes on in the name of another session.
    pub fn turn_to(&mut self, now: Instant, session: SessionName) {
        self.session = session;
        self.restart(now);
    }

    /// Asks at once: something has changed.
    pub fn restart(&mut self, now: Instant) {
        (self.failures, self.is_settled, self.proven) = (0, false, None);
        self.ask(now);
    }

    fn ask(&mut self, now: Instant) {
        let transaction = Transaction(self.rng.random());
        let question = Question::new(now, MAIN, self.server, transaction);
        self.stage = Stage::Asking(question.carrying(attribute(SESSION, &self.session)));
    }

    /// The STUN port that is asked.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Where the tracker saw us last, unless it does not answer any more.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether it is known if there is a way to the server, since the beginning or the last restart.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Takes a datagram in. What is not an answer of the server, with a token, changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let (Stage::Asking(question), Some(from)) = (&mut self.stage, usable_server(from)) else {
            return;
        };
        let Some(message) = Message::parse(bytes) else {
            return;
        };
        let token = message.attribute(ADDRESS_TOKEN).map(AddressToken::try_from);
        let Some(Ok(token)) = token else {
            return;
        };
        question.handle_message(from, &message);
        if let Some(address) = question.mapped() {
            (self.address, self.failures) = (Some(address), 0);
            self.proven = Some(Proven { address, token });
            self.rest(now + REFRESH);
        }
    }

    /// Advances to `now`; returns what is to be sent.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Transmit> {
        if let Stage::Resting { until } = self.stage
            && until <= now
        {
            self.ask(now);
        }
        let Stage::Asking(question) = &mut self.stage else {
            return None;
        };
        let transmit = question.handle_timeout(now);
        if transmit.is_none() && question.poll_timeout().is_none() {
            self.give_up(now);
        }
        transmit.map(|transmit| Transmit {
            charge: Charge::Unasked,
            ..transmit
        })
    }

    fn give_up(&mut self, now: Instant) {
        let pause = REFRESH * 2u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.address = None;
        self.rest(now + pause.min(LONGEST_PAUSE));
    }

    fn rest(&mut self, until: Instant) {
        self.is_settled = true;
        self.stage = Stage::Resting { until };
    }

    /// When to call [`AddressProof::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Resting { until } => Some(*until),
            Stage::Asking(question) => question.poll_timeout(),
        }
    }

    /// What to tell the tracker, once for each answer.
    pub fn poll_proven(&mut self) -> Option<Proven> {
        self.proven.take()
    }
}

/// Type 2, length 2, value; of a length that needs no padding.
fn attribute(kind: u16, value: &[u8; 16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(stun::ATTRIBUTE_HEADER_BYTES + value.len());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nat::stun::binding_success;

    const SERVER: &str = "[2001:db8:5::1]:59000";
    const OURS: &str = "[2001:db8::7]:5000";

    #[test]
    fn the_request_is_the_one_in_the_document() {
        let document = include_str!("../../PROTOCOL.md");
        let line = document
            .lines()
            .find_map(|line| line.strip_prefix("datagram request for a token: "));
        let (mut proof, now) = begun();
        let mut bytes = proof.handle_timeout(now).unwrap().bytes;
        bytes[8..20].fill(0x99);
        let hex: String = line.unwrap().split(' ').map(expand).collect();
        assert_eq!(hex, data_encoding::HEXLOWER.encode(&bytes));
    }

    #[test]
    fn a_request_is_as_long_as_the_longest_answer() {
        let (mut proof, now) = begun();
        let request = proof.handle_timeout(now).unwrap();
        assert_eq!(request.charge, Charge::Unasked);
        assert_eq!(
            request.bytes.len(),
            answer(&request.bytes, OURS, Some([9; 16])).len()
        );
    }

    #[test]
    fn what_the_server_says_is_told_once_and_asked_again_in_time() {
        let (mut proof, now) = begun();
        let told = answered(&mut proof, now);
        let address = OURS.parse().unwrap();
        assert_eq!(
            told,
            Some(Proven {
                address,
                token: [9; 16]
            })
        );
        assert_eq!(proof.poll_proven(), None);
        assert_eq!(proof.poll_timeout(), Some(now + REFRESH));
        assert!(answered(&mut proof, now + REFRESH).is_some());
    }

    #[test]
    fn what_anybody_else_says_is_nothing() {
        let (mut proof, now) = begun();
        let request = proof.handle_timeout(now).unwrap();
        let good = answer(&request.bytes, OURS, Some([9; 16]));
        let mut other_transaction = good.clone();
        other_transaction[9] ^= 1;
        let server = SERVER.parse().unwrap();
        for (from, bytes) in [
            ("[2001:db8:5::2]:59000".parse().unwrap(), &good),
            (server, &other_transaction),
            (server, &answer(&request.bytes, OURS, None)),
            (
                server,
                &answer(&request.bytes, "203.0.113.7:5000", Some([9; 16])),
            ),
            (server, &good[..good.len() - 4].to_vec()),
        ] {
            proof.handle_datagram(now, from, bytes);
            assert_eq!(proof.poll_proven(), None, "{from} {bytes:?}");
        }
        proof.handle_datagram(now, server, &good);
        assert!(proof.poll_proven().is_some());
    }

    #[test]
    fn a_server_that_does_not_answer_is_asked_ever_more_rarely() {
        let (mut proof, start) = begun();
        let (mut asked, mut bytes) = (Vec::new(), 0);
        while let Some(now) = proof
            .poll_timeout()
            .filter(|due| *due < start + LONGEST_PAUSE * 4)
        {
            if let Some(request) = proof.handle_timeout(now) {
                let second = (now - start).as_secs();
                if asked.last().is_none_or(|last| second > last + 5) {
                    asked.push(second);
                }
                bytes += request.bytes.len();
            }
        }
        assert_eq!(asked, [0, 22, 64, 146, 309, 631, 953, 1276]);
        assert_eq!(bytes, 8 * 5 * 64);
        assert!(proof.is_settled() && proof.address().is_none());
    }

    #[test]
    fn another_session_asks_at_once_in_its_own_name() {
        let (mut proof, now) = begun();
        answered(&mut proof, now);
        proof.turn_to(now, [8; 16]);
        let request = proof.handle_timeout(now).unwrap();
        let message = Message::parse(&request.bytes).unwrap();
        assert_eq!(message.attribute(SESSION), Some(&[8; 16][..]));
        assert_eq!(proof.address(), Some(OURS.parse().unwrap()));
    }

    #[test]
    fn nobody_is_asked_where_no_server_can_be() {
        for server in [
            "224.0.0.1:59000",
            "[fe80::1]:59000",
            "192.0.2.1:0",
            "[::]:59000",
        ] {
            let server = server.parse().unwrap();
            assert!(AddressProof::new(Instant::now(), server, [7; 16], [1; 32]).is_none());
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..96)) {
            let (mut proof, now) = begun();
            let _ = proof.handle_timeout(now);
            proof.handle_datagram(now, SERVER.parse().unwrap(), &bytes);
        }
    }

    fn begun() -> (AddressProof, Instant) {
        let now = Instant::now();
        let proof = AddressProof::new(now, SERVER.parse().unwrap(), [0x77; 16], [1; 32]);
        (proof.unwrap(), now)
    }

    fn answered(proof: &mut AddressProof, now: Instant) -> Option<Proven> {
        let request = proof.handle_timeout(now).unwrap();
        let answer = answer(&request.bytes, OURS, Some([9; 16]));
        proof.handle_datagram(now, SERVER.parse().unwrap(), &answer);
        proof.poll_proven()
    }

    fn answer(request: &[u8], mapped: &str, token: Option<AddressToken>) -> Vec<u8> {
        let mut bytes = binding_success(request, mapped);
        if let Some(token) = token {
            bytes.extend(attribute(ADDRESS_TOKEN, &token));
            bytes[3] += 20;
        }
        bytes
    }

    fn expand(word: &str) -> String {
        match word.split_once('x') {
            Some((byte, count)) => byte.repeat(count.parse().unwrap()),
            None => word.to_owned(),
        }
    }
}
