//! What most subcommands do.
//!
//! Not here: `doctor`, `explain`, `inspect`, `limit` and `select`, which have files of their own, what is done
//! with one share ([`crate::shares`]), how its end is waited for ([`crate::watching`]), how the daemon is
//! reached ([`crate::control`]) and how things look ([`crate::lines`], [`crate::output`], [`crate::text`]).

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use warren_daemon::{
    PortMapping,
    control::model::{
        ApiError, CodeGiven, Done, DownloadRequest, Event, FollowRequest, IfExists, OpenRequest,
        PeerPath, PreviewRequest, RegisterRequest, Registered, Source, exit,
    },
    control::source::Parsed,
    home::{is_held, socket_path},
    log::Log,
};
use warren_proto::code::Code;

use crate::{
    advice::addressed,
    args::{DaemonArgs, DownloadArgs, FollowArgs, RegisterArgs},
    ask::{self, Ask},
    control::Daemon,
    home,
    lines::{self, line},
    normal,
    output::Output,
    progress::Live,
    select::counts,
    shares::unreached,
    source::{self, Named, Typed},
    start,
    started::Started,
    text,
    watching::{Interrupt, interrupted_before, unexpected},
};

/// How long a stopping daemon may take to let go of its socket: it has 2 s for open connections
/// and then writes down what it has.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Gap between two looks at a stopping daemon.
const STOP_POLL: Duration = Duration::from_millis(50);

/// Runs a daemon until it is stopped.
///
/// # Errors
/// When it cannot start, or fails for good.
pub(crate) async fn daemon(
    home: Option<PathBuf>,
    args: DaemonArgs,
    log: Log,
) -> Result<(), ApiError> {
    let (paths, limits, idx, typed) = (args.paths(), args.limits(), args.idx, home.clone());
    let settled = limits.clone();
    let downloads = match args.downloads {
        Some(folder) => folder,
        None => Path::new("downloads").join(format!("daemon-{}", args.idx)),
    };
    warren_daemon::run(warren_daemon::Config {
        home: home::folder(home.as_deref())?,
        idx: args.idx,
        tracker: args.tracker.address,
        tracker_pin: args.tracker.pin,
        listen: args.listen,
        paths,
        relay_for_swarm: args.relay_for_swarm.0,
        limits,
        hooks: args.hooks.commands(),
        watch: args
            .watch
            .map(|folder| normal::absolute(&folder).map_err(home::no_working_folder))
            .transpose()?,
        downloads: normal::absolute(&downloads).map_err(home::no_working_folder)?,
        port_mapping: match args.no_port_mapping {
            true => PortMapping::Off,
            false => PortMapping::WhereNeeded,
        },
        memory_mib: args.memory,
        log,
        started: Started::now(&settled).and_then(|started| started.to_keep()),
    })
    .await
    .map_err(|error| {
        let hint = addressed(&error.hint, idx, typed.as_deref());
        ApiError { hint, ..error }
    })
}

/// One command to one daemon.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) daemon: Daemon,
    pub(crate) output: Output,
}

impl Client {
    /// Addresses daemon `idx` under `home`, as `--home` was typed.
    ///
    /// # Errors
    /// When there is no state folder, or its path is too long for a socket.
    pub(crate) fn new(home: Option<PathBuf>, idx: u16, output: Output) -> Result<Self, ApiError> {
        let folder = home::folder(home.as_deref())?;
        let socket = socket_path(&folder, idx).map_err(|error| {
            let hint = "Name a shorter folder with --home DIR or WARREN_HOME.";
            ApiError::caused("home_path", exit::USAGE, &error, hint)
        })?;
        let daemon = Daemon {
            idx,
            socket,
            home,
            tracker: None,
        };
        Ok(Client { daemon, output })
    }

