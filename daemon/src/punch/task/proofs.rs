//! Our address of the other IP family, shown to each tracker that we are connected to, and what that
//! changes: where our NAT is studied, and what is known of us.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use warren_proto::nat::AddressProof;

use super::Puncher;
use crate::node::OWN;
use crate::punch::owners::Owner;
use crate::punch::{PathNews, Proving, StunServer};
use crate::tracker::TrackerId;

/// How long nothing waits for a proof, in round trips to our own tracker, and at least: one, and one more
/// for a packet that is lost.
const PATIENCE_RTTS: u32 = 3;
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// What is under way for all trackers.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    by_tracker: BTreeMap<TrackerId, Prover>,
    /// Our own tracker, as we are connected to it, and how far it is.
    own: Option<(StunServer, Duration)>,
    /// Until when what is found out of our NAT waits for the proof, so that both are told at once.
    patient_until: Option<Instant>,
    /// Whether anything was found out of our NAT, where it is studied now.
    is_found: bool,
    /// Whether something was found out that the node was not told.
    has_news: bool,
}

/// What is under way for one tracker: nothing, where this machine has no address of that family.
#[derive(Debug)]
struct Prover {
    proving: Proving,
    proof: Option<AddressProof>,
}

impl Proofs {
    /// We are connected to our own tracker, which is so far.
    pub(super) fn begin(&mut self, now: Instant, server: StunServer, rtt: Duration) {
        if self.own.replace((server, rtt)).is_none() {
            self.patient_until = Some(now + LEAST_PATIENCE.max(rtt * PATIENCE_RTTS));
        }
    }

    /// Something was found out of our NAT.
    pub(super) fn note_found(&mut self) {
        (self.is_found, self.has_news) = (true, true);
    }

    /// When something is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let provers = self.by_tracker.values();
        let dues = provers.filter_map(|it| it.proof.as_ref()?.poll_timeout());
        let patience = self.patient_until.filter(|_| self.has_news);
        dues.chain(patience).min()
    }

    /// Where trackers see us by the other family.
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let provers = self.by_tracker.values();
        provers.filter_map(|it| it.proof.as_ref()?.address())
    }

    fn of_own(&self) -> Option<&AddressProof> {
        self.by_tracker.get(&OWN)?.proof.as_ref()
    }
}

impl Puncher {
    /// Shows this tracker our other address from now on, or no longer.
    pub(super) async fn prove(
        &mut self,
        now: Instant,
        tracker: TrackerId,
        proving: Option<Proving>,
    ) {
        let before = self.proofs.by_tracker.remove(&tracker);
        let Some(proving) = proving else {
            self.owners.forget(Owner::Proof(tracker));
            return self.note_families(now).await;
        };
        let is_same = |it: &Prover| it.proving.server == proving.server;
        let proof = match before.filter(is_same).and_then(|it| it.proof) {
            Some(mut proof) => {
                proof.turn_to(now, proving.session);
                Some(proof)
            }
            None => self.begin_proof(now, proving),
        };
        let prover = Prover { proving, proof };
        self.proofs.by_tracker.insert(tracker, prover);
        self.settle_proof(now, tracker).await;
    }

    fn begin_proof(
        &self,
        now: Instant,
        Proving { server, session }: Proving,
    ) -> Option<AddressProof> {
        let proof = AddressProof::new(now, server, session, rand::random());
        proof.filter(|_| self.has_family_of(server))
    }

    /// Whether this machine has an address of the IP family of a server.
    fn has_family_of(&self, server: SocketAddr) -> bool {
        let is_ipv4 = |at: SocketAddr| at.ip().to_canonical().is_ipv4();
        let mut hosts = self.candidates.iter();
        hosts.any(|host| is_ipv4(host.address) == is_ipv4(server))
    }

    /// The network is another one.
    pub(super) async fn prove_anew(&mut self, now: Instant) {
        let all: Vec<TrackerId> = self.proofs.by_tracker.keys().copied().collect();
        for tracker in all {
            if let Some(before) = self.proofs.by_tracker.remove(&tracker) {
                let prover = self.begun_anew(now, before);
                self.proofs.by_tracker.insert(tracker, prover);
                self.settle_proof(now, tracker).await;
            }
        }
    }

