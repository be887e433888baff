//! What each route of the control API does with a request: reads it, asks [`Control`], writes the answer.

use std::{
    convert::Infallible,
    future::{Future, ready},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response, Sse, sse},
    routing::{get, post},
};
use futures_util::{Stream, StreamExt, stream};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::Control;
use super::list::List;
use crate::control::model::{
    ApiError, DownloadRequest, Event, ExpireRequest, FollowRequest, LimitRequest, LogLine,
    OpenRequest, PreviewRequest, RegisterRequest, RelocateRequest, RemoveRequest, SelectRequest,
    ShareRequest, exit,
};

/// Largest request body. A `.p2p` has at most 64 MiB, which base64 makes 85.4 MiB.
pub const BODY_BYTES: usize = 96 * 1024 * 1024;

/// How long the rest of a body over [`BODY_BYTES`] is read and dropped before it is refused. Closed
/// while it sends, a client would report a broken connection instead of the reason.
const DRAIN: Duration = Duration::from_secs(5);

/// Lines of the log that are told unless another number is asked for.
const LOG_LINES: usize = 200;

/// Lines that may wait for a client that follows the log.
const LOG_EVENTS: usize = 64;

/// What every route has at hand.
#[derive(Clone)]
pub(super) struct Api<C> {
    pub(super) control: C,
    pub(super) stop: CancellationToken,
}

/// All routes.
pub(super) fn router<C: Control>(api: Api<C>) -> Router {
    let v1 = Router::new()
        .route("/register", post(register::<C>))
        .route("/download", post(download::<C>))
        .route("/preview", post(preview::<C>))
        .route("/follow", post(follow::<C>))
        .route("/unfollow", post(unfollow::<C>))
        .route("/open", post(open::<C>))
        .route("/select", post(select::<C>))
        .route("/status", get(status::<C>))
        .route("/peers", get(peers::<C>))
        .route("/attempts", get(attempts::<C>))
        .route("/doctor", get(doctor::<C>))
        .route("/shares", get(shares::<C>))
        .route("/events", get(events::<C>))
        .route("/logs", get(logs::<C>))
        .route("/pause", post(pause::<C>))
        .route("/resume", post(resume::<C>))
        .route("/verify", post(verify::<C>))
        .route("/relocate", post(relocate::<C>))
        .route("/expire", post(expire::<C>))
        .route("/revoke", post(revoke::<C>))
        .route("/link", post(link::<C>))
        .route("/contents", post(contents::<C>))
        .route("/cancel", post(cancel::<C>))
        .route("/remove", post(remove::<C>))
        .route("/limit", post(limit::<C>))
        .route("/stop", post(stop::<C>))
        .route("/openapi.json", get(openapi));
    Router::new()
        .nest("/v1", v1)
        .fallback(no_such_route)
        .layer(middleware::from_fn(read_body))
        .layer(DefaultBodyLimit::disable())
        .with_state(api)
}

