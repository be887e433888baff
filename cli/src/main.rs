//! The program `client`: talks to a daemon and to the person.
//!
//! [`args`] is the command line, [`commands`] what each subcommand does, [`control`] the way to the
//! daemon, [`output`] the only place that writes to the terminal. Results go to stdout, everything
//! else to stderr; the exit code says what kind of failure it was.
//!
//! Not here: the daemon itself (`warren-daemon`), which `client daemon` runs in this process.

mod advice;
mod args;
mod ask;
mod commands;
mod completion;
mod confirm;
mod control;
mod doctor;
mod explain;
mod home;
mod inspect;
mod limit;
mod lines;
mod manual;
mod normal;
mod offer;
mod output;
mod progress;
mod qr;
mod select;
mod settings;
mod shares;
mod source;
mod start;
mod started;
mod table;
mod terms;
mod text;
mod top;
mod usage;
mod watching;

use std::{future::Future, io, io::IsTerminal, num::NonZero, process::ExitCode};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};
use warren_daemon::{
    control::{
        model::{ApiError, exit},
        wish::{Files, Wish},
    },
    log::Log,
};

use crate::{
    args::{Args, Command},
    commands::Client,
    completion::Kind,
    output::Output,
    settings::Refusal,
};

fn main() -> ExitCode {
    completion::answer();
    let words: Vec<_> = std::env::args_os().collect();
    let args = match settings::parse(&words) {
        Ok(args) => args,
        Err(Refusal::Usage(error)) => return usage::refuse(&error),
        Err(Refusal::Settings(error)) => {
            let json = words.iter().any(|word| word == "--json");
            Output::new(json, false).error(&error);
            return ExitCode::from(error.exit);
        }
    };
    let log = Log::default();
    start_log(&args, log.clone());
    let output = Output::new(args.command.json(), args.quiet);
    match run(args, output, log) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if error.code == output::CLOSED => ExitCode::SUCCESS,
        // All is said already.
        Err(error) if error.code == doctor::FOUND => ExitCode::from(error.exit),
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit)
        }
    }
}

/// To stderr, and for `client logs` into memory. A daemon also tells when it has found its tracker (again).
fn start_log(args: &Args, log: Log) {
    let default = match (&args.command, args.verbose) {
        (Command::Daemon(_), 0) => "warn,warren_daemon=info",
        (_, 0) => "warn",
        (_, 1) => "info,warren_daemon=debug,client=debug",
        (_, _) => "debug,warren_daemon=trace,client=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let to_stderr = (!args.quiet).then(|| {
        tracing_subscriber::fmt::layer()
            .with_ansi(io::stderr().is_terminal() && output::may_colour())
            .with_writer(io::stderr)
    });
    let to_memory = matches!(args.command, Command::Daemon(_)).then(|| {
        tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || log.clone())
    });
    tracing_subscriber::registry()
        .with(filter)
        .with(to_stderr)
        .with(to_memory)
        .init();
}

fn run(args: Args, output: Output, log: Log) -> Result<(), ApiError> {
    let home = args.home;
    let client = |idx| Client::new(home.clone(), idx, output);
    match args.command {
        Command::Daemon(daemon) => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(network_threads())
                .enable_all()
                .build();
            // On a thread of the network's: what it waits for comes from there.
            block_on(runtime, async {
                let daemon = tokio::spawn(commands::daemon(home, *daemon, log));
                daemon.await.unwrap_or_else(|error| Err(panicked(&error)))
            })
        }
        Command::Register(register) => {
            let client = client(register.idx)?;
            on_one_thread(client.register(register))
        }
        Command::Download(download) => {
            let client = client(download.idx)?;
            on_one_thread(client.download(&download))
        }
        Command::Follow(followed) => {
            let client = client(followed.idx)?;
            on_one_thread(client.follow(&followed))
        }
        Command::Unfollow { share, idx } => on_one_thread(client(idx)?.unfollow(share)),
        Command::Select(select) => {
            let client = client(select.idx)?;
            on_one_thread(client.select(select))
        }
        Command::Status(asked) => on_one_thread(client(asked.idx)?.status()),
        Command::Peers(asked) => on_one_thread(client(asked.idx)?.peers()),
        Command::Doctor(asked) => on_one_thread(client(asked.idx)?.doctor()),
        Command::Top { idx } => on_one_thread(client(idx)?.top()),
        Command::Limit(asked) => on_one_thread(client(asked.idx)?.limit(asked.request())),
        Command::Stop { idx } => on_one_thread(client(idx)?.stop()),
        Command::Remove(removed) => on_one_thread(client(removed.of.idx)?.remove(removed)),
        Command::Cancel(cancelled) => on_one_thread(client(cancelled.idx)?.cancel(cancelled)),
        Command::List(asked) => on_one_thread(client(asked.idx)?.list()),
        Command::Pause(paused) => on_one_thread(client(paused.idx)?.change("pause", paused)),
        Command::Resume(resumed) => on_one_thread(client(resumed.idx)?.change("resume", resumed)),
        Command::Relocate(moved) => on_one_thread(client(moved.idx)?.relocate(moved)),
        Command::Expire(ended) => on_one_thread(client(ended.idx)?.expire(ended)),
        Command::Revoke(revoked) => on_one_thread(client(revoked.idx)?.revoke(revoked)),
        Command::Verify(verified) => on_one_thread(client(verified.of.idx)?.verify(verified)),
        Command::Link { share, idx, qr, .. } => on_one_thread(client(idx)?.link(share, qr)),
        Command::Logs {
            idx, follow, lines, ..
        } => on_one_thread(client(idx)?.logs(lines, follow)),
        Command::Explain { code, json: _ } => explain::run(code.as_deref(), output),
        Command::Inspect {
            source,
            only,
            except,
            json: _,
        } => {
            let wish = Wish {
                files: Files { only, except },
                ..Wish::default()
            };
            inspect::run(&source, &wish, output)
        }
        Command::Config(asked) => {
            settings::show(args.config.as_ref(), &asked, home.as_ref(), output)
        }
        Command::Completions { shell, live } => {
            let kind = match live {
                true => Kind::Live,
                false => Kind::Static,
            };
            completion::print(shell, kind, output)
        }
        Command::Man { folder } => manual::write(&folder),
    }
}

/// Threads for what is never to wait: half of the processors. The other half is for those that read, hash and
/// write.
fn network_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    processors.div_ceil(2)
}

fn panicked(error: &tokio::task::JoinError) -> ApiError {
    let message = format!("the daemon has a bug: {error}");
    ApiError::new(
        "bug",
        exit::OTHER,
        message,
        "Start it again, and report what it said.",
    )
}

fn on_one_thread(command: impl Future<Output = Result<(), ApiError>>) -> Result<(), ApiError> {
    block_on(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
        command,
    )
}

fn block_on(
    runtime: io::Result<tokio::runtime::Runtime>,
    command: impl Future<Output = Result<(), ApiError>>,
) -> Result<(), ApiError> {
    let runtime = runtime.map_err(|error| {
        let message = format!("cannot start the runtime: {error}");
        ApiError::new("no_runtime", exit::OTHER, message, "")
    })?;
    runtime.block_on(command)
}