    /// What was proven counts until it turns out that there is no way any more.
    fn begun_anew(&self, now: Instant, Prover { proving, proof }: Prover) -> Prover {
        let proof = match (self.has_family_of(proving.server), proof) {
            (true, Some(mut proof)) => {
                proof.restart(now);
                Some(proof)
            }
            (true, None) => self.begin_proof(now, proving),
            (false, _) => None,
        };
        Prover { proving, proof }
    }

    pub(super) async fn handle_proof(
        &mut self,
        now: Instant,
        tracker: TrackerId,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        if let Some(proof) = self.proof_of(tracker) {
            proof.handle_datagram(now, from, bytes);
            self.settle_proof(now, tracker).await;
        }
    }

    pub(super) async fn time_proofs(&mut self, now: Instant) {
        let is_due = |it: &Prover| {
            let due = it.proof.as_ref().and_then(AddressProof::poll_timeout);
            due.is_some_and(|due| due <= now)
        };
        let due = self.proofs.by_tracker.iter().filter(|(_, it)| is_due(it));
        let due: Vec<TrackerId> = due.map(|(tracker, _)| *tracker).collect();
        for tracker in due {
            self.settle_proof(now, tracker).await;
        }
        self.tell_nat(now).await;
    }

    fn proof_of(&mut self, tracker: TrackerId) -> Option<&mut AddressProof> {
        self.proofs.by_tracker.get_mut(&tracker)?.proof.as_mut()
    }

    /// Sends what is due, and tells what has come of it.
    async fn settle_proof(&mut self, now: Instant, tracker: TrackerId) {
        let due = |puncher: &mut Puncher| puncher.proof_of(tracker)?.handle_timeout(now);
        while let Some(transmit) = due(self) {
            self.send(&transmit, Owner::Proof(tracker), None);
        }
        let proven = self.proof_of(tracker).and_then(|proof| {
            let proven = proof.poll_proven()?;
            Some((proof.server(), proven))
        });
        if let Some((server, proven)) = proven {
            self.allowance.answered(server.ip());
            self.tell(PathNews::Proven(tracker, proven)).await;
        }
        self.note_families(now).await;
    }

    /// By which families we are seen has an influence on where our NAT is studied, and on who needs
    /// to guess.
    async fn note_families(&mut self, now: Instant) {
        if let Some((own, rtt)) = self.proofs.own {
            let server = self.surveyed_at(own);
            let is_other = |at: SocketAddr| at.is_ipv4() != server.main.is_ipv4();
            if self.survey.server().is_some_and(is_other) {
                (self.proofs.is_found, self.proofs.has_news) = (false, false);
                self.survey.turn_to(now, server, rtt);
                Box::pin(self.settle_survey()).await;
            }
        }
        if self.proofs.is_found && self.has_ipv6() != self.nat.has_ipv6 {
            self.proofs.has_news = true;
        }
        self.tell_nat(now).await;
    }

    /// Where our NAT is studied: NATs of IPv4 are in the way, so by IPv4 if that leads to the tracker too.
    pub(super) fn surveyed_at(&self, own: StunServer) -> StunServer {
        let proof = self.proofs.of_own();
        let v4 = proof.filter(|it| it.address().is_some_and(|seen| seen.is_ipv4()));
        let is_ipv6 = own.main.ip().to_canonical().is_ipv6();
        match v4.map(AddressProof::server).filter(|_| is_ipv6) {
            Some(main) => StunServer {
                main,
                other: own.other.map(|it| SocketAddr::new(main.ip(), it.port())),
                alternate: None,
            },
            None => own,
        }
    }

    fn has_ipv6(&self) -> bool {
        let is_ipv6 = |at: SocketAddr| at.ip().to_canonical().is_ipv6();
        let own = self.proofs.own.map(|(own, _)| own.main);
        own.is_some_and(is_ipv6) || self.proofs.addresses().any(is_ipv6)
    }

    /// Tells the node what is known of our NAT, if that has changed and there is something to tell.
    pub(super) async fn tell_nat(&mut self, now: Instant) {
        let is_pending = |proof: &AddressProof| !proof.is_settled();
        let is_patient = self.proofs.patient_until.is_some_and(|until| now < until);
        let waits = is_patient && self.proofs.of_own().is_some_and(is_pending);
        if !self.proofs.has_news || waits {
            return;
        }
        self.proofs.has_news = false;
        self.proofs.patient_until = None;
        self.nat.has_ipv6 = self.has_ipv6();
        self.tell(PathNews::Nat(self.nat)).await;
    }
}

#[cfg(test)]
mod tests;
