//! Proof that what the router opened is open: a packet of somebody we have sent nothing to.
//!
//! [`Proof`] decides when the tracker is asked for a probe (PROTOCOL.md, Probes of a tracker). It
//! holds no socket and reads no clock, and is driven as [`super::mapper::Mapper`] is.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

/// Longer than a tracker lets pass between two probes for one daemon, 10 s.
pub(super) const REPEAT: Duration = Duration::from_secs(11);

/// Probes asked for before the port is held to be shut; packets do get lost.
const PROBES: u32 = 3;

/// How long after that it is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(300);

/// What a probe is recognized by.
pub(super) type Token = [u8; 12];

/// A probe to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// Where it shall go, of our own outside address.
    pub(super) port: u16,
    /// What it shall carry.
    pub(super) token: Token,
}

/// What is known of an outside port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Asked, and not known yet.
    Pending,
    Open,
    /// Nothing came in.
    Shut,
}

/// Of one outside port at a time.
#[derive(Debug, Default)]
pub(super) struct Proof(Option<Proving>);

#[derive(Debug)]
struct Proving {
    outside: SocketAddrV4,
    token: Token,
    finding: Finding,
    asked: u32,
    /// When to ask, or to give up, or to begin again; never once it is open.
    next: Instant,
}

impl Proof {
    /// Begins to prove `outside`, which forgets the one before, unless it is that one.
    pub(super) fn begin(&mut self, now: Instant, outside: SocketAddrV4, token: Token) {
        if self.0.as_ref().is_none_or(|it| it.outside != outside) {
            self.0 = Some(Proving {
                outside,
                token,
                finding: Finding::Pending,
                asked: 0,
                next: now,
            });
        }
    }

    /// Forgets it: what is behind the port may have changed.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }

    /// What is known.
    pub(super) fn finding(&self) -> Finding {
        self.0.as_ref().map_or(Finding::Pending, |it| it.finding)
    }

    /// A probe came in; true if it was ours and told something new.
    pub(super) fn handle_probe(&mut self, token: Token) -> bool {
        match &mut self.0 {
            Some(it) if it.token == token && it.finding != Finding::Open => {
                it.finding = Finding::Open;
                true
            }
            _ => false,
        }
    }

    /// When to call [`Proof::poll_ask`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let unproven = self.0.as_ref().filter(|it| it.finding != Finding::Open);
        unproven.map(|it| it.next)
    }

    /// The probe to ask for at `now`, if one is due; may change what is known.
    pub(super) fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        let due = |it: &&mut Proving| it.finding != Finding::Open && it.next <= now;
        let it = self.0.as_mut().filter(due)?;
        if it.asked == PROBES {
            it.finding = Finding::Shut;
            it.asked = 0;
            it.next = now + RETRY;
            return None;
        }
        it.asked += 1;
        it.next = now + REPEAT;
        Some(Ask {
            port: it.outside.port(),
            token: it.token,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTSIDE: &str = "203.0.113.7:6000";

    #[test]
    fn the_probe_that_was_asked_for_opens_and_no_other() {
        let (mut proof, now) = begun();
        let ask = proof.poll_ask(now).unwrap();
        assert_eq!(ask.port, 6000);
        assert!(!proof.handle_probe([2; 12]));
        assert_eq!(proof.finding(), Finding::Pending);
        assert!(proof.handle_probe(ask.token));
        assert_eq!(proof.finding(), Finding::Open);
        assert!(!proof.handle_probe(ask.token));
        assert_eq!(proof.poll_timeout(), None);
    }

    #[test]
    fn a_shut_port_is_asked_about_three_times_and_then_not_for_five_minutes() {
        let (mut proof, start) = begun();
        let mut asked = Vec::new();
        let end = start + 2 * RETRY;
        while let Some(now) = proof.poll_timeout().filter(|due| *due < end) {
            asked.extend(proof.poll_ask(now).map(|_| (now - start).as_secs()));
            if (now - start).as_secs() == 33 {
                assert_eq!(proof.finding(), Finding::Shut);
            }
        }
        assert_eq!(asked, [0, 11, 22, 333, 344, 355]);
    }

    #[test]
    fn a_probe_that_comes_late_still_counts() {
        let (mut proof, start) = begun();
        while proof.finding() == Finding::Pending {
            let due = proof.poll_timeout().unwrap();
            assert!(due < start + RETRY);
            let _ = proof.poll_ask(due);
        }
        assert!(proof.handle_probe([1; 12]));
        assert_eq!(proof.finding(), Finding::Open);
    }

    #[test]
    fn the_same_port_is_proven_once_and_another_anew() {
        let (mut proof, now) = begun();
        proof.handle_probe([1; 12]);
        proof.begin(now, OUTSIDE.parse().unwrap(), [2; 12]);
        assert_eq!(proof.finding(), Finding::Open);
        proof.begin(now, "203.0.113.7:6001".parse().unwrap(), [3; 12]);
        assert_eq!(proof.finding(), Finding::Pending);
        assert!(!proof.handle_probe([1; 12]));
    }

    fn begun() -> (Proof, Instant) {
        let (mut proof, now) = (Proof::default(), Instant::now());
        proof.begin(now, OUTSIDE.parse().unwrap(), [1; 12]);
        (proof, now)
    }
}
