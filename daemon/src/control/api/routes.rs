//! What each route of the control API does with a request: reads it, asks [`Control`], writes the answer.
//!
//! Not here: the bodies of both ([`super::body`]), the log ([`super::logs`]).

use std::future::Future;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use percent_encoding::percent_decode_str;
use tokio_util::sync::CancellationToken;

use super::Control;
use super::body::{malformed, parse, read_body, stream_events};
use super::list::List;
use super::logs::logs;
use crate::control::model::{
    ApiError, DownloadRequest, Event, ExpireRequest, FollowRequest, LimitRequest, OpenRequest,
    PreviewRequest, RegisterRequest, RelocateRequest, RemoveRequest, SelectRequest, ShareRequest,
    exit,
};

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