    /// Shares a path; stdout gets the path of its `.p2p`, the link and the code, if one was asked for.
    ///
    /// # Errors
    /// When it cannot be read, the daemon refuses, or Ctrl-C interrupts it.
    pub(crate) async fn register(self, args: RegisterArgs) -> Result<(), ApiError> {
        let request = RegisterRequest {
            path: absolute(&args.path)?,
            output: args.output.as_deref().map(absolute).transpose()?,
            skip_special: args.skip_special,
            code: args.code_wish(),
            expire_s: args.expire.map(|after| after.seconds().unwrap_or_default()),
            max_downloads: args.max_downloads,
            update: args.update,
        };
        let name = request.path.file_name().unwrap_or(OsStr::new("/"));
        if source::is_manifest(&request.path) {
            let (name, path) = (name.to_string_lossy(), home::quoted(&args.path));
            let note = "is shared as a file; to fetch what it names: client download";
            let note = format!("note: {name} {note} {path} IDX");
            self.output.message(&self.daemon.addressed(&note));
        }
        let live = Live::new(name.to_string_lossy(), self.output);
        let registering = async {
            let events = self.daemon.follow("register", &request).await?;
            self.watch(events, live, None).await
        };
        match Interrupt::listen()?.or(registering).await {
            Some(Ok(Event::Registered(registered))) => self.show_registered(&registered),
            Some(result) => unexpected(result),
            None => Err(ApiError::new(
                "interrupted",
                exit::INTERRUPTED,
                "interrupted; nothing was registered",
                "Run the same command again to share it.",
            )),
        }
    }

    fn show_registered(&self, registered: &Registered) -> Result<(), ApiError> {
        let no_code = || registered.no_code.clone().map_or(Ok(()), Err);
        if self.output.json() {
            self.output.event(&Event::Registered(registered.clone()))?;
            return no_code();
        }
        self.output.message(&format!(
            "shared {}: {}, {}, id {}",
            registered.path,
            text::count(registered.files, "file"),
            text::bytes(registered.bytes),
            registered.content_id
        ));
        let terms = lines::terms((
            registered.expires_unix_ms,
            registered.max_downloads,
            registered.downloads,
        ));
        if let Some(terms) = terms {
            self.output.message(&format!("its terms: {terms}"));
        }
        // Of what is followed a line says so: its version is another one.
        let replaces = registered.replaces.iter();
        for former in replaces.filter(|_| registered.publisher.is_none()) {
            self.output.message(&format!(
                "replaces {former}, which was the same path before it changed"
            ));
        }
        for warning in &registered.warnings {
            self.output.message(&format!("note: {warning}"));
        }
        self.output.result(&registered.manifest)?;
        match &registered.link {
            Some(link) => self.output.result(link)?,
            None => self
                .output
                .message("there is no link: the tracker's key is not known yet"),
        }
        if let Some(read) = registered.read_bytes
            && read < registered.bytes
        {
            self.output.message(&format!(
                "{} of it were read; the rest is as it was in the version before",
                text::bytes(read)
            ));
        }
        self.show_version(registered)?;
        if let Some(given) = &registered.code {
            self.show_code(given)?;
        }
        no_code()
    }

    fn show_version(&self, registered: &Registered) -> Result<(), ApiError> {
        let Some(sequence) = registered.sequence else {
            return Ok(());
        };
        let Some(link) = &registered.follow_link else {
            self.output.message(&format!("this is version {sequence}"));
            return Ok(());
        };
        self.output.message(&format!(
            "this is version {sequence}; whoever has the follow link gets it and those that come: client follow {link}"
        ));
        self.output.result(link)
    }

    fn show_code(&self, given: &CodeGiven) -> Result<(), ApiError> {
        let who = match given.once {
            true => "the first who types it at this tracker can fetch it",
            false => "whoever types it at this tracker can fetch it",
        };
        let time = text::duration(given.expires_s.into());
        self.output.message(&format!(
            "{who}, for {time} and while this daemon runs: client download {}",
            given.code
        ));
        self.output.result(&given.code)
    }

