//! A complete share that somebody wants again: whether its files are what they were.

use std::sync::Arc;
use std::thread;

use warren_proto::content::Content;
use warren_proto::id::SwarmId;

use super::changed::is_any_left;
use super::{Depot, Opened, with_manifest};
use crate::control::model::ApiError;
use crate::control::wish::Wish;
use crate::share::rereading::SETTLED;
use crate::store::changes::{Differing, Touched};
use crate::store::db::ShareRecord;
use crate::store::error::StoreError;
use crate::store::files::ShareFiles;
use crate::store::rereading::{Noted, Reading, Reread};
use crate::store::taken::{self, Taken};

/// What the files of a complete share are now, as far as they are asked for.
#[derive(Debug)]
pub(crate) enum Checked {
    /// What they were, and the share is given.
    AsBefore,
    /// The same of a share that was stopped.
    Back(Opened),
    /// Others, or gone.
    Changed(Others),
    /// Nothing was looked at: it is not understood which files are asked for.
    NotAsked(ApiError),
}

/// What is known of files that are not what they were.
#[derive(Debug)]
pub(crate) struct Others {
    /// What the share is.
    pub(crate) content: Arc<Content>,
    /// What is in its place.
    pub(crate) taken: Taken,
    /// Files that are not what was shared, whoever has asked for them; empty where it is not known which.
    pub(crate) wrong: Vec<u32>,
    /// The first of those that nobody has asked for.
    pub(crate) beside: Option<u32>,
}

/// Files that were opened to be looked at, unless they were open, and how they differ from what was noted.
type Looked = (Option<Arc<ShareFiles>>, Differing);

