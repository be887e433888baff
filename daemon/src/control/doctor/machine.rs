//! This machine: where downloads go, its clock, how many files it allows.
//!
//! [`Looks`] asks the system, which may wait for a disk that does not answer, so it is asked apart from
//! everything else; the rest is told of what it saw.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::{Code, Finding, Severity, Snapshot, bytes};
use crate::store::atomic::check_folder;

/// How long a disk may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// Less room than this is as good as none: manifests, journals and parts of files need it.
const LEAST_FREE_BYTES: u64 = 16 << 20;

/// A guess at ports opens up to about 400 sockets, a folder as many files as are fetched at once, and each
/// peer and client one.
const LEAST_OPEN_FILES: u64 = 2048;

/// Clocks that differ by less disturb nobody.
const CLOCK_SLACK_S: u64 = 60;

/// What the system says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// Where downloads go.
    pub(crate) downloads: PathBuf,
    /// How that folder is; none when it did not say in time.
    pub(crate) folder: Option<Folder>,
    /// Files that are open, and that may be.
    pub(crate) open_files: Option<(u64, u64)>,
}

/// A folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Folder {
    /// Why nothing can be written to it.
    pub(crate) fault: Option<String>,
    /// Room on its disk.
    pub(crate) free_bytes: Option<u64>,
}

/// Looks at the machine. What is asked of a disk that hangs comes back when that does, if ever, so one at a
/// time asks, in a thread that nobody waits for when the daemon ends.
#[derive(Clone, Debug)]
pub(crate) struct Looks(Arc<Semaphore>);

impl Default for Looks {
    fn default() -> Self {
        Looks(Arc::new(Semaphore::new(1)))
    }
}

impl Looks {
    /// Returns after [`PATIENCE`] at the latest.
    pub(crate) async fn look(&self, downloads: PathBuf) -> Machine {
        let folder = downloads.clone();
        Machine {
            downloads,
            folder: self.ask(move || look_at(&folder)).await,
            open_files: open_files(),
        }
    }

    /// What `question` comes to; none when it, or the one before it, takes longer than [`PATIENCE`].
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.0).acquire_owned();
        let asking = async {
            let turn = turn.await.ok()?;
            let (answer, answered) = oneshot::channel();
            let work = move || {
                // Who asked may have gone.
                let _ = answer.send(question());
                drop(turn);
            };
            thread::Builder::new().spawn(work).ok()?;
            answered.await.ok()
        };
        timeout(PATIENCE, asking).await.ok().flatten()
    }
}

fn look_at(folder: &Path) -> Folder {
    // One that is missing is made when something is to be put there.
    let nearest = folder.ancestors().find(|it| it.exists());
    let stat = nearest.and_then(|it| statvfs(it).ok());
    Folder {
        fault: check_folder(folder).err().map(|error| error.to_string()),
        free_bytes: stat.map(|it| it.f_bavail.saturating_mul(it.f_frsize)),
    }
}

fn open_files() -> Option<(u64, u64)> {
    // The list itself is open while it is read.
    let open = fs::read_dir("/proc/self/fd")
        .ok()?
        .count()
        .saturating_sub(1);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Some((open as u64, limit))
}

pub(super) fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let machine = &snapshot.machine;
    let mut findings = folder(machine, snapshot.idx);
    findings.extend(files(machine));
    findings.extend(snapshot.clock_ahead_ms.and_then(clock));
    findings
}

fn folder(machine: &Machine, idx: u16) -> Vec<Finding> {
    let place = machine.downloads.display();
    let Some(folder) = &machine.folder else {
        let text = format!(
            "The disk of {place}, where downloads go, does not say within {} s how it is.",
            PATIENCE.as_secs()
        );
        let action = "See whether it is a network disk whose server is gone, and what dmesg says.";
        let finding = Code::DiskHangs.says(Severity::Error, text);
        return vec![finding.with(Some(action.to_owned()))];
    };
    let mut findings = Vec::new();
    if let Some(fault) = &folder.fault {
        let text = format!("Nothing can be written to {place}, where downloads go: {fault}.");
        let action = "Give the folder back, or let the daemon's user write to it, or start the daemon with \
                      another --downloads DIR.";
        let finding = Code::FolderShut.says(Severity::Error, text);
        findings.push(finding.with(Some(action.to_owned())));
    }
    if let Some(free) = folder.free_bytes.filter(|it| *it < LEAST_FREE_BYTES) {
        let text = format!(
            "The disk of {place}, where downloads go, is full: {} are free.",
            bytes(free)
        );
        let action = format!(
            "Make room there, then go on with each download that has stopped; see them, with their ids: client list \
             {idx}"
        );
        let finding = Code::DiskFull.says(Severity::Error, text);
        findings.push(finding.with(Some(action)));
    }
    findings
}

