//! When the next check goes to one address, and how far it may travel.
//!
//! First *primers*: checks that die a few hops away. They open our own NAT and do not reach the
//! far one, where a packet from an address it has not sent to can take the port that its own flow
//! was about to get (Linux masquerading does that) and so shut the path for good. Then probes, at
//! first ICE's Ta apart (RFC 8445 §14.2), then ever slower. A request that comes from the address
//! triggers one more at once: what was lost or filtered before will now pass.
//!
//! Every address gets at most [`PROBES_PER_ADDRESS`] of them whatever happens; the parts add up to
//! it.

use std::time::{Duration, Instant};

/// Most checks to one address in one rendezvous, primers included. Whoever is the target of a
/// forged one gets 24 of 76 bytes, with IPv6 and UDP headers 2,976.
pub(super) const PROBES_PER_ADDRESS: usize = 24;

/// Hops of the two primers: past a home router and past a carrier's NAT behind it, and not yet in
/// the far peer's network.
const PRIMER_HOPS: [u8; 2] = [3, 5];

/// Between the primers and the first probe: time for our NAT to have seen the former on a slow
/// access line's queue, and little against a round trip.
const PRIMER_LEAD: Duration = Duration::from_millis(10);

/// Pauses between the probes of about the first second. The primers' lead comes before.
const FAST_PAUSES_MS: [u64; 6] = [50, 50, 90, 150, 250, 400];

/// Pauses between the probes after that, which only lossy paths need: the last one goes out 4.4 s
/// after the first, leaving its answer 0.6 s of the attempt's time.
const SLOW_PAUSES_MS: [u64; 6] = [500, 500, 600, 600, 600, 600];

/// Checks after a path was chosen: the side that stops first would starve the other.
const CONFIRMATIONS: usize = 3;

/// Between those.
const CONFIRMATION_PAUSE: Duration = Duration::from_millis(50);

/// Most checks that requests of the peer trigger.
const TRIGGERED: usize = 6;

/// A triggered check keeps this distance from the one before.
const TRIGGER_PAUSE: Duration = Duration::from_millis(20);

/// All scheduled checks: primers, the first probe, those after a pause.
const STEPS: usize = FAST_STEPS + SLOW_PAUSES_MS.len();

/// Those of about the first second.
const FAST_STEPS: usize = PRIMER_HOPS.len() + 1 + FAST_PAUSES_MS.len();

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
        left: usize,
        next: Instant,
    },
    Proven,
}

/// A check to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// How far it may travel, or the system's default.
    pub(super) hops: Option<u8>,
}

/// The schedule of one address.
#[derive(Debug)]
pub(super) struct Schedule {
    phase: Phase,
    /// Step at which searching ends.
    end: usize,
    triggered: usize,
    trigger: Option<Instant>,
    last_probe: Option<Instant>,
}

impl Schedule {
    /// Primers at `start`, then probes: for an address beyond a NAT of ours.
    pub(super) fn primed(start: Instant) -> Schedule {
        Schedule::from_step(0, start)
    }

    /// Probes from `start` on: for an address we need no NAT to open for.
    pub(super) fn unprimed(start: Instant) -> Schedule {
        Schedule::from_step(PRIMER_HOPS.len(), start)
    }

    /// A probe at `now`, the others of the first second after it: for an address nobody named and
    /// the peer was just heard from. What it sends later triggers more.
    pub(super) fn heard(now: Instant) -> Schedule {
        let step = PRIMER_HOPS.len() + 1;
        let mut schedule = Schedule::from_step(step, now + pause_before(step));
        schedule.end = FAST_STEPS;
        schedule.trigger(now);
        schedule
    }

    fn from_step(step: usize, next: Instant) -> Schedule {
        Schedule {
            phase: Phase::Searching { step, next },
            end: STEPS,
            triggered: 0,
            trigger: None,
            last_probe: None,
        }
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
        let hops = match self.trigger.take_if(|at| *at <= now) {
            Some(_) => None,
            None => self.take_step(now),
        };
        if hops.is_none() {
            self.last_probe = Some(now);
        }
        Some(Due { hops })
    }

