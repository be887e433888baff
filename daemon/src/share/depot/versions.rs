//! What a daemon does with the disk for versions of shares: signs ours, takes into one that is fetched what is
//! there of others, and lets it take their place.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use rand::Rng;
use warren_proto::content::Content;
use warren_proto::follow::{PublisherId, PublisherKey, Version};
use warren_proto::id::{Kind, Secret, SwarmId, base32_decode, base32_encode};

use super::{Depot, Opened, folder_of, with_manifest};
use crate::clock::unix_ms;
use crate::control::follow;
use crate::control::model::{ApiError, exit};
use crate::store::atomic::create_private;
use crate::store::db::{ShareRecord, ShareState};
use crate::store::error::StoreError;
use crate::store::exchange::{clear, move_in};
use crate::store::files::ShareFiles;
use crate::store::following::{Followed, Published};
use crate::store::register::Known;
use crate::store::reuse::Source;

/// A file that was changed so shortly before it was hashed may have been changed once more within one tick of the
/// file system's clock.
const SETTLED_NS: i64 = 2_000_000_000;

/// A version that has taken its place.
#[derive(Debug)]
pub(crate) struct Exchanged {
    /// Its files, where they are now.
    pub(crate) files: Arc<ShareFiles>,
    /// Its record.
    pub(crate) record: ShareRecord,
    /// Where files are that the person has changed in the one before.
    pub(crate) kept: Option<PathBuf>,
}

impl Depot {
    /// All that is followed.
    pub(crate) fn followed(&self) -> Result<Vec<Followed>, ApiError> {
        self.db.followed().map_err(|error| ApiError::from(&error))
    }

    /// All that we publish.
    pub(crate) fn published(&self) -> Result<Vec<Published>, ApiError> {
        self.db.published().map_err(|error| ApiError::from(&error))
    }

    /// Notes how something that is followed stands, or that it is no longer. Does not block;
    /// [`Self::keep_followed`] is to follow.
    pub(crate) fn note_followed(&self, publisher: PublisherId, followed: Option<Followed>) {
        self.unkept.followed.note(publisher, followed);
    }

    /// Keeps what was noted last of this publisher, if that is not done.
    pub(crate) fn keep_followed(&self, publisher: &PublisherId) -> Result<(), ApiError> {
        let noted = &self.unkept.followed;
        let kept = noted.keep(publisher, |followed| {
            self.db.set_followed(publisher, followed.as_ref())
        });
        kept.map_err(|error| ApiError::from(&error))
    }

    /// Changes how something that is followed stands, if it still is, and keeps that.
    pub(super) fn amend_followed(
        &self,
        publisher: &PublisherId,
        change: impl Fn(&mut Followed),
    ) -> Result<(), ApiError> {
        let amended = self.unkept.followed.amend(
            publisher,
            |row| row.iter_mut().for_each(&change),
            || {
                let mut rows = self.db.followed()?.into_iter();
                Ok(rows.find(|row| row.publisher() == *publisher))
            },
            |row| self.db.set_followed(publisher, row.as_ref()),
        );
        amended.map_err(|error| ApiError::from(&error))
    }

