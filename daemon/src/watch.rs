//! Downloads what is dropped into a folder: `.p2p` files, and `.link` files with a link each.
//!
//! The folder is looked at every [`INTERVAL`]. A file is taken once it was the same in two looks, so
//! that none is that is still being written, and is renamed then, to `NAME.added` or to `NAME.failed`
//! with the reason beside it in `NAME.failed.txt`. Names that end otherwise are left alone.
//!
//! Not here: how a download begins (`node`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use warren_proto::limits;

use crate::control::model::{ApiError, Event, Phase, Source, exit};
use crate::control::words::numbered;
use crate::store::atomic::{rename_noreplace, write_atomically};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long a download may take to begin or fail, before it is taken to have begun. It hashes what
/// is there already.
const BEGINNING: Duration = Duration::from_secs(10);

/// Names that are looked at in one look, far more than anybody drops at once.
const NAMES: usize = 10_000;

/// A link with the blanks and lines around it.
const LINK_FILE_BYTES: usize = 4 * limits::LINK_CHARS;

/// Other names that are tried when one is taken.
const OTHER_NAMES: u32 = 1000;

/// What a file looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    bytes: u64,
    changed: SystemTime,
}

/// What a download tells of itself once it was asked for, as the control API does.
type Begun = Result<mpsc::Receiver<Event>, ApiError>;

/// Watches `folder` until it is stopped, for the daemon of this number.
pub(crate) async fn watch<B: Future<Output = Begun>>(
    (folder, idx): (PathBuf, u16),
    download: impl Fn(Source) -> B,
    stop: CancellationToken,
) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched = Watched {
        idx,
        ..Watched::default()
    };
    let watching = async {
        loop {
            ticks.tick().await;
            watched = look_once(&folder, watched, &download).await;
        }
    };
    stop.run_until_cancelled(watching).await;
}

/// What was there at the last look.
#[derive(Debug, Default)]
struct Watched {
    /// What daemon it is that downloads.
    idx: u16,
    seen: BTreeMap<PathBuf, Look>,
    /// Of those, what could not be renamed and is not to be taken again.
    stuck: BTreeMap<PathBuf, Look>,
    /// Whether it was said already that the folder cannot be read.
    is_unreadable: bool,
}

/// Takes what has not changed since the last look.
async fn look_once<B: Future<Output = Begun>>(
    folder: &Path,
    mut watched: Watched,
    download: &impl Fn(Source) -> B,
) -> Watched {
    let looking = folder.to_owned();
    let names = tokio::task::spawn_blocking(move || names(&looking)).await;
    let found = match names {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            if !watched.is_unreadable {
                let folder = folder.display();
                tracing::warn!("cannot look into the watched folder {folder}: {error}");
            }
            watched.is_unreadable = true;
            return watched;
        }
        Err(_) => return watched,
    };
    let mut stuck = watched.stuck;
    stuck.retain(|path, look| found.get(path) == Some(look));
    for (path, look) in &found {
        if watched.seen.get(path) == Some(look)
            && !stuck.contains_key(path)
            && !take(path.clone(), watched.idx, download).await
        {
            stuck.insert(path.clone(), *look);
        }
    }
    Watched {
        seen: found,
        stuck,
        is_unreadable: false,
        ..watched
    }
}

/// Files that may be meant for us.
fn names(folder: &Path) -> io::Result<BTreeMap<PathBuf, Look>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        if found.len() == NAMES {
            break;
        }
        let entry = entry?;
        let path = entry.path();
        if Kind::of(&path).is_none() {
            continue;
        }
        // Not what a link leads to: whoever may write here need not be allowed to read that. What
        // went away meanwhile is not there.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if let (true, Ok(changed)) = (metadata.is_file(), metadata.modified()) {
            let bytes = metadata.len();
            found.insert(path, Look { bytes, changed });
        }
    }
    Ok(found)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Manifest,
    Link,
}

