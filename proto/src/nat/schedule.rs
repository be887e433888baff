//! When the next check goes to one address, and how far it may travel.
//!
//! A NAT drops what comes from an address its host has not sent to. Most forget it at once. One
//! that *clashes* (Linux masquerading without an input filter) lets it take the outside port that
//! its host's own flow to that address was about to get: for half a minute that flow leaves from
//! another port, which the other side's filter does not know, and the path is shut. Hence an
//! [`Approach`] by what the peer's NAT is known to do. *Primers* are checks that die a few hops
//! away: they open our own NAT and do not reach the far one. *Probes* travel all the way.
//!
//! Probes are at first ICE's Ta apart (RFC 8445 §14.2), then ever slower. A request that comes from
//! the address triggers one more at once: what was lost or filtered before will now pass.
//!
//! Every address gets at most [`PROBES_PER_ADDRESS`] checks whatever happens; the parts add up to
//! it.

use std::time::{Duration, Instant};

use crate::wire::NatFiltering;

/// Most checks to one address in one rendezvous, primers included. Whoever is the target of a
/// forged one gets 24 of 76 bytes, with IPv6 and UDP headers 2,976.
pub(super) const PROBES_PER_ADDRESS: usize = 24;

/// What the first checks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Approach {
    /// Probes: no NAT is in between, or what comes uninvited leaves no trace on it.
    Direct,
    /// Primers and soon a probe: nothing is known of the peer's NAT. When the peer starts later
    /// than we do by no more than one way takes, the probe finds it open.
    Primed,
    /// Primers and for a while nothing: the peer's NAT clashes, so no probe may reach it before its
    /// host has sent to us. See [`HELD_LEAD`].
    Held,
}

impl Approach {
    /// To an address beyond NATs, by what the peer's is said to let in.
    pub(super) fn through(filtering: NatFiltering) -> Approach {
        match filtering {
            NatFiltering::PortIndependent | NatFiltering::PortDependent => Approach::Direct,
            NatFiltering::Unknown => Approach::Primed,
            NatFiltering::Clashing => Approach::Held,
        }
    }

    /// How far the opening checks may travel.
    fn hops(self) -> [Option<u8>; OPENING] {
        match self {
            Approach::Direct => [None; OPENING],
            Approach::Primed => PRIMED_HOPS.map(Some),
            Approach::Held => HELD_HOPS.map(Some),
        }
    }

    /// The step of the first probe.
    fn first_probe(self) -> usize {
        match self {
            Approach::Direct => 0,
            Approach::Primed | Approach::Held => OPENING,
        }
    }

    /// Between the opening checks, then until the next one.
    fn opening_pauses(self) -> [Duration; OPENING] {
        match self {
            Approach::Direct => [DIRECT_PAUSE; OPENING],
            Approach::Primed => [Duration::ZERO, PRIMED_LEAD],
            Approach::Held => [PRIMER_REPEAT, HELD_LEAD],
        }
    }

    /// How long step number `step` comes after the one before it; the first comes at the start.
    fn pause_before(self, step: usize) -> Duration {
        let probes = FAST_PAUSES_MS.iter().chain(&SLOW_PAUSES_MS);
        let opening = self.opening_pauses().into_iter();
        let mut pauses = opening.chain(probes.map(|ms| Duration::from_millis(*ms)));
        let pause = step.checked_sub(1).and_then(|index| pauses.nth(index));
        pause.unwrap_or_default()
    }
}

/// Checks that differ by approach.
const OPENING: usize = 2;

/// Past a home router and past a carrier's NAT behind it, and mostly not yet in the far peer's
/// network.
const PRIMED_HOPS: [u8; OPENING] = [3, 5];

/// Past our first NAT and no further: one router between the two NATs is enough to keep this from
/// the far one. Twice, in case the first is lost.
const HELD_HOPS: [u8; OPENING] = [2; OPENING];

/// Long enough for the second primer not to share the fate of the first in a full queue.
const PRIMER_REPEAT: Duration = Duration::from_millis(20);

