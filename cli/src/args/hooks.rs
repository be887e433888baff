//! Which commands a daemon is to run when something became of a share.
//!
//! Not here: how they are run (`warren_daemon::hooks`).

use warren_daemon::hooks::{Happening, HookCommand, HookCommands};

/// Commands to run when something became of a share. They are split into words and see no shell.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Commands to run, with WARREN_EVENT, _ID, _NAME, _PATH and _ERROR")]
pub(crate) struct HookArgs {
    /// When a download has begun, or something was registered
    #[arg(long, value_name = "COMMAND")]
    pub(crate) on_added: Option<HookCommand>,
    /// When a download is verified and in place
    #[arg(long, value_name = "COMMAND")]
    pub(crate) on_complete: Option<HookCommand>,
    /// When a share goes no further, for instance because the disk is full
    #[arg(long, value_name = "COMMAND")]
    pub(crate) on_failed: Option<HookCommand>,
    /// When the files of a share are no longer what was shared
    #[arg(long, value_name = "COMMAND")]
    pub(crate) on_changed: Option<HookCommand>,
    /// When a share was removed
    #[arg(long, value_name = "COMMAND")]
    pub(crate) on_removed: Option<HookCommand>,
}

impl HookArgs {
    /// Those that are given.
    pub(crate) fn commands(self) -> HookCommands {
        let all = [
            (Happening::Added, self.on_added),
            (Happening::Complete, self.on_complete),
            (Happening::Failed, self.on_failed),
            (Happening::Changed, self.on_changed),
            (Happening::Removed, self.on_removed),
        ];
        let given = all.into_iter();
        given.filter_map(|(what, it)| Some((what, it?))).collect()
    }
}
