//! One share: how far it is, which parts are here, its files, who is connected, how fast it came.

use ratatui::layout::Rect;
use warren_daemon::control::model::{Contents, FileStanding, PeerPath, ShareState};
use warren_proto::content::path::printable;

use super::super::state::{PeerRow, ShareRow, State};
use super::paint::{Paint, Tone};
use super::{name, percent, tone};
use crate::text;

/// Lines of the map of chunks and of the graph of rates.
const MAP: u16 = 3;
const GRAPH: u16 = 2;

/// From this width on files and peers stand side by side.
const WIDE: u16 = 100;

pub(super) fn draw(state: &State, area: Rect, paint: &mut Paint<'_>) {
    let Some(row) = state.current() else { return };
    let none = Contents::default();
    let contents = state.contents.as_ref().unwrap_or(&none);
    let mut rest = Rect {
        x: area.x + 1,
        width: area.width - 2,
        ..area
    };
    draw_standing(row, take(&mut rest, 3), paint);
    if contents.chunks > 0 {
        let line = format!("chunks  {} of {}", contents.chunks_here, contents.chunks);
        paint.text(take(&mut rest, 1), 0, &line, Tone::Faint);
        paint.map(take(&mut rest, MAP), &contents.map);
    }
    if row.history.iter().any(|rate| *rate > 0) {
        let most = row.history.iter().copied().max().unwrap_or_default();
        let line = format!("received, up to {}/s", text::bytes(most));
        paint.text(take(&mut rest, 1), 0, &line, Tone::Faint);
        let samples: Vec<u64> = row.history.iter().copied().collect();
        paint.graph(take(&mut rest, GRAPH), &samples, Tone::Busy);
    }
    let (files, peers) = halves(rest, contents.peers.len());
    draw_files(row, contents, state.first_file, files, paint);
    draw_peers(state, contents, peers, paint);
}

/// The next lines of what is left.
fn take(rest: &mut Rect, lines: u16) -> Rect {
    let lines = lines.min(rest.height);
    let taken = Rect {
        height: lines,
        ..*rest
    };
    rest.y += lines;
    rest.height -= lines;
    taken
}

/// Room for files and for peers; below each other the peers get what they need, at most half.
fn halves(area: Rect, peers: usize) -> (Rect, Rect) {
    if area.width >= WIDE {
        let left = Rect {
            width: area.width / 2 - 1,
            ..area
        };
        let right = Rect {
            x: area.x + area.width / 2 + 1,
            width: area.width - area.width / 2 - 1,
            ..area
        };
        return (left, right);
    }
    let wanted = u16::try_from(peers.max(1))
        .unwrap_or(u16::MAX)
        .saturating_add(1);
    let below = wanted.min(area.height / 2);
    let mut rest = area;
    (take(&mut rest, area.height - below), rest)
}

fn draw_standing(row: &ShareRow, area: Rect, paint: &mut Paint<'_>) {
    let share = &row.share;
    paint.text(area, 0, &name(share), Tone::Strong);
    paint.right(area, 0, &share.state_words(), tone(share.state));
    let bar = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1).min(1),
        width: area.width.saturating_sub(7),
        ..area
    };
    if bar.height == 0 {
        return;
    }
    paint.bar(bar, row.done().unwrap_or(0.0), tone(share.state));
    paint.right(area, 1, &percent(row), Tone::Plain);
    let mut words = vec![match share.bytes {
        0 => "its size is not known yet".to_owned(),
        bytes => format!(
            "{} of {}",
            text::bytes(share.verified_bytes),
            text::bytes(bytes)
        ),
    }];
    if row.down() > 0 {
        words.push(format!("{}/s", text::bytes(row.down())));
    }
    if row.read() > 0 {
        words.push(format!("{}/s read", text::bytes(row.read())));
    }
    words.extend(
        row.left_s()
            .map(|left| format!("{} left", text::duration(left))),
    );
    words.push(text::peers(share.peers));
    paint.text(area, 2, &words.join(", "), Tone::Plain);
    paint.right(area, 2, &text::short_id(&share.content_id), Tone::Faint);
}

fn draw_files(
    row: &ShareRow,
    contents: &Contents,
    first: usize,
    area: Rect,
    paint: &mut Paint<'_>,
) {
    let all = contents.files.len() as u64 + contents.more_files;
    if all == 0 {
        paint.text(area, 0, no_files(row.share.state, contents), Tone::Faint);
        return;
    }
    paint.text(
        area,
        0,
        &text::count(all, "FILE").to_uppercase(),
        Tone::Faint,
    );
    let rows = area.height.saturating_sub(1);
    let shown = contents.files.iter().skip(first).take(rows.into());
    for (line, file) in (1..).zip(shown) {
        draw_file(file, line, area, paint);
    }
}

