//! Looks for a better way to a tracker while sessions come and go.
//!
//! Peers are reached by UDP, and the tracker sees by UDP alone where we are. So a daemon that talks
//! to its tracker by TCP goes on trying UDP: soon at first, since one lost packet may have decided
//! for TCP, then ever more rarely. Where UDP works for a while and then does not, a change costs more
//! than it gains: [`Trials`] remembers that from one session to the next.
//!
//! Where this machine has come to another network, or was asleep, any session that is new is better: the
//! one there is may lead nowhere, and the tracker knows by it where we were.

use std::time::Duration;

use rand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use warren_proto::swarm::Transport;

use super::backoff::jittered;
use super::reach::{Reach, Way, better_ways, ways};
use super::session::{SessionError, Welcomed};

/// First and longest wait between two tries that come to nothing.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How long UDP has to work before it is trusted again once it fails. Until then the waits grow with
/// each time it fails, up to the longest.
const STEADY: Duration = Duration::from_secs(600);
const LONGEST_DISTRUST: Duration = Duration::from_secs(3600);

/// How much rarer it is tried when it has worked and failed again.
const DISTRUST: u32 = 4;

/// How long a try that is under way may take once the session is lost. The tracker ends the old
/// session when it has welcomed the new one, so the welcome is on its way by then.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// How often a new session is tried for in another network, how long each try may take, and how far apart
/// they begin: an address is there before the routes are.
const RENEWALS: u32 = 5;
const RENEWAL_TRY: Duration = Duration::from_secs(3);
const RENEWAL_GAP: Duration = Duration::from_secs(1);

/// When UDP is tried again, over all sessions with one tracker.
#[derive(Clone, Debug)]
struct Trials {
    wait: Duration,
    longest: Duration,
    /// Since when there are sessions by UDP.
    steady_since: Option<Instant>,
}

impl Trials {
    fn new() -> Self {
        Self {
            wait: FIRST_WAIT,
            longest: LONGEST_WAIT,
            steady_since: None,
        }
    }

    /// A session begins. One by TCP after some by UDP means that UDP has failed.
    fn begin(&mut self, now: Instant, transport: Transport) {
        match (transport, self.steady_since) {
            (Transport::Udp, None) => self.steady_since = Some(now),
            (Transport::Udp, Some(_)) | (Transport::Tcp, None) => (),
            (Transport::Tcp, Some(since)) => {
                let is_steady = now.duration_since(since) >= STEADY;
                let distrusted = (self.wait * DISTRUST).min(LONGEST_DISTRUST);
                *self = Self::new();
                if !is_steady {
                    self.wait = distrusted;
                    self.longest = distrusted.max(LONGEST_WAIT);
                }
            }
        }
    }

    /// How long to wait until the next try.
    fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(self.longest);
        jittered(wait, rng)
    }
}

/// The search, over all sessions with one tracker.
pub(super) struct Better {
    trials: Trials,
    /// What to look for, and from where, during the present session.
    search: Option<(Reach, Vec<Way>)>,
    /// The way of the present session, while any that is new is looked for.
    present: Option<Way>,
    due: Instant,
    /// How many tries are left to have any session that is new.
    renewals: u32,
    under_way: JoinSet<Result<Welcomed, SessionError>>,
}

impl Better {
    /// Nothing is looked for yet.
    pub(super) fn new() -> Self {
        Self {
            trials: Trials::new(),
            search: None,
            present: None,
            due: Instant::now(),
            renewals: 0,
            under_way: JoinSet::new(),
        }
    }

    /// A session begins by this way: looks for something better, if there is.
    pub(super) fn begin(&mut self, reach: Reach, way: Way) {
        let now = Instant::now();
        self.trials.begin(now, way.transport);
        self.under_way = JoinSet::new();
        (self.renewals, self.present) = (0, None);
        let ways = better_ways(way, reach.address.port);
        self.search = Some((reach, ways)).filter(|(_, ways)| !ways.is_empty());
        if self.search.is_some() {
            self.due = now + self.trials.next(&mut rand::rng());
        }
    }

    /// A session that is better. Waits forever where there is none to be had.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; a try under way goes on.
    pub(super) async fn found(&mut self) -> Welcomed {
        while let Some((reach, ways)) = self.search.clone() {
            if self.under_way.is_empty() {
                sleep_until(self.due).await;
                let patience = (self.renewals > 0).then_some(RENEWAL_TRY);
                self.under_way.spawn(attempt(reach, ways, patience));
            }
            match self.under_way.join_next().await {
                Some(Ok(Ok(welcomed))) => return welcomed,
                Some(Ok(Err(error))) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::debug!(error, "no better way to the tracker");
                }
                Some(Err(_)) | None => (),
            }
            self.plan_next();
        }
        std::future::pending().await
    }

    /// The network may be another one: looks for a new session by any way, at once. What was under way
    /// leads from where we were.
    pub(super) fn renew(&mut self, reach: Reach, present: Way) {
        self.trials = Trials::new();
        self.trials.begin(Instant::now(), present.transport);
        self.under_way = JoinSet::new();
        self.renewals = RENEWALS;
        let ways = ways(reach.address.port);
        (self.search, self.present) = (Some((reach, ways)), Some(present));
        self.due = Instant::now();
    }

    /// A try has come to nothing. When a new session cannot be had, the one there is may be as good.
    fn plan_next(&mut self) {
        let now = Instant::now();
        self.renewals = self.renewals.saturating_sub(1);
        if self.renewals > 0 {
            self.due = now + RENEWAL_GAP;
            return;
        }
        if let (Some((reach, ways)), Some(present)) = (&mut self.search, self.present.take()) {
            *ways = better_ways(present, reach.address.port);
        }
        self.search.take_if(|(_, ways)| ways.is_empty());
        self.due = now + self.trials.next(&mut rand::rng());
    }

    /// What comes of the try that is under way when the session is lost: it may have been lost
    /// because the try succeeded.
    pub(super) async fn last(&mut self) -> Option<Welcomed> {
        let ended = timeout(LAST_MOMENT, self.under_way.join_next()).await;
        ended.ok()??.ok()?.ok()
    }
}

