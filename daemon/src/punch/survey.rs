//! Finds out how our own NAT behaves, and notices when it was rebound or we moved.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep_until, timeout};
use warren_proto::nat::{
    Confidence, Dependence, FilteringProbe, Guessing, MappingProbe, Measured, Observation,
    Observers, PrimerHops,
};
use warren_proto::wire::{NatFiltering, NatMapping, Technique};

use super::{Nat, StunServer};

/// How often the tracker is asked how our socket looks to it: this also keeps the mapping towards it
/// for as long as the least patient NATs do.
const REFRESH: Duration = Duration::from_secs(20);

/// Least time between two such questions; in the long run between two times that our NAT is taken for
/// rebound, too. Two may come in a row: one where we have moved, and one for what was asked meanwhile.
const PAUSE: Duration = Duration::from_secs(2);

/// Least time between two thorough probes because of what peers have seen: one opens 32 sockets.
const LOOK_PAUSE: Duration = Duration::from_secs(60);
/// How long nothing waits for a survey without answers: in round trips to the tracker, and at least.
const PATIENCE_RTTS: u32 = 3;
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// How long the probe of the filtering may take; it gives up by itself before.
const LONGEST_PROBE: Duration = Duration::from_secs(10);

/// Longest datagram read from the socket of that probe.
const ANSWER_BYTES: usize = 512;

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
    mapping: Option<NatMapping>,
    dependence: Option<Dependence>,
    primer_hops: PrimerHops,
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
    /// Up to when our NAT was rebound as often as it may be, and when it is taken for rebound again.
    rebound_until: Option<Instant>,
    rebound_due: Option<Instant>,
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
            mapping: None,
            dependence: None,
            primer_hops: PrimerHops::LEAST,
            confidence: Confidence::Low,
            compares_addresses: false,
            observers: Observers::new(),
            is_by_observers: false,
            looked: None,
            nat: None,
            filtering: None,
            probing: None,
            rebound_until: None,
            rebound_due: None,
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
    pub(super) fn guessing(&self, advice: Option<Technique>) -> Option<Guessing> {
        let Nat {
            mapping, filtering, ..
        } = self.nat?;
        Some(Guessing {
            mapping,
            dependence: self.dependence,
            filtering,
            primer_hops: self.primer_hops,
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
            self.rebound_due,
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
        if self.rebound_due.is_some_and(|due| due <= now) {
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
        let is_other = before.is_some_and(|before| before != reflexive);
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

    /// Our NAT was rebound, or somebody answers with another address each time, whom we would ask without
    /// end: what comes too early counts later, once.
    fn note_rebound(&mut self, now: Instant) -> Option<Finding> {
        let until = self.rebound_until.map_or(now, |until| until.max(now));
        if until > now + PAUSE {
            self.rebound_due = Some(until - PAUSE);
            return None;
        }
        (self.rebound_until, self.rebound_due) = (Some(until + PAUSE), None);
        Some(Finding::Rebound)
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

/// Asks with a socket of its own, which has sent nothing yet; `None` where there can be none.
async fn probe_filtering(main: SocketAddr, other: SocketAddr) -> Option<NatFiltering> {
    let any: SocketAddr = match main {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.ok()?;
    let probe = FilteringProbe::new(Instant::now(), main, other, rand::random());
    let measured = timeout(LONGEST_PROBE, run_probe(&socket, probe)).await;
    measured.ok()
}

async fn run_probe(socket: &UdpSocket, mut probe: FilteringProbe) -> NatFiltering {
    let mut bytes = [0; ANSWER_BYTES];
    loop {
        while let Some(transmit) = probe.poll_transmit() {
            // What is lost is sent again.
            let _ = socket.send_to(&transmit.bytes, transmit.to).await;
        }
        if let Some(filtering) = probe.poll_measured() {
            return filtering;
        }
        let due = probe.poll_timeout().unwrap_or_else(Instant::now);
        tokio::select! {
            Ok((length, from)) = socket.recv_from(&mut bytes) => {
                probe.handle_datagram(Instant::now(), from, &bytes[..length]);
            }
            () = sleep_until(due.into()) => probe.handle_timeout(Instant::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use warren_proto::nat::check::{self, Credentials};

    use super::*;

    #[tokio::test]
    async fn what_is_found_quickly_is_told_before_further_sockets_are_asked() {
        let (mut bench, now) = (Bench::default(), Instant::now());
        bench.survey.start(now, bench.server());
        assert_eq!(bench.answer_all(now), [0, 0]);
        assert_eq!(
            bench.survey.poll_finding(now),
            None,
            "the filtering is not known"
        );
        assert!(bench.survey.guessing(None).is_none());
        let told = bench.survey.handle_filtered(NatFiltering::PortDependent);
        assert!(matches!(told, Some(Finding::Nat(_))), "{told:?}");
        assert!(bench.survey.is_deep());
        assert_eq!(bench.answer_all(now), [0, 0, 1, 2, 3, 4, 5]);
        let nat = Nat {
            mapping: NatMapping::Sequential { step: 1 },
            filtering: NatFiltering::PortDependent,
            dependence: Some(Dependence::AddressAndPortDependent),
        };
        assert_eq!(bench.survey.poll_finding(now), Some(Finding::Nat(nat)));
        assert!(!bench.survey.is_deep());
        let own = bench.survey.guessing(None).map(|own| own.mapping);
        assert_eq!(own, Some(nat.mapping));
    }

    #[tokio::test]
    async fn nothing_waits_for_a_port_that_cannot_be_reached() {
        let (mut bench, now) = (Bench::default(), Instant::now());
        let rtt = Duration::from_millis(50);
        bench.survey.start_within(now, bench.server(), rtt);
        let told = Some(Finding::Nat(Nat::default()));
        let late = now + rtt * PATIENCE_RTTS;
        assert_eq!(bench.survey.poll_finding(late - rtt / 2), None);
        assert!(
            bench
                .survey
                .poll_timeout(now)
                .is_some_and(|due| due <= late)
        );
        assert_eq!(bench.survey.poll_finding(late), told);
        assert_eq!(bench.survey.poll_finding(late), None, "once");
        // What is learned later is told later.
        bench.answer_all(late);
        bench.survey.handle_filtered(NatFiltering::PortDependent);
        let found = bench.survey.poll_finding(late);
        assert!(matches!(found, Some(Finding::Nat(nat)) if nat != Nat::default()));
    }

    #[tokio::test]
    async fn where_the_quick_questions_are_answered_the_filtering_is_waited_for() {
        let (mut bench, now) = (Bench::default(), Instant::now());
        bench
            .survey
            .start_within(now, bench.server(), Duration::ZERO);
        bench.answer_all(now);
        assert_eq!(bench.survey.poll_finding(now + LEAST_PATIENCE), None);
    }

    #[tokio::test]
    async fn a_pattern_stands_until_it_was_measured_anew() {
        let (mut bench, now) = (Bench::default(), Instant::now());
        bench.survey.mapping = Some(NatMapping::Sequential { step: 3 });
        bench.survey.filtering = Some(NatFiltering::PortDependent);
        bench.survey.start(now, bench.server());
        bench.answer_all(now);
        let nat = |step| {
            Some(Finding::Nat(Nat {
                mapping: NatMapping::Sequential { step },
                filtering: NatFiltering::PortDependent,
                dependence: Some(Dependence::AddressAndPortDependent),
            }))
        };
        assert_eq!(bench.survey.poll_finding(now), nat(3));
        bench.answer_all(now);
        assert_eq!(bench.survey.poll_finding(now), nat(1));
    }

    #[tokio::test]
    async fn a_second_address_shows_a_mapping_by_address() {
        let (mut bench, now) = (Bench::by_address(), Instant::now());
        let mut server = bench.server();
        server.alternate = Some(([127, 0, 0, 2], 1025).into());
        bench.survey.filtering = Some(NatFiltering::PortDependent);
        bench.survey.start(now, server);
        let nat = bench.measure(now);
        assert_eq!(nat.dependence, Some(Dependence::AddressDependent));
        assert!(matches!(nat.mapping, NatMapping::Random { .. }), "{nat:?}");
        // What peers see of us is not needed then.
        bench.observe(now, "198.51.100.1:6000", bench.reflexive().port());
        bench.observe(now, "192.0.2.9:6000", bench.reflexive().port());
        assert_eq!(bench.survey.next_look(now), None);
        assert!(bench.survey.is_hearsay(([127, 0, 0, 2], 1025).into()));
        assert!(!bench.survey.is_hearsay(bench.server().main));
    }

    #[tokio::test]
    async fn a_mapping_for_all_is_certain_only_if_two_addresses_have_shown_it() {
        for alternate in [None, Some(([127, 0, 0, 2], 1025).into())] {
            let (mut bench, now) = (Bench::for_all(), Instant::now());
            bench.survey.filtering = Some(NatFiltering::PortDependent);
            let server = StunServer {
                alternate,
                ..bench.server()
            };
            bench.survey.start(now, server);
            let nat = bench.measure(now);
            assert_eq!(nat.mapping, NatMapping::EndpointIndependent);
            let expected = alternate.map(|_| Dependence::EndpointIndependent);
            assert_eq!(nat.dependence, expected);
        }
    }

    #[tokio::test]
    async fn two_open_peers_show_what_a_tracker_with_one_address_cannot() {
        let (mut bench, now) = Bench::by_address().surveyed();
        bench.observe(now, "198.51.100.1:6000", 41_000);
        assert_eq!(bench.survey.next_look(now), None, "one may lie");
        bench.observe(now, "192.0.2.9:6000", 42_000);
        let due = bench.survey.next_look(now).unwrap();
        bench.survey.handle_timeout(due);
        let nat = bench.measure(due);
        assert_eq!(nat.dependence, Some(Dependence::AddressDependent));
        assert!(matches!(nat.mapping, NatMapping::Random { .. }), "{nat:?}");
    }

    #[tokio::test]
    async fn no_liars_make_us_worse_off_for_good() {
        let hard = |bench: &mut Bench, now: Instant| {
            bench.observe(now, "198.51.100.1:6000", 41_000);
            bench.observe(now, "192.0.2.9:6000", 42_000);
            let due = bench.survey.next_look(now).unwrap();
            bench.survey.handle_timeout(due);
            assert_ne!(bench.measure(due).mapping, NatMapping::EndpointIndependent);
            due
        };
        let is_easy_again = |bench: &mut Bench, now: Instant| {
            let due = bench.survey.next_look(now).unwrap().max(now);
            bench.survey.handle_timeout(due);
            let nat = bench.measure(due);
            assert_eq!(nat.mapping, NatMapping::EndpointIndependent);
        };
        // Somebody honest comes.
        let (mut bench, now) = Bench::for_all().surveyed();
        let lied = hard(&mut bench, now);
        let ours = bench.reflexive().port();
        bench.observe(lied, "203.0.114.9:6000", ours);
        is_easy_again(&mut bench, lied);
        // Nobody says anything any more.
        let (mut bench, now) = Bench::for_all().surveyed();
        let lied = hard(&mut bench, now);
        is_easy_again(&mut bench, lied + Duration::from_secs(60 * 60));
        // We move, or come back to the tracker.
        let (mut bench, now) = Bench::for_all().surveyed();
        let lied = hard(&mut bench, now);
        bench.survey.restart(lied);
        assert_eq!(bench.measure(lied).mapping, NatMapping::EndpointIndependent);
    }

    #[tokio::test]
    async fn what_peers_say_does_not_make_us_probe_more_than_once_a_minute() {
        let (mut bench, now) = Bench::for_all().surveyed();
        bench.observe(now, "198.51.100.1:6000", 41_000);
        bench.observe(now, "192.0.2.9:6000", 42_000);
        let due = bench.survey.next_look(now);
        assert_eq!(due, Some(now + LOOK_PAUSE), "the first probe was now");
        assert_eq!(bench.survey.poll_timeout(now), Some(now + REFRESH));
    }

    #[tokio::test]
    async fn where_early_packets_take_ports_a_peer_that_sees_another_one_shows_nothing() {
        let (mut bench, now) = Bench::for_all().surveyed();
        bench.survey.filtering = Some(NatFiltering::Clashing);
        bench.observe(now, "198.51.100.1:6000", 41_000);
        bench.observe(now, "192.0.2.9:6000", 42_000);
        assert_eq!(bench.survey.next_look(now), None);
    }

    #[test]
    fn whether_anything_has_changed_is_asked_at_most_every_2_s() {
        let (mut survey, start) = (Survey::default(), Instant::now());
        (survey.begun, survey.next) = (start, Some(start + REFRESH));
        survey.hurry(start);
        assert_eq!(survey.poll_timeout(start), Some(start + PAUSE));
        survey.hurry(start + PAUSE * 2);
        assert_eq!(survey.poll_timeout(start), Some(start + PAUSE));
    }

    #[tokio::test]
    async fn a_nat_that_is_rebound_all_the_time_is_asked_twice_and_then_every_2_s() {
        let (mut bench, start) = (Bench::default(), Instant::now());
        bench.survey.start(start, bench.server());
        let (mut now, mut rebounds) = (start, Vec::new());
        while now < start + PAUSE * 4 {
            if bench.survey.probe().is_some() {
                bench.ports.clear();
                bench.shift += 100;
                bench.answer_all(now);
            }
            if bench.survey.poll_finding(now) == Some(Finding::Rebound) {
                rebounds.push((now - start).as_secs());
                bench.survey.restart(now);
            } else {
                now += Duration::from_millis(100);
                bench.survey.handle_timeout(now);
            }
        }
        assert_eq!(rebounds, [0, 0, 2, 4, 6]);
    }

    #[tokio::test]
    async fn one_socket_at_a_time_asks_for_the_filtering() {
        let (mut bench, now) = (Bench::default(), Instant::now());
        bench.survey.start(now, bench.server());
        let first = bench.survey.probing.clone().expect("it asks");
        bench.survey.restart(now);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        // By itself it takes seconds.
        assert!(first.is_finished());
    }

    /// A NAT that gives each socket and destination the next port, or what else a mapping depends on
    /// a port of a range.
    #[derive(Default)]
    struct Bench {
        survey: Survey,
        ports: BTreeMap<(u16, SocketAddr), u16>,
        kind: Option<Dependence>,
        /// Of all ports, since it was rebound.
        shift: u16,
    }

    impl Bench {
        /// Where nobody answers but we.
        fn server(&self) -> StunServer {
            StunServer {
                main: (Ipv4Addr::LOCALHOST, 1024).into(),
                other: Some((Ipv4Addr::LOCALHOST, 1025).into()),
                alternate: None,
            }
        }

        fn by_address() -> Bench {
            Bench {
                kind: Some(Dependence::AddressDependent),
                ..Bench::default()
            }
        }

        fn for_all() -> Bench {
            Bench {
                kind: Some(Dependence::EndpointIndependent),
                ..Bench::default()
            }
        }

        /// By a tracker that has one address.
        fn surveyed(mut self) -> (Bench, Instant) {
            let now = Instant::now();
            self.survey.filtering = Some(NatFiltering::PortDependent);
            self.survey.start(now, self.server());
            let nat = self.measure(now);
            assert_eq!(nat.mapping, NatMapping::EndpointIndependent);
            (self, now)
        }

        /// Runs until nothing is under way; returns what was found last.
        fn measure(&mut self, now: Instant) -> Nat {
            let mut now = now;
            while self.survey.probe().is_some() {
                self.answer_all(now);
                self.survey.poll_finding(now);
                now += Duration::from_millis(20);
                self.survey.handle_timeout(now);
            }
            self.survey.nat.unwrap()
        }

        fn reflexive(&self) -> SocketAddr {
            self.survey.reflexive().unwrap()
        }

        fn observe(&mut self, now: Instant, observer: &str, port: u16) {
            let observation = Observation {
                observer: observer.parse().unwrap(),
                mapped: SocketAddr::new(self.reflexive().ip(), port),
            };
            self.survey.observed_by(now, observation);
        }

        /// Answers all questions; returns by which sockets they were put.
        fn answer_all(&mut self, now: Instant) -> Vec<u16> {
            let credentials = Credentials::new(&[1; 10], &[2; 32]);
            let mut asked = Vec::new();
            let probe = self.survey.probe().expect("one is under way");
            while let Some(transmit) = probe.poll_transmit() {
                let count = self.shift + self.ports.len() as u16;
                let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
                let (next, far) = match self.kind {
                    None => (40_000 + count, transmit.to),
                    Some(Dependence::EndpointIndependent) => (40_000 + count * 769 % 4_000, nobody),
                    Some(_) => {
                        let far = SocketAddr::new(transmit.to.ip(), 0);
                        (40_000 + count * 769 % 4_000, far)
                    }
                };
                let flow = (transmit.via, far);
                let port = *self.ports.entry(flow).or_insert(next);
                let transaction = check::request_transaction_of(&transmit.bytes).unwrap();
                let mapped = SocketAddr::from(([203, 0, 113, 7], port));
                let answer = credentials.encode_answer(transaction, mapped);
                probe.handle_datagram(now, transmit.to, &answer);
                asked.extend(Some(transmit.via).filter(|_| transmit.ttl.is_none()));
            }
            asked
        }
    }
}
