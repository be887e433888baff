//! The shares of a daemon, in one SQLite database that survives a power cut.
//!
//! One row per swarm: the same content with another secret is another share. Rows hold the whole
//! manifest, so a restarted daemon needs no `.p2p` file. A database that is damaged, foreign or
//! from a newer program is reported and left as it is.
//!
//! Not here: which chunks of an unfinished share are there (`store::journal`), limits of speed
//! (`store::settings`).

use std::error::Error;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, named_params};
use serde::{Deserialize, Serialize};
use warren_proto::content::TrackerAddress;
use warren_proto::id::{ContentId, Kind, Secret, SwarmId};

use super::files::Identities;
use super::open_files::lock;
use super::taken::Placing;
use super::{following, paused, settings, terms};
use crate::control::wish::Wish;

/// Marks the file as ours (`application_id` of the SQLite file format): "Wrrn".
const APPLICATION: i32 = i32::from_be_bytes(*b"Wrrn");

/// The schema this program reads and writes (`user_version`).
const VERSION: i32 = 2;

const SCHEMA: &str = "
    CREATE TABLE share (
        swarm         BLOB PRIMARY KEY NOT NULL,
        id            BLOB NOT NULL,
        kind          INTEGER NOT NULL,
        secret        BLOB,
        name          TEXT NOT NULL,
        path          BLOB NOT NULL,
        state         INTEGER NOT NULL,
        reason        TEXT,
        manifest      BLOB,
        trackers      BLOB NOT NULL,
        identities    BLOB,
        added_unix_ms INTEGER NOT NULL,
        wish          TEXT,
        settled       BLOB
    ) STRICT;";

/// What makes a database of version 1 one of version 2.
const FROM_1: &str = "
    ALTER TABLE share ADD COLUMN wish TEXT;
    ALTER TABLE share ADD COLUMN settled BLOB;";

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The file, or a row in it, is not what was written.
    #[error("the database {} is damaged", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A database of another program.
    #[error("the database {} is not one of warren's", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("the database {} has version {found} and this program knows {VERSION}", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// The version it has.
        found: i32,
    },
    /// The database could not be read or written.
    #[error("cannot use the database {}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Where a share stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareState {
    /// Shared where the person has it.
    Registered,
    /// Being downloaded.
    Downloading,
    /// A download that waits for the person, for instance to make room.
    Paused {
        /// What it waits for.
        reason: String,
    },
    /// Downloaded and shared.
    Complete,
    /// No longer shared or downloaded.
    Failed {
        /// Why.
        reason: String,
    },
}

/// One share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRecord {
    /// What is shared.
    pub id: ContentId,
    /// A file or a tree.
    pub kind: Kind,
    /// The secret of a private share.
    pub secret: Option<Secret>,
    /// Its name.
    pub name: String,
    /// Where it is or will be, absolute, without any `.part`.
    pub path: PathBuf,
    /// Where it stands.
    pub state: ShareState,
    /// The encoded manifest; `None` until a download from a link has learnt it.
    pub manifest: Option<Vec<u8>>,
    /// The trackers it is announced at.
    pub trackers: Vec<TrackerAddress>,
    /// What its files were when they were hashed or finished.
    pub identities: Option<Identities>,
    /// When the person added it, in milliseconds since 1970.
    pub added_unix_ms: u64,
    /// What of it is wanted.
    pub wish: Wish,
    /// Once only some files were wanted: what those were that had got their final names.
    pub settled: Option<Identities>,
    /// What becomes of what was in its place.
    pub placing: Placing,
}

/// What is noted of what a person wants of a download, as JSON, in which fields may be added.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Noted {
    #[serde(flatten)]
    wish: Wish,
    #[serde(flatten)]
    placing: Placing,
}

impl ShareRecord {
    /// The swarm of the share, which tells its record from others.
    pub fn swarm(&self) -> SwarmId {
        SwarmId::of(self.kind, &self.id, self.secret.as_ref())
    }

    /// It lies, or is going to lie, there, and is known by its name there.
    pub fn take_path(&mut self, path: PathBuf) {
        if let Some(name) = path.file_name().filter(|_| path != self.path) {
            self.name = name.to_string_lossy().into_owned();
        }
        self.path = path;
    }
}

