//! The command line, exactly as scripts rely on it.
//!
//! Not here: what the subcommands do ([`crate::commands`]).

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Parser, Subcommand};
use warren_daemon::control::codes::{CodeWish, MAX_EXPIRES_S};
use warren_daemon::control::model::{LEAST_BITS_PER_S, LimitRequest};
use warren_daemon::memory::{DEFAULT_MIB, LEAST_MIB};
use warren_proto::{
    content::address::HostPort,
    id::{ParseIdError, TrackerPin},
    wire::Paths,
};

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
    Daemon(DaemonArgs),
    /// Share a file or folder where it lies; prints the path of its .p2p and its link
    #[command(before_help = "\
Examples:
  client register movie.mkv 1
  client register photos/ 1 -o /tmp/photos.p2p --skip-special
  client register movie.mkv 1 --code --expires 10m --once     and a code to say aloud")]
    Register(RegisterArgs),
    /// Fetch what a .p2p, a link or a code names; prints the path it is stored at
    #[command(before_help = "\
Examples:
  client download movie.p2p 1
  client download photos.p2p 1 --only '2024/*.jpg' --only notes
  client download 7-film-alibi 1
  client download p2p:dpw3... 1 --json")]
    Download(DownloadArgs),
    /// Choose other files of a share that is there, or another order; what is complete stays
    #[command(before_help = "\
Examples:
  client select photos 1 --only 2024 --except '*.raw'
  client select photos 1 --all --stream")]
    Select(SelectArgs),
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
        #[arg(value_parser = daemon_number)]
        idx: u16,
    },
    /// Stop sharing or downloading; complete files stay where they are
    #[command(before_help = "\
Examples:
  client remove movie.mkv 1
  client remove 9f86d081884c 1")]
    Remove {
        /// Content id, its beginning, or a name, as `client status` shows them
        share: String,
        /// Number of the daemon, 0 to 65535
        #[arg(value_parser = daemon_number)]
        idx: u16,
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
}

impl Command {
    /// Whether stdout holds one JSON object a line.
    pub(crate) fn json(&self) -> bool {
        match self {
            Command::Register(RegisterArgs { json, .. })
            | Command::Download(DownloadArgs { json, .. })
            | Command::Select(SelectArgs { json, .. })
            | Command::Status(IdxArgs { json, .. })
            | Command::Peers(IdxArgs { json, .. })
            | Command::Doctor(IdxArgs { json, .. })
            | Command::Limit(LimitArgs { json, .. })
            | Command::Inspect { json, .. } => *json,
            Command::Daemon(_) | Command::Stop { .. } | Command::Remove { .. } => false,
        }
    }
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
    #[command(flatten)]
    pub(crate) rates: RateArgs,
    /// Leave links to whatever else is on them [default: as it was the last time]
    #[arg(long)]
    pub(crate) background: bool,
    /// Exempt peers in the local network from limits [default: as it was the last time]
    #[arg(long)]
    pub(crate) lan_unlimited: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LimitArgs {
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number)]
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
    #[arg(long, value_name = "off|RATE", value_parser = limit)]
    pub(crate) up: Option<Limit>,
    /// Receive at most so many bits per second, headers included [default: as it was]
    #[arg(long, value_name = "off|RATE", value_parser = limit)]
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
pub(crate) struct RegisterArgs {
    /// File or folder to share
    pub(crate) path: PathBuf,
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number)]
    pub(crate) idx: u16,
    /// Write the .p2p here
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave out symlinks and special files instead of refusing the folder
    #[arg(long)]
    pub(crate) skip_special: bool,
    /// Print a code as well, such as 7-film-alibi, by which others at the same tracker can fetch it while
    /// this daemon runs
    #[arg(long)]
    pub(crate) code: bool,
    /// Let only the first in who types the code
    #[arg(long, requires = "code")]
    pub(crate) once: bool,
    /// For how long the code is good: 90s, 10m, 2h, 7d at most
    #[arg(long, value_name = "DURATION", value_parser = code_time, requires = "code", default_value = "1h")]
    pub(crate) expires: Duration,
}

impl RegisterArgs {
    /// The code that is wanted.
    pub(crate) fn code_wish(&self) -> Option<CodeWish> {
        self.code.then_some(CodeWish {
            expires_s: u32::try_from(self.expires.as_secs()).unwrap_or(MAX_EXPIRES_S),
            once: self.once,
        })
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct DownloadArgs {
    /// A .p2p file, a link or a code
    #[arg(value_name = "FILE.p2p|LINK|CODE")]
    pub(crate) source: OsString,
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number)]
    pub(crate) idx: u16,
    /// Stop watching when nothing arrives for so long; the download itself goes on
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<u64>,
    #[command(flatten)]
    pub(crate) pick: PickArgs,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which files of a folder, and in which order.
#[derive(Debug, clap::Args)]
pub(crate) struct PickArgs {
    /// Fetch only files whose path in the folder matches, or a folder's; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// Leave out files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) except: Vec<String>,
    /// Fetch files that match before the others; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) first: Vec<String>,
    /// Fetch from the beginning to the end, to use what is there meanwhile
    #[arg(long)]
    pub(crate) stream: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SelectArgs {
    /// Content id, its beginning, or a name, as `client status` shows them
    pub(crate) share: String,
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number)]
    pub(crate) idx: u16,
    #[command(flatten)]
    pub(crate) pick: PickArgs,
    /// Fetch all files
    #[arg(long, conflicts_with_all = ["only", "except"])]
    pub(crate) all: bool,
    /// Fetch in the usual order again, the rarest chunks first, no file before others
    #[arg(long, conflicts_with_all = ["first", "stream"])]
    pub(crate) rarest: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct IdxArgs {
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number)]
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

