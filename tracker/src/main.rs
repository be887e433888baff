//! The `tracker` program: arguments, what is printed, signals and exit codes.
//!
//! Not here: everything a tracker does (`warren_tracker`), and where it is said what is not on the
//! command line ([`settings`]).

mod settings;

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use etcetera::BaseStrategy;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use warren_net::raise_open_files;
use warren_service::manual;
use warren_tracker::{
    AltAddress, Config, DEFAULT_PORT, Passed, StartError, Tracker, outward_ip, stun_beside,
};

use crate::settings::Refusal;

/// Exit codes: the command line is none, or the tracker does not start.
const USAGE: u8 = 2;
const FAILURE: u8 = 1;

/// The rendezvous server of a Warren swarm.
///
/// Daemons meet through it; no content and no name ever reaches it. Needs no arguments.
#[derive(Debug, Parser)]
#[command(name = "tracker", version)]
struct Args {
    /// Where to serve daemons and STUN over UDP, and daemons over TCP [default: every address,
    /// port 59000]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    listen: Vec<SocketAddr>,

    /// Where else to serve daemons over TCP, in networks that let no UDP through; daemons try
    /// port 443 by themselves
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    tcp: Vec<SocketAddr>,

    /// Where to serve STUN alone, which lets daemons study their NAT [default: port 59001 at
    /// the addresses of --listen]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    stun_listen: Vec<SocketAddr>,

    /// A second IP address of this machine, at which STUN is answered too; only that shows a daemon
    /// whether its NAT gives each address another port
    #[arg(long, value_name = "IP[:PORT]")]
    alt_address: Vec<AltAddress>,

    /// By which other address daemons reach this tracker, so that those who come by IPv4 are known by their
    /// IPv6 address as well, and the reverse; only where it is not one of this machine
    #[arg(long, value_name = "IP[:PORT]")]
    also_at: Vec<AltAddress>,

    /// The address under which others reach this tracker, for links
    #[arg(long, value_name = "HOST:PORT", value_parser = public_address)]
    public: Option<String>,

    /// What to pass on between daemons that do not reach each other, in bits per second over all
    /// of them, such as 100M, or off
    #[arg(long, value_name = "off|RATE", value_parser = relay_rate, default_value = "100M")]
    relay: RelayRate,

    /// The state folder; the tracker's key is kept there
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,

    /// What is not said here is read there [default: $WARREN_TRACKER_CONFIG, else
    /// /etc/warren/tracker.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Show what it would be run with, and who said so: the command line, the environment
    /// (WARREN_TRACKER_...), a file or nobody
    #[arg(long)]
    show_config: bool,

    /// Print a file in which everything that can be set is explained, and commented out
    #[arg(long)]
    config_template: bool,

    /// Write the manual page into a folder
    #[arg(long, value_name = "DIR")]
    man: Option<PathBuf>,

    /// Print the script by which a shell completes what is typed
    #[arg(long, value_name = "SHELL")]
    completions: Option<Shell>,

    /// Print one line of JSON instead of text, errors included
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let (args, shown) = match settings::parse(&words) {
        Ok(parsed) => parsed,
        Err(Refusal::Usage(error)) => return refuse(&error),
        Err(Refusal::Settings(error)) => {
            let (message, hint) = settings::explained(&error);
            return refuse_settings(&message, &hint);
        }
    };
    if args.config_template {
        return print(&settings::template());
    }
    if let Some(shell) = args.completions {
        let script = manual::completions(shell, Args::command());
        return print(&String::from_utf8_lossy(&script));
    }
    if let Some(folder) = &args.man {
        return write_manual(folder);
    }
    if args.show_config {
        return print(&settings::lines(&shown, args.json));
    }
    let json = args.json;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(io::stderr)
        .init();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match json {
                true => print_error("not_started", FAILURE, &format!("{error:#}"), &hint(&error)),
                false => report(&error),
            }
            ExitCode::from(FAILURE)
        }
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILURE),
    }
}

