//! The program `tracker` as a service: settings, the service manager, sockets that are passed.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens the sockets it is told, and becomes the tracker with them, as a service manager would. `{N}` in its
/// arguments is the port of socket N, from 0 on.
const LAUNCHER: &str = r#"
import os, socket, sys
kinds = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
sockets, ports = [], []
for word in sys.argv[1].split(","):
    kind, host, port = word.split(":")
    if kind == "unix":
        sockets.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        ports.append(None)
        continue
    opened = socket.socket(socket.AF_INET, kinds[kind])
    opened.bind((host, int(port)))
    if kind == "tcp":
        opened.listen()
    sockets.append(opened)
    ports.append(opened.getsockname()[1])
high = [os.dup2(opened.fileno(), 100 + at) for at, opened in enumerate(sockets)]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.environ["LISTEN_FDS"] = str(len(sockets))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], [sys.argv[2]] + [word.format(*ports) for word in sys.argv[3:]])
"#;

#[test]
fn the_command_line_counts_over_the_environment_and_that_over_the_file() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tracker.toml");
    std::fs::write(
        &file,
        "relay = '1M'\npublic = 'a.example:1'\ntcp = [':1', ':2']\n",
    )
    .unwrap();
    let mut command = tracker(&place);
    command
        .env("WARREN_TRACKER_CONFIG", &file)
        .env("WARREN_TRACKER_PUBLIC", "b.example:2")
        .env("WARREN_TRACKER_RELAY", "2M")
        .args(["--show-config", "--json", "--relay", "3M"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |key: &str| {
        let line = lines.iter().find(|line| line["key"] == key).unwrap();
        (line["value"].clone(), line["from"].as_str().unwrap())
    };
    assert_eq!(of("relay"), ("3M".into(), "command-line"));
    assert_eq!(of("public"), ("b.example:2".into(), "environment"));
    assert_eq!(of("tcp"), (serde_json::json!([":1", ":2"]), "file"));
    assert_eq!(of("also-at"), (serde_json::json!([]), "default"));
    let tcp = lines.iter().find(|line| line["key"] == "tcp").unwrap();
    assert_eq!(
        (&tcp["line"], &tcp["file"]),
        (&3.into(), &file.to_str().into())
    );
}

#[test]
fn what_is_wrong_in_the_file_is_told_with_its_line() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tracker.toml");
    for (text, words) in [
        (
            "\nrelai = '1M'\n",
            &[
                "tracker.toml:2: there is no setting `relai`",
                "Did you mean `relay`?",
            ][..],
        ),
        (
            "relay = true\n",
            &[":1: `relay` is to be a text in double quotes, not true or false"],
        ),
        (
            "relay = 'much'\n",
            &[":1: `relay` cannot be \"much\"", "example 100M"],
        ),
        (
            "listen = ['x']\n",
            &[":1: `listen` cannot be \"x\"", "example 0.0.0.0:59000"],
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = tracker(&place).arg("--config").arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        for word in words {
            assert!(said.contains(word), "{said}");
        }
    }
    let missing = place.path().join("missing.toml");
    let output = tracker(&place)
        .arg("--config")
        .arg(missing)
        .arg("--json")
        .output()
        .unwrap();
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&line["code"], &line["exit"]),
        (&"settings".into(), &2.into())
    );
}

#[test]
fn a_file_that_was_made_by_the_template_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tracker.toml");
    let template = tracker(&place).arg("--config-template").output().unwrap();
    std::fs::write(&file, template.stdout).unwrap();
    let shown = |config: &Path| {
        let mut command = tracker(&place);
        let output = command
            .arg("--show-config")
            .arg("--config")
            .arg(config)
            .output();
        said(&output.unwrap())
    };
    assert_eq!(shown(&file), shown(Path::new("/dev/null")));
}

