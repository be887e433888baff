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

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::Once;

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

#[derive(Debug, Deserialize)]
struct Comparison {
    bench: String,
    case: String,
    program: String,
    complete: bool,
    intact: bool,
    #[serde(default)]
    s: f64,
    #[serde(default)]
    rtts: f64,
    #[serde(default)]
    link_share: f64,
}

/// What ours is held against where it is there.
const OTHERS: [&str; 2] = ["b3sum", "roofline"];

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
fn one_peer_gives_another_a_file_in_every_kind_of_network_without_a_delay() {
    for (bench, size) in [
        ("loopback", "--sizes"),
        ("veth", "--size"),
        ("memory", "--sizes"),
    ] {
        let Some(runs) = compared(bench, &[size, "2"]) else {
            return;
        };
        assert!(runs.iter().any(|run| run.program == "warren"), "{runs:?}");
    }
}

#[test]
fn a_folder_of_small_files_comes_beside_a_large_file() {
    let Some(runs) = compared(
        "many-files",
        &["--files", "200", "--size", "2", "--mbit", "0"],
    ) else {
        return;
    };
    let programs: BTreeSet<_> = runs.iter().map(|run| run.program.as_str()).collect();
    assert_eq!(programs, BTreeSet::from(["warren", "warren, one file"]));
}

#[test]
fn a_daemon_that_is_started_again_goes_on_and_a_file_is_registered() {
    let disk = tempfile::tempdir().unwrap();
    let disk = disk.path().to_str().unwrap();
    let arguments = ["--size", "2", "--partial", "1", "--disk", disk];
    let Some(runs) = compared("register", &arguments) else {
        return;
    };
    let cases: BTreeSet<_> = runs.iter().map(|run| run.case.as_str()).collect();
    let expected = ["register 2 MiB", "restart with 1 GiB"];
    assert_eq!(cases, BTreeSet::from(expected));
    let left = std::fs::read_dir(disk).unwrap().count();
    assert_eq!(left, 0, "something is left on the disk");
}

#[test]
fn nothing_comes_over_a_long_link_before_a_round_trip_or_above_its_rate() {
    let first_byte = compared("first-byte", &["--rtt", "30"]);
    let one_path = ["--mbit", "20", "--rtt", "30", "--loss", "0"];
    let wan = compared(
        "wan",
        &[&one_path[..], &["--size", "2", "--fair", "0"]].concat(),
    );
    for run in first_byte.iter().flatten() {
        assert!(run.rtts > 1.0, "{run:?}");
    }
    for run in wan.iter().flatten() {
        assert!(run.link_share < 1.0 + BUCKETS, "{run:?}");
    }
}

#[test]
fn a_bench_that_is_run_again_rewrites_its_own_section_of_the_record_alone() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record.md");
    for (bench, size) in [
        ("veth", "--size"),
        ("loopback", "--sizes"),
        ("veth", "--size"),
    ] {
        let more = [size, "2", "--record", record.to_str().unwrap()];
        if compared(bench, &more).is_none() {
            return;
        }
    }
    let text = std::fs::read_to_string(&record).unwrap();
    let sections: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("## "))
        .collect();
    assert_eq!(sections, ["## veth", "## loopback"], "{text}");
    assert!(!text.contains(folder.path().to_str().unwrap()), "{text}");
}

#[test]
fn no_program_is_measured_that_nobody_knows() {
    let output = bench(&["loopback", "--programs", "carrier-pigeon"]);
    assert_eq!(output.status.code(), Some(USAGE), "{output:#?}");
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
    // No processor works for longer than the clock runs, which is looked at now and then.
    assert!(run.cpu_limit_s < last + 0.5, "{run:?}");
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

/// One peer gives, another takes, and all of it has to be complete and intact. `None` where there can be
/// no such network.
#[track_caller]
fn compared(name: &str, more: &[&str]) -> Option<Vec<Comparison>> {
    build_switch();
    let bin = programs().to_str().unwrap();
    // What every kernel lets everybody use.
    let fixed = [name, "--json", "--runs", "1", "--congestion", "reno"];
    let ours = ["--programs", "warren", "--bin", bin];
    let output = bench(&[&fixed[..], &ours, more].concat());
    if skipped(&output) {
        return None;
    }
    assert!(output.status.success(), "{output:#?}");
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let runs: Vec<Comparison> = lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .filter(|run: &Comparison| !OTHERS.contains(&run.program.as_str()))
        .collect();
    assert!(!runs.is_empty(), "{output:#?}");
    for run in &runs {
        assert!(run.bench.starts_with(name), "{run:?}");
        assert!(run.complete && run.intact && run.s > 0.0, "{run:?}");
    }
    Some(runs)
}

/// The program that delays, which tests of this package alone have not built.
fn build_switch() {
    static BUILT: Once = Once::new();
    let folder = programs();
    BUILT.call_once(|| {
        // Tests of the whole workspace have, and would build it otherwise: with other features.
        if folder.join("examples/switch").exists() {
            return;
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "-p",
            "warren-net",
            "--example",
            "switch",
        ]);
        cargo.arg("--target-dir").arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.current_dir(repository()).status();
        assert!(status.unwrap().success(), "the switch does not build");
    });
}

fn bench(arguments: &[&str]) -> Output {
    let mut bench = Command::new(repository().join("scripts/bench"));
    bench.args(arguments).env_remove("RUST_LOG");
    bench.output().unwrap()
}