/// Time for our NAT to have seen the primers on a slow access line's queue, and little against a
/// round trip.
const PRIMED_LEAD: Duration = Duration::from_millis(10);

/// The first probe is held until 400 ms after our start, unless the peer is heard before.
///
/// A peer whose NAT clashes while ours does not probes as soon as it starts, and hearing that ends
/// the hold. When both NATs clash both sides hold; then the one that started first waits until the
/// other has certainly started too, which the tracker makes them do at the same time give or take a
/// lost packet. Of two NATs on one side the primers open the inner one only, and the first probe
/// the outer one: if that clashes and the other side's NAT too, they meet only when they start
/// within one way of each other.
const HELD_LEAD: Duration = Duration::from_millis(380);

/// Ta.
const DIRECT_PAUSE: Duration = Duration::from_millis(50);

/// Pauses between the probes of about the first second: the opening and its lead come before.
const FAST_PAUSES_MS: [u64; 6] = [50, 50, 90, 150, 250, 400];

/// Pauses between the probes after that, which only lossy paths need: the last one goes out 4.4 s
/// after the start, leaving its answer 0.6 s of the attempt's time, or 0.2 s after a hold.
const SLOW_PAUSES_MS: [u64; 6] = [500, 500, 600, 600, 600, 600];

/// Checks after a path was chosen: the side that stops first would starve the other.
const CONFIRMATIONS: usize = 3;

/// Between those.
const CONFIRMATION_PAUSE: Duration = Duration::from_millis(50);

/// Pauses before further ones, unless one was answered, out of what the search left over. The server
/// sends nothing by a further socket before it knows that the client has chosen that (RFC 8445
/// §7.3.1.5).
const REPEAT_PAUSES_MS: [u64; 3] = [200, 400, 800];

/// Most checks that requests of the peer trigger.
const TRIGGERED: usize = 6;

/// A triggered check keeps this distance from the one before.
const TRIGGER_PAUSE: Duration = Duration::from_millis(20);

/// All scheduled checks: the opening, one after it, those after a pause.
const STEPS: usize = FAST_STEPS + SLOW_PAUSES_MS.len();

/// Those of about the first second.
const FAST_STEPS: usize = OPENING + 1 + FAST_PAUSES_MS.len();

const _: () = assert!(STEPS + CONFIRMATIONS + TRIGGERED == PROBES_PER_ADDRESS);

/// Searching → Waiting after the last step; either → Proven on an authenticated answer, → Confirming
/// if the path is then chosen, → Proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Searching {
        step: usize,
        next: Instant,
    },
    /// Nothing is due unless the peer is heard.
    Waiting,
    Confirming {
        sent: usize,
        end: usize,
        next: Instant,
    },
    Proven,
}

/// A check to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// May travel this far only.
    Primer { hops: u8 },
    /// Travels all the way.
    Probe,
    /// The same, to the address that was chosen.
    Confirmation,
}

impl Due {
    /// How far it may travel, or the system's default.
    pub(super) fn hops(self) -> Option<u8> {
        match self {
            Due::Primer { hops } => Some(hops),
            Due::Probe | Due::Confirmation => None,
        }
    }
}

/// The schedule of one address.
#[derive(Debug)]
pub(super) struct Schedule {
    approach: Approach,
    phase: Phase,
    /// Step at which searching ends.
    end: usize,
    /// Steps that were taken.
    taken: usize,
    triggered: usize,
    trigger: Option<Instant>,
    last_probe: Option<Instant>,
}

impl Schedule {
    /// Checks from `start` on.
    pub(super) fn new(approach: Approach, start: Instant) -> Schedule {
        Schedule {
            approach,
            phase: Phase::Searching {
                step: 0,
                next: start,
            },
            end: STEPS,
            taken: 0,
            triggered: 0,
            trigger: None,
            last_probe: None,
        }
    }

    /// A probe at `now`, the others of the first second after it: for an address nobody named and
    /// the peer was just heard from. What it sends later triggers more.
    pub(super) fn heard(now: Instant) -> Schedule {
        let mut schedule = Schedule::new(Approach::Primed, now);
        schedule.end = FAST_STEPS;
        schedule.trigger(now);
        schedule
    }

