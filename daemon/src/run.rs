//! A daemon from start to end: lock, key, socket, shares, node, control API.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use warren_net::{
    AcceptError, BindError, Endpoint, Identity, IdentityError, Incoming, Profile, Protocol, Relay,
    Unsolicited, raise_open_files,
};
use warren_proto::content::HostPort;
use warren_proto::id::{SwarmId, TrackerPin};
use warren_proto::swarm::RelayConfig;
use warren_proto::wire::Paths;
use warren_service::notify::Notifier;

use crate::control::api::{self, Control};
use crate::control::model::{ApiError, DownloadRequest, Event, LimitRequest, Source, exit};
use crate::control::wish::Wish;
use crate::home::{DaemonHome, guess_lock, known_trackers};
use crate::hooks::{HookCommands, Hooks};
use crate::log::Log;
use crate::memory::Memory;
use crate::node::commands::NodeControl;
use crate::node::{self, Node, NodeConfig, NodeEvent, NodeSender, OwnTracker};
use crate::pace::Pace;
use crate::peer::interfaces::host_candidates;
use crate::peer::seat::PeerSeat;
use crate::portmap::{self, PortMapping};
use crate::punch::{self, PunchHandle};
use crate::share::depot::{Depot, Limited};
use crate::started::Started;
use crate::store::atomic::try_folder;
use crate::store::db::ShareDb;
use crate::store::settings::{Manners, SpeedLimit};
use crate::store::taken::IfExists;
use crate::watch::watch;

/// How long peers may take to hear that we are gone.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of all state, absolute.
    pub home: PathBuf,
    /// Number of the daemon.
    pub idx: u16,
    /// `host:port` of the tracker.
    pub tracker: String,
    /// What the tracker's key must match, when given.
    pub tracker_pin: Option<TrackerPin>,
    /// Where to listen for peers; when not given, any address and the port that the key stands for, or
    /// a free one where that is taken.
    pub listen: Option<SocketAddr>,
    /// By which paths peers may reach it.
    pub paths: Paths,
    /// Where downloads and `.p2p` files go, absolute.
    pub downloads: PathBuf,
    /// What it passes on between peers of its swarms that cannot meet, in bits per second; nothing
    /// unless given.
    pub relay_for_swarm: Option<u64>,
    /// How fast it may send and receive, as far as that differs from what was kept.
    pub limits: LimitRequest,
    /// Whether the router may be asked to let peers in.
    pub port_mapping: PortMapping,
    /// Commands to run when something became of a share.
    pub hooks: HookCommands,
    /// A folder whose `.p2p` and `.link` files are downloaded, absolute.
    pub watch: Option<PathBuf>,
    /// What may be in memory because of peers, in MiB, at least [`LEAST_MIB`](crate::memory::LEAST_MIB).
    pub memory_mib: u32,
    /// Where the program writes its log too, for `client logs`.
    pub log: Log,
    /// How it was started, kept for who starts it again.
    pub started: Option<Started>,
}

