//! The control API: HTTP on a Unix socket, answered by whatever implements [`Control`].
//!
//! | route under `/v1` | body | answer |
//! | --- | --- | --- |
//! | `POST register` | [`RegisterRequest`] | server-sent events, one [`Event`] per `data:` line |
//! | `POST download` | [`DownloadRequest`] | the same |
//! | `GET status`, `GET peers`, `GET attempts`, `GET doctor` | | a JSON array of [`Event`]s |
//! | `POST open` | [`OpenRequest`] | the link of a code, as an [`Event`] |
//! | `POST select` | [`SelectRequest`] | the share, as an [`Event`] |
//! | `POST remove` | [`RemoveRequest`] | 204 |
//! | `POST limit` | [`LimitRequest`] | a JSON array of [`Event`]s: the limits as they are now |
//! | `POST stop` | | 204; the daemon ends soon after |
//!
//! A stream ends after `registered`, `done` or `error`, or without any of them when the daemon is
//! stopped. What fails before a stream begins is answered with an `error` event as the body, once
//! the request has been read: a client that is still sending does not look for an answer. A
//! client that goes away, or closes its writing half, drops its receiver: the node cancels a
//! register then, and merely stops reporting a download.
//!
//! Not here: the events and requests ([`super::model`]), who may run a daemon in a folder.

use std::{
    convert::Infallible,
    fs::{self, DirBuilder, Permissions},
    future::{Future, ready},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response, Sse, sse},
    routing::{get, post},
    serve::Listener,
};
use futures_util::{Stream, StreamExt, stream};
use serde::de::DeserializeOwned;
use tokio::{
    net::{UnixListener, UnixStream, unix},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::home::SOCKET_PATH_BYTES;

use super::model::{
    ApiError, DownloadRequest, Event, LimitRequest, OpenRequest, RegisterRequest, RemoveRequest,
    SelectRequest, exit,
};

/// Largest request body. A `.p2p` has at most 64 MiB, which base64 makes 85.4 MiB.
pub const BODY_BYTES: usize = 96 * 1024 * 1024;

/// How long the rest of a body over [`BODY_BYTES`] is read and dropped before it is refused. Closed
/// while it sends, a client would report a broken connection instead of the reason.
const DRAIN: Duration = Duration::from_secs(5);

/// How long open connections may take to end once the daemon is stopping.
const GRACE: Duration = Duration::from_secs(2);

/// Pause after a failed accept, so that running out of file descriptors does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// What a daemon does for the person. The node implements it.
pub trait Control: Clone + Send + Sync + 'static {
    /// Shares a file or folder, reporting until [`Event::Registered`] or [`Event::Error`].
    /// Cancels when the receiver is dropped.
    fn register(
        &self,
        request: RegisterRequest,
    ) -> impl Future<Output = Result<mpsc::Receiver<Event>, ApiError>> + Send;

    /// Fetches content, or attaches to a share that is present, reporting until [`Event::Done`] or
    /// [`Event::Error`]. Goes on when the receiver is dropped.
    fn download(
        &self,
        request: DownloadRequest,
    ) -> impl Future<Output = Result<mpsc::Receiver<Event>, ApiError>> + Send;

    /// Wants other files of a share, or in another order; answers how it stands then.
    fn select(
        &self,
        request: SelectRequest,
    ) -> impl Future<Output = Result<Event, ApiError>> + Send;

    /// Opens a code: answers the link that it stands for. Costs one of its guesses if it is wrong.
    fn open(&self, request: OpenRequest) -> impl Future<Output = Result<Event, ApiError>> + Send;

    /// Trackers, shares and codes.
    fn status(&self) -> impl Future<Output = Vec<Event>> + Send;

    /// Connected peers.
    fn peers(&self) -> impl Future<Output = Vec<Event>> + Send;

    /// The latest attempts to reach peers, oldest first.
    fn attempts(&self) -> impl Future<Output = Vec<Event>> + Send;

    /// What could be better about how the daemon is connected, the most serious first, and then
    /// [`Event::Summary`].
    fn doctor(&self) -> impl Future<Output = Vec<Event>> + Send;

    /// Stops sharing or downloading.
    fn remove(&self, request: RemoveRequest) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Changes how fast it may send and receive, and tells the limits of what was named: of all shares
    /// together, or of one.
    fn limit(
        &self,
        request: LimitRequest,
    ) -> impl Future<Output = Result<Vec<Event>, ApiError>> + Send;

    /// Begins to end the daemon: cancels the token given to [`serve`], and returns at once.
    fn stop(&self) -> impl Future<Output = ()> + Send;
}

