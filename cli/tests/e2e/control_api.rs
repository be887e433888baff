//! The control API as scripts use it, with `curl`: the lines of the README are run as they stand there.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Daemon, Process, Ran, Swarm, run};

#[test]
fn the_lines_of_the_readme_do_what_they_say() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", 1000, 1);
    ours.register(&file);
    let lines = lines_of_readme();
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        let ran = shell(&ours, &line);
        // What does not end by itself is ended by its --max-time (curl's exit code 28).
        let expected = if line.contains("--max-time") { 28 } else { 0 };
        let said = ran.expect(expected).stdout;
        assert!(!said.contains(r#""type":"error""#), "{line}: {said}");
        assert!(said.contains(expected_of(&line)), "{line}: {said}");
    }
}

#[test]
fn the_description_of_the_api_is_served_and_names_all_routes() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let line = "curl -s --unix-socket control.sock http://warren/v1/openapi.json";
    let said = shell(&ours, line).expect(0).stdout;
    let described: Value = serde_json::from_str(&said).unwrap();
    assert!(described["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in ["/v1/register", "/v1/events", "/v1/verify"] {
        assert!(described["paths"][path].is_object(), "{path}");
    }
}

#[test]
fn all_events_begin_with_how_everything_stands_and_go_on_with_what_changes() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", 1000, 1);
    let registered = ours.register(&file);
    let mut curl = in_state(&theirs, "curl");
    curl.args([
        "-sN",
        "--unix-socket",
        "control.sock",
        "http://warren/v1/events",
    ]);
    let events = Process::spawn("curl", &mut curl);
    let mut read = 0;
    let mut until = |words: &[&str]| loop {
        let line = events.stdout.wait_line(read).unwrap();
        read += 1;
        if words.iter().all(|word| line.contains(word)) {
            break;
        }
    };
    until(&[r#""type":"limits""#]);
    theirs.fetch(&registered.manifest);
    until(&[r#""type":"share""#, r#""state":"seeding""#]);
    theirs.client(&["remove", "film.mkv"]).expect(0);
    until(&[
        r#""type":"gone""#,
        r#""what":"share""#,
        &registered.content_id,
    ]);
}

/// What an answer has, by the route.
fn expected_of(line: &str) -> &'static str {
    let expected = [
        ("/status", r#""type":"tracker""#),
        ("/openapi.json", r#""openapi":"3.1"#),
        ("/pause", r#""state":"paused""#),
        ("/resume", r#""state":"seeding""#),
        ("/expire", r#""expires_unix_ms":"#),
        ("/link", r#""link":"p2p:"#),
        ("/logs", r#""type":"log""#),
        ("/verify", r#""type":"done""#),
        ("/events", r#""type":"share""#),
    ];
    let found = expected
        .iter()
        .find(|(route, _)| line.contains(&format!("v1{route}")));
    found.unwrap_or_else(|| panic!("what does {line} do?")).1
}

/// The lines with `--unix-socket` in the block that begins in the socket's folder.
fn lines_of_readme() -> Vec<String> {
    let readme = include_str!("../../../README.md");
    let block = readme.split("cd ~/.local/state/warren/daemon-1\n").nth(1);
    let block = block.and_then(|rest| rest.split("```").next()).unwrap();
    block.lines().map(str::to_owned).collect()
}

/// Runs a line in the folder of the daemon's socket.
fn shell(daemon: &Daemon, line: &str) -> Ran {
    run(in_state(daemon, "sh").args(["-c", line]))
}

fn in_state(daemon: &Daemon, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(daemon.state());
    command
}
