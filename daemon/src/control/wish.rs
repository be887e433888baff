//! Which files of a share a person wants: patterns as they are typed, and the files they mean.
//!
//! A pattern is a glob of the path inside the share. `*` and `?` stop at `/`, `**` does not. A pattern
//! without `/` means the name of a file in any folder; a plain path or name means a file, or a folder
//! with all below it; one that ends in `/` means folders alone. Every pattern must mean something.
//!
//! Not here: what is done with the files (`store`, `transfer::Selection`).

use std::collections::BTreeSet;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};
use warren_proto::content::Content;
use warren_proto::limits;
use warren_proto::transfer::{self, Priority, Selection};

use super::model::{ApiError, exit};
use super::words::count;

/// Patterns in one wish: more than anybody types, and few enough to try on a million files.
pub(crate) const PATTERNS: usize = 1024;
/// Names that are offered in the place of one that does not exist.
const NEAR_NAMES: usize = 5;
/// Entries that are looked through for those.
const NEAR_AMONG: usize = 20_000;
/// How alike a name must be (Jaro-Winkler, 0 to 1).
const NEAR: f64 = 0.6;
/// What makes a name a pattern.
const WILD: [char; 6] = ['*', '?', '[', ']', '{', '}'];

/// What of a share is wanted, and in which order. The default is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Wish {
    /// Which files are wanted.
    #[serde(flatten)]
    pub files: Files,
    /// Files that come before the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
    /// In which order chunks are fetched.
    #[serde(default, skip_serializing_if = "Order::is_default")]
    pub order: Order,
}

/// In which order chunks are fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The rarest first.
    #[default]
    Rarest,
    /// As they are read.
    Sequential,
}

impl Order {
    fn is_default(&self) -> bool {
        *self == Order::default()
    }
}

/// A change of a wish: what is not named stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    /// Which files are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// Which come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Vec<String>>,
    /// In which order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// Which files are wanted; all when both are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Files {
    /// Files that are wanted; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Of those, files that are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl Change {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Change::default()
    }
}

/// The files that a wish means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Whether each file is wanted, by its number.
    pub chosen: Vec<bool>,
    /// How many are.
    pub files: u32,
    /// The chunks.
    pub selection: Arc<Selection>,
}

impl Picked {
    /// Whether no file is left out.
    pub fn is_everything(&self) -> bool {
        self.selection.is_everything()
    }
}

impl Wish {
    /// Whether it is for all of a share, in no order.
    pub fn is_default(&self) -> bool {
        *self == Wish::default()
    }

    /// The wish after a change.
    pub fn changed(&self, change: &Change) -> Wish {
        let now = self.clone();
        Wish {
            files: change.files.clone().unwrap_or(now.files),
            first: change.first.clone().unwrap_or(now.first),
            order: change.order.unwrap_or(now.order),
        }
    }

    /// The change that makes any wish this one, but for what this one leaves open.
    pub fn as_change(&self) -> Change {
        Change {
            files: Some(self.files.clone()).filter(|files| *files != Files::default()),
            first: Some(self.first.clone()).filter(|first| !first.is_empty()),
            order: Some(self.order).filter(|order| !order.is_default()),
        }
    }

    /// The files of `content` that are wanted, and those for which `is_kept` says that they are there
    /// for good.
    ///
    /// # Errors
    ///
    /// Exit code 2 when a pattern is none, or means nothing in the share.
    pub fn pick(
        &self,
        content: &Content,
        is_kept: impl Fn(u32) -> bool,
    ) -> Result<Picked, ApiError> {
        let Files { only, except } = &self.files;
        let [only, except, first] = [only, except, &self.first].map(|texts| compile(texts));
        let (mut only, mut except, mut first) = (only?, except?, first?);
        let mut priorities = Vec::with_capacity(content.file_count() as usize);
        for file in 0..content.file_count() {
            let path = path_of(content, file);
            // All three are asked, so that each pattern is known to mean something.
            let is_in = any(&mut only, path) | only.is_empty();
            let (is_out, is_first) = (any(&mut except, path), any(&mut first, path));
            priorities.push(match (is_in && !is_out || is_kept(file), is_first) {
                (false, _) => Priority::Skip,
                (true, false) => Priority::Normal,
                (true, true) => Priority::First,
            });
        }
        let patterns = only.iter().chain(&except).chain(&first);
        if let Some(vain) = patterns.into_iter().find(|pattern| !pattern.has_matched) {
            return Err(no_match(content, &vain.text));
        }
        picked(content, &priorities, self.order)
    }
}