/// The database. Its methods block on the disk; what they return from is durable.
#[derive(Debug)]
pub struct ShareDb {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl ShareDb {
    /// Opens the database, or makes an empty one.
    ///
    /// # Errors
    ///
    /// When the file is damaged, foreign or too new; it is left as it is.
    pub fn open(path: &Path) -> Result<ShareDb, DbError> {
        let at = sorted(path);
        let connection = Connection::open(path).map_err(&at)?;
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(&at)?;
        check_intact(&connection, path)?;
        match identify(&connection).map_err(&at)? {
            Found::Empty => {
                // The mode belongs to the file, so nothing is set before we know it is ours.
                connection
                    .pragma_update(None, "journal_mode", "WAL")
                    .map_err(&at)?;
                create(&connection).map_err(&at)?;
            }
            Found::Ours(VERSION) => (),
            Found::Ours(1) => upgrade(&connection, FROM_1).map_err(&at)?,
            Found::Ours(found) => {
                return Err(DbError::Newer {
                    path: path.to_owned(),
                    found,
                });
            }
            Found::Foreign => {
                return Err(DbError::Foreign {
                    path: path.to_owned(),
                });
            }
        }
        settings::create(&connection).map_err(&at)?;
        paused::create(&connection).map_err(&at)?;
        terms::create(&connection).map_err(&at)?;
        following::create(&connection).map_err(&at)?;
        let (connection, path) = (Mutex::new(connection), path.to_owned());
        Ok(ShareDb { connection, path })
    }

    /// Works on the database.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DbError> {
        work(&lock(&self.connection)).map_err(sorted(&self.path))
    }

    /// Adds a share, or replaces the record of the same swarm.
    ///
    /// # Errors
    ///
    /// When it could not be made durable; the record is then as it was.
    pub fn upsert(&self, record: &ShareRecord) -> Result<(), DbError> {
        self.put(record, "").map(drop)
    }

