//! A disk for tests: any call can fail, and the power can be cut.
//!
//! It works on real files and remembers what was written and not synced since. [`power_loss`]
//! zeroes exactly that, and also what a *failed* sync covered, even if a later sync succeeded:
//! Linux marks such pages clean, so nobody will ever write them again.
//!
//! [`power_loss`]: FaultyDisk::power_loss

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use super::disk::{Disk, FileIdentity, Folder, Open, RealDisk};

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// One call fails.
    Once(Errno),
    /// This call and all later ones that change anything fail.
    From(Errno),
    /// A write is cut short, and the next call fails.
    Short(Errno),
}

#[derive(Debug)]
pub(crate) struct FaultyDisk {
    fault: Option<(u64, Fault)>,
    calls: AtomicU64,
    medium: Mutex<BTreeMap<u64, Volatile>>,
    during_sync: Hook,
    before_call: (u64, Hook),
}

/// What somebody else does meanwhile.
#[derive(Default)]
struct Hook(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Hook {
    fn run(&self) {
        let act = self.0.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
    }
}

impl Debug for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// Bytes of one file that a power cut would take.
#[derive(Debug)]
struct Volatile {
    file: File,
    unsynced: Vec<Range<u64>>,
    lost: Vec<Range<u64>>,
}

enum Verdict {
    Do,
    Short,
}

impl FaultyDisk {
    /// A disk whose call number `n`, counted from 0, goes wrong.
    pub(crate) fn failing_at(n: u64, fault: Fault) -> FaultyDisk {
        FaultyDisk {
            fault: Some((n, fault)),
            ..FaultyDisk::sound()
        }
    }

    /// A disk without faults.
    pub(crate) fn sound() -> FaultyDisk {
        FaultyDisk {
            fault: None,
            calls: AtomicU64::new(0),
            medium: Mutex::default(),
            during_sync: Hook::default(),
            before_call: Default::default(),
        }
    }

    /// A disk without faults, and somebody who does this just before call number `n`.
    pub(crate) fn meddled_with_at(n: u64, act: impl FnOnce() + Send + 'static) -> FaultyDisk {
        FaultyDisk {
            before_call: (n, Hook(Mutex::new(Some(Box::new(act))))),
            ..FaultyDisk::sound()
        }
    }

    /// Does this once, while the next sync runs and too late to be covered by it.
    pub(crate) fn during_next_sync(&self, act: impl FnOnce() + Send + 'static) {
        *self.during_sync.0.lock().unwrap() = Some(Box::new(act));
    }

    /// How many calls were made.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether as many calls were made as it takes to meet the fault.
    pub(crate) fn fault_was_met(&self) -> bool {
        self.fault.is_some_and(|(at, _)| at < self.calls())
    }

    /// Whether the disk works again after the fault.
    pub(crate) fn recovers(&self) -> bool {
        !matches!(self.fault, Some((_, Fault::From(_))))
    }

    /// Cuts the power: what no sync brought to the medium is gone.
    pub(crate) fn power_loss(&self) {
        for volatile in self.medium.lock().unwrap().values() {
            for range in volatile.unsynced.iter().chain(&volatile.lost) {
                let end = range.end.min(volatile.file.metadata().unwrap().len());
                let zeros = vec![0; end.saturating_sub(range.start) as usize];
                volatile.file.write_all_at(&zeros, range.start).unwrap();
            }
        }
    }

    fn call(&self) -> io::Result<Verdict> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call == self.before_call.0 {
            self.before_call.1.run();
        }
        match self.fault {
            Some((at, Fault::Once(errno))) if call == at => Err(errno.into()),
            Some((at, Fault::From(errno))) if call >= at => Err(errno.into()),
            Some((at, Fault::Short(_))) if call == at => Ok(Verdict::Short),
            Some((at, Fault::Short(errno))) if call == at + 1 => Err(errno.into()),
            _ => Ok(Verdict::Do),
        }
    }

    fn note_write(&self, file: &File, range: Range<u64>) {
        let mut medium = self.medium.lock().unwrap();
        let volatile = medium
            .entry(file.metadata().unwrap().ino())
            .or_insert_with(|| Volatile {
                file: file.try_clone().unwrap(),
                unsynced: Vec::new(),
                lost: Vec::new(),
            });
        volatile.lost = volatile
            .lost
            .iter()
            .flat_map(|lost| without(lost, &range))
            .collect();
        volatile.unsynced.push(range);
    }

    fn note_sync(&self, synced: bool, only: Option<&File>) {
        let only = only.map(|file| file.metadata().unwrap().ino());
        for (inode, volatile) in self.medium.lock().unwrap().iter_mut() {
            if only.is_none_or(|only| only == *inode) {
                let unsynced = std::mem::take(&mut volatile.unsynced);
                if !synced {
                    volatile.lost.extend(unsynced);
                }
            }
        }
    }

    /// No real sync: the medium is this model, and tests shall be quick.
    fn sync(&self, only: Option<&File>) -> io::Result<()> {
        let result = self.call().map(drop);
        self.note_sync(result.is_ok(), only);
        self.during_sync.run();
        result
    }
}