/// Runs a daemon until it is stopped by SIGINT, SIGTERM or its control API.
///
/// # Errors
///
/// When it cannot start, or its tracker turns out to be another one than the one known.
pub async fn run(config: Config) -> Result<(), ApiError> {
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    raise_open_files();
    let home =
        DaemonHome::open(&config.home, config.idx).map_err(|error| ApiError::from(&error))?;
    let identity = Identity::load_or_create(&home.key()).map_err(|error| identity_error(&error))?;
    let own = own_tracker(&config)?;
    check_downloads(&config.downloads)?;
    config.watch.as_deref().map_or(Ok(()), check_watch)?;
    let open = |path: PathBuf| ShareDb::open(&path).map_err(|error| ApiError::from(&error));
    let db = blocking(home.db(), open).await?;
    let depot = Arc::new(Depot::new(db, home.journal_dir()));
    blocking(depot.clone(), |depot| depot.recover_exchanges()).await?;
    let records = blocking(depot.clone(), |depot| depot.records()).await?;
    let followed = blocking(depot.clone(), |depot| depot.followed()).await?;
    let published = blocking(depot.clone(), |depot| depot.published()).await?;
    let known = blocking(depot.clone(), |depot| depot.known_versions()).await?;
    let paused = blocking(depot.clone(), |depot| depot.paused()).await?;
    let terms = blocking(depot.clone(), |depot| depot.terms()).await?;
    let limits = config.limits.clone();
    let (manners, share_limits) =
        blocking(depot.clone(), move |depot| keep_limits(&depot, &limits)).await?;
    let endpoint = bind(&identity, config.listen)?;
    let listener = api::bind(home.socket()).map_err(|error| socket_error(home.socket(), &error))?;

    let started = home.keep_started(config.started.clone());
    let started = started.unwrap_or_else(|error| {
        tracing::warn!(%error, "it is not noted how this daemon was started");
        None
    });

    let (sender, events) = node::channel();
    let candidates = host_candidates(endpoint.local_addr());
    let port_mapping = match config.paths {
        Paths::RelayOnly => PortMapping::RelayOnly,
        Paths::Any | Paths::DirectOnly => config.port_mapping,
    };
    let (ports, asking) = portmap::start(
        port_mapping,
        endpoint.local_addr(),
        sender.clone(),
        stop.clone(),
    );
    let punch = punch::start(
        endpoint.clone(),
        sender.clone(),
        candidates.clone(),
        ports,
        guess_lock(&config.home),
        stop.clone(),
    );
    let relay = config
        .relay_for_swarm
        .map(|bits_per_s| start_relay(bits_per_s, &endpoint, stop.clone()));
    let (hooks, hooks_running) = Hooks::start(config.hooks.clone(), stop.clone());
    let parts = NodeConfig {
        idx: config.idx,
        key: identity.public_key(),
        endpoint: endpoint.clone(),
        depot: depot.clone(),
        downloads: config.downloads.clone(),
        punch: punch.clone(),
        pace: Pace::start(endpoint.socket(), &stop),
        memory: Arc::new(Memory::new(config.memory_mib)),
        paths: config.paths,
        relay,
        candidates,
        hooks,
        started: started.map(Arc::new),
        stop: stop.clone(),
    };
    let mut node = Node::new(parts, sender.clone(), own);
    node.restore_limits(manners, share_limits);
    node.restore_versions(followed, published);
    node.restore(records);
    node.restore_known(known);
    node.restore_terms(terms);
    node.restore_pauses(paused);
    node.hold_superseded();
    let accepting = tokio::spawn(accept(endpoint.clone(), sender.clone(), punch));
    let control = NodeControl::new(
        sender,
        (config.downloads.clone(), depot),
        config.log.clone(),
        stop.clone(),
    );
    let idx = config.idx;
    let watching = config.watch.clone().map(|folder| {
        let downloading = control.clone();
        let download = move |source| begin(downloading.clone(), source);
        tokio::spawn(watch((folder, idx), download, stop.clone()))
    });
    let api = tokio::spawn(api::serve(listener, control, stop.clone()));
    announce(&config, endpoint.local_addr());
    let notifier = Notifier::from_env();
    notifier.ready();

    let ended = node.run(events, notifier).await;
    stop.cancel();
    // All end by themselves now; what they say no longer matters.
    let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
    let _ = asking.await;
    let _ = api.await;
    let _ = hooks_running.await;
    if let Some(watching) = watching {
        let _ = watching.await;
    }
    accepting.abort();
    ended
}

/// Whoever names a wrong folder learns of it now, and not when something was fetched.
fn check_downloads(folder: &Path) -> Result<(), ApiError> {
    try_folder(folder).map_err(|error| {
        let message = format!("downloads cannot go to {}: {error}", folder.display());
        let hint = "Name a folder that you may write to with --downloads DIR.";
        ApiError::new("downloads", exit::DISK, message, hint)
    })
}

/// Where a single download goes, if not to the downloads.
pub(crate) fn check_target(folder: &Path) -> Result<(), ApiError> {
    let refused = |cause: &str| {
        let message = format!("downloads cannot go to {}: {cause}", folder.display());
        let hint = "Name a folder that the daemon may write to with --to DIR.";
        ApiError::new("downloads", exit::DISK, message, hint)
    };
    if !folder.is_absolute() {
        return Err(refused("it is not an absolute path"));
    }
    try_folder(folder).map_err(|error| refused(&error.to_string()))
}