impl Depot {
    /// Looks at the files of a complete share that `wish` is for, which are open as `files` while it is given. Of
    /// one of which only some were wanted these are looked at, whatever the wish.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub(crate) fn check(
        &self,
        files: Option<&ShareFiles>,
        record: &ShareRecord,
        wish: &Wish,
    ) -> Result<Checked, ApiError> {
        let content = match files {
            Some(files) => files.content().clone(),
            None => self.content_of(&record.swarm())?,
        };
        let asked = match record.settled {
            Some(_) => Wish::default().pick(&content, |_| false),
            None => wish.pick(&content, |_| false),
        };
        let asked = match asked {
            Ok(picked) => picked.chosen,
            Err(error) => return Ok(Checked::NotAsked(error)),
        };
        let found = match files {
            Some(files) => Some((None, files.differing())),
            None if record.settled.is_some() => match self.recall(record, &Default::default()) {
                Err(error) if error.code == "changed" => None,
                // What is wrong with it is found when it is opened.
                recalled => return recalled.map(Checked::Back),
            },
            None => self.open_stopped(record, &content)?,
        };
        let Some((opened, mut differing)) = found else {
            return self.others(record, content, (Vec::new(), None));
        };
        let is_asked = |file: u32| asked.get(file as usize) == Some(&true);
        if let Some(files) = opened.as_deref().or(files) {
            self.read_touched(files, record, (&mut differing, &is_asked));
            // Before anything is done about these it is to be known of the others too.
            if differing.changed.iter().any(|file| is_asked(*file)) {
                self.read_touched(files, record, (&mut differing, &|_| true));
            }
        }
        let is_right = !differing.changed.iter().any(|file| is_asked(*file));
        let beside = differing.changed.iter().find(|file| !is_asked(**file));
        let beside = beside.copied();
        match opened {
            None if is_right => Ok(Checked::AsBefore),
            Some(files) if differing.is_empty() => Ok(Checked::Back(Opened::Whole(files))),
            Some(files) if is_right && is_any_left(&content.layout, &differing.changed) => {
                Ok(Checked::Back(Opened::Differing(files, differing)))
            }
            _ => self.others(record, content, (differing.changed, beside)),
        }
    }

    /// Whether all that is wanted of a share that is given is what it was.
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub(crate) fn is_as_before(
        &self,
        files: &ShareFiles,
        record: &ShareRecord,
    ) -> Result<bool, ApiError> {
        let checked = self.check(Some(files), record, &Wish::default())?;
        Ok(matches!(checked, Checked::AsBefore))
    }

    /// The files of a whole share that is not given; `None` when nothing is known of them.
    fn open_stopped(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
    ) -> Result<Option<Looked>, ApiError> {
        let Some(known) = &record.identities else {
            return Ok(None);
        };
        let disk = self.disk.clone();
        match ShareFiles::open_differing(disk, &record.path, content, known) {
            Ok((files, differing)) => Ok(Some((Some(Arc::new(files)), differing))),
            Err(StoreError::Changed { .. }) => Ok(None),
            Err(error) => Err(ApiError::from(&error)),
        }
    }

    fn others(
        &self,
        record: &ShareRecord,
        content: Arc<Content>,
        (wrong, beside): (Vec<u32>, Option<u32>),
    ) -> Result<Checked, ApiError> {
        let path = &record.path;
        let taken = taken::look(path, &content);
        let taken = taken.map_err(|error| ApiError::from(&StoreError::at(path)(error)))?;
        Ok(Checked::Changed(Others {
            content,
            taken,
            wrong,
            beside,
        }))
    }

    /// Reads those of the files that were touched which are asked for: they are no longer touched then, but what
    /// they were, which is noted, or changed.
    fn read_touched(
        &self,
        files: &ShareFiles,
        record: &ShareRecord,
        (differing, is_asked): (&mut Differing, &dyn Fn(u32) -> bool),
    ) {
        let touched = std::mem::take(&mut differing.touched).into_iter();
        let (read, left): (Vec<Touched>, Vec<Touched>) = touched.partition(|it| is_asked(it.file));
        differing.touched = left;
        let wrong = wrong_of(files, &read);
        if wrong.len() < read.len()
            && let Err(error) = self.note_identities(&record.swarm(), &files.noted())
        {
            tracing::warn!(%error, "it is not noted that touched files were read");
        }
        differing.changed.extend(wrong);
        differing.changed.sort_unstable();
    }

    /// Notes what the files of a share are now, if it is complete still.
    pub(crate) fn note_identities(&self, swarm: &SwarmId, noted: &Noted) -> Result<(), ApiError> {
        let noted = match noted {
            Noted::Whole(identities) => self.db.set_whole_identities(swarm, identities),
            Noted::Settled(settled) => self.db.set_settled(swarm, settled),
        };
        noted.map(drop).map_err(|error| ApiError::from(&error))
    }

    /// Notes a share as it was before something else was tried with it.
    pub(crate) fn note_again(&self, record: &ShareRecord) -> Result<(), ApiError> {
        let content = self.content_of(&record.swarm())?;
        self.amend(&with_manifest(record, &content))
    }
}

/// Up to so many bytes are read once more rather than waited for: most of what was touched a moment ago was
/// written to.
const READ_TWICE_BYTES: u64 = 256 << 20;

/// Those of these files that are not what was shared; the others are noted in `files` as they are now.
fn wrong_of(files: &ShareFiles, touched: &[Touched]) -> Vec<u32> {
    let bytes: u64 = touched.iter().map(|it| it.now.size).sum();
    let is_wrong = |it: &Touched| bytes <= READ_TWICE_BYTES && !files.is_right_now(it.file);
    let (wrong, rest): (Vec<Touched>, Vec<Touched>) = touched.iter().copied().partition(is_wrong);
    let mut wrong: Vec<u32> = wrong.iter().map(|it| it.file).collect();
    if rest.is_empty() {
        return wrong;
    }
    // Who writes to them from now on changes their times.
    thread::sleep(SETTLED);
    let reading = Reading::default();
    let is_right = |it: &Touched| matches!(files.reread(*it, &reading), Ok(Reread::Right));
    wrong.extend(rest.iter().filter(|it| !is_right(it)).map(|it| it.file));
    wrong
}
