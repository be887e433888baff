//! The program `client` against a daemon that answers from a script: what a person and a program
//! see of a register, a download and its interruption.

#![expect(clippy::unwrap_used, reason = "helpers of a test may panic")]

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use warren_daemon::{
    control::{
        api::{self, Control},
        model::*,
    },
    log::Log,
};

const LINK: &str = "p2p:";

#[tokio::test]
async fn a_register_prints_the_manifest_and_the_link_alone_on_stdout() {
    let daemon = Daemon::start(vec![registered()]);
    let output = daemon
        .client(&["register", "a film.mkv", "7", "-o", "x.p2p"])
        .await;
    check(&output, 0, &format!("/d/film.p2p\n{LINK}abc\n"));
    assert_eq!(
        text(&output.stderr),
        "shared /d/film.mkv: 1 file, 3.0 KiB, id 00ff\n"
    );
    let asked = daemon.control.asked();
    let folder = daemon.folder.path();
    let (path, manifest) = (folder.join("a film.mkv"), folder.join("x.p2p"));
    assert_eq!(
        asked,
        format!("register {} {}", path.display(), manifest.display())
    );
}

#[tokio::test]
async fn a_code_is_the_third_line_and_where_there_is_none_the_rest_is_printed_all_the_same() {
    let Event::Registered(plain) = registered() else {
        unreachable!()
    };
    let given = CodeGiven {
        code: "7-film-alibi".into(),
        expires_s: 600,
        once: true,
    };
    let with_code = Registered {
        code: Some(given),
        ..plain.clone()
    };
    let daemon = Daemon::start(vec![Event::Registered(with_code)]);
    let command = ["register", "film.mkv", "7", "--code"];
    let output = daemon.client(&command).await;
    let lines = format!("/d/film.p2p\n{LINK}abc\n");
    check(&output, 0, &format!("{lines}7-film-alibi\n"));
    let said = text(&output.stderr);
    assert!(
        said.ends_with(
            "the first who types it at this tracker can fetch it, for 10 min 0 s and while this \
             daemon runs: client download 7-film-alibi\n"
        ),
        "{said}"
    );

    let without = Registered {
        no_code: Some(ApiError::new("none", exit::TRACKER_UNREACHABLE, "m", "h")),
        publisher: None,
        sequence: None,
        follow_link: None,
        ..plain
    };
    let daemon = Daemon::start(vec![Event::Registered(without)]);
    let output = daemon.client(&command).await;
    check(&output, 4, &lines);
    assert!(text(&output.stderr).ends_with("]: m\nhint: h\n"));
}

#[tokio::test]
async fn a_code_is_opened_first_and_one_with_a_wrong_word_never_leaves_the_program() {
    let daemon = Daemon::start(vec![done()]);
    let output = daemon.client(&["download", "7 FILM ali", "7"]).await;
    assert_eq!(daemon.control.asked(), "open 7-film-alibi");
    assert_eq!(output.status.code(), Some(8));
    let daemon = Daemon::start(vec![done()]);
    let output = daemon.client(&["download", "7-flim-alibi", "7"]).await;
    check(&output, 2, "");
    assert_eq!(
        text(&output.stderr),
        "error[CODE-01]: no code has the word flim\nhint: Did you mean film? Nothing was sent.\n"
    );
    assert_eq!(daemon.control.asked(), "");
}

#[tokio::test]
async fn json_is_every_event_as_the_daemon_sent_it() {
    let events = vec![waiting(), done()];
    let daemon = Daemon::start(events.clone());
    let output = daemon
        .client(&["download", &daemon.manifest(), "7", "--json"])
        .await;
    let lines: Vec<String> = events.iter().map(|event| event.to_json() + "\n").collect();
    check(&output, 0, &lines.concat());
    assert_eq!(text(&output.stderr), "");
}

#[tokio::test]
async fn json_says_nothing_twice_in_a_row() {
    let events = vec![waiting(), waiting(), done()];
    let daemon = Daemon::start(events);
    let output = daemon
        .client(&["download", &daemon.manifest(), "7", "--json"])
        .await;
    let lines = [waiting(), done()].map(|event| event.to_json() + "\n");
    check(&output, 0, &lines.concat());
}

