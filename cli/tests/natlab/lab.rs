//! Runs `scripts/natlab` and reads what it prints.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::namespaces::{programs, repository, skipped};

/// Size of the file that is downloaded.
const FILE_KIB: u64 = 1024;

/// What may cross the tracker while a file is downloaded: handshakes are over by then, but probes
/// for the size of packets are not. A small part of [`FILE_KIB`].
const TRACKER_BYTES: u64 = 64 << 10;

/// Time from an event at a router, or a change of address, until data must flow again: a peer that notices nothing
/// is given up after six times as long.
const FLOWS_AGAIN_MS: u64 = 5_000;

/// Two sites, and what is between them.
pub(crate) struct Cell {
    a: &'static str,
    b: &'static str,
    options: &'static [&'static str],
}

/// What the script says of one run.
#[derive(Debug, Deserialize)]
struct Run {
    sharer: String,
    complete: bool,
    path: Option<String>,
    technique: Option<String>,
    tracker_bytes: u64,
    flows_again_ms: Option<u64>,
    /// With `--stall`: the longest time without data around the moment of a direct connection.
    stall_ms: Option<u64>,
    relayed_bytes: Option<u64>,
    direct_bytes: Option<u64>,
}

/// One test for each line: its name, the types of A and B, options of the script, and the path that is seen.
/// Each site shares once.
macro_rules! cells {
    ($(
        $(#[$attribute:meta])*
        $name:ident: $a:literal and $b:literal $(with $options:expr)? => $path:literal;
    )*) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $name() {
                $crate::lab::Cell::new($a, $b)
                    $(.with(&$options))?
                    .meets($path);
            }
        )*
    };
}
pub(crate) use cells;

impl Cell {
    /// A site of type `a` that shares, and one of type `b` that downloads.
    pub(crate) fn new(a: &'static str, b: &'static str) -> Cell {
        Cell { a, b, options: &[] }
    }

