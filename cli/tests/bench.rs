//! `scripts/bench`: that a swarm of the real programs comes to its end in its namespaces, and that what
//! is measured there agrees with what the links carry.
//!
//! Where the machine allows no such networks the tests say so on the terminal and pass; with
//! `NATLAB=required` they fail instead.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

#[path = "lab/namespaces.rs"]
mod namespaces;

use std::process::{Command, Output};

use namespaces::{programs, repository, skipped};
use serde::Deserialize;

/// Exit code of the script for a command line that makes no sense.
const USAGE: i32 = 2;

/// What the buckets of the shapers let through at once, of a file of 2 MiB, makes this share of its
/// time; no run can be shorter than the rest.
const BUCKETS: f64 = 0.1;

#[derive(Debug, Deserialize)]
struct Run {
    program: String,
    complete: bool,
    intact: bool,
    finished_s: Vec<f64>,
    last_s: f64,
    mean_s: f64,
    limit_s: f64,
    last_over_limit: f64,
    mean_over_limit: f64,
    cpu_s: f64,
    cpu_limit_s: f64,
    seed_payload_over_f: f64,
    seed_wire_over_f: f64,
}

#[test]
fn every_leecher_gets_the_file_and_none_before_the_limit() {
    let Some(run) = swarm(&["--leechers", "3"]) else {
        return;
    };
    assert_eq!(run.finished_s.len(), 3, "{run:?}");
    // Somebody has to send each byte for the first time, headers and all. What was cancelled on its
    // way counts as payload and never gets onto the wire.
    assert!(run.seed_payload_over_f >= 1.0, "{run:?}");
    assert!(run.seed_wire_over_f > 1.0, "{run:?}");
}

#[test]
fn a_late_leecher_is_asked_late() {
    let late = 3.0;
    let Some(run) = swarm(&["--leechers", "2", "--late", "1,3"]) else {
        return;
    };
    assert!(run.finished_s[1] > late, "{run:?}");
}

#[test]
fn limits_are_measured_of_our_own_program_alone() {
    let output = bench(&["swarm", "--preset", "rate-limit", "--programs", "aria2"]);
    assert_eq!(output.status.code(), Some(USAGE), "{output:#?}");
}

/// One run of our own program with a small file; `None` where there can be no such network.
#[track_caller]
fn swarm(more: &[&str]) -> Option<Run> {
    let bin = programs().to_str().unwrap();
    let fixed = ["swarm", "--json", "--size", "2", "--bin", bin];
    let output = bench(&[&fixed, more].concat());
    if skipped(&output) {
        return None;
    }
    assert!(output.status.success(), "{output:#?}");
    let run: Run = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(run.program, "warren");
    assert!(run.complete && run.intact, "{run:?}");
    assert!(run.last_over_limit > 1.0 - BUCKETS, "{run:?}");
    check_figures(&run);
    Some(run)
}

/// What is said of all leechers follows from what is said of each, and what the processors would take
/// from what they took.
#[track_caller]
fn check_figures(run: &Run) {
    let times = &run.finished_s;
    let last = times.iter().copied().fold(0.0, f64::max);
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    assert_near(run.last_s, last, run);
    assert_near(run.mean_s, mean, run);
    assert!(run.limit_s > 0.0, "{run:?}");
    assert_near(run.last_over_limit, last / run.limit_s, run);
    assert_near(run.mean_over_limit, mean / run.limit_s, run);
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(run.cpu_s > 0.0, "{run:?}");
    // It may be bound to fewer processors than there are.
    let all = run.cpu_s / run.cpu_limit_s;
    assert!(all > cores as f64 - 0.5, "{cores} processors: {run:?}");
    assert!((all - all.round()).abs() < 0.1 * all, "{run:?}");
    // They could not have been done in less, all of them together.
    assert!(run.cpu_limit_s <= last, "{run:?}");
}

/// But for what was rounded away.
#[track_caller]
fn assert_near(found: f64, expected: f64, run: &Run) {
    let off = (found - expected).abs();
    assert!(
        off <= 0.002 + expected * 0.001,
        "{found} is not {expected}: {run:?}"
    );
}

fn bench(arguments: &[&str]) -> Output {
    let mut bench = Command::new(repository().join("scripts/bench"));
    bench.args(arguments).env_remove("RUST_LOG");
    bench.output().unwrap()
}