#[tokio::test]
async fn a_download_says_that_it_waits_and_prints_where_the_content_is() {
    let daemon = Daemon::start(vec![waiting(), done()]);
    let output = daemon.client(&["download", &daemon.manifest(), "7"]).await;
    check(&output, 0, "/d/film.mkv\n");
    assert_eq!(
        text(&output.stderr),
        "film.mkv: 0 %, 0 B of 3.0 KiB, 0 peers; no peer has it yet; waiting\n\
         3.0 KiB verified in 1.5 s, id 00ff\n"
    );
}

#[tokio::test]
async fn what_a_choice_left_out_is_told_with_the_command_that_fetches_it() {
    for (selected, of, left_out) in [
        (12, 12, None),
        (11, 12, Some("1 file left out")),
        (3, 12, Some("9 files left out")),
    ] {
        let files = Some(FileCounts { selected, of });
        let daemon = Daemon::start(vec![Event::Done(Done {
            content_id: "0123456789abcdef".into(),
            files,
            ..whole()
        })]);
        let output = daemon.client(&["download", &daemon.manifest(), "7"]).await;
        check(&output, 0, "/d/film.mkv\n");
        let told = text(&output.stderr);
        match left_out {
            Some(left_out) => {
                assert!(told.contains(left_out), "{told}");
                assert!(told.ends_with("select 0123456789ab 7 --all\n"), "{told}");
            }
            None => assert!(!told.contains("left out"), "{told}"),
        }
    }
}