fn picked(content: &Content, priorities: &[Priority], order: Order) -> Result<Picked, ApiError> {
    let order = match order {
        Order::Rarest => transfer::Order::RarestFirst,
        Order::Sequential => transfer::Order::Sequential,
    };
    let chosen: Vec<bool> = priorities.iter().map(|it| *it != Priority::Skip).collect();
    let files = chosen.iter().filter(|is_chosen| **is_chosen).count() as u32;
    if files == 0 && !chosen.is_empty() {
        let message = format!("nothing of {} is left to be fetched", content.name.as_str());
        let hint = "Leave out less.";
        return Err(ApiError::new("no_match", exit::USAGE, message, hint));
    }
    let of = |file: u32| priorities.get(file as usize).copied().unwrap_or_default();
    let selection = Arc::new(Selection::new(content, order, of));
    Ok(Picked {
        chosen,
        files,
        selection,
    })
}

/// A pattern, and whether it has meant something.
struct Pattern {
    text: String,
    /// Without what the glob does not need.
    plain: String,
    is_anywhere: bool,
    is_folder: bool,
    glob: GlobMatcher,
    has_matched: bool,
}

fn compile(patterns: &[String]) -> Result<Vec<Pattern>, ApiError> {
    if patterns.len() > PATTERNS {
        let cause = format!("there are more than {PATTERNS}");
        return Err(bad_pattern("the patterns", &cause));
    }
    patterns.iter().map(|text| Pattern::parse(text)).collect()
}

fn any(patterns: &mut [Pattern], path: &str) -> bool {
    let mut any = false;
    for pattern in patterns {
        let matches = pattern.matches(path);
        pattern.has_matched |= matches;
        any |= matches;
    }
    any
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, ApiError> {
        let trimmed = text.strip_prefix("./").unwrap_or(text);
        let plain = trimmed.trim_matches('/');
        if plain.is_empty() || text.len() > limits::PATH_BYTES {
            return Err(bad_pattern(text, "it names nothing"));
        }
        let is_anywhere = !trimmed.trim_end_matches('/').contains('/');
        let glob = match is_anywhere {
            true => format!("**/{plain}"),
            false => plain.to_owned(),
        };
        let glob = GlobBuilder::new(&glob).literal_separator(true).build();
        let glob = glob.map_err(|error| bad_pattern(text, &error.kind().to_string()))?;
        Ok(Pattern {
            text: text.to_owned(),
            plain: plain.to_owned(),
            is_anywhere,
            is_folder: trimmed.ends_with('/'),
            glob: glob.compile_matcher(),
            has_matched: false,
        })
    }

    fn matches(&self, path: &str) -> bool {
        let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        // What is named exactly is meant, whatever its characters mean elsewhere.
        let is_it =
            |path: &str| path == self.plain || self.is_anywhere && name_of(path) == self.plain;
        match self.is_folder {
            true => folders.any(|folder| is_it(folder) || self.glob.is_match(folder)),
            false => is_it(path) || self.glob.is_match(path) || folders.any(is_it),
        }
    }
}

