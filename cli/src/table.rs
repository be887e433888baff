//! The table of `client list`: as wide as it need be, one line for a share.

use warren_daemon::control::model::{Share, ShareState};
use warren_proto::content::path::printable;

use crate::{
    lines::{share_terms, version},
    select::counts,
    text,
};

/// The lines of the table, the first of which says what the columns are.
pub(crate) fn rows(shares: &[Share]) -> Vec<String> {
    let head = ["ID", "STATE", "DONE", "SIZE", "PEERS", "NAME"].map(str::to_owned);
    let mut cells = vec![head];
    cells.extend(shares.iter().map(cells_of));
    let width = |column: usize| {
        let widths = cells
            .iter()
            .map(|row: &[String; 6]| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    cells.iter().map(|row| joined(row, &widths)).collect()
}

fn joined(row: &[String; 6], widths: &[usize]) -> String {
    let [id, state, done, size, peers, name] = row;
    let &[id_width, state_width, done_width, size_width, peers_width] = widths else {
        return row.join("  ");
    };
    // Numbers to the right, words to the left.
    format!(
        "{id:<id_width$}  {state:<state_width$}  {done:>done_width$}  {size:>size_width$}  \
         {peers:>peers_width$}  {name}"
    )
}

fn cells_of(share: &Share) -> [String; 6] {
    let hundredfold = u128::from(share.verified_bytes) * 100;
    let (done, size) = match hundredfold.checked_div(share.bytes.into()) {
        Some(percent) => (format!("{percent} %"), text::bytes(share.bytes)),
        None if is_empty(share) => ("100 %".to_owned(), text::bytes(0)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let name = match share.name.as_str() {
        "" => "(not known yet)".to_owned(),
        name => printable(name),
    };
    let name = match share.files {
        Some(files) => format!("{name}  ({})", counts(files)),
        None => name,
    };
    let name = match share_terms(share) {
        Some(terms) => format!("{name}  ({terms})"),
        None => name,
    };
    let version = version(share).map(|text| format!("  ({})", printable(&text)));
    let name = name + &version.unwrap_or_default();
    [
        text::short_id(&share.content_id),
        share.state_words(),
        done,
        size,
        share.peers.total().to_string(),
        name,
    ]
}

/// Whether it is known that there is no byte in it, rather than not known how many there are.
fn is_empty(share: &Share) -> bool {
    let is_known = match share.state {
        ShareState::Seeding | ShareState::Downloading => true,
        // Of a link that was paused not even the name is known.
        ShareState::Paused => !share.name.is_empty(),
        _ => false,
    };
    is_known && share.bytes == 0
}

#[cfg(test)]
mod tests {
    use warren_daemon::control::model::{FileCounts, FollowedShare, PublishedShare};

    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_percent_is_floored() {
        let share = Share {
            content_id: "0123456789abcdef".into(),
            name: "film\n.mkv".into(),
            bytes: 1 << 30,
            verified_bytes: (1 << 30) - 1,
            state: ShareState::Downloading,
            ..Share::default()
        };
        let part = Share {
            name: "photos".into(),
            files: Some(FileCounts { selected: 5, of: 9 }),
            ..share.clone()
        };
        let shown = &rows(&[part])[1];
        assert!(shown.ends_with("  photos  (5 of 9 files)"), "{shown}");
        let unknown = Share {
            name: String::new(),
            bytes: 0,
            verified_bytes: 0,
            state: ShareState::Waiting,
            ..share.clone()
        };
        let expected = [
            "ID            STATE        DONE     SIZE  PEERS  NAME",
            r"0123456789ab  downloading  99 %  1.0 GiB      0  film\u{a}.mkv",
            "0123456789ab  waiting         -        -      0  (not known yet)",
        ];
        assert_eq!(rows(&[share.clone(), unknown.clone()]), expected);
        let empty = Share {
            name: "empty".into(),
            state: ShareState::Seeding,
            ..unknown
        };
        let shown = &rows(&[empty])[1];
        assert_eq!(shown, "0123456789ab  seeding  100 %   0 B      0  empty");
        let followed = Share {
            followed: Some(FollowedShare {
                publisher: "p".into(),
                sequence: 3,
                newest: 4,
                kept: Some("/d/film.kept-2".into()),
            }),
            ..share.clone()
        };
        let published = Share {
            published: Some(PublishedShare {
                publisher: "p".into(),
                sequence: 7,
            }),
            ..share
        };
        let rows = rows(&[followed, published]);
        let ends = [
            "(version 3, followed, the newest is version 4, files changed here are kept in /d/film.kept-2)",
            "(version 7, published)",
        ];
        for (row, end) in rows.iter().skip(1).zip(ends) {
            assert!(row.ends_with(end), "{row}");
        }
    }
}
