//! How codes end, and exchanges by which they are opened.

use serde::{Deserialize, Serialize};

/// Why a code is no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ended {
    /// Its time is up.
    Expired = 0,
    /// It was for one receiver, who has come.
    Used = 1,
    /// It was guessed wrong [`super::GUESSES`] times.
    Burned = 2,
    /// What it is for is no longer shared, or its daemon has gone.
    Withdrawn = 3,
}

/// Why an exchange is over before its last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Closed {
    /// No code has this number.
    Unknown = 0,
    /// The code is no longer good.
    Expired = 1,
    /// Likewise.
    Used = 2,
    /// Likewise.
    Burned = 3,
    /// Likewise.
    Withdrawn = 4,
    /// The sharer's daemon is not connected to the tracker, or the other side has gone.
    Absent = 5,
    /// Too many open codes at the moment.
    Busy = 6,
    /// Too many guesses have come from this network.
    TooManyGuesses = 7,
    /// The words are wrong.
    WrongWords = 8,
    /// One side did not answer in time.
    Late = 9,
    /// One side did not keep to the protocol.
    Malformed = 10,
}

impl From<Ended> for Closed {
    fn from(ended: Ended) -> Closed {
        match ended {
            Ended::Expired => Closed::Expired,
            Ended::Used => Closed::Used,
            Ended::Burned => Closed::Burned,
            Ended::Withdrawn => Closed::Withdrawn,
        }
    }
}
