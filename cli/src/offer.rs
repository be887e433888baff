//! What a person is shown before a download begins, and what they pick of it.
//!
//! Pure: made of a manifest and of what was typed. Not here: the terminal ([`crate::ask`]).

use std::collections::BTreeMap;

use warren_daemon::control::{
    model::{ApiError, Preview, PublishedShare, Taken, exit},
    wish::{Files, exactly},
};
use warren_proto::content::{Content, Manifest, path::printable};

use crate::text;

/// Rows that are shown at once; longer lists are shortened by folder, and paged.
pub(crate) const ROWS: usize = 30;

/// Something that can be picked by its number: a file, or a folder with all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its path in the share; a folder's ends in `/`.
    path: String,
    bytes: u64,
    files: u64,
}

/// What of a share is meant by what was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Everything.
    All,
    /// Nothing: the download is not to begin.
    Nothing,
    /// All files are to be shown.
    List,
    /// These files.
    Some(Files),
}

/// Name, size and number of files, who says so, where it goes and how much room there is.
pub(crate) fn summary(manifest: &Manifest, preview: &Preview) -> Vec<String> {
    let content = &manifest.content;
    let kind = match content.listing {
        Some(_) => format!("folder, {}", text::count(content.file_count(), "file")),
        None => "file".to_owned(),
    };
    let mut lines = vec![
        format!(
            "{}  {}, {kind}",
            content.name.as_str(),
            text::bytes(content.size)
        ),
        format!("id         {}", content.id),
        match &preview.signed {
            Some(PublishedShare {
                publisher,
                sequence,
            }) => format!("publisher  {publisher} (signed version {sequence})"),
            None => "publisher  not signed: trust it as far as whoever gave you this".to_owned(),
        },
    ];
    let trackers: Vec<String> = manifest
        .trackers
        .iter()
        .map(|it| format!("{}:{}", it.host, it.port))
        .collect();
    if !trackers.is_empty() {
        lines.push(format!("tracker    {}", trackers.join(", ")));
    }
    lines.push(format!("goes to    {}", preview.path));
    if let Some(taken) = preview.taken {
        lines.push(format!(
            "in its way {} of that name, or its unfinished .part",
            what(taken)
        ));
    }
    if let Some(free) = preview.free_bytes {
        let verdict = match free < content.size {
            true => ", too little for all of it",
            false => "",
        };
        lines.push(format!("free       {}{verdict}", text::bytes(free)));
    }
    lines
}

/// What is in the way, in words.
pub(crate) fn in_the_way(path: &str, taken: Taken) -> String {
    let what = what(taken);
    format!("{path}, or its unfinished .part, is there already: {what}")
}

fn what(taken: Taken) -> &'static str {
    match taken {
        Taken::Folder => "a folder",
        Taken::File => "a file",
        Taken::Free | Taken::Other => "something",
    }
}

/// The files of a folder, each with its number, or their folders where they are more than [`ROWS`].
pub(crate) fn rows(content: &Content) -> Vec<Row> {
    let files = all_files(content);
    if files.len() <= ROWS {
        return files;
    }
    let mut prefix = String::new();
    loop {
        let grouped = by_folder(&files, &prefix);
        match grouped.as_slice() {
            [only] if only.path.ends_with('/') => prefix.clone_from(&only.path),
            _ => return grouped,
        }
    }
}

/// Every file by itself.
pub(crate) fn all_files(content: &Content) -> Vec<Row> {
    let listing = content.listing.iter();
    let files = listing.flat_map(|listing| listing.files());
    let row = |(path, bytes): (&str, u64)| Row {
        path: path.to_owned(),
        bytes,
        files: 1,
    };
    files
        .map(|file| row((file.path.as_str(), file.size)))
        .collect()
}

