//! How everything looks: a function of what is known and of the room there is.
//!
//! The list of shares is here, and what stands above and below it; [`details`] shows one share, [`dialogs`]
//! what is in front, [`paint`] has the strokes of all of them. Whatever peers and files are called is made
//! printable first.

mod details;
mod dialogs;
mod paint;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use warren_daemon::control::model::{Share, ShareState, Tracker};
use warren_proto::content::path::printable;

use super::state::{Dialog, Screen, ShareRow, State};
use crate::{limit, text};
use paint::{Paint, Tone};

/// Less room than this shows nothing that could be read.
const LEAST: (u16, u16) = (40, 8);

/// Lines above the list or the details, and below.
const HEAD: u16 = 2;
const FOOT: u16 = 2;

/// Columns of the list, from the right: what they are called and how wide they are.
const COLUMNS: [(&str, u16); 5] = [
    ("PEERS", 5),
    ("RATE", 11),
    ("SIZE", 10),
    ("DONE", 5),
    ("STATE", 11),
];

/// Draws all of it.
pub(super) fn view(state: &State, area: Rect, buffer: &mut Buffer) {
    let paint = &mut Paint::new(buffer, state.colour);
    if area.width < LEAST.0 || area.height < LEAST.1 {
        paint.text(area, 0, "the window is too small:", Tone::Plain);
        paint.text(area, 1, "40x8 at least", Tone::Plain);
        return;
    }
    let [head, body, foot] = split(area);
    draw_head(state, head, paint);
    match state.screen {
        Screen::Details if state.current().is_some() => details::draw(state, body, paint),
        _ => draw_list(state, body, paint),
    }
    draw_foot(state, foot, paint);
    if state.dialog != Dialog::None {
        dialogs::draw(state, area, paint);
    }
}

fn split(area: Rect) -> [Rect; 3] {
    let part = |y: u16, height: u16| Rect {
        y: area.y + y,
        height,
        ..area
    };
    let body = area.height - HEAD - FOOT;
    [part(0, HEAD), part(HEAD, body), part(HEAD + body, FOOT)]
}

/// Which daemon, its tracker, how fast.
fn draw_head(state: &State, area: Rect, paint: &mut Paint<'_>) {
    let (down, up) = state.rates();
    let shares = text::count(state.shares.len() as u64, "share");
    let peers = text::count(state.peers.len() as u64, "peer");
    let title = format!(" daemon {}   {shares}, {peers}", state.idx);
    paint.text(area, 0, &title, Tone::Strong);
    let rates = format!("down {}/s   up {}/s ", text::bytes(down), text::bytes(up));
    paint.right(area, 0, &rates, Tone::Strong);
    let mut line = format!(" {}", tracker_words(state));
    if limit::is_limited(&state.limits) {
        line += &format!("   {}", limit::limits_line(&state.limits));
    }
    paint.text(area, 1, &line, Tone::Faint);
}

fn tracker_words(state: &State) -> String {
    let connected = state.trackers.values().filter(|it| it.connected).count();
    let mut lost = state.trackers.values().filter(|it| !it.connected);
    let words = |tracker: &Tracker| {
        let address = printable(&tracker.address);
        let note = tracker.note.as_deref().unwrap_or("being tried");
        format!("tracker {address} is not reached: {}", printable(note))
    };
    match (lost.next(), state.trackers.values().next()) {
        (Some(tracker), _) => words(tracker),
        (None, Some(only)) if connected == 1 => {
            let way = only.way.map(|way| format!(" {}", way.words(&only.address)));
            format!(
                "tracker {}{}",
                printable(&only.address),
                way.unwrap_or_default()
            )
        }
        (None, Some(_)) => format!("{connected} trackers are reached"),
        (None, None) => String::new(),
    }
}

/// What went wrong, or the share's own note, and the keys.
fn draw_foot(state: &State, area: Rect, paint: &mut Paint<'_>) {
    let of_share = || {
        let row = state.current()?;
        row.share.note.clone()
    };
    if let Some(why) = &state.gone {
        let line = format!(" {}; trying again", printable(why));
        paint.text(area, 0, &line, Tone::Bad);
    } else if let Some(note) = &state.note {
        let tone = match note.is_error {
            true => Tone::Bad,
            false => Tone::Good,
        };
        paint.text(area, 0, &format!(" {}", note.text), tone);
    } else if let Some(note) = of_share() {
        paint.text(area, 0, &format!(" {}", printable(&note)), Tone::Warn);
    }
    let keys = match state.screen {
        Screen::List => " q quit  ? keys  enter details  p pause  v verify  r remove  l limits",
        Screen::Details => {
            " q quit  ? keys  esc list  jk files  p pause  v verify  r remove  l limits"
        }
    };
    paint.text(area, 1, keys, Tone::Faint);
}

