//! Codes: given out, typed, typed wrong, expired, used up, burned, over a tracker that goes and comes back.

use std::path::Path;

use warren_daemon::control::codes::CodeState;
use warren_daemon::control::model::{CodeStatus, Event, Registered};

use crate::{
    content::{MIB, assert_same_file},
    harness::{Daemon, DaemonOptions, Place, Swarm, Tracker, free_address, wait_for},
};

/// Wrong guesses that a code takes.
const GUESSES: u32 = 10;

#[test]
fn whoever_types_the_code_gets_the_file_and_so_does_the_next_one() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", MIB, 1);
    let ran = ours.try_register(&file, &["--code"]).expect(0);
    // The path of the .p2p, the link, the code.
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let code = lines[2];
    assert!(
        lines[1].starts_with("p2p:") && code.starts_with("1-"),
        "{ran:#?}"
    );
    assert!(
        ran.stderr
            .contains("for 1 h 0 min and while this daemon runs"),
        "{ran:#?}"
    );

    let (second, third) = (swarm.daemon(2), swarm.daemon(3));
    assert_same_file(&file, Path::new(&second.fetch(code).path));
    // However it is typed.
    let typed = code.to_uppercase().replace('-', " ");
    assert_same_file(&file, Path::new(&third.fetch(typed).path));
    let given = only_code(&ours);
    assert_eq!(
        (given.state, given.opened, given.wrong),
        (CodeState::Open, 2, 0)
    );
    let status = ours.client(&["status"]).expect(0).stdout;
    assert!(
        status.contains("code 1  film.mkv  open for 59 min "),
        "{status}"
    );
    let words = code.trim_start_matches("1-");
    assert!(!status.contains(words), "words are shown once: {status}");
    let log = ours.process().stderr.text();
    assert!(
        !log.contains(words) && log.contains("a code was opened"),
        "{log}"
    );
}

#[test]
fn a_wrong_word_costs_a_guess_and_one_that_does_not_exist_costs_nothing() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let code = register(&ours, &swarm.file("film.mkv", MIB, 2), &[]);
    let error = theirs.download(other_word(&code)).failed(8);
    assert_eq!(error.code, "wrong_code");
    assert!(
        error.message.contains("one of its 10 guesses is used"),
        "{error}"
    );
    let error = theirs.download("1-film-alibbi").failed(2);
    assert!(error.hint.contains("alibi"), "{error:?}");
    assert_eq!(only_code(&ours).wrong, 1);
    theirs.fetch(code);
}

#[test]
fn a_code_for_one_lets_the_first_in_and_tells_the_second_why_it_is_not() {
    let swarm = Swarm::start();
    let (ours, second, third) = (swarm.daemon(1), swarm.daemon(2), swarm.daemon(3));
    let code = register(&ours, &swarm.file("film.mkv", MIB, 3), &["--once"]);
    second.fetch(&code);
    assert_eq!(third.download(&code).failed(9).code, "code_used");
    assert_eq!(only_code(&ours).state, CodeState::Used);
}

#[test]
fn a_code_whose_time_is_up_says_so() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let code = register(
        &ours,
        &swarm.file("film.mkv", MIB, 4),
        &["--code-expires", "1s"],
    );
    wait_for("the code to expire", || {
        (only_code(&ours).state == CodeState::Expired).then_some(())
    });
    assert_eq!(theirs.download(&code).failed(9).code, "code_expired");
}

#[test]
fn after_ten_wrong_guesses_the_right_code_is_worth_nothing_and_its_owner_sees_it() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let code = register(&ours, &swarm.file("film.mkv", MIB, 5), &[]);
    for _ in 0..GUESSES {
        let error = theirs.download(other_word(&code)).failed(8);
        assert_eq!(error.code, "wrong_code");
    }
    assert_eq!(theirs.download(&code).failed(8).code, "code_burned");
    let given = only_code(&ours);
    assert_eq!((given.state, given.wrong), (CodeState::Burned, GUESSES));
    let status = ours.client(&["status"]).expect(0).stdout;
    assert!(status.contains("guessed wrong too often"), "{status}");
    let log = ours.process().stderr.text();
    assert!(
        log.contains("WARN") && log.contains("was guessed wrong 10 times"),
        "{log}"
    );
    // Nothing is wrong with what was shared.
    let again = register(&ours, &swarm.path("film.mkv"), &[]);
    assert!(again.starts_with("2-"), "{again}");
    theirs.fetch(again);
}

