//! Which attempt of a host may guess ports, and how much.
//!
//! A guess is hundreds of packets within a second. A home router has room for some thousand flows,
//! and an IP address that the tracker named may be that of somebody who knows nothing of us. So
//! attempts guess one at a time, all of them within a budget of packets per half minute, and an
//! address where a guess found nobody is left alone for longer each time.
//!
//! An attempt that wants to guess says so ([`super::PunchEvent::Turn`]): [`Turnstile::ask`]. When
//! [`Turnstile::poll`] yields its number, it is let through ([`super::PunchAttempt::take_turn`]). Each
//! packet it then sends as [`super::Charge::Guess`] is asked for with [`Turnstile::take`]. When it is
//! done, or dropped, [`Turnstile::leave`].
//!
//! Not here: how many flows our NAT has room for, whoever makes them ([`Flows`]): who is let through has
//! room for a guess that is worth it, and others wait. What an attempt sends beside its guess
//! ([`super::Allowance`]).

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::Charge;
use super::allowance::network_of;
use super::flows::{Flows, WINDOW};
use super::guess::Turn;
use crate::wire::Technique;

/// Most packets of guesses within [`WINDOW`], some of which go by flows that are there already.
const PACKETS: usize = 1_264;

/// The same when blocks are sprayed.
const SPRAY_PACKETS: usize = 2_264;

/// Longest turn. An attempt is over before, and says so.
const LONGEST: Duration = Duration::from_secs(10);

/// Most attempts that wait.
const QUEUE: usize = 256;

/// How long a network is left alone where one guess after the other found nobody.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(20),
    Duration::from_secs(120),
    Duration::from_secs(720),
    Duration::from_secs(3_600),
];

/// How long after that its silence is remembered.
const MEMORY: Duration = Duration::from_secs(3_600);

/// Most networks remembered. At three a minute, which is what the budget allows, this many come
/// together in five hours, by which time the first are forgotten.
const NETWORKS: usize = 1_024;

/// Why an attempt need not wait for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wait {
    /// Guesses at this network found nobody lately.
    #[error("the network is left alone for another {} s", wait.as_secs())]
    LeftAlone {
        /// For how long yet.
        wait: Duration,
    },
    /// Too many attempts wait, or too many networks are remembered.
    #[error("too many attempts wait to guess")]
    Full,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// The peer answered.
    Answered,
    /// It did not.
    Unanswered,
}

/// Lets one attempt guess at a time.
#[derive(Debug, Default)]
pub struct Turnstile {
    current: Option<Current>,
    /// In the order they asked.
    waiting: VecDeque<(u64, Turn)>,
    /// When each packet of the last [`WINDOW`] was sent.
    sent: VecDeque<Instant>,
    silent: BTreeMap<IpAddr, Silence>,
}

#[derive(Debug)]
struct Current {
    attempt: u64,
    turn: Turn,
    ends: Instant,
    sent: usize,
}

/// What is remembered of a network where nobody was found.
#[derive(Clone, Copy, Debug)]
struct Silence {
    times: usize,
    until: Instant,
}

impl Turnstile {
    /// Nobody guesses yet.
    pub fn new() -> Turnstile {
        Turnstile::default()
    }

    /// The attempt wants a turn. It waits for it until it is let through or leaves.
    ///
    /// # Errors
    /// When its turn would not come in the time an attempt lives.
    pub fn ask(&mut self, now: Instant, attempt: u64, turn: Turn) -> Result<(), Wait> {
        let network = network_of(turn.ip);
        if let Some(silence) = self.silent.get(&network).filter(|it| it.until > now) {
            let wait = silence.until.saturating_duration_since(now);
            return Err(Wait::LeftAlone { wait });
        }
        if self.waiting.len() >= QUEUE || !self.has_memory_for(now, network) {
            return Err(Wait::Full);
        }
        self.waiting.push_back((attempt, turn));
        Ok(())
    }

