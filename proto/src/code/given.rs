//! What the sharer's daemon decides about a code: who may try the words, how often, and for how long.
//!
//! [`GivenCode`] holds no clock and no socket: it is told who opens the code and what they say, and returns
//! what to say. Wrong guesses are counted here and nowhere else, since a tracker may lie: after
//! [`GUESSES`] of them the code is burned. Who breaks off before message 3 has guessed nothing
//! ([`super::exchange`]) and costs nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::ending::{Closed, Ended};
use super::exchange::{Body, Giving};
use super::{Code, ExchangeId};
use crate::content::Link;
use crate::id::TrackerPin;
use crate::limits::EXCHANGES_PER_CODE;

/// Wrong guesses that a code takes. Who guesses blindly is right once in 26,214 codes
/// (10 of [`super::words::WORDS`] squared).
pub const GUESSES: u32 = 10;

/// How long an exchange may take from its first message to its last: six ways between three machines.
pub const EXCHANGE_TIME: Duration = Duration::from_secs(30);

/// A code that was given out, and the link that it stands for.
#[derive(Debug)]
pub struct GivenCode {
    code: Code,
    pin: TrackerPin,
    link: Link,
    expires: Instant,
    receivers: Receivers,
    opened: u32,
    wrong: u32,
    under_way: BTreeMap<ExchangeId, (Instant, Giving)>,
    ended: Option<Ended>,
}

/// How many may open a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receivers {
    /// As many as know it.
    Any,
    /// The first.
    One,
}

/// What to say in an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The next message.
    Pass(Body),
    /// It is over, for this reason.
    Close(Closed),
}

impl GivenCode {
    /// A code at the tracker with this pin, good until `expires`.
    pub fn new(
        code: Code,
        pin: TrackerPin,
        link: Link,
        (expires, receivers): (Instant, Receivers),
    ) -> GivenCode {
        GivenCode {
            code,
            pin,
            link,
            expires,
            receivers,
            opened: 0,
            wrong: 0,
            under_way: BTreeMap::new(),
            ended: None,
        }
    }

    /// The code itself.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// What it stands for.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Until when it is good.
    pub fn expires(&self) -> Instant {
        self.expires
    }

    /// How many receivers have got the link.
    pub fn opened(&self) -> u32 {
        self.opened
    }

    /// How many guesses were wrong.
    pub fn wrong(&self) -> u32 {
        self.wrong
    }

