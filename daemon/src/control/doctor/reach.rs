//! What came of the attempts to reach peers.

use std::collections::BTreeMap;

use warren_proto::wire::Paths;

use super::network::Mapping;
use super::{Code, Finding, Severity, Snapshot, Summary, Techniques};
use crate::control::attempt::{Attempt, Outcome, Reason, Technique};
use crate::control::model::{PeerPath, Standing};
use crate::control::words::count;

/// Peers that have sent what was not asked for.
pub(super) fn liars(snapshot: &Snapshot) -> Option<Finding> {
    let peers = snapshot.peers.iter();
    let banned = peers
        .filter(|peer| peer.standing == Standing::Banned)
        .count();
    let who = match banned {
        0 => return None,
        1 => "1 peer has sent wrong bytes and is".to_owned(),
        _ => format!("{banned} peers have sent wrong bytes and are"),
    };
    let text = format!("{who} not asked any more.");
    let action = format!(
        "Nothing is lost; if it is a peer of yours (client peers {}), have its share verified there.",
        snapshot.idx
    );
    let finding = Code::PeersLie.says(Severity::Warning, text);
    Some(finding.with(Some(action)))
}

/// How far we came with a peer, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    UnderWay,
    Failed,
    Relayed,
    Direct,
}

impl Fate {
    /// Of an attempt that is over; none when it tells nothing new.
    fn of(attempt: &Attempt) -> Option<Fate> {
        match attempt.outcome {
            Outcome::Connected if attempt.path == Some(PeerPath::Relay) => Some(Fate::Relayed),
            Outcome::Connected => Some(Fate::Direct),
            Outcome::Kept => None,
            // Whatever else there will be is no connection.
            _ => Some(Fate::Failed),
        }
    }

    /// Of one that goes on: what has not come about may yet.
    fn so_far(attempt: &Attempt) -> Option<Fate> {
        Fate::of(attempt).map(|fate| match fate {
            Fate::Failed => Fate::UnderWay,
            fate => fate,
        })
    }
}

/// Why a peer was not reached, or not directly, as far as its last attempt shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    /// What the attempt says of itself.
    Told(Reason),
    /// It did not answer, and its NAT gives every destination another port.
    ByDestination,
    /// It did not answer, and how its NAT works is not known.
    Unknown,
    /// It did not answer, and nothing else is known.
    Silent,
}

impl Obstacle {
    fn of(attempt: &Attempt) -> Obstacle {
        let reason = attempt.reason.unwrap_or(Reason::NoAnswer);
        match (reason, Mapping::of_word(&attempt.mapping)) {
            (Reason::Unguessable, _) => Obstacle::ByDestination,
            (Reason::NoAnswer | Reason::Superseded, mapping) if mapping.is_by_destination() => {
                Obstacle::ByDestination
            }
            (Reason::NoAnswer | Reason::Superseded, Mapping::Unknown) => Obstacle::Unknown,
            (Reason::NoAnswer | Reason::Superseded, _) => Obstacle::Silent,
            (told, _) => Obstacle::Told(told),
        }
    }

    /// What is said of `number` peers out of `all`, none of which was reached directly. `too` follows what
    /// may be true of our own router.
    fn words(self, number: usize, all: Among, too: &str, snapshot: &Snapshot) -> String {
        let who = all.who(number);
        match self {
            Obstacle::Told(reason) => told(reason, &who, number, snapshot),
            Obstacle::ByDestination => {
                let is = is(number);
                format!(
                    "; {who} {is} behind a router that gives every destination another port{too}"
                )
            }
            Obstacle::Unknown => {
                let whose = match (number == all.number, number) {
                    (true, 1) => "its router works".to_owned(),
                    (true, _) => "their routers work".to_owned(),
                    (false, 1) => "the router of 1 of them works".to_owned(),
                    (false, _) => format!("the routers of {number} of them work"),
                };
                format!("; how {whose} is not known")
            }
            // Of who is reached through a tracker that would be misunderstood.
            Obstacle::Silent if all.is_reached => String::new(),
            Obstacle::Silent => format!("; {who} did not answer"),
        }
    }
}