    /// When [`Schedule::take_due`] has something next.
    pub(super) fn next(&self) -> Option<Instant> {
        let scheduled = match self.phase {
            Phase::Searching { next, .. } | Phase::Confirming { next, .. } => Some(next),
            Phase::Waiting | Phase::Proven => None,
        };
        scheduled.into_iter().chain(self.trigger).min()
    }

    /// The next check if it is due; called again until there is none. A pause counts from when the
    /// check before was really sent, so a late caller causes no burst.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        let due = match self.trigger.take_if(|at| *at <= now) {
            Some(_) => Due::Probe,
            None => self.take_step(now)?,
        };
        if due.hops().is_none() {
            self.last_probe = Some(now);
        }
        Some(due)
    }

    fn take_step(&mut self, now: Instant) -> Option<Due> {
        match self.phase {
            Phase::Searching { step, .. } => {
                self.phase = self.searching(step + 1, now);
                self.taken += 1;
                let hops = self.approach.hops().get(step).copied().flatten();
                Some(hops.map_or(Due::Probe, |hops| Due::Primer { hops }))
            }
            Phase::Confirming { sent, end, .. } => {
                self.phase = confirming(sent + 1, end, now);
                Some(Due::Confirmation)
            }
            Phase::Waiting | Phase::Proven => None,
        }
    }

    fn searching(&self, step: usize, now: Instant) -> Phase {
        if step >= self.end {
            return Phase::Waiting;
        }
        let next = now + self.approach.pause_before(step);
        Phase::Searching { step, next }
    }

    /// The peer was heard from this address: probes it soon, unless that was done or done often.
    /// The first probe needs to wait no longer, neither for primers nor for the start.
    pub(super) fn trigger(&mut self, now: Instant) {
        let first_probe = self.approach.first_probe();
        match self.phase {
            Phase::Searching { step, .. } if step <= first_probe => {
                self.phase = Phase::Searching {
                    step: first_probe,
                    next: now,
                };
            }
            Phase::Searching { .. } | Phase::Waiting => self.trigger_again(now),
            Phase::Confirming { .. } | Phase::Proven => (),
        }
    }

    fn trigger_again(&mut self, now: Instant) {
        if self.trigger.is_none() && self.triggered < TRIGGERED {
            self.triggered += 1;
            let earliest = self.last_probe.map(|last| last + TRIGGER_PAUSE);
            self.trigger = Some(earliest.map_or(now, |earliest| earliest.max(now)));
        }
    }

    /// The address answered.
    pub(super) fn prove(&mut self) {
        self.phase = Phase::Proven;
        self.trigger = None;
    }

    /// Whether the address has answered.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.phase, Phase::Confirming { .. } | Phase::Proven)
    }

    /// Whether more checks will go to an address that has not answered.
    pub(super) fn is_searching(&self) -> bool {
        matches!(self.phase, Phase::Searching { .. })
    }

    /// The address was chosen: a few more checks, the first of them at once.
    pub(super) fn confirm(&mut self, now: Instant) {
        let left_over = STEPS.saturating_sub(self.taken);
        self.phase = Phase::Confirming {
            sent: 0,
            end: CONFIRMATIONS + left_over.min(REPEAT_PAUSES_MS.len()),
            next: now,
        };
    }

    /// One of those was answered.
    pub(super) fn acknowledge(&mut self) {
        if let Phase::Confirming { sent, end, next } = self.phase {
            let end = end.min(CONFIRMATIONS);
            self.phase = match sent < end {
                true => Phase::Confirming { sent, end, next },
                false => Phase::Proven,
            };
        }
    }

    /// No probe unless the peer is heard from this address: it could be of no use, and of harm.
    pub(super) fn open_only(&mut self) {
        self.end = self.end.min(self.approach.first_probe());
    }

    /// Another address was chosen: no more than the checks of the first second.
    pub(super) fn cut_short(&mut self) {
        self.end = self.end.min(FAST_STEPS);
        if matches!(self.phase, Phase::Searching { step, .. } if step >= self.end) {
            self.phase = Phase::Waiting;
        }
    }
}