    /// Fetches a share; stdout gets the path it is stored at.
    ///
    /// # Errors
    /// When the source is malformed, the daemon fails or refuses, or Ctrl-C ends the watching; the
    /// download itself goes on then.
    pub(crate) async fn download(self, args: &DownloadArgs) -> Result<(), ApiError> {
        let fetched = self.fetch(args).await;
        fetched.map_err(|error| source::with_file(error, &args.source))
    }

    async fn fetch(mut self, args: &DownloadArgs) -> Result<(), ApiError> {
        let typed = source::typed(&args.source, args.folder);
        let named = match typed.map_err(|error| self.daemon.advised(error))? {
            Typed::Code(code) => self.open(&code).await?,
            Typed::Source(named) => *named,
        };
        let patience = args.timeout.map(Duration::from_secs);
        let idx = self.daemon.idx;
        self.daemon.tracker = named.tracker().cloned();
        let id = named.id();
        let live = Live::new(named.name(), self.output);
        let mut request = DownloadRequest {
            source: named.source,
            wish: args.pick.wish(),
            to: args.to.as_deref().map(absolute).transpose()?,
            if_exists: args.said_if_exists().unwrap_or_default(),
            as_chosen: false,
        };

        let mut interrupt = Interrupt::listen()?;
        let starts = !args.no_start && named.starts;
        if starts {
            let started = interrupt.or(self.start_if_needed()).await;
            started.unwrap_or_else(|| Err(interrupted_before()))?;
        }
        if !args.yes && ask::can_ask(self.output) {
            let said = args.said_if_exists();
            let asking = (&mut request, named.parsed);
            let asking = self.ask_for(asking, said, patience, &mut interrupt);
            asking.await?;
        }
        let starting = self.daemon.follow("download", &request);
        let Some(events) = interrupt.or(starting).await else {
            return Err(ApiError::new(
                "interrupted",
                exit::INTERRUPTED,
                "interrupted before the daemon confirmed the download",
                self.daemon
                    .addressed("See whether it has it: client status IDX"),
            ));
        };
        match interrupt.or(self.watch(events?, live, patience)).await {
            Some(Ok(Event::Done(done))) => self.show_done(&done),
            Some(result) => unexpected(result),
            None => Err(ApiError::new(
                "interrupted",
                exit::INTERRUPTED,
                format!("interrupted; the download goes on in daemon {idx}"),
                self.daemon.addressed(&match id {
                    Some(id) => format!("To cancel it: client cancel {} IDX", text::short_id(&id)),
                    None => "To cancel it, see its id: client list IDX".to_owned(),
                }),
            )),
        }
    }

    /// Shows what a request would download, and lets a person change it or say no. What the daemon has
    /// already is not asked about.
    async fn ask_for(
        &self,
        (request, parsed): (&mut DownloadRequest, Parsed),
        said: Option<IfExists>,
        patience: Option<Duration>,
        interrupt: &mut Interrupt,
    ) -> Result<(), ApiError> {
        let asked = PreviewRequest {
            source: request.source.clone(),
            to: request.to.clone(),
        };
        let live = Live::new("asking what it is", self.output);
        let looking = async {
            let events = self.daemon.follow("preview", &asked).await?;
            let watching = self.watch(events, live, None);
            let watched = tokio::time::timeout(patience.unwrap_or(Duration::MAX), watching);
            watched.await.unwrap_or_else(|_| Err(not_told()))
        };
        let mut preview = match interrupt.or(looking).await {
            Some(Ok(Event::Preview(preview))) => preview,
            Some(result) => return unexpected(result),
            None => return Err(interrupted_before()),
        };
        let parsed = match preview.manifest.take() {
            // What a link does not say, with which the download begins at once.
            Some(bytes) => {
                request.source = Source::Manifest { bytes };
                request.source.parse()?
            }
            None => parsed,
        };
        let Parsed::Manifest(manifest) = parsed else {
            return Ok(());
        };
        let output = self.output;
        let mut ask = Ask { interrupt, output };
        if preview.present {
            self.ask_for_more(request, &manifest, (&preview, &mut ask))
                .await?;
        } else {
            let wanted = (request.wish.clone(), said);
            let agreed = ask.agree(&manifest, &preview, wanted).await?;
            (request.wish, request.if_exists) = (agreed.wish, agreed.if_exists);
        }
        Ok(())
    }

