//! The flows that this machine opens in the NATs it is behind, of everything it does, in one ledger.
//!
//! A NAT makes an entry for each pair of one of our sockets and a destination, whether anybody answers
//! or not, and keeps it for half a minute at least. A home router has room for some thousand of them,
//! which it shares among all of the home. So [`Flows::take`] is asked before any packet leaves, and what
//! would be one flow too many is not sent. What is not urgent gives way first: a guess leaves room for
//! checks, and those for what keeps connections and answers peers.
//!
//! | what opens flows | at most | charge |
//! | --- | ---: | --- |
//! | survey of our NAT: the main socket to two or three addresses of a tracker, more than once, 5 further ones, 32 where ports are random | 37, at each connection to a tracker and change of network | free |
//! | the filtering probe: a socket of its own to two ports | 3, with each survey | [`UNSEEN`] |
//! | checks, primers among them: the main socket to 8 candidates and 4 addresses learnt | 12 an attempt | unasked |
//! | samples of a sequence, and sockets opened to be foretold | 18 an attempt | free, unasked |
//! | prediction: the main socket to ports around one | 29 | guess |
//! | mutual prediction: 25 sockets to one port | 75 | guess |
//! | birthday: 384 sockets to one port, or one socket to 880 ports | 880 | guess |
//! | spray: up to 1,100 sockets to one port or more | 2,200 | guess |
//! | healing: a keeper's checks to known addresses; then an attempt as above | 8 | free |
//! | QUIC: only on paths that were checked; to trackers; to the tracker as relay | a few | [`UNSEEN`] |
//!
//! A further attempt opens all of that again: its sockets are others, and so are their flows. A flow is
//! taken for forgotten, and so for new, after [`IDLE`], which is sooner than most NATs forget.
//!
//! Generic over what names a socket, which must never name another: the machines' numbers do not.
//!
//! Not here: whose turn it is to guess ([`super::Turnstile`]), what an address that does not answer may
//! get ([`super::Allowance`]). What other programs on this machine guess is counted when they tell
//! ([`Flows::note_elsewhere`]); what other machines behind the same NAT do is not.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Charge;
use crate::wire::Technique;

/// Over this time new flows are counted: as long as a NAT keeps what is not answered.
pub(super) const WINDOW: Duration = Duration::from_secs(30);

/// Most flows within it, those of a spray left out.
pub(super) const FLOWS: usize = 1_300;

/// The same with those of a spray.
pub(super) const SPRAY_FLOWS: usize = 2_300;

/// Of both, what is left for packets that do not pass by here: QUIC to trackers, the filtering probe,
/// names that are looked up.
const UNSEEN: usize = 30;

/// Further left for what is nobody's guess, and for what is asked or wanted by somebody.
const FOR_CHECKS: usize = 40;
const FOR_THE_REST: usize = 30;

/// A flow that was not used for so long may have been forgotten.
const IDLE: Duration = Duration::from_secs(20);

/// Most flows remembered. What is more counts each time that it is used.
const REMEMBERED: usize = 8_192;

/// A guess of another program on this machine, which goes through the same NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// When its last flow was made, at the latest.
    pub ended: Instant,
    /// How many it made, at most.
    pub flows: usize,
    /// By what it guessed.
    pub technique: Technique,
}

/// All flows of one machine.
#[derive(Debug)]
pub struct Flows<S> {
    /// When each was used last.
    used: BTreeMap<(S, SocketAddr), Instant>,
    /// When each of the last [`WINDOW`] was made, and whether for a spray.
    made: VecDeque<(Instant, bool)>,
    /// How many of those for a spray.
    sprayed: usize,
    /// What others make, as they tell.
    elsewhere: Vec<Elsewhere>,
}

impl<S> Default for Flows<S> {
    fn default() -> Self {
        Flows {
            used: BTreeMap::new(),
            made: VecDeque::new(),
            sprayed: 0,
            elsewhere: Vec::new(),
        }
    }
}

