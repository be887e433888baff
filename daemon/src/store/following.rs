//! Shares that are followed and those that are published, beside the shares in the database of a daemon.
//!
//! Tables that programs without them do not look at; so the version of the database stays. Each row is JSON, in
//! which fields may be added. Keys of publishers are no rows but files (`share::depot`).

use std::path::PathBuf;

use data_encoding::HEXLOWER;
use rusqlite::{Connection, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use warren_proto::follow::{FollowLink, Head, PublisherId};
use warren_proto::id::SwarmId;

use super::db::{DbError, ShareDb};
use super::taken::IfExists;

/// One row for each publisher that is followed, and for each that is ours; and for each share that is known to be a
/// version of something, though that is not followed.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS known_version (swarm BLOB PRIMARY KEY NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS followed (publisher BLOB PRIMARY KEY NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS published (publisher BLOB PRIMARY KEY NOT NULL, body TEXT NOT NULL) STRICT;";

/// A share that is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Whose versions, how to read of them, and where.
    #[serde(with = "as_text")]
    pub link: FollowLink,
    /// The newest that is known. No older one is ever believed.
    #[serde(with = "as_hex")]
    pub head: Head,
    /// The version that is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Held>,
    /// The one that is being fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetching: Option<Held>,
    /// One that was being fetched before, until what there is of it is taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<Held>,
    /// The change of names that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
    /// The folder of the first version, unless that is the daemon's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PathBuf>,
    /// What the first version does with something that has its name there.
    #[serde(default)]
    pub if_exists: IfExists,
    /// Where files of the former version are that were changed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
}

/// A version that is a share of this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its number.
    pub sequence: u64,
    /// The share.
    pub swarm: SwarmId,
}

/// How a version takes the place of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The folder in which the new one is.
    pub staged: PathBuf,
    /// What it is called there.
    pub name: String,
    /// Where it is to be.
    pub folder: PathBuf,
    /// What it is to be called there, if otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
    /// What becomes of something that has the name there and is no version.
    #[serde(default)]
    pub if_exists: IfExists,
    /// The one before, if there is one.
    pub former: Option<Former>,
}

/// A share that is a version of something that is not followed: it was once, or was fetched by its follow link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownVersion {
    /// Whose.
    pub publisher: PublisherId,
    /// Which one.
    pub held: Held,
}

/// The version that another one takes the place of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The share.
    pub held: Held,
    /// Where it was.
    pub path: PathBuf,
}

/// A share of ours that others may follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Where it lies.
    pub path: PathBuf,
    /// The newest version.
    #[serde(with = "as_hex")]
    pub head: Head,
    /// The share that is.
    pub swarm: SwarmId,
}

impl Followed {
    /// Whose versions.
    pub fn publisher(&self) -> PublisherId {
        self.link.publisher
    }

    /// Whether a share is one of its versions.
    pub fn version(&self, swarm: &SwarmId) -> Option<Held> {
        let all = [self.current, self.fetching, self.superseded];
        all.into_iter().flatten().find(|held| held.swarm == *swarm)
    }
}

/// Makes room for them.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)
}

impl ShareDb {
    /// All that is followed.
    ///
    /// # Errors
    ///
    /// When the database cannot be read or a row is damaged.
    pub fn followed(&self) -> Result<Vec<Followed>, DbError> {
        self.rows("SELECT body FROM followed")
    }

    /// Notes how something that is followed stands, or that it is followed no more.
    ///
    /// # Errors
    ///
    /// When it could not be made durable; what was noted is then as it was.
    pub fn set_followed(
        &self,
        publisher: &PublisherId,
        followed: Option<&Followed>,
    ) -> Result<(), DbError> {
        let Some(followed) = followed else {
            let delete = "DELETE FROM followed WHERE publisher = ?";
            return self
                .with(|connection| connection.execute(delete, [publisher.0]))
                .map(drop);
        };
        self.put_row("followed", &publisher.0, followed)
    }

    /// All shares that are known to be versions of something.
    ///
    /// # Errors
    ///
    /// As [`Self::followed`].
    pub fn known_versions(&self) -> Result<Vec<KnownVersion>, DbError> {
        self.rows("SELECT body FROM known_version")
    }

    /// Notes that a share is a version of something.
    ///
    /// # Errors
    ///
    /// As [`Self::set_followed`].
    pub fn set_known_version(&self, known: &KnownVersion) -> Result<(), DbError> {
        self.put_row("known_version", &known.held.swarm.0, known)
    }

