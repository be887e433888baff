//! Commands for one share that is there, and the list of all.
//!
//! Not here: which of its files are wanted ([`crate::select`]), how fast it may be ([`crate::limit`]).

use warren_daemon::control::model::{
    ApiError, Done, Event, LEAST_ID_DIGITS, RemoveRequest, Share, ShareRequest, exit,
};
use warren_proto::content::path::printable;

use crate::{
    args::{CancelArgs, RemoveArgs, ShareArgs, VerifyArgs},
    commands::Client,
    confirm::confirm,
    lines::share_line,
    progress::Live,
    table, text,
    watching::{Interrupt, unexpected},
};

impl Client {
    /// Lists the shares, a line each.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub(crate) async fn list(self) -> Result<(), ApiError> {
        if self.output.json() {
            let shares = self.daemon.shares("").await?;
            let events = shares.into_iter().map(Event::Share);
            return self.output.results(events.map(|event| event.to_json()));
        }
        let events = self.daemon.list("status").await?;
        let unreached = unreached(&events);
        let share = |event| match event {
            Event::Share(share) => Some(share),
            _ => None,
        };
        let shares: Vec<Share> = events.into_iter().filter_map(share).collect();
        match shares.as_slice() {
            [] => self.say_nothing_is_shared(),
            shares => self.output.results(table::rows(shares).into_iter())?,
        }
        if let Some(unreached) = unreached {
            self.advise(&unreached);
        }
        Ok(())
    }

    /// Where there is no share, people are told how to have one.
    pub(crate) fn say_nothing_is_shared(&self) {
        self.advise("nothing is shared; share a file with: client register PATH IDX");
    }

    /// Stops fetching and giving a share, or goes on with it: `route` is `pause` or `resume`. Stdout gets how
    /// it stands then.
    ///
    /// # Errors
    /// When there is no such share.
    pub(crate) async fn change(self, route: &str, args: ShareArgs) -> Result<(), ApiError> {
        let request = ShareRequest { share: args.share };
        let event = self.daemon.tell(route, &request).await?;
        match self.daemon.for_person(event) {
            Event::Share(share) if !self.output.json() => self.output.result(&share_line(&share)),
            event => self.output.event(&event),
        }
    }

    /// Ends a download and deletes what is there of it, once somebody has agreed.
    ///
    /// # Errors
    /// When there is no such download, or nobody agreed.
    pub(crate) async fn cancel(self, args: CancelArgs) -> Result<(), ApiError> {
        let name = printable(&args.share);
        if !args.yes {
            let found = self.found(&args.share).await?;
            if let [share] = found.as_slice()
                && share.complete
            {
                let (name, id) = (&share.name, &share.content_id);
                let error = ApiError::not_a_download(name, id, share.has_changed());
                return Err(self.daemon.advised(error));
            }
            confirm(&format!(
                "cancel {name} and delete {} of it",
                stored(&found)
            ))?;
        }
        let request = ShareRequest { share: args.share };
        self.daemon.order("cancel", &request).await?;
        self.output.result(&format!("{name} is cancelled"))
    }

    /// The shares that a person may mean; where these are several the daemon knows which, or refuses.
    ///
    /// # Errors
    /// When there is none, or the daemon does not answer.
    async fn found(&self, wanted: &str) -> Result<Vec<Share>, ApiError> {
        let shares = self.meant(wanted).await?;
        if shares.is_empty() {
            // The daemon says so, with names that are like it. Nothing is changed by this question.
            let share = wanted.to_owned();
            self.daemon
                .tell::<Event>("link", &ShareRequest { share })
                .await?;
        }
        Ok(shares)
    }

    /// The same, which may be none.
    ///
    /// # Errors
    /// When the daemon does not answer.
    async fn meant(&self, wanted: &str) -> Result<Vec<Share>, ApiError> {
        let id = wanted.to_ascii_lowercase();
        // The daemon compares ids as they are written.
        let beginning = if id == wanted { wanted } else { "" };
        let mut shares = self.daemon.shares(beginning).await?;
        let is_id =
            |share: &Share| id.len() >= LEAST_ID_DIGITS && share.content_id.starts_with(&id);
        shares.retain(|share| share.name == wanted || is_id(share));
        Ok(shares)
    }

    /// Ends a share or a download.
    ///
    /// # Errors
    /// When there is no such share, or nobody agreed to delete its data.
    pub(crate) async fn remove(self, args: RemoveArgs) -> Result<(), ApiError> {
        let RemoveArgs {
            of: CancelArgs { share, yes, .. },
            data,
        } = args;
        let found = match data && !yes {
            true => self.found(&share).await?,
            false => self.meant(&share).await?,
        };
        let name = name_of(&found, &share);
        if let [share] = found.as_slice()
            && data
            && share.in_place
        {
            let error = ApiError::not_downloaded(&share.name, &share.content_id);
            return Err(self.daemon.advised(error));
        }
        if data && !yes {
            let at = placed(&found);
            confirm(&format!("remove {name} and delete {at}{}", stored(&found)))?;
        }
        let request = RemoveRequest { share, data };
        self.daemon.order("remove", &request).await?;
        let data = if data {
            ", and its data are deleted"
        } else {
            ""
        };
        self.output.result(&format!("{name} is removed{data}"))
    }

    /// Follows a share no longer; the version that is here stays.
    ///
    /// # Errors
    /// When there is no such share, or it is not followed.
    pub(crate) async fn unfollow(self, share: String) -> Result<(), ApiError> {
        let name = printable(&share);
        let request = ShareRequest { share };
        self.daemon.order("unfollow", &request).await?;
        self.output.result(&format!("{name} is followed no longer"))
    }

    /// Reads again all that is stored of a share, and fetches what is wrong or missing.
    ///
    /// # Errors
    /// When there is no such share, it cannot be read, or Ctrl-C ends the watching.
    pub(crate) async fn verify(self, args: VerifyArgs) -> Result<(), ApiError> {
        let idx = self.daemon.idx;
        let share = args.of.share;
        let live = Live::new(printable(&share), self.output);
        let request = ShareRequest { share };
        let mut interrupt = Interrupt::listen()?;
        let patience = args.timeout.map(std::time::Duration::from_secs);
        let verifying = async {
            let events = self.daemon.follow("verify", &request).await?;
            self.watch(events, live, patience).await
        };
        match interrupt.or(verifying).await {
            Some(Ok(Event::Done(done))) => self.show_verified(&done),
            Some(result) => unexpected(result),
            None => Err(ApiError::new(
                "interrupted",
                exit::INTERRUPTED,
                format!("interrupted; the verification goes on in daemon {idx}"),
                self.daemon
                    .addressed("See how it stands with: client list IDX"),
            )),
        }
    }

    fn show_verified(&self, done: &Done) -> Result<(), ApiError> {
        if self.output.json() {
            return self.output.event(&Event::Done(done.clone()));
        }
        let bytes = text::bytes(done.bytes);
        self.output.message(&match done.repaired_bytes {
            None | Some(0) => format!("all {bytes} are right"),
            Some(repaired) => {
                let repaired = text::bytes(repaired);
                format!("{repaired} were wrong or missing and were fetched again; all {bytes} are right now")
            }
        });
        if let Some(kept) = &done.kept {
            let kept = printable(kept);
            self.output
                .message(&format!("what was edited here is kept in {kept}"));
        }
        self.output.result(&done.path)
    }

    /// Prints the link of a share, as a picture too when `qr`.
    ///
    /// # Errors
    /// When there is no such share, or no tracker is known to put into the link.
    pub(crate) async fn link(self, share: String, qr: bool) -> Result<(), ApiError> {
        let request = ShareRequest { share };
        match self.daemon.tell("link", &request).await? {
            Event::Link(link) if !self.output.json() => {
                if qr {
                    self.output.result(&crate::qr::picture(&link.link)?)?;
                }
                self.output.result(&link.link)
            }
            event => self.output.event(&event),
        }
    }

    /// Prints the last lines of the daemon's log, and with `follow` those that come.
    ///
    /// # Errors
    /// When the daemon does not answer, or ends while it is followed.
    pub(crate) async fn logs(self, lines: usize, follow: bool) -> Result<(), ApiError> {
        let route = format!("logs?lines={lines}&follow={follow}");
        let shown = |event: &Event| match event {
            Event::Log(log) => Some(printable_line(&log.line)),
            _ => None,
        };
        if !follow {
            let events = self.daemon.list(&route).await?;
            return self.show(&events, shown);
        }
        let mut interrupt = Interrupt::listen()?;
        let following = async {
            let mut events = self.daemon.watch(&route).await?;
            loop {
                self.show(&[events.next().await?], shown)?;
            }
        };
        interrupt.or(following).await.unwrap_or(Ok(()))
    }
}