fn draw_list(state: &State, area: Rect, paint: &mut Paint<'_>) {
    let columns = Columns::of(area.width);
    let head = Rect { height: 1, ..area };
    paint.text(at(head, columns.name), 0, "NAME", Tone::Faint);
    for ((name, _), column) in COLUMNS.iter().zip(columns.others) {
        match *name {
            "STATE" => paint.text(at(head, column), 0, name, Tone::Faint),
            name => paint.right(at(head, column), 0, name, Tone::Faint),
        }
    }
    if state.order.is_empty() && state.gone.is_none() {
        let line = format!(" nothing is shared; share a file with: {}", state.register);
        paint.text(area, 2, &line, Tone::Plain);
        return;
    }
    let (rows, selected) = (usize::from(area.height - 1), state.position());
    let first = first_row(selected, rows, state.order.len());
    let shown = state.order.iter().enumerate().skip(first).take(rows);
    for (line, (place, id)) in (1..).zip(shown) {
        let Some(row) = state.shares.get(id) else {
            continue;
        };
        let line = Rect {
            y: area.y + line,
            height: 1,
            ..area
        };
        draw_row(row, line, &columns, paint);
        if place == selected {
            paint.select(line);
        }
    }
}

/// The selected row stays in the middle as far as that fills the room.
fn first_row(selected: usize, rows: usize, all: usize) -> usize {
    let last = all.saturating_sub(rows);
    selected.saturating_sub(rows / 2).min(last)
}

fn draw_row(row: &ShareRow, line: Rect, columns: &Columns, paint: &mut Paint<'_>) {
    let share = &row.share;
    paint.text(at(line, columns.name), 0, &name(share), Tone::Plain);
    if let Some(bar) = columns.bar {
        paint.bar(at(line, bar), row.done().unwrap_or(0.0), tone(share.state));
    }
    let [peers, rate_column, size, done, state] = columns.others.map(|column| at(line, column));
    paint.text(state, 0, &share.state_words(), tone(share.state));
    paint.right(done, 0, &percent(row), Tone::Plain);
    let known = |bytes: u64| match bytes {
        0 => "-".to_owned(),
        bytes => text::bytes(bytes),
    };
    paint.right(size, 0, &known(share.bytes), Tone::Plain);
    // Of one that is read, how fast that goes; its state says which of the two it is.
    let rate = row.down().max(row.read());
    if rate > 0 {
        let rate = format!("{}/s", text::bytes(rate));
        paint.right(rate_column, 0, &rate, Tone::Plain);
    }
    paint.right(peers, 0, &share.peers.total().to_string(), Tone::Plain);
}

/// As it is called; a link may not have brought its name yet.
fn name(share: &Share) -> String {
    match share.name.is_empty() {
        true => text::short_id(&share.content_id),
        false => printable(&share.name),
    }
}

/// Floored: 100 % is said only when every byte is verified.
fn percent(row: &ShareRow) -> String {
    match row.done() {
        Some(done) => format!("{} %", (done * 100.0) as u64),
        None => "-".to_owned(),
    }
}

fn tone(state: ShareState) -> Tone {
    match state {
        ShareState::Seeding => Tone::Good,
        ShareState::Downloading | ShareState::Metadata | ShareState::Hashing => Tone::Busy,
        ShareState::Waiting | ShareState::Paused | ShareState::Withheld => Tone::Warn,
        ShareState::Changed | ShareState::Failed => Tone::Bad,
    }
}

/// Where the columns are: begin and width.
struct Columns {
    name: (u16, u16),
    /// Where there is room for it.
    bar: Option<(u16, u16)>,
    /// In the order of [`COLUMNS`].
    others: [(u16, u16); 5],
}

impl Columns {
    /// The name gets two thirds of what the others leave, and the bar the rest, at most 30.
    fn of(width: u16) -> Columns {
        let mut right = width.saturating_sub(1);
        let mut others = [(0, 0); 5];
        for (place, (column, (_, wide))) in others.iter_mut().zip(COLUMNS).enumerate() {
            // The narrower it is, the less is shown, from the right.
            let leaves_room = right > wide + 32 || place >= 3;
            if !leaves_room {
                continue;
            }
            right = right.saturating_sub(wide);
            *column = (right, wide);
            right = right.saturating_sub(1);
        }
        let bar = (right / 3).min(30);
        let has_bar = bar >= 8;
        let name_width = match has_bar {
            true => right.saturating_sub(bar + 2),
            false => right.saturating_sub(1),
        };
        Columns {
            name: (1, name_width),
            bar: has_bar.then_some((name_width + 2, bar)),
            others,
        }
    }
}

fn at(line: Rect, (x, width): (u16, u16)) -> Rect {
    Rect {
        x: line.x + x,
        width: width.min(line.width.saturating_sub(x)),
        ..line
    }
}