/// What lies directly in the folder `prefix`, folders summed up.
fn by_folder(files: &[Row], prefix: &str) -> Vec<Row> {
    let mut rows: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for file in files {
        let Some(rest) = file.path.strip_prefix(prefix) else {
            continue;
        };
        let end = rest
            .find('/')
            .map_or(file.path.len(), |at| prefix.len() + at + 1);
        let row = rows.entry(&file.path[..end]).or_default();
        *row = (row.0 + file.bytes, row.1 + 1);
    }
    let row = |(path, (bytes, files)): (&str, (u64, u64))| Row {
        path: path.to_owned(),
        bytes,
        files,
    };
    rows.into_iter().map(row).collect()
}

/// The rows from `first` on, counted from 0, as many as are shown at once.
pub(crate) fn page(rows: &[Row], first: usize) -> Vec<String> {
    let width = rows.len().to_string().len();
    let shown = rows.iter().enumerate().skip(first).take(ROWS);
    let line = |(at, row): (usize, &Row)| {
        let files = match row.path.ends_with('/') {
            true => format!("  ({})", text::count(row.files, "file")),
            false => String::new(),
        };
        let (number, bytes) = (at + 1, text::bytes(row.bytes));
        printable(&format!(
            "{number:>width$}  {bytes:>10}  {}{files}",
            row.path
        ))
    };
    shown.map(line).collect()
}

/// What an answer means: nothing or `y` all, `n` nothing, `l` the list; else numbers of rows (`1,3-5`) and
/// globs, with blanks or commas between them.
///
/// # Errors
/// For a number that no row has.
pub(crate) fn choice(answer: &str, rows: &[Row]) -> Result<Choice, ApiError> {
    match answer.trim().to_ascii_lowercase().as_str() {
        "" | "y" | "yes" | "a" | "all" => return Ok(Choice::All),
        "n" | "no" | "q" | "quit" => return Ok(Choice::Nothing),
        "l" | "list" => return Ok(Choice::List),
        _ => (),
    }
    let mut only = Vec::new();
    let words = answer.split([',', ' ', '\t']).map(str::trim);
    for word in words.filter(|word| !word.is_empty()) {
        match range(word) {
            Some((first, last)) if first >= 1 && first <= last && last <= rows.len() => {
                only.extend(rows[first - 1..last].iter().map(|row| exactly(&row.path)));
            }
            Some(_) => return Err(no_such_row(word, rows.len())),
            None => only.push(word.trim_matches(['\'', '"']).to_owned()),
        }
    }
    let except = Vec::new();
    Ok(Choice::Some(Files { only, except }))
}

/// All files, said so that it counts also where a part was picked before.
pub(crate) fn everything() -> Files {
    Files {
        only: vec!["**".to_owned()],
        except: Vec::new(),
    }
}

/// `3`, or `3-5`.
fn range(word: &str) -> Option<(usize, usize)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some((first.parse().ok()?, last.parse().ok()?))
}

fn no_such_row(word: &str, rows: usize) -> ApiError {
    let message = format!("{word} is no number of the list");
    let hint = format!("It has the numbers 1 to {rows}. A file of that name: ./{word}");
    ApiError::new("no_match", exit::USAGE, message, hint)
}

#[cfg(test)]
mod tests {
    use warren_proto::content::{Entry, EntryKind, Listing, ShareName, SharePath, tree};

    use super::*;