    /// Notes what a publisher of ours has signed, as somebody else knows it, unless more is known by now.
    pub(crate) fn note_published(&self, published: &Published) {
        let _one_at_a_time = self.one_signs();
        let is_newer = |known: &Published| {
            known.head.publisher() == published.head.publisher()
                && known.head.sequence > published.head.sequence
        };
        let noted = match self.db.published() {
            Ok(known) if known.iter().any(is_newer) => Ok(()),
            Ok(_) => self.db.set_published(published),
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "the newest version of a share is not noted");
        }
    }

    /// Two who sign for one path at once would read the same last number.
    fn one_signs(&self) -> MutexGuard<'_, ()> {
        let signing = self.publishing.lock();
        signing.unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs what lies at a path as its next version, or finds that it is the last one. Also what opens its heads.
    /// `seen` is the greatest number that is known to be used.
    pub(crate) fn publish(
        &self,
        (path, seen): (&Path, u64),
        content: &Content,
        secret: Option<Secret>,
    ) -> Result<(Published, Secret), ApiError> {
        let _one_at_a_time = self.one_signs();
        let all = self.published()?;
        let known = all.into_iter().find(|it| it.path == path);
        let key = match &known {
            Some(known) => self.load_key(&known.head.publisher())?,
            None => self.make_key()?,
        };
        let swarm = content.swarm_id(secret.as_ref());
        let is_same = |known: &&Published| known.swarm == swarm && known.head.sequence >= seen;
        if let Some(known) = known.as_ref().filter(is_same) {
            return Ok((known.clone(), key.read()));
        }
        let before = known.map_or(0, |known| known.head.sequence).max(seen);
        let version = Version {
            kind: content.kind,
            id: content.id,
            secret,
            signed_unix_s: unix_ms() / 1000,
        };
        let published = Published {
            path: path.to_owned(),
            head: key.sign(before.saturating_add(1), &version),
            swarm,
        };
        // Before anybody is told: no number is ever used for two versions.
        let noted = self.db.set_published(&published);
        noted.map_err(|error| ApiError::from(&error))?;
        Ok((published, key.read()))
    }

    fn key_path(&self, publisher: &PublisherId) -> PathBuf {
        self.publishers.join(publisher.to_string())
    }

    fn make_key(&self) -> Result<PublisherKey, ApiError> {
        let seed: [u8; 32] = rand::rng().random();
        let key = PublisherKey::of(&seed).ok_or_else(|| {
            let unusable = io::Error::other("the system's randomness cannot be used");
            bad_key(&self.publishers, &unusable)
        })?;
        let path = self.key_path(&key.id());
        let text = format!("{}\n", base32_encode(&seed));
        let made = fs::create_dir_all(&self.publishers)
            .and_then(|()| create_private(&path, text.as_bytes()));
        made.map_err(|error| bad_key(&path, &error))?;
        Ok(key)
    }

    fn load_key(&self, publisher: &PublisherId) -> Result<PublisherKey, ApiError> {
        let path = self.key_path(publisher);
        let text = read_private(&path).map_err(|error| bad_key(&path, &error))?;
        let seed = base32_decode(text.trim()).and_then(|bytes| bytes.try_into().ok());
        let key = seed.and_then(|seed| PublisherKey::of(&seed));
        let key = key.filter(|key| key.id() == *publisher);
        key.ok_or_else(|| bad_key(&path, &io::Error::other("it is damaged")))
    }

    /// What is known of the files at a path, if they were shared before.
    pub(crate) fn known(&self, path: &Path) -> Option<Known> {
        let records = self.records().ok()?;
        let shared =
            |record: &ShareRecord| record.path == path && record.state == ShareState::Registered;
        let record = records.into_iter().rev().find(shared)?;
        let content = self.content_of(&record.swarm()).ok()?;
        let added_ns = i64::try_from(record.added_unix_ms)
            .ok()?
            .checked_mul(1_000_000)?;
        Some(Known {
            content,
            identities: record.identities?,
            until_ns: added_ns - SETTLED_NS,
        })
    }

    /// The files of a complete share, as a source for other versions of it.
    pub(crate) fn source_of(&self, record: &ShareRecord) -> Option<Source> {
        let content = self.content_of(&record.swarm()).ok()?;
        let opened = ShareFiles::open_as_source(self.disk.clone(), &record.path, &content);
        opened.ok().map(Arc::new)
    }

    /// Takes into a download what the sources have of it.
    pub(crate) fn take_over(
        &self,
        opened: Opened,
        sources: &[Source],
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        let Opened::Partial {
            files,
            mut journal,
            mut have,
            picked,
            found,
        } = opened
        else {
            return Ok(opened);
        };
        let content = files.content();
        let taken = files.take_over(&have, sources, |chunk| {
            let len = u64::from(content.layout.chunk_len(chunk));
            verified_bytes.fetch_add(len, Ordering::Relaxed);
        });
        let taken = taken.map_err(|error| ApiError::from(&error))?;
        for run in taken.runs() {
            let noted = journal.written(run);
            noted.map_err(|error| ApiError::from(&error))?;
        }
        for chunk in taken.iter() {
            have.insert(chunk);
        }
        Ok(Opened::Partial {
            files,
            journal,
            have,
            picked,
            found,
        })
    }

    /// Lets the version that was fetched take the place of the one before, as `followed` plans it.
    pub(crate) fn exchange(&self, followed: &Followed) -> Result<Exchanged, ApiError> {
        let missing = || {
            ApiError::from(&StoreError::Missing {
                path: PathBuf::new(),
            })
        };
        let plan = followed.exchange.as_ref().ok_or_else(missing)?;
        let fetched = followed.fetching.ok_or_else(missing)?;
        let records = self.records()?;
        let record_of = |swarm: SwarmId| records.iter().find(|record| record.swarm() == swarm);
        let record = record_of(fetched.swarm).ok_or_else(missing)?;
        let content = self.content_of(&fetched.swarm)?;
        let plan = &self.with_name(followed, plan, &content)?;
        move_in(self.disk.as_ref(), plan).map_err(|error| match &error {
            StoreError::TargetExists { path } => follow::place_taken(path),
            error => ApiError::from(error),
        })?;
        let record = self.moved(record, &content, plan.to())?;
        self.remember(&record)?;

        let former = plan
            .former
            .as_ref()
            .and_then(|former| record_of(former.held.swarm));
        let known = former.and_then(|former| {
            let content = self.content_of(&former.swarm()).ok()?;
            // Of one of which a part was wanted, what that was.
            let known = former.identities.clone();
            Some((content, known.or_else(|| former.settled.clone())?))
        });
        let known = known.or_else(|| self.given_way(plan, &content));
        let known = known.as_ref().map(|(content, known)| (content, known));
        let kept = clear(&self.disk, plan, known).map_err(|error| ApiError::from(&error))?;
        if let Some(former) = &plan.former {
            self.remove(&former.held.swarm, None)?;
        }
        let Opened::Whole(files) = self.open_whole(&record, &content)? else {
            return Err(missing());
        };
        Ok(Exchanged {
            files,
            record: super::without_manifest(record),
            kept,
        })
    }

    /// The record of a share that was moved, if it is what it was.
    fn moved(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
        path: PathBuf,
    ) -> Result<ShareRecord, ApiError> {
        let changed = |path: &Path| {
            ApiError::from(&StoreError::Changed {
                path: path.to_owned(),
            })
        };
        let known = record.identities.clone();
        let mut known = known.ok_or_else(|| changed(&path))?;
        if content.kind == Kind::File {
            let opened = ShareFiles::open_as_source(self.disk.clone(), &path, content);
            let now = opened.and_then(|files| files.identities_now());
            let now = now.map_err(|error| ApiError::from(&error))?;
            if !known.were_moved_to(&now) {
                return Err(changed(&path));
            }
            known = now;
        }
        let mut record = ShareRecord {
            identities: Some(known),
            state: ShareState::Complete,
            ..with_manifest(record, content)
        };
        match path.file_name() {
            // It is called so where it was, too.
            Some(name) if record.path.file_name() == Some(name) => record.path = path,
            _ => record.take_path(path),
        }
        Ok(record)
    }

    /// Goes on with exchanges that were broken off.
    pub(crate) fn recover_exchanges(&self) -> Result<(), ApiError> {
        for mut followed in self.followed()? {
            if followed.exchange.is_none() {
                continue;
            }
            match self.exchange(&followed) {
                Ok(exchanged) => {
                    followed.current = followed.fetching.take();
                    followed.kept = exchanged.kept;
                }
                // It is tried again once the share is found.
                Err(error) => tracing::warn!(%error, "a version has not got its place"),
            }
            followed.exchange = None;
            let kept = self.db.set_followed(&followed.publisher(), Some(&followed));
            kept.map_err(|error| ApiError::from(&error))?;
        }
        Ok(())
    }

    /// Removes the folder of a version that is not wanted any more.
    pub(crate) fn clear_stage(&self, path: &Path) {
        let staged = folder_of(path);
        // What is not empty stays.
        let _ = fs::remove_dir(staged);
        let _ = fs::remove_dir(folder_of(staged));
    }
}