#[tokio::test]
async fn an_error_of_the_daemon_is_shown_and_gives_the_exit_code() {
    let error = ApiError::new(
        "no_space",
        exit::DISK,
        "no space for film.mkv",
        "Free 3 KiB.",
    );
    let daemon = Daemon::start(vec![waiting(), error.into()]);
    let output = daemon.client(&["download", &daemon.manifest(), "7"]).await;
    check(&output, 7, "");
    assert!(
        text(&output.stderr)
            .ends_with("error[DISK-01]: no space for film.mkv\nhint: Free 3 KiB.\n"),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test]
async fn a_daemon_that_ends_in_the_middle_is_exit_3() {
    let daemon = Daemon::start(vec![waiting()]);
    let manifest = daemon.manifest();
    let mut client = daemon
        .command(&["download", &manifest, "7"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(client.stderr.take().unwrap()).lines();
    lines.next_line().await.unwrap().unwrap();
    daemon.control.stop.cancel();
    let error = lines.next_line().await.unwrap().unwrap();
    assert_eq!(
        error,
        "error[DMN-05]: daemon 7 stopped before this was complete"
    );
    assert_eq!(client.wait().await.unwrap().code(), Some(3));
}

#[tokio::test]
async fn ctrl_c_leaves_a_download_to_the_daemon_and_says_how_to_cancel_it() {
    let daemon = Daemon::start(vec![waiting()]);
    let manifest = daemon.manifest();
    let (code, said) = interrupt(&daemon, &["download", &manifest, "7"]).await;
    assert_eq!(code, Some(130));
    let id = &file_manifest().content.id.to_string()[..12];
    assert_eq!(
        said,
        format!(
            "error[USE-15]: interrupted; the download goes on in daemon 7\n\
             hint: To cancel it: client cancel {id} 7\n"
        )
    );
}

#[tokio::test]
async fn ctrl_c_cancels_a_register() {
    let daemon = Daemon::start(vec![waiting()]);
    let (code, said) = interrupt(&daemon, &["register", "film.mkv", "7"]).await;
    assert_eq!(code, Some(130));
    assert!(
        said.starts_with("error[USE-15]: interrupted; nothing was registered\n"),
        "{said}"
    );
    daemon.control.left.cancelled().await;
}

#[tokio::test]
async fn lists_are_lines_for_people_and_objects_for_programs() {
    let daemon = Daemon::start(Vec::new());
    let output = daemon.client(&["status", "7"]).await;
    check(
        &output,
        0,
        "tracker t.example:59000#key  connected\n\
         port mapping  router opened UDP port 6000 (PCP)\n\
         ab  seeding  5 B  film\n",
    );
    let output = daemon.client(&["status", "7", "--json"]).await;
    let lines: Vec<String> = status()
        .iter()
        .map(|event| event.to_json() + "\n")
        .collect();
    check(&output, 0, &lines.concat());
    let output = daemon.client(&["peers", "7"]).await;
    check(&output, 0, "");
    assert_eq!(text(&output.stderr), "no peer is connected\n");
}

#[tokio::test]
async fn shares_are_a_table_for_people_and_objects_for_programs() {
    let daemon = Daemon::start(Vec::new());
    let output = daemon.client(&["list", "7"]).await;
    let table = "ID  STATE     DONE  SIZE  PEERS  NAME\n\
                 ab  seeding  100 %   5 B      0  film\n";
    check(&output, 0, table);
    let output = daemon.client(&["list", "7", "--json"]).await;
    check(&output, 0, &(status().pop().unwrap().to_json() + "\n"));
}

#[tokio::test]
async fn a_share_is_paused_resumed_cancelled_and_removed_by_what_it_is_called() {
    let daemon = Daemon::start(Vec::new());
    for (command, said, asked) in [
        (
            &["pause", "film", "7"][..],
            "ab  paused  5 B  film\n",
            "pause film",
        ),
        (
            &["resume", "film", "7"],
            "ab  seeding  5 B  film\n",
            "resume film",
        ),
        (
            &["cancel", "film", "7", "--yes"],
            "film is cancelled\n",
            "cancel film",
        ),
        (&["remove", "film", "7"], "film is removed\n", "remove film"),
        (
            &["remove", "film", "7", "--data", "--yes"],
            "film is removed, and its data are deleted\n",
            "remove film and data",
        ),
    ] {
        check(&daemon.client(command).await, 0, said);
        assert_eq!(daemon.control.asked(), asked);
    }
    let output = daemon.client(&["pause", "film", "7", "--json"]).await;
    check(&output, 0, &(paused().to_json() + "\n"));
}

#[tokio::test]
async fn nothing_is_deleted_where_nobody_can_be_asked() {
    let daemon = Daemon::start(Vec::new());
    for command in [
        &["cancel", "unfinished", "7"][..],
        &["remove", "film", "7", "--data"],
    ] {
        let output = daemon.client(command).await;
        check(&output, 2, "");
        let said = text(&output.stderr);
        assert!(
            said.starts_with("error[USE-17]: nobody can be asked"),
            "{said}"
        );
        assert_eq!(daemon.control.asked(), "");
    }
    // What is complete is not cancelled, so that nobody need be asked.
    let output = daemon.client(&["cancel", "film", "7"]).await;
    check(&output, 8, "");
    assert_eq!(daemon.control.asked(), "");
}

#[tokio::test]
async fn a_link_is_printed_and_drawn() {
    let daemon = Daemon::start(Vec::new());
    check(&daemon.client(&["link", "film", "7"]).await, 0, "p2p:abc\n");
    let output = daemon.client(&["link", "film", "7", "--qr"]).await;
    let drawn = text(&output.stdout);
    assert!(
        drawn.starts_with("\u{2588}\u{2588}") && drawn.ends_with("\np2p:abc\n"),
        "{drawn}"
    );
    let output = daemon.client(&["link", "film", "7", "--json"]).await;
    let json = r#"{"v":1,"type":"link","content_id":"ab","name":"film","link":"p2p:abc"}"#;
    check(&output, 0, &format!("{json}\n"));
}

#[tokio::test]
async fn what_is_there_already_is_not_called_verified() {
    let done = Done {
        already: true,
        ..whole()
    };
    let daemon = Daemon::start(vec![Event::Done(done)]);
    let output = daemon.client(&["download", &daemon.manifest(), "7"]).await;
    check(&output, 0, "/d/film.mkv\n");
    assert_eq!(text(&output.stderr), "3.0 KiB are there already, id 00ff\n");
}

#[tokio::test]
async fn a_verification_says_what_it_found() {
    for (repaired_bytes, said) in [
        (Some(0), "all 3.0 KiB are right\n"),
        (
            Some(1024),
            "1.0 KiB were wrong or missing and were fetched again; all 3.0 KiB are right now\n",
        ),
    ] {
        let done = Done {
            repaired_bytes,
            ..whole()
        };
        let daemon = Daemon::start(vec![Event::Done(done)]);
        let output = daemon.client(&["verify", "film", "7"]).await;
        check(&output, 0, "/d/film.mkv\n");
        assert_eq!(text(&output.stderr), said);
        assert_eq!(daemon.control.asked(), "verify film");
    }
}

#[tokio::test]
async fn the_log_is_printed_and_followed_until_the_daemon_ends() {
    use std::io::Write;

    let daemon = Daemon::start(Vec::new());
    let mut log = daemon.control.log.clone();
    log.write_all(b"one\n").unwrap();
    log.write_all(b"two \x1b[31m\n").unwrap();
    let output = daemon.client(&["logs", "7", "-n", "1"]).await;
    check(&output, 0, "two \\u{1b}[31m\n");
    let mut client = daemon.command(&["logs", "7", "-f"]).spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "one");
    lines.next_line().await.unwrap().unwrap();
    log.write_all(b"three\n").unwrap();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "three");
    daemon.control.stop.cancel();
    assert_eq!(client.wait().await.unwrap().code(), Some(3));
}

#[tokio::test]
async fn a_quiet_download_says_nothing_but_its_result() {
    let daemon = Daemon::start(vec![waiting(), done()]);
    let output = daemon
        .client(&["download", &daemon.manifest(), "7", "--quiet"])
        .await;
    check(&output, 0, "/d/film.mkv\n");
    assert_eq!(text(&output.stderr), "");
}

#[tokio::test]
async fn nobody_waits_for_what_is_complete_however_impatient() {
    let complete = Event::Progress(Progress {
        verified_bytes: 3072,
        bytes: 3072,
        ..Progress::default()
    });
    let daemon = Daemon::start(vec![complete, done()]);
    let output = daemon
        .client(&["download", &daemon.manifest(), "7", "--timeout", "0"])
        .await;
    check(&output, 0, "/d/film.mkv\n");
}

#[tokio::test]
async fn a_source_is_read_from_stdin_too() {
    use tokio::io::AsyncWriteExt;

    let manifest = file_manifest().encode();
    for source in [manifest, b" 00".to_vec()] {
        let daemon = Daemon::start(vec![done()]);
        let mut command = daemon.command(&["download", "-", "7"]);
        let mut client = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = client.stdin.take().unwrap();
        stdin.write_all(&source).await.unwrap();
        drop(stdin);
        let output = client.wait_with_output().await.unwrap();
        let expected = if source.len() > 3 { 0 } else { 6 };
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{}",
            text(&output.stderr)
        );
    }
}