    /// Follows a share; stdout gets the path its newest version is stored at. The daemon goes on with those that
    /// come.
    ///
    /// # Errors
    /// As [`Self::download`].
    pub(crate) async fn follow(mut self, args: &FollowArgs) -> Result<(), ApiError> {
        let request = FollowRequest {
            link: args.link.clone(),
            to: args.to.as_deref().map(absolute).transpose()?,
            if_exists: args.if_exists.said().unwrap_or_default(),
        };
        let link = request.parse();
        let link = link.map_err(|error| self.daemon.advised(error))?;
        let idx = self.daemon.idx;
        self.daemon.tracker = Some(link.tracker);
        let live = Live::new("the newest version", self.output);
        let patience = args.timeout.map(Duration::from_secs);
        let following = async {
            if !args.no_start {
                self.start_if_needed().await?;
            }
            let events = self.daemon.follow("follow", &request).await?;
            self.watch(events, live, patience).await
        };
        match Interrupt::listen()?.or(following).await {
            Some(Ok(Event::Done(done))) => {
                self.show_done(&done)?;
                // The next version has another id.
                let name = Path::new(&done.path).file_name().unwrap_or_default();
                let name = home::quoted(Path::new(name));
                self.advise(&format!(
                    "newer versions are fetched as they come; to end that: client unfollow {name} IDX"
                ));
                Ok(())
            }
            Some(result) => unexpected(result),
            None => Err(ApiError::new(
                "interrupted",
                exit::INTERRUPTED,
                format!("interrupted; what daemon {idx} has confirmed goes on"),
                self.daemon
                    .addressed("See whether it follows: client list IDX"),
            )),
        }
    }

    /// Starts the daemon with this tracker when it is not running.
    async fn start_if_needed(&self) -> Result<(), ApiError> {
        let Some(tracker) = &self.daemon.tracker else {
            return Ok(());
        };
        if self.daemon.answers().await {
            return Ok(());
        }
        let home = home::folder(self.daemon.home.as_deref())?;
        start::in_background(&self.daemon, &home, tracker).await?;
        let idx = self.daemon.idx;
        let said =
            format!("daemon {idx} is started in the background; to stop it: client stop IDX");
        self.output.message(&self.daemon.addressed(&said));
        Ok(())
    }

    /// The link that a code stands for.
    async fn open(&self, code: &Code) -> Result<Named, ApiError> {
        let request = OpenRequest {
            code: code.to_string(),
        };
        let opening = self.daemon.tell("open", &request);
        match Interrupt::listen()?.or(opening).await {
            Some(Ok(Event::Opened(opened))) => source::link(&opened.link),
            Some(result) => Err(unexpected(result).err().unwrap_or_else(interrupted_opening)),
            None => Err(interrupted_opening()),
        }
    }

    fn show_done(&self, done: &Done) -> Result<(), ApiError> {
        if self.output.json() {
            return self.output.event(&Event::Done(done.clone()));
        }
        let files = done.files.map(|files| format!("{}, ", counts(files)));
        if done.already {
            let resumed = match done.resumed {
                true => "; it was paused and is given again",
                false => "",
            };
            self.output.message(&format!(
                "{}{} are there already, id {}{resumed}",
                files.unwrap_or_default(),
                text::bytes(done.bytes),
                done.content_id
            ));
            if let Some(path) = &done.instead_of {
                self.output.message(&format!(
                    "note: something else was at {path}; to put it there, in the place of that: the same command \
                     with --if-exists overwrite"
                ));
            }
            return self.output.result(&done.path);
        }
        self.output.message(&format!(
            "{}{} verified in {:.1} s, id {}",
            files.unwrap_or_default(),
            text::bytes(done.bytes),
            done.seconds,
            done.content_id
        ));
        self.show_left_out(done);
        self.output.result(&done.path)
    }

