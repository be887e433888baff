//! Names and paths in a share, as every receiver can trust them.
//!
//! What is refused here is refused on every system, because it escapes the share's folder, deceives
//! the eye or cannot be stored. What only some file systems refuse is a warning when sharing
//! ([`portability_warnings`]) and an error only on those.
//!
//! Not here: opening files beneath a folder without following links (`warren-daemon`).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fmt::Write as _;

use unicode_normalization::UnicodeNormalization;

use crate::limits;

/// Why a text is no path or name in a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing at all.
    #[error("the path is empty")]
    Empty,
    /// Begins at a root.
    #[error("the path is absolute")]
    Absolute,
    /// Two separators in a row, or one at the end.
    #[error("the path has an empty component")]
    EmptyComponent,
    /// A `.` or `..`.
    #[error("the path has a component . or ..")]
    DotComponent,
    /// A separator where only one component may be.
    #[error("the name contains a path separator")]
    Separator,
    /// A control, bidirectional control or backslash.
    #[error("the path contains the forbidden character {}", .0.escape_unicode())]
    Character(char),
    /// A component is longer than [`limits::COMPONENT_BYTES`].
    #[error(
        "a component of the path is longer than {} bytes",
        limits::COMPONENT_BYTES
    )]
    LongComponent,
    /// Longer than [`limits::PATH_BYTES`].
    #[error("the path is longer than {} bytes", limits::PATH_BYTES)]
    Long,
    /// More components than [`limits::PATH_DEPTH`].
    #[error("the path has more than {} components", limits::PATH_DEPTH)]
    Deep,
}

/// A relative path with `/` between its components, safe to join to a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharePath(String);

/// The name of a share: one component under the rules of [`SharePath`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareName(String);

impl SharePath {
    /// Accepts a path off a wire or disk.
    ///
    /// # Errors
    ///
    /// When it breaks a rule of `manifest-format.md`, Paths.
    pub fn parse(text: &str) -> Result<SharePath, PathError> {
        match text {
            "" => return Err(PathError::Empty),
            _ if text.len() > limits::PATH_BYTES => return Err(PathError::Long),
            _ if text.starts_with('/') => return Err(PathError::Absolute),
            _ => (),
        }
        for (depth, component) in text.split('/').enumerate() {
            if depth == limits::PATH_DEPTH {
                return Err(PathError::Deep);
            }
            check_component(component)?;
        }
        Ok(SharePath(text.to_owned()))
    }

    /// The components in order, at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The path with `/` as separator.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders above, the outermost first: `a` and `a/b` for `a/b/c`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

impl ShareName {
    /// Accepts a name off a wire or disk.
    ///
    /// # Errors
    ///
    /// When it is not exactly one component of a valid path.
    pub fn parse(text: &str) -> Result<ShareName, PathError> {
        match text {
            "" => return Err(PathError::Empty),
            _ if text.contains('/') => return Err(PathError::Separator),
            _ => check_component(text)?,
        }
        Ok(ShareName(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_component(component: &str) -> Result<(), PathError> {
    match component {
        "" => return Err(PathError::EmptyComponent),
        "." | ".." => return Err(PathError::DotComponent),
        _ if component.len() > limits::COMPONENT_BYTES => return Err(PathError::LongComponent),
        _ => (),
    }
    // A backslash separates components on other systems, so there `a\..\b` would escape.
    let forbidden = component.chars().find(|c| *c == '\\' || is_deceptive(*c));
    forbidden.map_or(Ok(()), |c| Err(PathError::Character(c)))
}

/// C0, DEL and C1 controls, which drive terminals, and bidirectional controls, which reorder what
/// a reader sees (UAX #9).
fn is_deceptive(c: char) -> bool {
    let bidirectional = matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}');
    c.is_control() || bidirectional
}

impl fmt::Display for SharePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SharePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for ShareName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ShareName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Text from anywhere with controls, bidirectional controls and line separators escaped, so that
/// printing it changes neither the terminal nor the order of what is read.
pub fn printable(text: &str) -> String {
    // Most is plain, and there may be thousands of lines.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if is_deceptive(c) => push_escaped(&mut shown, c),
            '\u{2028}' | '\u{2029}' => push_escaped(&mut shown, c),
            _ => shown.push(c),
        }
    }
    shown
}

fn push_escaped(shown: &mut String, c: char) {
    // Writing into a string does not fail.
    let _ = write!(shown, "{}", c.escape_unicode());
}

/// Names Windows reserves for devices, with any extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// What would keep these paths from being stored on other systems, a sentence each: device names,
/// characters and endings Windows refuses, and paths that are one where case or Unicode
/// normalisation is ignored.
pub fn portability_warnings<'a>(paths: impl IntoIterator<Item = &'a SharePath>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut folded: HashMap<String, &str> = HashMap::new();
    for path in paths {
        for path in path.parents().chain([path.as_str()]) {
            if !seen.insert(path) {
                continue;
            }
            let name = path.rsplit('/').next().unwrap_or(path);
            if let Some(problem) = windows_problem(name) {
                warnings.push(format!("{path}: {problem}"));
            }
            let folded = folded.entry(fold(path)).or_insert(path);
            if *folded != path {
                warnings.push(format!(
                    "{path}: differs from {folded} only in case or accents"
                ));
            }
        }
    }
    warnings
}

fn windows_problem(name: &str) -> Option<&'static str> {
    let stem = name
        .split('.')
        .next()
        .unwrap_or(name)
        .trim_end()
        .to_lowercase();
    let port = stem.strip_prefix("com").or(stem.strip_prefix("lpt"));
    let is_port =
        port.is_some_and(|n| matches!(n, "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9"));
    if is_port || DEVICES.contains(&stem.as_str()) {
        return Some("is a device name on Windows");
    }
    if name.ends_with(['.', ' ']) {
        return Some("ends in a dot or space, which Windows drops");
    }
    let refused = name.contains(['<', '>', ':', '"', '|', '?', '*']);
    refused.then_some("contains a character Windows refuses")
}