/// A folder to watch has to be there: it is the person who fills it.
fn check_watch(folder: &Path) -> Result<(), ApiError> {
    let is_there = folder.metadata().and_then(|_| try_folder(folder));
    is_there.map_err(|error| {
        let message = format!("cannot watch {}: {error}", folder.display());
        let hint = "Name a folder that is there and that you may write to with --watch DIR.";
        ApiError::new("watch", exit::DISK, message, hint)
    })
}

/// All of what was dropped into a folder is wanted.
async fn begin(
    control: NodeControl,
    source: Source,
) -> Result<tokio::sync::mpsc::Receiver<Event>, ApiError> {
    let request = DownloadRequest {
        source,
        wish: Wish::default(),
        to: None,
        if_exists: IfExists::Refuse,
        as_chosen: false,
    };
    control.download(request).await
}

/// Limits as they were kept, changed by those that are asked for now.
fn keep_limits(
    depot: &Depot,
    asked: &LimitRequest,
) -> Result<(Manners, Vec<(SwarmId, SpeedLimit)>), ApiError> {
    let (kept, of_shares) = depot.limits()?;
    let manners = node::limited(kept, asked)?;
    if manners != kept {
        depot.note_manners(manners);
        depot.keep_limit(Limited::All)?;
    }
    Ok((manners, of_shares))
}

/// Passes on what peers of our swarms send each other, once they have sessions.
fn start_relay(
    bits_per_s: u64,
    endpoint: &Endpoint,
    stop: CancellationToken,
) -> Arc<Relay<PeerSeat>> {
    let config = RelayConfig::of_peer(bits_per_s / 8);
    let relay = Arc::new(Relay::new(config, rand::random()));
    let (serving, batches) = (relay.clone(), endpoint.socket().take_relay());
    tokio::spawn(async move { stop.run_until_cancelled(serving.serve(batches)).await });
    relay
}

fn stop_on_signals(stop: CancellationToken) -> Result<(), ApiError> {
    let failed = |error| {
        let message = format!("cannot listen for signals: {error}");
        ApiError::new("no_signals", exit::OTHER, message, "")
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
        stop.cancel();
    });
    Ok(())
}

/// The tracker with the key given now, or the one it had when it was met.
fn own_tracker(config: &Config) -> Result<OwnTracker, ApiError> {
    let address: HostPort = config.tracker.parse().map_err(|error| {
        let hint = "Give it as host:port, such as tracker.example:59000.";
        ApiError::caused("tracker_address", exit::USAGE, &error, hint)
    })?;
    let explained = |error| {
        let hint = "Correct that line, or remove it to meet the tracker anew.";
        ApiError::caused("known_trackers", exit::OTHER, &error, hint)
    };
    let known = known_trackers(&config.home).map_err(explained)?;
    let pin = match config.tracker_pin {
        Some(pin) => Some(pin),
        None => known.lookup(&address).map_err(explained)?,
    };
    Ok(OwnTracker {
        address,
        pin,
        known,
    })
}

fn bind(identity: &Identity, listen: Option<SocketAddr>) -> Result<Endpoint, ApiError> {
    let serves = [Protocol::Peer];
    let only = Unsolicited::OnlyAdmitted;
    let bind = |addr| Endpoint::bind_with(addr, identity, &serves, Profile::Daemon, only);
    // A machine without IPv6 still has the other.
    let bind_any = |port: u16| {
        bind((Ipv6Addr::UNSPECIFIED, port).into())
            .or_else(|_| bind((Ipv4Addr::UNSPECIFIED, port).into()))
    };
    let bound = match listen {
        Some(addr) => bind(addr),
        // Started anew, it is where its peers knew it, and can tell them so.
        None => bind_any(identity.usual_port()).or_else(|_| bind_any(0)),
    };
    bound.map_err(|error| bind_error(&error))
}

