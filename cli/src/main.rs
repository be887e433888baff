//! The program `client`: talks to a daemon and to the person.
//!
//! [`args`] is the command line, [`commands`] what each subcommand does, [`control`] the way to the
//! daemon, [`output`] the only place that writes to the terminal. Results go to stdout, everything
//! else to stderr; the exit code says what kind of failure it was.
//!
//! Not here: the daemon itself (`warren-daemon`), which `client daemon` runs in this process.

mod args;
mod commands;
mod control;
mod doctor;
mod home;
mod inspect;
mod limit;
mod lines;
mod output;
mod progress;
mod select;
mod source;
mod text;

use std::{future::Future, io, io::IsTerminal, num::NonZero, process::ExitCode};

use clap::Parser;
use tracing_subscriber::EnvFilter;
use warren_daemon::control::{
    model::{ApiError, exit},
    wish::{Files, Wish},
};

use crate::{
    args::{Args, Command},
    commands::Client,
    output::Output,
};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    log_to_stderr(&args.command);
    let output = Output::new(args.command.json());
    match run(args, output) {
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

/// Ends on a command line that is not one, or that asks for help.
fn refuse(error: &clap::Error) -> ExitCode {
    let asked = !error.use_stderr();
    if !asked && std::env::args_os().any(|arg| arg == "--json") {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let hint = "See client --help.";
        Output::new(true).error(&ApiError::new("usage", exit::USAGE, message, hint));
        return ExitCode::from(exit::USAGE);
    }
    // Nothing can be said when the terminal is gone.
    let _ = error.print();
    if asked {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::USAGE)
    }
}

/// A daemon also tells when it has found its tracker (again).
fn log_to_stderr(command: &Command) {
    let default = match command {
        Command::Daemon(_) => "warn,warren_daemon=info",
        _ => "warn",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

fn run(args: Args, output: Output) -> Result<(), ApiError> {
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
                let daemon = tokio::spawn(commands::daemon(home, daemon));
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
        Command::Select(select) => {
            let client = client(select.idx)?;
            on_one_thread(client.select(select))
        }
        Command::Status(asked) => on_one_thread(client(asked.idx)?.status()),
        Command::Peers(asked) => on_one_thread(client(asked.idx)?.peers()),
        Command::Doctor(asked) => on_one_thread(client(asked.idx)?.doctor()),
        Command::Limit(asked) => on_one_thread(client(asked.idx)?.limit(asked.request())),
        Command::Stop { idx } => on_one_thread(client(idx)?.stop()),
        Command::Remove { share, idx } => on_one_thread(client(idx)?.remove(share)),
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