    /// With more options of the script.
    pub(crate) fn with(mut self, options: &'static [&'static str]) -> Cell {
        self.options = options;
        self
    }

    /// Fails unless every run is complete, over this path and not through the tracker.
    #[track_caller]
    pub(crate) fn meets(&self, path: &str) {
        let Some((runs, said)) = self.run() else {
            return;
        };
        for run in &runs {
            assert!(run.complete, "{run:?}\n{said}");
            assert_eq!(run.path.as_deref(), Some(path), "{run:?}\n{said}");
            assert!(run.tracker_bytes < TRACKER_BYTES, "{run:?}\n{said}");
        }
    }

    /// Fails unless every run is complete and ends on a direct path that was found by this technique. Where that
    /// guesses at ports, it finds one nearly always: so there are as many tries as make three misses in a row
    /// no chance.
    #[track_caller]
    pub(crate) fn comes_to_meet(&self, technique: &str) {
        for is_last in [false, false, true] {
            let Some((runs, said)) = self.run() else {
                return;
            };
            assert!(runs.iter().all(|run| run.complete), "{said}");
            let is_met = |run: &Run| {
                let found = (run.path.as_deref(), run.technique.as_deref());
                found == (Some("direct"), Some(technique))
            };
            if runs.iter().all(is_met) {
                return;
            }
            assert!(!is_last, "{runs:?}\n{said}");
        }
    }

    /// Fails unless every run is complete, all of it through the tracker.
    #[track_caller]
    pub(crate) fn talks_through_the_tracker(self) {
        let Some((runs, said)) = self.with(&["--delay", "25"]).run() else {
            return;
        };
        for run in &runs {
            assert!(run.complete, "{run:?}\n{said}");
            assert_eq!(run.path.as_deref(), Some("relay"), "{run:?}\n{said}");
            assert!(run.tracker_bytes > FILE_KIB << 10, "{run:?}\n{said}");
        }
    }

    /// Fails unless a download goes on, soon and to its right end, through an event.
    #[track_caller]
    pub(crate) fn survives(&self, event: &'static str) {
        // A rate that a debug build keeps up with, for five seconds after the event.
        let options = ["--disturb", event, "--rate", "16", "--size", "16384"];
        let Some((runs, said)) = self.run_with(&options) else {
            return;
        };
        assert_eq!(runs.len(), 1, "{said}");
        assert!(runs[0].complete, "{said}");
        let flows_again = runs[0].flows_again_ms;
        assert!(flows_again.is_some_and(|ms| ms < FLOWS_AGAIN_MS), "{said}");
    }

    /// Fails unless a download that begins by the relay ends by a path of its own, most of it.
    #[track_caller]
    pub(crate) fn leaves_the_relay(&self) {
        let options = ["--stall", "--rate", "16", "--relay", "8M", "--size", "8192"];
        let Some((runs, said)) = self.run_with(&options) else {
            return;
        };
        for run in &runs {
            assert!(run.complete, "{said}");
            // Told only of what was relayed first, and went on for two seconds after.
            let told = (run.relayed_bytes, run.direct_bytes, run.stall_ms);
            let (Some(relayed), Some(direct), Some(_)) = told else {
                panic!("{run:?}\n{said}");
            };
            assert!(relayed > 0 && direct > relayed, "{run:?}\n{said}");
        }
    }

    /// A run in which A shares, one in which B does, and all that was said; `None` where there can be no lab.
    #[track_caller]
    fn run(&self) -> Option<(Vec<Run>, String)> {
        let size = FILE_KIB.to_string();
        let (runs, said) = self.run_with(&["--size", &size, "--sharer", "both", "--runs", "2"])?;
        let sharers: Vec<&str> = runs.iter().map(|run| run.sharer.as_str()).collect();
        assert_eq!(sharers, ["a", "b"], "{said}");
        Some((runs, said))
    }

    #[track_caller]
    fn run_with(&self, more: &[&str]) -> Option<(Vec<Run>, String)> {
        let pair = ["--json", "--a", self.a, "--b", self.b, "--patience", "30"];
        let options = [&pair, more, self.options].concat();
        let (stdout, said) = run_script(&options)?;
        let run = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}\n{said}"));
        let runs = stdout.lines().map(run).collect();
        Some((runs, said))
    }
}

/// What the script prints, and all that it and the programs say; `None` where there can be no lab.
#[track_caller]
pub(crate) fn run_script(options: &[&str]) -> Option<(String, String)> {
    let logs = tempfile::tempdir().unwrap();
    let mut natlab = natlab();
    natlab.args(options).arg("--bin").arg(programs());
    let output = natlab.arg("--logs").arg(logs.path()).output().unwrap();
    if skipped(&output) {
        return None;
    }
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = format!("{stdout}{stderr}{}", messages(logs.path()));
    Some((stdout, said))
}

/// Fails unless each NAT of the lab behaves as it is called.
#[track_caller]
pub(crate) fn selftest() {
    let output = natlab().arg("--selftest").output().unwrap();
    assert!(skipped(&output) || output.status.success(), "{output:#?}");
}

fn natlab() -> Command {
    let mut natlab = Command::new(repository().join("scripts/natlab"));
    natlab.env_remove("RUST_LOG");
    natlab
}

/// What all programs of the runs said.
fn messages(logs: &Path) -> String {
    let mut all = String::new();
    for run in std::fs::read_dir(logs).unwrap() {
        let mut files: Vec<PathBuf> = std::fs::read_dir(run.unwrap().path())
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|file| file.extension().is_some_and(|extension| extension == "log"))
            .collect();
        files.sort();
        for file in files {
            let text = std::fs::read(&file).unwrap();
            all += &format!(
                "--- {}\n{}",
                file.strip_prefix(logs).unwrap().display(),
                String::from_utf8_lossy(&text)
            );
        }
    }
    all
}
