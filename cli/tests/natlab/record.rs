//! What `scripts/natlab --record` makes of what it measured, by its program `natlab-report`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::namespaces::repository;

#[test]
fn a_section_that_is_measured_again_leaves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record.md");
    std::fs::write(&record, "# A matrix without a mark\n").unwrap();
    let run = |bytes| {
        let peer = format!(
            r#"{{"type":"open","complete":true,"direct_bytes":{bytes},"relayed_bytes":10,"done_s":1.5}}"#
        );
        let percent = r#""relayed_percent":1.0,"relayed_percent_unblocked":0.5"#;
        format!(r#"{{"run":1,"seed":"full-cone",{percent},"peers":[{peer}]}}"#)
    };
    let Some(()) = tell(&record, "swarm", &[run(90)]) else {
        return;
    };
    tell(&record, "uplink", &[event("port-restricted", 700)]).unwrap();
    tell(&record, "swarm", &[run(30)]).unwrap();
    let text = std::fs::read_to_string(&record).unwrap();
    for part in [
        "# A matrix without a mark",
        "| port-restricted | port-restricted | uplink-b | 1 | 1 | 1 | 700 |",
        "| open | 1 | 25.0 |",
    ] {
        assert_eq!(text.matches(part).count(), 1, "{part}\n{text}");
    }
    assert!(!text.contains("10.0"), "{text}");
}

#[test]
fn a_floor_is_held_or_not() {
    for (ms, word) in [(1_900, "**held**"), (2_100, "**not held**")] {
        let Some(text) = told("uplink", &[event("port-restricted", ms)]) else {
            return;
        };
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_guess_that_ran_out_is_told_from_one_that_never_had_a_chance() {
    // One of 200 is what the formula of a birthday among 64,512 ports says.
    for (misses, words) in [(1, "by chance"), (12, "more often than chance explains")] {
        let runs: Vec<String> = (0..200).map(|run| guessed(run, run >= misses)).collect();
        let Some(text) = told("matrix", &runs) else {
            return;
        };
        assert!(text.contains(words), "{text}");
        assert!(text.contains("misses 0.53 %, 1.1 expected"), "{text}");
    }
}

/// A run in which data flowed again after so long.
fn event(kind: &str, ms: u64) -> String {
    let pair = format!(r#""a":"{kind}","b":"{kind}","event":"uplink-b""#);
    let times = format!(r#""flows_again_ms":{ms},"steady_again_ms":{ms}"#);
    format!(r#"{{{pair},"complete":true,{times}}}"#)
}

/// A run of a home and a NAT that picks from all ports.
fn guessed(number: u64, is_direct: bool) -> String {
    let path = if is_direct { "direct" } else { "relay" };
    let pair = format!(r#""a":"port-restricted","b":"symmetric","run":{number},"skew_ms":0"#);
    let sent = r#""packets_a":10,"packets_b":300,"flows_a":900,"flows_b":400,"checks":880"#;
    format!(
        r#"{{{pair},{sent},"complete":true,"path":"{path}","first_path":"relay","outcomes":["failed"]}}"#
    )
}

/// The text of a section; `None` where there is no Python.
fn told(section: &str, runs: &[String]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record.md");
    tell(&record, section, runs)?;
    Some(std::fs::read_to_string(&record).unwrap())
}

/// Puts a section of these runs into the record.
fn tell(record: &Path, section: &str, runs: &[String]) -> Option<()> {
    let python = Command::new("python3")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if python.is_err() {
        eprintln!("skipped: there is no python3");
        return None;
    }
    let results = record.with_extension("json");
    std::fs::write(&results, runs.join("\n")).unwrap();
    let mut report = Command::new("python3");
    report
        .arg("-SEB")
        .arg(repository().join("scripts/lib/natlab-report"));
    report.arg("section").arg(record).args([section, "1"]);
    let output = report.arg(&results).arg("25").output().unwrap();
    assert!(output.status.success(), "{output:#?}");
    Some(())
}