fn write_manual(folder: &Path) -> ExitCode {
    match manual::write_pages(Args::command(), folder, settings::MANUAL) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = anyhow::Error::new(error);
            report(&error.context(format!("cannot write to {}", folder.display())));
            ExitCode::from(FAILURE)
        }
    }
}

fn refuse_settings(message: &str, hint: &str) -> ExitCode {
    match std::env::args_os().any(|arg| arg == "--json") {
        true => print_error("settings", USAGE, message, hint),
        // Standard error may be closed; then there is nobody to tell.
        false => drop(writeln!(
            io::stderr().lock(),
            "error: {message}\nhint: {hint}"
        )),
    }
    ExitCode::from(USAGE)
}

/// Ends on a command line that is not one, or that asks for help.
fn refuse(error: &clap::Error) -> ExitCode {
    let asked = !error.use_stderr();
    if !asked && std::env::args_os().any(|arg| arg == "--json") {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        print_error("usage", USAGE, message, "See tracker --help.");
    } else {
        // Nothing can be said when the terminal is gone.
        let _ = error.print();
    }
    if asked {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(USAGE)
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let json = args.json;
    let config = config(args)?;
    // Before there are threads: it changes the environment.
    let passed = Passed::from_env(&config.stun_listen)?;
    serve(config, passed, json)
}

#[tokio::main]
async fn serve(config: Config, passed: Passed, json: bool) -> anyhow::Result<()> {
    // Before anything is printed: whoever reads our output may signal us from then on.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    raise_open_files();
    let (public, relay) = (config.public.clone(), config.relay_bits_per_s);
    let tracker = Tracker::start_on(config, passed)?;
    announce(&tracker, public, relay, json).context("cannot write to standard output")?;
    tokio::select! {
        _ = interrupt.recv() => (),
        _ = terminate.recv() => (),
    }
    tracker.shutdown().await;
    Ok(())
}

fn config(args: Args) -> anyhow::Result<Config> {
    let home = match args.home {
        Some(home) => home,
        None => default_home()?,
    };
    let mut config = Config::new(home);
    if !args.listen.is_empty() {
        config.stun_listen = stun_beside(&args.listen);
        config.listen = args.listen;
    }
    if !args.stun_listen.is_empty() {
        config.stun_listen = args.stun_listen;
    }
    config.tcp_listen = args.tcp;
    config.alt_addresses = args.alt_address;
    config.also_at = args.also_at;
    config.public = args.public;
    config.relay_bits_per_s = args.relay.0;
    Ok(config)
}

fn default_home() -> anyhow::Result<PathBuf> {
    let folders = etcetera::base_strategy::choose_base_strategy()
        .context("no home folder; say where to keep the key with --home DIR")?;
    let state = folders.state_dir().unwrap_or_else(|| folders.data_dir());
    Ok(state.join("warren"))
}

/// `ADDR:PORT`, or a port alone for every address.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let any = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let bare = text.strip_prefix(':').unwrap_or(text);
    bare.parse().map(any).or_else(|_| {
        text.parse()
            .map_err(|_| "expected ADDR:PORT, for example 0.0.0.0:59000 or [::]:59000".to_owned())
    })
}

/// Bits per second; `None` when nothing is relayed.
#[derive(Clone, Copy, Debug)]
struct RelayRate(Option<u64>);

fn relay_rate(text: &str) -> Result<RelayRate, String> {
    warren_proto::swarm::parsed_rate(text).map(RelayRate)
}

fn public_address(text: &str) -> Result<String, String> {
    warren_tracker::checked_public(text).map_err(|error| error.hint().unwrap_or_default())
}