/// Reads the body of every request, so that routes get at most [`BODY_BYTES`] of it, at once.
async fn read_body(request: Request, next: Next) -> Response {
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

/// Shares a file or folder where it lies.
#[utoipa::path(
    post,
    path = "/v1/register",
    summary = "Shares a file or folder where it lies",
    request_body = RegisterRequest,
    responses(
        (status = 200, description = "Progress, and then `registered` or `error`.", body = Event, content_type = "text/event-stream"),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn register<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let events = api.control.register(parse(body)?).await?;
    Ok(stream_events(events, api.stop))
}

/// Fetches content, or attaches to a share that is present.
#[utoipa::path(
    post,
    path = "/v1/download",
    summary = "Fetches content, or attaches to a share that is present",
    request_body = DownloadRequest,
    responses(
        (status = 200, description = "Progress, and then `done` or `error`. The download goes on when the connection is closed.", body = Event, content_type = "text/event-stream"),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn download<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let events = api.control.download(parse(body)?).await?;
    Ok(stream_events(events, api.stop))
}

/// What a download would be, without fetching any content.
#[utoipa::path(
    post,
    path = "/v1/preview",
    summary = "What a download would be, without fetching any content",
    request_body = PreviewRequest,
    responses(
        (status = 200, description = "Progress, and then `preview` or `error`.", body = Event, content_type = "text/event-stream"),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn preview<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let events = api.control.preview(parse(body)?).await?;
    Ok(stream_events(events, api.stop))
}

/// Follows a share: fetches its newest version and each that comes.
#[utoipa::path(
    post,
    path = "/v1/follow",
    summary = "Follows a share: fetches its newest version and each that comes",
    request_body = FollowRequest,
    responses(
        (status = 200, description = "Progress of the newest version, and then `done` or `error`. Following goes on when the connection is closed.", body = Event, content_type = "text/event-stream"),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn follow<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let events = api.control.follow(parse(body)?).await?;
    Ok(stream_events(events, api.stop))
}

/// Follows a share no longer; the version that is here stays.
#[utoipa::path(
    post,
    path = "/v1/unfollow",
    summary = "Follows a share no longer",
    request_body = ShareRequest,
    responses(
        (status = 204, description = "Done."),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn unfollow<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let request = parse(body)?;
    carry_out(async move { api.control.unfollow(request).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The link of a code. Costs one guess if it is wrong.
#[utoipa::path(
    post,
    path = "/v1/open",
    summary = "The link of a code",
    request_body = OpenRequest,
    responses(
        (status = 200, description = "An `opened` event.", body = Event),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn open<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Json<Event>, ApiError> {
    Ok(Json(api.control.open(parse(body)?).await?))
}

/// Wants other files of a share, or in another order.
#[utoipa::path(
    post,
    path = "/v1/select",
    summary = "Wants other files of a share, or in another order",
    request_body = SelectRequest,
    responses(
        (status = 200, description = "The share.", body = Event),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn select<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Json<Event>, ApiError> {
    Ok(Json(api.control.select(parse(body)?).await?))
}

/// Trackers, the port of the router, limits, shares, and codes.
#[utoipa::path(
    get,
    path = "/v1/status",
    summary = "Trackers, the port of the router, limits, shares, and codes",
    responses(
        (status = 200, description = "`tracker`, `port_mapping`, `limits`, `share` and `code` events.", body = Vec<Event>),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn status<C: Control>(State(api): State<Api<C>>) -> List {
    List(api.control.status().await)
}

/// The latest attempts to reach peers, oldest first.
#[utoipa::path(
    get,
    path = "/v1/attempts",
    summary = "The latest attempts to reach peers, oldest first",
    responses(
        (status = 200, description = "`attempt` events.", body = Vec<Event>),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn attempts<C: Control>(State(api): State<Api<C>>) -> List {
    List(api.control.attempts().await)
}

/// What could be better about how the daemon is connected.
#[utoipa::path(
    get,
    path = "/v1/doctor",
    summary = "What could be better about how the daemon is connected",
    responses(
        (status = 200, description = "`finding` events, the most serious first, and a `summary`.", body = Vec<Event>),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn doctor<C: Control>(State(api): State<Api<C>>) -> List {
    List(api.control.doctor().await)
}

/// Connected peers.
#[utoipa::path(
    get,
    path = "/v1/peers",
    summary = "Connected peers",
    responses(
        (status = 200, description = "`peer` events.", body = Vec<Event>),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn peers<C: Control>(State(api): State<Api<C>>) -> List {
    List(api.control.peers().await)
}

/// Shares alone.
#[utoipa::path(
    get,
    path = "/v1/shares",
    summary = "Shares alone",
    params(
        ("beginning" = Option<String>, Query, description = "With what their name or content id is to begin"),
    ),
    responses(
        (status = 200, description = "`share` events.", body = Vec<Event>),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn shares<C: Control>(
    State(api): State<Api<C>>,
    uri: Uri,
) -> Result<List, ApiError> {
    let beginning = beginning(uri.query().unwrap_or_default())?;
    Ok(List(api.control.shares(beginning).await))
}

/// With what shares are to begin that are asked for.
fn beginning(query: &str) -> Result<String, ApiError> {
    let mut beginning = String::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        beginning = match pair.split_once('=') {
            Some(("beginning", text)) => match percent_decode_str(text).decode_utf8() {
                Ok(text) => text.into_owned(),
                Err(_) => return Err(malformed("beginning is not UTF-8".to_owned())),
            },
            _ => return Err(malformed(format!("there is no parameter {pair}"))),
        };
    }
    Ok(beginning)
}

/// Everything as it stands, and what is otherwise from then on.
#[utoipa::path(
    get,
    path = "/v1/events",
    summary = "Everything as it stands, and what is otherwise from then on",
    responses(
        (status = 200, description = "All of `status` and `peers`; then each that is otherwise, once a second at most, and `gone`.", body = Event, content_type = "text/event-stream"),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn events<C: Control>(State(api): State<Api<C>>) -> Result<Response, ApiError> {
    let events = api.control.events().await?;
    Ok(stream_events(events, api.stop))
}

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
        return Ok(Json(events).into_response());
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

/// Neither fetches nor gives a share from now on.
#[utoipa::path(
    post,
    path = "/v1/pause",
    summary = "Neither fetches nor gives a share from now on",
    request_body = ShareRequest,
    responses(
        (status = 200, description = "The share.", body = Event),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn pause<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Json<Event>, ApiError> {
    let request = parse(body)?;
    let paused = carry_out(async move { api.control.pause(request).await });
    Ok(Json(paused.await?))
}

/// Goes on with a share that is paused, or was stopped by an error.
#[utoipa::path(
    post,
    path = "/v1/resume",
    summary = "Goes on with a share that is paused, or was stopped by an error",
    request_body = ShareRequest,
    responses(
        (status = 200, description = "The share.", body = Event),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn resume<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Json<Event>, ApiError> {
    let request = parse(body)?;
    let resumed = carry_out(async move { api.control.resume(request).await });
    Ok(Json(resumed.await?))
}

/// Reads again all that is stored of a share, and fetches what is wrong.
#[utoipa::path(
    post,
    path = "/v1/verify",
    summary = "Reads again all that is stored of a share, and fetches what is wrong",
    request_body = ShareRequest,
    responses(
        (status = 200, description = "Progress, and then `done` or `error`.", body = Event, content_type = "text/event-stream"),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn verify<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let events = api.control.verify(parse(body)?).await?;
    Ok(stream_events(events, api.stop))
}

/// Looks for the files of a share at another path.
#[utoipa::path(
    post,
    path = "/v1/relocate",
    summary = "Looks for the files of a share at another path",
    request_body = RelocateRequest,
    responses(
        (status = 200, description = "Progress, and then `done` or `error`.", body = Event, content_type = "text/event-stream"),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn relocate<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let events = api.control.relocate(parse(body)?).await?;
    Ok(stream_events(events, api.stop))
}

/// Removes a share after a time, or never.
#[utoipa::path(
    post,
    path = "/v1/expire",
    summary = "Removes a share after a time, or never",
    request_body = ExpireRequest,
    responses(
        (status = 200, description = "The share.", body = Event),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn expire<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Json<Event>, ApiError> {
    let request = parse(body)?;
    let changed = carry_out(async move { api.control.expire(request).await });
    Ok(Json(changed.await?))
}

/// Gives a share no longer until it is registered again.
#[utoipa::path(
    post,
    path = "/v1/revoke",
    summary = "Gives a share no longer until it is registered again",
    request_body = ShareRequest,
    responses(
        (status = 200, description = "The share.", body = Event),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn revoke<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Json<Event>, ApiError> {
    let request = parse(body)?;
    let changed = carry_out(async move { api.control.revoke(request).await });
    Ok(Json(changed.await?))
}

/// The link of a share.
#[utoipa::path(
    post,
    path = "/v1/link",
    summary = "The link of a share",
    request_body = ShareRequest,
    responses(
        (status = 200, description = "A `link` event.", body = Event),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn link<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Json<Event>, ApiError> {
    Ok(Json(api.control.link(parse(body)?).await?))
}

/// Files, which parts are here, and peers of a share.
#[utoipa::path(
    post,
    path = "/v1/contents",
    summary = "Files, which parts are here, and peers of a share",
    request_body = ShareRequest,
    responses(
        (status = 200, description = "A `contents` event.", body = Event),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn contents<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Json<Event>, ApiError> {
    Ok(Json(api.control.contents(parse(body)?).await?))
}

/// Ends a download and deletes what is there of it.
#[utoipa::path(
    post,
    path = "/v1/cancel",
    summary = "Ends a download and deletes what is there of it",
    request_body = ShareRequest,
    responses(
        (status = 204, description = "It is gone."),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn cancel<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let request = parse(body)?;
    carry_out(async move { api.control.cancel(request).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stops sharing or downloading.
#[utoipa::path(
    post,
    path = "/v1/remove",
    summary = "Stops sharing or downloading",
    request_body = RemoveRequest,
    responses(
        (status = 204, description = "It is gone."),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn remove<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let request = parse(body)?;
    carry_out(async move { api.control.remove(request).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes how fast the daemon, or one share, may send and receive.
#[utoipa::path(
    post,
    path = "/v1/limit",
    summary = "Changes how fast the daemon, or one share, may send and receive",
    request_body = LimitRequest,
    responses(
        (status = 200, description = "The limits as they are now.", body = Vec<Event>),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn limit<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Json<Vec<Event>>, ApiError> {
    let request = parse(body)?;
    let changed = carry_out(async move { api.control.limit(request).await });
    Ok(Json(changed.await?))
}

/// Ends the daemon.
#[utoipa::path(
    post,
    path = "/v1/stop",
    summary = "Ends the daemon",
    responses(
        (status = 204, description = "It ends soon after."),
        (status = "default", description = "An `error` event.", body = Event),
    )
)]
pub(super) async fn stop<C: Control>(State(api): State<Api<C>>) -> StatusCode {
    // The order stands even when nobody waits for the answer.
    let ordered = carry_out(async move {
        api.control.stop().await;
        Ok(())
    });
    match ordered.await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Carries out an order to its end, also when the client that gave it has gone: the handler itself
/// ends then.
async fn carry_out<T: Send + 'static>(
    order: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(order).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::new(
            "internal",
            exit::OTHER,
            "the daemon failed at it",
            "",
        )),
    }
}

/// The description of the control API.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    summary = "This description",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object))
)]
pub(super) async fn openapi() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        super::openapi::json(),
    )
}

async fn no_such_route() -> ApiError {
    ApiError::new(
        "no_such_route",
        exit::NOT_FOUND,
        "the daemon has no such route",
        "Use the client program of the daemon's version.",
    )
}

/// Reads a request whatever its `Content-Type` says: `curl -d` sends the wrong one.
fn parse<T: DeserializeOwned>(body: Bytes) -> Result<T, ApiError> {
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

fn malformed(cause: String) -> ApiError {
    ApiError::new(
        "bad_request",
        exit::USAGE,
        format!("the request is malformed: {cause}"),
        "Use the client program of the daemon's version.",
    )
}

fn stream_events(events: mpsc::Receiver<Event>, stop: CancellationToken) -> Response {
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