    fn show_left_out(&self, done: &Done) {
        let left_out = done
            .files
            .map_or(0, |files| files.of.saturating_sub(files.selected));
        if left_out > 0 {
            let id = text::short_id(&done.content_id);
            let files = text::count(left_out, "file");
            self.advise(&format!(
                "{files} left out; to fetch all: client select {id} IDX --all"
            ));
        }
    }

    /// Shows trackers and shares.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub(crate) async fn status(self) -> Result<(), ApiError> {
        let events = self.daemon.list("status").await?;
        if events.iter().all(|event| !matches!(event, Event::Share(_))) {
            self.say_nothing_is_shared();
        }
        self.show(&events, line)?;
        if let Some(unreached) = unreached(&events) {
            self.advise(&unreached);
        }
        Ok(())
    }

    /// Shows connected peers.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub(crate) async fn peers(self) -> Result<(), ApiError> {
        let events = self.daemon.list("peers").await?;
        if events.is_empty() {
            self.nothing("no peer is connected");
        }
        self.show(&events, line)?;
        let is_relayed =
            |event: &Event| matches!(event, Event::Peer(peer) if peer.path == PeerPath::Relay);
        if events.iter().any(is_relayed) {
            self.advise("why some are relayed, and what to do: client doctor IDX");
        }
        Ok(())
    }

    /// Says to people that there is nothing.
    pub(crate) fn nothing(&self, text: &str) {
        if !self.output.json() {
            self.output.message(text);
        }
    }

    /// Tells people what they can type.
    pub(crate) fn advise(&self, advice: &str) {
        self.nothing(&self.daemon.addressed(advice));
    }

    /// Shows events one line each; without `--json` those that `line` has words for.
    ///
    /// # Errors
    /// When stdout is closed.
    pub(crate) fn show(
        &self,
        events: &[Event],
        line: impl Fn(&Event) -> Option<String>,
    ) -> Result<(), ApiError> {
        let events = events.iter();
        match self.output.json() {
            true => self.output.results(events.map(Event::to_json)),
            false => self.output.results(events.filter_map(line)),
        }
    }

    /// Stops the daemon and waits until it has ended, so that it can be started again at once.
    ///
    /// # Errors
    /// When it does not answer, or is still there after [`STOP_WAIT`].
    pub(crate) async fn stop(self) -> Result<(), ApiError> {
        let idx = self.daemon.idx;
        let folder = home::folder(self.daemon.home.as_deref())?;
        self.daemon.order("stop", &()).await?;
        let stopped = async {
            while self.daemon.answers().await || is_held(&folder, idx) {
                tokio::time::sleep(STOP_POLL).await;
            }
        };
        match tokio::time::timeout(STOP_WAIT, stopped).await {
            Ok(()) => self.output.result(&format!("daemon {idx} is stopped")),
            Err(_) => Err(ApiError::new(
                "still_stopping",
                exit::OTHER,
                format!(
                    "daemon {idx} is still stopping after {} s",
                    STOP_WAIT.as_secs()
                ),
                self.daemon
                    .addressed("See whether it ends: client status IDX"),
            )),
        }
    }
}

fn not_told() -> ApiError {
    let message = "no peer has told what it is; nothing was begun";
    let hint = "With --yes it begins without a question, and waits for a peer in the daemon.";
    ApiError::new("no_source", exit::NO_SOURCE, message, hint)
}

fn interrupted_opening() -> ApiError {
    ApiError::new(
        "interrupted",
        exit::INTERRUPTED,
        "interrupted before the code was opened; nothing is downloaded",
        "Type it again; a code that is right can be used again, unless it was for one receiver.",
    )
}

/// The path from the root, as it is shown.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, ApiError> {
    normal::absolute(path).map_err(|error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::InvalidInput => {
                "Write the path from / on, or ./~name for a file of that name."
            }
            _ => "Check the path.",
        };
        let message = format!("cannot use {}: {error}", path.display());
        ApiError::new("bad_path", exit::USAGE, message, hint)
    })
}
