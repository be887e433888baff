//! What holds for any limits, and whoever asks for whatever.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const A: SwarmId = SwarmId([1; 32]);
const B: SwarmId = SwarmId([2; 32]);
const RATE: u64 = 1_250_000;
const STEP: Duration = Duration::from_millis(1);

/// A shaper whose wire carries what passes, at once and with a cost.
struct Line {
    shaper: Shaper,
    now: Instant,
    /// Beyond the payload, in thousandths of it.
    overhead: u64,
    carried: u64,
    passed: BTreeMap<PassId, u64>,
}

impl Line {
    fn new(limit: Option<u64>) -> Line {
        let (mut shaper, now) = (Shaper::new(), Instant::now());
        shaper.set_limit(now, limit);
        shaper.handle_wire(now, 0);
        Line {
            shaper,
            now,
            overhead: 45,
            carried: 0,
            passed: BTreeMap::new(),
        }
    }

    /// Lets pass what may; `other` bytes are on the wire beside it.
    fn step(&mut self, after: Duration, other: u64) -> Vec<Pass> {
        self.begin(after);
        let passes: Vec<_> = std::iter::from_fn(|| self.pass()).collect();
        self.carried += other;
        passes
    }

    fn begin(&mut self, after: Duration) {
        self.now += after;
        self.shaper.handle_wire(self.now, self.carried);
    }

    fn pass(&mut self) -> Option<Pass> {
        let pass = self.shaper.poll(self.now)?;
        self.passed.insert(pass.id, pass.bytes.into());
        self.carried += u64::from(pass.bytes) * (1000 + self.overhead) / 1000;
        Some(pass)
    }

    /// For so long each share asks for more as soon as what it asked for has passed. What passed of each.
    fn run(&mut self, span: Duration, sizes: &[(SwarmId, u32)]) -> BTreeMap<SwarmId, u64> {
        let mut given = BTreeMap::new();
        let asked = sizes
            .iter()
            .map(|(share, size)| (self.shaper.ask(*share, *size), (*share, *size)));
        let mut asked: BTreeMap<_, _> = asked.collect();
        let end = self.now + span;
        while self.now < end {
            self.begin(STEP);
            while let Some(pass) = self.pass() {
                let (share, size) = asked.remove(&pass.id).unwrap();
                *given.entry(share).or_insert(0) += u64::from(pass.bytes);
                asked.insert(self.shaper.ask(share, size), (share, size));
            }
        }
        asked.keys().for_each(|id| self.shaper.withdraw(*id));
        given
    }
}

#[test]
fn without_a_limit_all_passes_at_once_and_whole() {
    let mut line = Line::new(None);
    assert!(!line.shaper.is_limiting());
    let asked = line.shaper.ask(A, 16 << 20);
    let bytes = 16 << 20;
    assert_eq!(line.step(Duration::ZERO, 0), [Pass { id: asked, bytes }]);
    assert_eq!(line.shaper.deadline(), None);
}

#[test]
fn the_wire_carries_the_limit_whatever_the_overhead() {
    for overhead in [0, 45, 200] {
        let mut line = Line::new(Some(RATE));
        line.overhead = overhead;
        line.run(Duration::from_secs(1), &[(A, 65_536)]);
        let before = line.carried;
        line.run(Duration::from_secs(2), &[(A, 65_536)]);
        let part = (line.carried - before) as f64 / (2 * RATE) as f64;
        assert!((0.99..1.01).contains(&part), "{part} at {overhead}");
    }
}

#[test]
fn what_else_is_on_the_wire_counts() {
    let mut line = Line::new(Some(RATE));
    let mut asked = line.shaper.ask(A, 65_536);
    let (mut payload, end) = (0, line.now + Duration::from_secs(4));
    while line.now < end {
        // Half of the limit.
        for pass in line.step(STEP, RATE / 2000) {
            payload += u64::from(pass.bytes);
            asked = line.shaper.ask(A, 65_536);
        }
    }
    line.shaper.withdraw(asked);
    let part = line.carried as f64 / (4 * RATE) as f64;
    assert!((0.97..1.03).contains(&part), "{part}");
    assert!(payload > 4 * RATE * 2 / 5, "{payload}");
}

#[test]
fn a_share_of_its_own_limit_keeps_to_it_on_the_wire() {
    let mut line = Line::new(None);
    line.shaper.set_share_limit(line.now, A, Some(RATE));
    line.overhead = 100;
    line.run(Duration::from_secs(4), &[(A, 65_536)]);
    let before = line.carried;
    line.run(Duration::from_secs(4), &[(A, 65_536)]);
    let part = (line.carried - before) as f64 / (4 * RATE) as f64;
    assert!((0.97..1.03).contains(&part), "{part}");
}

#[test]
fn shares_get_equal_parts_whatever_they_ask_for_at_once() {
    let mut line = Line::new(Some(RATE));
    let given = line.run(Duration::from_secs(4), &[(A, 65_536), (B, 1_200)]);
    let part = given[&A] as f64 / given[&B] as f64;
    assert!((0.95..1.05).contains(&part), "{given:?}");
}

#[test]
fn what_a_limited_share_may_not_have_goes_to_the_other() {
    let mut line = Line::new(Some(RATE));
    line.shaper.set_share_limit(line.now, A, Some(RATE / 10));
    let given = line.run(Duration::from_secs(4), &[(A, 65_536), (B, 65_536)]);
    let all = (given[&A] + given[&B]) as f64;
    assert!(given[&A] as f64 <= 0.11 * all, "{given:?}");
    assert!(all > 0.93 * (4 * RATE) as f64, "{given:?}");
}

