//! Finds out how our own NAT behaves, and notices when it was rebound or we moved.

mod filtering;
mod rebounds;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use warren_proto::nat::{
    Confidence, Dependence, Guessing, Hairpinning, MappingProbe, Measured, Observation, Observers,
    PrimerHops,
};
use warren_proto::wire::{NatFiltering, NatMapping, Technique};

use super::{Nat, StunServer};
use filtering::probe_filtering;
use rebounds::Rebounds;

/// How often the tracker is asked how our socket looks to it: this also keeps the mapping towards it
/// for as long as the least patient NATs do.
const REFRESH: Duration = Duration::from_secs(20);

/// Least time between two such questions.
const PAUSE: Duration = Duration::from_secs(2);

/// Least time between two thorough probes because of what peers have seen: one opens 32 sockets.
const LOOK_PAUSE: Duration = Duration::from_secs(60);
/// How long nothing waits for a survey without answers: in round trips to the tracker, and at least.
const PATIENCE_RTTS: u32 = 3;
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// What a survey found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// How our NAT behaves, as far as it can be known.
    Nat(Nat),
    /// Our socket has another outside address than before.
    Rebound,
}

/// How much a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Whether anything has changed.
    Check,
    /// Whether our socket looks the same to both ports of the tracker.
    Quick,
    /// What further sockets look like, too. That takes longer, and nobody waits for it.
    Thorough,
}

/// What is known of our own NAT, and what is under way to know more.
#[derive(Debug)]
pub(super) struct Survey {
    server: Option<StunServer>,
    probe: Option<MappingProbe>,
    depth: Depth,
    next: Option<Instant>,
    /// When the last probe was.
    begun: Instant,
    /// When it is told that nothing is known, unless something is by then.
    patient_until: Option<Instant>,
    reflexive: Option<SocketAddr>,
    /// Who sees us there.
    seen_by: Option<SocketAddr>,
    mapping: Option<NatMapping>,
    dependence: Option<Dependence>,
    primer_hops: PrimerHops,
    /// As measured thoroughly last.
    hairpinning: Hairpinning,
    /// Whether anything else than what was found would be a coincidence.
    confidence: Confidence,
    /// Whether the tracker has shown us by two IP addresses: then peers are not asked.
    compares_addresses: bool,
    /// What peers see of us.
    observers: Observers,
    /// Whether what was found last counts on them.
    is_by_observers: bool,
    /// When the last thorough probe began.
    looked: Option<Instant>,
    /// What was found last, all in all.
    nat: Option<Nat>,
    filtering: Option<NatFiltering>,
    /// What finds out about that.
    probing: Option<AbortHandle>,
    rebounds: Rebounds,
    filtered: (mpsc::Sender<NatFiltering>, mpsc::Receiver<NatFiltering>),
}

impl Default for Survey {
    fn default() -> Self {
        Survey {
            server: None,
            probe: None,
            depth: Depth::Check,
            next: None,
            begun: Instant::now(),
            patient_until: None,
            reflexive: None,
            seen_by: None,
            mapping: None,
            dependence: None,
            primer_hops: PrimerHops::LEAST,
            hairpinning: Hairpinning::Unknown,
            confidence: Confidence::Low,
            compares_addresses: false,
            observers: Observers::new(),
            is_by_observers: false,
            looked: None,
            nat: None,
            filtering: None,
            probing: None,
            rebounds: Rebounds::default(),
            filtered: mpsc::channel(1),
        }
    }
}

impl Survey {
    /// Begins anew, with this server, to which a round trip takes so long.
    pub(super) fn start_within(&mut self, now: Instant, server: StunServer, rtt: Duration) {
        let patience = LEAST_PATIENCE.max(rtt * PATIENCE_RTTS);
        self.patient_until = Some(now + patience).filter(|_| self.nat.is_none());
        self.start(now, server);
    }

    fn start(&mut self, now: Instant, server: StunServer) {
        self.server = Some(server);
        // They may have seen another network.
        self.observers = Observers::new();
        self.probe = Some(MappingProbe::new(now, &server.all(), rand::random()));
        self.depth = Depth::Quick;
        (self.begun, self.next) = (now, Some(now + REFRESH));
        let Some(other) = server.other else {
            self.filtering.get_or_insert(NatFiltering::Unknown);
            return;
        };
        let found = self.filtered.0.clone();
        let probing = tokio::spawn(async move {
            let filtering = probe_filtering(server.main, other).await;
            // The one before is as good where there is no room.
            let _ = found.try_send(filtering.unwrap_or(NatFiltering::Unknown));
        });
        if let Some(before) = self.probing.replace(probing.abort_handle()) {
            before.abort();
        }
    }

