//! What is given to commands that begin, change or end a share.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use warren_daemon::control::codes::{CodeWish, MAX_EXPIRES_S};
use warren_daemon::control::model::IfExists;

use super::FIRST;
use super::values::{After, code_time, daemon_number, downloads, seconds};

#[derive(Debug, clap::Args)]
pub(crate) struct RegisterArgs {
    /// File or folder to share
    pub(crate) path: PathBuf,
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number, default_value_t = FIRST)]
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
    /// End the share after this time; its files stay: 90s, 10m, 2h, 7d, never [default: as it was]. How long a
    /// code is good says --code-expires
    #[arg(long, value_name = "DURATION|never", allow_hyphen_values = true)]
    pub(crate) expire: Option<After>,
    /// Give it no longer once so many peers have all of it: 1 to 10000, off [default: as it was]
    #[arg(long, value_name = "NUMBER|off", value_parser = downloads)]
    pub(crate) max_downloads: Option<u32>,
    /// Let others follow it, by a link that is printed as well; once they do, share what it is now as its next
    /// version. Only files that have changed since are read
    #[arg(long)]
    pub(crate) update: bool,
    /// Print a code as well, such as 7-film-alibi, by which others at the same tracker can fetch it while
    /// this daemon runs
    #[arg(long)]
    pub(crate) code: bool,
    /// Let only the first in who types the code
    #[arg(long, requires = "code")]
    pub(crate) once: bool,
    /// End the code after this time, and the share not: 90s, 10m, 2h, 7d at most. It ends with the share in any
    /// case
    #[arg(long, alias = "expires", value_name = "DURATION", value_parser = code_time, requires = "code", default_value = "1h", allow_hyphen_values = true)]
    pub(crate) code_expires: Duration,
}

impl RegisterArgs {
    /// The code that is wanted.
    pub(crate) fn code_wish(&self) -> Option<CodeWish> {
        self.code.then_some(CodeWish {
            expires_s: u32::try_from(self.code_expires.as_secs()).unwrap_or(MAX_EXPIRES_S),
            once: self.once,
        })
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct DownloadArgs {
    /// A .p2p file, a link, a code, a content id, or - to read one of these from stdin
    #[arg(value_name = "FILE.p2p|LINK|CODE|ID|-")]
    pub(crate) source: OsString,
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number, default_value_t = FIRST)]
    pub(crate) idx: u16,
    /// Stop watching when nothing arrives for so long; the download itself goes on
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_hyphen_values = true)]
    pub(crate) timeout: Option<u64>,
    /// Of a content id: it is that of a folder
    #[arg(long)]
    pub(crate) folder: bool,
    /// Of a link: do not start the daemon when it is not running
    #[arg(long)]
    pub(crate) no_start: bool,
    #[command(flatten)]
    pub(crate) pick: PickArgs,
    /// Store it in this folder, which is made where it is missing [default: the daemon's downloads]
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// When something has its name there [default: ask at a terminal, else refuse]
    #[arg(long, value_name = "WHAT")]
    pub(crate) if_exists: Option<IfExistsArg>,
    /// Do not ask before it begins
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do when something has the name of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum IfExistsArg {
    /// Ask at a terminal, else refuse.
    Ask,
    /// Begin nothing.
    Refuse,
    /// Take another name: film (2).mkv.
    Rename,
    /// Replace it once the new is complete and verified.
    Overwrite,
    /// Take it as the beginning, and fetch what is wrong or missing.
    Resume,
}

impl DownloadArgs {
    /// What was said of something that has the name; `None` when somebody is to be asked.
    pub(crate) fn said_if_exists(&self) -> Option<IfExists> {
        self.if_exists?.said()
    }
}

impl IfExistsArg {
    /// What was said; `None` when somebody is to be asked.
    pub(crate) fn said(self) -> Option<IfExists> {
        match self {
            IfExistsArg::Ask => None,
            IfExistsArg::Refuse => Some(IfExists::Refuse),
            IfExistsArg::Rename => Some(IfExists::Rename),
            IfExistsArg::Overwrite => Some(IfExists::Overwrite),
            IfExistsArg::Resume => Some(IfExists::Resume),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct FollowArgs {
    /// The follow link, as `client register --update` prints it
    pub(crate) link: String,
    /// Store it in this folder, which is made where it is missing [default: the daemon's downloads]
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// When something that is no version of it has its name there: refuse, rename, overwrite what has the same names,
    /// or resume, which takes of it what is right; what is otherwise is kept beside
    #[arg(
        long,
        value_name = "WHAT",
        hide_possible_values = true,
        default_value = "refuse"
    )]
    pub(crate) if_exists: IfExistsArg,
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number, default_value_t = FIRST)]
    pub(crate) idx: u16,
    /// Stop watching when nothing arrives for so long; the daemon goes on
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_hyphen_values = true)]
    pub(crate) timeout: Option<u64>,
    /// Do not start the daemon when it is not running
    #[arg(long)]
    pub(crate) no_start: bool,
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
    #[arg(value_parser = daemon_number, default_value_t = FIRST)]
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
pub(crate) struct ShareArgs {
    /// Content id, its beginning, or a name, as `client list` shows them
    pub(crate) share: String,
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number, default_value_t = FIRST)]
    pub(crate) idx: u16,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RelocateArgs {
    /// Content id, its beginning, or a name, as `client list` shows them
    pub(crate) share: String,
    /// Where the file or folder is now
    pub(crate) path: PathBuf,
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number, default_value_t = FIRST)]
    pub(crate) idx: u16,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExpireArgs {
    /// Content id, its beginning, or a name, as `client list` shows them
    pub(crate) share: String,
    /// After how long it is removed: 90s, 10m, 2h, 7d, never
    #[arg(value_name = "DURATION|never", allow_hyphen_values = true)]
    pub(crate) after: After,
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number, default_value_t = FIRST)]
    pub(crate) idx: u16,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// Content id, its beginning, or a name, as `client list` shows them
    pub(crate) share: String,
    /// Number of the daemon, 0 to 65535
    #[arg(value_parser = daemon_number, default_value_t = FIRST)]
    pub(crate) idx: u16,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) of: CancelArgs,
    /// Delete what was downloaded of it too; what was shared where it lay is never deleted
    #[arg(long)]
    pub(crate) data: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) of: ShareArgs,
    /// Stop watching when nothing arrives for so long; the daemon goes on
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_hyphen_values = true)]
    pub(crate) timeout: Option<u64>,
}