    #[test]
    fn short_lists_show_every_file_and_numbers_ranges_and_globs_choose() {
        let content = folder(&["a/one", "b [1].txt", "c"]);
        let rows = rows(&content);
        let expected = [
            "1      1000 B  a/one",
            "2      1000 B  b [1].txt",
            "3      1000 B  c",
        ];
        assert_eq!(page(&rows, 0), expected);
        check(&content, &rows, "1,3", &["a/one", "c"]);
        check(&content, &rows, " 2-3 ", &["b [1].txt", "c"]);
        check(&content, &rows, "'*.txt' 1", &["a/one", "b [1].txt"]);
        assert_eq!(choice("", &rows), Ok(Choice::All));
        assert_eq!(choice("Y", &rows), Ok(Choice::All));
        assert_eq!(choice("n", &rows), Ok(Choice::Nothing));
        assert_eq!(choice("l", &rows), Ok(Choice::List));
        for wrong in ["0", "4", "2-1", "1-9", "1 7"] {
            assert_eq!(
                choice(wrong, &rows).unwrap_err().code,
                "no_match",
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_file_is_not_taken_for_one_of_the_same_name_in_another_folder() {
        let content = folder(&["a/one", "one"]);
        let rows = rows(&content);
        check(&content, &rows, "2", &["one"]);
        check(&content, &rows, "one", &["a/one", "one"]);
    }

    #[test]
    fn long_lists_are_shortened_by_folder_below_what_all_have_in_common() {
        let many: Vec<String> = (0..40).map(|it| format!("all/a/{it:02}")).collect();
        let mut paths: Vec<&str> = many.iter().map(String::as_str).collect();
        paths.push("all/z");
        let content = folder(&paths);
        let rows = rows(&content);
        let expected = ["1    39.0 KiB  all/a/  (40 files)", "2      1000 B  all/z"];
        assert_eq!(page(&rows, 0), expected);
        check(&content, &rows, "2", &["all/z"]);
        let files = all_files(&content);
        assert_eq!(
            (page(&files, 0).len(), page(&files, ROWS).len()),
            (ROWS, 11)
        );
        check(&content, &files, "1-2", &["all/a/00", "all/a/01"]);
    }

    #[test]
    fn the_summary_says_what_it_is_where_it_goes_and_that_nobody_has_signed_it() {
        let content = folder(&["a", "b"]);
        let manifest = Manifest::new(content, Vec::new(), None);
        let preview = Preview {
            manifest: None,
            present: false,
            path: "/downloads/things".into(),
            taken: None,
            free_bytes: Some(1024),
            signed: None,
        };
        let lines = summary(&manifest, &preview);
        assert_eq!(lines[0], "things  1.9 KiB, folder, 2 files");
        assert!(lines[2].contains("not signed"));
        assert_eq!(lines[3], "goes to    /downloads/things");
        assert_eq!(lines[4], "free       1.0 KiB, too little for all of it");
        let taken = Preview {
            taken: Some(Taken::Folder),
            ..preview.clone()
        };
        let line = "in its way a folder of that name, or its unfinished .part";
        assert_eq!(summary(&manifest, &taken)[4], line);
        let signed = Preview {
            signed: Some(PublishedShare {
                publisher: "abc".into(),
                sequence: 7,
            }),
            ..preview
        };
        let lines = summary(&manifest, &signed);
        assert_eq!(lines[2], "publisher  abc (signed version 7)");
    }

    #[test]
    fn everything_means_every_file_wherever_it_lies() {
        let content = folder(&["a/b/c", "a/.hidden", "top"]);
        let wish = warren_daemon::control::wish::Wish {
            files: everything(),
            ..Default::default()
        };
        assert!(wish.pick(&content, |_| false).unwrap().is_everything());
    }

    #[track_caller]
    fn check(content: &Content, rows: &[Row], answer: &str, expected: &[&str]) {
        let Ok(Choice::Some(files)) = choice(answer, rows) else {
            panic!("{answer} chooses nothing");
        };
        let wish = warren_daemon::control::wish::Wish {
            files,
            ..Default::default()
        };
        let picked = wish.pick(content, |_| false).unwrap();
        let chosen = all_files(content).into_iter().zip(&picked.chosen);
        let chosen: Vec<String> = chosen
            .filter(|(_, is)| **is)
            .map(|(row, _)| row.path)
            .collect();
        assert_eq!(chosen, expected);
    }

    /// A folder of files of 1000 bytes.
    fn folder(paths: &[&str]) -> Content {
        let bytes = vec![1; 1000];
        let root = tree::whole_hash(&bytes);
        let entry = |path: &&str| Entry {
            path: SharePath::parse(path).unwrap(),
            kind: EntryKind::File {
                size: 1000,
                executable: false,
                root,
            },
        };
        let listing = Listing::new(paths.iter().map(entry).collect()).unwrap();
        let cvs = std::iter::empty::<[u8; 32]>().collect();
        Content::tree(ShareName::parse("things").unwrap(), listing, cvs).unwrap()
    }
}
