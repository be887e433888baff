//! Which share a person means.

use warren_proto::content::path::printable;
use warren_proto::id::SwarmId;

use super::Node;
use crate::control::model::{ApiError, LEAST_ID_DIGITS, exit};
use crate::control::words::short_id;
use crate::store::db::ShareRecord;
use crate::store::following::Held;

/// Shares that are offered in the place of one that is not there or not clear.
const CANDIDATES: usize = 5;

/// How alike a name must be (Jaro-Winkler, 0 to 1).
const NEAR: f64 = 0.75;

impl Node {
    /// The share of this name, or with this content id or beginning of one.
    ///
    /// # Errors
    ///
    /// When there is none, with names that are like it, or more than one, with their ids.
    pub(super) fn find(&self, wanted: &str) -> Result<SwarmId, ApiError> {
        let id = wanted.to_ascii_lowercase();
        let by_id = id.len() >= LEAST_ID_DIGITS;
        let matches = |record: &ShareRecord| {
            record.name == wanted || by_id && record.id.to_string().starts_with(&id)
        };
        let found = self.shares.iter();
        let found = found.filter(|(_, share)| !share.is_preview && matches(&share.record));
        let mut found: Vec<_> = found.map(|(swarm, share)| (swarm, &share.record)).collect();
        if found.len() > 1 {
            // A version that is to take the place of another one goes by its id alone until then.
            found.retain(|(swarm, _)| !self.is_coming(swarm));
        }
        match found.as_slice() {
            [(swarm, _)] => Ok(**swarm),
            [] => Err(self.no_such(wanted)),
            several => Err(ambiguous(wanted, several.iter().map(|(_, record)| *record))),
        }
    }

    /// The followed share that goes by this name; where none does, any share.
    pub(super) fn find_followed(&self, wanted: &str) -> Result<SwarmId, ApiError> {
        let rows = self.follows.followed.values().map(|it| &it.row);
        let held = rows.filter_map(|row| row.current.or(row.fetching));
        let is_it = |held: &Held| {
            let share = self.shares.get(&held.swarm);
            share.is_some_and(|share| share.record.name == wanted)
        };
        let its: Vec<Held> = held.filter(is_it).collect();
        match its.as_slice() {
            [held] => Ok(held.swarm),
            _ => self.find(wanted),
        }
    }

    fn no_such(&self, wanted: &str) -> ApiError {
        let records = self.shares.values().map(|share| &share.record);
        let alike = |record: &&ShareRecord| {
            strsim::jaro_winkler(&wanted.to_lowercase(), &record.name.to_lowercase())
        };
        let scored = records.map(|record| (alike(&record), record));
        let mut near: Vec<_> = scored.filter(|(score, _)| *score >= NEAR).collect();
        near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let is_clear = |name: &str| {
            let records = self.shares.values().map(|share| &share.record);
            records.filter(|record| record.name == name).count() == 1
        };
        let said = |record: &ShareRecord| match is_clear(&record.name) {
            true => printable(&record.name),
            false => shown(record),
        };
        let near: Vec<String> = near
            .iter()
            .take(CANDIDATES)
            .map(|(_, record)| said(record))
            .collect();
        let all =
            "See its shares with client list IDX; a share is named by its name or its content id.";
        let hint = match near.join(", ") {
            near if near.is_empty() => all.to_owned(),
            near => format!("Is it {near}? {all}"),
        };
        let message = format!("the daemon has no share {}", printable(wanted));
        ApiError::new("no_such_share", exit::NOT_FOUND, message, hint)
    }
}

fn ambiguous<'r>(
    wanted: &str,
    records: impl ExactSizeIterator<Item = &'r ShareRecord>,
) -> ApiError {
    let count = records.len();
    let shown: Vec<String> = records.take(CANDIDATES).map(shown).collect();
    let more = match count.saturating_sub(CANDIDATES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let hint = format!("Name one by its content id: {}{more}.", shown.join(", "));
    let message = format!("{} names {count} shares", printable(wanted));
    ApiError::new("ambiguous_share", exit::USAGE, message, hint)
}

/// As much as tells it from others: `0123456789ab (film.mkv in /data)`.
fn shown(record: &ShareRecord) -> String {
    let id = short_id(&record.id);
    let path = printable(&record.path.display().to_string());
    format!("{id} ({path})")
}