    /// Begins anew where that server is, which is of the other IP family: what was found so far is of another
    /// NAT.
    pub(super) fn turn_to(&mut self, now: Instant, server: StunServer, rtt: Duration) {
        if let Some(probing) = self.probing.take() {
            probing.abort();
        }
        // The one before may hold what that has found.
        self.filtered = mpsc::channel(1);
        (self.mapping, self.filtering, self.nat) = (None, None, None);
        (self.reflexive, self.dependence, self.looked) = (None, None, None);
        (self.primer_hops, self.confidence) = (PrimerHops::LEAST, Confidence::Low);
        self.rebounds = Rebounds::default();
        self.start_within(now, server, rtt);
    }

    /// Where it asks.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        self.server.map(|server| server.main)
    }

    /// Begins anew with the server there is: something has changed.
    pub(super) fn restart(&mut self, now: Instant) {
        if let Some(server) = self.server {
            self.start(now, server);
        }
    }

    /// Looks soon whether anything has changed, unless that was done a moment ago.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next = self.next.map(|next| next.min(now.max(self.begun + PAUSE)));
    }

    /// The probe that is under way.
    pub(super) fn probe(&mut self) -> Option<&mut MappingProbe> {
        self.probe.as_mut()
    }

    /// Whether a probe with further sockets is under way.
    pub(super) fn is_deep(&self) -> bool {
        self.probe.is_some() && self.depth == Depth::Thorough
    }

    /// Whether a datagram is for the probe that is under way.
    pub(super) fn recognizes(&self, bytes: &[u8]) -> bool {
        let probe = self.probe.as_ref();
        probe.is_some_and(|probe| probe.recognizes(bytes))
    }

    /// What an attempt must know of our side to guess ports, if it is known.
    pub(super) fn guessing(&self, advice: Option<Technique>, has_ipv6: bool) -> Option<Guessing> {
        let Nat {
            mapping, filtering, ..
        } = self.nat?;
        Some(Guessing {
            mapping,
            dependence: self.dependence,
            filtering,
            primer_hops: self.primer_hops,
            has_ipv6,
            reflexive: self.reflexive?,
            stun: self.server?.main,
            advice,
        })
    }

    /// What the filtering turned out to be, when it does.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; nothing is lost.
    pub(super) async fn filtered(&mut self) -> NatFiltering {
        match self.filtered.1.recv().await {
            Some(filtering) => filtering,
            // Never: we hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Takes in what [`Survey::filtered`] gave.
    pub(super) fn handle_filtered(&mut self, filtering: NatFiltering) -> Option<Finding> {
        self.filtering = Some(filtering);
        self.combine()
    }

    /// A peer that lets everybody in has answered a check of our main socket and so shown where it
    /// sees that come from.
    pub(super) fn observed_by(&mut self, now: Instant, observation: Observation) {
        let (Some(server), Some(reflexive)) = (self.server, self.reflexive) else {
            return;
        };
        let is_tracker = observation.observer.ip() == server.main.ip();
        // Of such a NAT, who was too early sees another port once.
        let may_differ = matches!(
            self.filtering,
            Some(NatFiltering::PortDependent | NatFiltering::PortIndependent)
        );
        if !is_tracker && (may_differ || observation.mapped == reflexive) {
            self.observers.note(now, reflexive, observation);
        }
    }

    /// When to measure thoroughly because peers see something else than was found.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let is_dependent = !self.witnesses(now).is_empty();
        let is_idle = self.probe.is_none() && !self.compares_addresses;
        let due = self.looked.map_or(now, |looked| looked + LOOK_PAUSE);
        (is_idle && is_dependent != self.is_by_observers).then_some(due)
    }

    fn witnesses(&self, now: Instant) -> Vec<Observation> {
        let reflexive = self.reflexive.filter(|_| !self.compares_addresses);
        reflexive.map_or(Vec::new(), |ours| self.observers.dependent(now, ours))
    }

    /// Whether a datagram of ours goes to where only the tracker's word leads.
    pub(super) fn is_hearsay(&self, to: SocketAddr) -> bool {
        let main = self.server.map(|server| server.main.ip());
        main.is_some_and(|main| main != to.ip())
    }

    /// When to call [`Survey::handle_timeout`].
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let probe = self.probe.as_ref().and_then(MappingProbe::poll_timeout);
        let dues = [
            probe,
            self.next,
            self.next_look(now),
            self.patient_until,
            self.rebounds.due(),
        ];
        dues.into_iter().flatten().min()
    }

    /// Advances to `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(probe) = &mut self.probe {
            probe.handle_timeout(now);
        }
        if let Some(server) = self.server
            && self.next.is_some_and(|next| next <= now)
            && !self.is_deep()
        {
            (self.begun, self.next) = (now, Some(now + REFRESH));
            self.probe = Some(MappingProbe::new(now, &[server.main], rand::random()));
            self.depth = Depth::Check;
        }
        if self.next_look(now).is_some_and(|due| due <= now) {
            self.look(now);
        }
    }

    /// How our socket looks to the tracker, as far as is known.
    pub(super) fn reflexive(&self) -> Option<SocketAddr> {
        self.reflexive
    }

    /// What the probe found out, once it is over.
    pub(super) fn poll_finding(&mut self, now: Instant) -> Option<Finding> {
        self.poll_measured(now).or_else(|| self.poll_unknown(now))
    }

    /// That nothing is known, for those who wait, where not even the quick questions are answered in
    /// time: what cannot be reached is not waited for.
    fn poll_unknown(&mut self, now: Instant) -> Option<Finding> {
        self.patient_until.take_if(|until| *until <= now)?;
        let is_unanswered = self.probe.is_some() && self.depth == Depth::Quick;
        (is_unanswered && self.nat.is_none()).then(|| Finding::Nat(Nat::default()))
    }

    fn poll_measured(&mut self, now: Instant) -> Option<Finding> {
        if self.rebounds.due().is_some_and(|due| due <= now) {
            return self.note_rebound(now);
        }
        let measured = self.probe.as_mut()?.poll_measured()?;
        self.probe = None;
        let Some(reflexive) = self.reflexive_of(&measured) else {
            // Nobody answered; what was known stays known.
            self.mapping.get_or_insert(measured.mapping);
            let is_full = self.depth != Depth::Check;
            return is_full.then(|| self.combine()).flatten();
        };
        let before = self.reflexive.replace(reflexive);
        let server = self.server.map(|server| server.main);
        // Another tracker may see another port.
        let is_same_server = std::mem::replace(&mut self.seen_by, server) == server;
        let is_other = is_same_server && before.is_some_and(|before| before != reflexive);
        if is_other {
            return self.note_rebound(now);
        }
        match self.depth {
            Depth::Check => return None,
            Depth::Quick => self.go_deep(now, &measured),
            Depth::Thorough => {
                tracing::debug!(?measured.mapping, ?measured.dependence, ?measured.hairpinning,
                    ?measured.confidence, ?measured.primer_hops, "our nat, measured thoroughly");
                (self.mapping, self.dependence) = (Some(measured.mapping), measured.dependence);
                (self.confidence, self.primer_hops) = (measured.confidence, measured.primer_hops);
                self.hairpinning = measured.hairpinning;
            }
        }
        self.combine()
    }

    /// Where the tracker sees our main socket by the address that we reach it at.
    fn reflexive_of(&self, measured: &Measured) -> Option<SocketAddr> {
        let main = self.server?.main.ip();
        let mut samples = measured.samples.iter();
        let sample = samples.find(|sample| sample.server.ip() == main);
        sample.map(|sample| sample.mapped)
    }

    fn note_rebound(&mut self, now: Instant) -> Option<Finding> {
        self.rebounds.note(now).then_some(Finding::Rebound)
    }

    /// Notes what was found quickly, and finds out the rest. A pattern that was found before stands
    /// until then: a few samples show none.
    fn go_deep(&mut self, now: Instant, quick: &Measured) {
        let is_hard = |mapping: NatMapping| {
            !matches!(
                mapping,
                NatMapping::EndpointIndependent | NatMapping::Unknown
            )
        };
        if !(is_hard(quick.mapping) && self.mapping.is_some_and(is_hard)) {
            self.mapping = Some(quick.mapping);
        }
        (self.dependence, self.confidence) = (quick.dependence, quick.confidence);
        self.compares_addresses = quick.compares_addresses();
        self.look(now);
    }

    fn look(&mut self, now: Instant) {
        let Some(server) = self.server else {
            return;
        };
        let witnesses = self.witnesses(now);
        self.is_by_observers = !witnesses.is_empty();
        let probe = MappingProbe::thorough(now, &server.all(), rand::random());
        self.probe = Some(probe.observed_by(witnesses));
        self.depth = Depth::Thorough;
        self.looked = Some(now);
    }

    /// What is known once both halves are.
    fn combine(&mut self) -> Option<Finding> {
        let (mapping, filtering) = (self.mapping?, self.filtering?.given(self.mapping?));
        // One port for one IP address says nothing of others.
        let is_shown = |it: &Dependence| {
            *it != Dependence::EndpointIndependent || self.confidence == Confidence::High
        };
        let dependence = self.dependence.filter(is_shown);
        tracing::debug!(reflexive = ?self.reflexive, ?mapping, ?dependence, ?filtering, "our nat");
        let nat = Nat {
            mapping,
            filtering,
            dependence,
            hairpinning: self.hairpinning,
            has_ipv6: false,
        };
        self.nat = Some(nat);
        Some(Finding::Nat(nat))
    }
}

impl StunServer {
    /// Both ports, and the other address.
    fn all(self) -> Vec<SocketAddr> {
        let main = [self.main].into_iter();
        main.chain(self.other).chain(self.alternate).collect()
    }
}
