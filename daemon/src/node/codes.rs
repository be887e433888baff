//! Codes that this daemon has given out: their numbers at our own tracker, and who opens them.
//!
//! What is right and what is too much is decided by [`GivenCode`]; here is where it meets the tracker. Codes
//! live as long as the daemon runs. When the connection to the tracker was lost, each number is claimed
//! again on the next one.
//!
//! Not here: codes that we open ([`super::opening`]).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::mpsc;
use warren_proto::code::{
    Body, Closed, Code, Ended, ExchangeId, GUESSES, GivenCode, Nameplate, Receivers, Reply, Words,
};
use warren_proto::content::Link;
use warren_proto::id::{SwarmId, TrackerPin};
use warren_proto::wire::{Claimed, CodeNews, CodeRequest, ToTracker};

use super::Node;
use super::opening::Openings;
use super::trackers::{OWN, TrackerState};
use crate::clock::unix_ms;
use crate::control::codes::{self, CodeGiven, CodeState, CodeStatus, CodeWish};
use crate::control::model::{ApiError, Event, Registered, exit};

/// How long a tracker may take to say which number a code has.
const CLAIM_TIME: Duration = Duration::from_secs(5);

/// How long it is shown that a code has ended, and why.
const SHOWN: Duration = Duration::from_secs(3600);

/// Codes that have ended and are shown; the oldest are forgotten first.
const ENDED_SHOWN: usize = 64;

/// All codes of a node.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// Those that wait for their number.
    asked: BTreeMap<u32, Asked>,
    /// Numbers that were claimed again.
    again: BTreeMap<u32, Nameplate>,
    given: Vec<Given>,
    /// Those of others.
    pub(super) openings: Openings,
}

/// A code without a number yet, and who waits for it.
#[derive(Debug)]
struct Asked {
    swarm: SwarmId,
    link: Link,
    wish: CodeWish,
    waiting: Waiting,
    deadline: Instant,
}

/// Who has registered something, and is told so once there is a code.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) registered: Registered,
    pub(super) events: mpsc::Sender<Event>,
}

#[derive(Debug)]
struct Given {
    code: GivenCode,
    swarm: SwarmId,
    name: String,
    once: bool,
    /// What it is for was revoked, which has ended it.
    is_revoked: bool,
    /// Since when it is known that it has ended.
    ended: Option<Instant>,
}

impl Asked {
    fn claim(&self, ticket: u32) -> CodeRequest {
        CodeRequest::Claim {
            ticket,
            nameplate: None,
            lifetime_s: self.wish.expires_s,
        }
    }
}

impl Waiting {
    /// What was registered has this code.
    fn give(mut self, code: CodeGiven) {
        self.registered.code = Some(code);
        self.tell();
    }

    /// It has none.
    fn refuse(mut self, why: ApiError) {
        self.registered.no_code = Some(why);
        self.tell();
    }

    fn tell(self) {
        let event = Event::Registered(self.registered);
        tokio::spawn(async move { self.events.send(event).await });
    }
}

impl Node {
    /// Has our tracker give a number to a new code for this share; who waits is told of it.
    pub(super) fn give_code(&mut self, swarm: SwarmId, wish: CodeWish, waiting: Waiting) {
        let link = waiting.registered.link.as_deref();
        let link = link.and_then(|link| link.parse().ok());
        let Some((link, _)) = link.zip(self.code_pin()) else {
            return waiting.refuse(codes::no_tracker(&self.own_name()));
        };
        let ticket = self.next_number() as u32;
        let expires_s = wish.expires_s.min(self.seconds_left(&swarm));
        let asked = Asked {
            swarm,
            link,
            wish: CodeWish { expires_s, ..wish },
            waiting,
            deadline: Instant::now() + CLAIM_TIME,
        };
        self.say_of_codes(asked.claim(ticket));
        self.codes.asked.insert(ticket, asked);
    }

    /// How long a share is still there; a code for it is good no longer. A second at the least.
    fn seconds_left(&self, swarm: &SwarmId) -> u32 {
        let share = self.shares.get(swarm);
        let Some(expires) = share.and_then(|share| share.terms.expires_unix_ms) else {
            return u32::MAX;
        };
        let left = expires.saturating_sub(unix_ms()).div_ceil(1000);
        u32::try_from(left).unwrap_or(u32::MAX).max(1)
    }

    /// Says this to our own tracker. What does not get there costs the exchange that it is part of, which
    /// then takes too long. A claim is said again on the next connection; a number that was not released
    /// there is not claimed, and the tracker forgets it.
    pub(super) fn say_of_codes(&self, request: CodeRequest) {
        if let Some(own) = self.trackers.get(&OWN).filter(|own| own.connected)
            && !own.handle.say(ToTracker::Code(request))
        {
            tracing::debug!("too much is waiting to be said to the tracker");
        }
    }

    /// The pin of our own tracker, if we are connected to it now.
    pub(super) fn code_pin(&self) -> Option<TrackerPin> {
        let own = self.trackers.get(&OWN);
        own.filter(|own| own.connected).and_then(|own| own.pin)
    }

