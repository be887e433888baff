//! The terminal while it is ours: raw, on its alternate screen; given back however we end.
//!
//! Keys are read on a thread of their own, since the system has no other way to wait for them.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossterm::event::{self, Event, KeyEvent};
use ratatui::DefaultTerminal;
use tokio::sync::mpsc;
use warren_daemon::control::model::{ApiError, exit};

use super::state::State;
use super::view::view;

/// Keys that may wait to be looked at; more than that nobody types in a moment.
const KEYS: usize = 64;

/// After which the thread looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(100);

/// What a terminal tells.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    /// A key.
    Key(KeyEvent),
    /// It has another size now.
    Resized,
}

/// A terminal that is ours until this is dropped.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    keys: mpsc::Receiver<Told>,
    is_over: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
}

impl Screen {
    /// Takes the terminal over. A panic gives it back before it says anything.
    ///
    /// # Errors
    /// When stdin or stdout is no terminal, or the terminal refuses.
    pub(super) fn open() -> Result<Screen, ApiError> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            let message = "there is no terminal to draw on";
            let hint = "For scripts: client list --json, or GET /v1/events at the daemon's socket.";
            return Err(ApiError::new("no_terminal", exit::USAGE, message, hint));
        }
        let terminal = ratatui::try_init().map_err(|error| {
            ratatui::restore();
            terminal_error(&error)
        })?;
        let (sender, keys) = mpsc::channel(KEYS);
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let reading = std::thread::spawn(move || read(&sender, &until));
        Ok(Screen {
            terminal,
            keys,
            is_over,
            reading: Some(reading),
        })
    }

    /// Draws everything.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn draw(&mut self, state: &State) -> Result<(), ApiError> {
        let drawn = self.terminal.draw(|frame| {
            let area = frame.area();
            view(state, area, frame.buffer_mut());
        });
        drawn.map(drop).map_err(|error| terminal_error(&error))
    }

    /// The next key; none once the terminal is gone.
    ///
    /// # Cancel safety
    /// May be dropped and called again; nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Told> {
        self.keys.recv().await
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // A key that is read now is not the next program's.
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
        ratatui::restore();
    }
}

fn read(sender: &mpsc::Sender<Told>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let told = match event::poll(POLL).and_then(|is_there| match is_there {
            true => event::read().map(Some),
            false => Ok(None),
        }) {
            Ok(Some(Event::Key(key))) => Told::Key(key),
            Ok(Some(Event::Resize(..))) => Told::Resized,
            Ok(_) => continue,
            Err(_) => return,
        };
        // Full: what is typed faster than it is looked at was not meant.
        if let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send(told) {
            return;
        }
    }
}

fn terminal_error(error: &io::Error) -> ApiError {
    let message = format!("cannot use the terminal: {error}");
    ApiError::new(
        "terminal",
        exit::OTHER,
        message,
        "Try another one, or: client list",
    )
}
