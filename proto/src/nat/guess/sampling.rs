//! Which port our NAT is about to give out: asked a moment before it matters, from sockets made for it.
//!
//! A *bracket* is two samples right before and right after a packet of ours: its port lies between
//! theirs, in the middle if others took ports meanwhile. A question that had to be put again shows
//! where the sequence is by then, and may fall on the wrong side of the packet.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::nat::Transmit;
use crate::nat::probe::{Answer, Question};
use crate::nat::stun::{Message, Transaction};

/// How long one answer waits for another: the questions went out together.
const HURRY: Duration = Duration::from_millis(60);

/// Ports more steps apart are not of one moment.
const MAX_STEPS: i32 = 256;

/// Questions to one server, each from a socket of its own, in the order they are put.
#[derive(Debug)]
pub(super) struct Sampling {
    questions: Vec<Question>,
    hurry: Option<Instant>,
}

/// Where a packet of ours between two samples most likely left from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Between {
    pub(super) port: u16,
    /// There is no other port between the samples.
    pub(super) is_certain: bool,
}

impl Sampling {
    pub(super) fn new(questions: Vec<Question>) -> Sampling {
        Sampling {
            questions,
            hurry: None,
        }
    }

    pub(super) fn recognizes(&self, transaction: Transaction) -> bool {
        let mut questions = self.questions.iter();
        questions.any(|question| question.recognizes(transaction))
    }

    pub(super) fn handle_message(&mut self, now: Instant, from: SocketAddr, message: &Message<'_>) {
        for question in &mut self.questions {
            question.handle_message(from, message);
        }
        if self.questions.iter().any(|q| q.answer().is_some()) {
            self.hurry.get_or_insert(now + HURRY);
        }
    }

    /// The questions to put at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Transmit> {
        let questions = self.questions.iter_mut();
        questions.filter_map(|q| q.handle_timeout(now)).collect()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let questions = self.questions.iter().filter_map(Question::poll_timeout);
        questions.chain(self.hurry).min()
    }

    /// Whether there is nothing more to wait for.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let is_settled = |question: &Question| question.poll_timeout().is_none();
        self.questions.iter().all(is_settled) || self.hurry.is_some_and(|hurry| hurry <= now)
    }

    /// Where the newest mapping is.
    pub(super) fn newest(&self) -> Option<u16> {
        let mut answers = self.questions.iter().rev().filter_map(Question::mapped);
        answers.next().map(|mapped| mapped.port())
    }

    /// The port of what was sent between the first question and the second, in a sequence of this
    /// step.
    pub(super) fn between(&self, step: i16) -> Option<Between> {
        let answer = |index: usize| self.questions.get(index).and_then(Question::answer);
        let (port, is_certain) = match (answer(0), answer(1)) {
            (Some(before), Some(after)) => middle(before, after, step.into())?,
            (Some(before), None) => (i32::from(before.mapped.port()) + i32::from(step), false),
            (None, Some(after)) => (i32::from(after.mapped.port()) - i32::from(step), false),
            (None, None) => return None,
        };
        let port = u16::try_from(port).ok()?;
        Some(Between { port, is_certain })
    }
}

fn middle(before: Answer, after: Answer, step: i32) -> Option<(i32, bool)> {
    let [low, high] = [before, after].map(|answer| i32::from(answer.mapped.port()));
    let steps = (high - low).checked_div(step)?;
    let at_once = before.is_first_try && after.is_first_try;
    match steps {
        2..=MAX_STEPS => Some((low + step * (steps / 2), at_once && steps == 2)),
        // The first question was put again after the packet was sent.
        _ if !before.is_first_try => Some((high - step, false)),
        _ if !after.is_first_try => Some((low + step, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::stun::binding_success;

    const SERVER: &str = "192.0.2.1:59000";

    #[test]
    fn a_packet_left_from_between_its_samples() {
        check(1, [Some(5000), Some(5002)], Some((5001, true)));
        check(4, [Some(5000), Some(5008)], Some((5004, true)));
        check(-1, [Some(5000), Some(4998)], Some((4999, true)));
        check(1, [Some(5000), Some(5007)], Some((5003, false)));
        check(1, [Some(5000), None], Some((5001, false)));
        check(1, [None, Some(5002)], Some((5001, false)));
    }

    #[test]
    fn samples_of_no_sequence_show_nothing() {
        check(1, [Some(5000), Some(5001)], None);
        check(1, [Some(5000), Some(4000)], None);
        check(1, [Some(5000), Some(40_000)], None);
        check(1, [Some(65_535), None], None);
        check(1, [None, None], None);
    }

    #[test]
    fn a_question_put_again_shows_where_the_sequence_is_by_then() {
        let start = Instant::now();
        let (mut sampling, asked) = asked(start);
        let again = sampling.take_due(start + Duration::from_millis(100));
        assert_eq!(again.len(), 2);
        answer(&mut sampling, start, &asked[1], 5_001);
        answer(&mut sampling, start, &again[0], 5_002);
        let between = sampling.between(1);
        assert_eq!(
            between.map(|it| (it.port, it.is_certain)),
            Some((5_000, false))
        );
        assert_eq!(sampling.newest(), Some(5_001));
    }

    #[test]
    fn one_answer_waits_60_ms_for_the_other() {
        let start = Instant::now();
        let (mut sampling, asked) = asked(start);
        assert!(!sampling.is_over(start + Duration::from_secs(1)));
        answer(&mut sampling, start, &asked[0], 5_000);
        assert!(!sampling.is_over(start + Duration::from_millis(59)));
        assert!(sampling.is_over(start + HURRY));
        assert_eq!(sampling.poll_timeout(), Some(start + HURRY));
    }

    #[track_caller]
    fn check(step: i16, ports: [Option<u16>; 2], expected: Option<(u16, bool)>) {
        let start = Instant::now();
        let (mut sampling, asked) = asked(start);
        for (request, port) in asked.iter().zip(ports) {
            if let Some(port) = port {
                answer(&mut sampling, start, request, port);
            }
        }
        let between = sampling.between(step);
        let between = between.map(|it| (it.port, it.is_certain));
        assert_eq!(between, expected, "{ports:?}");
    }

    fn asked(start: Instant) -> (Sampling, Vec<Transmit>) {
        let server = SERVER.parse().unwrap();
        let ask = |n: u8| Question::new(start, n.into(), server, Transaction([n; 12]));
        let mut sampling = Sampling::new(vec![ask(1), ask(2)]);
        let asked = sampling.take_due(start);
        assert_eq!(asked.len(), 2);
        (sampling, asked)
    }

    fn answer(sampling: &mut Sampling, now: Instant, request: &Transmit, port: u16) {
        let bytes = binding_success(&request.bytes, &format!("203.0.113.7:{port}"));
        let message = Message::parse(&bytes).unwrap();
        sampling.handle_message(now, SERVER.parse().unwrap(), &message);
    }
}
