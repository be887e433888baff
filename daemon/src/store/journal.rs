//! Which chunks of an unfinished share survive what: a kill, a power cut, a failing disk.
//!
//! One append-only file per share. `written` records follow each write of a chunk and survive a
//! killed process; `synced` records follow an `fdatasync` of the data and survive a power cut, and
//! only they are trusted without hashing again. `lost` records take back what a failed sync may
//! have dropped.
//!
//! Reading stops at the first record that is not whole and true, and what follows is cut: it can
//! only have claimed more. After a failed append or sync nobody knows what the medium holds, so
//! the next append first replaces the file by a new one.
//!
//! Not here: the bytes of a record (`store::record`), the files of the share (`store::files`),
//! syncing both in the right order (`store::sync`).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use warren_proto::content::chunks::OutOfRange;
use warren_proto::content::{ChunkIndex, ChunkSet, Run};
use warren_proto::id::ContentId;

use super::disk::{Disk, Folder, Open, RealDisk, write_all_at};
use super::record::{HEADER_BYTES, Header, RECORD_BYTES, RecordKind, VERSION, replay};

/// A journal longer than this, and four times longer than it need be, is rewritten when opened.
const COMPACT_BYTES: u64 = 1 << 20;

/// Why a journal could not be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The header is not one that this program writes.
    #[error("{} is damaged or no journal", path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("journal {} has version {found} and this program knows {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it has.
        found: u16,
    },
    /// It belongs to another share.
    #[error("journal {} is about {found} and not {wanted}", path.display())]
    OtherContent {
        /// The file.
        path: PathBuf,
        /// The content it is about.
        found: ContentId,
        /// The content it should be about.
        wanted: ContentId,
    },
    /// It divides the content otherwise.
    #[error("journal {} has {found} chunks and the share {wanted}", path.display())]
    OtherLayout {
        /// The file.
        path: PathBuf,
        /// Number of chunks it was made for.
        found: u32,
        /// Number of chunks the share has.
        wanted: u32,
    },
    /// The caller named chunks that the share does not have.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// The file system refused.
    #[error("cannot use journal {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a journal knew when it was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Chunks on the medium, to be trusted.
    pub synced: ChunkSet,
    /// Chunks written but not known to be on the medium: to be hashed again and, when right,
    /// told to [`Journal::written`] again. They are not in [`Self::synced`].
    pub written: Vec<Run>,
    /// Bytes cut from the end because they were no whole record.
    pub torn_bytes: u64,
}

/// The journal of one unfinished share. Its methods block on the disk.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    header: Header,
    file: File,
    /// Where the next record goes.
    end: u64,
    /// Something failed: the file may hold less, or more, than we believe.
    suspect: bool,
    synced: ChunkSet,
    /// Written before the sync that is under way.
    syncing: ChunkSet,
    written: ChunkSet,
}

impl Journal {
    /// Opens the journal of a share, or begins one.
    ///
    /// # Errors
    ///
    /// When the file is no journal of this share; it is then left as it is.
    pub fn open(
        path: &Path,
        id: ContentId,
        chunks: u32,
    ) -> Result<(Journal, Recovered), JournalError> {
        Journal::open_on(Arc::new(RealDisk), path, id, chunks)
    }

