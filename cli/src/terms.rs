//! For how long and how often shares are given, and where their files are: `expire`, `revoke` and `relocate`.

use std::path::Path;

use warren_daemon::control::model::{
    ApiError, Event, ExpireRequest, RelocateRequest, Share, ShareRequest, exit,
};
use warren_proto::content::path::printable;

use crate::{
    args::{ExpireArgs, RelocateArgs, ShareArgs},
    commands::{Client, absolute},
    lines::share_line,
    progress::Live,
    watching::{Interrupt, unexpected},
};

impl Client {
    /// Removes a share after a time, or never; stdout gets how it stands then.
    ///
    /// # Errors
    /// When there is no such share.
    pub(crate) async fn expire(self, args: ExpireArgs) -> Result<(), ApiError> {
        let in_s = args.after.seconds();
        let share = args.share;
        let request = ExpireRequest { share, in_s };
        let shown = self.daemon.tell("expire", &request).await?;
        self.show_changed(shown)
    }

    /// Gives a share no longer; stdout gets how it stands then.
    ///
    /// # Errors
    /// When there is no such share, or it is still being downloaded.
    pub(crate) async fn revoke(self, args: ShareArgs) -> Result<(), ApiError> {
        let share = args.share;
        let request = ShareRequest { share };
        let shown = self.daemon.tell("revoke", &request).await?;
        if let Event::Share(Share { name, .. }) = &shown
            && !self.output.json()
        {
            let name = printable(name);
            self.output.message(&format!(
                "{name} is not given by this daemon any more, until it is registered again; who has it, or a \
                 part of it, may still give that to whoever has the link"
            ));
        }
        self.show_changed(shown)
    }

    fn show_changed(&self, event: Event) -> Result<(), ApiError> {
        match event {
            Event::Share(share) if !self.output.json() => self.output.result(&share_line(&share)),
            event => self.output.event(&event),
        }
    }

    /// Points a share at the files that were moved; stdout gets where they are.
    ///
    /// # Errors
    /// When what lies there is something else, or cannot be read; the share is then as it was.
    pub(crate) async fn relocate(self, args: RelocateArgs) -> Result<(), ApiError> {
        let (share, path) = (args.share, absolute(Path::new(&args.path))?);
        let live = Live::new(printable(&share), self.output);
        let request = RelocateRequest { share, path };
        let relocating = async {
            let events = self.daemon.follow("relocate", &request).await?;
            self.watch(events, live, None).await
        };
        match Interrupt::listen()?.or(relocating).await {
            Some(Ok(Event::Done(done))) if !self.output.json() => {
                if let Some(name) = &done.renamed {
                    let name = printable(name);
                    self.output
                        .message(&format!("the share is listed as {name} from now on"));
                }
                self.output.result(&done.path)
            }
            Some(Ok(event @ Event::Done(_))) => self.output.event(&event),
            Some(result) => unexpected(result),
            None => Err(ApiError::new(
                "interrupted",
                exit::INTERRUPTED,
                "interrupted; the daemon looks on, and takes the files if they are the ones",
                self.daemon
                    .addressed("See where it is with: client list IDX"),
            )),
        }
    }
}