    /// Whose turn it is, once; `flows` is what our NAT has room for. Ask again until there is none, after
    /// every `ask` and `leave`, and at [`Turnstile::poll_timeout`].
    pub fn poll<S: Ord + Copy>(&mut self, now: Instant, flows: &mut Flows<S>) -> Option<u64> {
        self.forget(now);
        if self.current.is_some() {
            return None;
        }
        let mut room = |technique| flows.room(now, Charge::Guess, Some(technique));
        let (small, large) = (room(Technique::Birthday), room(Technique::BlockSpray));
        // A network that was asked for twice may have turned out silent meanwhile.
        let (sent, silent) = (self.sent.len(), &self.silent);
        let may = |(_, turn): &(u64, Turn)| {
            let silence = silent.get(&network_of(turn.ip));
            let room = match turn.technique {
                Technique::BlockSpray => large,
                _ => small,
            };
            let has_room = sent + turn.least <= limit(turn.technique) && turn.least <= room;
            has_room && silence.is_none_or(|it| it.until <= now)
        };
        let index = self.waiting.iter().position(may)?;
        let (attempt, turn) = self.waiting.remove(index)?;
        self.current = Some(Current {
            attempt,
            turn,
            ends: now + LONGEST,
            sent: 0,
        });
        Some(attempt)
    }

    /// Whether somebody waits, and nobody guesses.
    pub fn is_free_for_one(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.current.is_none() && !self.waiting.is_empty()
    }

    /// Whether somebody waits.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Who guesses now and what, and how many packets of that were sent.
    pub fn current(&self) -> Option<(u64, Turn, usize)> {
        let current = self.current.as_ref()?;
        Some((current.attempt, current.turn, current.sent))
    }

    /// By what is guessed now.
    pub fn technique(&self) -> Option<Technique> {
        self.current.as_ref().map(|current| current.turn.technique)
    }

    /// Whether the attempt may send one packet of its guess there, which then counts as sent.
    pub fn take(&mut self, now: Instant, attempt: u64, to: SocketAddr) -> bool {
        self.forget(now);
        let Some(current) = self.current.as_mut().filter(|it| it.attempt == attempt) else {
            return false;
        };
        let is_its = to.ip().to_canonical() == current.turn.ip.to_canonical();
        let may = is_its
            && current.sent < current.turn.packets
            && self.sent.len() < limit(current.turn.technique);
        if may {
            current.sent += 1;
            self.sent.push_back(now);
        }
        may
    }

    /// The attempt guesses no more, or waits for its turn no longer.
    pub fn leave(&mut self, now: Instant, attempt: u64, end: TurnEnd) {
        self.waiting.retain(|(waiting, _)| *waiting != attempt);
        let Some(current) = self.current.take_if(|it| it.attempt == attempt) else {
            return;
        };
        self.note(now, &current, end);
    }

    /// When to call [`Turnstile::poll`] though nothing has happened.
    pub fn poll_timeout<S: Ord + Copy>(&self, flows: &Flows<S>) -> Option<Instant> {
        if let Some(current) = &self.current {
            return Some(current.ends);
        }
        let sent = self.sent.front().map(|at| *at + WINDOW);
        let room = sent.into_iter().chain(flows.poll_timeout()).min();
        room.filter(|_| !self.waiting.is_empty())
    }

    fn note(&mut self, now: Instant, current: &Current, end: TurnEnd) {
        let network = network_of(current.turn.ip);
        match end {
            TurnEnd::Answered => {
                self.silent.remove(&network);
            }
            // Nobody was bothered.
            TurnEnd::Unanswered if current.sent == 0 => (),
            TurnEnd::Unanswered => {
                let before = self.silent.get(&network).map_or(0, |silence| silence.times);
                let pause = PAUSES[before.min(PAUSES.len() - 1)];
                let silence = Silence {
                    times: before + 1,
                    until: now + pause,
                };
                self.silent.insert(network, silence);
            }
        }
    }

    fn has_memory_for(&mut self, now: Instant, network: IpAddr) -> bool {
        self.silent
            .retain(|_, silence| silence.until + MEMORY > now);
        self.silent.len() < NETWORKS || self.silent.contains_key(&network)
    }

