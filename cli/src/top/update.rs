//! What each key, and each word of the daemon, changes; and what is to be asked of the daemon then.
//!
//! Pure: the shell ([`super`]) reads keys and sockets and carries the [`Order`]s out.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use warren_daemon::control::model::{Event, LimitRequest, RemoveRequest, ShareState};
use warren_proto::content::path::printable;

use super::state::{Dialog, Form, Note, Screen, State};
use crate::args;

/// Shares that a page key goes by.
const PAGE: usize = 10;

/// Characters that a limit takes at most: `1000.5M`.
const FIELD: usize = 12;

/// What happens.
#[derive(Debug)]
pub(super) enum Input {
    /// A key was pressed, or a window resized, which changes nothing but the picture.
    Key(KeyEvent),
    /// The daemon has told something.
    Told(Box<Event>),
    /// How everything stands: whatever the daemon has told before is void.
    Anew(Vec<Event>),
    /// So much time has passed.
    Tick(Duration),
    /// What was asked of the daemon is done, or was refused.
    Answered(Result<String, String>),
    /// Contents were asked for and not told.
    NoContents,
    /// The daemon does not answer any more.
    Gone(String),
}

/// What is to be asked of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Pause(String),
    Resume(String),
    Verify(String),
    Remove(RemoveRequest),
    Limit(LimitRequest),
    /// Files and map of a share.
    Contents(String),
    /// To end this view; the daemon goes on.
    Quit,
}

/// Takes in what happens. Returns what is to be done for it.
pub(super) fn update(state: &mut State, input: Input) -> Option<Order> {
    match input {
        Input::Key(key) if key.kind != KeyEventKind::Release => on_key(state, key),
        Input::Key(_) => None,
        Input::Told(event) => {
            state.gone = None;
            state.take(*event);
            None
        }
        Input::Anew(events) => {
            state.gone = None;
            state.begin_anew(events);
            None
        }
        Input::Tick(elapsed) => {
            state.sample(elapsed);
            contents_order(state)
        }
        Input::Answered(answer) => {
            state.note = Some(match answer {
                Ok(text) => note(text),
                Err(text) => error(text),
            });
            None
        }
        Input::NoContents => {
            state.asking_contents = false;
            None
        }
        Input::Gone(why) => {
            state.asking_contents = false;
            state.gone = Some(why);
            None
        }
    }
}

/// Where details are shown they are asked for, but for one who was asked and has not answered.
fn contents_order(state: &mut State) -> Option<Order> {
    let is_due = state.screen == Screen::Details && state.gone.is_none();
    match is_due && !state.asking_contents {
        true => ask_contents(state),
        false => None,
    }
}

fn ask_contents(state: &mut State) -> Option<Order> {
    let shown = state.current_id()?;
    state.asking_contents = true;
    Some(Order::Contents(shown))
}

fn on_key(state: &mut State, key: KeyEvent) -> Option<Order> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Order::Quit);
    }
    match state.dialog.clone() {
        Dialog::None => on_plain_key(state, key.code),
        Dialog::Help => {
            state.dialog = Dialog::None;
            None
        }
        Dialog::Remove(id) => on_remove_key(state, id, key.code),
        Dialog::Limits(form) => on_form_key(state, form, key.code),
    }
}

fn on_plain_key(state: &mut State, key: KeyCode) -> Option<Order> {
    state.note = None;
    match key {
        KeyCode::Char('q') => return Some(Order::Quit),
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => state.dialog = Dialog::Help,
        KeyCode::Enter | KeyCode::Right => return open(state),
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => state.screen = Screen::List,
        KeyCode::Char('p' | ' ') => return pause_or_resume(state),
        KeyCode::Char('v') => return state.current_id().map(Order::Verify),
        KeyCode::Char('r') | KeyCode::Delete => {
            if let Some(id) = state.current_id() {
                state.dialog = Dialog::Remove(id);
            }
        }
        KeyCode::Char('l') => state.dialog = Dialog::Limits(form(state)),
        key => go(state, key),
    }
    None
}

