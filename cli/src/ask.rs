//! Asks at the terminal whether, and what of it, to download.
//!
//! Not here: what is shown and what answers mean ([`crate::offer`]).

use std::io::{self, BufRead, IsTerminal, Write};

use tokio::sync::oneshot;
use warren_daemon::control::{
    model::{ApiError, IfExists, Preview, exit},
    wish::Wish,
};
use warren_proto::content::{Manifest, path::printable};

use crate::{
    offer::{self, Choice, ROWS, Row},
    output::Output,
    text,
    watching::{Interrupt, interrupted_before},
};

/// Whether there is somebody to ask: at both ends and where the questions go.
pub(crate) fn can_ask(output: Output) -> bool {
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    is_terminal && io::stderr().is_terminal() && !output.json() && !output.quiet()
}

/// What somebody has agreed to.
pub(crate) struct Agreed {
    /// Which files.
    pub(crate) wish: Wish,
    /// What to do with what is in the way.
    pub(crate) if_exists: IfExists,
}

/// Questions to a person, each of which Ctrl-C ends.
pub(crate) struct Ask<'a> {
    pub(crate) interrupt: &'a mut Interrupt,
    pub(crate) output: Output,
}

impl Ask<'_> {
    /// Shows what would be downloaded, and asks what of it if `wish` says nothing. `if_exists` is what was
    /// said of something in the way, if anything was.
    ///
    /// # Errors
    /// When nobody agrees, or `wish` means nothing.
    pub(crate) async fn agree(
        &mut self,
        manifest: &Manifest,
        preview: &Preview,
        (wish, if_exists): (Wish, Option<IfExists>),
    ) -> Result<Agreed, ApiError> {
        for line in offer::summary(manifest, preview) {
            self.output.message(&line);
        }
        let is_open = wish.files == Default::default() && manifest.content.file_count() > 1;
        let wish = match is_open {
            true => self.pick(manifest, wish).await?,
            false => {
                self.show_picked(manifest, &wish)?;
                if !self.is_yes("Fetch it? [Y/n] ").await? {
                    return Err(nothing_begun());
                }
                wish
            }
        };
        let if_exists = match (if_exists, preview.taken) {
            (Some(said), _) => said,
            (None, None) => IfExists::Refuse,
            (None, Some(taken)) => {
                self.output
                    .message(&offer::in_the_way(&preview.path, taken));
                self.what_of_it().await?
            }
        };
        Ok(Agreed { wish, if_exists })
    }

    /// Of a share of which a part is here, has somebody pick what is to come too; `None` when that is nothing.
    ///
    /// # Errors
    /// When Ctrl-C or the end of the input ends the questions.
    pub(crate) async fn more(
        &mut self,
        manifest: &Manifest,
        wish: &Wish,
    ) -> Result<Option<Wish>, ApiError> {
        let question =
            "Fetch more of it? [y/N, or numbers as 1,3-5, or globs as '*.jpg', l lists all files] ";
        let files = match self
            .choose(manifest, wish, (question, Choice::Nothing))
            .await?
        {
            Choice::Some(files) => files,
            Choice::All => offer::everything(),
            Choice::Nothing | Choice::List => return Ok(None),
        };
        let wish = wish.clone();
        Ok(Some(Wish { files, ..wish }))
    }

    async fn pick(&mut self, manifest: &Manifest, wish: Wish) -> Result<Wish, ApiError> {
        let question =
            "Fetch all? [Y/n, or numbers as 1,3-5, or globs as '*.jpg', l lists all files] ";
        match self
            .choose(manifest, &wish, (question, Choice::All))
            .await?
        {
            Choice::Some(files) => Ok(Wish { files, ..wish }),
            Choice::All => Ok(wish),
            Choice::Nothing | Choice::List => Err(nothing_begun()),
        }
    }

    /// Shows the files and asks until the answer means something; the second of the pair is what none means.
    async fn choose(
        &mut self,
        manifest: &Manifest,
        wish: &Wish,
        (question, none): (&str, Choice),
    ) -> Result<Choice, ApiError> {
        let content = &manifest.content;
        let mut rows = offer::rows(content);
        self.show_rows(&rows).await?;
        loop {
            let answer = self.answer(question).await?;
            let files = match offer::choice(&answer, &rows) {
                _ if answer.trim().is_empty() => return Ok(none),
                Ok(Choice::List) => {
                    rows = offer::all_files(content);
                    self.show_rows(&rows).await?;
                    continue;
                }
                Ok(Choice::Some(files)) => files,
                Ok(choice) => return Ok(choice),
                Err(error) => {
                    self.output.error(&error);
                    continue;
                }
            };
            let picked = Wish {
                files,
                ..wish.clone()
            };
            match self.show_picked(manifest, &picked) {
                Err(error) => self.output.error(&error),
                Ok(()) if self.is_yes("Fetch these? [Y/n] ").await? => {
                    return Ok(Choice::Some(picked.files));
                }
                Ok(()) => (),
            }
        }
    }

    /// Says how much of a folder a wish means, if that is not all.
    fn show_picked(&self, manifest: &Manifest, wish: &Wish) -> Result<(), ApiError> {
        let picked = wish.pick(&manifest.content, |_| false)?;
        if !picked.is_everything() {
            self.output.message(&format!(
                "{} of {}, {}",
                picked.files,
                text::count(picked.chosen.len() as u64, "file"),
                text::bytes(picked.selection.bytes())
            ));
        }
        Ok(())
    }

    /// Page by page, as long as somebody wants to see more.
    async fn show_rows(&mut self, rows: &[Row]) -> Result<(), ApiError> {
        let mut first = 0;
        loop {
            for line in offer::page(rows, first) {
                self.output.message(&line);
            }
            first += ROWS;
            if first >= rows.len() {
                return Ok(());
            }
            let left = rows.len() - first;
            let question = format!("-- {left} more: Enter shows them, q ends the list -- ");
            if !self.answer(&question).await?.trim().is_empty() {
                return Ok(());
            }
        }
    }

    async fn what_of_it(&mut self) -> Result<IfExists, ApiError> {
        loop {
            let question = "(r)ename: another name, (o)verwrite it once the new is complete, \
                            re(s)ume: start from it and fetch what differs, (q)uit: leave it [r/o/s/Q] ";
            match self
                .answer(question)
                .await?
                .trim()
                .to_ascii_lowercase()
                .as_str()
            {
                "r" | "rename" => return Ok(IfExists::Rename),
                "o" | "overwrite" => return Ok(IfExists::Overwrite),
                "s" | "resume" => return Ok(IfExists::Resume),
                "" | "q" | "n" | "quit" => return Err(nothing_begun()),
                _ => (),
            }
        }
    }

    async fn is_yes(&mut self, question: &str) -> Result<bool, ApiError> {
        let answer = self.answer(question).await?;
        Ok(matches!(
            answer.trim().to_ascii_lowercase().as_str(),
            "" | "y" | "yes"
        ))
    }

    /// What is typed in answer to a question. The end of the input is a no.
    async fn answer(&mut self, question: &str) -> Result<String, ApiError> {
        eprint!("{}", printable(question));
        // Nothing is lost if the question is not seen: nothing begins then.
        let _ = io::stderr().flush();
        let (sender, typed) = oneshot::channel();
        // A thread that nobody waits for: what it reads cannot be interrupted.
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = io::stdin().lock().read_line(&mut line);
            let line = read.ok().filter(|bytes| *bytes > 0).map(|_| line);
            drop(sender.send(line));
        });
        match self.interrupt.or(typed).await {
            Some(Ok(Some(line))) => Ok(line),
            Some(_) => Err(nothing_begun()),
            None => Err(interrupted_before()),
        }
    }
}

fn nothing_begun() -> ApiError {
    let hint = "Run it again when you want it; --yes asks nothing.";
    ApiError::new("declined", exit::REFUSED, "nothing was downloaded", hint)
}
