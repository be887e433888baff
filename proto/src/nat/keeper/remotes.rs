//! The addresses a peer may be at: what each has shown, and which checks are to go there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Most addresses remembered besides the path.
pub(super) const OTHERS: usize = 4;

/// How long an answer speaks for an address: requests from there start no further checks so long,
/// or two sides would go on checking each other for ever.
const PROOF_LASTS: Duration = Duration::from_secs(5);

/// Checks that a request from an address starts, until one is answered: the peer may have got its
/// own answer and ask no more.
const TRIGGERED: usize = 5;

/// A triggered check keeps this distance from the one before.
const TRIGGER_PAUSE: Duration = Duration::from_millis(20);

/// A check to an address was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    at: Instant,
    /// From the check to its answer.
    pub(super) rtt: Duration,
}

/// Checks still to go to one address until it answers.
#[derive(Clone, Copy, Debug)]
struct Series {
    left: usize,
    next: Instant,
    pause: Duration,
}

/// What we know of one address.
#[derive(Debug)]
pub(super) struct Remote {
    learnt: Instant,
    /// Whether packets of the connection are accepted from there.
    pub(super) is_accepted: bool,
    /// When anything authenticated last came from there.
    pub(super) heard: Option<Instant>,
    pub(super) proof: Option<Proof>,
    checked: Option<Instant>,
    series: Option<Series>,
}

impl Remote {
    pub(super) fn new(now: Instant) -> Remote {
        Remote {
            learnt: now,
            is_accepted: false,
            heard: None,
            proof: None,
            checked: None,
            series: None,
        }
    }

    /// The address that a handshake has just proven.
    pub(super) fn of_handshake(now: Instant, rtt: Duration) -> Remote {
        Remote {
            is_accepted: true,
            proof: Some(Proof { at: now, rtt }),
            ..Remote::new(now)
        }
    }

    /// The answer to a check, if it is recent.
    pub(super) fn fresh_proof(&self, now: Instant) -> Option<Proof> {
        self.proof.filter(|proof| now < proof.at + PROOF_LASTS)
    }

    pub(super) fn prove(&mut self, now: Instant, rtt: Duration) {
        self.heard = Some(now);
        self.proof = Some(Proof { at: now, rtt });
    }

    /// So many checks from now on, instead of those planned.
    pub(super) fn start(&mut self, now: Instant, checks: usize, pause: Duration) {
        self.series = Some(Series {
            left: checks,
            next: now,
            pause,
        });
    }

    /// The peer was heard from there: checks soon, and a few times.
    pub(super) fn trigger(&mut self, now: Instant, pause: Duration) {
        let earliest = self.checked.map_or(now, |at| now.max(at + TRIGGER_PAUSE));
        let (left, next) = match self.series {
            Some(series) => (series.left.max(TRIGGERED), series.next.min(earliest)),
            None => (TRIGGERED, earliest),
        };
        self.series = Some(Series { left, next, pause });
    }

    /// No further checks.
    pub(super) fn stop(&mut self) {
        self.series = None;
    }

    /// When the next check is to go there.
    pub(super) fn next(&self) -> Option<Instant> {
        self.series.map(|series| series.next)
    }

    /// Whether a check is due. A pause counts from when the one before was taken, so a late caller
    /// causes no burst.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let Some(series) = self.series.filter(|series| series.next <= now) else {
            return false;
        };
        self.series = (series.left > 1).then(|| Series {
            left: series.left - 1,
            next: now + series.pause,
            ..series
        });
        true
    }

    /// A check goes there now, whatever for; one that was planned waits a little.
    pub(super) fn checked(&mut self, now: Instant) {
        self.checked = Some(now);
        if let Some(series) = &mut self.series {
            series.next = series.next.max(now + TRIGGER_PAUSE);
        }
    }

    /// Whether a check is so recent that another would tell nothing more.
    pub(super) fn is_just_checked(&self, now: Instant) -> bool {
        self.checked.is_some_and(|at| now < at + TRIGGER_PAUSE)
    }
}

/// The path and at most [`OTHERS`] more.
#[derive(Debug)]
pub(super) struct Remotes(BTreeMap<SocketAddr, Remote>);

impl Remotes {
    pub(super) fn new(path: SocketAddr, remote: Remote) -> Remotes {
        Remotes(BTreeMap::from([(path, remote)]))
    }

    pub(super) fn get(&self, address: SocketAddr) -> Option<&Remote> {
        self.0.get(&address)
    }

    pub(super) fn get_mut(&mut self, address: SocketAddr) -> Option<&mut Remote> {
        self.0.get_mut(&address)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SocketAddr, &mut Remote)> {
        self.0
            .iter_mut()
            .map(|(address, remote)| (*address, remote))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Remote> {
        self.0.values()
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.keys().copied()
    }

    /// The address, remembered from now on. If there are too many, one that is not in `kept` goes:
    /// the oldest that never answered, or else the one that answered least recently.
    pub(super) fn learn(
        &mut self,
        now: Instant,
        address: SocketAddr,
        kept: [Option<SocketAddr>; 2],
    ) -> &mut Remote {
        if !self.0.contains_key(&address) && self.0.len() > OTHERS {
            let others = self.0.iter().filter(|(at, _)| !kept.contains(&Some(**at)));
            let rank = |remote: &Remote| (remote.proof.map(|proof| proof.at), remote.learnt);
            let oldest = others.min_by_key(|(_, remote)| rank(remote));
            if let Some(oldest) = oldest.map(|(at, _)| *at) {
                self.0.remove(&oldest);
            }
        }
        let remote = self.0.entry(address);
        remote.or_insert_with(|| Remote::new(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_address_replaces_the_oldest_that_never_answered() {
        let start = Instant::now();
        let mut remotes = Remotes::new(address(0), Remote::of_handshake(start, ms(1)));
        let kept = [Some(address(0)), None];
        for n in 1..=4 {
            remotes.learn(start + ms(n), address(n), kept);
        }
        let first = remotes.get_mut(address(1)).unwrap();
        first.prove(start + ms(5), ms(1));
        remotes.learn(start + ms(6), address(5), kept);
        assert_eq!(ports(&remotes), [0, 1, 3, 4, 5]);
    }

    #[test]
    fn where_all_have_answered_the_one_that_did_least_recently_goes() {
        let start = Instant::now();
        let mut remotes = Remotes::new(address(0), Remote::of_handshake(start, ms(1)));
        let kept = [Some(address(0)), Some(address(2))];
        for n in 1..=4 {
            let remote = remotes.learn(start, address(n), kept);
            remote.prove(start + ms(10 - n), ms(1));
        }
        remotes.learn(start + ms(20), address(5), kept);
        assert_eq!(ports(&remotes), [0, 1, 2, 3, 5]);
    }

    #[test]
    fn triggered_checks_keep_their_distance_and_stop_of_themselves() {
        let start = Instant::now();
        let mut remote = Remote::new(start);
        let mut sent = Vec::new();
        for at in 0..1000 {
            let now = start + ms(at);
            if at < 50 {
                remote.trigger(now, ms(100));
            }
            if remote.take_due(now) {
                remote.checked(now);
                sent.push(at);
            }
        }
        assert_eq!(sent, [0, 20, 40, 60, 160, 260, 360, 460]);
    }

    fn ports(remotes: &Remotes) -> Vec<u64> {
        let ports = remotes.addresses().map(|address| address.port());
        ports.map(|port| u64::from(port - 5000)).collect()
    }

    fn address(number: u64) -> SocketAddr {
        ([203, 0, 113, 1], 5000 + number as u16).into()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
