//! The command that simulates swarms: one small run of it, as `scripts/simulate` makes it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::env;
use std::path::PathBuf;
use std::process::{Command, Output};

const SMALL: [&str; 7] = ["eight", "--peers", "3", "--chunks", "20", "--seed", "7"];

#[test]
fn a_run_prints_its_figures_draws_its_picture_and_is_the_same_each_time() {
    let folder = own_folder();
    let file = folder.join("eight.svg");
    let picture = ["--json", "--picture", file.to_str().unwrap()];
    let first = simulate(&[&SMALL[..], &picture].concat());
    let svg = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    let figures = said(&first);
    for name in [
        "last_ratio",
        "mean_ratio",
        "wasted_percent",
        "control_percent",
    ] {
        let value: f64 = figure(&figures, name).parse().unwrap();
        assert!(value > 0.0 || name == "wasted_percent", "{figures}");
    }
    assert_eq!(figure(&figures, "unfinished"), "0");
    let again = said(&simulate(&[&SMALL[..], &["--json"]].concat()));
    assert_eq!(figure(&figures, "trace"), figure(&again, "trace"));
    let course = said(&simulate(&[&SMALL[..], &["--course"]].concat()));
    assert!(course.contains("last_ratio") && course.contains("progress of the least"));
}

#[test]
fn all_scenarios_are_named_and_what_there_is_not_is_refused() {
    let listed = said(&simulate(&["--list"]));
    for name in ["equal", "churn", "uneven", "seed-leaves", "malicious"] {
        assert!(listed.lines().any(|line| line.starts_with(name)), "{name}");
    }
    for words in [&["nothing"][..], &["eight", "--what", "1"], &[]] {
        assert!(!simulate(words).status.success(), "{words:?}");
    }
}

/// What is said of one figure in a line of JSON.
fn figure<'a>(line: &'a str, name: &str) -> &'a str {
    let rest = line.split_once(&format!("\"{name}\":"));
    let (_, rest) = rest.unwrap_or_else(|| panic!("no {name}: {line}"));
    rest.split([',', '}']).next().unwrap()
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:#?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn simulate(words: &[&str]) -> Output {
    Command::new(program()).args(words).output().unwrap()
}

/// The program, which tests of one file alone have not built.
fn program() -> PathBuf {
    let this = env::current_exe().unwrap();
    let folder = this.ancestors().nth(2).unwrap();
    let program = folder.join("examples/simulate");
    if !program.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "--example",
            "simulate",
            "--features",
            "sim",
        ]);
        cargo.arg("--target-dir").arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(status.unwrap().success(), "the simulator does not build");
    }
    program
}

/// A folder of this process's own.
fn own_folder() -> PathBuf {
    let folder = env::temp_dir().join(format!("warren-simulate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