    /// Forgets that, with the share.
    ///
    /// # Errors
    ///
    /// As [`Self::set_followed`].
    pub fn forget_known_version(&self, swarm: &SwarmId) -> Result<(), DbError> {
        let delete = "DELETE FROM known_version WHERE swarm = ?";
        self.with(|connection| connection.execute(delete, [swarm.0]))
            .map(drop)
    }

    /// All that we publish.
    ///
    /// # Errors
    ///
    /// As [`Self::followed`].
    pub fn published(&self) -> Result<Vec<Published>, DbError> {
        self.rows("SELECT body FROM published")
    }

    /// Notes the newest version of a share of ours.
    ///
    /// # Errors
    ///
    /// As [`Self::set_followed`].
    pub fn set_published(&self, published: &Published) -> Result<(), DbError> {
        self.put_row("published", &published.head.publisher().0, published)
    }

    fn put_row<T: Serialize>(&self, table: &str, key: &[u8], body: &T) -> Result<(), DbError> {
        let body = serde_json::to_string(body).map_err(|source| self.corrupt(source.into()))?;
        let put = format!("INSERT OR REPLACE INTO {table} VALUES (?, ?)");
        self.with(|connection| connection.execute(&put, params![key, body]))
            .map(drop)
    }

    fn rows<T: DeserializeOwned>(&self, query: &str) -> Result<Vec<T>, DbError> {
        let bodies: Vec<String> = self.with(|connection| {
            let mut statement = connection.prepare(query)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })?;
        let read = |body: &String| serde_json::from_str(body);
        let rows: Result<_, _> = bodies.iter().map(read).collect();
        rows.map_err(|source| self.corrupt(source.into()))
    }
}

mod as_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(link: &FollowLink, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&link.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FollowLink, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

mod as_hex {
    use super::*;

    pub(super) fn serialize<S: Serializer>(head: &Head, to: S) -> Result<S::Ok, S::Error> {
        let bytes = postcard::to_stdvec(head).map_err(S::Error::custom)?;
        to.serialize_str(&HEXLOWER.encode(&bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Head, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = HEXLOWER.decode(text.as_bytes());
        let bytes = bytes.map_err(D::Error::custom)?;
        postcard::from_bytes(&bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use warren_proto::follow::{PublisherKey, Version};
    use warren_proto::id::{ContentId, Kind};

    use super::*;

    #[test]
    fn what_is_followed_and_published_is_so_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let key = PublisherKey::of(&[1; 32]).unwrap();
        let version = Version {
            kind: Kind::File,
            id: ContentId([2; 32]),
            secret: None,
            signed_unix_s: 3,
        };
        let tracker = "tracker.example:59000#aaaaaaaaaaaaaaaaaaaaaaaaaa";
        let held = |sequence| Held {
            sequence,
            swarm: SwarmId([7; 32]),
        };
        let followed = Followed {
            link: FollowLink {
                publisher: key.id(),
                read: key.read(),
                tracker: tracker.parse().unwrap(),
            },
            head: key.sign(9, &version),
            current: Some(held(8)),
            fetching: Some(held(9)),
            superseded: None,
            exchange: Some(Exchange {
                staged: "/a/b".into(),
                name: "film".into(),
                folder: "/a".into(),
                called: Some("film (2)".into()),
                if_exists: IfExists::Resume,
                former: Some(Former {
                    held: held(8),
                    path: "/a/film".into(),
                }),
            }),
            to: Some("/a".into()),
            if_exists: IfExists::Rename,
            kept: Some("/a/film.kept".into()),
        };
        let published = Published {
            path: "/a/film".into(),
            head: key.sign(9, &version),
            swarm: SwarmId([7; 32]),
        };
        let db = ShareDb::open(&path).unwrap();
        db.set_followed(&key.id(), Some(&followed)).unwrap();
        db.set_published(&published).unwrap();
        let known = KnownVersion {
            publisher: key.id(),
            held: held(3),
        };
        db.set_known_version(&known).unwrap();
        drop(db);
        let db = ShareDb::open(&path).unwrap();
        assert_eq!(db.followed().unwrap(), [followed]);
        assert_eq!(db.published().unwrap(), [published]);
        assert_eq!(db.known_versions().unwrap(), [known]);
        db.forget_known_version(&known.held.swarm).unwrap();
        assert_eq!(db.known_versions().unwrap(), []);
        db.set_followed(&key.id(), None).unwrap();
        assert_eq!(db.followed().unwrap(), []);
    }
}
