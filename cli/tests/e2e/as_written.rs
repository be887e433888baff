//! Every command of the README and of the examples in `--help` is run as it is written there.
//!
//! [`PLAN`] says in which order, and what is expected of each; a command that is not there, or is there and
//! written nowhere, fails the test. Only names are put in the place of names ([`World::line`]): addresses,
//! links, codes, ids, and folders of the root.
//!
//! Not here: the lines with `curl` ([`crate::control_api`] runs them).

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    content::{MIB, random_file},
    harness::{Daemon, DaemonOptions, Place, Process, Ran, Swarm, run, tracker_program, wait_for},
};

use Step::{Ends, EndsEither, Follows, Not, Prepares, Runs, Serves};

/// What becomes of a command.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It ends with success.
    Runs,
    /// It ends with this exit code.
    Ends(i32),
    /// It ends with one of these, which depends on the machine.
    EndsEither(i32, i32),
    /// It prints something, and goes on until it is ended.
    Follows,
    /// It is a daemon, in the place of one with the same number, and goes on.
    Serves,
    /// Written nowhere: what comes after needs it.
    Prepares,
    /// It is not run here, for this reason.
    Not(&'static str),
}

const NAME: &str = "the name of a command, not a whole one";
const BUILDS: &str = "builds or tests everything, as this does that it is part of";
const SYSTEM: &str = "needs systemd, or root; services.rs tries it in a folder of its own";
const PORTS: &str = "takes ports that may be taken here; the tracker's own tests choose theirs";
const CURL: &str = "control_api.rs runs it, in the folder that it is meant for";

