//! Codes of others that a person has typed, until their link has come.
//!
//! One code is one exchange, and so one guess: nothing is ever tried again by itself, but for a tracker
//! that was too busy to begin.
//!
//! Not here: codes of our own ([`super::codes`]).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::oneshot;
use warren_proto::code::exchange::{Proven, Receiving};
use warren_proto::code::{Body, Closed, Code, ExchangeError, ExchangeId};
use warren_proto::content::Link;
use warren_proto::wire::CodeRequest;

use super::Node;
use super::trackers::OWN;
use crate::control::codes;
use crate::control::model::{ApiError, exit};

/// How long it may all take. The tracker gives an exchange twice that.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long to wait for a tracker that was not tried yet.
const TRACKER_PATIENCE: Duration = Duration::from_secs(3);

/// How long to wait before asking a tracker again that is busy.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Codes that may be open at once; a tracker lets one daemon have four.
const OPENINGS: usize = 16;

/// The way back to who has typed a code.
pub(crate) type Answer = oneshot::Sender<Result<Link, ApiError>>;

/// All codes that are being opened.
#[derive(Debug, Default)]
pub(super) struct Openings {
    /// Those that cannot begin yet.
    pub(super) waiting: Vec<Opening>,
    pub(super) under_way: BTreeMap<ExchangeId, (Opening, Step)>,
}

#[derive(Debug)]
pub(super) struct Opening {
    code: Code,
    answer: Answer,
    /// When to begin.
    at: Instant,
    /// Whether the tracker that is to be there is one that was there before.
    tracker: Tracker,
    /// By when it must be there.
    tracker_by: Instant,
    /// By when it must be done.
    by: Instant,
}

/// What is known of our tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tracker {
    /// What it was when the code was typed.
    Untried,
    /// It was reached, and is looked for anew.
    Lost,
}

/// What the sharer is to say next.
#[derive(Debug)]
pub(super) enum Step {
    /// Message 2.
    Begun(Receiving),
    /// Message 4.
    Proving(Proven),
}

impl Node {
    /// Opens a code.
    pub(super) fn open_code(&mut self, code: Code, answer: Answer) {
        let now = Instant::now();
        let openings = &self.codes.openings;
        let refused = if self.is_own_code(code.nameplate) {
            Some(own_code(&code))
        } else if openings.waiting.len() + openings.under_way.len() >= OPENINGS {
            Some(codes::not_opened(code.nameplate, "", Closed::Busy))
        } else {
            None
        };
        if let Some(error) = refused {
            return drop(answer.send(Err(error)));
        }
        self.begin_opening(Opening {
            code,
            answer,
            at: now,
            tracker: Tracker::Untried,
            tracker_by: now + TRACKER_PATIENCE,
            by: now + PATIENCE,
        });
    }

    /// Begins as soon as the tracker is there, if somebody still waits for the link.
    fn begin_opening(&mut self, opening: Opening) {
        let now = Instant::now();
        if opening.answer.is_closed() {
            return;
        }
        let Some(pin) = self.code_pin() else {
            let own = self.trackers.get(&OWN);
            let is_hopeless = match opening.tracker {
                Tracker::Untried => own.is_some_and(|own| own.cause.is_some()),
                Tracker::Lost => false,
            };
            match is_hopeless || opening.tracker_by <= now {
                true => opening.fail(codes::no_tracker(&self.own_name())),
                false => self.codes.openings.waiting.push(opening),
            }
            return;
        };
        if opening.at > now {
            return self.codes.openings.waiting.push(opening);
        }
        let mut rng = rand::rng();
        let (receiving, message) = Receiving::begin(&opening.code, &pin, rng.random());
        let exchange = ExchangeId(rng.random());
        self.say_of_codes(CodeRequest::Open {
            nameplate: opening.code.nameplate,
            exchange,
            message,
        });
        let begun = (opening, Step::Begun(receiving));
        self.codes.openings.under_way.insert(exchange, begun);
    }

