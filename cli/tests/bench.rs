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
    last_over_limit: f64,
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
    Some(run)
}

fn bench(arguments: &[&str]) -> Output {
    let mut bench = Command::new(repository().join("scripts/bench"));
    bench.args(arguments).env_remove("RUST_LOG");
    bench.output().unwrap()
}