    /// Replaces the record of a share by a later one. False when it was removed meanwhile, though it
    /// may have been added anew.
    ///
    /// # Errors
    ///
    /// As [`Self::upsert`].
    pub fn replace(&self, record: &ShareRecord) -> Result<bool, DbError> {
        let is_there = "WHERE EXISTS (SELECT 1 FROM share
            WHERE swarm = :swarm AND added_unix_ms = :added_unix_ms)";
        self.put(record, is_there)
    }

    /// Whether it was put there; only where the condition holds, a `WHERE` clause.
    fn put(&self, record: &ShareRecord, condition: &str) -> Result<bool, DbError> {
        let (state, reason) = encode_state(&record.state);
        let identities = record
            .identities
            .as_ref()
            .map(|known| self.encode(known))
            .transpose()?;
        let inserted = lock(&self.connection).execute(
            &format!(
                "INSERT OR REPLACE INTO share SELECT :swarm, :id, :kind, :secret, :name, :path,
                    :state, :reason, :manifest, :trackers, :identities, :added_unix_ms, :wish,
                    :settled {condition}"
            ),
            named_params! {
                ":swarm": record.swarm().0,
                ":id": record.id.0,
                ":kind": record.kind as u8,
                ":secret": record.secret.map(|secret| secret.0),
                ":name": record.name,
                ":path": record.path.as_os_str().as_bytes(),
                ":state": state,
                ":reason": reason,
                ":manifest": record.manifest,
                ":trackers": self.encode(&record.trackers)?,
                ":identities": identities,
                ":added_unix_ms": record.added_unix_ms.cast_signed(),
                ":wish": self.encode_noted(record)?,
                ":settled": record
                    .settled
                    .as_ref()
                    .map(|known| self.encode(known))
                    .transpose()?,
            },
        );
        inserted.map(|rows| rows > 0).map_err(sorted(&self.path))
    }

    /// Notes where a share stands, without writing its manifest anew. False when there is no such
    /// share.
    ///
    /// # Errors
    ///
    /// As [`Self::upsert`].
    pub fn set_state(&self, swarm: &SwarmId, state: &ShareState) -> Result<bool, DbError> {
        let (state, reason) = encode_state(state);
        let updated = lock(&self.connection).execute(
            "UPDATE share SET state = :state, reason = :reason WHERE swarm = :swarm",
            named_params! { ":state": state, ":reason": reason, ":swarm": swarm.0 },
        );
        updated.map(|rows| rows > 0).map_err(sorted(&self.path))
    }

    /// Notes what the files of a share are now. False when there is no such share.
    ///
    /// # Errors
    ///
    /// As [`Self::upsert`].
    pub fn set_identities(
        &self,
        swarm: &SwarmId,
        identities: &Identities,
    ) -> Result<bool, DbError> {
        let updated = lock(&self.connection).execute(
            "UPDATE share SET identities = :identities WHERE swarm = :swarm",
            named_params! { ":identities": self.encode(identities)?, ":swarm": swarm.0 },
        );
        updated.map(|rows| rows > 0).map_err(sorted(&self.path))
    }

    /// The same of a share that is complete; false of any other.
    ///
    /// # Errors
    ///
    /// As [`Self::upsert`].
    pub fn set_whole_identities(
        &self,
        swarm: &SwarmId,
        identities: &Identities,
    ) -> Result<bool, DbError> {
        self.amend_whole(swarm, "identities", identities)
    }

    /// The same of those that were wanted, where only some were.
    ///
    /// # Errors
    ///
    /// As [`Self::upsert`].
    pub fn set_settled(&self, swarm: &SwarmId, settled: &Identities) -> Result<bool, DbError> {
        self.amend_whole(swarm, "settled", settled)
    }

    fn amend_whole(
        &self,
        swarm: &SwarmId,
        column: &str,
        identities: &Identities,
    ) -> Result<bool, DbError> {
        let (registered, _) = encode_state(&ShareState::Registered);
        let (complete, _) = encode_state(&ShareState::Complete);
        let updated = lock(&self.connection).execute(
            &format!(
                "UPDATE share SET {column} = :identities
                WHERE swarm = :swarm AND state IN (:registered, :complete)"
            ),
            named_params! {
                ":identities": self.encode(identities)?,
                ":swarm": swarm.0,
                ":registered": registered,
                ":complete": complete,
            },
        );
        updated.map(|rows| rows > 0).map_err(sorted(&self.path))
    }

    /// All shares, the oldest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read or a row is damaged.
    pub fn all(&self) -> Result<Vec<ShareRecord>, DbError> {
        let connection = lock(&self.connection);
        let at = sorted(&self.path);
        let query = "SELECT * FROM share ORDER BY added_unix_ms, rowid";
        let mut statement = connection.prepare(query).map_err(&at)?;
        let mut rows = statement.query([]).map_err(&at)?;
        let mut records = Vec::new();
        while let Some(row) = rows.next().map_err(&at)? {
            let record = decode(row).map_err(|source| self.corrupt(source))?;
            records.push(record);
        }
        Ok(records)
    }

    /// One share, if it is there.
    ///
    /// # Errors
    ///
    /// When the database cannot be read or the row is damaged.
    pub fn find(&self, swarm: &SwarmId) -> Result<Option<ShareRecord>, DbError> {
        let connection = lock(&self.connection);
        let at = sorted(&self.path);
        let query = "SELECT * FROM share WHERE swarm = ?";
        let mut statement = connection.prepare_cached(query).map_err(&at)?;
        let mut rows = statement.query([swarm.0]).map_err(&at)?;
        let row = rows.next().map_err(&at)?;
        let record = row.map(|row| decode(row).map_err(|source| self.corrupt(source)));
        record.transpose()
    }

    /// Forgets a share; its files stay. False when there is no such share.
    ///
    /// # Errors
    ///
    /// As [`Self::upsert`].
    pub fn remove(&self, swarm: &SwarmId) -> Result<bool, DbError> {
        let removed =
            lock(&self.connection).execute("DELETE FROM share WHERE swarm = ?", [swarm.0]);
        removed.map(|rows| rows > 0).map_err(sorted(&self.path))
    }

    fn encode<T: serde::Serialize>(&self, value: &T) -> Result<Vec<u8>, DbError> {
        postcard::to_stdvec(value).map_err(|source| self.corrupt(source.into()))
    }

    /// Nothing when all is wanted, and nothing is in the way.
    fn encode_noted(&self, record: &ShareRecord) -> Result<Option<String>, DbError> {
        let noted = Noted {
            wish: record.wish.clone(),
            placing: record.placing,
        };
        let encode = || serde_json::to_string(&noted).map_err(|source| self.corrupt(source.into()));
        (noted != Noted::default()).then(encode).transpose()
    }

    pub(super) fn corrupt(&self, source: Box<dyn Error + Send + Sync>) -> DbError {
        DbError::Corrupt {
            path: self.path.clone(),
            source,
        }
    }
}

