//! The bodies of requests, read with a cap, and of answers: events as they come, and errors.

use std::{convert::Infallible, future::ready, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response, Sse, sse},
};
use futures_util::{Stream, StreamExt, stream};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::control::model::{ApiError, Event, exit};

/// Largest request body. A `.p2p` has at most 64 MiB, which base64 makes 85.4 MiB.
pub const BODY_BYTES: usize = 96 * 1024 * 1024;

/// How long the rest of a body over [`BODY_BYTES`] is read and dropped before it is refused. Closed
/// while it sends, a client would report a broken connection instead of the reason.
const DRAIN: Duration = Duration::from_secs(5);

/// Reads the body of every request, so that routes get at most [`BODY_BYTES`] of it, at once.
pub(super) async fn read_body(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let too_large = body.size_hint().lower() > BODY_BYTES as u64;
    if too_large && head.headers.contains_key(header::EXPECT) {
        // It waits for a word before it sends (RFC 9110 §10.1.1), and gets this one.
        return over_the_cap().into_response();
    }
    match collect(body).await {
        Ok(body) => next.run(Request::from_parts(head, body.into())).await,
        Err(error) => error.into_response(),
    }
}

async fn collect(body: Body) -> Result<Vec<u8>, ApiError> {
    let mut collected = Vec::new();
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| malformed(error.to_string()))?;
        if part.len() > BODY_BYTES - collected.len() {
            drop(collected);
            // Whether it ends in time or not, the answer is the same.
            let _ = tokio::time::timeout(DRAIN, parts.for_each(|_| ready(()))).await;
            return Err(over_the_cap());
        }
        collected.extend_from_slice(&part);
    }
    Ok(collected)
}

/// Reads a request whatever its `Content-Type` says: `curl -d` sends the wrong one.
pub(super) fn parse<T: DeserializeOwned>(body: Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))
}

fn over_the_cap() -> ApiError {
    ApiError::new(
        "request_too_large",
        exit::USAGE,
        format!("the request is larger than {} MiB", BODY_BYTES >> 20),
        "Name the .p2p file, not the content: none is this large.",
    )
}

pub(super) fn malformed(cause: String) -> ApiError {
    ApiError::new(
        "bad_request",
        exit::USAGE,
        format!("the request is malformed: {cause}"),
        "Use the client program of the daemon's version.",
    )
}

pub(super) fn stream_events(events: mpsc::Receiver<Event>, stop: CancellationToken) -> Response {
    Sse::new(until_final(events).take_until(stop.cancelled_owned())).into_response()
}

fn until_final(
    events: mpsc::Receiver<Event>,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    stream::unfold(Some(events), |events| async {
        let mut events = events?;
        let event = events.recv().await?;
        let rest = (!event.is_final()).then_some(events);
        Some((Ok(sse::Event::default().data(event.to_json())), rest))
    })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match self.exit {
            exit::USAGE => StatusCode::BAD_REQUEST,
            exit::TRACKER_UNREACHABLE => StatusCode::BAD_GATEWAY,
            exit::NO_SOURCE => StatusCode::GATEWAY_TIMEOUT,
            exit::VERIFICATION_FAILED => StatusCode::UNPROCESSABLE_ENTITY,
            exit::DISK => StatusCode::INSUFFICIENT_STORAGE,
            exit::REFUSED => StatusCode::FORBIDDEN,
            exit::NOT_FOUND => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(Event::from(self))).into_response()
    }
}