/// Equal for paths that a file system ignoring case or normalisation takes for one.
fn fold(path: &str) -> String {
    path.nfc().flat_map(char::to_lowercase).nfc().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_paths_are_refused() {
        use PathError::*;
        let cases = [
            ("", Empty),
            ("/etc/passwd", Absolute),
            ("..", DotComponent),
            ("a/../b", DotComponent),
            ("a/.", DotComponent),
            ("a//b", EmptyComponent),
            ("a/", EmptyComponent),
            ("a\0b", Character('\0')),
            ("a\nb", Character('\n')),
            ("a\u{1b}[2Jb", Character('\u{1b}')),
            ("a\u{7f}", Character('\u{7f}')),
            ("a\u{9b}", Character('\u{9b}')),
            ("..\\..\\a", Character('\\')),
            ("invoice\u{202e}fdp.exe", Character('\u{202e}')),
            ("a/\u{2066}b", Character('\u{2066}')),
        ];
        for (text, error) in cases {
            assert_eq!(SharePath::parse(text), Err(error), "{text:?}");
            assert!(ShareName::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(ShareName::parse("a/b"), Err(Separator));
    }

    #[test]
    fn lengths_are_accepted_up_to_the_limit() {
        let longest = "a".repeat(limits::COMPONENT_BYTES);
        assert!(SharePath::parse(&longest).is_ok() && ShareName::parse(&longest).is_ok());
        assert_eq!(
            SharePath::parse(&format!("{longest}a")),
            Err(PathError::LongComponent)
        );
        let path = vec![longest.as_str(); 16].join("/");
        assert_eq!(path.len(), limits::PATH_BYTES - 1);
        assert!(SharePath::parse(&path).is_ok());
        assert_eq!(SharePath::parse(&format!("{path}/a")), Err(PathError::Long));
        assert!(SharePath::parse(&vec!["a"; 64].join("/")).is_ok());
        assert_eq!(
            SharePath::parse(&vec!["a"; 65].join("/")),
            Err(PathError::Deep)
        );
    }

    #[test]
    fn what_other_systems_refuse_is_only_a_warning() {
        for text in ["con", "AUX.txt", "com1", "a/LPT9.b", "dot.", "a:b"] {
            assert_eq!(warnings(&[text]).len(), 1, "{text}");
        }
        assert_eq!(warnings(&["README", "readme"]).len(), 1);
        assert_eq!(
            warnings(&["Dir/a", "dir/b"]).len(),
            1,
            "the folders collide"
        );
        assert_eq!(
            warnings(&["\u{e9}", "e\u{301}"]).len(),
            1,
            "one after normalisation"
        );
        assert!(warnings(&["console", "com0", "a/b", "a/c", "b/a"]).is_empty());
    }

    #[test]
    fn printing_a_hostile_name_shows_its_escapes() {
        assert_eq!(
            printable("a\u{202e}b\u{1b}[2J\né"),
            "a\\u{202e}b\\u{1b}[2J\\u{a}é"
        );
    }

    proptest! {
        #[test]
        fn an_accepted_path_stays_in_its_folder(text in "[ab./\\\\\u{202e}\n]{0,12}") {
            if let Ok(path) = SharePath::parse(&text) {
                prop_assert_eq!(path.as_str(), text.as_str());
                prop_assert!(path.components().all(|c| !matches!(c, "" | "." | "..")));
                prop_assert_eq!(printable(&text), text);
            }
        }
    }

    fn warnings(paths: &[&str]) -> Vec<String> {
        let paths: Vec<_> = paths
            .iter()
            .map(|path| SharePath::parse(path).unwrap())
            .collect();
        portability_warnings(&paths)
    }
}