impl Kind {
    fn of(path: &Path) -> Option<Kind> {
        let extension = path.extension()?.to_str()?;
        match extension.to_ascii_lowercase().as_str() {
            "p2p" => Some(Kind::Manifest),
            "link" => Some(Kind::Link),
            _ => None,
        }
    }

    fn most_bytes(self) -> usize {
        match self {
            Kind::Manifest => limits::MANIFEST_BYTES,
            Kind::Link => LINK_FILE_BYTES,
        }
    }
}

/// Begins a download, and renames the file; whether that could be done.
async fn take<B: Future<Output = Begun>>(
    path: PathBuf,
    idx: u16,
    download: &impl Fn(Source) -> B,
) -> bool {
    let result = begin(path.clone(), download).await;
    let result = result.map_err(|error| ApiError {
        hint: numbered(&error.hint, idx),
        ..error
    });
    let shown = path.display().to_string();
    match &result {
        Ok(()) => tracing::info!("{shown} is being downloaded"),
        Err(error) => tracing::warn!("{shown} cannot be downloaded: {}", error.message),
    }
    let renaming = tokio::task::spawn_blocking(move || rename(&path, result.err().as_ref()));
    match renaming.await {
        Ok(Err(error)) => {
            tracing::warn!("cannot rename {shown}, which is left as it is: {error}");
            false
        }
        Ok(Ok(())) => true,
        Err(_) => false,
    }
}

async fn begin<B: Future<Output = Begun>>(
    path: PathBuf,
    download: &impl Fn(Source) -> B,
) -> Result<(), ApiError> {
    let reading = tokio::task::spawn_blocking(move || read(&path)).await;
    let source = reading.unwrap_or_else(|_| Err(io::Error::other("it was lost")));
    let source = source.map_err(|error| {
        ApiError::new(
            "unreadable",
            exit::DISK,
            format!("cannot read it: {error}"),
            "",
        )
    })?;
    let events = download(source).await?;
    // Whatever takes longer than that is no mistake in what was dropped.
    timeout(BEGINNING, first_word(events))
        .await
        .unwrap_or(Ok(()))
}

/// Waits until something is being fetched, or it is known why nothing is.
async fn first_word(mut events: mpsc::Receiver<Event>) -> Result<(), ApiError> {
    while let Some(event) = events.recv().await {
        match event {
            Event::Error(error) => return Err(error),
            // Its files are being made, which may fail.
            Event::Progress(progress) if progress.phase == Some(Phase::Hashing) => (),
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<Source> {
    let kind = Kind::of(path).ok_or(io::ErrorKind::InvalidInput)?;
    let most = kind.most_bytes() as u64;
    let mut bytes = Vec::new();
    // It may be something else by now than it was when it was looked at.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(
        path,
        OFlags::RDONLY | flags,
        Mode::empty(),
    )?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other("it is larger than any such file"));
    }
    match kind {
        Kind::Manifest => Ok(Source::Manifest { bytes }),
        Kind::Link => {
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            Ok(Source::Link { text })
        }
    }
}

/// Says by its name what became of a file.
fn rename(path: &Path, error: Option<&ApiError>) -> io::Result<()> {
    let ending = if error.is_some() { "failed" } else { "added" };
    let renamed = first_free(path, ending)?;
    if let Some(error) = error {
        let text = format!("{}\n{}\n", error.message, error.hint);
        write_atomically(&with_ending(&renamed, "txt"), text.as_bytes())?;
    }
    Ok(())
}

/// Renames to the first name that is not taken: `x.p2p.added`, `x.p2p.2.added`.
fn first_free(path: &Path, ending: &str) -> io::Result<PathBuf> {
    for number in 1..=OTHER_NAMES {
        let name = match number {
            1 => with_ending(path, ending),
            _ => with_ending(path, &format!("{number}.{ending}")),
        };
        match rename_noreplace(path, &name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
            Err(error) => return Err(error),
            Ok(()) => return Ok(name),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests;
