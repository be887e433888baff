//! Numbers and progress in words, for people.
//!
//! Percentages are floored: 100 % is said only when every byte is verified.

use warren_daemon::control::model::{PeerCounts, Phase, Progress};
pub(crate) use warren_daemon::control::words::{count, short_id};

use crate::select::counts;

/// Bytes in binary units with one decimal: `118.0 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Tenths of a unit, floored, in whole numbers: a rounded 1024.0 KiB would be wrong.
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10 / 1024;
    while tenths >= 10_240 {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A time in its two largest units: `2 h 5 min`.
pub(crate) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Connected peers and how they are reached: `3 peers: lan 1, direct 2`.
pub(crate) fn peers(peers: PeerCounts) -> String {
    let ways = [
        ("lan", peers.lan),
        ("direct", peers.direct),
        ("relay", peers.relay),
    ];
    let ways: Vec<String> = ways
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(way, number)| format!("{way} {number}"))
        .collect();
    let total = count(peers.total(), "peer");
    if ways.is_empty() {
        total
    } else {
        format!("{total}: {}", ways.join(", "))
    }
}

/// Progress on one line; `name` is used while the daemon knows none.
pub(crate) fn progress(progress: &Progress, name: &str) -> String {
    let name = progress.name.as_deref().unwrap_or(name);
    let mut parts: Vec<String> = progress.files.map(counts).into_iter().collect();
    match progress.phase {
        Some(Phase::Metadata) => parts.push("fetching the list of chunks".to_owned()),
        Some(Phase::Hashing) => parts.extend(["hashing".to_owned(), amount(progress)]),
        Some(Phase::Waiting) | Some(Phase::Downloading) | None => parts.push(amount(progress)),
    }
    if progress.phase != Some(Phase::Waiting) {
        parts.extend(speed(progress));
    }
    if progress.phase != Some(Phase::Hashing) {
        parts.push(peers(progress.peers));
    }
    let line = format!("{name}: {}", parts.join(", "));
    match note(progress) {
        Some(note) => format!("{line}; {note}"),
        None => line,
    }
}

fn amount(progress: &Progress) -> String {
    let verified = bytes(progress.verified_bytes);
    match percent(progress) {
        Some(percent) => format!("{percent} %, {verified} of {}", bytes(progress.bytes)),
        None => verified,
    }
}

/// How much is verified, floored; `None` while the size is not known.
pub(crate) fn percent(progress: &Progress) -> Option<u64> {
    let hundredfold = u128::from(progress.verified_bytes) * 100;
    let percent = hundredfold.checked_div(u128::from(progress.bytes))?;
    Some(u64::try_from(percent).unwrap_or(100).min(100))
}

fn speed(progress: &Progress) -> Vec<String> {
    let rate = progress.rate_bytes_per_s;
    if rate == 0 {
        return Vec::new();
    }
    let mut parts = vec![format!("{}/s", bytes(rate))];
    let left = progress.bytes.saturating_sub(progress.verified_bytes);
    if left > 0 {
        parts.push(format!("{} left", duration(left.div_ceil(rate))));
    }
    parts
}

fn note(progress: &Progress) -> Option<&str> {
    match (&progress.note, progress.phase) {
        (Some(note), _) => Some(note),
        (None, Some(Phase::Waiting)) if progress.verified_bytes == 0 => {
            Some("no peer has it yet; waiting")
        }
        (None, Some(Phase::Waiting)) => Some("no peer has the rest now; waiting"),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_floored_to_one_decimal_of_a_binary_unit() {
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1023.9 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (123_731_968, "118.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (7_500, "2 h 5 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn a_download_shows_bytes_rate_time_and_how_peers_are_reached() {
        let moving = Progress {
            verified_bytes: 1 << 30,
            bytes: 3 << 30,
            rate_bytes_per_s: 128 << 20,
            peers: PeerCounts {
                lan: 1,
                direct: 2,
                relay: 0,
            },
            phase: Some(Phase::Downloading),
            ..Progress::default()
        };
        assert_eq!(
            progress(&moving, "film.mkv"),
            "film.mkv: 33 %, 1.0 GiB of 3.0 GiB, 128.0 MiB/s, 16 s left, 3 peers: lan 1, direct 2"
        );
    }

    #[test]
    fn waiting_and_metadata_are_said() {
        let mut waiting = Progress {
            phase: Some(Phase::Waiting),
            ..Progress::default()
        };
        assert_eq!(
            progress(&waiting, "f"),
            "f: 0 B, 0 peers; no peer has it yet; waiting"
        );
        waiting.note = Some("tracker unreachable".into());
        assert_eq!(
            progress(&waiting, "f"),
            "f: 0 B, 0 peers; tracker unreachable"
        );
        let metadata = Progress {
            phase: Some(Phase::Metadata),
            ..Progress::default()
        };
        assert_eq!(
            progress(&metadata, "f"),
            "f: fetching the list of chunks, 0 peers"
        );
    }

    #[test]
    fn hundred_percent_is_said_only_when_all_is_verified() {
        let mut nearly = Progress {
            verified_bytes: 999,
            bytes: 1000,
            ..Progress::default()
        };
        assert_eq!(percent(&nearly), Some(99));
        nearly.verified_bytes = 1000;
        assert_eq!(percent(&nearly), Some(100));
        assert_eq!(percent(&Progress::default()), None);
    }
}
