//! Reads what the person named as the source of a download: a `.p2p` file, a link, a code or a content id.
//!
//! Not here: what the bytes mean (`warren_daemon::control::source`).

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    path::Path,
};

use warren_daemon::control::{
    model::{ApiError, Source, exit},
    source::Parsed,
    wish::SEE_ALL,
};
use warren_proto::{
    code::Code,
    content::{address::TrackerAddress, link::Link},
    id::ContentId,
    limits,
};

use crate::{home::quoted, text};

/// One byte more than a `.p2p` may have.
const CAP: u64 = limits::MANIFEST_BYTES as u64 + 1;

/// Digits of a content id.
const ID_DIGITS: usize = 64;

/// A source that is well-formed, as it goes to the daemon and as it was understood.
pub(crate) struct Named {
    /// What the daemon gets.
    pub(crate) source: Source,
    /// What it says.
    pub(crate) parsed: Parsed,
    /// Whether the daemon is started for it.
    pub(crate) starts: bool,
}

impl Named {
    /// The content id, if it names one.
    pub(crate) fn id(&self) -> Option<ContentId> {
        match &self.parsed {
            Parsed::Manifest(manifest) => Some(manifest.content.id),
            Parsed::Link(link) => Some(link.id),
            Parsed::Id { id, .. } => Some(*id),
            Parsed::Follow(_) => None,
        }
    }

    /// The tracker to ask first.
    pub(crate) fn tracker(&self) -> Option<&TrackerAddress> {
        match &self.parsed {
            Parsed::Manifest(manifest) => manifest.trackers.first(),
            Parsed::Link(link) => Some(&link.tracker),
            Parsed::Follow(link) => Some(&link.tracker),
            Parsed::Id { .. } => None,
        }
    }

    /// What to call it before a name is known.
    pub(crate) fn name(&self) -> String {
        match &self.parsed {
            Parsed::Manifest(manifest) => manifest.content.name.as_str().to_owned(),
            Parsed::Link(Link { id, .. }) | Parsed::Id { id, .. } => text::short_id(id),
            Parsed::Follow(_) => "the newest version".to_owned(),
        }
    }
}

/// What a person has named.
pub(crate) enum Typed {
    /// What says by itself what is meant.
    Source(Box<Named>),
    /// A code, which a daemon has to open.
    Code(Code),
}

/// Reads a `.p2p` file, a link, a code or a content id with whatever blanks were copied along, or `-`, which is
/// one of these on stdin. `folder` says what a content id is of.
///
/// # Errors
/// Exit code 2 for a folder or for a word that no code has, 6 for a damaged link or `.p2p`, 7 for a file that
/// cannot be read, 9 for one that does not exist.
pub(crate) fn typed(argument: &OsStr, folder: bool) -> Result<Typed, ApiError> {
    if argument == "-" {
        return read_stdin(folder);
    }
    let path = Path::new(argument);
    // A file of that name is meant, whatever else it looks like; links have names that no file has.
    let text = argument.to_str();
    let text = text.filter(|text| is_link(text.trim()) || !path.exists());
    if let Some(typed) = text.and_then(|text| read_text(text, folder)) {
        return typed;
    }
    of_manifest(read_file(path)?, &path.display().to_string())
}

/// The same of what says something by itself.
///
/// # Errors
/// As [`typed`], and exit code 2 for a code.
pub(crate) fn read(argument: &OsStr, folder: bool) -> Result<Named, ApiError> {
    match typed(argument, folder)? {
        Typed::Source(named) => Ok(*named),
        Typed::Code(code) => Err(ApiError::new(
            "code_unopened",
            exit::USAGE,
            format!("code {} says nothing by itself", code.nameplate),
            format!("A daemon opens it: client download {code} IDX"),
        )),
    }
}

fn of_manifest(bytes: Vec<u8>, place: &str) -> Result<Typed, ApiError> {
    let named = named(Source::Manifest { bytes }).map_err(|error| ApiError {
        message: format!("{place}: {}", error.message),
        ..error
    })?;
    Ok(Typed::Source(Box::new(named)))
}

/// A link, a content id or a code; `None` when it is none of them.
fn read_text(text: &str, folder: bool) -> Option<Result<Typed, ApiError>> {
    let text = text.trim().to_owned();
    let is_id = text.len() == ID_DIGITS && text.bytes().all(|it| it.is_ascii_hexdigit());
    let source = |source| named(source).map(|named| Typed::Source(Box::new(named)));
    if is_link(&text) {
        return Some(source(Source::Link { text }));
    }
    match Code::is_like(&text) {
        true => {
            let code = text.parse().map(Typed::Code);
            Some(code.map_err(|error| ApiError::from(&error)))
        }
        false => is_id.then(|| source(Source::Id { id: text, folder })),
    }
}

/// An error whose hint names this `.p2p`, where it was for any.
pub(crate) fn with_file(error: ApiError, argument: &OsStr) -> ApiError {
    let path = Path::new(argument);
    let hint = match path.is_file() {
        true => error.hint.replace("FILE.p2p", &quoted(path)),
        // It came by standard input, and can be given so once more.
        false => error
            .hint
            .replace(SEE_ALL, "See all with client inspect, in the same way"),
    };
    ApiError { hint, ..error }
}

fn read_stdin(folder: bool) -> Result<Typed, ApiError> {
    let name = Path::new("standard input");
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(CAP).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(name, &error))?;
    if let Ok(text) = str::from_utf8(&bytes)
        && let Some(typed) = read_text(text, folder)
    {
        return typed;
    }
    if bytes.len() as u64 >= CAP {
        return Err(too_large(name));
    }
    of_manifest(bytes, "standard input")
}

