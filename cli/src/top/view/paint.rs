//! Strokes: text in a rectangle, bars, graphs, frames; with colours, or by brightness alone.

use std::borrow::Cow;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

/// Heights of a cell in eighths.
const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// What something means, from which follows how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Busy,
    Warn,
    Bad,
}

/// Where everything is drawn.
pub(super) struct Paint<'a> {
    buffer: &'a mut Buffer,
    colour: bool,
}

impl<'a> Paint<'a> {
    pub(super) fn new(buffer: &'a mut Buffer, colour: bool) -> Paint<'a> {
        Paint { buffer, colour }
    }

    fn style(&self, tone: Tone) -> Style {
        let style = Style::new();
        let coloured = |colour| match self.colour {
            true => style.fg(colour),
            false => style,
        };
        match tone {
            Tone::Plain => style,
            Tone::Strong => style.add_modifier(Modifier::BOLD),
            Tone::Faint => style.add_modifier(Modifier::DIM),
            Tone::Good => coloured(Color::Green),
            Tone::Busy => coloured(Color::Cyan),
            Tone::Warn => coloured(Color::Yellow),
            Tone::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// Text at the left of a line of the area, cut to its width.
    pub(super) fn text(&mut self, area: Rect, line: u16, text: &str, tone: Tone) {
        if line < area.height && area.width > 0 {
            let text = cut(text, area.width);
            let style = self.style(tone);
            self.buffer
                .set_stringn(area.x, area.y + line, text, area.width.into(), style);
        }
    }

    /// Text at the right, over whatever is there.
    pub(super) fn right(&mut self, area: Rect, line: u16, text: &str, tone: Tone) {
        let text = cut(text, area.width);
        let width = width(&text).min(area.width);
        let area = Rect {
            x: area.x + area.width - width,
            width,
            ..area
        };
        self.text(area, line, &text, tone);
    }

    /// The part of a line that is done, 0 to 1, in eighths of a cell.
    pub(super) fn bar(&mut self, area: Rect, done: f64, tone: Tone) {
        const PARTS: [&str; 8] = ["·", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let eighths = (done.clamp(0.0, 1.0) * f64::from(area.width) * 8.0) as u16;
        for x in 0..area.width {
            let symbol = match eighths.saturating_sub(x * 8) {
                8.. => "█",
                part => PARTS[usize::from(part)],
            };
            let tone = match symbol {
                "·" => Tone::Faint,
                _ => tone,
            };
            self.symbol(area, (x, 0), symbol, tone);
        }
    }

    /// How much is here of each part, in percent: the parts fill the area line by line.
    pub(super) fn map(&mut self, area: Rect, percents: &[u8]) {
        const SHADES: [&str; 4] = ["·", "░", "▒", "▓"];
        let cells = usize::from(area.width) * usize::from(area.height);
        if cells == 0 || percents.is_empty() {
            return;
        }
        for cell in 0..cells {
            let percent = part(percents, cell, cells);
            let symbol = match percent {
                100 => "█",
                percent => SHADES[usize::from(percent.div_ceil(34)).min(3)],
            };
            let place = (
                (cell % usize::from(area.width)) as u16,
                (cell / usize::from(area.width)) as u16,
            );
            let tone = match percent {
                0 => Tone::Faint,
                100 => Tone::Good,
                _ => Tone::Busy,
            };
            self.symbol(area, place, symbol, tone);
        }
    }

    /// The newest samples, at the right, as high as the highest of them is the area.
    pub(super) fn graph(&mut self, area: Rect, samples: &[u64], tone: Tone) {
        let shown = &samples[samples.len().saturating_sub(area.width.into())..];
        let most = shown.iter().copied().max().unwrap_or_default().max(1);
        let begin = area.width - shown.len() as u16;
        for (x, sample) in (begin..).zip(shown) {
            let full = u128::from(area.height) * 8;
            let eighths = (u128::from(*sample) * full).div_ceil(u128::from(most)) as u16;
            for y in 0..area.height {
                let below = (area.height - 1 - y) * 8;
                let height = usize::from(eighths.saturating_sub(below).min(8));
                self.symbol(area, (x, y), EIGHTHS[height], tone);
            }
        }
    }

    fn symbol(&mut self, area: Rect, (x, y): (u16, u16), symbol: &str, tone: Tone) {
        let style = self.style(tone);
        if let Some(cell) = self.buffer.cell_mut((area.x + x, area.y + y)) {
            cell.set_symbol(symbol).set_style(style);
        }
    }

    /// Marks a line as the one that keys are about.
    pub(super) fn select(&mut self, line: Rect) {
        self.buffer
            .set_style(line, Style::new().add_modifier(Modifier::REVERSED));
    }

    /// An empty box with a title in the middle of an area. Returns its inside.
    pub(super) fn window(&mut self, area: Rect, (wide, high): (u16, u16), title: &str) -> Rect {
        let (wide, high) = (wide.min(area.width), high.min(area.height));
        let frame = Rect {
            x: area.x + (area.width - wide) / 2,
            y: area.y + (area.height - high) / 2,
            width: wide,
            height: high,
        };
        for y in 0..high {
            let (left, fill, right) = match y {
                0 => ("┌", "─", "┐"),
                y if y == high - 1 => ("└", "─", "┘"),
                _ => ("│", " ", "│"),
            };
            for x in 0..wide {
                let symbol = match x {
                    0 => left,
                    x if x == wide - 1 => right,
                    _ => fill,
                };
                if let Some(cell) = self.buffer.cell_mut((frame.x + x, frame.y + y)) {
                    cell.reset();
                    cell.set_symbol(symbol);
                }
            }
        }
        let inside = Rect {
            x: frame.x + 2,
            y: frame.y + 1,
            width: wide.saturating_sub(4),
            height: high.saturating_sub(2),
        };
        let title_line = Rect {
            y: frame.y,
            height: 1,
            ..inside
        };
        self.text(title_line, 0, &format!(" {title} "), Tone::Strong);
        inside
    }
}

/// The least percent of the parts that a cell stands for: nothing is shown as here that is not.
fn part(percents: &[u8], cell: usize, cells: usize) -> u8 {
    let begin = cell * percents.len() / cells;
    let end = ((cell + 1) * percents.len() / cells).max(begin + 1);
    let parts = &percents[begin..end];
    match parts.iter().all(|percent| *percent == 100) {
        true => 100,
        // What is begun is seen, and never looks like all of it.
        false => {
            let sum: usize = parts.iter().map(|percent| usize::from(*percent)).sum();
            (sum.div_ceil(parts.len())).min(99) as u8
        }
    }
}

/// Cells that it takes; wide letters take two.
fn width(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX)
}

/// As much of it as fits, with a sign where something is missing.
fn cut(text: &str, room: u16) -> Cow<'_, str> {
    if width(text) <= room {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    let mut taken = 0;
    for letter in text.chars() {
        let next = width(letter.encode_utf8(&mut [0; 4]));
        if taken + next + 1 > room {
            break;
        }
        taken += next;
        kept.push(letter);
    }
    if room > 0 {
        kept.push('…');
    }
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_with_a_sign_by_cells_and_not_letters() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
        assert_eq!(cut("漢字漢字", 6), "漢字…");
        assert_eq!(cut("漢", 1), "…");
        assert_eq!(cut("a", 0), "");
    }

    #[test]
    fn a_cell_of_several_parts_is_full_only_if_all_are() {
        assert_eq!(part(&[100, 100, 99, 100], 0, 2), 100);
        assert_eq!(part(&[100, 100, 99, 100], 1, 2), 99);
        assert_eq!(part(&[0, 1], 0, 1), 1);
        assert_eq!(part(&[0, 100], 3, 4), 100);
    }
}
