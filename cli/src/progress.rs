//! The live line of a register or a download.
//!
//! On a terminal one line that redraws itself; elsewhere a plain line a second at most, and only
//! when it says something new; with `--json` every event as it is, but no two in a row that say the same.

use std::{
    env,
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use warren_daemon::control::model::{ApiError, Event, Progress};
use warren_proto::content::path::printable;

use crate::{output::Output, text};

/// Least time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// How long advice has to hold before it is told: most often a peer comes in the next moment.
const ADVICE_AFTER: Duration = Duration::from_secs(2);

/// Shows progress until it is dropped.
pub(crate) struct Live {
    /// What to call the content while the daemon knows no name.
    name: String,
    output: Output,
    display: Display,
    advice: Advice,
}

enum Display {
    Json {
        last: Option<Progress>,
    },
    Bar(ProgressBar),
    None,
    Lines {
        shown: Option<Instant>,
        last: String,
    },
}

impl Live {
    /// Shows progress of `name` in the way `output` and the terminal want it.
    pub(crate) fn new(name: impl Into<String>, output: Output) -> Self {
        let display = if output.json() {
            Display::Json { last: None }
        } else if output.quiet() {
            Display::None
        } else if io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|t| t != "dumb") {
            Display::Bar(bar())
        } else {
            Display::Lines {
                shown: None,
                last: String::new(),
            }
        };
        Live {
            name: name.into(),
            output,
            display,
            advice: Advice::default(),
        }
    }

    /// Shows `progress`, received at `now`.
    ///
    /// # Errors
    /// When stdout is closed, with `--json`.
    pub(crate) fn show(&mut self, progress: Progress, now: Instant) -> Result<(), ApiError> {
        let advice = progress.advice.clone();
        match &mut self.display {
            Display::Json { last } => {
                if last.as_ref() != Some(&progress) {
                    *last = Some(progress.clone());
                    return self.output.event(&Event::Progress(progress));
                }
            }
            Display::None => (),
            Display::Bar(bar) => {
                bar.set_length(progress.bytes.max(1));
                bar.set_position(progress.verified_bytes);
                bar.set_message(printable(&text::progress(&progress, &self.name)));
            }
            Display::Lines { shown, last } => {
                let line = text::progress(&progress, &self.name);
                if line != *last && is_due(*shown, now) {
                    self.output.message(&line);
                    (*shown, *last) = (Some(now), line);
                }
            }
        }
        if let Some(advice) = self.advice.due(advice, now) {
            self.advise(&advice);
        }
        Ok(())
    }

    /// A line of its own, which stays.
    fn advise(&self, advice: &str) {
        match &self.display {
            Display::Json { .. } | Display::None => (),
            Display::Bar(bar) => bar.suspend(|| self.output.message(advice)),
            Display::Lines { .. } => self.output.message(advice),
        }
    }
}

/// What is advised, which is told once, and not before it has held for [`ADVICE_AFTER`].
#[derive(Debug, Default)]
struct Advice {
    text: Option<String>,
    since: Option<Instant>,
    is_told: bool,
}

impl Advice {
    /// Takes in what is advised now; what is to be told.
    fn due(&mut self, advice: Option<String>, now: Instant) -> Option<String> {
        if self.text != advice {
            *self = Advice {
                since: Some(now),
                text: advice,
                is_told: false,
            };
        }
        let since = self.since.filter(|_| !self.is_told)?;
        let text = self.text.as_ref()?;
        (now.duration_since(since) >= ADVICE_AFTER).then(|| {
            self.is_told = true;
            text.clone()
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("[{bar:16}] {wide_msg}")
        .expect("the template is well-formed")
        .progress_chars("=> ");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

fn is_due(shown: Option<Instant>, now: Instant) -> bool {
    shown.is_none_or(|shown| now.duration_since(shown) >= LINE_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_come_once_a_second_at_most() {
        let start = Instant::now();
        assert!(is_due(None, start));
        assert!(!is_due(Some(start), start + Duration::from_millis(999)));
        assert!(is_due(Some(start), start + Duration::from_secs(1)));
    }

    #[test]
    fn advice_is_told_once_when_it_has_held_for_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let some = |text: &str| Some(text.to_owned());
        let mut advice = Advice::default();
        assert_eq!(advice.due(None, start), None);
        assert_eq!(advice.due(some("wait"), at(10)), None);
        assert_eq!(advice.due(some("wait"), at(11)), None);
        assert_eq!(advice.due(None, at(12)), None);
        assert_eq!(advice.due(some("wait"), at(13)), None, "it begins anew");
        assert_eq!(advice.due(some("wait"), at(15)), some("wait"));
        assert_eq!(advice.due(some("wait"), at(30)), None);
        assert_eq!(advice.due(some("other"), at(31)), None);
        assert_eq!(advice.due(some("other"), at(33)), some("other"));
    }
}