    /// A message of the sharer; false if it is about no exchange of ours. The proof uses up a code that is
    /// for one, so that nobody is given it who has gone.
    pub(super) fn handle_opening_passed(&mut self, exchange: ExchangeId, message: &Body) -> bool {
        let under_way = &mut self.codes.openings.under_way;
        let Some((opening, step)) = under_way.remove(&exchange) else {
            return false;
        };
        match step {
            Step::Begun(_) if opening.answer.is_closed() => self.close_opening(exchange),
            Step::Begun(receiving) => match receiving.answer(message) {
                Ok((proven, message)) => {
                    let proving = (opening, Step::Proving(proven));
                    under_way.insert(exchange, proving);
                    self.say_of_codes(CodeRequest::Pass { exchange, message });
                }
                Err(error) => self.fail_opening(opening, error),
            },
            Step::Proving(proven) => match proven.open(message) {
                Ok(link) => opening.succeed(link),
                Err(error) => self.fail_opening(opening, error),
            },
        }
        true
    }

    fn fail_opening(&self, opening: Opening, error: ExchangeError) {
        let (nameplate, tracker) = (opening.code.nameplate, self.own_name());
        opening.fail(match error {
            ExchangeError::Malformed => codes::not_opened(nameplate, &tracker, Closed::Malformed),
            ExchangeError::WrongWords => codes::not_opened(nameplate, &tracker, Closed::WrongWords),
            ExchangeError::NotTheSharer => codes::not_the_sharer(nameplate, &tracker),
        });
    }

    /// An exchange has ended without a link.
    pub(super) fn handle_opening_closed(&mut self, exchange: ExchangeId, reason: Closed) {
        let under_way = &mut self.codes.openings.under_way;
        let Some((mut opening, step)) = under_way.remove(&exchange) else {
            return;
        };
        let now = Instant::now();
        if reason == Closed::Busy && matches!(step, Step::Begun(_)) && now + BUSY_WAIT < opening.by
        {
            opening.at = now + BUSY_WAIT;
            return self.codes.openings.waiting.push(opening);
        }
        let tracker = self.own_name();
        let error = codes::not_opened(opening.code.nameplate, &tracker, reason);
        opening.fail(error);
    }

    /// What was under way at our tracker has ended with the connection. Where nothing was guessed yet it
    /// begins again once the tracker is there, soon; where the proof was sent nobody knows what came of it.
    pub(super) fn end_openings(&mut self) {
        let tracker = self.own_name();
        let under_way = std::mem::take(&mut self.codes.openings.under_way);
        for (mut opening, step) in under_way.into_values() {
            match step {
                Step::Begun(_) => {
                    opening.tracker = Tracker::Lost;
                    opening.tracker_by = Instant::now() + TRACKER_PATIENCE;
                    self.codes.openings.waiting.push(opening);
                }
                Step::Proving(_) => opening.fail(codes::no_tracker(&tracker)),
            }
        }
    }

    /// Begins what can begin now, and gives up what takes too long or nobody waits for.
    pub(super) fn watch_openings(&mut self, now: Instant) {
        for opening in std::mem::take(&mut self.codes.openings.waiting) {
            self.begin_opening(opening);
        }
        let under_way = &mut self.codes.openings.under_way;
        let overdue = under_way.extract_if(.., |_, (opening, _)| {
            opening.by <= now || opening.answer.is_closed()
        });
        let overdue: Vec<_> = overdue.collect();
        let tracker = self.own_name();
        for (exchange, (opening, _)) in overdue {
            self.close_opening(exchange);
            let nameplate = opening.code.nameplate;
            opening.fail(codes::not_opened(nameplate, &tracker, Closed::Late));
        }
    }

    /// We say nothing more in this exchange.
    fn close_opening(&self, exchange: ExchangeId) {
        let reason = Closed::Late;
        self.say_of_codes(CodeRequest::Close { exchange, reason });
    }
}

impl Opening {
    // Who has typed it may have gone.

    fn succeed(self, link: Link) {
        let _ = self.answer.send(Ok(link));
    }

    fn fail(self, error: ApiError) {
        let _ = self.answer.send(Err(error));
    }
}

fn own_code(code: &Code) -> ApiError {
    ApiError::new(
        "own_code",
        exit::USAGE,
        format!(
            "code {} is one that this daemon has given out itself",
            code.nameplate
        ),
        "Type it on the machine that is to fetch; here it is shared already.",
    )
}