const PLAN: &[(&str, Step)] = &[
    ("cargo build --release", Not(BUILDS)),
    ("./scripts/demo [FILE]", Not(BUILDS)),
    ("./scripts/test", Not(BUILDS)),
    ("scripts/package", Not(BUILDS)),
    ("scripts/bench", Not(NAME)),
    ("scripts/bench --help", Runs),
    ("scripts/install tracker", Not(SYSTEM)),
    ("scripts/install daemon --tracker ADDRESS", Not(SYSTEM)),
    ("systemctl enable --now warren-tracker", Not(SYSTEM)),
    ("systemctl --user enable --now warren-daemon@1", Not(SYSTEM)),
    ("sudo setcap cap_net_bind_service=+ep tracker", Not(SYSTEM)),
    (
        "stun tracker.example:59000",
        Not("needs the package stun-client"),
    ),
    ("tracker --public tracker.example:59000", Not(PORTS)),
    ("tracker --alt-address IP", Not(PORTS)),
    ("tracker --also-at IP", Not(PORTS)),
    ("client inspect", Not(NAME)),
    ("client remove", Not(NAME)),
    ("client daemon", Not(NAME)),
    ("client download", Not(NAME)),
    ("client revoke", Not(NAME)),
    ("client verify", Not(NAME)),
    // Daemons.
    (
        "client daemon 1 tracker.example:59000#vf277kwl7malsgyd224lhon3ay",
        Serves,
    ),
    (
        "client daemon 2 203.0.113.7:59000#KEY --downloads /data/shared",
        Serves,
    ),
    ("client daemon ... --no-relay", Serves),
    ("client daemon ... --relay-only", Serves),
    ("client daemon ... --relay-for-swarm 20M", Serves),
    ("client daemon 1 ... --up 20M --down 100M", Serves),
    ("client daemon 1 tracker.example:59000", Serves),
    // One file.
    ("client inspect movie.p2p", Runs),
    ("client inspect film.p2p", Runs),
    ("client inspect p2p:dpw3... --json", Runs),
    ("client download movie.p2p 1", Runs),
    ("client list", Runs),
    ("client list 1 --json", Runs),
    ("client status 1", Runs),
    ("client status 1 --json", Runs),
    ("client peers 1", Runs),
    ("client peers 1 --json", Runs),
    ("client doctor 1", EndsEither(0, 1)),
    ("client doctor 1 --json", EndsEither(0, 1)),
    ("client logs", Runs),
    ("client logs -f", Follows),
    ("client logs 1 -f --lines 20", Follows),
    ("client pause movie.mkv", Runs),
    ("client resume movie.mkv", Runs),
    ("client pause 9f86d081884c 1 --json", Runs),
    ("client resume 9f86d081884c 1 --json", Runs),
    ("client verify 9f86d081884c 1 --json", Runs),
    ("client link movie.mkv", Runs),
    ("client link movie.mkv 1 --qr", Runs),
    ("client limit 1", Runs),
    ("client limit 1 --up 20M --down off", Runs),
    ("client limit 1 --share movie.mkv --up 2M", Runs),
    // What is complete is not cancelled, and nobody is asked about it.
    ("client cancel movie.mkv", Ends(8)),
    ("client cancel 9f86d081884c 1 --yes", Ends(8)),
    ("client remove 9f86d081884c 1 --data --yes", Runs),
    ("client download p2p:dpw3... 1 --json", Runs),
    ("client remove movie.mkv 1", Runs),
    ("client remove 9f86d081884c 1 --data --yes", Ends(9)),
    ("rm downloads/daemon-1/movie.mkv", Prepares),
    ("client download p2p:dpw3... 1", Runs),
    ("client remove movie.mkv 1", Runs),
    ("client register movie.mkv 1", Runs),
    (
        "client register movie.mkv 1 --code --code-expires 10m --once",
        Runs,
    ),
    // One that was said.
    ("client download 7-film-alibi 1", Runs),
    ("client download film.p2p 1", Runs),
    ("client pause film.mkv", Runs),
    ("client resume film.mkv", Runs),
    ("client link film.mkv --qr", Runs),
    ("client cancel film.mkv", Ends(8)),
    ("client cancel film.mkv 1", Ends(8)),
    ("client remove film.mkv 1", Runs),
    ("client register film.mkv 1", Runs),
    ("client register film.mkv 1 --code", Runs),
    // For a while, for a few, and elsewhere.
    ("client expire film.mkv 7d", Runs),
    ("client relocate film.mkv /data/film.mkv", Runs),
    ("client revoke film.mkv", Runs),
    (
        "client register movie.mkv 1 --expire 7d --max-downloads 3",
        Runs,
    ),
    ("client expire movie.mkv 7d", Runs),
    ("mkdir films && mv movie.mkv films/", Prepares),
    ("client relocate movie.mkv /data/films/movie.mkv", Runs),
    ("client revoke movie.mkv", Runs),
    ("client remove movie.mkv 1", Prepares),
    ("rm -r films", Prepares),
    (
        "client download movie.p2p 1 --to /data/films --if-exists resume --yes",
        Runs,
    ),
    ("client expire 9f86d081884c never 1", Runs),
    // That is a folder of other things.
    ("client relocate 9f86d081884c ../photos 1", Ends(6)),
    ("client revoke 9f86d081884c 1 --json", Runs),
    // A folder.
    ("client inspect photos.p2p --only '2024/*.jpg'", Runs),
    (
        "client inspect photos.p2p --only '2024/**/*.jpg' --only notes",
        Runs,
    ),
    (
        "client download photos.p2p 1 --only '2024/*.jpg' --only notes",
        Runs,
    ),
    ("client select photos 1 --only 2024 --except '*.raw'", Runs),
    (
        "client download photos.p2p 1 --only '2024/**/*.jpg' --only notes",
        Runs,
    ),
    ("client select photos 1 --only GLOB", Runs),
    ("client select photos 1 --all", Runs),
    ("client select photos 1 --all --stream", Runs),
    ("client verify photos", Runs),
    ("client remove photos 1", Prepares),
    (
        "client register photos/ 1 -o /tmp/photos.p2p --skip-special",
        Runs,
    ),
    // One that changes: ours, and then that of others.
    ("client register photos/ 1 --update", Runs),
    ("touch photos/f.jpg", Prepares),
    ("client register photos 1 --update", Runs),
    ("client remove photos 1", Prepares),
    ("rm -r downloads/daemon-1/photos", Prepares),
    ("client follow p2p:irty... 1", Runs),
    ("client unfollow photos", Runs),
    ("client follow p2p:irty... 1 --json", Runs),
    ("client unfollow photos 1", Runs),
    ("client follow p2p:irtyv3s2... 1", Runs),
    ("client follow LINK 1", Runs),
    // That is no share which is followed.
    ("client unfollow 9f86d081884c 1", Ends(9)),
    // Where there is no terminal there is no screen.
    ("client top", Ends(2)),
    ("client top 1", Ends(2)),
    // What no daemon is asked for.
    ("client explain", Runs),
    ("client explain DISK-01", Runs),
    ("client explain NET-02", Runs),
    ("client config 1", Runs),
    ("client config --template", Runs),
    (
        "client config --template > ~/.config/warren/config.toml",
        Runs,
    ),
    (
        "client completions bash > ~/.local/share/bash-completion/completions/client",
        Runs,
    ),
    ("client completions zsh --live > ~/.zfunc/_client", Runs),
    ("source <(client completions bash --live)", Runs),
    ("client man ~/.local/share/man/man1", Runs),
    ("client man /tmp/man", Runs),
    ("client man DIR", Runs),
    ("tracker --man DIR", Runs),
    ("tracker --show-config", Runs),
    ("tracker --config-template", Runs),
    (
        "curl --unix-socket ~/.local/state/warren/daemon-1/control.sock http://warren/v1/attempts",
        Runs,
    ),
    ("cd ~/.local/state/warren/daemon-1", Not(CURL)),
    // The end.
    ("client stop 1", Runs),
    ("client daemon 1 tracker.example:59000", Serves),
    ("client --home /srv/warren stop 1", Runs),
];