fn told(reason: Reason, who: &str, number: usize, snapshot: &Snapshot) -> String {
    let is = is(number);
    match reason {
        Reason::Forbidden if snapshot.why_forbidden.is_empty() => {
            format!("; with {who} no path is allowed, as the two and their tracker were started")
        }
        Reason::Forbidden => {
            format!(
                "; with {who} no path is allowed: {}",
                snapshot.why_forbidden
            )
        }
        Reason::RelayOnly if snapshot.paths == Paths::RelayOnly => {
            format!(
                "; with {who} no direct path is allowed, as this daemon was started with --relay-only"
            )
        }
        Reason::RelayOnly => {
            let was = was(number);
            format!("; {who} {was} started with --relay-only, so no direct path is allowed")
        }
        Reason::NoCandidates => format!("; no address was told of {who}"),
        Reason::Budget => {
            let was = was(number);
            format!(
                "; {who} {was} checked with fewer packets than it takes, to spare routers, and {is} tried again"
            )
        }
        Reason::TurnRefused => {
            format!("; for {who} no port was guessed, since guesses there have found nobody")
        }
        Reason::NoSample => {
            format!("; for {who} the tracker did not show which ports your own router picks")
        }
        Reason::NoTrickle => {
            format!("; {who} did not say by way of the tracker at which port to look")
        }
        Reason::NoHandshake => format!("; {who} answered, but no connection came of it"),
        Reason::Unguessable | Reason::Superseded | Reason::NoAnswer => String::new(),
    }
}

/// Peers with something in common.
#[derive(Clone, Copy, Debug)]
struct Among {
    number: usize,
    /// Whether there is a connection with them, through somebody else.
    is_reached: bool,
}

impl Among {
    fn who(self, number: usize) -> String {
        match (number == self.number, number) {
            (true, 1) => "it".to_owned(),
            (true, _) if self.is_reached => "these".to_owned(),
            (true, _) => "all".to_owned(),
            (false, _) => format!("{number} of them"),
        }
    }
}

/// The fates of all peers that are remembered.
#[derive(Debug, Default)]
pub(super) struct Reach {
    direct: usize,
    relayed: usize,
    /// Of the relayed ones, those that another peer relays to.
    by_peers: usize,
    failed: usize,
    under_way: usize,
    /// Of those that failed.
    obstacles: BTreeMap<Obstacle, usize>,
    /// Of the relayed ones.
    detours: BTreeMap<Obstacle, usize>,
    /// Of those that failed, who has a NAT that gives every destination another port.
    by_destination: usize,
    techniques: Techniques,
    median_ms: Option<u64>,
}

impl Reach {
    pub(super) fn of(snapshot: &Snapshot) -> Reach {
        let mut reach = Reach {
            median_ms: median_ms(snapshot),
            by_peers: by_peers(snapshot),
            ..Reach::default()
        };
        let found = techniques(snapshot);
        for (peer, (fate, last)) in fates(snapshot) {
            let obstacle = match fate {
                Fate::Relayed if is_by_choice(snapshot, peer) => {
                    Some(Obstacle::Told(Reason::RelayOnly))
                }
                _ => last.map(Obstacle::of),
            };
            reach.add(fate, obstacle, last);
            if let (Fate::Direct, Some(technique)) = (fate, found.get(peer)) {
                reach.techniques.add(*technique);
            }
        }
        reach
    }

    /// `last` is the attempt that shows why the peer was not reached, or not directly.
    fn add(&mut self, fate: Fate, obstacle: Option<Obstacle>, last: Option<&Attempt>) {
        match fate {
            Fate::UnderWay => self.under_way += 1,
            Fate::Direct => self.direct += 1,
            Fate::Relayed => {
                self.relayed += 1;
                if let Some(detour) = obstacle {
                    *self.detours.entry(detour).or_default() += 1;
                }
            }
            Fate::Failed => {
                self.failed += 1;
                let obstacle = obstacle.unwrap_or(Obstacle::Unknown);
                *self.obstacles.entry(obstacle).or_default() += 1;
                let mapping = last.map(|it| Mapping::of_word(&it.mapping));
                self.by_destination += usize::from(mapping.is_some_and(Mapping::is_by_destination));
            }
        }
    }

