//! The control API: HTTP on a Unix socket, answered by whatever implements [`Control`].
//!
//! | route under `/v1` | body | answer |
//! | --- | --- | --- |
//! | `POST register` | [`RegisterRequest`] | server-sent events, one [`Event`] per `data:` line |
//! | `POST download` | [`DownloadRequest`] | the same |
//! | `POST preview` | [`PreviewRequest`] | the same |
//! | `GET status`, `GET peers`, `GET attempts`, `GET doctor` | | a JSON array of [`Event`]s |
//! | `POST follow` | [`FollowRequest`] | server-sent events, as `download` |
//! | `POST unfollow` | [`ShareRequest`] | 204 |
//! | `POST open` | [`OpenRequest`] | the link of a code, as an [`Event`] |
//! | `GET shares?beginning=TEXT` | | the shares of these alone; those whose name or content id begins so |
//! | `GET events` | | server-sent events: all of `status` and `peers`, then each that is otherwise, and `gone` |
//! | `GET logs?lines=N` | | a JSON array of `log` events; with `follow=true` server-sent ones |
//! | `POST select` | [`SelectRequest`] | the share, as an [`Event`] |
//! | `POST pause`, `POST resume` | [`ShareRequest`] | the share, as an [`Event`] |
//! | `POST verify` | [`ShareRequest`] | server-sent events, as `download` |
//! | `POST link` | [`ShareRequest`] | the link, as an [`Event`] |
//! | `POST contents` | [`ShareRequest`] | files, which parts are here, and peers, as an [`Event`] |
//! | `POST relocate` | [`RelocateRequest`] | the same |
//! | `POST expire` | [`ExpireRequest`] | the share, as an [`Event`] |
//! | `POST revoke` | [`ShareRequest`] | the same |
//! | `POST cancel` | [`ShareRequest`] | 204 |
//! | `POST remove` | [`RemoveRequest`] | 204 |
//! | `POST limit` | [`LimitRequest`] | a JSON array of [`Event`]s: the limits as they are now |
//! | `POST stop` | | 204; the daemon ends soon after |
//! | `GET openapi.json` | | the description of all this |
//!
//! A stream ends after `registered`, `done`, `preview` or `error`, or without any of them when the daemon is
//! stopped. What fails before a stream begins is answered with an `error` event as the body, once
//! the request has been read: a client that is still sending does not look for an answer. A
//! client that goes away, or closes its writing half, drops its receiver: the node cancels a
//! register then, and merely stops reporting a download.
//!
//! [`openapi`] describes all this to programs.
//!
//! Not here: what each route does ([`routes`]), the events and requests ([`super::model`]), who may run a
//! daemon in a folder.

mod body;
mod list;
mod logs;
mod openapi;
mod routes;

use std::{
    fs::{self, DirBuilder, Permissions},
    future::Future,
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    net::{UnixListener, UnixStream, unix},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{home::SOCKET_PATH_BYTES, log::Log};

use super::model::{
    ApiError, DownloadRequest, Event, ExpireRequest, FollowRequest, LimitRequest, OpenRequest,
    PreviewRequest, RegisterRequest, RelocateRequest, RemoveRequest, SelectRequest, ShareRequest,
};
pub use body::BODY_BYTES;
use routes::{Api, router};

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

    /// Learns what a download would be, reporting until [`Event::Preview`] or [`Event::Error`]. Ends when the
    /// receiver is dropped.
    fn preview(
        &self,
        request: PreviewRequest,
    ) -> impl Future<Output = Result<mpsc::Receiver<Event>, ApiError>> + Send;

    /// Wants other files of a share, or in another order; answers how it stands then.
    fn select(
        &self,
        request: SelectRequest,
    ) -> impl Future<Output = Result<Event, ApiError>> + Send;

    /// Opens a code: answers the link that it stands for. Costs one of its guesses if it is wrong.
    fn open(&self, request: OpenRequest) -> impl Future<Output = Result<Event, ApiError>> + Send;

    /// Follows a share: fetches its newest version, reporting as a download, and each that comes. Goes on when the
    /// receiver is dropped.
    fn follow(
        &self,
        request: FollowRequest,
    ) -> impl Future<Output = Result<mpsc::Receiver<Event>, ApiError>> + Send;

    /// Follows a share no longer; the version that is here stays.
    fn unfollow(&self, request: ShareRequest) -> impl Future<Output = Result<(), ApiError>> + Send;

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

    /// Ends a download and removes what is there of it.
    fn cancel(&self, request: ShareRequest) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Neither fetches nor gives a share from now on; answers how it stands then.
    fn pause(&self, request: ShareRequest) -> impl Future<Output = Result<Event, ApiError>> + Send;

    /// Goes on with a share that is paused or was stopped by an error; answers how it stands then.
    fn resume(&self, request: ShareRequest)
    -> impl Future<Output = Result<Event, ApiError>> + Send;

    /// Reads again all that is stored of a share and fetches what is wrong, reporting as a download.
    fn verify(
        &self,
        request: ShareRequest,
    ) -> impl Future<Output = Result<mpsc::Receiver<Event>, ApiError>> + Send;

    /// Looks whether the files of a share are at another path, and gives it from there if so, reporting as a
    /// download.
    fn relocate(
        &self,
        request: RelocateRequest,
    ) -> impl Future<Output = Result<mpsc::Receiver<Event>, ApiError>> + Send;

    /// Removes a share after a time, or never; answers how it stands then.
    fn expire(
        &self,
        request: ExpireRequest,
    ) -> impl Future<Output = Result<Event, ApiError>> + Send;

    /// Gives a share no longer, until it is registered again; answers how it stands then.
    fn revoke(&self, request: ShareRequest)
    -> impl Future<Output = Result<Event, ApiError>> + Send;

    /// The link of a share.
    fn link(&self, request: ShareRequest) -> impl Future<Output = Result<Event, ApiError>> + Send;

    /// What a share is made of.
    fn contents(
        &self,
        request: ShareRequest,
    ) -> impl Future<Output = Result<Event, ApiError>> + Send;

    /// Shares alone, whose name or content id begins with this.
    fn shares(&self, beginning: String) -> impl Future<Output = Vec<Event>> + Send;

    /// Everything as it stands, and what is otherwise from then on.
    fn events(&self) -> impl Future<Output = Result<mpsc::Receiver<Event>, ApiError>> + Send;

    /// What the daemon has said of itself.
    fn log(&self) -> &Log;

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

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
