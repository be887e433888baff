//! The control API over a real socket, with a control that only pretends.

use std::os::unix::fs::MetadataExt;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    task::JoinHandle,
};

use super::{super::model::*, *};

#[tokio::test]
async fn a_register_streams_one_event_a_line_and_ends_after_registered() {
    let daemon = Daemon::start().await;
    let answer = daemon
        .ask("POST", "/v1/register", r#"{"path":"/film"}"#)
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let lines: Vec<&str> = answer
        .lines()
        .filter(|line| line.starts_with("data:"))
        .collect();
    assert_eq!(lines.len(), 2, "{answer}");
    assert!(lines[0].starts_with(r#"data: {"v":1,"type":"progress""#));
    assert!(lines[1].starts_with(r#"data: {"v":1,"type":"registered","path":"/film""#));
    daemon.end().await;
}

#[tokio::test]
async fn what_fails_before_the_stream_is_one_error_object() {
    let daemon = Daemon::start().await;
    let answer = daemon
        .ask("POST", "/v1/register", r#"{"path":"/missing"}"#)
        .await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.ends_with(
        r#"{"v":1,"type":"error","code":"not_found","exit":9,"message":"no /missing","hint":"Look.","message_code":"DISK-09"}"#
    ));
    daemon.end().await;
}

#[tokio::test]
async fn malformed_requests_and_unknown_routes_are_errors_with_a_code() {
    let daemon = Daemon::start().await;
    for (method, path, body, code) in [
        ("POST", "/v1/register", "{", "bad_request"),
        ("POST", "/v1/remove", "{}", "bad_request"),
        ("GET", "/v2/status", "", "no_such_route"),
    ] {
        let answer = daemon.ask(method, path, body).await;
        assert!(
            answer.contains(&format!(r#""code":"{code}""#)),
            "{path}: {answer}"
        );
    }
    daemon.end().await;
}

#[tokio::test]
async fn a_client_that_sends_far_too_much_can_send_it_all_and_is_told_why() {
    let daemon = Daemon::start().await;
    for len in [BODY_BYTES + 1, 2 * BODY_BYTES] {
        let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
        stream.write_all(head(len, "").as_bytes()).await.unwrap();
        let part = vec![b' '; 1 << 20];
        let mut rest = len;
        while rest > 0 {
            let sent = rest.min(part.len());
            stream.write_all(&part[..sent]).await.unwrap();
            rest -= sent;
        }
        expect_too_large(stream).await;
    }
    daemon.end().await;
}

#[tokio::test]
async fn a_client_that_asks_before_sending_too_much_is_told_at_once() {
    let daemon = Daemon::start().await;
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    let head = head(BODY_BYTES + 1, "expect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    expect_too_large(stream).await;
    daemon.end().await;
}

fn head(len: usize, more: &str) -> String {
    format!("POST /v1/download HTTP/1.1\r\nhost: warren\r\n{more}content-length: {len}\r\n\r\n")
}

/// The writing half stays open meanwhile: the server takes a client that closes it for gone.
async fn expect_too_large(mut stream: UnixStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let read = stream.read_buf(&mut answer).await.unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(
        answer.contains(r#""code":"request_too_large","exit":2"#),
        "{answer}"
    );
}

#[tokio::test]
async fn status_is_an_array_and_remove_is_passed_on() {
    let daemon = Daemon::start().await;
    let status = daemon.ask("GET", "/v1/status", "").await;
    assert!(
        status
            .contains(r#"[{"v":1,"type":"tracker","address":"t:1","key":"k","connected":true,"mapping":"unknown","filtering":"unknown"}]"#)
    );
    assert!(
        daemon
            .ask("GET", "/v1/peers", "")
            .await
            .contains("\r\n[]\r\n")
    );
    let removed = daemon.ask("POST", "/v1/remove", r#"{"share":"ab"}"#).await;
    assert!(removed.starts_with("HTTP/1.1 204"), "{removed}");
    daemon.end().await;
}

#[tokio::test]
async fn doctor_is_findings_and_then_their_summary() {
    let daemon = Daemon::start().await;
    let answer = daemon.ask("GET", "/v1/doctor", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains(
            "[{\"v\":1,\"type\":\"finding\",\"code\":\"TRK-04\",\"severity\":\"ok\",\"text\":\"It is.\"},\n"
        ) && answer.contains(
            r#"{"v":1,"type":"summary","tried":0,"direct":0,"relayed":0,"failed":0,"under_way":0,"exit":0}]"#
        ),
        "{answer}"
    );
    let wrong = daemon.ask("POST", "/v1/doctor", "").await;
    assert!(wrong.starts_with("HTTP/1.1 405"), "{wrong}");
    daemon.end().await;
}

#[tokio::test]
async fn a_client_that_leaves_drops_the_receiver() {
    let daemon = Daemon::start().await;
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    let body = r#"{"source":{"link":{"text":"p2p:x"}}}"#;
    stream
        .write_all(request("POST", "/v1/download", body).as_bytes())
        .await
        .unwrap();
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.starts_with("data:") {
            break;
        }
    }
    drop(lines);
    daemon.control.left.cancelled().await;
    daemon.end().await;
}

#[tokio::test]
async fn stop_is_confirmed_ends_open_streams_and_removes_the_socket() {
    let daemon = Daemon::start().await;
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    let body = r#"{"source":{"link":{"text":"p2p:x"}}}"#;
    stream
        .write_all(request("POST", "/v1/download", body).as_bytes())
        .await
        .unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");

    let answer = daemon.ask("POST", "/v1/stop", "").await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(
        rest.ends_with("0\r\n\r\n"),
        "the stream ends properly: {rest}"
    );
    daemon.server.await.unwrap().unwrap();
    assert!(!daemon.socket.exists());
}

#[tokio::test]
async fn the_socket_is_private_and_a_stale_one_is_replaced_but_not_a_live_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("daemon-3/control.sock");
    drop(bind(&socket).unwrap());
    let _listener = bind(&socket).unwrap();
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        fs::metadata(socket.parent().unwrap()).unwrap().mode() & 0o777,
        0o700
    );
    assert_eq!(bind(&socket).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_socket_path_that_is_too_long_is_named() {
    let path = Path::new("/tmp").join("x".repeat(SOCKET_PATH_BYTES));
    let error = bind(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("112 bytes"), "{error}");
}

#[tokio::test]
async fn all_events_are_a_stream_that_goes_on() {
    let daemon = Daemon::start().await;
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    let request = request("GET", "/v1/events", "");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if line.starts_with("data:") {
            let gone = r#"data: {"v":1,"type":"gone","what":"share","id":"ab"}"#;
            break assert_eq!(line, gone);
        }
    }
    daemon.end().await;
}

#[tokio::test]
async fn shares_are_asked_for_by_how_they_begin() {
    let daemon = Daemon::start().await;
    for (query, expected) in [
        ("", r#""message":"""#),
        ("?beginning=", r#""message":"""#),
        ("?beginning=a%20b%C3%A4", r#""message":"a bä""#),
        ("?beginning=%FF", "beginning is not UTF-8"),
        ("?begin=a", "there is no parameter begin=a"),
    ] {
        let answer = daemon.ask("GET", &format!("/v1/shares{query}"), "").await;
        assert!(answer.contains(expected), "{query}: {answer}");
    }
}

#[tokio::test]
async fn the_log_is_a_list_or_a_stream_and_what_is_asked_wrongly_is_said() {
    use std::io::Write;

    let daemon = Daemon::start().await;
    let mut log = daemon.control.log.clone();
    for line in [&b"one\n"[..], b"two\n"] {
        log.write_all(line).unwrap();
    }
    let answer = daemon.ask("GET", "/v1/logs?lines=1", "").await;
    assert!(
        answer.contains(r#"[{"v":1,"type":"log","line":"two"}]"#),
        "{answer}"
    );
    for query in ["lines=x", "line=1"] {
        let answer = daemon.ask("GET", &format!("/v1/logs?{query}"), "").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    let request = request("GET", "/v1/logs?follow=true", "");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    for expected in ["one", "two", "three"] {
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            if line.starts_with("data:") {
                break assert!(line.contains(expected), "{line}");
            }
        }
        if expected == "two" {
            log.write_all(b"three\n").unwrap();
        }
    }
    daemon.end().await;
}

#[tokio::test]
async fn orders_about_one_share_reach_the_daemon_by_their_routes() {
    let daemon = Daemon::start().await;
    let body = r#"{"share":"ab"}"#;
    for route in ["cancel", "remove"] {
        let answer = daemon.ask("POST", &format!("/v1/{route}"), body).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{route}: {answer}");
    }
    for route in ["pause", "resume", "verify", "link"] {
        let answer = daemon.ask("POST", &format!("/v1/{route}"), body).await;
        assert!(answer.contains(r#""code":"asked""#), "{route}: {answer}");
        assert!(answer.contains(r#""message":"ab""#), "{route}: {answer}");
    }
    let answer = daemon.ask("GET", "/v1/openapi.json", "").await;
    assert!(answer.contains(r#""openapi":"3.1"#), "{answer}");
    // Who reads it does not know what things are called in the source.
    let links: Vec<&str> = answer.split("[`").skip(1).collect();
    assert_eq!(links.len(), 0, "{:?}", links.first());
    daemon.end().await;
}

/// Registers at once, never finishes a download, and says when a download's client has left.
#[derive(Clone)]
struct FakeControl {
    log: Log,
    stop: CancellationToken,
    left: CancellationToken,
}

impl Control for FakeControl {
    async fn register(&self, request: RegisterRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        if request.path.ends_with("missing") {
            return Err(ApiError::new(
                "not_found",
                exit::NOT_FOUND,
                "no /missing",
                "Look.",
            ));
        }
        let (events, receiver) = mpsc::channel(4);
        let registered = Event::Registered(Registered {
            path: request.path.display().to_string(),
            manifest: "/film.p2p".into(),
            content_id: "00".into(),
            bytes: 1,
            files: 1,
            ..Registered::default()
        });
        events
            .send(Event::Progress(Progress::default()))
            .await
            .unwrap();
        events.send(registered.clone()).await.unwrap();
        events.send(registered).await.unwrap();
        Ok(receiver)
    }

    async fn open(&self, request: OpenRequest) -> Result<Event, ApiError> {
        let code = request.parse()?;
        let link = format!("p2p:{code}");
        Ok(Event::Opened(Opened { link }))
    }

    async fn select(&self, request: SelectRequest) -> Result<Event, ApiError> {
        let what = format!("{} {:?}", request.share, request.change.order);
        Err(ApiError::new("asked", exit::USAGE, what, ""))
    }

    async fn download(&self, _: DownloadRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        let (events, receiver) = mpsc::channel(4);
        events
            .send(Event::Progress(Progress::default()))
            .await
            .unwrap();
        let left = self.left.clone();
        tokio::spawn(async move {
            events.closed().await;
            left.cancel();
        });
        Ok(receiver)
    }

    async fn follow(&self, request: FollowRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        request.parse()?;
        Ok(mpsc::channel(1).1)
    }

    async fn unfollow(&self, request: ShareRequest) -> Result<(), ApiError> {
        assert_eq!(request.share, "ab");
        Ok(())
    }

    async fn status(&self) -> Vec<Event> {
        vec![Event::Tracker(Tracker {
            address: "t:1".into(),
            key: "k".into(),
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
        })]
    }

    async fn attempts(&self) -> Vec<Event> {
        Vec::new()
    }

    async fn doctor(&self) -> Vec<Event> {
        let finding = Finding {
            code: "TRK-04".into(),
            severity: Severity::Ok,
            text: "It is.".into(),
            action: None,
        };
        let summary = Summary {
            tried: 0,
            direct: 0,
            relayed: 0,
            failed: 0,
            under_way: 0,
            techniques: Techniques::default(),
            median_ms: None,
            exit: exit::OK,
        };
        vec![Event::Finding(finding), Event::Summary(summary)]
    }

    async fn peers(&self) -> Vec<Event> {
        Vec::new()
    }

    async fn limit(&self, request: LimitRequest) -> Result<Vec<Event>, ApiError> {
        Ok(vec![Event::Limits(Limits {
            up_bits_per_s: request.up_bits_per_s,
            ..Limits::default()
        })])
    }

    async fn remove(&self, request: RemoveRequest) -> Result<(), ApiError> {
        assert_eq!(request.share, "ab");
        Ok(())
    }

    async fn cancel(&self, request: ShareRequest) -> Result<(), ApiError> {
        assert_eq!(request.share, "ab");
        Ok(())
    }

    async fn pause(&self, request: ShareRequest) -> Result<Event, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, request.share, ""))
    }

    async fn resume(&self, request: ShareRequest) -> Result<Event, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, request.share, ""))
    }

    async fn verify(&self, request: ShareRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, request.share, ""))
    }

    async fn preview(&self, _: PreviewRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, "preview", ""))
    }

    async fn relocate(&self, request: RelocateRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, request.share, ""))
    }

    async fn expire(&self, request: ExpireRequest) -> Result<Event, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, request.share, ""))
    }

    async fn revoke(&self, request: ShareRequest) -> Result<Event, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, request.share, ""))
    }

    async fn link(&self, request: ShareRequest) -> Result<Event, ApiError> {
        Err(ApiError::new("asked", exit::USAGE, request.share, ""))
    }

    async fn contents(&self, request: ShareRequest) -> Result<Event, ApiError> {
        Ok(Event::Contents(Contents {
            content_id: request.share,
            ..Contents::default()
        }))
    }

    async fn shares(&self, beginning: String) -> Vec<Event> {
        vec![ApiError::new("asked", exit::USAGE, beginning, "").into()]
    }

    async fn events(&self) -> Result<mpsc::Receiver<Event>, ApiError> {
        let (events, receiver) = mpsc::channel(1);
        let gone = Gone {
            what: "share".into(),
            id: "ab".into(),
        };
        events.send(Event::Gone(gone)).await.unwrap();
        Ok(receiver)
    }

    fn log(&self) -> &Log {
        &self.log
    }

    async fn stop(&self) {
        self.stop.cancel();
    }
}

struct Daemon {
    control: FakeControl,
    socket: std::path::PathBuf,
    server: JoinHandle<io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("daemon-1/control.sock");
        let stop = CancellationToken::new();
        let control = FakeControl {
            log: Log::default(),
            stop: stop.clone(),
            left: CancellationToken::new(),
        };
        let listener = bind(&socket).unwrap();
        let server = tokio::spawn(serve(listener, control.clone(), stop));
        Daemon {
            control,
            socket,
            server,
            _folder: folder,
        }
    }

    /// The whole answer, head and body.
    async fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        stream
            .write_all(request(method, path, body).as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn end(self) {
        self.control.stop.cancel();
        self.server.await.unwrap().unwrap();
    }
}

fn request(method: &str, path: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: warren\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{body}"
    )
}