    fn tried(&self) -> usize {
        self.direct + self.relayed + self.failed
    }

    pub(super) fn summary(&self, exit: u8) -> Summary {
        Summary {
            tried: self.tried(),
            direct: self.direct,
            relayed: self.relayed,
            failed: self.failed,
            under_way: self.under_way,
            techniques: self.techniques,
            median_ms: self.median_ms,
            exit,
        }
    }

    pub(super) fn finding(&self, snapshot: &Snapshot) -> Finding {
        let tried = self.tried();
        match (self.failed, self.relayed) {
            _ if tried == 0 => self.none_tried(),
            (0, 0) => Code::AllDirect.says(Severity::Ok, self.all_direct()),
            (0, _) => {
                let text = format!("{}{}.", self.counts(), self.why_relayed(snapshot));
                Code::SomeRelayed.says(Severity::Note, text)
            }
            (failed, _) if failed == tried => {
                let text = format!("{}{}.", self.none_reached(), self.why(snapshot));
                let finding = Code::NoneReached.says(Severity::Error, text);
                finding.with(self.action(snapshot))
            }
            (failed, _) => {
                let text = format!(
                    "{}; {failed} {} not reached{}.",
                    self.counts(),
                    was(failed),
                    self.why(snapshot)
                );
                let finding = Code::SomeFailed.says(Severity::Warning, text);
                finding.with(self.action(snapshot))
            }
        }
    }

    /// Instead of the finding that all peers are direct, where nothing else is to be said either.
    pub(super) fn all_well(&self) -> Finding {
        let all_direct = self.all_direct();
        let mut letters = all_direct.chars();
        let first = letters.next().map(|letter| letter.to_ascii_lowercase());
        let rest = first.into_iter().chain(letters).collect::<String>();
        let text = format!("All well: the trackers answer, and {rest}");
        Code::AllWell.says(Severity::Ok, text)
    }

    fn none_tried(&self) -> Finding {
        let text = match self.under_way {
            0 => {
                "No peer has been tried yet, so how peers are reached is not known yet.".to_owned()
            }
            1 => "One peer is being tried; what comes of it is not known yet.".to_owned(),
            under_way => {
                format!("{under_way} peers are being tried; what comes of it is not known yet.")
            }
        };
        Code::NoneTried.says(Severity::Note, text)
    }

    fn all_direct(&self) -> String {
        match self.direct {
            1 => format!(
                "The one peer that was tried was reached directly{}.",
                self.guessed()
            ),
            direct => format!(
                "All {direct} peers that were tried were reached directly{}.",
                self.guessed()
            ),
        }
    }

    /// How many of those that are reached directly that took guesses.
    fn guessed(&self) -> String {
        match (self.direct, self.techniques.guessed()) {
            (_, 0) => String::new(),
            (1, _) => ", by a guessed port".to_owned(),
            (all, guessed) if all == guessed => ", all of them by guessed ports".to_owned(),
            (_, 1) => ", 1 of them by a guessed port".to_owned(),
            (_, guessed) => format!(", {guessed} of them by guessed ports"),
        }
    }

    fn none_reached(&self) -> String {
        match self.failed {
            1 => "The one peer that was tried was not reached".to_owned(),
            failed => format!("None of the {failed} peers that were tried was reached"),
        }
    }

    fn counts(&self) -> String {
        let of_all = format!("of {}", count(self.tried(), "peer"));
        let ways = [
            (
                "through the tracker",
                self.relayed.saturating_sub(self.by_peers),
            ),
            ("through other peers", self.by_peers),
        ];
        let ways = ways.iter().filter(|(_, with)| *with > 0);
        let ways = ways.map(|(way, with)| format!(", {way} with {with}"));
        let ways: String = ways.collect();
        format!(
            "Direct with {} {of_all}{}{ways}",
            self.direct,
            self.guessed()
        )
    }

    /// What is known of those that failed.
    fn why(&self, snapshot: &Snapshot) -> String {
        let failed = Among {
            number: self.failed,
            is_reached: false,
        };
        words(&self.obstacles, failed, snapshot)
    }