    fn take_step(&mut self, now: Instant) -> Option<u8> {
        match self.phase {
            Phase::Searching { step, .. } => {
                self.phase = self.searching(step + 1, now);
                PRIMER_HOPS.get(step).copied()
            }
            Phase::Confirming { left, .. } => {
                self.phase = confirming(left - 1, now);
                None
            }
            Phase::Waiting | Phase::Proven => None,
        }
    }

    fn searching(&self, step: usize, now: Instant) -> Phase {
        if step >= self.end {
            return Phase::Waiting;
        }
        let next = now + pause_before(step);
        Phase::Searching { step, next }
    }

    /// The peer was heard from this address: checks it soon, unless that was done or done often.
    pub(super) fn trigger(&mut self, now: Instant) {
        let searching = matches!(self.phase, Phase::Searching { .. } | Phase::Waiting);
        if searching && self.trigger.is_none() && self.triggered < TRIGGERED {
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

    /// The address was chosen: a few more checks.
    pub(super) fn confirm(&mut self, now: Instant) {
        self.phase = confirming(CONFIRMATIONS, now);
    }

    /// Another address was chosen: no more than the probes of the first second.
    pub(super) fn cut_short(&mut self) {
        self.end = FAST_STEPS;
        if matches!(self.phase, Phase::Searching { step, .. } if step >= self.end) {
            self.phase = Phase::Waiting;
        }
    }
}

fn confirming(left: usize, now: Instant) -> Phase {
    match left {
        0 => Phase::Proven,
        left => Phase::Confirming {
            left,
            next: now + CONFIRMATION_PAUSE,
        },
    }
}

/// How long step number `step` comes after the one before it.
fn pause_before(step: usize) -> Duration {
    let Some(probe) = step.checked_sub(PRIMER_HOPS.len()) else {
        return Duration::ZERO;
    };
    let pauses = FAST_PAUSES_MS.iter().chain(&SLOW_PAUSES_MS);
    match probe.checked_sub(1) {
        None => PRIMER_LEAD,
        Some(index) => Duration::from_millis(pauses.copied().nth(index).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primers_come_first_then_probes_ever_slower() {
        let start = Instant::now();
        let sent = run(&mut Schedule::primed(start), start, |_| ());
        let primers = [(0, Some(3)), (0, Some(5))];
        let probes = [
            10, 60, 110, 200, 350, 600, 1000, 1500, 2000, 2600, 3200, 3800, 4400,
        ];
        let expected: Vec<_> = primers
            .into_iter()
            .chain(probes.map(|ms| (ms, None)))
            .collect();
        assert_eq!(sent, expected);
    }

    #[test]
    fn without_primers_the_first_probe_goes_at_once() {
        let start = Instant::now();
        let sent = run(&mut Schedule::unprimed(start), start, |_| ());
        assert_eq!(sent[..3], [(0, None), (50, None), (100, None)]);
    }

    #[test]
    fn no_order_of_events_sends_more_than_the_budget() {
        let start = Instant::now();
        let mut schedule = Schedule::primed(start);
        let mut sent = run(&mut schedule, start, |schedule| {
            schedule.trigger(schedule.next().unwrap());
        });
        schedule.prove();
        let end = start + Duration::from_secs(5);
        schedule.confirm(end);
        sent.extend(run(&mut schedule, end, |schedule| schedule.trigger(end)));
        assert_eq!(sent.len(), PROBES_PER_ADDRESS);
    }

    #[test]
    fn a_request_of_the_peer_is_followed_by_a_check_at_once_but_not_twice_in_20_ms() {
        let start = Instant::now();
        let mut schedule = Schedule::unprimed(start + Duration::from_secs(1));
        schedule.trigger(start);
        assert_eq!(schedule.take_due(start), Some(Due { hops: None }));
        schedule.trigger(start);
        assert_eq!(schedule.take_due(start), None);
        assert_eq!(schedule.next(), Some(start + TRIGGER_PAUSE));
    }

    #[test]
    fn the_choice_of_another_address_ends_the_search_after_its_first_second() {
        let start = Instant::now();
        let mut schedule = Schedule::unprimed(start);
        schedule.cut_short();
        assert_eq!(run(&mut schedule, start, |_| ()).len(), 7);
        assert!(!schedule.is_searching());
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
            sent.push(((now - start).as_millis(), due.hops));
            if schedule.next().is_some() {
                after(schedule);
            }
        }
        sent
    }
}