/// Bits per second; `None` without a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(Option<u64>);

impl Limit {
    /// As the daemon is told: 0 without a limit.
    fn bits_per_s(self) -> u64 {
        self.0.unwrap_or(0)
    }
}

fn limit(text: &str) -> Result<Limit, String> {
    match warren_proto::swarm::parsed_rate(text)? {
        Some(bits) if bits < LEAST_BITS_PER_S => Err(format!(
            "the least is {}k, which connections take that only stay open",
            LEAST_BITS_PER_S / 1000
        )),
        rate => Ok(Limit(rate)),
    }
}

/// Bits per second; `None` when nothing is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelayRate(pub(crate) Option<u64>);

fn relay_rate(text: &str) -> Result<RelayRate, String> {
    warren_proto::swarm::parsed_rate(text).map(RelayRate)
}

/// A number and its unit; no code is good for less than a second or more than a week.
fn code_time(text: &str) -> Result<Duration, String> {
    let expected = "expected a time from 1s to 7d, for example 90s, 10m, 2h";
    let unit_s = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(expected.to_owned()),
    };
    let number: Option<u64> = text[..text.len() - 1].parse().ok();
    let seconds = number.and_then(|number| number.checked_mul(unit_s));
    let is_good = |seconds: &u64| (1..=u64::from(MAX_EXPIRES_S)).contains(seconds);
    let seconds = seconds.filter(is_good).ok_or(expected)?;
    Ok(Duration::from_secs(seconds))
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected ADDR:PORT, for example 0.0.0.0:4000 or [::]:4000";
    text.parse().map_err(|_| expected.to_owned())
}

fn seconds(text: &str) -> Result<u64, String> {
    let expected = "expected whole seconds, for example 60";
    text.parse().map_err(|_| expected.to_owned())
}

fn memory_mib(text: &str) -> Result<u32, String> {
    let expected = format!("expected MiB, at least {LEAST_MIB}, for example {DEFAULT_MIB}");
    let mib = text.parse().ok().filter(|mib| *mib >= LEAST_MIB);
    mib.ok_or(expected)
}

fn daemon_number(text: &str) -> Result<u16, String> {
    let expected = "the number of the daemon, 0 to 65535, belongs here";
    text.parse().map_err(|_| expected.to_owned())
}

/// `host:port` or `host:port#KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrackerArg {
    /// `host:port`.
    pub(crate) address: String,
    /// What the tracker's key must match, when given.
    pub(crate) pin: Option<TrackerPin>,
}

/// Why a tracker is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrackerArgError {
    #[error("it is not host:port, such as tracker.example:59000 or [2001:db8::1]:59000")]
    Address,
    #[error(
        "its port is 0, at which nobody listens; the tracker prints the one it has, such as 59000"
    )]
    Port,
    #[error("its key is wrong: {0}")]
    Key(ParseIdError),
}

impl FromStr for TrackerArg {
    type Err = TrackerArgError;