    /// Why it is no longer good, if it is not.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Ends it when its time is up.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.expires {
            self.end(Ended::Expired);
        }
    }

    /// Ends it, unless it has ended before.
    pub fn end(&mut self, why: Ended) {
        self.ended.get_or_insert(why);
        self.under_way.clear();
    }

    /// Somebody opens it with message 1; `seed` as for [`Giving::begin`].
    pub fn handle_opened(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        message: &[u8],
        seed: [u8; 32],
    ) -> Reply {
        self.handle_timeout(now);
        if let Some(ended) = self.ended {
            return Reply::Close(ended.into());
        }
        let is_young = |begun: Instant| now.saturating_duration_since(begun) < EXCHANGE_TIME;
        self.under_way.retain(|_, (begun, _)| is_young(*begun));
        if self.under_way.len() >= EXCHANGES_PER_CODE || self.under_way.contains_key(&exchange) {
            return Reply::Close(Closed::Busy);
        }
        match Giving::begin(&self.code, &self.pin, message, seed) {
            Ok((giving, answer)) => {
                self.under_way.insert(exchange, (now, giving));
                Reply::Pass(answer)
            }
            Err(_) => Reply::Close(Closed::Malformed),
        }
    }

    /// Message 3 of an exchange; `None` for one that is not under way, which may be another code's.
    pub fn handle_passed(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        message: &[u8],
    ) -> Option<Reply> {
        let (begun, giving) = self.under_way.remove(&exchange)?;
        self.handle_timeout(now);
        if let Some(ended) = self.ended {
            return Some(Reply::Close(ended.into()));
        }
        if now.saturating_duration_since(begun) >= EXCHANGE_TIME {
            return Some(Reply::Close(Closed::Late));
        }
        Some(match giving.seal(message, &self.link) {
            Ok(sealed) => {
                self.note_opened();
                Reply::Pass(sealed)
            }
            Err(_) => {
                self.note_wrong();
                Reply::Close(Closed::WrongWords)
            }
        })
    }

    /// An exchange is over; nothing was guessed in it.
    pub fn handle_closed(&mut self, exchange: &ExchangeId) {
        self.under_way.remove(exchange);
    }

    fn note_opened(&mut self) {
        self.opened = self.opened.saturating_add(1);
        if self.receivers == Receivers::One {
            self.end(Ended::Used);
        }
    }

    fn note_wrong(&mut self) {
        self.wrong += 1;
        if self.wrong >= GUESSES {
            self.end(Ended::Burned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::exchange::{Proven, Receiving};
    use super::*;
    use crate::id::{ContentId, Kind};

    const PIN: TrackerPin = TrackerPin([9; 16]);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn any_number_of_receivers_get_the_link_until_the_time_is_up() {
        let start = Instant::now();
        let mut given = given(start, Receivers::Any);
        for number in 0..5 {
            assert_eq!(open(&mut given, start, number, "7-film-alibi"), Ok(link()));
        }
        assert_eq!((given.opened(), given.wrong(), given.ended()), (5, 0, None));
        let late = open(&mut given, start + HOUR, 9, "7-film-alibi");
        assert_eq!(late, Err(Closed::Expired));
        assert_eq!(given.ended(), Some(Ended::Expired));
    }

    #[test]
    fn a_code_for_one_ends_with_the_first_that_is_right_also_for_who_is_under_way() {
        let start = Instant::now();
        let mut given = given(start, Receivers::One);
        assert_eq!(
            open(&mut given, start, 1, "7-film-album"),
            Err(Closed::WrongWords)
        );
        let (_, third) = prove(&mut given, start, 2, "7-film-alibi").unwrap();
        assert_eq!(open(&mut given, start, 3, "7-film-alibi"), Ok(link()));
        assert_eq!(given.ended(), Some(Ended::Used));
        assert_eq!(given.handle_passed(start, id(2), &third), None);
        assert_eq!(
            open(&mut given, start, 4, "7-film-alibi"),
            Err(Closed::Used)
        );
        assert_eq!(given.opened(), 1);
    }

    #[test]
    fn after_ten_wrong_guesses_even_the_right_words_are_of_no_use() {
        let start = Instant::now();
        let mut given = given(start, Receivers::Any);
        for number in 0..GUESSES as u8 {
            // Who is right in between changes nothing.
            assert_eq!(
                open(&mut given, start, 100 + number, "7-film-alibi"),
                Ok(link())
            );
            assert_eq!(given.ended(), None);
            assert_eq!(
                open(&mut given, start, number, "7-film-album"),
                Err(Closed::WrongWords)
            );
        }
        assert_eq!(given.ended(), Some(Ended::Burned));
        assert_eq!(
            open(&mut given, start, 99, "7-film-alibi"),
            Err(Closed::Burned)
        );
    }

    #[test]
    fn guesses_under_way_at_once_are_no_more_than_one_after_the_other() {
        let start = Instant::now();
        let mut given = given(start, Receivers::Any);
        let begun: Vec<_> = (0..EXCHANGES_PER_CODE as u8)
            .map(|number| prove(&mut given, start, number, "7-film-album").unwrap().1)
            .collect();
        let judged: Vec<_> = (0..)
            .zip(&begun)
            .map(|(number, third)| given.handle_passed(start, id(number), third))
            .collect();
        let wrong = Some(Reply::Close(Closed::WrongWords));
        let (first, rest) = judged.split_at(GUESSES as usize);
        assert!(first.iter().all(|it| *it == wrong));
        assert!(
            rest.iter().all(|it| it.is_none()),
            "none of them is looked at"
        );
    }

    #[test]
    fn one_exchange_is_one_guess_and_breaking_off_is_none() {
        let start = Instant::now();
        let mut given = given(start, Receivers::Any);
        let (_, third) = prove(&mut given, start, 1, "7-film-album").unwrap();
        let wrong = Some(Reply::Close(Closed::WrongWords));
        assert_eq!(given.handle_passed(start, id(1), &third), wrong);
        assert_eq!(given.handle_passed(start, id(1), &third), None);
        for number in 2..100 {
            prove(&mut given, start, number, "7-film-album").unwrap();
            given.handle_closed(&id(number));
        }
        assert_eq!(given.wrong(), 1);
    }

    #[test]
    fn exchanges_that_never_go_on_make_room_after_a_while() {
        let start = Instant::now();
        let mut given = given(start, Receivers::Any);
        for number in 0..EXCHANGES_PER_CODE as u8 {
            prove(&mut given, start, number, "7-film-alibi").unwrap();
        }
        assert_eq!(
            open(&mut given, start, 200, "7-film-alibi"),
            Err(Closed::Busy)
        );
        let later = start + EXCHANGE_TIME;
        assert_eq!(open(&mut given, later, 201, "7-film-alibi"), Ok(link()));
        // Of the same name as one under way.
        prove(&mut given, later, 202, "7-film-alibi").unwrap();
        assert_eq!(
            prove(&mut given, later, 202, "7-film-alibi").err(),
            Some(Closed::Busy)
        );
    }

    #[test]
    fn what_is_no_message_of_an_exchange_is_no_guess() {
        let start = Instant::now();
        let mut given = given(start, Receivers::Any);
        let malformed = Reply::Close(Closed::Malformed);
        assert_eq!(
            given.handle_opened(start, id(1), b"what", [1; 32]),
            malformed
        );
        assert_eq!((given.wrong(), given.under_way.len()), (0, 0));
    }

    /// What somebody gets who has typed this.
    fn open(given: &mut GivenCode, now: Instant, number: u8, typed: &str) -> Result<Link, Closed> {
        let (proven, third) = prove(given, now, number, typed)?;
        match given.handle_passed(now, id(number), &third).unwrap() {
            Reply::Pass(fourth) => Ok(proven.open(&fourth).unwrap()),
            Reply::Close(why) => Err(why),
        }
    }

    /// The same as far as message 3.
    fn prove(
        given: &mut GivenCode,
        now: Instant,
        number: u8,
        typed: &str,
    ) -> Result<(Proven, Body), Closed> {
        let (receiving, first) = Receiving::begin(&typed.parse().unwrap(), &PIN, [number; 32]);
        match given.handle_opened(now, id(number), &first, [number ^ 0xff; 32]) {
            Reply::Pass(second) => Ok(receiving.answer(&second).unwrap()),
            Reply::Close(why) => Err(why),
        }
    }

    fn given(now: Instant, receivers: Receivers) -> GivenCode {
        let code = "7-film-alibi".parse().unwrap();
        GivenCode::new(code, PIN, link(), (now + HOUR, receivers))
    }

    fn id(number: u8) -> ExchangeId {
        ExchangeId([number; 8])
    }

    fn link() -> Link {
        let tracker = format!("203.0.113.7:59000#{PIN}");
        Link {
            kind: Kind::File,
            id: ContentId([5; 32]),
            tracker: tracker.parse().unwrap(),
            secret: None,
        }
    }
}