    /// What our own tracker is called.
    pub(super) fn own_name(&self) -> String {
        let own = self.trackers.get(&OWN);
        own.map_or(String::new(), |own| own.address.to_string())
    }

    /// Takes in what our own tracker says about codes.
    pub(super) fn handle_code_news(&mut self, news: CodeNews) {
        match news {
            CodeNews::Claimed { ticket, result } => self.handle_claimed(ticket, result),
            CodeNews::Opened {
                nameplate,
                exchange,
                message,
            } => self.handle_code_opened(nameplate, exchange, &message),
            CodeNews::Passed { exchange, message } => {
                if !self.handle_opening_passed(exchange, &message) {
                    self.handle_code_passed(exchange, &message);
                }
            }
            CodeNews::Closed { exchange, reason } => {
                self.handle_opening_closed(exchange, reason);
                let given = self.codes.given.iter_mut();
                given.for_each(|it| it.code.handle_closed(&exchange));
            }
        }
    }

    /// There is a new connection to our own tracker: it may be another process, and has answered nothing
    /// that was said to the one before.
    pub(super) fn claim_again(&mut self) {
        let now = Instant::now();
        for (ticket, asked) in &self.codes.asked {
            self.say_of_codes(asked.claim(*ticket));
        }
        let live = self.codes.given.iter().filter(|it| it.ended.is_none());
        let live = live.map(|it| (it.code.code().nameplate, it.code.expires()));
        let live: Vec<(Nameplate, Instant)> = live.collect();
        self.codes.again.clear();
        for (nameplate, expires) in live {
            let ticket = self.next_number() as u32;
            let left = expires.saturating_duration_since(now).as_secs();
            self.codes.again.insert(ticket, nameplate);
            self.say_of_codes(CodeRequest::Claim {
                ticket,
                nameplate: Some(nameplate),
                lifetime_s: u32::try_from(left).unwrap_or(u32::MAX),
            });
        }
    }

    fn handle_claimed(&mut self, ticket: u32, result: Claimed) {
        if let Some(nameplate) = self.codes.again.remove(&ticket) {
            if result != Claimed::Kept(nameplate) {
                tracing::warn!(
                    number = nameplate.0,
                    "a code has ended: {}",
                    why_lost(result)
                );
                self.end_codes(Ended::Withdrawn, |it| it.code.code().nameplate == nameplate);
            }
            return;
        }
        let pin = self.code_pin();
        match (self.codes.asked.remove(&ticket), result, pin) {
            (Some(asked), Claimed::Kept(nameplate), Some(pin)) => {
                self.begin_code(asked, nameplate, pin);
            }
            (Some(asked), ..) => asked.waiting.refuse(too_many(&self.own_name())),
            // Whoever asked has waited long enough.
            (None, Claimed::Kept(nameplate), _) => {
                let ended = Ended::Withdrawn;
                self.say_of_codes(CodeRequest::Release { nameplate, ended });
            }
            (None, ..) => (),
        }
    }

    fn begin_code(&mut self, asked: Asked, nameplate: Nameplate, pin: TrackerPin) {
        let Asked {
            swarm,
            link,
            wish: CodeWish { expires_s, once },
            waiting,
            ..
        } = asked;
        let words = Words::of(rand::rng().random());
        let code = Code { nameplate, words };
        let expires = Instant::now() + Duration::from_secs(expires_s.into());
        let receivers = match once {
            true => Receivers::One,
            false => Receivers::Any,
        };
        let given = CodeGiven {
            code: code.to_string(),
            expires_s,
            once,
        };
        let name = self.shares.get(&swarm).map(|it| it.record.name.clone());
        self.codes.given.push(Given {
            code: GivenCode::new(code, pin, link, (expires, receivers)),
            swarm,
            name: name.unwrap_or_default(),
            once,
            is_revoked: false,
            ended: None,
        });
        waiting.give(given);
    }

    fn handle_code_opened(&mut self, nameplate: Nameplate, exchange: ExchangeId, message: &Body) {
        let now = Instant::now();
        let mut given = self.codes.given.iter_mut().rev();
        let reply = match given.find(|it| it.code.code().nameplate == nameplate) {
            Some(it) => {
                let seed = rand::rng().random();
                it.code.handle_opened(now, exchange, message, seed)
            }
            None => Reply::Close(Closed::Unknown),
        };
        self.reply(exchange, reply);
    }

    fn handle_code_passed(&mut self, exchange: ExchangeId, message: &Body) {
        let now = Instant::now();
        let mut given = self.codes.given.iter_mut();
        let replied =
            given.find_map(|it| Some((it.code.handle_passed(now, exchange, message)?, it)));
        let Some((reply, given)) = replied else {
            return self.reply(exchange, Reply::Close(Closed::Late));
        };
        let (number, wrong) = (given.code.code().nameplate.0, given.code.wrong());
        match &reply {
            Reply::Pass(_) => tracing::info!(number, "a code was opened"),
            Reply::Close(Closed::WrongWords) => {
                tracing::info!(number, wrong, "a code was guessed wrong");
            }
            Reply::Close(_) => (),
        }
        self.reply(exchange, reply);
        self.note_ended(now);
    }