fn named(source: Source) -> Result<Named, ApiError> {
    let parsed = source.parse()?;
    let starts = matches!(source, Source::Link { .. });
    Ok(Named {
        source,
        parsed,
        starts,
    })
}

/// A link.
///
/// # Errors
/// Exit code 6 for one that is damaged.
pub(crate) fn link(text: &str) -> Result<Named, ApiError> {
    let text = text.to_owned();
    named(Source::Link { text })
}

fn is_link(text: &str) -> bool {
    text.get(..4)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("p2p:"))
}

/// Whether a file is a `.p2p`, as far as its name and its first bytes tell.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let is_named = path.extension().is_some_and(|it| it == "p2p");
    is_named
        && path.is_file()
        && read_file(path).is_ok_and(|bytes| named(Source::Manifest { bytes }).is_ok())
}

/// The bytes of a `.p2p`, never more than one may have.
fn read_file(path: &Path) -> Result<Vec<u8>, ApiError> {
    // Asked before opening, because opening a fifo would wait for its writer.
    let metadata = path.metadata().map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(ApiError::new(
            "not_a_manifest",
            exit::USAGE,
            format!("{} is not a file", path.display()),
            format!(
                "Name a .p2p file or a link. To share it: client register {} IDX",
                quoted(path)
            ),
        ));
    }
    let mut bytes = Vec::new();
    if metadata.len() < CAP {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        file.take(CAP)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(path, &error))?;
    }
    // The file may have grown since its size was asked.
    if metadata.len() >= CAP || bytes.len() as u64 >= CAP {
        return Err(too_large(path));
    }
    Ok(bytes)
}

fn too_large(path: &Path) -> ApiError {
    ApiError::new(
        "manifest_too_large",
        exit::VERIFICATION_FAILED,
        format!("{} is larger than any .p2p file", path.display()),
        format!(
            "Name the .p2p file, not the content. To share the content: client register {} IDX",
            quoted(path)
        ),
    )
}

fn unreadable(path: &Path, error: &io::Error) -> ApiError {
    if error.kind() == io::ErrorKind::NotFound {
        return ApiError::new(
            "not_found",
            exit::NOT_FOUND,
            format!("there is no file {}", path.display()),
            "Check the path. A link begins with p2p:, and a code is like 7-film-alibi.",
        );
    }
    ApiError::new(
        "unreadable",
        exit::DISK,
        format!("cannot read {}: {error}", path.display()),
        "Check its permissions: ls -l shows them.",
    )
}

#[cfg(test)]
mod tests {
    use warren_proto::id::Kind;

    use super::*;

    #[test]
    fn a_folder_a_missing_file_and_a_file_too_large_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        check(folder.path(), "not_a_manifest", exit::USAGE);
        check(
            &folder.path().join("missing.p2p"),
            "not_found",
            exit::NOT_FOUND,
        );
        let large = folder.path().join("large.p2p");
        File::create(&large)
            .unwrap()
            .set_len(limits::MANIFEST_BYTES as u64 + 1)
            .unwrap();
        check(&large, "manifest_too_large", exit::VERIFICATION_FAILED);
    }

    #[test]
    fn damaged_files_name_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.p2p");
        std::fs::write(&path, b"not a manifest").unwrap();
        let error = read(path.as_os_str(), false).err().unwrap();
        assert_eq!((error.code.as_str(), error.exit), ("not_a_manifest", 6));
        assert!(
            error.message.starts_with(path.to_str().unwrap()),
            "{}",
            error.message
        );
    }

    #[test]
    fn links_are_known_by_their_scheme_in_any_case_and_within_blanks() {
        for text in ["p2p:abc", " P2P:abc\n"] {
            let error = read(OsStr::new(text), false).err().unwrap();
            assert_eq!(
                (error.code.as_str(), error.exit),
                ("malformed_link", exit::VERIFICATION_FAILED)
            );
        }
    }

    #[test]
    fn a_content_id_is_one_unless_a_file_has_that_name() {
        let id = "ab".repeat(32);
        let named = read(OsStr::new(&format!(" {id}\n")), true).unwrap();
        assert!(matches!(
            named.parsed,
            Parsed::Id {
                kind: Kind::Tree,
                ..
            }
        ));
        assert_eq!(named.id().map(|it| it.to_string()).as_deref(), Some(&*id));
        let error = read(OsStr::new(&id[1..]), false).err().unwrap();
        assert_eq!(error.code, "not_found");
    }

    #[test]
    fn codes_are_known_by_their_form_unless_a_file_has_that_name() {
        for text in ["7 Film ali", " 7-film-alibi\n"] {
            match typed(OsStr::new(text), false) {
                Ok(Typed::Code(code)) => assert_eq!(code.to_string(), "7-film-alibi"),
                _ => panic!("{text}"),
            }
        }
        let error = read(OsStr::new("film.p2p"), false).err().unwrap();
        assert_eq!(error.code, "not_found");
        let error = read(OsStr::new("7-flim-alibi"), false).err().unwrap();
        assert_eq!(
            (error.code.as_str(), error.exit),
            ("malformed_code", exit::USAGE)
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("7-film-alibi");
        std::fs::write(&path, b"x").unwrap();
        let error = read(path.as_os_str(), false).err().unwrap();
        assert_eq!(error.code, "not_a_manifest");
        let error = read(OsStr::new("7-film-alibi"), false).err().unwrap();
        assert_eq!(
            (error.code.as_str(), error.exit),
            ("code_unopened", exit::USAGE)
        );
    }

    #[track_caller]
    fn check(path: &Path, code: &str, exit: u8) {
        let error = read(path.as_os_str(), false).err().unwrap();
        assert_eq!((error.code.as_str(), error.exit), (code, exit));
    }
}