#[tokio::test]
async fn limits_are_shown_as_they_are_once_they_are_changed() {
    let daemon = Daemon::start(Vec::new());
    let asked = ["limit", "7", "--up", "2.5M", "--background", "on"];
    let output = daemon.client(&asked).await;
    check(
        &output,
        0,
        "limits  up 2.5 Mbit/s, down off, in the background\n",
    );
}

#[tokio::test]
async fn doctor_prints_what_was_found_and_ends_with_the_exit_code_of_the_summary() {
    for exit in [0, 1, 4] {
        let daemon = Daemon::start(diagnosis(exit));
        let output = daemon.client(&["doctor", "7"]).await;
        let expected = "error    PEER-04  None was reached.\n                  do: Ask.\n\
                        2 peers tried: 0 direct, 0 relayed, 2 failed\n";
        check(&output, i32::from(exit), expected);
        assert_eq!(text(&output.stderr), "");
        let output = daemon.client(&["doctor", "7", "--json"]).await;
        let events = diagnosis(exit).into_iter();
        let lines: Vec<String> = events.map(|event| event.to_json() + "\n").collect();
        check(&output, i32::from(exit), &lines.concat());
    }
    // A daemon that is stopping answers nothing.
    let daemon = Daemon::start(Vec::new());
    let output = daemon.client(&["doctor", "7"]).await;
    check(&output, 3, "");
    assert!(text(&output.stderr).starts_with("error[DMN-07]: the daemon is stopping\n"));
}