/// Whose database a file is.
enum Found {
    Empty,
    Ours(i32),
    Foreign,
}

fn identify(connection: &Connection) -> rusqlite::Result<Found> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let table = connection.query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()));
    Ok(match (application, version, table.optional()?) {
        (APPLICATION, version, _) => Found::Ours(version),
        (0, 0, None) => Found::Empty,
        _ => Found::Foreign,
    })
}

/// One transaction, so that a cut leaves an empty database and not half a schema.
fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN; {SCHEMA}
         PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
    ))
}

/// One transaction, as [`create`].
fn upgrade(connection: &Connection, changes: &str) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN; {changes} PRAGMA user_version = {VERSION}; COMMIT;"
    ))
}

fn check_intact(connection: &Connection, path: &Path) -> Result<(), DbError> {
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match verdict.map_err(sorted(path))?.as_str() {
        "ok" => Ok(()),
        problem => Err(DbError::Corrupt {
            path: path.to_owned(),
            source: problem.into(),
        }),
    }
}

fn sorted(path: &Path) -> impl Fn(rusqlite::Error) -> DbError {
    move |source| {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => DbError::Corrupt {
                path,
                source: source.into(),
            },
            _ => DbError::Sqlite { path, source },
        }
    }
}

fn encode_state(state: &ShareState) -> (u8, Option<&str>) {
    match state {
        ShareState::Registered => (0, None),
        ShareState::Downloading => (1, None),
        ShareState::Paused { reason } => (2, Some(reason)),
        ShareState::Complete => (3, None),
        ShareState::Failed { reason } => (4, Some(reason)),
    }
}

fn decode_state(row: &Row<'_>) -> Result<ShareState, Box<dyn Error + Send + Sync>> {
    let reason = || {
        row.get::<_, Option<String>>("reason")
            .map(Option::unwrap_or_default)
    };
    Ok(match row.get("state")? {
        0 => ShareState::Registered,
        1 => ShareState::Downloading,
        2 => ShareState::Paused { reason: reason()? },
        3 => ShareState::Complete,
        4 => ShareState::Failed { reason: reason()? },
        other => return Err(format!("there is no share state {other}").into()),
    })
}

fn decode_identities(
    row: &Row<'_>,
    column: &str,
) -> Result<Option<Identities>, Box<dyn Error + Send + Sync>> {
    let bytes: Option<Vec<u8>> = row.get(column)?;
    let decode = |bytes: Vec<u8>| postcard::from_bytes(&bytes);
    Ok(bytes.map(decode).transpose()?)
}

fn decode(row: &Row<'_>) -> Result<ShareRecord, Box<dyn Error + Send + Sync>> {
    let kind = match row.get("kind")? {
        0 => Kind::File,
        1 => Kind::Tree,
        other => return Err(format!("there is no kind of share {other}").into()),
    };
    let identities = decode_identities(row, "identities")?;
    let Noted { wish, placing } = match row.get::<_, Option<String>>("wish")? {
        Some(noted) => serde_json::from_str(&noted)?,
        None => Noted::default(),
    };
    let path = OsString::from_vec(row.get("path")?);
    let record = ShareRecord {
        id: ContentId(row.get("id")?),
        kind,
        secret: row.get::<_, Option<[u8; 16]>>("secret")?.map(Secret),
        name: row.get("name")?,
        path: PathBuf::from(path),
        state: decode_state(row)?,
        manifest: row.get("manifest")?,
        trackers: postcard::from_bytes(&row.get::<_, Vec<u8>>("trackers")?)?,
        identities,
        added_unix_ms: row.get::<_, i64>("added_unix_ms")?.cast_unsigned(),
        wish,
        settled: decode_identities(row, "settled")?,
        placing,
    };
    if record.swarm().0 != row.get::<_, [u8; 32]>("swarm")? {
        return Err("a share is not the one its key names".into());
    }
    Ok(record)
}

#[cfg(test)]
#[path = "db_tests.rs"]
mod tests;