/// What remains of `range` where `cut` was written.
fn without(range: &Range<u64>, cut: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let before = range.start..range.end.min(cut.start);
    let after = range.start.max(cut.end)..range.end;
    [before, after].into_iter().filter(|part| !part.is_empty())
}

impl Disk for FaultyDisk {
    fn open_folder(&self, path: &Path) -> io::Result<Folder> {
        self.call()?;
        RealDisk.open_folder(path)
    }

    fn open_folder_beneath(&self, folder: &Folder, path: &Path) -> io::Result<Folder> {
        self.call()?;
        RealDisk.open_folder_beneath(folder, path)
    }

    fn open(&self, folder: &Folder, path: &Path, how: Open) -> io::Result<File> {
        self.call()?;
        RealDisk.open(folder, path, how)
    }

    fn exists(&self, folder: &Folder, path: &Path) -> io::Result<bool> {
        self.call()?;
        RealDisk.exists(folder, path)
    }

    fn mkdir(&self, folder: &Folder, path: &Path) -> io::Result<()> {
        self.call()?;
        RealDisk.mkdir(folder, path)
    }

    fn unlink(&self, folder: &Folder, path: &Path) -> io::Result<()> {
        self.call()?;
        RealDisk.unlink(folder, path)
    }

    fn rmdir(&self, folder: &Folder, path: &Path) -> io::Result<()> {
        self.call()?;
        RealDisk.rmdir(folder, path)
    }

    fn rename_noreplace(&self, folder: &Folder, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        RealDisk.rename_noreplace(folder, from, to)
    }

    fn move_noreplace(&self, from: &Folder, to: &Folder, path: &Path) -> io::Result<()> {
        self.call()?;
        RealDisk.move_noreplace(from, to, path)
    }

    fn rename(&self, folder: &Folder, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        RealDisk.rename(folder, from, to)
    }

    fn exchange(&self, folder: &Folder, one: &Path, other: &Path) -> io::Result<()> {
        self.call()?;
        RealDisk.exchange(folder, one, other)
    }

    fn pread(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.call()?;
        RealDisk.pread(file, buffer, offset)
    }

    fn pread_append(&self, file: &File, buffer: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        self.call()?;
        RealDisk.pread_append(file, buffer, offset)
    }

    fn pwrite(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let len = match self.call()? {
            Verdict::Do => bytes.len(),
            Verdict::Short => bytes.len().div_ceil(2),
        };
        let written = RealDisk.pwrite(file, &bytes[..len], offset)?;
        self.note_write(file, offset..offset + written as u64);
        Ok(written)
    }

    fn copy_range(&self, from: &File, to: &File, (at, len): (u64, u64)) -> io::Result<u64> {
        let len = match self.call()? {
            Verdict::Do => len,
            Verdict::Short => len.div_ceil(2),
        };
        let copied = RealDisk.copy_range(from, to, (at, len))?;
        self.note_write(to, at..at + copied);
        Ok(copied)
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        self.call()?;
        RealDisk.allocate(file, len)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.call()?;
        RealDisk.set_len(file, len)
    }

    fn fdatasync(&self, file: &File) -> io::Result<()> {
        self.sync(Some(file))
    }

    fn fsync(&self, file: &File) -> io::Result<()> {
        self.sync(Some(file))
    }

    fn fsync_folder(&self, _: &Folder) -> io::Result<()> {
        self.call().map(drop)
    }

    fn syncfs(&self, _: &Folder) -> io::Result<()> {
        self.sync(None)
    }

    fn identity(&self, file: &File) -> io::Result<FileIdentity> {
        self.call()?;
        RealDisk.identity(file)
    }

    fn identity_at(&self, folder: &Folder, path: &Path) -> io::Result<FileIdentity> {
        self.call()?;
        RealDisk.identity_at(folder, path)
    }

    fn is_executable(&self, file: &File) -> io::Result<bool> {
        self.call()?;
        RealDisk.is_executable(file)
    }

    fn set_executable(&self, file: &File) -> io::Result<()> {
        self.call()?;
        RealDisk.set_executable(file)
    }

    fn drop_cached(&self, file: &File) -> io::Result<()> {
        self.call()?;
        RealDisk.drop_cached(file)
    }

    fn free_bytes(&self, folder: &Folder) -> io::Result<u64> {
        self.call()?;
        RealDisk.free_bytes(folder)
    }
}