/// Opens the socket at `path`: mode 0600, in a folder of mode 0700 that is made if missing. A socket
/// file that nobody answers on is replaced.
///
/// # Errors
/// `InvalidInput` for a path longer than [`SOCKET_PATH_BYTES`], `AddrInUse` when a daemon answers on
/// it, and whatever the file system says.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let len = path.as_os_str().len();
    if len > SOCKET_PATH_BYTES {
        let message = format!(
            "socket path {} has {len} bytes, a Unix socket allows {SOCKET_PATH_BYTES}",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers requests until `stop` is cancelled; then ends open streams, gives connections a moment,
/// and removes the socket file.
///
/// # Errors
/// When the HTTP server fails for good.
pub async fn serve<C: Control>(
    listener: UnixListener,
    control: C,
    stop: CancellationToken,
) -> io::Result<()> {
    let path = listener.local_addr()?.as_pathname().map(Path::to_path_buf);
    let app = router(Api {
        control,
        stop: stop.clone(),
    });
    let listener = OwnUser {
        listener,
        uid: rustix::process::geteuid().as_raw(),
    };
    let server = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned());
    let result = tokio::select! {
        result = server.into_future() => result,
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    };
    if let Some(path) = path
        && let Err(error) = fs::remove_file(&path)
    {
        debug!(path = %path.display(), %error, "control socket file was gone already");
    }
    result
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("a daemon answers on {}", path.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// Accepts connections of the daemon's own user and of root, who could read its memory anyway.
struct OwnUser {
    listener: UnixListener,
    uid: u32,
}

impl Listener for OwnUser {
    type Io = UnixStream;
    type Addr = unix::SocketAddr;

    async fn accept(&mut self) -> (UnixStream, unix::SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) if self.admits(&stream) => return (stream, address),
                Ok(_) => (),
                Err(error) => {
                    warn!(%error, "control socket cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<unix::SocketAddr> {
        self.listener.local_addr()
    }
}

impl OwnUser {
    fn admits(&self, stream: &UnixStream) -> bool {
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == self.uid || peer.uid() == 0 => true,
            Ok(peer) => {
                warn!(uid = peer.uid(), "another user tried the control socket");
                false
            }
            Err(error) => {
                debug!(%error, "a connection to the control socket has no credentials");
                false
            }
        }
    }
}

#[derive(Clone)]
struct Api<C> {
    control: C,
    stop: CancellationToken,
}

fn router<C: Control>(api: Api<C>) -> Router {
    let v1 = Router::new()
        .route("/register", post(register::<C>))
        .route("/download", post(download::<C>))
        .route("/open", post(open::<C>))
        .route("/select", post(select::<C>))
        .route("/status", get(status::<C>))
        .route("/peers", get(peers::<C>))
        .route("/attempts", get(attempts::<C>))
        .route("/doctor", get(doctor::<C>))
        .route("/remove", post(remove::<C>))
        .route("/limit", post(limit::<C>))
        .route("/stop", post(stop::<C>));
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

async fn register<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let events = api.control.register(parse(body)?).await?;
    Ok(stream_events(events, api.stop))
}

async fn download<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let events = api.control.download(parse(body)?).await?;
    Ok(stream_events(events, api.stop))
}

async fn open<C: Control>(State(api): State<Api<C>>, body: Bytes) -> Result<Json<Event>, ApiError> {
    Ok(Json(api.control.open(parse(body)?).await?))
}

async fn select<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Json<Event>, ApiError> {
    Ok(Json(api.control.select(parse(body)?).await?))
}

async fn status<C: Control>(State(api): State<Api<C>>) -> Json<Vec<Event>> {
    Json(api.control.status().await)
}

async fn attempts<C: Control>(State(api): State<Api<C>>) -> Json<Vec<Event>> {
    Json(api.control.attempts().await)
}

async fn doctor<C: Control>(State(api): State<Api<C>>) -> Json<Vec<Event>> {
    Json(api.control.doctor().await)
}

async fn peers<C: Control>(State(api): State<Api<C>>) -> Json<Vec<Event>> {
    Json(api.control.peers().await)
}

async fn remove<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let request = parse(body)?;
    carry_out(async move { api.control.remove(request).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn limit<C: Control>(
    State(api): State<Api<C>>,
    body: Bytes,
) -> Result<Json<Vec<Event>>, ApiError> {
    let request = parse(body)?;
    let changed = carry_out(async move { api.control.limit(request).await });
    Ok(Json(changed.await?))
}

async fn stop<C: Control>(State(api): State<Api<C>>) -> StatusCode {
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

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
