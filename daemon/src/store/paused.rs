//! Shares that the person has paused, beside the shares in the database of a daemon.
//!
//! A table that programs without it do not look at; so the version of the database stays.

use rusqlite::Connection;
use warren_proto::id::SwarmId;

use super::db::{DbError, ShareDb};

/// One row for each paused share.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS paused (swarm BLOB PRIMARY KEY NOT NULL) STRICT;";

/// Makes room for them.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLE)
}

impl ShareDb {
    /// The shares that are paused.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn paused(&self) -> Result<Vec<SwarmId>, DbError> {
        self.with(|connection| {
            let mut statement = connection.prepare("SELECT swarm FROM paused")?;
            let rows = statement.query_map([], |row| row.get::<_, [u8; 32]>(0))?;
            rows.map(|row| row.map(SwarmId)).collect()
        })
    }

    /// Notes whether a share is paused.
    ///
    /// # Errors
    ///
    /// When it could not be made durable; what was noted is then as it was.
    pub fn set_paused(&self, swarm: &SwarmId, is_paused: bool) -> Result<(), DbError> {
        let change = match is_paused {
            true => "INSERT OR IGNORE INTO paused VALUES (?)",
            false => "DELETE FROM paused WHERE swarm = ?",
        };
        self.with(|connection| connection.execute(change, [swarm.0]))
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_paused_is_so_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let (one, other) = (SwarmId([1; 32]), SwarmId([2; 32]));
        let db = ShareDb::open(&path).unwrap();
        db.set_paused(&one, true).unwrap();
        db.set_paused(&one, true).unwrap();
        db.set_paused(&other, true).unwrap();
        db.set_paused(&other, false).unwrap();
        drop(db);
        assert_eq!(ShareDb::open(&path).unwrap().paused().unwrap(), [one]);
    }
}