/// A file that only we can read.
fn read_private(path: &Path) -> io::Result<String> {
    let mode = fs::metadata(path)?.mode() & 0o777;
    match mode & 0o077 {
        0 => fs::read_to_string(path),
        _ => Err(io::Error::other(format!(
            "others can read it (mode {mode:03o})"
        ))),
    }
}

fn bad_key(path: &Path, error: &io::Error) -> ApiError {
    ApiError::new(
        "publisher_key",
        exit::DISK,
        format!(
            "cannot use the key {} of a followable share: {error}",
            path.display()
        ),
        "Restore it from a backup. Without it share the path under another name: that begins anew, with another follow link.",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use warren_proto::follow::FollowLink;

    use super::*;
    use crate::store::db::ShareDb;
    use crate::store::samples::Sample;
    use crate::store::taken::IfExists;

    fn depot(folder: &Path) -> Depot {
        let db = ShareDb::open(&folder.join("state.db")).unwrap();
        Depot::new(db, folder.join("journal"))
    }

    fn film(byte: u8) -> Arc<Content> {
        Sample::file("film", vec![byte; 100]).content
    }

    #[test]
    fn each_change_has_the_next_number_and_what_is_the_same_the_same_head() {
        let folder = tempfile::tempdir().unwrap();
        let publish = |seen, content: &Content| {
            // As after a restart.
            let published = depot(folder.path()).publish((Path::new("/film"), seen), content, None);
            published.unwrap()
        };
        let (first, read) = publish(0, &film(1));
        assert_eq!(first.head.sequence, 1);
        assert_eq!(publish(0, &film(1)), (first.clone(), read));
        let (second, again) = publish(0, &film(2));
        assert_eq!((second.head.sequence, again), (2, read));
        assert_eq!(second.head.publisher(), first.head.publisher());
        assert_eq!(second.head.open(&read).unwrap().id, film(2).id);
        // Somebody knows of more than we do.
        assert_eq!(publish(7, &film(2)).0.head.sequence, 8);
        let other = depot(folder.path()).publish((Path::new("/other"), 0), &film(1), None);
        assert_ne!(other.unwrap().0.head.publisher(), first.head.publisher());
    }

    #[test]
    fn of_versions_that_are_signed_at_once_each_has_a_number_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let depot = depot(folder.path());
        let begin = std::sync::Barrier::new(8);
        let sign = |byte: u8| {
            begin.wait();
            let published = depot.publish((Path::new("/film"), 0), &film(byte), None);
            let head = published.unwrap().0.head;
            (head.publisher(), head.sequence)
        };
        let signed: BTreeSet<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|byte| scope.spawn(move || sign(byte))).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let (publisher, _) = *signed.first().unwrap();
        assert_eq!(signed, (1..=8).map(|number| (publisher, number)).collect());
    }

    #[test]
    fn what_is_followed_is_written_by_whoever_comes_next_where_that_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let depot = depot(folder.path());
        let key = PublisherKey::of(&[1; 32]).unwrap();
        let followed = followed(&key);
        depot.note_followed(key.id(), Some(followed.clone()));
        let db = rusqlite::Connection::open(folder.path().join("state.db")).unwrap();
        let rename = |from, to| {
            let rename = format!("ALTER TABLE {from} RENAME TO {to}");
            db.execute_batch(&rename).unwrap();
        };
        rename("followed", "elsewhere");
        depot.keep_followed(&key.id()).unwrap_err();
        rename("elsewhere", "followed");
        depot.keep_followed(&key.id()).unwrap();
        assert_eq!(depot.followed().unwrap(), [followed]);
    }

    #[test]
    fn what_is_followed_no_longer_is_not_amended() {
        let folder = tempfile::tempdir().unwrap();
        let depot = depot(folder.path());
        let key = PublisherKey::of(&[1; 32]).unwrap();
        let amend = || {
            let amended = depot.amend_followed(&key.id(), |row| row.if_exists = IfExists::Resume);
            amended.unwrap();
        };
        depot.note_followed(key.id(), Some(followed(&key)));
        amend();
        assert_eq!(depot.followed().unwrap()[0].if_exists, IfExists::Resume);
        depot.note_followed(key.id(), None);
        amend();
        assert_eq!(depot.followed().unwrap(), []);
        depot.keep_followed(&key.id()).unwrap();
        amend();
        assert_eq!(depot.followed().unwrap(), []);
    }

    fn followed(key: &PublisherKey) -> Followed {
        let version = Version {
            kind: Kind::File,
            id: film(1).id,
            secret: None,
            signed_unix_s: 0,
        };
        Followed {
            link: FollowLink {
                publisher: key.id(),
                read: key.read(),
                tracker: "127.0.0.1:9#aaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap(),
            },
            head: key.sign(1, &version),
            current: None,
            fetching: None,
            superseded: None,
            exchange: None,
            kept: None,
            to: None,
            if_exists: Default::default(),
        }
    }

    #[test]
    fn a_key_that_is_gone_or_that_others_can_read_signs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let depot = depot(folder.path());
        let publish = |content: &Content| depot.publish((Path::new("/film"), 0), content, None);
        let publisher = publish(&film(1)).unwrap().0.head.publisher();
        let path = depot.key_path(&publisher);
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        let error = publish(&film(2)).unwrap_err();
        assert!(error.message.contains("others can read it"), "{error}");
        mode(0o600);
        fs::write(&path, "aaaa").unwrap();
        assert!(publish(&film(2)).unwrap_err().message.contains("damaged"));
        fs::remove_file(&path).unwrap();
        assert_eq!(publish(&film(2)).unwrap_err().code, "publisher_key");
        let known = depot.published().unwrap();
        assert_eq!(known[0].head.sequence, 1, "no number is used up");
    }
}