#[test]
fn every_command_of_the_readme_and_of_help_is_in_the_plan_and_nothing_else_is() {
    let place = Place::new();
    let written: BTreeSet<String> = readme().into_iter().chain(help(&place)).collect();
    let is_curl = |line: &str| line.starts_with("curl --unix-socket control.sock ");
    let written: BTreeSet<&str> = written.iter().map(String::as_str).collect();
    let written: BTreeSet<&str> = written.into_iter().filter(|it| !is_curl(it)).collect();
    assert!(written.len() > 80, "{written:?}");
    let planned = PLAN.iter().filter(|(_, step)| !matches!(step, Prepares));
    let planned: BTreeSet<&str> = planned.map(|(line, _)| *line).collect();
    let missing: Vec<_> = written.difference(&planned).collect();
    assert!(missing.is_empty(), "not in the plan: {missing:#?}");
    let stale: Vec<_> = planned.difference(&written).collect();
    assert!(stale.is_empty(), "written nowhere: {stale:#?}");
}

#[test]
fn every_command_of_the_readme_and_of_help_does_what_it_is_written_for() {
    let mut world = World::new();
    for (line, step) in PLAN {
        eprintln!("{line}");
        world.take(line, *step);
    }
}

/// A folder with what the commands are about: a tracker, and a daemon that shares what they download.
struct World {
    swarm: Swarm,
    theirs: Daemon,
    link: String,
    /// Of their photos, which others can follow.
    follow_link: String,
    id: String,
    /// Daemons that commands have started.
    running: Vec<Process>,
}

impl World {
    fn new() -> World {
        let swarm = Swarm::start();
        let theirs = swarm.daemon(3);
        for folder in [
            "theirs/photos/2024",
            "theirs/photos/notes",
            "photos",
            ".config/warren",
            "elsewhere",
        ] {
            fs::create_dir_all(swarm.path(folder)).unwrap();
        }
        for folder in [
            ".zfunc",
            ".local/share/bash-completion/completions",
            ".local/state",
        ] {
            fs::create_dir_all(swarm.path(folder)).unwrap();
        }
        std::os::unix::fs::symlink(swarm.place().home(), swarm.path(".local/state/warren"))
            .unwrap();
        let files = ["2024/a.jpg", "2024/b.raw", "notes/c.txt", "d.jpg"];
        for (seed, name) in (0..).zip(files) {
            swarm.file(&format!("theirs/photos/{name}"), 1000, seed);
        }
        for (seed, name) in (10..).zip(["movie.mkv", "film.mkv", "photos/e.jpg"]) {
            random_file(&swarm.path(name), MIB, seed);
        }
        for (seed, name) in (20..).zip(["movie.mkv", "film.mkv"]) {
            swarm.file(&format!("theirs/{name}"), MIB, seed);
        }
        let [movie, ..] = ["movie.mkv", "film.mkv", "photos"].map(|name| {
            let registered = theirs.register(&swarm.path(&format!("theirs/{name}")));
            let stem = Path::new(name).with_extension("p2p");
            fs::copy(&registered.manifest, swarm.path(stem.to_str().unwrap())).unwrap();
            registered
        });
        let photos = theirs.try_register(&swarm.path("theirs/photos"), &["--update"]);
        World {
            follow_link: photos.expect(0).stdout.lines().last().unwrap().to_owned(),
            link: movie.link.unwrap(),
            id: movie.content_id,
            swarm,
            theirs,
            running: Vec::new(),
        }
    }

