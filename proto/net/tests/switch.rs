//! The switch of `examples/switch.rs`, between real network namespaces.
//!
//! Where the machine allows no such networks the test says so on the terminal and passes; with
//! `NATLAB=required` it fails instead.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

#[path = "namespaces/skip.rs"]
mod skip;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Exit code of the script where the kernel forbids what it needs.
const NOT_POSSIBLE: i32 = 77;

#[test]
fn no_packet_comes_sooner_than_the_delay() {
    let Some(found) = links(&["--rtt", "30"]) else {
        return;
    };
    assert!(found["rtt_min_ms"].as_f64().unwrap() >= 30.0, "{found}");
    assert_eq!(found["pings_lost"], 0, "{found}");
}

#[test]
fn what_is_to_be_lost_is_lost() {
    // That all of 51 exchanges get through has a chance of 0.8^102, some 10^-10.
    let Some(found) = links(&["--loss", "20"]) else {
        return;
    };
    assert!(found["pings_lost"].as_u64().unwrap() > 0, "{found}");
}

/// What the script measured of a pair of hosts; `None` where there can be none.
#[track_caller]
fn links(more: &[&str]) -> Option<Value> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut bench = Command::new(repository.join("scripts/bench"));
    bench.args(["links", "--pairs", "1", "--seconds", "0", "--json"]);
    bench.arg("--switch").arg(switch()).args(more);
    let output = bench.output().unwrap();
    if skipped(&output) {
        return None;
    }
    assert!(output.status.success(), "{output:#?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The program, which tests of one file alone have not built.
fn switch() -> PathBuf {
    let this = env::current_exe().unwrap();
    let folder = this.ancestors().nth(2).unwrap();
    let switch = folder.join("examples/switch");
    if !switch.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "switch"]);
        cargo.arg("--target-dir").arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(status.unwrap().success(), "the switch does not build");
    }
    switch
}

/// Whether such networks are not possible here.
#[track_caller]
fn skipped(output: &Output) -> bool {
    if output.status.code() != Some(NOT_POSSIBLE) {
        return false;
    }
    skip::skip(&String::from_utf8_lossy(&output.stderr));
    true
}