#[test]
fn a_number_that_nobody_has_and_a_daemon_that_has_gone_are_told_apart() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    assert_eq!(
        theirs.download("9-film-alibi").failed(9).code,
        "no_such_code"
    );
    let code = register(&ours, &swarm.file("film.mkv", MIB, 6), &[]);
    assert_eq!(ours.download(&code).failed(2).code, "own_code");
    ours.stop();
    assert_eq!(theirs.download(&code).failed(5).code, "sharer_absent");
}

#[test]
fn what_is_no_longer_shared_has_no_code() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let code = register(&ours, &swarm.file("film.mkv", MIB, 7), &[]);
    ours.client(&["remove", "film.mkv"]).expect(0);
    wait_for("the code to end", || {
        (only_code(&ours).state == CodeState::Withdrawn).then_some(())
    });
    assert_eq!(theirs.download(&code).failed(9).code, "code_withdrawn");
}

#[test]
fn a_code_for_what_was_revoked_says_so() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    register(&ours, &swarm.file("film.mkv", MIB, 7), &[]);
    ours.client(&["revoke", "film.mkv"]).expect(0);
    wait_for("the code to end", || {
        (only_code(&ours).state == CodeState::Revoked).then_some(())
    });
    let shown = ours.client(&["status"]).expect(0).stdout;
    assert!(shown.contains("was revoked"), "{shown}");
}

#[test]
fn a_code_is_good_also_after_the_tracker_was_started_again() {
    let mut swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", MIB, 8);
    let code = register(&ours, &file, &[]);
    swarm.tracker.kill();
    ours.until("the loss of its tracker", |status| {
        status.codes[0].state == CodeState::Unreachable
    });
    swarm.tracker.restart();
    ours.until("the tracker again", |status| {
        status.codes[0].state == CodeState::Open
    });
    let theirs = swarm.daemon(2);
    assert_same_file(&file, Path::new(&theirs.fetch(code).path));
}

#[test]
fn without_a_tracker_there_are_no_codes_and_what_was_registered_is_shared_all_the_same() {
    let place = Place::new();
    let address = free_address();
    let ours = Daemon::start(&place, 1, &address, DaemonOptions::default());
    let file = place.path("film.mkv");
    crate::content::random_file(&file, MIB, 9);
    let ran = ours.try_register(&file, &["--code"]);
    ran.expect_error(4, "codes go by way of it");
    assert_eq!(ours.status().shares.len(), 1);
    let error = ours.download("1-film-alibi").failed(4);
    assert_eq!(error.code, "tracker_unreachable");

    let _tracker = Tracker::start(&place, "t", &address);
    ours.until_connected();
    assert!(register(&ours, &file, &[]).starts_with("1-"));
}

/// Registers it, and returns its code.
#[track_caller]
fn register(daemon: &Daemon, file: &Path, options: &[&str]) -> String {
    let options = [&["--json", "--code"], options].concat();
    let ran = daemon.try_register(file, &options).expect(0);
    let last = ran.stdout.lines().last().unwrap_or_default();
    match serde_json::from_str(last) {
        Ok(Event::Registered(Registered {
            code: Some(given), ..
        })) => given.code,
        other => panic!("{other:?} in {ran:#?}"),
    }
}

/// The same number with another second word.
fn other_word(code: &str) -> String {
    let (rest, word) = code.rsplit_once('-').unwrap();
    let other = match word {
        "alibi" => "film",
        _ => "alibi",
    };
    format!("{rest}-{other}")
}

#[track_caller]
fn only_code(daemon: &Daemon) -> CodeStatus {
    let mut codes = daemon.status().codes;
    assert_eq!(codes.len(), 1, "{codes:?}");
    codes.remove(0)
}
