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