fn files(machine: &Machine) -> Option<Finding> {
    let (open, limit) = machine.open_files?;
    // Nine tenths.
    let (code, text) = if open >= limit - limit / 10 {
        let text = format!("Of the {limit} files that this daemon may have open, {open} are.");
        (Code::FilesUsedUp, text)
    } else if limit < LEAST_OPEN_FILES {
        let text = format!(
            "This daemon may have only {limit} files open, too few for many peers or for guesses at \
             ports."
        );
        (Code::FewFiles, text)
    } else {
        return None;
    };
    let action = "Raise the hard limit: ulimit -Hn in the shell that starts it, or LimitNOFILE= in its \
                  unit.";
    let finding = code.says(Severity::Warning, text);
    Some(finding.with(Some(action.to_owned())))
}

fn clock(ahead_ms: i64) -> Option<Finding> {
    let seconds = ahead_ms.unsigned_abs() / 1000;
    if seconds < CLOCK_SLACK_S {
        return None;
    }
    let way = match ahead_ms > 0 {
        true => "ahead of",
        false => "behind",
    };
    let text = format!(
        "The clock of this machine is {} {way} that of the tracker.",
        duration(seconds)
    );
    let action = "Look which of the two is wrong (date), and have it set over the network: timedatectl \
                  set-ntp true.";
    let finding = Code::ClockDiffers.says(Severity::Warning, text);
    Some(finding.with(Some(action.to_owned())))
}

/// In the largest unit of which there are two.
fn duration(seconds: u64) -> String {
    match seconds {
        172_800.. => format!("{} days", seconds / 86_400),
        7_200.. => format!("{} hours", seconds / 3_600),
        120.. => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Time that passes only here, so that nobody waits.
    #[test]
    fn a_disk_that_hangs_is_asked_once_and_holds_nobody_up() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let looks = Looks::default();
        let (release, hang) = mpsc::channel::<()>();
        let hangs = looks.ask(move || hang.recv().is_ok());
        assert_eq!(runtime.block_on(hangs), None);
        let asked = Arc::new(AtomicBool::new(false));
        let note = Arc::clone(&asked);
        let again = looks.ask(move || note.store(true, Ordering::Relaxed));
        assert_eq!(runtime.block_on(again), None);
        assert!(!asked.load(Ordering::Relaxed));
        // It would not end as long as a thread of its own does not.
        drop(runtime);
        drop(release);
    }

    #[tokio::test]
    async fn a_disk_that_is_back_is_asked_again() {
        let looks = Looks::default();
        let (release, hang) = mpsc::channel::<()>();
        let (first, second) = tokio::join!(looks.ask(move || hang.recv()), async {
            drop(release);
            looks.ask(|| 7).await
        });
        assert_eq!((first, second), (Some(Err(mpsc::RecvError)), Some(7)));
    }

    #[tokio::test]
    async fn a_folder_that_is_there_or_can_be_made_is_well_and_a_file_is_not() {
        let look = |downloads| async move { Looks::default().look(downloads).await };
        let place = tempfile::tempdir().unwrap();
        let seen = look(place.path().join("a/b")).await;
        let folder = seen.folder.unwrap();
        assert_eq!(folder.fault, None);
        assert!(folder.free_bytes.is_some());
        let (open, limit) = seen.open_files.unwrap();
        assert!(open > 2 && open < limit, "{open} of {limit}");
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(look(file).await.folder.unwrap().fault.is_some());
    }

    #[test]
    fn durations_are_told_in_a_unit_that_fits() {
        for (seconds, text) in [
            (60, "60 seconds"),
            (121, "2 minutes"),
            (7_200, "2 hours"),
            (400_000, "4 days"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
