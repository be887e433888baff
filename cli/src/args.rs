//! The command line, exactly as scripts rely on it.
//!
//! Not here: how single values are read ([`values`]), what the subcommands do ([`crate::commands`]), what
//! is said when it is wrong ([`crate::usage`]), the arguments of what is done with shares ([`shares`]).

mod hooks;
mod shares;
pub(crate) mod values;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use warren_daemon::control::model::LimitRequest;
use warren_daemon::memory::DEFAULT_MIB;
use warren_proto::wire::Paths;

use hooks::HookArgs;
pub(crate) use shares::{
    CancelArgs, DownloadArgs, ExpireArgs, FollowArgs, PickArgs, RegisterArgs, RelocateArgs,
    RemoveArgs, SelectArgs, ShareArgs, VerifyArgs,
};
pub(crate) use values::{Limit, RelayRate, TrackerArg};
use values::{daemon_number, limit_down, limit_up, listen_address, memory_mib, relay_rate};

/// The daemon that is meant when no number is given.
const FIRST: u16 = 1;

/// Lines of the log that `client logs` prints unless another number is given.
const LOG_LINES: usize = 200;

/// Shares files and folders with other machines, and fetches what they share.
#[derive(Debug, Parser)]
#[command(
    name = "client",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    before_help = "\
Examples:
  client daemon 1 tracker.example:59000     run a daemon; leave it running
  client register movie.mkv 1               share a file, get its .p2p and link
  client download p2p:dpw3... 1             fetch what a link names"
)]
pub(crate) struct Args {
    /// Folder of all state, keys and sockets [default: $WARREN_HOME, else ~/.local/state/warren]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// What is not said here is read there [default: $WARREN_CONFIG, else ~/.config/warren/config.toml]
    #[arg(long, global = true, value_name = "FILE", display_order = 0)]
    pub(crate) config: Option<PathBuf>,
    /// Print nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Log what happens to stderr; twice for details
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run daemon number IDX of this machine in the foreground
    #[command(before_help = "\
Examples:
  client daemon 1 tracker.example:59000
  client daemon 2 203.0.113.7:59000#KEY --downloads /data/shared")]
    Daemon(Box<DaemonArgs>),
    /// Share a file or folder where it lies; prints the path of its .p2p and its link
    #[command(before_help = "\
Examples:
  client register movie.mkv 1
  client register photos/ 1 -o /tmp/photos.p2p --skip-special
  client register movie.mkv 1 --expire 7d --max-downloads 3
  client register movie.mkv 1 --code --code-expires 10m --once     and a code to say aloud
  client register photos/ 1 --update                               and a link to follow its versions")]
    Register(RegisterArgs),
    /// Fetch what a .p2p, a link, a code or a content id names; prints the path it is stored at
    #[command(before_help = "\
Examples:
  client download movie.p2p 1
  client download photos.p2p 1 --only '2024/*.jpg' --only notes
  client download 7-film-alibi 1
  client download movie.p2p 1 --to /data/films --if-exists resume --yes
  client download p2p:dpw3... 1 --json")]
    Download(DownloadArgs),
    /// Follow a share by its follow link: fetch its newest version, and each that comes, changed parts alone
    #[command(before_help = "\
Examples:
  client follow p2p:irty... 1
  client follow p2p:irty... 1 --json")]
    Follow(FollowArgs),
    /// Follow a share no longer; the version that is here stays, and is shared on
    #[command(before_help = "\
Examples:
  client unfollow photos
  client unfollow 9f86d081884c 1")]
    Unfollow {
        /// Content id, its beginning, or a name, as `client list` shows them
        share: String,
        /// Number of the daemon, 0 to 65535
        #[arg(value_parser = daemon_number, default_value_t = FIRST)]
        idx: u16,
    },
    /// Choose other files of a share that is there, or another order; what is complete stays
    #[command(before_help = "\
Examples:
  client select photos 1 --only 2024 --except '*.raw'
  client select photos 1 --all --stream")]
    Select(SelectArgs),
    /// List the shares of a daemon
    #[command(before_help = "\
Examples:
  client list
  client list 1 --json")]
    List(IdxArgs),
    /// Stop fetching and giving a share until it is resumed
    #[command(before_help = "\
Examples:
  client pause movie.mkv
  client pause 9f86d081884c 1 --json")]
    Pause(ShareArgs),
    /// Go on with a share that is paused, or that was stopped by an error
    #[command(before_help = "\
Examples:
  client resume movie.mkv
  client resume 9f86d081884c 1 --json")]
    Resume(ShareArgs),
    /// End a download and delete what is there of it; files that are complete stay
    #[command(before_help = "\
Examples:
  client cancel movie.mkv
  client cancel 9f86d081884c 1 --yes")]
    Cancel(CancelArgs),
    /// Read again what is stored of a share, and fetch what is wrong or missing
    #[command(before_help = "\
Examples:
  client verify photos
  client verify 9f86d081884c 1 --json")]
    Verify(VerifyArgs),
    /// Point a share at its files after they were moved; looks whether they are the ones
    #[command(before_help = "\
Examples:
  client relocate movie.mkv /data/films/movie.mkv
  client relocate 9f86d081884c ../photos 1")]
    Relocate(RelocateArgs),
    /// Remove a share after a time; its files stay
    #[command(before_help = "\
Examples:
  client expire movie.mkv 7d
  client expire 9f86d081884c never 1")]
    Expire(ExpireArgs),
    /// Give a share no longer, until it is registered again
    #[command(before_help = "\
Examples:
  client revoke movie.mkv
  client revoke 9f86d081884c 1 --json")]
    Revoke(ShareArgs),
    /// Print the link of a share
    #[command(before_help = "\
Examples:
  client link movie.mkv
  client link movie.mkv 1 --qr")]
    Link {
        /// Content id, its beginning, or a name, as `client list` shows them
        share: String,
        /// Number of the daemon, 0 to 65535
        #[arg(value_parser = daemon_number, default_value_t = FIRST)]
        idx: u16,
        /// Draw it too, for the camera of a phone
        #[arg(long, conflicts_with = "json")]
        qr: bool,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print what a daemon has said of itself lately
    #[command(before_help = "\
Examples:
  client logs
  client logs 1 -f --lines 20")]
    Logs {
        /// Number of the daemon, 0 to 65535
        #[arg(value_parser = daemon_number, default_value_t = FIRST)]
        idx: u16,
        /// Go on with what it says from now on
        #[arg(short, long)]
        follow: bool,
        /// How many lines that are there already
        #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = LOG_LINES)]
        lines: usize,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// List trackers and shares of a daemon
    #[command(before_help = "\
Examples:
  client status 1
  client status 1 --json")]
    Status(IdxArgs),
    /// List peers a daemon is connected to
    #[command(before_help = "\
Examples:
  client peers 1
  client peers 1 --json")]
    Peers(IdxArgs),
    /// Say how well a daemon reaches others, and what can be done about it
    #[command(before_help = "\
Examples:
  client doctor 1
  client doctor 1 --json")]
    Doctor(IdxArgs),
    /// Show a daemon on the whole screen: shares, files, peers, rates; ? there shows the keys
    #[command(before_help = "\
Examples:
  client top
  client top 1")]
    Top {
        /// Number of the daemon, 0 to 65535
        #[arg(value_parser = daemon_number, default_value_t = FIRST)]
        idx: u16,
    },
    /// Set how fast a daemon may send and receive; shows the limits when none is given
    #[command(before_help = "\
Examples:
  client limit 1 --up 20M --down off
  client limit 1 --share movie.mkv --up 2M")]
    Limit(LimitArgs),
    /// Stop a daemon; what it was doing goes on when it is started again
    #[command(before_help = "\
Examples:
  client stop 1
  client --home /srv/warren stop 1")]
    Stop {
        /// Number of the daemon, 0 to 65535
        #[arg(value_parser = daemon_number, default_value_t = FIRST)]
        idx: u16,
    },
    /// Stop sharing or downloading; complete files stay where they are, unfinished ones are deleted
    #[command(before_help = "\
Examples:
  client remove movie.mkv 1
  client remove 9f86d081884c 1 --data --yes")]
    Remove(RemoveArgs),
    /// Say what the code of a message means, such as that of an error; lists all without one
    #[command(before_help = "\
Examples:
  client explain DISK-01
  client explain")]
    Explain {
        /// The code, in any case, or its word in JSON
        code: Option<String>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show what a .p2p or a link says, without any daemon
    #[command(before_help = "\
Examples:
  client inspect movie.p2p
  client inspect photos.p2p --only '2024/*.jpg'
  client inspect p2p:dpw3... --json")]
    Inspect {
        /// A .p2p file or a link
        #[arg(value_name = "FILE.p2p|LINK")]
        source: OsString,
        /// Mark the files that a download would fetch with this
        #[arg(long, value_name = "GLOB")]
        only: Vec<String>,
        /// Mark all files but those that match this
        #[arg(long, value_name = "GLOB")]
        except: Vec<String>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show what daemons are set to, and who said so: the environment, a file or nobody
    #[command(before_help = "\
Examples:
  client config 1
  client config --template > ~/.config/warren/config.toml")]
    Config(ConfigArgs),
    /// Print the script by which a shell completes what is typed
    #[command(before_help = "\
Examples:
  client completions bash > ~/.local/share/bash-completion/completions/client
  client completions zsh --live > ~/.zfunc/_client")]
    Completions {
        /// For which shell
        shell: Shell,
        /// Complete the names of shares too, by asking the daemons
        #[arg(long)]
        live: bool,
    },
    /// Write the manual pages into a folder
    #[command(before_help = "\
Examples:
  client man ~/.local/share/man/man1
  client man /tmp/man")]
    Man {
        /// The folder, which is made where it is missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

impl Command {
    /// Whether stdout holds one JSON object a line.
    pub(crate) fn json(&self) -> bool {
        match self {
            Command::Register(RegisterArgs { json, .. })
            | Command::Download(DownloadArgs { json, .. })
            | Command::Follow(FollowArgs { json, .. })
            | Command::Select(SelectArgs { json, .. })
            | Command::Status(IdxArgs { json, .. })
            | Command::Peers(IdxArgs { json, .. })
            | Command::Doctor(IdxArgs { json, .. })
            | Command::Limit(LimitArgs { json, .. })
            | Command::List(IdxArgs { json, .. })
            | Command::Relocate(RelocateArgs { json, .. })
            | Command::Expire(ExpireArgs { json, .. })
            | Command::Revoke(ShareArgs { json, .. })
            | Command::Pause(ShareArgs { json, .. })
            | Command::Resume(ShareArgs { json, .. })
            | Command::Verify(VerifyArgs {
                of: ShareArgs { json, .. },
                ..
            })
            | Command::Link { json, .. }
            | Command::Logs { json, .. }
            | Command::Explain { json, .. }
            | Command::Config(ConfigArgs { json, .. })
            | Command::Inspect { json, .. } => *json,
            Command::Daemon(_)
            | Command::Stop { .. }
            | Command::Top { .. }
            | Command::Unfollow { .. }
            | Command::Cancel(_)
            | Command::Remove(_)
            | Command::Completions { .. }
            | Command::Man { .. } => false,
        }
    }
}

/// Bits per second of two limits as they are typed, of sending and of receiving; 0 for none.
///
/// # Errors
/// What is wrong with one.
pub(crate) fn limit_bits([up, down]: [&str; 2]) -> Result<[u64; 2], String> {
    let up = limit_up(up).map_err(|why| format!("up: {why}"))?;
    let down = limit_down(down).map_err(|why| format!("down: {why}"))?;
    Ok([up, down].map(Limit::bits_per_s))
}

#[derive(Debug, clap::Args)]
pub(crate) struct DaemonArgs {
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number)]
    pub(crate) idx: u16,
    /// The tracker, as it printed itself; its key is remembered when it is not given
    #[arg(value_name = "TRACKER:PORT[#KEY]")]
    pub(crate) tracker: TrackerArg,
    /// UDP address and port for other peers [default: any address, a port of its own]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Never talk to peers through the tracker, even where there is no direct path
    #[arg(long, conflicts_with = "relay_only")]
    pub(crate) no_relay: bool,
    /// Talk to peers through the tracker alone, so that none of them learns this machine's address
    #[arg(long)]
    pub(crate) relay_only: bool,
    /// Pass on what peers of the same swarms send each other that cannot meet otherwise, up to this many
    /// bits per second: off, 20M, 500k. They remain unreadable here
    #[arg(long, value_name = "off|RATE", value_parser = relay_rate, default_value = "off", conflicts_with = "relay_only")]
    pub(crate) relay_for_swarm: RelayRate,
    /// Where downloads and .p2p files go [default: downloads/daemon-IDX in this folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) downloads: Option<PathBuf>,
    /// Do not ask the router to let peers in (PCP, NAT-PMP, UPnP)
    #[arg(long)]
    pub(crate) no_port_mapping: bool,
    /// Keep at most so many MiB in memory of what comes from peers and goes to them
    #[arg(long, value_name = "MIB", value_parser = memory_mib, default_value_t = DEFAULT_MIB)]
    pub(crate) memory: u32,
    /// Download what is dropped there: .p2p files, and .link files with a link each
    #[arg(long, value_name = "DIR")]
    pub(crate) watch: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) rates: RateArgs,
    /// Leave links to whatever else is on them [default: as it was the last time]
    #[arg(long)]
    pub(crate) background: bool,
    /// Exempt peers in the local network from limits [default: as it was the last time]
    #[arg(long)]
    pub(crate) lan_unlimited: bool,
    #[command(flatten)]
    pub(crate) hooks: HookArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LimitArgs {
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number, default_value_t = FIRST)]
    pub(crate) idx: u16,
    #[command(flatten)]
    pub(crate) rates: RateArgs,
    /// Of this share alone: content id, its beginning, or a name, as `client status` shows them
    #[arg(long, value_name = "NAME", conflicts_with_all = ["background", "lan_unlimited"])]
    pub(crate) share: Option<String>,
    /// Leave links to whatever else is on them
    #[arg(long, value_name = "on|off")]
    pub(crate) background: Option<Switch>,
    /// Exempt peers in the local network from limits
    #[arg(long, value_name = "on|off")]
    pub(crate) lan_unlimited: Option<Switch>,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// How fast a daemon may be in each direction.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct RateArgs {
    /// Send at most so many bits per second, headers included: off, 20M, 500k [default: as it was]
    #[arg(long, value_name = "off|RATE", value_parser = limit_up, allow_hyphen_values = true)]
    pub(crate) up: Option<Limit>,
    /// Receive at most so many bits per second, headers included [default: as it was]
    #[arg(long, value_name = "off|RATE", value_parser = limit_down, allow_hyphen_values = true)]
    pub(crate) down: Option<Limit>,
}

impl RateArgs {
    /// What the daemon is asked of one share, or of all.
    fn request(self, share: Option<String>) -> LimitRequest {
        LimitRequest {
            share,
            up_bits_per_s: self.up.map(Limit::bits_per_s),
            down_bits_per_s: self.down.map(Limit::bits_per_s),
            background: None,
            lan_unlimited: None,
        }
    }
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl LimitArgs {
    /// What the daemon is asked.
    pub(crate) fn request(self) -> LimitRequest {
        let is_on = |switch| switch == Switch::On;
        LimitRequest {
            background: self.background.map(is_on),
            lan_unlimited: self.lan_unlimited.map(is_on),
            ..self.rates.request(self.share)
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Number of the daemon that is meant; without it, what holds for all
    #[arg(value_parser = daemon_number)]
    pub(crate) idx: Option<u16>,
    /// Print a file in which everything that can be set is explained, and commented out
    #[arg(long, conflicts_with = "json")]
    pub(crate) template: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct IdxArgs {
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number, default_value_t = FIRST)]
    pub(crate) idx: u16,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

impl DaemonArgs {
    /// How fast it may send and receive, where that is said.
    pub(crate) fn limits(&self) -> LimitRequest {
        LimitRequest {
            background: self.background.then_some(true),
            lan_unlimited: self.lan_unlimited.then_some(true),
            ..self.rates.request(None)
        }
    }

    /// By which paths peers may reach the daemon.
    pub(crate) fn paths(&self) -> Paths {
        match (self.no_relay, self.relay_only) {
            (true, _) => Paths::DirectOnly,
            (_, true) => Paths::RelayOnly,
            _ => Paths::Any,
        }
    }
}

#[cfg(test)]
mod tests;
