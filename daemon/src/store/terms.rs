//! For how long, and how often, shares are given, beside the shares in the database of a daemon.
//!
//! A table that programs without it do not look at; so the version of the database stays. Such a program
//! gives a share that was revoked.

use std::collections::BTreeSet;

use rusqlite::{Connection, named_params};
use warren_proto::id::{PublicKey, SwarmId};

use super::db::{DbError, ShareDb};

/// One row for each share that has terms. `takers` are the keys of who has it, 32 bytes each.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS terms (
        swarm           BLOB PRIMARY KEY NOT NULL,
        expires_unix_ms INTEGER,
        max_downloads   INTEGER,
        revoked         INTEGER NOT NULL,
        takers          BLOB NOT NULL
    ) STRICT;";

/// Bytes of a peer's key.
const KEY_BYTES: usize = 32;

/// For how long and how often a share is given. The default is for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// When it ends, in milliseconds since 1970.
    pub expires_unix_ms: Option<u64>,
    /// How many peers may have it from here.
    pub max_downloads: Option<u32>,
    /// Who has it from here, as far as that is counted.
    pub takers: BTreeSet<PublicKey>,
    /// It is not given until it is registered again.
    pub revoked: bool,
}

impl Terms {
    /// Those of the next version of a share that has these: it was given to nobody yet.
    pub fn of_next(&self) -> Terms {
        Terms {
            takers: BTreeSet::new(),
            ..self.clone()
        }
    }

    /// Whether as many peers have it as were to.
    pub fn is_used_up(&self) -> bool {
        let downloads = self.takers.len();
        self.max_downloads
            .is_some_and(|most| downloads >= most as usize)
    }
}

/// Makes room for them.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLE)
}

impl ShareDb {
    /// All shares that have terms.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn terms(&self) -> Result<Vec<(SwarmId, Terms)>, DbError> {
        self.with(|connection| {
            let mut statement = connection.prepare("SELECT * FROM terms")?;
            let rows = statement.query_map([], |row| {
                let takers: Vec<u8> = row.get("takers")?;
                let keys = takers.chunks_exact(KEY_BYTES).map(|key| {
                    let mut bytes = [0; KEY_BYTES];
                    bytes.copy_from_slice(key);
                    PublicKey(bytes)
                });
                let terms = Terms {
                    expires_unix_ms: row
                        .get::<_, Option<i64>>("expires_unix_ms")?
                        .map(i64::cast_unsigned),
                    max_downloads: row.get("max_downloads")?,
                    takers: keys.collect(),
                    revoked: row.get("revoked")?,
                };
                Ok((SwarmId(row.get("swarm")?), terms))
            })?;
            rows.collect()
        })
    }

    /// Notes the terms of a share; the default is forgotten.
    ///
    /// # Errors
    ///
    /// When they could not be made durable; what was noted is then as it was.
    pub fn set_terms(&self, swarm: &SwarmId, terms: &Terms) -> Result<(), DbError> {
        self.with(|connection| {
            if *terms == Terms::default() {
                return connection.execute("DELETE FROM terms WHERE swarm = ?", [swarm.0]);
            }
            let takers: Vec<u8> = terms.takers.iter().flat_map(|key| key.0).collect();
            connection.execute(
                "INSERT OR REPLACE INTO terms VALUES
                    (:swarm, :expires_unix_ms, :max_downloads, :revoked, :takers)",
                named_params! {
                    ":swarm": swarm.0,
                    ":expires_unix_ms": terms.expires_unix_ms.map(u64::cast_signed),
                    ":max_downloads": terms.max_downloads,
                    ":revoked": terms.revoked,
                    ":takers": takers,
                },
            )
        })
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_what_they_were_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let (one, other) = (SwarmId([1; 32]), SwarmId([2; 32]));
        let terms = Terms {
            expires_unix_ms: Some(1 << 41),
            max_downloads: Some(2),
            takers: [PublicKey([3; 32]), PublicKey([4; 32])].into(),
            revoked: true,
        };
        assert!(terms.is_used_up());
        let db = ShareDb::open(&path).unwrap();
        db.set_terms(&one, &terms).unwrap();
        db.set_terms(&other, &terms).unwrap();
        db.set_terms(&other, &Terms::default()).unwrap();
        drop(db);
        let found = ShareDb::open(&path).unwrap().terms().unwrap();
        assert_eq!(found, [(one, terms)]);
    }
}