#[tokio::test]
async fn remove_and_stop_succeed_once_the_daemon_confirmed() {
    let daemon = Daemon::start(Vec::new());
    check(
        &daemon.client(&["remove", "film", "7"]).await,
        0,
        "film is removed\n",
    );
    assert_eq!(daemon.control.asked(), "remove film");
    let output = daemon.client(&["remove", "other", "7"]).await;
    check(&output, 9, "");
    check(
        &daemon.client(&["stop", "7"]).await,
        0,
        "daemon 7 is stopped\n",
    );
    assert!(!daemon.socket().exists());
    daemon.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_selection_is_sent_as_it_was_typed_and_the_share_is_shown() {
    let daemon = Daemon::start(Vec::new());
    let pick = ["--only", "a", "--only", "b/*", "--first", "c", "--stream"];
    let mut command = vec!["select", "film", "7"];
    command.extend(pick);
    let output = daemon.client(&command).await;
    check(&output, 0, "ab  seeding  5 B  film\n");
    assert_eq!(
        daemon.control.asked(),
        r#"select {"share":"film","files":{"only":["a","b/*"]},"first":["c"],"order":"sequential"}"#
    );
    daemon
        .client(&["select", "film", "7", "--all", "--rarest"])
        .await;
    assert_eq!(
        daemon.control.asked(),
        r#"select {"share":"film","files":{},"first":[],"order":"rarest"}"#
    );
    check(&daemon.client(&["select", "film", "7"]).await, 2, "");
}

/// Sends SIGINT once progress is shown; returns the exit code and what was said after.
async fn interrupt(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    let mut client = daemon.command(arguments).spawn().unwrap();
    let mut stderr = BufReader::new(client.stderr.take().unwrap());
    stderr.read_line(&mut String::new()).await.unwrap();
    let pid = client.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let mut said = String::new();
    stderr.read_to_string(&mut said).await.unwrap();
    (client.wait().await.unwrap().code(), said)
}

fn waiting() -> Event {
    Event::Progress(Progress {
        bytes: 3072,
        phase: Some(Phase::Waiting),
        name: Some("film.mkv".into()),
        ..Progress::default()
    })
}

fn diagnosis(exit: u8) -> Vec<Event> {
    vec![
        Event::Finding(Finding {
            code: "PEER-04".into(),
            severity: Severity::Error,
            text: "None was reached.".into(),
            action: Some("Ask.".into()),
        }),
        Event::Summary(Summary {
            tried: 2,
            direct: 0,
            relayed: 0,
            failed: 2,
            under_way: 0,
            techniques: Techniques::default(),
            median_ms: None,
            exit,
        }),
    ]
}

fn done() -> Event {
    Event::Done(whole())
}

fn whole() -> Done {
    Done {
        path: "/d/film.mkv".into(),
        content_id: "00ff".into(),
        bytes: 3072,
        files: None,
        seconds: 1.5,
        already: false,
        resumed: false,
        instead_of: None,
        renamed: None,
        repaired_bytes: None,
        kept: None,
    }
}

fn registered() -> Event {
    Event::Registered(Registered {
        path: "/d/film.mkv".into(),
        manifest: "/d/film.p2p".into(),
        link: Some(format!("{LINK}abc")),
        content_id: "00ff".into(),
        bytes: 3072,
        files: 1,
        ..Registered::default()
    })
}

fn status() -> Vec<Event> {
    vec![
        Event::Tracker(Tracker {
            address: "t.example:59000".into(),
            key: "key".into(),
            connected: true,
            way: None,
            note: None,
            mapping: "unknown".into(),
            mapping_depends_on: None,
            filtering: "unknown".into(),
            hairpinning: None,
            fault: None,
            program: None,
            relays: None,
        }),
        Event::PortMapping(PortMapping {
            state: PortMappingState::Open,
            protocol: Some("PCP".into()),
            address: Some("203.0.113.7:6000".into()),
            note: "router opened UDP port 6000 (PCP)".into(),
        }),
        Event::Share(Share {
            content_id: "ab".into(),
            name: "film".into(),
            bytes: 5,
            verified_bytes: 5,
            state: ShareState::Seeding,
            complete: true,
            ..Share::default()
        }),
    ]
}

fn paused() -> Event {
    match status().pop() {
        Some(Event::Share(share)) => Event::Share(Share {
            state: ShareState::Paused,
            // It is a download.
            complete: false,
            ..share
        }),
        other => panic!("{other:?} is no share"),
    }
}

fn file_manifest() -> warren_proto::content::manifest::Manifest {
    use warren_proto::content::{
        describe::Content, hashes::HashList, manifest::Manifest, path::ShareName, tree,
    };
    let hashes = HashList::from_bytes(tree::whole_hash(b"bytes").to_vec()).unwrap();
    let content = Content::file(ShareName::parse("film.mkv").unwrap(), 5, hashes).unwrap();
    Manifest::new(content, Vec::new(), None)
}

/// Answers every register and download with the same events, and then says no more.
#[derive(Clone)]
struct Script {
    events: Vec<Event>,
    asked: Arc<Mutex<String>>,
    log: Log,
    left: CancellationToken,
    stop: CancellationToken,
}

impl Script {
    fn asked(&self) -> String {
        self.asked.lock().unwrap().clone()
    }

    fn play(&self) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(8);
        for event in &self.events {
            events.try_send(event.clone()).unwrap();
        }
        let left = self.left.clone();
        tokio::spawn(async move {
            events.closed().await;
            left.cancel();
        });
        receiver
    }
}

