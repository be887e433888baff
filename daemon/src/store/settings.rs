//! Limits of speed, beside the shares in the database of a daemon.
//!
//! A table that programs without limits do not look at; so the version of the database stays.

use rusqlite::{Connection, named_params};
use warren_proto::id::SwarmId;

use super::db::{DbError, ShareDb};

/// One row for all shares together, whose swarm is empty, and one for each share with a limit.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS speed_limit (
        swarm           BLOB PRIMARY KEY NOT NULL,
        up_bits_per_s   INTEGER,
        down_bits_per_s INTEGER,
        background      INTEGER NOT NULL DEFAULT 0,
        lan_unlimited   INTEGER NOT NULL DEFAULT 0
    ) STRICT;";

/// How fast bytes may go each way, in bits per second; `None` is as fast as they can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpeedLimit {
    /// From us.
    pub up_bits_per_s: Option<u64>,
    /// To us.
    pub down_bits_per_s: Option<u64>,
}

/// What holds for all shares together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manners {
    /// The limits.
    pub limit: SpeedLimit,
    /// Whether links are left to whatever else is on them.
    pub background: bool,
    /// Whether peers in the local network are exempt.
    pub lan_unlimited: bool,
}

/// Makes room for limits.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLE)
}

impl ShareDb {
    /// What holds for all shares together.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn manners(&self) -> Result<Manners, DbError> {
        let rows = self.speed_limits()?;
        let whole = rows.into_iter().find(|(swarm, _)| swarm.is_empty());
        Ok(whole.map(|(_, manners)| manners).unwrap_or_default())
    }

    /// The limits of single shares.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn share_limits(&self) -> Result<Vec<(SwarmId, SpeedLimit)>, DbError> {
        let rows = self.speed_limits()?.into_iter();
        let of_share = |(swarm, manners): (Vec<u8>, Manners)| {
            let swarm = <[u8; 32]>::try_from(swarm).ok()?;
            Some((SwarmId(swarm), manners.limit))
        };
        Ok(rows.filter_map(of_share).collect())
    }

    /// Keeps what holds for all shares together.
    ///
    /// # Errors
    ///
    /// When it could not be made durable; what was kept is then as it was.
    pub fn set_manners(&self, manners: &Manners) -> Result<(), DbError> {
        self.keep(&[], manners)
    }

    /// Keeps the limit of one share.
    ///
    /// # Errors
    ///
    /// As [`Self::set_manners`].
    pub fn set_share_limit(&self, swarm: &SwarmId, limit: SpeedLimit) -> Result<(), DbError> {
        let manners = Manners {
            limit,
            ..Manners::default()
        };
        self.keep(&swarm.0, &manners)
    }

    /// Forgets the limit of one share.
    ///
    /// # Errors
    ///
    /// As [`Self::set_manners`].
    pub fn forget_share_limit(&self, swarm: &SwarmId) -> Result<(), DbError> {
        self.with(|connection| {
            connection.execute("DELETE FROM speed_limit WHERE swarm = ?", [swarm.0])
        })
        .map(drop)
    }

    fn keep(&self, swarm: &[u8], manners: &Manners) -> Result<(), DbError> {
        let kept = self.with(|connection| {
            connection.execute(
                "INSERT OR REPLACE INTO speed_limit VALUES (:swarm, :up, :down, :background, :lan)",
                named_params! {
                    ":swarm": swarm,
                    ":up": manners.limit.up_bits_per_s.map(u64::cast_signed),
                    ":down": manners.limit.down_bits_per_s.map(u64::cast_signed),
                    ":background": manners.background,
                    ":lan": manners.lan_unlimited,
                },
            )
        });
        kept.map(drop)
    }

    fn speed_limits(&self) -> Result<Vec<(Vec<u8>, Manners)>, DbError> {
        self.with(|connection| {
            let mut statement = connection.prepare("SELECT * FROM speed_limit")?;
            let rows = statement.query_map([], |row| {
                let rate = |name| {
                    row.get::<_, Option<i64>>(name)
                        .map(|it| it.map(i64::cast_unsigned))
                };
                let manners = Manners {
                    limit: SpeedLimit {
                        up_bits_per_s: rate("up_bits_per_s")?,
                        down_bits_per_s: rate("down_bits_per_s")?,
                    },
                    background: row.get("background")?,
                    lan_unlimited: row.get("lan_unlimited")?,
                };
                Ok((row.get("swarm")?, manners))
            })?;
            rows.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let manners = Manners {
            limit: SpeedLimit {
                up_bits_per_s: Some(20_000_000),
                down_bits_per_s: None,
            },
            background: true,
            lan_unlimited: false,
        };
        let limit = SpeedLimit {
            up_bits_per_s: None,
            down_bits_per_s: Some(u64::MAX),
        };
        let (one, other) = (SwarmId([1; 32]), SwarmId([2; 32]));
        let db = ShareDb::open(&path).unwrap();
        assert_eq!(db.manners().unwrap(), Manners::default());
        db.set_manners(&Manners::default()).unwrap();
        db.set_manners(&manners).unwrap();
        db.set_share_limit(&one, limit).unwrap();
        db.set_share_limit(&other, limit).unwrap();
        db.forget_share_limit(&other).unwrap();
        drop(db);
        let db = ShareDb::open(&path).unwrap();
        assert_eq!(db.manners().unwrap(), manners);
        assert_eq!(db.share_limits().unwrap(), [(one, limit)]);
    }
}