impl<S: Ord + Copy> Flows<S> {
    /// None were made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a packet may leave by this socket for this address. If it makes a flow, that counts from
    /// now on; `guess` is how its sender guesses, if it does. To this machine itself no NAT leads.
    pub fn take(
        &mut self,
        now: Instant,
        (socket, to): (S, SocketAddr),
        charge: Charge,
        guess: Option<Technique>,
    ) -> bool {
        if to.ip().to_canonical().is_loopback() {
            return true;
        }
        let flow = (socket, to);
        let is_known = |at: &Instant| now.saturating_duration_since(*at) < IDLE;
        let is_new = !self.used.get(&flow).is_some_and(is_known);
        if is_new && self.room(now, charge, guess) == 0 {
            return false;
        }
        if is_new {
            let is_spray = is_spray(charge, guess);
            self.made.push_back((now, is_spray));
            self.sprayed += usize::from(is_spray);
        }
        self.remember(now, flow);
        true
    }

    /// How many flows may be made now for this.
    pub fn room(&mut self, now: Instant, charge: Charge, guess: Option<Technique>) -> usize {
        self.forget(now);
        let kept = kept_back(charge);
        let [sprayed, others] = self.made_by_all();
        let of_all = (SPRAY_FLOWS - kept).saturating_sub(sprayed + others);
        match is_spray(charge, guess) {
            true => of_all,
            false => (FLOWS - kept).saturating_sub(others).min(of_all),
        }
    }

    /// When there will be room for one more than now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = self.made.front().map(|(at, _)| *at);
        let elsewhere = self.elsewhere.iter().map(|it| it.ended);
        own.into_iter().chain(elsewhere).min().map(|at| at + WINDOW)
    }

    /// From now on these are all guesses of others that count.
    pub fn note_elsewhere(&mut self, guesses: Vec<Elsewhere>) {
        self.elsewhere = guesses;
    }

    /// Flows of sprays, and all others, that count now.
    fn made_by_all(&self) -> [usize; 2] {
        let own = [self.sprayed, self.made.len() - self.sprayed];
        self.elsewhere
            .iter()
            .fold(own, |[sprayed, others], it| match it.technique {
                Technique::BlockSpray => [sprayed + it.flows, others],
                _ => [sprayed, others + it.flows],
            })
    }

    fn remember(&mut self, now: Instant, flow: (S, SocketAddr)) {
        if self.used.len() >= REMEMBERED && !self.used.contains_key(&flow) {
            let is_idle = |at: &Instant| now.saturating_duration_since(*at) >= IDLE;
            self.used.retain(|_, at| !is_idle(at));
        }
        if self.used.len() < REMEMBERED || self.used.contains_key(&flow) {
            self.used.insert(flow, now);
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, is_spray)) = self.made.front()
            && *at + WINDOW <= now
        {
            self.sprayed -= usize::from(*is_spray);
            self.made.pop_front();
        }
        self.elsewhere.retain(|it| it.ended + WINDOW > now);
    }
}

fn is_spray(charge: Charge, guess: Option<Technique>) -> bool {
    charge == Charge::Guess && guess == Some(Technique::BlockSpray)
}