/// The pattern that means this file, or this folder where it ends in `/`, and nothing else.
pub fn exactly(path: &str) -> String {
    format!("/{}", globset::escape(path))
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The path of a file in its share; of a share that is one file, its name.
pub(crate) fn path_of(content: &Content, file: u32) -> &str {
    let path = content.file_path(file);
    path.map_or(content.name.as_str(), |path| path.as_str())
}

fn bad_pattern(text: &str, cause: &str) -> ApiError {
    let message = format!("{text} is no pattern: {cause}");
    let hint =
        "A pattern is a path inside the share, such as photos/2024 or '*.jpg' or 'a/**/b?.txt'.";
    ApiError::new("bad_pattern", exit::USAGE, message, hint)
}

/// Where all files of a share are shown, for who has named its `.p2p`.
pub const SEE_ALL: &str = "See all with: client inspect FILE.p2p";

fn no_match(content: &Content, pattern: &str) -> ApiError {
    let message = format!("nothing in {} matches {pattern}", content.name.as_str());
    let near = near_names(content, pattern).join(", ");
    let hint = match near.as_str() {
        "" => "It has no files.".to_owned(),
        near => format!(
            "Among its {}: {near}. {SEE_ALL}",
            count(content.file_count() as usize, "file")
        ),
    };
    ApiError::new("no_match", exit::USAGE, message, hint)
}

/// Names of files and folders that are like the pattern, the most alike first; the first ones of the
/// share when none is.
fn near_names(content: &Content, pattern: &str) -> Vec<String> {
    let wanted = pattern.trim_matches('/').replace(WILD, "").to_lowercase();
    let files = 0..content.file_count().min(NEAR_AMONG as u32);
    let mut names = BTreeSet::new();
    for path in files.map(|file| path_of(content, file)) {
        names.insert(path.to_owned());
        names.extend(
            path.match_indices('/')
                .map(|(at, _)| path[..=at].to_owned()),
        );
    }
    let alike = |name: &String| {
        let name = name.trim_end_matches('/').to_lowercase();
        let whole = strsim::jaro_winkler(&wanted, &name);
        whole.max(strsim::jaro_winkler(&wanted, name_of(&name)))
    };
    let mut scored: Vec<(f64, String)> = names.into_iter().map(|it| (alike(&it), it)).collect();
    // Stable, so that names that are equally alike stay in their order.
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    if scored.iter().any(|(score, _)| *score >= NEAR) {
        scored.retain(|(score, _)| *score >= NEAR);
    } else {
        scored.sort_by(|(_, a), (_, b)| a.cmp(b));
    }
    scored
        .into_iter()
        .take(NEAR_NAMES)
        .map(|(_, name)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use warren_proto::content::{Entry, EntryKind, HashList, Listing, ShareName, SharePath, tree};

    use super::*;

    const FILES: [&str; 8] = [
        "README.txt",
        "a/notes.txt",
        "a/one.jpg",
        "a/sub/two.jpg",
        "b/three.jpg",
        "b/x[1].jpg",
        "photos/2024/four.JPG",
        "photos/2025/five.jpg",
    ];

    #[test]
    fn patterns_mean_what_people_expect() {
        for (pattern, expected) in [
            ("*.txt", vec!["README.txt", "a/notes.txt"]),
            ("/*.txt", vec!["README.txt"]),
            ("a/*.jpg", vec!["a/one.jpg"]),
            ("a/**/*.jpg", vec!["a/one.jpg", "a/sub/two.jpg"]),
            ("a", vec!["a/notes.txt", "a/one.jpg", "a/sub/two.jpg"]),
            ("./a/sub/", vec!["a/sub/two.jpg"]),
            ("sub", vec!["a/sub/two.jpg"]),
            ("photos/2024", vec!["photos/2024/four.JPG"]),
            ("photos/202[5-9]/", vec!["photos/2025/five.jpg"]),
            ("two.jpg", vec!["a/sub/two.jpg"]),
            ("b/x[1].jpg", vec!["b/x[1].jpg"]),
            (
                "*.{JPG,txt}",
                vec!["README.txt", "a/notes.txt", "photos/2024/four.JPG"],
            ),
            ("?/?????.jpg", vec!["b/three.jpg"]),
        ] {
            assert_eq!(names(&wish(&[pattern], &[])), expected, "{pattern}");
        }
        let but = wish(&["a", "b"], &["*.txt", "a/sub"]);
        assert_eq!(names(&but), ["a/one.jpg", "b/three.jpg", "b/x[1].jpg"]);
        assert_eq!(names(&Wish::default()), FILES);
    }

    #[test]
    fn what_means_nothing_is_said_with_names_that_are_like_it() {
        for (only, except, near) in [
            (vec!["readme"], vec![], "README.txt"),
            (vec!["photo/2024"], vec![], "photos/2024/"),
            (vec!["a"], vec!["notes.md"], "a/notes.txt"),
        ] {
            let error = wish(&only, &except)
                .pick(&content(), |_| false)
                .unwrap_err();
            assert_eq!((error.code.as_str(), error.exit), ("no_match", exit::USAGE));
            let named: Vec<&str> = error.hint.split([',', ' ']).collect();
            assert!(
                named.contains(&near) || error.hint.contains(near),
                "{error:?}"
            );
        }
        let nothing = wish(&["a"], &["a"]).pick(&content(), |_| false);
        assert_eq!(nothing.unwrap_err().code, "no_match");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["", "/", "a[", "{a"] {
            let error = wish(&[pattern], &[]).pick(&content(), |_| false);
            assert_eq!(error.unwrap_err().code, "bad_pattern", "{pattern}");
        }
        let many: Vec<&str> = vec!["a"; PATTERNS + 1];
        let error = wish(&many, &[]).pick(&content(), |_| false);
        assert_eq!(error.unwrap_err().code, "bad_pattern");
    }

    #[test]
    fn what_is_kept_is_wanted_whatever_is_said() {
        let picked = wish(&["b"], &[])
            .pick(&content(), |file| file == 0)
            .unwrap();
        assert_eq!((picked.files, picked.chosen[0]), (3, true));
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let before = Wish {
            first: vec!["a".into()],
            ..wish(&["a", "b"], &["c"])
        };
        let stream = Change {
            order: Some(Order::Sequential),
            ..Change::default()
        };
        let order = Order::Sequential;
        let expected = Wish {
            order,
            ..before.clone()
        };
        assert_eq!(before.changed(&stream), expected);
        let all = Change {
            files: Some(Files::default()),
            ..Change::default()
        };
        let after = before.changed(&all);
        assert!(after.files == Files::default() && after.first == ["a"]);
        assert!(Wish::default().as_change().is_empty());
        assert_eq!(Wish::default().changed(&expected.as_change()), expected);
    }

    #[test]
    fn wishes_are_this_json() {
        let wish = Wish {
            order: Order::Sequential,
            ..wish(&["a"], &["b"])
        };
        let json = r#"{"only":["a"],"except":["b"],"order":"sequential"}"#;
        assert_eq!(serde_json::to_string(&wish).unwrap(), json);
        assert_eq!(serde_json::from_str::<Wish>(json).unwrap(), wish);
        assert_eq!(serde_json::to_string(&Wish::default()).unwrap(), "{}");
    }

    fn wish(only: &[&str], except: &[&str]) -> Wish {
        let owned = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect();
        let (only, except) = (owned(only), owned(except));
        Wish {
            files: Files { only, except },
            ..Wish::default()
        }
    }

    #[track_caller]
    fn names(wish: &Wish) -> Vec<&'static str> {
        let picked = wish.pick(&content(), |_| false).unwrap();
        let chosen = FILES.into_iter().zip(&picked.chosen);
        chosen
            .filter(|(_, chosen)| **chosen)
            .map(|(name, _)| name)
            .collect()
    }

    fn content() -> Content {
        let entries = FILES.map(|path| Entry {
            path: SharePath::parse(path).unwrap(),
            kind: EntryKind::File {
                size: path.len() as u64,
                executable: false,
                root: tree::whole_hash(path.as_bytes()),
            },
        });
        let listing = Listing::new(entries.to_vec()).unwrap();
        Content::tree(
            ShareName::parse("things").unwrap(),
            listing,
            HashList::new(),
        )
        .unwrap()
    }
}
