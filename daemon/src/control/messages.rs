//! Every message that has a code: errors of the daemon and the command line, and what `doctor` finds.
//!
//! [`ALL`] is the one table. An error is known to scripts by its word (`no_space`) and to people by its
//! code (`DISK-01`); [`code_of`] leads from one to the other. `client explain` shows a row, and
//! [`page`] all of them, as `cli/messages.md` holds them.
//!
//! Not here: the sentences that name the file, share or tracker in question, which are made where
//! something fails.

mod table;

use std::fmt::Write;

use strsim::osa_distance;

pub use table::ALL;

/// What an error gets whose word is not in the table, such as one of a newer daemon.
pub const UNLISTED: &str = "GEN-01";

/// Codes that are offered in the place of one that does not exist.
const NEAR_CODES: usize = 3;

/// Letters that are wrong, missing, too many or swapped with the next one, in a code or a word that may have been
/// meant.
const NEAR: usize = 2;

/// What is shorter is like too much.
const NEAR_LETTERS: usize = 4;

/// Areas in the order of the page: the letters before the dash, and what they stand for.
const AREAS: [(&str, &str); 15] = [
    ("USE", "How a command was typed"),
    ("DMN", "The daemon and the way to it"),
    ("DISK", "Files and disks"),
    ("P2P", "`.p2p` files and links"),
    ("SHR", "Shares"),
    ("REG", "Sharing files and folders"),
    ("CODE", "Codes that stand for a link"),
    ("VER", "Shares of which newer versions come"),
    ("TRK", "Trackers"),
    ("NET", "How others see this machine"),
    ("PORT", "The port of the router"),
    ("PEER", "Peers"),
    ("LIM", "Limits of speed"),
    ("HOST", "This machine"),
    ("GEN", "The rest"),
];

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is known by to people: `DISK-01`. Never changed and never used again.
    pub code: &'static str,
    /// `code` of the errors in JSON, such as `no_space`; empty for what `doctor` finds.
    pub word: &'static str,
    /// What it is, in a few words.
    pub name: &'static str,
    /// Where it comes from.
    pub cause: &'static str,
    /// What to do.
    pub next: &'static str,
}

/// The code for the word of an error.
pub fn code_of(word: &str) -> &'static str {
    let found = ALL.iter().find(|it| !it.word.is_empty() && it.word == word);
    found.map_or(UNLISTED, |message| message.code)
}

/// The message with this code, in any case, or with this word.
pub fn find(code: &str) -> Option<&'static Message> {
    let wanted = code.trim();
    let is_it = |it: &&Message| {
        it.code.eq_ignore_ascii_case(wanted) || !it.word.is_empty() && it.word == wanted
    };
    ALL.iter().find(is_it)
}

/// Codes that are like what was typed, the most alike first.
pub fn near(code: &str) -> Vec<&'static str> {
    let (upper, lower) = (code.to_ascii_uppercase(), code.to_ascii_lowercase());
    if code.chars().count() < NEAR_LETTERS {
        return Vec::new();
    }
    let distance = |it: &Message| {
        let from_code = osa_distance(it.code, &upper);
        from_code.min(osa_distance(it.word, &lower))
    };
    let codes = ALL.iter().map(|it| (distance(it), it.code));
    let mut codes: Vec<_> = codes.filter(|(distance, _)| *distance <= NEAR).collect();
    // Stable, so that codes that are equally alike stay in their order.
    codes.sort_by_key(|(distance, _)| *distance);
    let codes = codes.into_iter().map(|(_, code)| code);
    codes.take(NEAR_CODES).collect()
}

/// The page of all messages, in Markdown.
pub fn page() -> String {
    let mut page = String::from(
        "# Messages\n\n\
         What the codes mean that `client` shows in `error[CODE]`, that errors of the control API carry as\n\
         `message_code` (beside the word for scripts, `code`), and that `client doctor` finds. `client explain CODE`\n\
         shows one of them. A code never changes its meaning. `IDX` stands for the number of the daemon, `NAME` for a\n\
         share and `PATH` for a file or folder; the message itself names them. This page is generated from\n\
         `daemon/src/control/messages/table.rs`; a test compares the two.\n",
    );
    for (area, title) in AREAS {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n## {title}\n\n| code | word | what it is | cause | next step |\n|---|---|---|---|---|\n"
        );
        for it in ALL.iter().filter(|it| area_of(it.code) == area) {
            let word = match it.word {
                "" => String::new(),
                word => format!("`{word}`"),
            };
            let (code, name, cause, next) = (it.code, it.name, it.cause, it.next);
            let _ = writeln!(page, "| {code} | {word} | {name} | {cause} | {next} |");
        }
    }
    page
}