/// Why no files are told. Of what is stopped, or still being read, the daemon holds no list.
fn no_files(state: ShareState, contents: &Contents) -> &'static str {
    match state {
        ShareState::Seeding if !contents.content_id.is_empty() => "FILES  none",
        ShareState::Seeding
        | ShareState::Waiting
        | ShareState::Metadata
        | ShareState::Downloading => "FILES  not known yet",
        ShareState::Hashing
        | ShareState::Changed
        | ShareState::Failed
        | ShareState::Paused
        | ShareState::Withheld => "FILES  not told now",
    }
}

fn draw_file(file: &FileStanding, line: u16, area: Rect, paint: &mut Paint<'_>) {
    const NUMBERS: u16 = 18;
    let numbers = Rect {
        x: area.x + area.width.saturating_sub(NUMBERS),
        width: NUMBERS.min(area.width),
        ..area
    };
    let names = Rect {
        width: area.width.saturating_sub(NUMBERS + 1),
        ..area
    };
    let tone = match file.wanted {
        true => Tone::Plain,
        false => Tone::Faint,
    };
    paint.text(names, line, &printable(&file.path), tone);
    let hundredfold = u128::from(file.verified_bytes) * 100;
    let done = match (file.wanted, hundredfold.checked_div(file.bytes.into())) {
        (false, _) => "skipped".to_owned(),
        (true, Some(percent)) => format!("{percent} %"),
        (true, None) => "empty".to_owned(),
    };
    let size = Rect {
        width: 10,
        ..numbers
    };
    paint.right(size, line, &text::bytes(file.bytes), tone);
    let rest = Rect {
        x: numbers.x + 10,
        width: numbers.width.saturating_sub(10),
        ..numbers
    };
    paint.right(rest, line, &done, tone);
}

fn draw_peers(state: &State, contents: &Contents, area: Rect, paint: &mut Paint<'_>) {
    let peers = contents
        .peers
        .iter()
        .filter_map(|peer| state.peers.get(peer));
    let mut peers: Vec<&PeerRow> = peers.collect();
    // The busiest first; among equals as they are called.
    peers.sort_by(|a, b| {
        let busy = |row: &PeerRow| row.rates().0.saturating_add(row.rates().1);
        let by_name = || a.peer.peer.cmp(&b.peer.peer);
        busy(b).cmp(&busy(a)).then_with(by_name)
    });
    if peers.is_empty() {
        paint.text(area, 0, "PEERS  none is connected", Tone::Faint);
        return;
    }
    paint.text(area, 0, "PEER", Tone::Faint);
    let columns = peer_columns(area);
    for (column, head) in columns.into_iter().zip(["PATH", "RTT", "DOWN", "UP"]) {
        paint.right(column, 0, head, Tone::Faint);
    }
    let rows = usize::from(area.height.saturating_sub(1));
    for (line, row) in (1..).zip(peers.into_iter().take(rows)) {
        draw_peer(row, line, area, paint);
    }
}

/// From the right: how it is reached, how far it is, how fast it gives and takes.
fn peer_columns(area: Rect) -> [Rect; 4] {
    let mut right = area.x + area.width;
    let mut columns = [12, 12, 9, 7].map(|width: u16| {
        let width = width.min(right - area.x);
        right -= width;
        Rect {
            x: right,
            width,
            ..area
        }
    });
    columns.reverse();
    columns
}

fn draw_peer(row: &PeerRow, line: u16, area: Rect, paint: &mut Paint<'_>) {
    let peer = &row.peer;
    let [path, rtt, down, up] = peer_columns(area);
    let who = Rect {
        width: path.x.saturating_sub(area.x + 1),
        ..area
    };
    let label = format!("{} {}", printable(&peer.peer), printable(&peer.address));
    paint.text(who, line, &label, Tone::Plain);
    let tone = match peer.path {
        PeerPath::Relay => Tone::Warn,
        PeerPath::Lan | PeerPath::Direct => Tone::Good,
    };
    paint.right(path, line, peer.path.word(), tone);
    paint.right(rtt, line, &format!("{:.0} ms", peer.rtt_ms), Tone::Plain);
    for (column, rate) in [(down, row.rates().0), (up, row.rates().1)] {
        if rate > 0 {
            paint.right(
                column,
                line,
                &format!("{}/s", text::bytes(rate)),
                Tone::Plain,
            );
        }
    }
}