    /// What is known of those that are not reached directly.
    fn why_relayed(&self, snapshot: &Snapshot) -> String {
        let relayed = Among {
            number: self.relayed,
            is_reached: true,
        };
        words(&self.detours, relayed, snapshot)
    }

    /// Where our own router is in the way, its finding says what can be done.
    fn action(&self, snapshot: &Snapshot) -> Option<String> {
        let is_theirs = self.by_destination > 0;
        let is_ours = Mapping::ours(snapshot).is_by_destination();
        (is_theirs && !is_ours).then(|| {
            "Ask those behind such a router to switch UPnP or NAT-PMP on there.".to_owned()
        })
    }
}

/// Whether a peer that is relayed is so because one of us was started for that.
fn is_by_choice(snapshot: &Snapshot, peer: &str) -> bool {
    let mut peers = snapshot.peers.iter();
    let is_told = peers.any(|it| it.peer == peer && it.why_relayed.is_some());
    is_told || snapshot.paths == Paths::RelayOnly
}

/// What is known of peers that were not reached directly.
fn words(obstacles: &BTreeMap<Obstacle, usize>, all: Among, snapshot: &Snapshot) -> String {
    let too = match Mapping::ours(snapshot).is_by_destination() {
        true => ", as you are",
        false => "",
    };
    let words = obstacles
        .iter()
        .map(|(obstacle, &number)| obstacle.words(number, all, too, snapshot));
    words.collect()
}

fn is(number: usize) -> &'static str {
    match number {
        1 => "is",
        _ => "are",
    }
}

fn was(number: usize) -> &'static str {
    match number {
        1 => "was",
        _ => "were",
    }
}

/// Who is connected is reached as it is now; who is not, as well as it ever was: a peer that has
/// left since then is nobody's failure. With it comes the last attempt that led to no direct path.
fn fates(snapshot: &Snapshot) -> BTreeMap<&str, (Fate, Option<&Attempt>)> {
    let mut fates = BTreeMap::new();
    let over = snapshot.attempts.iter().map(|it| (it, Fate::of(it)));
    let under_way = snapshot.under_way.iter().map(|it| (it, Fate::so_far(it)));
    for (attempt, fate) in over.chain(under_way) {
        let Some(fate) = fate else { continue };
        let known = fates.entry(&*attempt.peer).or_insert((fate, None));
        known.0 = known.0.max(fate);
        if fate == Fate::Failed || (fate == Fate::Relayed && attempt.reason.is_some()) {
            known.1 = Some(attempt);
        }
    }
    for peer in &snapshot.peers {
        let fate = match peer.path {
            PeerPath::Lan | PeerPath::Direct => Fate::Direct,
            PeerPath::Relay => Fate::Relayed,
        };
        fates.entry(&*peer.peer).or_insert((fate, None)).0 = fate;
    }
    fates
}

/// What found the latest path to each peer, of those that were proven.
fn techniques(snapshot: &Snapshot) -> BTreeMap<&str, Technique> {
    let attempts = snapshot.attempts.iter().chain(&snapshot.under_way);
    let proven = attempts.filter(|attempt| attempt.proven_unix_ms.is_some());
    proven
        .map(|attempt| (&*attempt.peer, attempt.technique))
        .collect()
}

/// How many are reached through other peers now.
fn by_peers(snapshot: &Snapshot) -> usize {
    let relayers = snapshot
        .peers
        .iter()
        .filter_map(|it| it.relayed_by.as_ref());
    relayers.filter(|by| by.starts_with("peer ")).count()
}

/// Over all attempts that came to a proven path.
fn median_ms(snapshot: &Snapshot) -> Option<u64> {
    let attempts = snapshot.attempts.iter().chain(&snapshot.under_way);
    let proven = attempts.filter_map(|attempt| {
        let proven = attempt.proven_unix_ms?;
        Some(proven.saturating_sub(attempt.started_unix_ms))
    });
    let mut times: Vec<u64> = proven.collect();
    times.sort_unstable();
    let upper = *times.get(times.len() / 2)?;
    match times.len() % 2 {
        1 => Some(upper),
        _ => Some(upper.midpoint(times[times.len() / 2 - 1])),
    }
}
