//! What stands in front: all keys, a question, limits to type.

use ratatui::layout::Rect;
use warren_proto::content::path::printable;

use super::super::state::{Dialog, Form, State};
use super::name;
use super::paint::{Paint, Tone};

/// Every key and what it does.
const KEYS: [(&str, &str); 11] = [
    ("j k, arrows", "down and up; page up and down, g and G"),
    ("enter", "the details of a share"),
    ("esc", "back to the list"),
    ("p, space", "pause a share, or go on with it"),
    ("v", "read again what is stored, fetch what is wrong"),
    ("r", "remove a share, after a question"),
    ("l", "limits of speed"),
    ("?", "these keys"),
    ("q, ctrl-c", "end this view; the daemon goes on"),
    ("", ""),
    ("", "Any key closes this."),
];

pub(super) fn draw(state: &State, area: Rect, paint: &mut Paint<'_>) {
    match &state.dialog {
        Dialog::None => (),
        Dialog::Help => draw_help(area, paint),
        Dialog::Remove(id) => draw_remove(state, id, area, paint),
        Dialog::Limits(form) => draw_limits(form, area, paint),
    }
}

fn draw_help(area: Rect, paint: &mut Paint<'_>) {
    let inside = paint.window(area, (64, KEYS.len() as u16 + 2), "Keys");
    let what = Rect {
        x: inside.x + 13,
        width: inside.width.saturating_sub(13),
        ..inside
    };
    for (line, (key, does)) in (0..).zip(KEYS) {
        paint.text(inside, line, key, Tone::Strong);
        paint.text(what, line, does, Tone::Plain);
    }
}

fn draw_remove(state: &State, id: &str, area: Rect, paint: &mut Paint<'_>) {
    let inside = paint.window(area, (64, 7), "Remove");
    let share = state.shares.get(id).map(|row| name(&row.share));
    let question = format!("Remove {}?", share.unwrap_or_default());
    paint.text(inside, 0, &question, Tone::Strong);
    for (line, text) in (2..).zip([
        "y  stop sharing it; files that are complete stay",
        "d  delete what was downloaded of it, too",
        "n  leave it as it is",
    ]) {
        paint.text(inside, line, text, Tone::Plain);
    }
}

fn draw_limits(form: &Form, area: Rect, paint: &mut Paint<'_>) {
    let inside = paint.window(area, (64, 8), "Limits of all shares together");
    let lines = ["send at most     ", "receive at most  "]
        .into_iter()
        .zip(&form.fields);
    for (place, (label, field)) in lines.enumerate() {
        let (cursor, tone) = match place == form.at {
            true => ("_", Tone::Strong),
            false => ("", Tone::Plain),
        };
        let text = format!("{label}{}{cursor}", printable(field));
        paint.text(inside, place as u16, &text, tone);
    }
    let text = "Bits per second: 20M, 500k, or off. Tab goes to the other,";
    paint.text(inside, 3, text, Tone::Faint);
    paint.text(
        inside,
        4,
        "enter sets both, esc changes nothing.",
        Tone::Faint,
    );
    if let Some(error) = &form.error {
        paint.text(inside, 5, &printable(error), Tone::Bad);
    }
}