    /// The line with names that are some here.
    fn line(&self, line: &str) -> String {
        let contact = format!("{}#{}", self.swarm.tracker.address, self.swarm.tracker.key);
        let folder = self.swarm.path("");
        let folder = folder.to_str().unwrap().trim_end_matches('/');
        let mut line = line.to_owned();
        for (name, ours) in [
            // First, as our own folders are there.
            ("/tmp/", format!("{folder}/elsewhere/").as_str()),
            (
                "tracker.example:59000#vf277kwl7malsgyd224lhon3ay",
                contact.as_str(),
            ),
            ("tracker.example:59000", &contact),
            ("203.0.113.7:59000#KEY", &contact),
            ("daemon 1 ...", &format!("daemon 1 {contact}")),
            ("daemon ...", &format!("daemon 1 {contact}")),
            ("p2p:dpw3...", &self.link),
            ("p2p:irtyv3s2...", &self.follow_link),
            ("p2p:irty...", &self.follow_link),
            ("LINK", &self.follow_link),
            ("9f86d081884c", &self.id[..12]),
            ("/srv/warren", &format!("{folder}/h")),
            ("/data/", &format!("{folder}/")),
            ("../photos", "photos"),
            ("GLOB", "'*.jpg'"),
            ("DIR", "pages"),
        ] {
            line = line.replace(name, ours);
        }
        match line.contains("7-film-alibi") {
            true => line.replace("7-film-alibi", &self.code()),
            false => line,
        }
    }

    /// A code for the film.
    fn code(&self) -> String {
        let film = self.swarm.path("theirs/film.mkv");
        let ran = self.theirs.try_register(&film, &["--code"]).expect(0);
        ran.stdout.lines().last().unwrap().to_owned()
    }

    fn take(&mut self, line: &str, step: Step) {
        let ours = self.line(line);
        match step {
            Not(why) => eprintln!("  not run: {why}"),
            Runs | Prepares => {
                // What the line before has begun may still be at work, which says to try again.
                let is_settled =
                    |ran: &Ran| ran.code == 0 || !format!("{ran:?}").contains("SHR-03");
                let ran = wait_for(line, || Some(self.run(&ours)).filter(is_settled));
                ran.expect(0);
            }
            Ends(code) => drop(self.run(&ours).expect(code)),
            EndsEither(one, other) => {
                let ran = self.run(&ours);
                assert!([one, other].contains(&ran.code), "{ran:#?}");
            }
            Follows => {
                let process = Process::spawn(line, &mut self.shell(&format!("exec {ours}")));
                assert!(process.stdout.wait_line(0).is_some(), "it says nothing");
            }
            Serves => self.serve(&ours),
        }
    }

