//! The way to the daemon: HTTP on its Unix socket, answers as events.
//!
//! Not here: routes and JSON (`warren_daemon::control`), what to do with an answer
//! ([`crate::commands`]).

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use warren_daemon::control::model::{ApiError, Event, Share, exit};
use warren_proto::content::address::TrackerAddress;

use crate::{advice::addressed, home};

/// Longest line of an event stream, above any event: a preview holds a `.p2p`, which has at most 64 MiB and
/// takes a third more as base64.
const LINE_BYTES: usize = 96 << 20;

/// How long somebody waits for a share whose files are just being made, read or named.
const PATIENCE: Duration = Duration::from_secs(30);

/// After which the daemon is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// A daemon that may or may not be running.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    /// Its number.
    pub(crate) idx: u16,
    /// Its socket.
    pub(crate) socket: PathBuf,
    /// `--home` as it was typed.
    pub(crate) home: Option<PathBuf>,
    /// The tracker that it is to be started with, as far as that is known.
    pub(crate) tracker: Option<TrackerAddress>,
}

impl Daemon {
    /// Asks for a list of events.
    ///
    /// # Errors
    /// When the daemon is not running or refuses.
    pub(crate) async fn list(&self, route: &str) -> Result<Vec<Event>, ApiError> {
        let answer = self.ask(Method::GET, route, Bytes::new()).await?;
        let mut body = answer.into_body();
        let mut reading = Reading::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            if let Ok(bytes) = frame.into_data() {
                let read = reading.take(&bytes);
                read.ok_or_else(|| self.incomprehensible())?;
            }
        }
        let events = reading.end().ok_or_else(|| self.incomprehensible())?;
        Ok(events.into_iter().map(|it| self.for_person(it)).collect())
    }

    /// The shares whose name or content id begins so.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(crate) async fn shares(&self, beginning: &str) -> Result<Vec<Share>, ApiError> {
        let beginning = utf8_percent_encode(beginning, NON_ALPHANUMERIC);
        let events = self.list(&format!("shares?beginning={beginning}")).await?;
        let share = |event| match event {
            Event::Share(share) => Some(share),
            _ => None,
        };
        Ok(events.into_iter().filter_map(share).collect())
    }

    /// Asks for something that is merely confirmed.
    ///
    /// # Errors
    /// When the daemon is not running or refuses.
    pub(crate) async fn order(&self, route: &str, body: &impl Serialize) -> Result<(), ApiError> {
        let answer = self.ask(Method::POST, route, encode(body)?).await?;
        // Read to its end, so that the daemon is not cut off in the middle of it.
        self.collect(answer).await.map(drop)
    }

    /// Asks for something that is answered with how things stand then.
    ///
    /// # Errors
    /// When the daemon is not running or refuses.
    pub(crate) async fn tell<T: DeserializeOwned>(
        &self,
        route: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let answer = self.ask(Method::POST, route, encode(body)?).await?;
        self.read(answer).await
    }

    /// Asks for something that is reported as it goes.
    ///
    /// # Errors
    /// When the daemon is not running or refuses.
    pub(crate) async fn follow(
        &self,
        route: &str,
        body: &impl Serialize,
    ) -> Result<Events, ApiError> {
        let answer = self.ask(Method::POST, route, encode(body)?).await?;
        Ok(self.events_of(answer))
    }

    /// Asks for events that come as they happen.
    ///
    /// # Errors
    /// When the daemon is not running or refuses.
    pub(crate) async fn watch(&self, route: &str) -> Result<Events, ApiError> {
        let answer = self.ask(Method::GET, route, Bytes::new()).await?;
        Ok(self.events_of(answer))
    }

    fn events_of(&self, answer: Response<Incoming>) -> Events {
        Events {
            body: answer.into_body(),
            buffer: Vec::new(),
            ready: VecDeque::new(),
            daemon: self.clone(),
        }
    }

    /// Whether something answers on the socket.
    pub(crate) async fn answers(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    /// Asks until the share's files are free, which they soon are.
    async fn ask(
        &self,
        method: Method,
        route: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ApiError> {
        let since = Instant::now();
        loop {
            match self.ask_once(&method, route, body.clone()).await {
                Err(error) if error.code == "busy" && since.elapsed() < PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    async fn ask_once(
        &self,
        method: &Method,
        route: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ApiError> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = TokioIo::new(stream.map_err(|error| self.not_reached(&error))?);
        let (mut sender, connection) = http1::handshake(stream)
            .await
            .map_err(|error| self.broken(&error))?;
        // Ends with the answer's body, or with the program.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method.clone())
            .uri(format!("/v1/{route}"))
            .header(header::HOST, "warren")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| self.broken(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        match self.for_person(self.read(answer).await?) {
            Event::Error(error) => Err(error),
            _ => Err(self.incomprehensible()),
        }
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response<Incoming>) -> Result<T, ApiError> {
        let body = self.collect(answer).await?;
        serde_json::from_slice(&body).map_err(|_| self.incomprehensible())
    }

    async fn collect(&self, answer: Response<Incoming>) -> Result<Bytes, ApiError> {
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|error| self.broken(&error))?;
        Ok(body.to_bytes())
    }

    fn not_reached(&self, error: &io::Error) -> ApiError {
        let idx = self.idx;
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ApiError::new(
                "daemon_not_running",
                exit::DAEMON_NOT_RUNNING,
                format!("daemon {idx} is not running"),
                format!("Start it with: {}", self.start_line()),
            ),
            io::ErrorKind::PermissionDenied => ApiError::new(
                "not_your_daemon",
                exit::REFUSED,
                format!(
                    "daemon {idx} at {} belongs to another user",
                    self.socket.display()
                ),
                "Use a number and a --home of your own.",
            ),
            _ => ApiError::new(
                "daemon_not_reached",
                exit::OTHER,
                format!(
                    "cannot reach daemon {idx} at {}: {error}",
                    self.socket.display()
                ),
                "",
            ),
        }
    }

    /// Advice as it can be typed here: with the number of this daemon in the place of `IDX`, and with the folder
    /// of its state where that was typed.
    pub(crate) fn addressed(&self, advice: &str) -> String {
        addressed(advice, self.idx, self.home.as_deref())
    }

    /// An error with a hint that can be typed here.
    pub(crate) fn advised(&self, error: ApiError) -> ApiError {
        let hint = self.addressed(&error.hint);
        ApiError { hint, ..error }
    }

    /// What to type to start it.
    pub(crate) fn start_line(&self) -> String {
        home::start_line(self.home.as_deref(), self.idx, self.tracker.as_ref())
    }

    /// What the daemon says, with advice that can be typed here.
    pub(crate) fn for_person(&self, mut event: Event) -> Event {
        if let Event::Registered(registered) = &mut event {
            let warnings = registered.warnings.iter_mut();
            for warning in warnings.filter(|it| it.contains(": client register ")) {
                *warning = self.addressed(warning);
            }
        }
        let advice = match &mut event {
            Event::Error(error) => [Some(&mut error.hint), None],
            Event::Share(share) => [share.note.as_mut(), None],
            Event::Progress(progress) => [progress.note.as_mut(), progress.advice.as_mut()],
            Event::Finding(finding) => [finding.action.as_mut(), None],
            _ => [None, None],
        };
        let advice = advice.into_iter().flatten();
        for advice in advice.filter(|it| it.contains("client ")) {
            *advice = self.addressed(advice);
        }
        event
    }

    fn broken(&self, error: &dyn std::error::Error) -> ApiError {
        let message = format!("the connection to daemon {} broke", self.idx);
        let hint = self.addressed("See whether it still runs: client status IDX");
        let cause = ApiError::caused("connection_broke", exit::OTHER, error, hint);
        ApiError {
            message: format!("{message}: {}", cause.message),
            ..cause
        }
    }

    fn ended_early(&self) -> ApiError {
        ApiError::new(
            "daemon_stopped",
            exit::DAEMON_NOT_RUNNING,
            format!("daemon {} stopped before this was complete", self.idx),
            format!(
                "Start it again, and downloads continue: {}",
                self.start_line()
            ),
        )
    }

    fn incomprehensible(&self) -> ApiError {
        ApiError::new(
            "bad_answer",
            exit::OTHER,
            format!(
                "daemon {} gave an answer this program does not understand",
                self.idx
            ),
            self.addressed("Its version may differ; stop it, and start it again: client stop IDX"),
        )
    }
}

fn encode(body: &impl Serialize) -> Result<Bytes, ApiError> {
    // Paths are the only part that JSON may not be able to hold.
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| {
        ApiError::new(
            "not_utf8",
            exit::USAGE,
            format!("cannot send this path: {error}"),
            "Rename the file and its folders to names that are UTF-8.",
        )
    })
}

/// How a share begins.
const SHARE: &[u8] = br#"{"v":1,"type":"share","#;

/// A list of events of which a part has come: there may be thousands, and each has a line of its own.
#[derive(Debug, Default)]
struct Reading {
    /// A line whose end has not come yet.
    buffer: Vec<u8>,
    events: Vec<Event>,
}

impl Reading {
    /// Reads the lines that are complete; `None` when one is no event.
    fn take(&mut self, bytes: &[u8]) -> Option<()> {
        let end = bytes.iter().rposition(|&byte| byte == b'\n');
        let (complete, rest) = bytes.split_at(end.map_or(0, |at| at + 1));
        if !complete.is_empty() {
            self.buffer.extend_from_slice(complete);
            let lines = std::mem::take(&mut self.buffer);
            for line in lines.split(|&byte| byte == b'\n') {
                self.read(line)?;
            }
        }
        self.buffer.extend_from_slice(rest);
        Some(())
    }

    /// All of them, now that nothing more comes.
    fn end(mut self) -> Option<Vec<Event>> {
        let last = std::mem::take(&mut self.buffer);
        if self.events.is_empty() {
            // All of it is on one line.
            return serde_json::from_slice(&last).ok();
        }
        self.read(last.strip_suffix(b"]")?)?;
        Some(self.events)
    }

    fn read(&mut self, line: &[u8]) -> Option<()> {
        let line = match self.events.is_empty() {
            true => line.strip_prefix(b"[").unwrap_or(line),
            false => line,
        };
        let line = line.strip_suffix(b",").unwrap_or(line);
        if !line.is_empty() {
            self.events.push(event(line)?);
        }
        Some(())
    }
}

/// Reads an event. Of thousands all but a few are shares, and what could be any event is read into memory before it is
/// known which it is.
fn event(line: &[u8]) -> Option<Event> {
    match line.starts_with(SHARE) {
        true => serde_json::from_slice(line).ok().map(Event::Share),
        false => serde_json::from_slice(line).ok(),
    }
}

/// The events of a register or a download as they come.
#[derive(Debug)]
pub(crate) struct Events {
    body: Incoming,
    /// A line whose end has not come yet.
    buffer: Vec<u8>,
    ready: VecDeque<Event>,
    daemon: Daemon,
}

impl Events {
    /// The next event. The caller stops asking after a final one.
    ///
    /// # Errors
    /// Exit code 3 when the daemon ends before a final event.
    ///
    /// # Cancel safety
    /// May be dropped and called again; nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Event, ApiError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(self.daemon.for_person(event));
            }
            // A daemon that is killed breaks the connection, one that is stopped ends the body.
            let frame = match self.body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(_)) | None => return Err(self.daemon.ended_early()),
            };
            if let Ok(bytes) = frame.into_data() {
                self.buffer.extend_from_slice(&bytes);
                // Long lines come in many parts, of which only the last one ends one.
                if !bytes.contains(&b'\n') && self.buffer.len() <= LINE_BYTES {
                    continue;
                }
                let events = take_events(&mut self.buffer);
                self.ready
                    .extend(events.ok_or_else(|| self.daemon.incomprehensible())?);
            }
        }
    }
}

