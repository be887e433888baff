//! The bytes of a journal. All integers are big-endian:
//!
//! ```text
//! header, 64 bytes: magic "WARRENJ\n" | version u16 = 1 | reserved u16 = 0 | content id 32
//!                   | chunk count u32 | first 16 bytes of BLAKE3 of the 48 before
//! record, 17 bytes: kind u8 (1 written, 2 synced, 3 lost) | start u32 | count u32
//!                   | first 8 bytes of BLAKE3 of (header checksum | offset of the record u64
//!                   | the 9 bytes before)
//! ```
//!
//! Not here: what the records mean for a share, and when they are written (`store::journal`).

use std::fs::File;
use std::io;
use std::path::Path;

use warren_proto::content::{ChunkSet, Run};
use warren_proto::id::ContentId;

use super::disk::{Disk, read_exact_at};
use super::journal::JournalError;

const MAGIC: &[u8; 8] = b"WARRENJ\n";
pub(super) const VERSION: u16 = 1;

/// Magic, version, reserved, content id, chunk count.
pub(super) const HEADER_BODY_BYTES: usize = 8 + 2 + 2 + 32 + 4;
const HEADER_CHECKSUM_BYTES: usize = 16;
pub(super) const HEADER_BYTES: usize = HEADER_BODY_BYTES + HEADER_CHECKSUM_BYTES;

/// Kind, start, count.
const RECORD_BODY_BYTES: usize = 1 + 4 + 4;
pub(super) const RECORD_BYTES: usize = RECORD_BODY_BYTES + 8;

/// Records read at once, about 64 KiB of them.
const RECORDS_PER_READ: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) id: ContentId,
    pub(super) chunks: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
        bytes[12..44].copy_from_slice(&self.id.0);
        bytes[44..48].copy_from_slice(&self.chunks.to_be_bytes());
        let checksum = header_checksum(&bytes);
        bytes[HEADER_BODY_BYTES..].copy_from_slice(&checksum);
        bytes
    }

    /// Whether the file begins with this header, else what is wrong with it.
    pub(super) fn check(
        &self,
        disk: &dyn Disk,
        path: &Path,
        file: &File,
    ) -> Result<(), JournalError> {
        let path = path.to_owned();
        let mut bytes = [0; HEADER_BYTES];
        match read_exact_at(disk, file, &mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(JournalError::NotAJournal { path });
            }
            Err(source) => return Err(JournalError::Io { path, source }),
            Ok(()) => (),
        }
        if !bytes.starts_with(MAGIC) || bytes[HEADER_BODY_BYTES..] != header_checksum(&bytes) {
            return Err(JournalError::NotAJournal { path });
        }
        let found = u16::from_be_bytes([bytes[8], bytes[9]]);
        if found != VERSION {
            return Err(JournalError::Version { path, found });
        }
        let id: [u8; 32] = array(&bytes[12..44]);
        if id != self.id.0 {
            let (found, wanted) = (ContentId(id), self.id);
            return Err(JournalError::OtherContent {
                path,
                found,
                wanted,
            });
        }
        let found = u32::from_be_bytes(array(&bytes[44..48]));
        if found != self.chunks {
            return Err(JournalError::OtherLayout {
                path,
                found,
                wanted: self.chunks,
            });
        }
        Ok(())
    }

    /// Records as they stand at `offset`.
    pub(super) fn encode_records(&self, kind: RecordKind, runs: &[Run], offset: u64) -> Vec<u8> {
        let header = header_checksum(&self.encode());
        let mut bytes = Vec::with_capacity(runs.len() * RECORD_BYTES);
        for run in runs {
            let mut body = [0; RECORD_BODY_BYTES];
            body[0] = kind as u8;
            body[1..5].copy_from_slice(&run.start.to_be_bytes());
            body[5..].copy_from_slice(&run.count.to_be_bytes());
            let checksum = record_checksum(&header, offset + bytes.len() as u64, &body);
            bytes.extend(body);
            bytes.extend(checksum);
        }
        bytes
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Written = 1,
    Synced = 2,
    Lost = 3,
}

impl RecordKind {
    fn of(byte: u8) -> Option<RecordKind> {
        [RecordKind::Written, RecordKind::Synced, RecordKind::Lost]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What the records say, and where the last good one ends.
pub(super) struct Replayed {
    pub(super) synced: ChunkSet,
    pub(super) written: ChunkSet,
    pub(super) end: u64,
}

impl Replayed {
    /// Takes one record, or false when it names chunks that do not exist.
    fn apply(&mut self, kind: RecordKind, run: Run) -> bool {
        let Some(end) = run.start.checked_add(run.count) else {
            return false;
        };
        if run.count == 0 || end > self.synced.len() {
            return false;
        }
        for chunk in run.start..end {
            let Some(chunk) = self.synced.index(chunk) else {
                return false;
            };
            self.synced.remove(chunk);
            self.written.remove(chunk);
            match kind {
                RecordKind::Written => self.written.insert(chunk),
                RecordKind::Synced => self.synced.insert(chunk),
                RecordKind::Lost => false,
            };
        }
        true
    }
}

pub(super) fn replay(disk: &dyn Disk, file: &File, header: &Header) -> io::Result<Replayed> {
    let checksum = header_checksum(&header.encode());
    let empty = ChunkSet::empty(header.chunks);
    let mut replayed = Replayed {
        synced: empty.clone(),
        written: empty,
        end: HEADER_BYTES as u64,
    };
    let mut buffer = vec![0; RECORDS_PER_READ * RECORD_BYTES];
    loop {
        let read = read_up_to(disk, file, &mut buffer, replayed.end)?;
        let (records, _) = buffer[..read].as_chunks::<RECORD_BYTES>();
        for record in records {
            let (body, sum) = record.split_at(RECORD_BODY_BYTES);
            let run = Run {
                start: u32::from_be_bytes(array(&body[1..5])),
                count: u32::from_be_bytes(array(&body[5..])),
            };
            let true_record = record_checksum(&checksum, replayed.end, body) == sum;
            match RecordKind::of(body[0]).filter(|_| true_record) {
                Some(kind) if replayed.apply(kind, run) => replayed.end += RECORD_BYTES as u64,
                _ => return Ok(replayed),
            }
        }
        if read < buffer.len() {
            return Ok(replayed);
        }
    }
}

/// Fills the buffer as far as the file goes.
fn read_up_to(disk: &dyn Disk, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match disk.pread(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

pub(super) fn header_checksum(header: &[u8; HEADER_BYTES]) -> [u8; HEADER_CHECKSUM_BYTES] {
    array(&blake3::hash(&header[..HEADER_BODY_BYTES]).as_bytes()[..HEADER_CHECKSUM_BYTES])
}

/// Bound to its file and place, so that a record of an older file in reused blocks is not believed.
fn record_checksum(header: &[u8; HEADER_CHECKSUM_BYTES], offset: u64, body: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(header)
        .update(&offset.to_be_bytes())
        .update(body);
    array(&hasher.finalize().as_bytes()[..8])
}

/// The bytes as an array; `bytes` has exactly `N` wherever this is called.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