    fn forget(&mut self, now: Instant) {
        while self.sent.front().is_some_and(|at| *at + WINDOW <= now) {
            self.sent.pop_front();
        }
        if let Some(current) = self.current.take_if(|current| current.ends <= now) {
            self.note(now, &current, TurnEnd::Unanswered);
        }
    }
}

/// Most packets in a [`WINDOW`] that such a guess ends with.
const fn limit(technique: Technique) -> usize {
    match technique {
        Technique::BlockSpray => SPRAY_PACKETS,
        _ => PACKETS,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VICTIM: &str = "203.0.113.7:5000";
    const OTHER: &str = "198.51.100.9:6000";

    #[test]
    fn one_attempt_guesses_at_a_time_in_the_order_they_asked() {
        let mut bench = Bench::new();
        assert_eq!(bench.ask(1, OTHER, 10), Ok(()));
        assert_eq!(bench.ask(2, VICTIM, 10), Ok(()));
        assert_eq!((bench.poll(), bench.poll()), (Some(1), None));
        assert!(bench.take(1, OTHER) && !bench.take(2, VICTIM));
        let current = bench.turnstile.current();
        assert_eq!(
            current.map(|(attempt, _, sent)| (attempt, sent)),
            Some((1, 1))
        );
        assert!(!bench.turnstile.is_free_for_one(bench.now));
        bench.leave(1, TurnEnd::Answered);
        assert!(bench.turnstile.is_free_for_one(bench.now));
        assert_eq!(bench.poll(), Some(2));
        assert!(bench.take(2, VICTIM) && !bench.take(1, OTHER));
    }

    #[test]
    fn a_turn_is_for_one_address_and_so_many_packets() {
        let mut bench = Bench::new();
        assert_eq!(bench.ask(1, VICTIM, 3), Ok(()));
        assert!(!bench.take(1, VICTIM), "not yet let through");
        bench.poll();
        assert!(!bench.take(1, OTHER));
        let taken = (0..10).filter(|_| bench.take(1, VICTIM)).count();
        assert_eq!(taken, 3);
        bench.leave(1, TurnEnd::Answered);
        assert!(!bench.take(1, VICTIM), "left");
    }

    #[test]
    fn who_has_left_or_takes_too_long_loses_its_turn() {
        let mut bench = Bench::new();
        for attempt in 1..=3 {
            assert_eq!(bench.ask(attempt, OTHER, 10), Ok(()));
        }
        assert_eq!(bench.poll(), Some(1));
        bench.leave(2, TurnEnd::Unanswered);
        assert_eq!(bench.poll_timeout(), Some(bench.now + LONGEST));
        bench.now += LONGEST;
        assert_eq!(bench.poll(), Some(3));
    }

    #[test]
    fn half_a_minute_has_one_birthday_or_one_spray() {
        let mut bench = Bench::new();
        assert_eq!(bench.ask(1, VICTIM, 880), Ok(()));
        assert_eq!(bench.ask(2, OTHER, 880), Ok(()));
        assert_eq!(bench.ask_spray(3, OTHER, 2_200), Ok(()));
        bench.poll();
        assert_eq!((0..2_000).filter(|_| bench.take(1, VICTIM)).count(), 880);
        bench.leave(1, TurnEnd::Answered);
        assert_eq!(bench.poll(), None);
        assert_eq!(bench.poll_timeout(), Some(bench.now + WINDOW));
        bench.now += WINDOW;
        assert_eq!(bench.poll(), Some(2));
    }

    #[test]
    fn who_has_no_room_in_our_nat_waits_and_who_can_do_with_less_does_not() {
        let mut bench = Bench::new();
        for n in 0..700 {
            let flow = (n, VICTIM.parse().unwrap());
            assert!(bench.flows.take(bench.now, flow, Charge::Unasked, None));
        }
        assert_eq!(bench.ask(1, VICTIM, 880), Ok(()));
        assert_eq!(bench.poll(), None);
        assert_eq!(bench.poll_timeout(), Some(bench.now + WINDOW));
        let modest = Turn {
            ip: OTHER.parse::<SocketAddr>().unwrap().ip(),
            technique: Technique::Birthday,
            packets: 880,
            least: 440,
        };
        assert_eq!(bench.turnstile.ask(bench.now, 2, modest), Ok(()));
        assert_eq!(bench.poll(), Some(2));
        // What a guess leaves to others.
        assert_eq!((0..880).filter(|_| bench.take(2, OTHER)).count(), 500);
        bench.leave(2, TurnEnd::Answered);
        bench.now += WINDOW;
        assert_eq!(bench.poll(), Some(1));
    }

    #[test]
    fn a_small_guess_need_not_wait_for_a_large_one_before_it() {
        let mut bench = Bench::new();
        assert_eq!(bench.ask(1, VICTIM, 880), Ok(()));
        bench.poll();
        (0..880).for_each(|_| assert!(bench.take(1, VICTIM)));
        bench.leave(1, TurnEnd::Answered);
        assert_eq!(bench.ask(2, OTHER, 880), Ok(()));
        assert_eq!(bench.ask(3, OTHER, 120), Ok(()));
        assert_eq!(bench.poll(), Some(3));
    }

    #[test]
    fn a_silent_network_is_left_alone_for_longer_each_time() {
        let mut bench = Bench::new();
        for pause in [20, 120, 720, 3_600, 3_600] {
            assert!(bench.guess_in_vain(VICTIM));
            let wait = Duration::from_secs(pause);
            let left_alone = Err(Wait::LeftAlone { wait });
            assert_eq!(bench.ask(9, "203.0.113.7:7000", 1), left_alone);
            assert_eq!(bench.ask(9, OTHER, 1), Ok(()));
            bench.leave(9, TurnEnd::Unanswered);
            bench.now += wait;
        }
    }

    #[test]
    fn an_answer_makes_up_for_silence_and_so_does_time() {
        for heals in [true, false] {
            let mut bench = Bench::new();
            bench.guess_in_vain(VICTIM);
            bench.now += PAUSES[0];
            if heals {
                assert_eq!(bench.ask(1, VICTIM, 10), Ok(()));
                bench.poll();
                bench.take(1, VICTIM);
                bench.leave(1, TurnEnd::Answered);
            } else {
                bench.now += MEMORY;
            }
            assert!(bench.guess_in_vain(VICTIM));
            let wait = PAUSES[0];
            assert_eq!(bench.ask(2, VICTIM, 1), Err(Wait::LeftAlone { wait }));
        }
    }

    #[test]
    fn a_turn_in_which_nothing_was_sent_bothered_nobody() {
        let mut bench = Bench::new();
        assert_eq!(bench.ask(1, VICTIM, 10), Ok(()));
        bench.poll();
        bench.leave(1, TurnEnd::Unanswered);
        assert_eq!(bench.ask(2, VICTIM, 10), Ok(()));
    }

    #[test]
    fn another_turn_that_was_asked_for_meanwhile_waits_for_the_silence_too() {
        let mut bench = Bench::new();
        assert_eq!(bench.ask(7, VICTIM, 10), Ok(()));
        assert_eq!(bench.ask(8, VICTIM, 10), Ok(()));
        assert_eq!(bench.poll(), Some(7));
        bench.take(7, VICTIM);
        bench.leave(7, TurnEnd::Unanswered);
        assert_eq!(bench.poll(), None);
        bench.now += PAUSES[0];
        assert_eq!(bench.poll(), Some(8));
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let mut bench = Bench::new();
        for attempt in 0..QUEUE as u64 {
            assert_eq!(bench.ask(attempt, OTHER, 1), Ok(()));
        }
        assert_eq!(bench.ask(999, OTHER, 1), Err(Wait::Full));
        let mut bench = Bench::new();
        for n in 0..NETWORKS {
            assert!(bench.guess_in_vain(&format!("10.0.{}.{}:5000", n / 256, n % 256)));
        }
        assert_eq!(bench.ask(1, VICTIM, 1), Err(Wait::Full));
        bench.now += PAUSES[0] + MEMORY;
        assert_eq!(bench.ask(1, VICTIM, 1), Ok(()));
    }

    /// What a tracker can make a host do that forges rendezvous, and the words of peers in them.
    #[test]
    fn a_lying_tracker_has_an_address_sprayed_5_times_in_the_first_2_hours_and_once_an_hour_then() {
        let mut bench = Bench::new();
        let (mut packets, mut turns, mut attempt) = (0, 0, 0);
        for _ in 0..7_200 {
            attempt += 1;
            if bench.ask_spray(attempt, VICTIM, 2_200).is_ok() && bench.poll().is_some() {
                turns += 1;
                packets += (0..9_999).filter(|_| bench.take(attempt, VICTIM)).count();
            }
            bench.leave(attempt, TurnEnd::Unanswered);
            bench.now += Duration::from_secs(1);
        }
        assert_eq!((turns, packets), (5, 5 * 2_200));
    }

    proptest! {
        /// Whatever is asked, no half minute has more packets than a spray.
        #[test]
        fn no_half_minute_exceeds_the_budget(
            steps in proptest::collection::vec((0..6u64, 0..4u8, 0..3_000usize), 1..60),
        ) {
            let mut bench = Bench::new();
            let mut sent: Vec<Instant> = Vec::new();
            for (attempt, step, amount) in steps {
                let to = format!("10.0.0.{attempt}:5000");
                match step {
                    0 => drop(bench.ask(attempt, &to, amount)),
                    1 => drop(bench.ask_spray(attempt, &to, amount)),
                    2 => bench.leave(attempt, TurnEnd::Unanswered),
                    _ => bench.now += Duration::from_millis(amount as u64 * 5),
                }
                bench.poll();
                for attempt in 0..6 {
                    let to = format!("10.0.0.{attempt}:5000");
                    let taken = (0..amount).filter(|_| bench.take(attempt, &to)).count();
                    sent.extend(std::iter::repeat_n(bench.now, taken));
                }
                let recent = sent.iter().filter(|at| bench.now < **at + WINDOW).count();
                prop_assert!(recent <= SPRAY_PACKETS, "{recent}");
            }
        }
    }

    struct Bench {
        now: Instant,
        turnstile: Turnstile,
        flows: Flows<u32>,
        /// How often something was taken: each time a flow of its own.
        taken: u32,
    }

    impl Bench {
        fn new() -> Bench {
            Bench {
                now: Instant::now(),
                turnstile: Turnstile::new(),
                flows: Flows::new(),
                taken: 0,
            }
        }

        fn ask(&mut self, attempt: u64, to: &str, packets: usize) -> Result<(), Wait> {
            self.ask_as(attempt, to, packets, Technique::Birthday)
        }

        fn ask_spray(&mut self, attempt: u64, to: &str, packets: usize) -> Result<(), Wait> {
            self.ask_as(attempt, to, packets, Technique::BlockSpray)
        }

        fn ask_as(
            &mut self,
            attempt: u64,
            to: &str,
            packets: usize,
            technique: Technique,
        ) -> Result<(), Wait> {
            let turn = Turn {
                ip: to.parse::<SocketAddr>().unwrap().ip(),
                technique,
                packets,
                least: packets,
            };
            self.turnstile.ask(self.now, attempt, turn)
        }

        fn poll(&mut self) -> Option<u64> {
            self.turnstile.poll(self.now, &mut self.flows)
        }

        fn poll_timeout(&self) -> Option<Instant> {
            self.turnstile.poll_timeout(&self.flows)
        }

        fn take(&mut self, attempt: u64, to: &str) -> bool {
            let to = to.parse().unwrap();
            self.taken += 1;
            let (flow, guess) = ((self.taken, to), self.turnstile.technique());
            self.turnstile.take(self.now, attempt, to)
                && self.flows.take(self.now, flow, Charge::Guess, guess)
        }

        fn leave(&mut self, attempt: u64, end: TurnEnd) {
            self.turnstile.leave(self.now, attempt, end);
        }

        /// Whether it came to that.
        fn guess_in_vain(&mut self, to: &str) -> bool {
            let has_turn = self.ask(99, to, 1).is_ok() && self.poll() == Some(99);
            let has_sent = has_turn && self.take(99, to);
            self.leave(99, TurnEnd::Unanswered);
            has_sent
        }
    }
}