#[test]
fn the_service_manager_is_told_that_it_is_up_alive_and_going() {
    let place = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(place.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = tracker(&place);
    command
        .env("NOTIFY_SOCKET", place.path().join("notify"))
        .env("WATCHDOG_USEC", "2000000")
        .args([
            "--listen",
            "127.0.0.1:0",
            "--stun-listen",
            "127.0.0.1:0",
            "--json",
        ]);
    let mut running = Running::start(&mut command);
    assert_eq!(hear(&manager), "READY=1\n");
    assert_eq!(hear(&manager), "WATCHDOG=1\n");
    assert_eq!(
        hear(&manager),
        "STATUS=0 daemons in 0 swarms, 0 MiB relayed\n"
    );
    // Again and again, and of what has not changed nothing is said.
    assert_eq!(hear(&manager), "WATCHDOG=1\n");
    assert_eq!(hear(&manager), "WATCHDOG=1\n");
    assert_eq!(running.end(), Some(0));
    let mut last = hear(&manager);
    while last == "WATCHDOG=1\n" {
        last = hear(&manager);
    }
    assert_eq!(last, "STOPPING=1\n");
}

#[test]
fn without_a_watchdog_nobody_is_told_of_one() {
    let place = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(place.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = tracker(&place);
    command
        .env("NOTIFY_SOCKET", place.path().join("notify"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--stun-listen",
            "127.0.0.1:0",
            "--json",
        ]);
    let mut running = Running::start(&mut command);
    assert_eq!(hear(&manager), "READY=1\n");
    assert!(hear(&manager).starts_with("STATUS="));
    assert_eq!(running.end(), Some(0));
    assert_eq!(hear(&manager), "STOPPING=1\n");
}

#[test]
fn sockets_that_are_passed_take_the_place_of_addresses() {
    let place = tempfile::tempdir().unwrap();
    let mut command = launched(&place, "udp:127.83.0.1:0,tcp:127.83.0.1:0,udp:127.83.0.1:0");
    // None of these addresses is to be had.
    command
        .args(["--listen", "192.0.2.1:1", "--tcp", "192.0.2.1:2"])
        .args(["--stun-listen", "192.0.2.1:{2}", "--json"]);
    let mut running = Running::start(&mut command);
    let said = |what: &str| -> Vec<SocketAddr> {
        serde_json::from_value(running.said[what].clone()).unwrap()
    };
    let [udp] = said("listen")[..] else {
        panic!("{}", running.said);
    };
    let [stun] = said("stun_listen")[..] else {
        panic!("{}", running.said);
    };
    let [tcp, beside] = said("tcp_listen")[..] else {
        panic!("{}", running.said);
    };
    // TCP at the port of UDP comes by itself. Nobody else is at this address.
    assert_eq!(beside, udp);
    for addr in [udp, stun, tcp] {
        assert_eq!(addr.ip(), Ipv4Addr::new(127, 83, 0, 1));
    }
    for addr in [udp, stun] {
        answers_stun(addr);
    }
    TcpStream::connect(tcp).unwrap();
    assert_eq!(running.end(), Some(0));
}

#[test]
fn a_socket_of_another_kind_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let output = launched(&place, "unix::").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(
            "socket 0 that the service manager has passed is neither for UDP nor for TCP\n"
        ),
        "{said}"
    );
}

#[test]
fn the_manual_and_completions_name_every_option() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("man");
    let output = tracker(&place).arg("--man").arg(&folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let page = std::fs::read_to_string(folder.join("tracker.1")).unwrap();
    assert!(
        page.contains(".SH FILES") && page.contains("/etc/warren/tracker.toml"),
        "{page}"
    );
    let mut bash = tracker(&place);
    let script = said(&bash.args(["--completions", "bash"]).output().unwrap());
    for option in ["listen", "stun-listen", "relay", "home", "show-config"] {
        assert!(page.contains(&option.replace('-', "\\-")), "{option}");
        assert!(script.contains(&format!("--{option}")), "{option}");
    }
}

#[test]
fn what_does_not_depend_on_settings_works_where_they_are_broken() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tracker.toml");
    std::fs::write(&file, "relay = [").unwrap();
    let man = place.path().join("man");
    let man = man.to_str().unwrap();
    for (words, expected) in [
        (&["--config-template"][..], "#relay = "),
        (&["--completions", "bash"], "--show-config"),
        (&["--man", man], ""),
    ] {
        let mut command = tracker(&place);
        let command = command.env("WARREN_TRACKER_CONFIG", &file).args(words);
        let said = said(&command.output().unwrap());
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    let mut command = tracker(&place);
    let command = command.env("WARREN_TRACKER_CONFIG", &file);
    let output = command.arg("--show-config").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// The program with a folder of its own, and with nobody's settings.
fn tracker(place: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracker"));
    settled(&mut command, place);
    command
}

/// The same, started with these sockets open.
fn launched(place: &TempDir, sockets: &str) -> Command {
    let mut command = Command::new("python3");
    let program = env!("CARGO_BIN_EXE_tracker");
    command.args(["-c", LAUNCHER, sockets, program]);
    settled(&mut command, place);
    command
}

fn settled(command: &mut Command, place: &TempDir) {
    command
        .env("WARREN_HOME", place.path())
        .env("WARREN_TRACKER_CONFIG", "/dev/null");
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "RUST_LOG"] {
        command.env_remove(variable);
    }
}

/// A tracker that has said where it is.
struct Running {
    child: Child,
    said: Value,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let said = serde_json::from_str(&line).unwrap_or(Value::Null);
        Running { child, said }
    }

    /// Ends it in good order.
    fn end(&mut self) -> Option<i32> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hear(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    loop {
        match manager.recv(&mut buffer) {
            Ok(len) => return String::from_utf8(buffer[..len].to_vec()).unwrap(),
            // With a time limit this is not done again by itself (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => panic!("{error}"),
        }
    }
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A Binding request (RFC 8489 §6.2.1) is answered with success.
#[track_caller]
fn answers_stun(addr: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    socket.send_to(&request, addr).unwrap();
    let mut answer = [0; 512];
    let len = socket.recv(&mut answer).unwrap();
    assert_eq!(
        (&answer[..2], &answer[8..20]),
        (&[1, 1][..], &[7; 12][..]),
        "{len} bytes"
    );
}