    /// Starts a daemon, once the one with its number has ended.
    fn serve(&mut self, line: &str) {
        let idx = line.split(' ').nth(2).unwrap();
        let status = format!("client status {idx} --json");
        if self.run(&status).code == 0 {
            self.run(&format!("client stop {idx}")).expect(0);
        }
        let daemon = Process::spawn(line, &mut self.shell(&format!("exec {line}")));
        wait_for(&format!("{line} to reach its tracker"), || {
            assert_eq!(daemon.exited(), None, "{}", daemon.stderr.text());
            let said = self.run(&status).stdout;
            said.contains(r#""connected":true"#).then_some(())
        });
        self.running.push(daemon);
    }

    fn run(&self, line: &str) -> Ran {
        run(&mut self.shell(line))
    }

    fn shell(&self, line: &str) -> std::process::Command {
        let programs = tracker_program().parent().unwrap().to_str().unwrap();
        let path = std::env::var("PATH").unwrap();
        let line = match line.strip_prefix("scripts/") {
            Some(script) => format!("{}/../scripts/{script}", env!("CARGO_MANIFEST_DIR")),
            None => line.to_owned(),
        };
        let mut shell = self.swarm.place().command("bash");
        shell.env("PATH", format!("{programs}:{path}"));
        shell.args(["-c", &line]);
        shell
    }
}

/// What the README has people type: lines after a prompt, of scripts, and within text.
fn readme() -> Vec<String> {
    let text = include_str!("../../../README.md");
    let mut commands = Vec::new();
    let mut between = String::new();
    for (number, part) in text.split("```").enumerate() {
        let (kind, block) = part.split_once('\n').unwrap_or((part, ""));
        match (number % 2, kind) {
            (0, _) => between.push_str(part),
            (_, "console") => {
                let typed = block.lines().filter_map(|line| line.strip_prefix("$ "));
                commands.extend(typed.map(without_comment));
            }
            (_, "sh") => commands.extend(block.lines().map(without_comment)),
            _ => (),
        }
    }
    let spans = between.split('`').skip(1).step_by(2);
    let spans = spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "));
    commands.extend(spans.filter(|span| is_command(span)));
    commands
}

/// Whether what stands in the middle of text is something to type.
fn is_command(span: &str) -> bool {
    let programs = [
        "client",
        "tracker",
        "sudo",
        "systemctl",
        "source",
        "curl",
        "stun",
        "cargo",
    ];
    match span.split_once(' ') {
        Some((program, _)) => programs.contains(&program) || program.starts_with("scripts/"),
        None => ["scripts/bench", "scripts/package"].contains(&span),
    }
}

/// The examples in the help of the program and of each of its subcommands.
fn help(place: &Place) -> Vec<String> {
    let asked = |words: &[&str]| {
        run(place.client().args(words).arg("--help"))
            .expect(0)
            .stdout
    };
    let whole = asked(&[]);
    let commands = whole
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    assert!(names.len() >= 20, "{names:?}");
    let mut examples = examples_of(&whole);
    for name in names {
        let its = examples_of(&asked(&[name]));
        assert!(its.len() >= 2, "{name}: {its:?}");
        examples.extend(its);
    }
    examples
}

fn examples_of(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    lines.map(|line| without_comment(line.trim())).collect()
}

/// Comments stand after two blanks and more.
fn without_comment(line: &str) -> String {
    line.split("  ").next().unwrap_or(line).trim().to_owned()
}

#[test]
fn a_new_user_who_knows_only_help_gets_everything_done_in_one_or_two_commands() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    for (seed, name) in (0..).zip(["one.jpg", "two.jpg", "three.jpg"]) {
        fs::create_dir_all(swarm.path("photos")).unwrap();
        swarm.file(&format!("photos/{name}"), 4 * MIB, seed);
    }
    let client = |line: &str| {
        swarm
            .client(&line.split(' ').collect::<Vec<_>>())
            .expect(0)
            .stdout
    };
    // To share a folder: register.
    let said = client("register photos 1");
    let manifest = said.lines().next().unwrap();
    // To limit to 5 MB/s: limit, of which help says that it is bits.
    let shown = client("limit 2 --down 40M");
    assert!(shown.contains("40 Mbit/s"), "{shown}");
    // To pick two files: download with --only.
    let path = client(&format!(
        "download {manifest} 2 --only one.jpg --only two.jpg"
    ));
    let arrived = fs::read_dir(path.trim()).unwrap().count();
    assert_eq!(arrived, 2);
    // To stop for a while and to go on: pause and resume. To give it up: cancel.
    let slow = client("limit 2 --down 500k");
    assert!(slow.contains("500 kbit/s"), "{slow}");
    client("select photos 2 --all");
    assert!(client("pause photos 2").contains("  paused  "));
    assert!(client("resume photos 2").contains("photos"));
    client("cancel photos 2 --yes");
    let left = fs::read_dir(path.trim()).unwrap().count();
    assert_eq!(left, 2, "files that are complete stay");
    drop((ours, theirs));
    // To find out why a peer is relayed: peers shows that it is, doctor says more.
    let hidden = swarm.daemon_with(4, DaemonOptions::of(&["--relay-only"]));
    hidden.until_connected();
    let ours = swarm.daemon(5);
    let file = swarm.file("film.mkv", MIB, 9);
    let link = ours.register(&file).link.unwrap();
    client(&format!("download {link} 4"));
    let shown = client("peers 4");
    assert!(shown.contains("  relay  "), "{shown}");
    let ours_is = "since this daemon was started with --relay-only";
    assert!(shown.contains(ours_is), "{shown}");
    let why = client("doctor 4");
    for part in [
        "through the tracker with 1; with it no direct path is allowed, as this daemon was started with \
         --relay-only.",
        "do: Start it without --relay-only, if peers may learn the address of this machine.",
    ] {
        assert!(why.contains(part), "{why}");
    }
    // The same on the other side.
    let shown = client("peers 5");
    let theirs_is = "since the peer was started with --relay-only";
    assert!(shown.contains(theirs_is), "{shown}");
    let why = client("doctor 5");
    let theirs_is = "; it was started with --relay-only, so no direct path is allowed.";
    assert!(why.contains(theirs_is), "{why}");
}