    /// [`Self::open`] on a disk of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        path: &Path,
        id: ContentId,
        chunks: u32,
    ) -> Result<(Journal, Recovered), JournalError> {
        let header = Header { id, chunks };
        let (folder, name) = place(disk.as_ref(), path).map_err(at(path))?;
        match disk.open(&folder, Path::new(name), Open::Write) {
            Ok(file) => Journal::recover(disk, path, header, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Journal::begin(disk, path, header)
            }
            Err(source) => Err(at(path)(source)),
        }
    }

    fn begin(
        disk: Arc<dyn Disk>,
        path: &Path,
        header: Header,
    ) -> Result<(Journal, Recovered), JournalError> {
        let (file, end) =
            replace(disk.as_ref(), path, header.encode().to_vec()).map_err(at(path))?;
        let empty = || ChunkSet::empty(header.chunks);
        let recovered = Recovered {
            synced: empty(),
            written: Vec::new(),
            torn_bytes: 0,
        };
        let path = path.to_owned();
        let (synced, syncing, written) = (empty(), empty(), empty());
        let journal = Journal {
            disk,
            path,
            header,
            file,
            end,
            suspect: false,
            synced,
            syncing,
            written,
        };
        Ok((journal, recovered))
    }

    fn recover(
        disk: Arc<dyn Disk>,
        path: &Path,
        header: Header,
        file: File,
    ) -> Result<(Journal, Recovered), JournalError> {
        header.check(disk.as_ref(), path, &file)?;
        let replayed = replay(disk.as_ref(), &file, &header).map_err(at(path))?;
        let len = disk.identity(&file).map_err(at(path))?.size;
        let torn_bytes = len.saturating_sub(replayed.end);
        if torn_bytes > 0 {
            disk.set_len(&file, replayed.end).map_err(at(path))?;
        }
        let recovered = Recovered {
            synced: replayed.synced.clone(),
            written: replayed.written.runs(),
            torn_bytes,
        };
        let mut journal = Journal {
            disk,
            path: path.to_owned(),
            header,
            file,
            end: replayed.end,
            suspect: false,
            synced: replayed.synced,
            syncing: ChunkSet::empty(header.chunks),
            // Kept in the file until they are written, synced or lost again, but no longer
            // believed: only the caller's next `written` makes them candidates for a sync.
            written: ChunkSet::empty(header.chunks),
        };
        journal.compact(&recovered)?;
        Ok((journal, recovered))
    }

    /// Notes that these chunks were written, after the write returned.
    ///
    /// # Errors
    ///
    /// When the note could not be made: the chunks are not remembered and must be noted again.
    pub fn written(&mut self, run: Run) -> Result<(), JournalError> {
        let mut noted = ChunkSet::empty(self.header.chunks);
        let chunks = noted.insert_runs(&[run])?;
        self.append(RecordKind::Written, &[run])?;
        for chunk in chunks {
            self.synced.remove(chunk);
            self.syncing.remove(chunk);
            self.written.insert(chunk);
        }
        Ok(())
    }

    /// Marks all chunks written so far as the ones that the following sync of the data covers.
    /// Call it before that sync begins; chunks noted later wait for the next one.
    pub fn begin_sync(&mut self) {
        for chunk in self.written.iter() {
            self.syncing.insert(chunk);
        }
        self.written = ChunkSet::empty(self.header.chunks);
    }

    /// Makes durable that the chunks marked by [`Self::begin_sync`] are on the medium; the sync
    /// of their data has succeeded.
    ///
    /// # Errors
    ///
    /// When the journal could not be written; the marked chunks stay marked.
    pub fn end_sync(&mut self) -> Result<(), JournalError> {
        if self.syncing.count() == 0 && !self.suspect {
            return Ok(());
        }
        self.append(RecordKind::Synced, &self.syncing.runs())?;
        if let Err(source) = self.disk.fdatasync(&self.file) {
            self.suspect = true;
            return Err(at(&self.path)(source));
        }
        for chunk in self.syncing.iter() {
            self.synced.insert(chunk);
        }
        self.syncing = ChunkSet::empty(self.header.chunks);
        Ok(())
    }

    /// [`Self::begin_sync`] and [`Self::end_sync`] at once, for a caller that has synced the data
    /// and let nobody write since.
    ///
    /// # Errors
    ///
    /// As [`Self::end_sync`].
    pub fn synced(&mut self) -> Result<(), JournalError> {
        self.begin_sync();
        self.end_sync()
    }

    /// Takes back every chunk that is not synced, because a sync of the data failed, and returns
    /// them: they are to be fetched again.
    ///
    /// # Errors
    ///
    /// When that could not be made durable; the chunks are nevertheless forgotten here.
    pub fn lose_unsynced(&mut self) -> Result<Vec<Run>, JournalError> {
        self.begin_sync();
        let lost = self.syncing.runs();
        self.syncing = ChunkSet::empty(self.header.chunks);
        self.append(RecordKind::Lost, &lost)?;
        Ok(lost)
    }

    /// Takes back chunks that turned out not to be what was written.
    ///
    /// # Errors
    ///
    /// As [`Self::lose_unsynced`].
    pub fn lost(&mut self, run: Run) -> Result<(), JournalError> {
        let mut noted = ChunkSet::empty(self.header.chunks);
        for chunk in noted.insert_runs(&[run])? {
            self.forget(chunk);
        }
        self.append(RecordKind::Lost, &[run])
    }

    /// Chunks noted as written and not known to be on the medium.
    pub fn unsynced(&self) -> Vec<Run> {
        let mut unsynced = self.written.clone();
        for chunk in self.syncing.iter() {
            unsynced.insert(chunk);
        }
        unsynced.runs()
    }

    /// Chunks known to be on the medium.
    pub fn synced_chunks(&self) -> &ChunkSet {
        &self.synced
    }

    fn forget(&mut self, chunk: ChunkIndex) {
        self.synced.remove(chunk);
        self.syncing.remove(chunk);
        self.written.remove(chunk);
    }

    fn append(&mut self, kind: RecordKind, runs: &[Run]) -> Result<(), JournalError> {
        if self.suspect {
            self.rewrite()?;
        }
        let bytes = self.header.encode_records(kind, runs, self.end);
        if let Err(source) = write_all_at(self.disk.as_ref(), &self.file, &bytes, self.end) {
            self.suspect = true;
            return Err(at(&self.path)(source));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Replaces the file by one that says what we know.
    fn rewrite(&mut self) -> Result<(), JournalError> {
        self.rewrite_as(&self.unsynced())
    }

    fn rewrite_as(&mut self, unsynced: &[Run]) -> Result<(), JournalError> {
        let mut bytes = self.header.encode().to_vec();
        for (kind, runs) in [
            (RecordKind::Synced, self.synced.runs().as_slice()),
            (RecordKind::Written, unsynced),
        ] {
            let records = self.header.encode_records(kind, runs, bytes.len() as u64);
            bytes.extend(records);
        }
        let replaced = replace(self.disk.as_ref(), &self.path, bytes);
        (self.file, self.end) = replaced.map_err(at(&self.path))?;
        self.suspect = false;
        Ok(())
    }

    fn compact(&mut self, recovered: &Recovered) -> Result<(), JournalError> {
        if self.end <= COMPACT_BYTES {
            return Ok(());
        }
        let records = recovered.synced.runs().len() + recovered.written.len();
        if self.end / 4 > (HEADER_BYTES + records * RECORD_BYTES) as u64 {
            self.rewrite_as(&recovered.written)?;
        }
        Ok(())
    }
}

/// Writes a whole journal under another name, brings it to the medium, and puts it in place.
fn replace(disk: &dyn Disk, path: &Path, bytes: Vec<u8>) -> io::Result<(File, u64)> {
    let (folder, name) = place(disk, path)?;
    let mut temporary = name.to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    match disk.unlink(&folder, temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let file = disk.open(&folder, temporary, Open::Create)?;
    write_all_at(disk, &file, &bytes, 0)?;
    disk.fsync(&file)?;
    disk.rename(&folder, temporary, Path::new(name))?;
    disk.fsync_folder(&folder)?;
    Ok((file, bytes.len() as u64))
}

fn place<'p>(disk: &dyn Disk, path: &'p Path) -> io::Result<(Folder, &'p OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    Ok((disk.open_folder(folder)?, name))
}

fn at(path: &Path) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