    fn from_str(text: &str) -> Result<Self, TrackerArgError> {
        let (address, pin) = match text.trim().split_once('#') {
            Some((address, pin)) => (address, Some(pin)),
            None => (text.trim(), None),
        };
        let address: HostPort = address.parse().map_err(|_| TrackerArgError::Address)?;
        if address.port == 0 {
            return Err(TrackerArgError::Port);
        }
        let pin = pin
            .map(str::parse)
            .transpose()
            .map_err(TrackerArgError::Key)?;
        Ok(TrackerArg {
            address: address.to_string(),
            pin,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_form_scripts_rely_on_is_read() {
        for line in [
            "daemon 1 tracker.example:59000",
            "daemon 0 203.0.113.7:59000#ceircbaeaqcaibaeaqcaibaeaq --listen 0.0.0.0:4000",
            "daemon 65535 [2001:db8::1]:59000 --downloads d --no-port-mapping",
            "daemon 1 tracker.example:59000 --no-relay",
            "daemon 1 tracker.example:59000 --relay-only",
            "daemon 1 tracker.example:59000 --relay-for-swarm 20M",
            "daemon 1 tracker.example:59000 --relay-for-swarm off",
            "daemon 1 tracker.example:59000 --memory 32",
            "daemon 1 tracker.example:59000 --up 20M --down off --background --lan-unlimited",
            "limit 1",
            "limit 1 --up 20M --down off --json",
            "limit 1 --share film.mkv --up 64k",
            "limit 1 --background on --lan-unlimited off",
            "register film.mkv 1",
            "register film.mkv 1 -o film.p2p --json --skip-special",
            "register film.mkv 1 --code",
            "register film.mkv 1 --code --once --expires 10m --json",
            "download film.p2p 1",
            "download 7-film-alibi 1",
            "download p2p:abc 1 --json",
            "download film.p2p 1 --only a --only b/* --except *.c --first d --stream",
            "select film 1 --all --rarest",
            "select film 1 --only a --first b --json",
            "status 1 --json",
            "peers 1 --json",
            "doctor 1",
            "doctor 1 --json",
            "stop 1",
            "remove film.mkv 1",
            "inspect film.p2p --json",
            "inspect film.p2p --only a --except b",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn every_command_line_of_the_readme_is_read() {
        let readme = include_str!("../../README.md");
        let lines = readme.lines().filter_map(|it| it.strip_prefix("$ client "));
        let mut count = 0;
        for line in lines {
            let line = line.split(" #").next().unwrap_or(line).replace('\'', "");
            parse(line.trim()).unwrap_or_else(|error| panic!("{line}: {error}"));
            count += 1;
        }
        assert!(count >= 8, "{count}");
    }

    #[test]
    fn home_is_read_before_and_after_the_subcommand() {
        for line in [
            "--home /h status 1",
            "status --home /h 1",
            "status 1 --home /h",
        ] {
            assert_eq!(
                parse(line).unwrap().home,
                Some(PathBuf::from("/h")),
                "{line}"
            );
        }
        assert_eq!(parse("status 1").unwrap().home, None);
    }

    #[test]
    fn what_is_no_command_line_is_refused() {
        for line in [
            "",
            "status",
            "doctor",
            "status 65536",
            "status -1",
            "status one",
            "daemon 1",
            "daemon 1 tracker.example",
            "daemon 1 tracker.example:70000",
            "daemon 1 127.0.0.1:0",
            "daemon 1 tracker.example:59000 --no-relay --relay-only",
            "daemon 1 tracker.example:59000 --relay-for-swarm 20M --relay-only",
            "daemon 1 tracker.example:59000 --relay-for-swarm much",
            "daemon 1 tracker.example:59000#short",
            "daemon 1 tracker.example:59000 --up much",
            "daemon 1 tracker.example:59000 --memory 31",
            "daemon 1 tracker.example:59000 --memory 96M",
            "daemon 1 tracker.example:59000 --up 63k",
            "limit",
            "limit 1 --up",
            "limit 1 --down 0",
            "limit 1 --down 99999999999G",
            "download film.p2p 1 --timeout soon",
            "limit 1 --background perhaps",
            "limit 1 --share film.mkv --background on",
            "register film.mkv",
            "register film.mkv 1 --once",
            "register film.mkv 1 --expires 10m",
            "register film.mkv 1 --code --expires 8d",
            "download p2p:abc 1 2",
            "select film",
            "select film 1 --all --only a",
            "select film 1 --stream --rarest",
            "fetch film.p2p 1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_an_example_of_what_is_right() {
        for (line, example) in [
            ("download film.p2p 1 --timeout soon", "example 60"),
            ("download film.p2p 1 --timeout=-1", "example 60"),
            ("register f 1 --code --expires 0s", "example 90s, 10m"),
            ("register f 1 --code --expires 10", "example 90s, 10m"),
            ("register f 1 --code --expires 1µ", "example 90s, 10m"),
            (
                "register f 1 --code --expires 99999999999999999999d",
                "to 7d",
            ),
            ("limit 1 --up much", "example 100M"),
            ("limit 1 --up 1k", "the least is 64k"),
            ("limit 1 --up 99999999999G", "at most 1000G"),
            ("daemon 1 t:1 --relay-for-swarm much", "example 100M"),
            ("daemon 1 t:1 --memory 8", "at least 32"),
            ("daemon 1 tracker.example", "such as tracker.example:59000"),
            ("daemon 1 127.0.0.1:0", "its port is 0"),
            ("daemon 1 t:1 --listen 4000", "example 0.0.0.0:4000"),
            ("status one", "0 to 65535"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(example), "{line}: {error}");
        }
    }

    #[test]
    fn a_tracker_is_its_address_and_perhaps_its_key() {
        let plain: TrackerArg = "tracker.example:59000".parse().unwrap();
        assert_eq!(
            plain,
            TrackerArg {
                address: "tracker.example:59000".into(),
                pin: None
            }
        );
        let pin = TrackerPin([7; 16]);
        let pinned: TrackerArg = format!("[::1]:59000#{pin}").parse().unwrap();
        assert_eq!(
            pinned,
            TrackerArg {
                address: "[::1]:59000".into(),
                pin: Some(pin)
            }
        );
    }

    #[test]
    fn the_help_of_each_subcommand_starts_with_two_examples() {
        for command in Args::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            let mut lines = help.lines();
            assert_eq!(lines.next(), Some("Examples:"), "{help}");
            for line in lines.by_ref().take(2) {
                assert!(line.starts_with("  client "), "{line}");
                assert!(line.contains(command.get_name()), "{line}");
            }
        }
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("client").chain(line.split_whitespace()))
    }
}