/// What the one share is called that was found, which may have been named by its id.
fn name_of(found: &[Share], wanted: &str) -> String {
    match found {
        [share] if !share.name.is_empty() => printable(&share.name),
        _ => printable(wanted),
    }
}

/// What people are told where the daemon's tracker, which comes first, is not reached and that is no news of the
/// last moment.
pub(crate) fn unreached(events: &[Event]) -> Option<String> {
    let tracker = events.iter().find_map(|event| match event {
        Event::Tracker(tracker) => Some(tracker),
        _ => None,
    })?;
    let why = tracker.note.as_ref().filter(|_| !tracker.connected)?;
    let what = printable(&format!(
        "tracker {} is not reached ({why})",
        tracker.address
    ));
    Some(format!("{what}; what can be done: client doctor IDX"))
}

/// How much there is of a share, as a person is told before it is deleted.
fn stored(found: &[Share]) -> String {
    match found {
        [share] => text::bytes(share.verified_bytes),
        _ => "what is there".to_owned(),
    }
}

/// Before that, where it is, if that is one place.
fn placed(found: &[Share]) -> String {
    let one = found.first().filter(|_| found.len() == 1);
    let path = one.and_then(|share| share.path.as_deref());
    path.map_or(String::new(), |path| format!("{}, ", printable(path)))
}

/// What peers and files are called may be in it.
fn printable_line(line: &str) -> String {
    line.split('\n')
        .map(printable)
        .collect::<Vec<_>>()
        .join("\n")
}
