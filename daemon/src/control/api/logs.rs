//! The route that tells the log.

use axum::{
    extract::State,
    http::Uri,
    response::{IntoResponse, Response},
};
use tokio::sync::{broadcast, mpsc};

use super::Control;
use super::body::{malformed, stream_events};
use super::list::List;
use super::routes::Api;
use crate::control::model::{ApiError, Event, LogLine};

/// Lines of the log that are told unless another number is asked for.
const LOG_LINES: usize = 200;

/// Lines that may wait for a client that follows the log.
const LOG_EVENTS: usize = 64;

/// The last lines of the log.
#[utoipa::path(
    get,
    path = "/v1/logs",
    summary = "The last lines of the log",
    params(
        ("lines" = Option<usize>, Query, description = "How many lines that are there already"),
        ("follow" = Option<bool>, Query, description = "Whether also those that come"),
    ),
    responses(
        (status = 200, description = "`log` events; with `follow` server-sent ones, which do not end.", body = Vec<Event>),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn logs<C: Control>(
    State(api): State<Api<C>>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let LogsQuery { lines, follow } = LogsQuery::parse(uri.query().unwrap_or_default())?;
    if !follow {
        let lines = api.control.log().last(lines);
        let events: Vec<Event> = lines.iter().map(|line| logged(line)).collect();
        return Ok(List(events).into_response());
    }
    let (events, receiver) = mpsc::channel(LOG_EVENTS);
    let (before, mut news) = api.control.log().follow(lines);
    tokio::spawn(async move {
        for line in before {
            if events.send(logged(&line)).await.is_err() {
                return;
            }
        }
        loop {
            let line = tokio::select! {
                line = news.recv() => line,
                () = events.closed() => return,
            };
            let sent = match line {
                Ok(line) => events.send(logged(&line)).await,
                // The oldest are gone, the others come.
                Err(broadcast::error::RecvError::Lagged(_)) => Ok(()),
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Ok(stream_events(receiver, api.stop))
}

fn logged(line: &str) -> Event {
    let line = line.to_owned();
    Event::Log(LogLine { line })
}

/// Which lines of the log are wanted.
struct LogsQuery {
    /// How many that are there already.
    lines: usize,
    /// Whether also those that come.
    follow: bool,
}

impl LogsQuery {
    fn parse(query: &str) -> Result<LogsQuery, ApiError> {
        let (mut lines, mut follow) = (LOG_LINES, false);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "lines" => {
                    let number = value.parse();
                    lines = number.map_err(|_| malformed("lines is no number".to_owned()))?;
                }
                "follow" => follow = value != "false",
                _ => return Err(malformed(format!("there is no parameter {name}"))),
            }
        }
        Ok(LogsQuery { lines, follow })
    }
}