/// Says where the tracker is and what to type next.
fn announce(
    tracker: &Tracker,
    public: Option<String>,
    relay: Option<u64>,
    json: bool,
) -> io::Result<()> {
    let address = match public {
        Some(public) => public,
        None => reachable(&tracker.local_addrs()).to_string(),
    };
    let mut out = io::stdout().lock();
    if json {
        let line = serde_json::json!({
            "v": 1,
            "type": "tracker",
            "address": address,
            "key": tracker.pin().to_string(),
            "listen": tracker.local_addrs(),
            "tcp_listen": tracker.tcp_addrs(),
            "stun_listen": tracker.stun_addrs(),
            "alt_addresses": tracker.alt_addrs(),
            "relay_bits_per_s": relay,
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(
            out,
            "tracker listening on {} (UDP)",
            list(&tracker.local_addrs())
        )?;
        if !tracker.tcp_addrs().is_empty() {
            let addrs = list(tracker.tcp_addrs());
            writeln!(out, "TLS also on          {addrs} (TCP)")?;
        }
        writeln!(
            out,
            "STUN also on         {} (UDP)",
            list(&tracker.stun_addrs())
        )?;
        if !tracker.alt_addrs().is_empty() {
            let addrs = list(tracker.alt_addrs());
            writeln!(out, "STUN at a second IP  {addrs} (UDP)")?;
        }
        match relay {
            Some(bits) => {
                let mbit = bits as f64 / 1e6;
                writeln!(out, "relays up to         {mbit} Mbit/s")?;
            }
            None => writeln!(out, "relays               nothing")?,
        }
        writeln!(out, "key                  {}", tracker.pin())?;
        writeln!(out)?;
        writeln!(out, "On each machine:")?;
        writeln!(out, "  client daemon 1 {address}#{}", tracker.pin())?;
    }
    out.flush()
}

fn list(addrs: &[SocketAddr]) -> String {
    addrs
        .iter()
        .map(SocketAddr::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The first listening address as somebody else could type it.
fn reachable(listen: &[SocketAddr]) -> SocketAddr {
    let addr = listen
        .first()
        .copied()
        .unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DEFAULT_PORT));
    match addr.ip().is_unspecified() {
        true => SocketAddr::new(
            outward_ip(true).unwrap_or(Ipv4Addr::LOCALHOST.into()),
            addr.port(),
        ),
        false => addr,
    }
}

/// The chain of causes in one line, then what to do.
fn report(error: &anyhow::Error) {
    let (mut err, hint) = (io::stderr().lock(), hint(error));
    // Standard error may be closed; then there is nobody to tell.
    let _ = writeln!(err, "error: {error:#}");
    if !hint.is_empty() {
        let _ = writeln!(err, "hint: {hint}");
    }
}

/// What the person can do about it, or nothing.
fn hint(error: &anyhow::Error) -> String {
    let start = error.downcast_ref::<StartError>();
    start.and_then(StartError::hint).unwrap_or_default()
}

/// As the client says it with `--json`.
fn print_error(code: &str, exit: u8, message: &str, hint: &str) {
    let line = serde_json::json!({
        "v": 1,
        "type": "error",
        "code": code,
        "exit": exit,
        "message": message,
        "hint": hint,
    });
    // When standard output is gone, the exit code is all that is left to say it with.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn stun_is_served_where_daemons_are_and_nowhere_else_unless_that_is_said() {
        let stun = |words: &[&str]| {
            let words = [&["tracker", "--home", "/x"], words].concat();
            config(Args::parse_from(words)).unwrap().stun_listen
        };
        let addrs = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert_eq!(stun(&[]), addrs(&["[::]:59001"]));
        let local = ["--listen", "127.0.0.1:443", "--listen", "127.0.0.1:80"];
        assert_eq!(stun(&local), addrs(&["127.0.0.1:59001"]));
        let said = ["--listen", "127.0.0.1:443", "--stun-listen", "[::1]:1"];
        assert_eq!(stun(&said), addrs(&["[::1]:1"]));
    }

    #[test]
    fn a_port_alone_means_every_address() {
        for text in ["59010", ":59010", "[::]:59010"] {
            assert_eq!(listen_address(text), Ok("[::]:59010".parse().unwrap()));
        }
        assert_eq!(
            listen_address("10.0.0.1:1"),
            Ok("10.0.0.1:1".parse().unwrap())
        );
        assert!(listen_address("example.org:1").is_err());
    }
}