async fn accept(endpoint: Endpoint, node: NodeSender, punch: PunchHandle) {
    while let Some(incoming) = endpoint.accept().await {
        let node = node.clone();
        let rtt = incoming.route().and_then(|route| punch.expected_rtt(route));
        // Bounded by the handshakes the endpoint admits at once.
        tokio::spawn(async move {
            if let Err(error) = take_in(incoming, rtt, &node).await {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "handshake not completed");
            }
        });
    }
}

/// Goes through with a handshake; the node may speak before it is over.
async fn take_in(
    incoming: Incoming,
    rtt: Option<Duration>,
    node: &NodeSender,
) -> Result<(), AcceptError> {
    let handshake = incoming.begin(rtt)?;
    if let Some(early) = handshake.early() {
        node.send(NodeEvent::PeerConnecting(early.clone())).await;
    }
    let connection = handshake.finish().await?;
    node.send(NodeEvent::PeerConnected(connection)).await;
    Ok(())
}

async fn blocking<I: Send + 'static, T: Send + 'static>(
    input: I,
    work: impl FnOnce(I) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let working = tokio::task::spawn_blocking(move || work(input)).await;
    working.unwrap_or_else(|error| {
        let message = format!("the daemon failed while it started: {error}");
        Err(ApiError::new("start", exit::OTHER, message, ""))
    })
}

/// Says that the daemon is up. Nobody may be reading, which is no reason to end.
fn announce(config: &Config, listening: SocketAddr) {
    let mut out = std::io::stdout().lock();
    let idx = config.idx;
    let tracker = &config.tracker;
    let downloads = config.downloads.display();
    let _ = writeln!(
        out,
        "daemon {idx} runs: peers at UDP {listening}, tracker {tracker}, downloads in {downloads}"
    );
    let _ = out.flush();
}

fn identity_error(error: &IdentityError) -> ApiError {
    let hint = error.hint().unwrap_or_default();
    ApiError::caused("key", exit::OTHER, error, hint)
}

fn bind_error(error: &BindError) -> ApiError {
    let hint = match error {
        _ if error.is_port_taken() => {
            "Choose another port with --listen, or leave it out for a free one."
        }
        _ if error.is_forbidden() => "Choose a port from 1024 on with --listen, or leave it out.",
        _ => "Give an address of this machine with --listen, or leave it out.",
    };
    ApiError::caused("listen", exit::OTHER, error, hint)
}

fn socket_error(path: &Path, error: &std::io::Error) -> ApiError {
    let message = format!("cannot open the control socket {}: {error}", path.display());
    let hint =
        "See that the folder is on a local file system and yours, or choose one with --home.";
    ApiError::new("control_socket", exit::OTHER, message, hint)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn why_an_address_cannot_be_listened_at_decides_what_is_advised() {
        for (kind, word) in [
            (ErrorKind::AddrInUse, "another port"),
            (ErrorKind::PermissionDenied, "from 1024 on"),
            (ErrorKind::AddrNotAvailable, "an address of this machine"),
        ] {
            let addr = ([127, 0, 0, 1], 80).into();
            let source = kind.into();
            let error = bind_error(&BindError::Socket { addr, source });
            assert!(error.hint.contains(word), "{kind}: {}", error.hint);
        }
    }

    #[test]
    fn a_folder_for_downloads_that_is_a_file_is_refused_and_a_missing_one_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let (file, missing) = (folder.path().join("file"), folder.path().join("a/b"));
        std::fs::write(&file, "theirs").unwrap();
        check_downloads(&missing).unwrap();
        assert!(!missing.exists());
        let error = check_downloads(&file).unwrap_err();
        assert_eq!((error.code.as_str(), error.exit), ("downloads", exit::DISK));
        assert!(error.message.contains("file"), "{}", error.message);
    }

    /// As root too, whom no permission there stops.
    #[test]
    fn downloads_go_to_no_file_system_of_the_kernel_and_trying_leaves_nothing() {
        for folder in ["/proc/warren", "/proc", "/sys/warren"] {
            let error = check_downloads(Path::new(folder)).unwrap_err();
            assert_eq!(error.code, "downloads", "{folder}");
        }
        let folder = tempfile::tempdir().unwrap();
        check_downloads(&folder.path().join("a/b")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