    fn reply(&self, exchange: ExchangeId, reply: Reply) {
        self.say_of_codes(match reply {
            Reply::Pass(message) => CodeRequest::Pass { exchange, message },
            Reply::Close(reason) => CodeRequest::Close { exchange, reason },
        });
    }

    /// Ends what is over: codes, and waiting for numbers and answers.
    pub(super) fn watch_codes(&mut self, now: Instant) {
        let overdue = self.codes.asked.extract_if(.., |_, it| it.deadline <= now);
        let overdue: Vec<Asked> = overdue.map(|(_, asked)| asked).collect();
        for asked in overdue {
            asked.waiting.refuse(silent(&self.own_name()));
        }
        for given in &mut self.codes.given {
            given.code.handle_timeout(now);
        }
        for given in self.codes.given.iter_mut() {
            let share = self.shares.get(&given.swarm);
            if share.is_none_or(|share| share.is_withheld()) && given.ended.is_none() {
                given.is_revoked = share.is_some_and(|share| share.terms.revoked);
                given.code.end(Ended::Withdrawn);
            }
        }
        self.note_ended(now);
        self.watch_openings(now);
    }

    fn end_codes(&mut self, why: Ended, which: impl Fn(&Given) -> bool) {
        let given = self.codes.given.iter_mut().filter(|it| which(it));
        given.for_each(|it| it.code.end(why));
        self.note_ended(Instant::now());
    }

    /// Tells the tracker of codes that have ended since, and forgets those that did long ago.
    fn note_ended(&mut self, now: Instant) {
        let mut released = Vec::new();
        for given in self.codes.given.iter_mut().filter(|it| it.ended.is_none()) {
            let Some(ended) = given.code.ended() else {
                continue;
            };
            given.ended = Some(now);
            let nameplate = given.code.code().nameplate;
            if ended == Ended::Burned {
                let number = nameplate.0;
                tracing::warn!(
                    number,
                    "a code was guessed wrong {GUESSES} times and has ended"
                );
            }
            released.push(CodeRequest::Release { nameplate, ended });
        }
        released.into_iter().for_each(|it| self.say_of_codes(it));
        let is_recent = |at: Instant| now.saturating_duration_since(at) < SHOWN;
        let ended = self.codes.given.iter().filter(|it| it.ended.is_some());
        let mut surplus = ended.count().saturating_sub(ENDED_SHOWN);
        self.codes.given.retain(|it| {
            let Some(at) = it.ended else {
                return true;
            };
            let is_surplus = surplus > 0;
            surplus = surplus.saturating_sub(1);
            is_recent(at) && !is_surplus
        });
    }

    /// Whether a code with this number is ours, and still good.
    pub(super) fn is_own_code(&self, nameplate: Nameplate) -> bool {
        let mut live = self.codes.given.iter().filter(|it| it.ended.is_none());
        live.any(|it| it.code.code().nameplate == nameplate)
    }

    /// Codes as a person sees them, without their words.
    pub(super) fn shown_codes(&self) -> impl Iterator<Item = CodeStatus> {
        let is_connected = self
            .trackers
            .get(&OWN)
            .is_some_and(|own: &TrackerState| own.connected);
        let now = Instant::now();
        self.codes.given.iter().map(move |it| CodeStatus {
            number: it.code.code().nameplate.0,
            content_id: it.code.link().id.to_string(),
            name: it.name.clone(),
            state: match it.code.ended() {
                None if is_connected => CodeState::Open,
                None => CodeState::Unreachable,
                Some(Ended::Expired) => CodeState::Expired,
                Some(Ended::Used) => CodeState::Used,
                Some(Ended::Burned) => CodeState::Burned,
                Some(Ended::Withdrawn) if it.is_revoked => CodeState::Revoked,
                Some(Ended::Withdrawn) => CodeState::Withdrawn,
            },
            expires_s: it.code.expires().saturating_duration_since(now).as_secs(),
            once: it.once,
            opened: it.code.opened(),
            wrong: it.code.wrong(),
        })
    }
}

/// Why a number is no longer ours.
fn why_lost(result: Claimed) -> &'static str {
    match result {
        Claimed::TooMany => "the tracker has no room for it",
        Claimed::Taken => "at the tracker its number is another daemon's, or over",
        Claimed::Kept(_) => "the tracker has given it another number",
    }
}

fn too_many(tracker: &str) -> ApiError {
    ApiError::new(
        "too_many_codes",
        exit::REFUSED,
        format!("tracker {tracker} keeps no more codes for this daemon or its network"),
        "Pass on the link, or try again once others have expired: client status IDX shows yours.",
    )
}

fn silent(tracker: &str) -> ApiError {
    ApiError::new(
        "tracker_silent",
        exit::TRACKER_UNREACHABLE,
        format!("tracker {tracker} gives no code"),
        "Its version may be older than this one; pass on the link.",
    )
}
