//! `client doctor`: what the daemon has found, for a person.
//!
//! Not here: what there is to find, and the sentences (`warren_daemon::control::doctor`).

use warren_daemon::control::model::{ApiError, Event, Finding, Summary, exit};
use warren_proto::content::path::printable;

use crate::{commands::Client, text};

/// Code of the error that only carries the exit code: the findings say all there is to say.
pub(crate) const FOUND: &str = "found";

impl Client {
    /// Prints what the daemon has found, the most serious first, and the numbers.
    ///
    /// # Errors
    /// [`FOUND`] when a finding is an error; another one when the daemon does not answer.
    pub(crate) async fn doctor(self) -> Result<(), ApiError> {
        let events = self.daemon.list("doctor").await?;
        let mut summary = None;
        for event in &events {
            match event {
                event if self.output.json() => self.output.event(event)?,
                Event::Finding(finding) => self.output.result(&finding_lines(finding))?,
                Event::Summary(summary) => self.output.result(&summary_line(summary))?,
                _ => (),
            }
            if let Event::Summary(found) = event {
                summary = Some(*found);
            }
        }
        match summary.map(|summary| summary.exit) {
            Some(exit::OK) => Ok(()),
            Some(exit) => Err(ApiError::new(FOUND, exit, "", "")),
            None => Err(self.cut_short()),
        }
    }

    /// The daemon's node answers nothing once it ends.
    fn cut_short(&self) -> ApiError {
        let message = "the daemon is stopping";
        let hint = format!(
            "Repeat the command once it runs again: {}",
            self.daemon.start_line()
        );
        ApiError::new("stopping", exit::DAEMON_NOT_RUNNING, message, hint)
    }
}

/// One line, and a second one when there is something to do.
fn finding_lines(finding: &Finding) -> String {
    let severity = finding.severity.word();
    let line = format!("{severity:<7}  {:<7}  {}", finding.code, finding.text);
    let line = printable(&line);
    match &finding.action {
        Some(action) => format!("{line}\n{:18}do: {}", "", printable(action)),
        None => line,
    }
}

fn summary_line(summary: &Summary) -> String {
    let guessed = match summary.techniques.guessed() {
        0 => String::new(),
        guessed => format!(" ({guessed} by guessed ports)"),
    };
    let mut line = format!(
        "{} tried: {} direct{guessed}, {} relayed, {} failed",
        text::count(summary.tried as u64, "peer"),
        summary.direct,
        summary.relayed,
        summary.failed
    );
    if summary.under_way > 0 {
        line += &format!("; {} more under way", summary.under_way);
    }
    if let Some(ms) = summary.median_ms {
        line += &format!("; {ms} ms to a proven path (median)");
    }
    line
}

#[cfg(test)]
mod tests {
    use warren_daemon::control::model::{Severity, Techniques};

    use super::*;

    #[test]
    fn a_finding_is_a_line_and_what_to_do_another_one() {
        let mut finding = Finding {
            code: "NET-02".into(),
            severity: Severity::Note,
            text: "Your \u{1b}router.".into(),
            action: None,
        };
        let line = r"note     NET-02   Your \u{1b}router.";
        assert_eq!(finding_lines(&finding), line);
        finding.action = Some("Ask\nit.".into());
        let action = r"                  do: Ask\u{a}it.";
        assert_eq!(finding_lines(&finding), format!("{line}\n{action}"));
    }

    #[test]
    fn the_numbers_say_only_what_is_known() {
        let mut summary = Summary {
            tried: 1,
            direct: 1,
            relayed: 0,
            failed: 0,
            under_way: 0,
            techniques: Techniques::default(),
            median_ms: None,
            exit: exit::OK,
        };
        let counts = "1 peer tried: 1 direct, 0 relayed, 0 failed";
        assert_eq!(summary_line(&summary), counts);
        summary.under_way = 2;
        summary.median_ms = Some(53);
        let all = format!("{counts}; 2 more under way; 53 ms to a proven path (median)");
        assert_eq!(summary_line(&summary), all);
        summary.techniques.birthday = 1;
        let line = summary_line(&summary);
        assert!(line.starts_with("1 peer tried: 1 direct (1 by guessed ports), 0 relayed"));
    }
}
