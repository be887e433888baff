//! The program `client` as scripts see it: exit codes, stdout and stderr, without a daemon.

#![expect(clippy::unwrap_used, reason = "helpers of a test may panic")]

use std::{
    fs,
    io::Read,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;
use warren_proto::{
    content::{
        describe::Content,
        hashes::HashList,
        link::Link,
        listing::{Entry, EntryKind, Listing},
        manifest::Manifest,
        path::{ShareName, SharePath},
        tree,
    },
    id::{Kind, Secret, TrackerPin},
};

#[test]
fn a_daemon_that_is_not_running_is_exit_3_with_the_line_that_starts_it() {
    let place = Place::new();
    for command in [
        &["status", "7"][..],
        &["peers", "7"],
        &["stop", "7"],
        &["remove", "film", "7"],
        &["register", "film", "7"],
    ] {
        let output = place.client(command);
        check(
            &output,
            3,
            "error[DMN-01]: daemon 7 is not running\nhint: Start it with: client daemon 7 TRACKER:PORT\n",
        );
    }
}

#[test]
fn a_stale_socket_is_a_daemon_that_is_not_running() {
    let place = Place::new();
    let folder = place.path("state/daemon-7");
    fs::create_dir_all(&folder).unwrap();
    drop(UnixListener::bind(folder.join("control.sock")).unwrap());
    check(
        &place.client(&["status", "7"]),
        3,
        "error[DMN-01]: daemon 7 is not running\n",
    );
}

#[test]
fn home_counts_before_and_after_the_subcommand_and_over_the_environment() {
    let place = Place::new();
    let folder = place.path("other/daemon-7");
    fs::create_dir_all(&folder).unwrap();
    let listener = UnixListener::bind(folder.join("control.sock")).unwrap();
    let other = place.path("other");
    let other = other.to_str().unwrap();
    for command in [
        ["--home", other, "status", "7"],
        ["status", "--home", other, "7"],
    ] {
        let mut client = place.command(&command).spawn().unwrap();
        let (mut asked, mut request) = (listener.accept().unwrap().0, [0; 14]);
        asked.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"GET /v1/status");
        drop(asked);
        assert_eq!(client.wait().unwrap().code(), Some(1));
    }
}

#[test]
fn a_home_that_was_typed_is_in_the_line_to_type() {
    let place = Place::new();
    let output = place.client(&["--home", "a b", "status", "7"]);
    check(
        &output,
        3,
        "hint: Start it with: client --home 'a b' daemon 7 TRACKER:PORT\n",
    );
}

#[test]
fn a_download_that_cannot_start_names_the_tracker_of_its_source() {
    let place = Place::new();
    fs::write(place.path("film.p2p"), file_manifest().encode()).unwrap();
    let hint = format!(
        "Start it with: client daemon 7 {TRACKER}#{}\n",
        TrackerPin([7; 16])
    );
    check(&place.client(&["download", "film.p2p", "7"]), 3, &hint);
    check(
        &place.client(&["download", &link().to_string(), "7", "--no-start"]),
        3,
        &hint,
    );
}