impl Control for Script {
    async fn register(&self, asked: RegisterRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        let output = asked.output.unwrap_or_default();
        *self.asked.lock().unwrap() =
            format!("register {} {}", asked.path.display(), output.display());
        Ok(self.play())
    }

    async fn download(&self, asked: DownloadRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        asked.source.parse()?;
        Ok(self.play())
    }

    async fn open(&self, asked: OpenRequest) -> Result<Event, ApiError> {
        *self.asked.lock().unwrap() = format!("open {}", asked.code);
        Err(ApiError::new("wrong_code", exit::REFUSED, "wrong", "Ask."))
    }

    async fn select(&self, asked: SelectRequest) -> Result<Event, ApiError> {
        let json = serde_json::to_string(&asked).unwrap();
        *self.asked.lock().unwrap() = format!("select {json}");
        Ok(status().pop().unwrap())
    }

    async fn follow(&self, asked: FollowRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        *self.asked.lock().unwrap() = "follow".to_owned();
        asked.parse()?;
        Ok(self.play())
    }

    async fn unfollow(&self, asked: ShareRequest) -> Result<(), ApiError> {
        *self.asked.lock().unwrap() = format!("unfollow {}", asked.share);
        Ok(())
    }

    async fn status(&self) -> Vec<Event> {
        status()
    }

    async fn attempts(&self) -> Vec<Event> {
        Vec::new()
    }

    async fn doctor(&self) -> Vec<Event> {
        self.events.clone()
    }

    async fn peers(&self) -> Vec<Event> {
        Vec::new()
    }

    async fn limit(&self, asked: LimitRequest) -> Result<Vec<Event>, ApiError> {
        Ok(vec![Event::Limits(Limits {
            up_bits_per_s: asked.up_bits_per_s,
            background: asked.background.unwrap_or_default(),
            ..Limits::default()
        })])
    }