#[test]
fn who_gives_up_holds_nobody_back() {
    let mut line = Line::new(Some(RATE));
    let gone = line.shaper.ask(A, 65_536);
    let other = line.shaper.ask(A, 100);
    line.shaper.withdraw(gone);
    assert_eq!(
        line.step(STEP, 0),
        [Pass {
            id: other,
            bytes: 100
        }]
    );
    line.shaper.withdraw(other);
    assert_eq!(line.shaper.deadline(), None);
}

#[test]
fn a_limit_that_is_lifted_lets_all_pass() {
    let mut line = Line::new(Some(1));
    line.shaper.set_share_limit(line.now, A, Some(1));
    for _ in 0..10 {
        line.shaper.ask(A, 65_536);
    }
    assert!(line.step(STEP, 0).len() < 10);
    line.shaper.set_limit(line.now, None);
    line.shaper.close(&A);
    line.step(STEP, 0);
    assert_eq!((line.passed.len(), line.shaper.deadline()), (10, None));
    assert!(!line.shaper.is_limiting());
}

#[test]
fn a_share_that_wants_nothing_any_more_leaves_nothing_behind() {
    let mut line = Line::new(Some(RATE));
    line.shaper.set_share_limit(line.now, A, None);
    assert!(line.shaper.lanes.is_empty(), "nothing to remember");
    let gone = line.shaper.ask(B, 100);
    line.shaper.withdraw(gone);
    line.shaper.set_share_limit(line.now, A, Some(RATE));
    line.shaper.ask(A, 100);
    line.shaper.close(&A);
    // It outlives its share.
    line.shaper.ask(A, 100);
    assert_eq!(line.step(STEP, 0).len(), 2);
    assert_eq!(line.shaper.lanes.len(), 1);
    line.step(SHARE_MEMORY, 0);
    assert!(line.shaper.lanes.is_empty());
    assert_eq!(line.shaper.rounds.shares(), 0);
    line.shaper.set_share_limit(line.now, A, Some(RATE));
    line.step(10 * SHARE_MEMORY, 0);
    assert!(line.shaper.is_limiting(), "a limit stays");
}

#[test]
fn nothing_is_owed_for_ever() {
    let mut line = Line::new(None);
    // What was carried before the limit was there is nobody's debt.
    line.carried = 1 << 40;
    line.shaper.set_limit(line.now, Some(RATE));
    line.shaper.ask(A, 1000);
    assert_eq!(line.step(STEP, 100 * RATE).len(), 1);
    line.shaper.ask(A, 1000);
    assert_eq!(line.step(STEP, 0).len(), 0, "far more went than might");
    assert_eq!(line.step(Duration::from_millis(1100), 0).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn over_any_span_no_more_goes_than_the_limit_and_one_bucket(
        rate in 8_000..200_000_000u64,
        overhead in 0..300u64,
        steps in prop::collection::vec((0..30_000u64, 0..3usize, 1..5_000_000u32, 0..50u64), 1..80),
    ) {
        let mut line = Line::new(Some(rate));
        line.overhead = overhead;
        let full = Bucket::new(line.now, rate).full();
        // What a step's packets cost beyond their payload is known after it.
        let slack = full * (1.0 + overhead as f64 / 500.0) + 2.0;
        let mut seen = vec![(line.now, 0)];
        for (micros, asks, bytes, other) in steps {
            for share in [A, B].iter().cycle().take(asks) {
                line.shaper.ask(*share, bytes);
            }
            let after = Duration::from_micros(micros);
            // Less than half of what the limit allows.
            let other = (after.as_secs_f64() * rate as f64) as u64 * other / 100;
            line.step(after, other);
            seen.push((line.now, line.carried));
            for (at, carried) in &seen {
                let most = (line.now - *at).as_secs_f64() * rate as f64 + slack;
                prop_assert!((line.carried - carried) as f64 <= most);
            }
        }
    }

    #[test]
    fn whatever_is_asked_passes_once_and_in_time(
        whole in prop::option::of(8_000..1_000_000_000u64),
        own in prop::option::of(8_000..1_000_000_000u64),
        asks in prop::collection::vec((any::<bool>(), 1..100_000u32), 1..60),
    ) {
        let mut line = Line::new(whole);
        line.shaper.set_share_limit(line.now, A, own);
        let mut wanted: BTreeMap<PassId, u32> = BTreeMap::new();
        for (first, bytes) in &asks {
            wanted.insert(line.shaper.ask(if *first { A } else { B }, *bytes), *bytes);
        }
        let slowest = whole.into_iter().chain(own).min().unwrap_or(u64::MAX);
        let all: u64 = asks.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
        let most = Duration::from_secs_f64(2.0 * all as f64 / slowest as f64) + STEP;
        let begun = line.now;
        while !wanted.is_empty() {
            for pass in line.step(Duration::ZERO, 0) {
                let bytes = wanted.remove(&pass.id);
                prop_assert!(bytes.is_some_and(|bytes| pass.bytes >= 1 && pass.bytes <= bytes));
            }
            if let Some(due) = line.shaper.deadline() {
                prop_assert!(due > line.now, "it would spin");
                line.now = due;
            }
            prop_assert!(line.now - begun <= most);
        }
    }
}