fn area_of(code: &str) -> &str {
    code.split('-').next().unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn the_page_is_what_the_table_generates() {
        let path = root().join("cli/messages.md");
        let page = page();
        if fs::read_to_string(&path).ok().as_deref() != Some(&page) {
            let made = std::env::temp_dir().join("warren-messages.md");
            fs::write(&made, &page).unwrap();
            panic!("copy {} to cli/messages.md", made.display());
        }
    }

    #[test]
    fn every_code_and_word_is_there_once_and_says_everything() {
        let (mut codes, mut words) = (BTreeSet::new(), BTreeSet::new());
        for it in ALL {
            assert!(codes.insert(it.code), "{} twice", it.code);
            assert!(
                it.word.is_empty() || words.insert(it.word),
                "{} twice",
                it.word
            );
            let (area, number) = it.code.split_once('-').unwrap();
            assert!(AREAS.iter().any(|(known, _)| *known == area), "{}", it.code);
            assert!(
                number.len() == 2 && number.parse::<u8>().is_ok(),
                "{}",
                it.code
            );
            assert!(
                !it.name.is_empty() && !it.name.ends_with('.'),
                "{}",
                it.code
            );
            for text in [it.cause, it.next] {
                assert!(
                    text.ends_with('.') && !text.contains('|'),
                    "{}: {text}",
                    it.code
                );
            }
        }
    }

    /// An error without a row would be shown as [`UNLISTED`].
    #[test]
    fn every_word_in_the_source_has_a_row_and_every_row_its_word() {
        let mut used = BTreeSet::new();
        for folder in ["daemon/src", "cli/src"] {
            for file in sources(&root().join(folder)) {
                let is_about_tests = |name: &str| name.contains("tests") || name == "table.rs";
                if is_about_tests(file.file_name().unwrap().to_str().unwrap()) {
                    continue;
                }
                let text = fs::read_to_string(&file).unwrap();
                // What tests make up is theirs.
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                used.extend(words_of(text));
            }
        }
        let listed: BTreeSet<_> = ALL.iter().map(|it| it.word.to_owned()).collect();
        let unlisted: Vec<_> = used.difference(&listed).collect();
        assert!(unlisted.is_empty(), "no row has {unlisted:?}");
        let listed = listed.into_iter().filter(|it| !it.is_empty());
        let vain: Vec<_> = listed
            .filter(|it| !used.contains(it) && it != "unlisted")
            .collect();
        assert!(vain.is_empty(), "no error has {vain:?}");
    }

    /// The words of errors: what is given to their constructors, and what stands before an exit code in a
    /// table of errors.
    fn words_of(text: &str) -> BTreeSet<String> {
        let mut words = BTreeSet::new();
        let parts: Vec<&str> = text.split('"').collect();
        for at in (1..parts.len()).step_by(2) {
            let (before, word) = (parts[at - 1].trim_end(), parts[at]);
            let after = parts.get(at + 1).map_or("", |it| it.trim_start());
            let is_given =
                before.ends_with("ApiError::new(") || before.ends_with("ApiError::caused(");
            let is_first = before.ends_with(['(', '{']) && after.starts_with(',');
            let is_sorted = is_first
                && after
                    .trim_start_matches([',', ' ', '\n'])
                    .starts_with("exit::");
            let is_constant = before.ends_with("const NO_SPACE: &str =");
            let is_word = word
                .chars()
                .all(|it| it.is_ascii_lowercase() || it == '_' || it.is_ascii_digit());
            if is_word && !word.is_empty() && (is_given || is_sorted || is_constant) {
                words.insert(word.to_owned());
            }
        }
        words
    }

    #[test]
    fn codes_are_found_by_themselves_and_by_words_and_near_ones_are_offered() {
        assert_eq!(find("disk-01").unwrap().word, "no_space");
        assert_eq!(find(" no_space ").unwrap().code, "DISK-01");
        assert_eq!(find(""), None);
        assert_eq!(find("DISK-99"), None);
        assert_eq!(near("DSIK-01")[0], "DISK-01");
        assert_eq!(near("disk1")[0], "DISK-01");
        assert_eq!(near("nospace"), ["DISK-01"]);
        for far in ["NOPE", "xyzzy", "DISK", "x", ""] {
            assert_eq!(near(far), [""; 0], "{far}");
        }
        assert_eq!(code_of("no_space"), "DISK-01");
        assert_eq!(code_of("made_up"), UNLISTED);
        assert_eq!(code_of(""), UNLISTED);
    }

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
        let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        let below = folders.iter().flat_map(|folder| sources(folder));
        let files = files
            .into_iter()
            .filter(|it| it.extension().is_some_and(|it| it == "rs"));
        files.chain(below).collect()
    }
}
