//! What is a command line, and what is none.

use clap::CommandFactory;
use warren_proto::id::TrackerPin;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn every_form_scripts_rely_on_is_read() {
    for line in [
        "daemon 1 tracker.example:59000",
        "daemon 0 203.0.113.7:59000#ceircbaeaqcaibaeaqcaibaeaq --listen 0.0.0.0:4000",
        "daemon 65535 [2001:db8::1]:59000 --downloads d --no-port-mapping",
        "daemon 1 tracker.example:59000 --no-relay",
        "daemon 1 tracker.example:59000 --relay-only",
        "daemon 1 tracker.example:59000 --relay-for-swarm 20M",
        "daemon 1 tracker.example:59000 --relay-for-swarm off",
        "daemon 1 tracker.example:59000 --memory 32",
        "daemon 1 tracker.example:59000 --up 20M --down off --background --lan-unlimited",
        "limit 1",
        "limit 1 --up 20M --down off --json",
        "limit 1 --share film.mkv --up 64k",
        "limit 1 --background on --lan-unlimited off",
        "register film.mkv 1",
        "register film.mkv 1 -o film.p2p --json --skip-special",
        "register film.mkv 1 --code",
        "register film.mkv 1 --code --once --code-expires 10m --json",
        "expire film.mkv --json 7d 1",
        "expire film.mkv 7d --json",
        // As it was called first.
        "register film.mkv 1 --code --expires 10m",
        "download 7-film-alibi 1",
        "download film.p2p 1",
        "download p2p:abc 1 --json",
        "download film.p2p 1 --only a --only b/* --except *.c --first d --stream",
        "select film 1 --all --rarest",
        "select film 1 --only a --first b --json",
        "status 1 --json",
        "peers 1 --json",
        "top",
        "top 1",
        "doctor 1",
        "doctor 1 --json",
        "stop 1",
        "remove film.mkv 1",
        "list",
        "list 1 --json",
        "status",
        "peers",
        "doctor",
        "limit",
        "limit --up 20M",
        "stop",
        "pause film 1 --json",
        "pause film",
        "resume film 1",
        "cancel film 1 --yes",
        "cancel film -y",
        "remove film --data --yes",
        "verify film 1 --json --timeout 5",
        "download film.p2p 1 --to /data --if-exists resume --yes",
        "download film.p2p -y --if-exists ask",
        "register film.mkv --expire 7d --max-downloads 3",
        "relocate film /data/film.mkv 1 --json",
        "expire film 7d",
        "expire film never 1 --json",
        "revoke film",
        "link film 1 --qr",
        "link film --json",
        "logs",
        "logs 1 -f -n 20 --json",
        "register film.mkv",
        "download film.p2p",
        "download - 1",
        "download p2p:abc --no-start",
        "download 9f86d081884c7d65 1 --folder",
        "select film --all",
        "explain",
        "explain DISK-01 --json",
        "status 1 -v",
        "-vv status 1",
        "status 1 --quiet",
        "inspect film.p2p --json",
        "inspect film.p2p --only a --except b",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn every_command_line_of_the_readme_is_read() {
    let readme = include_str!("../../../README.md");
    let lines = readme.lines().filter_map(|it| it.strip_prefix("$ client "));
    let mut count = 0;
    for line in lines {
        let line = line.split(" #").next().unwrap_or(line).replace('\'', "");
        parse(line.trim()).unwrap_or_else(|error| panic!("{line}: {error}"));
        count += 1;
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn home_is_read_before_and_after_the_subcommand() {
    for line in [
        "--home /h status 1",
        "status --home /h 1",
        "status 1 --home /h",
    ] {
        assert_eq!(
            parse(line).unwrap().home,
            Some(PathBuf::from("/h")),
            "{line}"
        );
    }
    assert_eq!(parse("status 1").unwrap().home, None);
}

#[test]
fn what_is_no_command_line_is_refused() {
    for line in [
        "",
        "status 65536",
        "status -1",
        "status one",
        "daemon 1",
        "daemon 1 tracker.example",
        "daemon 1 tracker.example:70000",
        "daemon 1 127.0.0.1:0",
        "daemon 1 tracker.example:59000 --no-relay --relay-only",
        "daemon 1 tracker.example:59000 --relay-for-swarm 20M --relay-only",
        "daemon 1 tracker.example:59000 --relay-for-swarm much",
        "daemon 1 tracker.example:59000#short",
        "daemon 1 tracker.example:59000 --up much",
        "daemon 1 tracker.example:59000 --memory 31",
        "daemon 1 tracker.example:59000 --memory 96M",
        "daemon 1 tracker.example:59000 --up 63k",
        "limit 1 --up",
        "limit 1 --down 0",
        "limit 1 --down 99999999999G",
        "download film.p2p 1 --timeout soon",
        "limit 1 --background perhaps",
        "limit 1 --share film.mkv --background on",
        "register film.mkv 1 --once",
        "register film.mkv 1 --expires 10m",
        "register film.mkv 1 --code --expires 8d",
        "download p2p:abc 1 2",
        "select film 1 --all --only a",
        "select film 1 --stream --rarest",
        "download film.p2p 1 --if-exists perhaps",
        "register film.mkv --expire 4000d",
        "register film.mkv --max-downloads 0",
        "relocate film",
        "expire film",
        "revoke",
        "fetch film.p2p 1",
        "pause",
        "remove",
        "link film --qr --json",
        "logs 1 -n many",
        "status 1 -q -v",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn what_is_wrong_is_said_with_an_example_of_what_is_right() {
    for (line, example) in [
        ("download film.p2p 1 --timeout soon", "example 60"),
        ("download film.p2p 1 --timeout=-1", "example 60"),
        ("register f 1 --code --expires 0s", "example 90s, 10m"),
        ("register f 1 --code --expires 10", "example 90s, 10m"),
        ("register f 1 --code --expires 1µ", "example 90s, 10m"),
        (
            "register f 1 --code --expires 99999999999999999999d",
            "to 7d",
        ),
        ("expire film soon", "2h, 7d, or never"),
        ("expire film -1s", "2h, 7d, or never"),
        ("register f --expire -1s", "example 90s, 10m"),
        ("register f --code --code-expires -1s", "example 90s, 10m"),
        ("download f --timeout -1", "example 60"),
        ("register f --max-downloads 10001", "from 1 to 10000"),
        ("limit 1 --up much", "example 100M"),
        ("limit 1 --up 1k", "the least is 64k"),
        ("limit 1 --down 0", "off is for no limit"),
        ("limit 1 --down 20MB", "20MB would be 160M"),
        ("limit 1 --up 2.5kB/s", "2.5kB/s would be 20k"),
        ("limit 1 --up 100B", "100B would be 800"),
        ("limit 1 --up 99999999999G", "at most 1000G"),
        ("daemon 1 t:1 --relay-for-swarm much", "example 100M"),
        ("daemon 1 t:1 --memory 8", "at least 32"),
        ("daemon 1 tracker.example", "such as tracker.example:59000"),
        ("daemon 1 127.0.0.1:0", "its port is 0"),
        ("daemon 1 t:1 --listen 4000", "example 0.0.0.0:4000"),
        ("status one", "0 to 65535"),
    ] {
        let error = parse(line).unwrap_err().to_string();
        assert!(error.contains(example), "{line}: {error}");
    }
}

#[test]
fn a_tracker_is_its_address_and_perhaps_its_key() {
    let plain: TrackerArg = "tracker.example:59000".parse().unwrap();
    assert_eq!(
        plain,
        TrackerArg {
            address: "tracker.example:59000".into(),
            pin: None
        }
    );
    let pin = TrackerPin([7; 16]);
    let pinned: TrackerArg = format!("[::1]:59000#{pin}").parse().unwrap();
    assert_eq!(
        pinned,
        TrackerArg {
            address: "[::1]:59000".into(),
            pin: Some(pin)
        }
    );
}

#[test]
fn the_help_of_each_subcommand_starts_with_two_examples() {
    for command in Args::command().get_subcommands() {
        let help = command.clone().render_long_help().to_string();
        let mut lines = help.lines();
        assert_eq!(lines.next(), Some("Examples:"), "{help}");
        for line in lines.by_ref().take(2) {
            assert!(line.starts_with("  client "), "{line}");
            assert!(line.contains(command.get_name()), "{line}");
        }
    }
}

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(std::iter::once("client").chain(line.split_whitespace()))
}

#[test]
fn the_first_daemon_is_meant_when_no_number_is_given() {
    for (line, expected) in [("list", 1), ("list 0", 0), ("list 7", 7)] {
        match parse(line).unwrap().command {
            Command::List(IdxArgs { idx, .. }) => assert_eq!(idx, expected, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn a_rate_that_is_none_is_answered_with_what_is_right_in_its_direction() {
    for (option, rate, says) in [
        ("--up", "-5M", "no rate is negative"),
        ("--down", "-1", "no rate is negative"),
        ("--up", "0.0", "to send nothing: client pause SHARE"),
        ("--down", "0", "to receive nothing: client pause SHARE"),
        ("--up", "", "expected off or bits per second"),
        ("--up", "--down", "expected off or bits per second"),
    ] {
        let typed = ["client", "limit", "1", option, rate];
        let error = Args::try_parse_from(typed).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("tip:"), "{error}");
    }
}