/// What this kind of packet leaves to more urgent ones.
const fn kept_back(charge: Charge) -> usize {
    match charge {
        Charge::Free => UNSEEN,
        Charge::Unasked => UNSEEN + FOR_THE_REST,
        Charge::Guess => UNSEEN + FOR_THE_REST + FOR_CHECKS,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPRAY: Option<Technique> = Some(Technique::BlockSpray);
    const BIRTHDAY: Option<Technique> = Some(Technique::Birthday);

    #[test]
    fn a_flow_counts_once_while_it_is_in_use() {
        let mut bench = Bench::new();
        for _ in 0..10 {
            assert!(bench.take(0, 1, Charge::Free, None));
            bench.now += IDLE / 2;
        }
        bench.flows.forget(bench.now);
        assert_eq!(bench.flows.made.len(), 0, "made too long ago");
        bench.now += IDLE;
        bench.take(0, 1, Charge::Free, None);
        assert_eq!(bench.flows.made.len(), 1, "forgotten, so made anew");
        bench.take(1, 1, Charge::Free, None);
        bench.take(0, 2, Charge::Free, None);
        assert_eq!(bench.flows.made.len(), 3, "another socket, another address");
    }

    #[test]
    fn guesses_leave_room_for_checks_and_those_for_what_is_wanted() {
        let mut bench = Bench::new();
        assert_eq!(bench.take_all(Charge::Guess, BIRTHDAY), 1_200);
        assert_eq!(bench.take_all(Charge::Unasked, None), 40);
        assert_eq!(bench.take_all(Charge::Free, None), 30);
        assert_eq!(bench.take_all(Charge::Free, None), 0);
        assert_eq!(bench.take_all(Charge::Guess, SPRAY), 2_200 - 1_270);
        bench.now += WINDOW;
        assert_eq!(bench.take_all(Charge::Guess, SPRAY), 2_200);
        assert_eq!(bench.take_all(Charge::Guess, BIRTHDAY), 0);
        assert_eq!(bench.take_all(Charge::Free, None), 70);
    }

    #[test]
    fn a_flow_that_is_there_may_be_used_however_many_there_are() {
        let mut bench = Bench::new();
        assert!(bench.take(7, 7, Charge::Free, None));
        bench.take_all(Charge::Free, None);
        assert!(!bench.take(8, 8, Charge::Free, None));
        assert!(bench.take(7, 7, Charge::Guess, BIRTHDAY));
    }

    #[test]
    fn guesses_of_other_programs_take_room_for_half_a_minute() {
        let mut bench = Bench::new();
        let guess = |ended, technique, flows| Elsewhere {
            ended,
            flows,
            technique,
        };
        let birthday = guess(bench.now, Technique::Birthday, 880);
        let spray = guess(bench.now, Technique::BlockSpray, 900);
        bench.flows.note_elsewhere(vec![birthday, spray]);
        assert_eq!(bench.flows.poll_timeout(), Some(bench.now + WINDOW));
        assert_eq!(bench.take_all(Charge::Guess, BIRTHDAY), 1_200 - 880);
        assert_eq!(bench.take_all(Charge::Guess, SPRAY), 2_200 - 1_200 - 900);
        assert_eq!(bench.take_all(Charge::Free, None), 70);
        bench.now += WINDOW;
        assert_eq!(bench.take_all(Charge::Guess, BIRTHDAY), 1_200);
        // However much they say.
        let boast = guess(bench.now, Technique::Birthday, usize::MAX / 2);
        bench.flows.note_elsewhere(vec![boast]);
        assert_eq!(bench.take_all(Charge::Free, None), 0);
    }

    #[test]
    fn to_ourselves_no_nat_leads() {
        let mut flows: Flows<u32> = Flows::new();
        let now = Instant::now();
        for port in 1024..10_000 {
            let to = SocketAddr::from(([127, 0, 0, 1], port));
            assert!(flows.take(now, (0, to), Charge::Unasked, None));
        }
    }

    #[test]
    fn there_is_room_again_when_the_oldest_flow_is_half_a_minute_old() {
        let mut bench = Bench::new();
        assert_eq!(bench.flows.poll_timeout(), None);
        let start = bench.now;
        bench.take(0, 1, Charge::Free, None);
        bench.now += WINDOW / 2;
        bench.take_all(Charge::Free, None);
        assert_eq!(bench.flows.poll_timeout(), Some(start + WINDOW));
        bench.now = start + WINDOW;
        assert_eq!(bench.take_all(Charge::Free, None), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut bench = Bench::new();
        for _ in 0..20 {
            bench.take_all(Charge::Guess, SPRAY);
            bench.take_all(Charge::Free, None);
            bench.now += WINDOW;
        }
        assert!(bench.flows.used.len() <= REMEMBERED);
        assert!(bench.flows.made.len() <= SPRAY_FLOWS);
    }

    /// What may happen.
    #[derive(Clone, Debug)]
    enum Step {
        /// So many packets, each from the next of so many sockets, to the next of so many ports.
        Send {
            count: usize,
            sockets: u32,
            ports: u16,
            charge: Charge,
            guess: Option<Technique>,
        },
        Pause(Duration),
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is sent when, a NAT makes at most 1,300 entries in any half minute, or 2,300 with
        /// those of sprays; whether it forgets what is not used after 20 s or after three minutes.
        #[test]
        fn no_half_minute_has_more_entries_than_a_router_has_room_for(
            steps in proptest::collection::vec(any_step(), 1..60),
            forgets_s in 20..180u64,
        ) {
            let mut bench = Bench::new();
            let mut nat: BTreeMap<(u32, SocketAddr), Instant> = BTreeMap::new();
            let mut entries: Vec<(Instant, bool)> = Vec::new();
            for step in steps {
                let (count, sockets, ports, charge, guess) = match step {
                    Step::Pause(pause) => {
                        bench.now += pause;
                        continue;
                    }
                    Step::Send { count, sockets, ports, charge, guess } => {
                        (count, sockets, ports, charge, guess)
                    }
                };
                for n in 0..count {
                    let flow = (n as u32 % sockets, address((n % usize::from(ports)) as u16));
                    if !bench.flows.take(bench.now, flow, charge, guess) {
                        continue;
                    }
                    let before = nat.insert(flow, bench.now);
                    let lives = Duration::from_secs(forgets_s);
                    if before.is_none_or(|at| bench.now - at >= lives) {
                        entries.push((bench.now, is_spray(charge, guess)));
                    }
                }
                let recent = entries.iter().filter(|(at, _)| bench.now - *at < WINDOW);
                let all = recent.clone().count();
                let others = recent.filter(|(_, spray)| !*spray).count();
                prop_assert!(others <= FLOWS - UNSEEN, "{others} entries");
                prop_assert!(all <= SPRAY_FLOWS - UNSEEN, "{all} entries");
            }
        }
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let charges = [Charge::Free, Charge::Unasked, Charge::Guess];
        let guesses = [None, SPRAY, BIRTHDAY];
        let send = (
            1..2_500usize,
            1..800u32,
            1..1_000u16,
            proptest::sample::select(charges.to_vec()),
            proptest::sample::select(guesses.to_vec()),
        );
        prop_oneof![
            3 => send.prop_map(|(count, sockets, ports, charge, guess)| Step::Send {
                count,
                sockets,
                ports,
                charge,
                guess,
            }),
            2 => (0..40_000u64).prop_map(|pause| Step::Pause(Duration::from_millis(pause))),
        ]
    }

    struct Bench {
        now: Instant,
        flows: Flows<u32>,
        next: u32,
    }

    impl Bench {
        fn new() -> Bench {
            Bench {
                now: Instant::now(),
                flows: Flows::new(),
                next: 1_000,
            }
        }

        fn take(
            &mut self,
            socket: u32,
            port: u16,
            charge: Charge,
            guess: Option<Technique>,
        ) -> bool {
            let flow = (socket, address(port));
            self.flows.take(self.now, flow, charge, guess)
        }

        /// How many new flows pass until one is refused.
        fn take_all(&mut self, charge: Charge, guess: Option<Technique>) -> usize {
            let next = || {
                self.next += 1;
                self.flows
                    .take(self.now, (self.next, address(1)), charge, guess)
            };
            std::iter::repeat_with(next)
                .take(10_000)
                .take_while(|taken| *taken)
                .count()
        }
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 7], port))
    }
}