async fn attempt(
    reach: Reach,
    ways: Vec<Way>,
    patience: Option<Duration>,
) -> Result<Welcomed, SessionError> {
    let connecting = super::session::connect(&reach, &ways);
    match patience {
        Some(patience) => timeout(patience, connecting)
            .await
            .unwrap_or(Err(SessionError::Silent)),
        None => connecting.await,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use warren_net::{Endpoint, Identity, Profile};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn tries_that_come_to_nothing_grow_rarer_up_to_five_minutes() {
        let mut bench = Bench::new();
        bench.begin(Transport::Tcp);
        bench.check(&[1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn udp_that_fails_soon_after_it_worked_is_tried_ever_more_rarely() {
        let mut bench = Bench::new();
        bench.begin(Transport::Tcp);
        // It works for three minutes each time, and is back at the first try.
        for expected in [1, 8, 64, 512, 2048] {
            bench.check(&[expected]);
            bench.begin(Transport::Udp);
            bench.pass(3 * MINUTE);
            bench.begin(Transport::Tcp);
        }
        bench.check(&[3600, 3600]);
    }

    #[test]
    fn a_day_on_a_network_where_udp_fails_every_five_minutes_sees_few_changes() {
        let (mut bench, mut changes) = (Bench::new(), 0);
        bench.begin(Transport::Tcp);
        while bench.passed() < 24 * 60 * MINUTE {
            let wait = bench.trials.next(&mut bench.rng);
            bench.pass(wait);
            bench.begin(Transport::Udp);
            bench.pass(5 * MINUTE);
            bench.begin(Transport::Tcp);
            changes += 1;
        }
        assert!(changes < 40, "{changes}");
    }

    #[test]
    fn udp_that_has_worked_for_long_is_tried_soon_when_it_fails_once() {
        let mut bench = Bench::new();
        for _ in 0..3 {
            bench.begin(Transport::Tcp);
            bench.check(&[1]);
            bench.begin(Transport::Udp);
            // The tracker was started anew meanwhile, which says nothing against UDP.
            bench.pass(STEADY / 2);
            bench.begin(Transport::Udp);
            bench.pass(STEADY / 2);
        }
    }

    #[tokio::test]
    async fn when_no_new_session_is_to_be_had_only_what_is_better_is_looked_for_again() {
        let udp: Vec<Way> = ways(59000).into_iter().take(2).collect();
        for (transport, expected) in [(Transport::Udp, None), (Transport::Tcp, Some(udp))] {
            let mut better = Better::new();
            let port = 59000;
            better.renew(reach(), Way { transport, port });
            let sought = |better: &Better| better.search.clone().map(|(_, ways)| ways);
            for _ in 0..RENEWALS {
                assert_eq!(sought(&better), Some(ways(port)));
                better.plan_next();
            }
            assert_eq!(sought(&better), expected);
        }
    }

    fn reach() -> Reach {
        let any = ([127, 0, 0, 1], 0).into();
        let identity = Identity::generate().unwrap();
        Reach {
            endpoint: Endpoint::bind(any, &identity, &[], Profile::Daemon).unwrap(),
            address: "127.0.0.1:59000".parse().unwrap(),
            pin: None,
            rtt: None,
        }
    }

    struct Bench {
        trials: Trials,
        rng: StdRng,
        began: Instant,
        now: Instant,
    }

    impl Bench {
        fn new() -> Bench {
            let now = Instant::now();
            Bench {
                trials: Trials::new(),
                rng: StdRng::seed_from_u64(1),
                began: now,
                now,
            }
        }

        fn begin(&mut self, transport: Transport) {
            self.trials.begin(self.now, transport);
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }

        fn passed(&self) -> Duration {
            self.now - self.began
        }

        /// What comes next is spread over half to three halves of these.
        #[track_caller]
        fn check(&mut self, waits_s: &[u64]) {
            for wait_s in waits_s {
                let (wait, expected) = (
                    self.trials.next(&mut self.rng),
                    Duration::from_secs(*wait_s),
                );
                let range = expected / 2..=expected * 3 / 2;
                assert!(range.contains(&wait), "{wait:?} for {wait_s} s");
                self.now += wait;
            }
        }
    }
}