/// Takes the complete lines out of `buffer` and reads those with data; `None` when one is no event.
fn take_events(buffer: &mut Vec<u8>) -> Option<Vec<Event>> {
    let end = buffer
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    let lines: Vec<u8> = buffer.drain(..end).collect();
    if buffer.len() > LINE_BYTES {
        return None;
    }
    lines
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"data:"))
        .map(|json| serde_json::from_slice(json).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_across_any_split_of_the_stream() {
        let event = ApiError::new("a", 1, "b", "c").into();
        let stream = format!(
            "data: {}\n\n: comment\n\ndata: {0}\n\n",
            Event::to_json(&event)
        );
        for cut in 0..stream.len() {
            let mut buffer = stream.as_bytes()[..cut].to_vec();
            let mut events = take_events(&mut buffer).unwrap();
            buffer.extend_from_slice(&stream.as_bytes()[cut..]);
            events.extend(take_events(&mut buffer).unwrap());
            assert_eq!(events, [event.clone(), event.clone()], "cut at {cut}");
        }
    }

    #[test]
    fn a_share_is_the_same_event_by_the_short_way() {
        let share = Event::Share(Share {
            name: "film".into(),
            note: Some("\n".into()),
            ..Share::default()
        });
        let json = share.to_json();
        assert!(json.as_bytes().starts_with(SHARE), "{json}");
        assert_eq!(event(json.as_bytes()), Some(share));
        assert_eq!(event(&json.as_bytes()[..json.len() - 1]), None);
    }

    #[test]
    fn a_list_is_read_across_any_split_of_it_and_on_one_line_too() {
        let event: Event = ApiError::new("a", 1, "b\n", "[c],").into();
        let json = event.to_json();
        let lists = [
            "[]".to_owned(),
            format!("[{json}]"),
            format!("[{json},{json},{json}]"),
            format!("[{json},\n{json},\n{json}]"),
        ];
        for (list, expected) in lists.iter().zip([0, 1, 3, 3]) {
            for cut in 0..=list.len() {
                let mut reading = Reading::default();
                reading.take(&list.as_bytes()[..cut]).unwrap();
                reading.take(&list.as_bytes()[cut..]).unwrap();
                let events = reading.end().unwrap();
                assert_eq!(events, vec![event.clone(); expected], "{list} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_list_that_is_cut_off_or_none_is_refused() {
        let event: Event = ApiError::new("a", 1, "b", "c").into();
        let json = event.to_json();
        for list in [
            format!("[{json},\n{json}"),
            format!("[{json},\n{{]"),
            json,
            String::new(),
        ] {
            let mut reading = Reading::default();
            let read = reading.take(list.as_bytes());
            assert!(read.and_then(|()| reading.end()).is_none(), "{list}");
        }
    }

    #[test]
    fn garbage_and_endless_lines_are_refused() {
        assert!(take_events(&mut b"data: {\n".to_vec()).is_none());
        assert!(take_events(&mut vec![b'x'; LINE_BYTES + 1]).is_none());
    }
}
