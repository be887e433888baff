//! Which files of a share are meant: the options that say so, and `client select`.
//!
//! Not here: what patterns mean (`warren_daemon::control::wish`).

use warren_daemon::control::{
    model::{
        ApiError, DownloadRequest, Event, FileCounts, Preview, SelectRequest, ShareState, exit,
    },
    wish::{Change, Files, Order, Wish},
};
use warren_proto::content::{Manifest, path::printable};

use crate::{
    args::{PickArgs, SelectArgs},
    ask::Ask,
    commands::Client,
    lines::share_line,
    text,
};

impl PickArgs {
    /// What of a share is to be downloaded.
    pub(crate) fn wish(&self) -> Wish {
        Wish {
            files: Files {
                only: self.only.clone(),
                except: self.except.clone(),
            },
            first: self.first.clone(),
            order: match self.stream {
                true => Order::Sequential,
                false => Order::Rarest,
            },
        }
    }
}

impl SelectArgs {
    /// What is to be otherwise.
    fn change(&self) -> Change {
        let mut change = self.pick.wish().as_change();
        if self.all {
            change.files = Some(Files::default());
        }
        if self.rarest {
            (change.first, change.order) = (Some(Vec::new()), Some(Order::Rarest));
        }
        change
    }
}

impl Client {
    /// Wants other files of a share, or in another order; stdout gets how the share stands then.
    ///
    /// # Errors
    /// When there is no such share, a pattern means nothing, or the daemon refuses.
    pub(crate) async fn select(self, args: SelectArgs) -> Result<(), ApiError> {
        let change = args.change();
        if change.is_empty() {
            let hint = "Say what is wanted: --only GLOB, --except GLOB, --all, --first GLOB, --stream or --rarest.";
            let message = "nothing is said to be otherwise";
            return Err(ApiError::new("usage", exit::USAGE, message, hint));
        }
        let share = args.share;
        let request = SelectRequest { share, change };
        match self.daemon.tell("select", &request).await? {
            Event::Share(share) if !self.output.json() => self.output.result(&share_line(&share)),
            event => self.output.event(&event),
        }
    }
}

impl Client {
    /// Of a part that is here and complete, lets a person pick what is to come too. Otherwise nothing is
    /// asked: all is here or on its way, or it was said what of it is wanted.
    ///
    /// # Errors
    /// When the daemon does not answer, or Ctrl-C ends the questions.
    pub(crate) async fn ask_for_more(
        &self,
        request: &mut DownloadRequest,
        manifest: &Manifest,
        (preview, ask): (&Preview, &mut Ask<'_>),
    ) -> Result<(), ApiError> {
        if request.wish.files != Files::default() {
            return Ok(());
        }
        let id = manifest.content.id.to_string();
        let shares = self.daemon.shares(&id).await?.into_iter();
        let mut its = shares.filter(|it| it.content_id == id && it.state == ShareState::Seeding);
        let Some(counts) = its.next().and_then(|share| share.files) else {
            return Ok(());
        };
        let name = printable(manifest.content.name.as_str());
        let path = &preview.path;
        self.output.message(&format!(
            "{name}  {} are here: {path}",
            self::counts(counts)
        ));
        match ask.more(manifest, &request.wish).await? {
            Some(wish) => request.wish = wish,
            None => request.as_chosen = true,
        }
        Ok(())
    }
}

/// `3 of 12 files`.
pub(crate) fn counts(files: FileCounts) -> String {
    format!("{} of {}", files.selected, text::count(files.of, "file"))
}