    async fn remove(&self, asked: RemoveRequest) -> Result<(), ApiError> {
        if asked.share != "film" {
            return Err(ApiError::new(
                "not_found",
                exit::NOT_FOUND,
                "no such share",
                "",
            ));
        }
        let data = if asked.data { " and data" } else { "" };
        *self.asked.lock().unwrap() = format!("remove {}{data}", asked.share);
        Ok(())
    }

    async fn cancel(&self, asked: ShareRequest) -> Result<(), ApiError> {
        *self.asked.lock().unwrap() = format!("cancel {}", asked.share);
        Ok(())
    }

    async fn pause(&self, asked: ShareRequest) -> Result<Event, ApiError> {
        *self.asked.lock().unwrap() = format!("pause {}", asked.share);
        Ok(paused())
    }

    async fn resume(&self, asked: ShareRequest) -> Result<Event, ApiError> {
        *self.asked.lock().unwrap() = format!("resume {}", asked.share);
        Ok(status().pop().unwrap())
    }

    async fn verify(&self, asked: ShareRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        *self.asked.lock().unwrap() = format!("verify {}", asked.share);
        Ok(self.play())
    }

    async fn preview(
        &self,
        _: warren_daemon::control::model::PreviewRequest,
    ) -> Result<mpsc::Receiver<Event>, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, "preview", ""))
    }

    async fn relocate(
        &self,
        request: warren_daemon::control::model::RelocateRequest,
    ) -> Result<mpsc::Receiver<Event>, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, request.share, ""))
    }

    async fn expire(
        &self,
        request: warren_daemon::control::model::ExpireRequest,
    ) -> Result<Event, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, request.share, ""))
    }

    async fn revoke(&self, request: ShareRequest) -> Result<Event, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, request.share, ""))
    }

    async fn link(&self, asked: ShareRequest) -> Result<Event, ApiError> {
        Ok(Event::Link(ShareLink {
            content_id: "ab".into(),
            name: asked.share,
            link: "p2p:abc".into(),
        }))
    }

    async fn contents(&self, asked: ShareRequest) -> Result<Event, ApiError> {
        Ok(Event::Contents(Contents {
            content_id: asked.share,
            ..Contents::default()
        }))
    }

    async fn shares(&self, _: String) -> Vec<Event> {
        status()
            .into_iter()
            .filter(|it| matches!(it, Event::Share(_)))
            .collect()
    }

    async fn events(&self) -> Result<mpsc::Receiver<Event>, ApiError> {
        Ok(self.play())
    }

    fn log(&self) -> &Log {
        &self.log
    }

    async fn stop(&self) {
        self.stop.cancel();
    }
}

struct Daemon {
    control: Script,
    folder: TempDir,
    server: JoinHandle<std::io::Result<()>>,
}

impl Daemon {
    /// Runs daemon 7 in a folder of its own.
    fn start(events: Vec<Event>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let left = CancellationToken::new();
        let control = Script {
            events,
            asked: Arc::default(),
            log: Log::default(),
            left,
            stop: stop.clone(),
        };
        let listener = api::bind(&socket(folder.path())).unwrap();
        let server = tokio::spawn(api::serve(listener, control.clone(), stop));
        Daemon {
            control,
            folder,
            server,
        }
    }

    fn socket(&self) -> PathBuf {
        socket(self.folder.path())
    }

    /// Writes a manifest and returns its path.
    fn manifest(&self) -> String {
        let path = self.folder.path().join("film.p2p");
        std::fs::write(&path, file_manifest().encode()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG");
        command
            .env("WARREN_CONFIG", "/dev/null")
            .env("WARREN_HOME", self.folder.path().join("state"))
            .kill_on_drop(true);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    async fn client(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output();
        tokio::time::timeout(Duration::from_secs(60), output)
            .await
            .unwrap()
            .unwrap()
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("state/daemon-7/control.sock")
}

#[track_caller]
fn check(output: &Output, exit: i32, stdout: &str) {
    assert_eq!(output.status.code(), Some(exit), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), stdout);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