fn open(state: &mut State) -> Option<Order> {
    state.current()?;
    if state.screen == Screen::List {
        (state.screen, state.contents, state.first_file) = (Screen::Details, None, 0);
    }
    ask_contents(state)
}

/// In the list from share to share, in the details through the files.
fn go(state: &mut State, key: KeyCode) {
    let (at, last) = match state.screen {
        Screen::List => (state.position(), state.order.len().saturating_sub(1)),
        Screen::Details => {
            let files = state.contents.as_ref().map_or(0, |it| it.files.len());
            (state.first_file, files.saturating_sub(1))
        }
    };
    let to = match key {
        KeyCode::Down | KeyCode::Char('j') => at.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
        KeyCode::PageDown => at.saturating_add(PAGE),
        KeyCode::PageUp => at.saturating_sub(PAGE),
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => last,
        _ => return,
    };
    match state.screen {
        Screen::List => state.select(to),
        Screen::Details => state.first_file = to.min(last),
    }
}

fn pause_or_resume(state: &State) -> Option<Order> {
    let row = state.current()?;
    let id = row.share.content_id.clone();
    Some(match row.share.state {
        ShareState::Paused | ShareState::Failed => Order::Resume(id),
        _ => Order::Pause(id),
    })
}

fn on_remove_key(state: &mut State, id: String, key: KeyCode) -> Option<Order> {
    state.dialog = Dialog::None;
    let data = match key {
        KeyCode::Char('y') => false,
        KeyCode::Char('d') => true,
        _ => {
            state.note = Some(note("nothing was removed".to_owned()));
            return None;
        }
    };
    Some(Order::Remove(RemoveRequest { share: id, data }))
}

/// As they are now.
fn form(state: &State) -> Form {
    let typed = |limit: Option<u64>| match limit {
        None => "off".to_owned(),
        Some(bits) if bits % 1_000_000 == 0 => format!("{}M", bits / 1_000_000),
        Some(bits) => format!("{}k", bits / 1_000),
    };
    Form {
        fields: [
            typed(state.limits.up_bits_per_s),
            typed(state.limits.down_bits_per_s),
        ],
        ..Form::default()
    }
}

fn on_form_key(state: &mut State, mut form: Form, key: KeyCode) -> Option<Order> {
    let field = &mut form.fields[form.at];
    form.error = None;
    match key {
        KeyCode::Esc => {
            state.dialog = Dialog::None;
            return None;
        }
        KeyCode::Enter => match limits(&form) {
            Ok(request) => {
                state.dialog = Dialog::None;
                return Some(Order::Limit(request));
            }
            Err(why) => form.error = Some(why),
        },
        KeyCode::Tab | KeyCode::BackTab | KeyCode::Up | KeyCode::Down => form.at = 1 - form.at,
        KeyCode::Backspace => drop(field.pop()),
        KeyCode::Char(letter) if letter.is_ascii_alphanumeric() || letter == '.' => {
            // Who types a number means it instead of the word.
            if field == "off" && letter.is_ascii_digit() {
                field.clear();
            }
            if field.len() < FIELD {
                field.push(letter);
            }
        }
        _ => (),
    }
    state.dialog = Dialog::Limits(form);
    None
}

fn limits(form: &Form) -> Result<LimitRequest, String> {
    let [up, down] = args::limit_bits(form.fields.each_ref().map(|field| field.as_str()))?;
    Ok(LimitRequest {
        up_bits_per_s: Some(up),
        down_bits_per_s: Some(down),
        ..LimitRequest::default()
    })
}

fn note(text: String) -> Note {
    let is_error = false;
    Note { text, is_error }
}

fn error(text: String) -> Note {
    let (text, is_error) = (printable(&text), true);
    Note { text, is_error }
}