#[test]
fn what_is_set_says_who_said_so_and_what_is_wrong_where_it_is() {
    let place = Place::new();
    let file = place.path("config.toml");
    fs::write(&file, "up = '20M'\nmemory = 64\n\n[daemon.2]\nup = '30M'\n").unwrap();
    let shown = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command
            .env("WARREN_CONFIG", &file)
            .env("WARREN_MEMORY", "128");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        text(&output.stdout)
    };
    let line = |text: &str, key: &str| {
        let line = text
            .lines()
            .find(|line| line.split(' ').next() == Some(key));
        line.unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let at = |number: usize| format!("{}:{number}", file.display());
    let (all, second) = (shown(&["config", "1"]), shown(&["config", "2"]));
    assert_eq!(line(&all, "up"), ["up", "\"20M\"", &at(1)]);
    assert_eq!(line(&second, "up"), ["up", "\"30M\"", &at(5)]);
    assert_eq!(line(&all, "memory"), ["memory", "128", "WARREN_MEMORY"]);
    assert_eq!(line(&all, "no-relay"), ["no-relay", "false", "default"]);
    let json = shown(&["config", "2", "--json"]);
    let up = json
        .lines()
        .find(|line| line.contains(r#""key":"up""#))
        .unwrap();
    assert!(
        up.contains(r#""v":1"#) && up.contains(r#""type":"setting""#),
        "{up}"
    );
    assert!(
        up.contains(r#""from":"file""#) && up.contains(r#""line":5"#),
        "{up}"
    );

    fs::write(&file, "\nmemroy = 64\n").unwrap();
    for arguments in [&["status", "7"][..], &["config"], &["daemon", "1", "t:1"]] {
        let output = place
            .command(arguments)
            .env("WARREN_CONFIG", &file)
            .output()
            .unwrap();
        check(
            &output,
            2,
            "config.toml:2: there is no setting `memroy`\nhint: Did you mean `memory`?",
        );
    }
    // These need nothing of it.
    for arguments in [
        &["--help"][..],
        &["completions", "bash"],
        &["config", "--template"],
    ] {
        let output = place
            .command(arguments)
            .env("WARREN_CONFIG", &file)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

#[test]
fn a_template_sets_nothing_and_a_missing_file_that_was_named_is_an_error() {
    let place = Place::new();
    let template = place.client(&["config", "--template"]).stdout;
    fs::write(place.path("config.toml"), template).unwrap();
    let shown = |file: &str| text(&place.client(&["config", "--config", file]).stdout);
    assert_eq!(shown("config.toml"), shown("/dev/null"));
    let output = place.client(&["config", "--config", "missing.toml"]);
    check(&output, 2, "cannot read the settings in missing.toml");
}

#[test]
fn manual_pages_are_there_for_every_subcommand() {
    let place = Place::new();
    assert_eq!(place.client(&["man", "man"]).status.code(), Some(0));
    let help = text(&place.client(&["--help"]).stdout);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<_> = commands.take_while(|line| !line.is_empty()).collect();
    assert!(commands.len() > 10, "{help}");
    let named = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    for line in commands.into_iter().filter(named) {
        let name = line.split_whitespace().next().unwrap();
        let page = fs::read_to_string(place.path(&format!("man/client-{name}.1"))).unwrap();
        assert!(
            page.contains(&format!("client {name}").replace('-', "\\-")),
            "{page}"
        );
        assert!(page.contains(".SH EXAMPLES"), "{page}");
    }
    let first = fs::read_to_string(place.path("man/client.1")).unwrap();
    assert!(
        first.contains(".SH EXIT STATUS") && first.contains(".TP\n130\n"),
        "{first}"
    );
}

#[test]
fn completions_are_scripts_that_know_every_subcommand() {
    let place = Place::new();
    for (shell, live) in [
        ("bash", false),
        ("zsh", false),
        ("fish", false),
        ("bash", true),
    ] {
        let mut arguments = vec!["completions", shell];
        arguments.extend(live.then_some("--live"));
        let output = place.client(&arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let script = text(&output.stdout);
        assert_eq!(script.contains("WARREN_COMPLETE"), live, "{script}");
        assert!(live || script.contains("doctor"), "{script}");
        if shell == "bash" {
            fs::write(place.path("script"), script).unwrap();
            let mut bash = Command::new("bash");
            let read = bash.arg("-n").arg(place.path("script")).output().unwrap();
            assert!(read.status.success(), "{read:?}");
        }
    }
}

#[test]
fn json_errors_are_one_object_on_stdout() {
    let place = Place::new();
    let output = place.client(&["status", "7", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        text(&output.stdout),
        concat!(
            r#"{"v":1,"type":"error","code":"daemon_not_running","exit":3,"#,
            r#""message":"daemon 7 is not running","#,
            r#""hint":"Start it with: client daemon 7 TRACKER:PORT","message_code":"DMN-01"}"#,
            "\n"
        )
    );
    assert_eq!(text(&output.stderr), "");

    let output = place.client(&["status", "x", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).starts_with(r#"{"v":1,"type":"error","code":"usage","exit":2,"#));
}

#[test]
fn a_command_line_that_lacks_something_names_it_to_scripts_too() {
    let place = Place::new();
    let output = place.client(&["register", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let said: serde_json::Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(said["message_code"], "USE-01");
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("<PATH>"), "{message}");
}

#[test]
fn swapped_arguments_are_put_right() {
    let place = Place::new();
    let output = place.client(&["register", "1", "film.mkv"]);
    check(&output, 2, "client register film.mkv 1\n");
}

#[test]
fn a_code_is_explained_in_any_case_by_its_word_too_and_to_scripts() {
    let place = Place::new();
    let shown = "DISK-01: the disk is full\n";
    for code in ["DISK-01", "disk-01", "no_space"] {
        let output = place.client(&["explain", code]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).starts_with(shown));
    }
    let output = place.client(&["explain", "DISK-01", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(said["type"], "message");
    assert_eq!(
        (&said["message_code"], &said["code"]),
        (&"DISK-01".into(), &"no_space".into())
    );
    check(&place.client(&["explain", "DSIK-01"]), 9, "DISK-01");
    let all = text(&place.client(&["explain"]).stdout);
    assert!(
        all.contains("\nNET-02") && all.contains("\nSHR-01"),
        "{all}"
    );
}

#[test]
fn a_home_too_long_for_a_socket_is_named() {
    let place = Place::new();
    let home = place.path(&"x".repeat(120));
    let output = place.client(&["--home", home.to_str().unwrap(), "status", "7"]);
    check(
        &output,
        2,
        "hint: Name a shorter folder with --home DIR or WARREN_HOME.\n",
    );
}

#[test]
fn a_missing_manifest_is_exit_9() {
    let place = Place::new();
    for command in [&["inspect", "film.p2p"][..], &["download", "film.p2p", "7"]] {
        check(
            &place.client(command),
            9,
            "error[DISK-09]: there is no file film.p2p\nhint: ",
        );
    }
}

#[test]
fn a_manifest_that_is_cut_lengthened_or_changed_is_exit_6() {
    let place = Place::new();
    let good = file_manifest().encode();
    let mut lengthened = good.clone();
    lengthened.push(0);
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    for bytes in [&good[..good.len() - 1], &lengthened, &changed, b"", b"text"] {
        fs::write(place.path("film.p2p"), bytes).unwrap();
        check(&place.client(&["inspect", "film.p2p"]), 6, "]: film.p2p: ");
        check(&place.client(&["download", "film.p2p", "7"]), 6, "\nhint: ");
    }
}

#[test]
fn a_damaged_link_is_exit_6_as_a_damaged_p2p_is() {
    let place = Place::new();
    let good = link().to_string();
    for bad in [
        "p2p:",
        "p2p:abc",
        &good[..good.len() - 1],
        &format!("{good}aa"),
    ] {
        check(
            &place.client(&["inspect", bad]),
            6,
            "hint: Copy the whole link",
        );
        check(
            &place.client(&["download", bad, "7"]),
            6,
            "hint: Copy the whole link",
        );
    }
}

#[test]
fn inspect_shows_a_file_a_folder_and_a_link() {
    let place = Place::new();
    let manifest = file_manifest();
    fs::write(place.path("film.p2p"), manifest.encode()).unwrap();
    let output = place.client(&["inspect", "film.p2p"]);
    let tracker = format!("{TRACKER}#{}", TrackerPin([7; 16]));
    let id = manifest.content.id;
    assert_eq!(
        text(&output.stdout),
        format!(
            "kind        file\nname        film.mkv\nbytes       5 (5 B)\nfiles       1\n\
             chunks      1 of 64.0 KiB\ncontent id  {id}\ntracker     {tracker}\n"
        )
    );

    fs::write(place.path("tree.p2p"), tree_manifest().encode()).unwrap();
    let output = place.client(&["inspect", "tree.p2p"]);
    let shown = text(&output.stdout);
    assert!(
        shown.contains("files       1\n") && shown.contains("private     yes"),
        "{shown}"
    );
    assert!(
        shown.ends_with("         5 B  a/run.sh*\n         empty  b/\n"),
        "{shown}"
    );

    let output = place.client(&["inspect", &format!(" {} ", link())]);
    let shown = text(&output.stdout);
    assert_eq!(
        shown,
        format!("link to     a file\ncontent id  {id}\ntracker     {tracker}\n")
    );
}

#[test]
fn inspect_for_scripts_is_one_object_a_line_and_shows_no_secret() {
    let place = Place::new();
    fs::write(place.path("tree.p2p"), tree_manifest().encode()).unwrap();
    let output = place.client(&["inspect", "tree.p2p", "--json"]);
    let lines: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["type"], "manifest");
    assert_eq!(lines[0]["v"], 1);
    assert_eq!(lines[0]["kind"], "tree");
    assert_eq!(lines[0]["private"], true);
    assert_eq!(
        (&lines[1]["type"], &lines[1]["path"]),
        (&"entry".into(), &"a/run.sh".into())
    );
    assert_eq!(
        (&lines[2]["kind"], &lines[2]["path"]),
        (&"dir".into(), &"b".into())
    );
}

#[test]
fn a_command_line_that_is_none_is_exit_2_and_help_is_exit_0() {
    let place = Place::new();
    check(&place.client(&["status", "70000"]), 2, "error[USE-01]: ");
    check(&place.client(&["statsu", "7"]), 2, "status");
    let help = place.client(&["download", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).starts_with("Examples:\n  client download "));
}

const TRACKER: &str = "203.0.113.7:59000";

fn file_manifest() -> Manifest {
    let name = ShareName::parse("film.mkv").unwrap();
    let hashes = HashList::from_bytes(tree::whole_hash(b"bytes").to_vec()).unwrap();
    let content = Content::file(name, 5, hashes).unwrap();
    let tracker = format!("{TRACKER}#{}", TrackerPin([7; 16]))
        .parse()
        .unwrap();
    Manifest::new(content, vec![tracker], None)
}

fn tree_manifest() -> Manifest {
    let file = EntryKind::File {
        size: 5,
        executable: true,
        root: tree::whole_hash(b"bytes"),
    };
    let listing = Listing::new(vec![
        Entry {
            path: SharePath::parse("a/run.sh").unwrap(),
            kind: file,
        },
        Entry {
            path: SharePath::parse("b").unwrap(),
            kind: EntryKind::Dir,
        },
    ])
    .unwrap();
    let hashes = HashList::from_bytes(Vec::new()).unwrap();
    let content = Content::tree(ShareName::parse("tree").unwrap(), listing, hashes).unwrap();
    Manifest::new(content, Vec::new(), Some(Secret([9; 16])))
}

fn link() -> Link {
    let manifest = file_manifest();
    Link {
        kind: Kind::File,
        id: manifest.content.id,
        tracker: manifest.trackers[0].clone(),
        secret: None,
    }
}

/// A folder to work in, with a state folder of its own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_client")));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("WARREN_CONFIG", "/dev/null")
            .env("WARREN_HOME", self.path("state"));
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command.env_remove("RUST_LOG");
        command
    }

    fn client(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

#[track_caller]
fn check(output: &Output, exit: i32, said: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{stderr}");
    assert!(stderr.contains(said), "{stderr}");
    assert_eq!(text(&output.stdout), "");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