/// After so many confirmations, the last of them now.
fn confirming(sent: usize, end: usize, now: Instant) -> Phase {
    if sent == end {
        return Phase::Proven;
    }
    let repeat = sent.checked_sub(CONFIRMATIONS);
    let pause_ms = repeat.and_then(|repeat| REPEAT_PAUSES_MS.get(repeat));
    let pause = pause_ms.map_or(CONFIRMATION_PAUSE, |ms| Duration::from_millis(*ms));
    let next = now + pause;
    Phase::Confirming { sent, end, next }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROBES: [u128; 13] = [
        0, 50, 100, 190, 340, 590, 990, 1490, 1990, 2590, 3190, 3790, 4390,
    ];

    #[test]
    fn an_unknown_nat_gets_primers_and_probes_10_ms_later() {
        check(Approach::Primed, [(0, Some(3)), (0, Some(5))], 10);
    }

    #[test]
    fn a_clashing_nat_gets_shallow_primers_and_probes_400_ms_after_the_start() {
        check(Approach::Held, [(0, Some(2)), (20, Some(2))], 400);
    }

    #[test]
    fn a_nat_on_which_nothing_leaves_a_trace_gets_probes_at_once() {
        check(Approach::Direct, [(0, None), (50, None)], 100);
    }

    #[test]
    fn a_peer_that_is_heard_is_probed_at_once_and_gets_no_primer_more() {
        for approach in APPROACHES {
            // While the wait lasts, and after the first primer.
            for lateness in [5, 0] {
                let heard = Instant::now();
                let mut schedule = Schedule::new(approach, heard + ms(lateness));
                let before = schedule.take_due(heard);
                schedule.trigger(heard);
                if before != Some(Due::Probe) {
                    assert_eq!(schedule.take_due(heard), Some(Due::Probe), "{approach:?}");
                }
                let later = run(&mut schedule, heard, |_| ());
                assert!(later.iter().all(|(_, hops)| hops.is_none()), "{later:?}");
                assert!(later[0].0 >= 20, "{later:?}");
            }
        }
    }

    #[test]
    fn a_peer_that_is_only_opened_for_gets_no_probe_before_it_is_heard() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Approach::Held, start);
        schedule.open_only();
        let sent = run(&mut schedule, start, |_| ());
        assert_eq!(sent, [(0, Some(2)), (20, Some(2))]);
        schedule.trigger(start + ms(500));
        assert_eq!(schedule.take_due(start + ms(500)), Some(Due::Probe));
    }

    #[test]
    fn a_request_of_the_peer_is_followed_by_a_check_at_once_but_not_twice_in_20_ms() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Approach::Direct, start + ms(1000));
        schedule.trigger(start);
        assert_eq!(schedule.take_due(start), Some(Due::Probe));
        schedule.trigger(start);
        assert_eq!(schedule.take_due(start), None);
        assert_eq!(schedule.next(), Some(start + TRIGGER_PAUSE));
    }

    #[test]
    fn three_confirmations_follow_the_choice_the_first_at_once() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Approach::Direct, start);
        schedule.prove();
        schedule.confirm(start);
        assert_eq!(schedule.take_due(start), Some(Due::Confirmation));
        schedule.acknowledge();
        let later = run(&mut schedule, start, |_| ());
        assert_eq!(later, [(50, None), (100, None)]);
    }

    #[test]
    fn where_none_is_answered_three_more_follow_until_one_is() {
        let confirmed = |answered_after: usize| {
            let start = Instant::now();
            let mut schedule = Schedule::new(Approach::Direct, start);
            schedule.prove();
            schedule.confirm(start);
            let mut sent = 0;
            let sent = run(&mut schedule, start, |schedule| {
                sent += 1;
                if sent == answered_after {
                    schedule.acknowledge();
                }
            });
            sent.into_iter().map(|(at, _)| at).collect::<Vec<_>>()
        };
        assert_eq!(confirmed(100), [0, 50, 100, 300, 700, 1500]);
        assert_eq!(confirmed(4), [0, 50, 100, 300]);
        assert_eq!(confirmed(3), [0, 50, 100]);
    }

    #[test]
    fn who_was_found_with_the_last_check_is_confirmed_three_times() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Approach::Direct, start);
        run_steps(&mut schedule, STEPS);
        schedule.prove();
        schedule.confirm(start);
        assert_eq!(run(&mut schedule, start, |_| ()).len(), CONFIRMATIONS);
    }

    #[test]
    fn the_choice_of_another_address_ends_the_search_after_its_first_second() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Approach::Direct, start);
        schedule.cut_short();
        assert_eq!(run(&mut schedule, start, |_| ()).len(), FAST_STEPS);
        assert!(!schedule.is_searching());
    }

    /// What may happen to a schedule after a check.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Nothing,
        Trigger,
        Prove,
        Acknowledge,
        CutShort,
    }

    proptest! {
        #[test]
        fn no_order_of_events_sends_more_than_the_budget(
            approach in proptest::sample::select(&APPROACHES[..]),
            steps in proptest::collection::vec((any_step(), 0..60u64), 0..60),
        ) {
            let mut now = Instant::now();
            let mut schedule = Schedule::new(approach, now);
            let mut sent = 0;
            for (step, later) in steps {
                match step {
                    Step::Nothing => (),
                    Step::Trigger => schedule.trigger(now),
                    Step::Prove if schedule.is_proven() => (),
                    Step::Prove => {
                        schedule.prove();
                        schedule.confirm(now);
                    }
                    Step::Acknowledge => schedule.acknowledge(),
                    Step::CutShort => schedule.cut_short(),
                }
                now = schedule.next().unwrap_or(now).max(now) + ms(later);
                sent += std::iter::from_fn(|| schedule.take_due(now)).count();
            }
            sent += run(&mut schedule, now, |_| ()).len();
            prop_assert!(sent <= PROBES_PER_ADDRESS, "{sent}");
        }
    }

    #[test]
    fn all_of_the_budget_can_be_used() {
        for approach in APPROACHES {
            let start = Instant::now();
            let mut schedule = Schedule::new(approach, start);
            // Not before the first probe: what is heard then only hastens it.
            let mut sent = run_steps(&mut schedule, OPENING + 1);
            sent += run(&mut schedule, start, |schedule| {
                schedule.trigger(schedule.next().unwrap());
            })
            .len();
            schedule.prove();
            schedule.confirm(start);
            sent += run(&mut schedule, start, |_| ()).len();
            assert_eq!(sent, PROBES_PER_ADDRESS, "{approach:?}");
        }
    }

    const APPROACHES: [Approach; 3] = [Approach::Direct, Approach::Primed, Approach::Held];

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Nothing),
            4 => Just(Step::Trigger),
            1 => Just(Step::Prove),
            1 => Just(Step::Acknowledge),
            1 => Just(Step::CutShort),
        ]
    }

    /// The opening, then probes from `first` on, as milliseconds since the start and hops.
    #[track_caller]
    fn check(approach: Approach, opening: [(u128, Option<u8>); OPENING], first: u128) {
        let start = Instant::now();
        let sent = run(&mut Schedule::new(approach, start), start, |_| ());
        let probes = PROBES.map(|ms| (first + ms, None));
        assert_eq!(sent, [&opening[..], &probes].concat());
    }

    fn run_steps(schedule: &mut Schedule, steps: usize) -> usize {
        for _ in 0..steps {
            let now = schedule.next().unwrap();
            schedule.take_due(now).unwrap();
        }
        steps
    }

    /// Milliseconds since `start` and hops of every check until nothing is due any more, with
    /// something happening after each.
    fn run(
        schedule: &mut Schedule,
        start: Instant,
        mut after: impl FnMut(&mut Schedule),
    ) -> Vec<(u128, Option<u8>)> {
        let mut sent = Vec::new();
        while let Some(now) = schedule.next() {
            let due = schedule.take_due(now).unwrap();
            sent.push(((now - start).as_millis(), due.hops()));
            if schedule.next().is_some() {
                after(schedule);
            }
        }
        sent
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
