//! `client inspect`: shows what a `.p2p` or a link says. It asks no daemon and no network.
//!
//! A secret is only mentioned, never shown.

use std::ffi::OsStr;

use serde_json::json;
use warren_daemon::control::{
    model::{ApiError, exit},
    source::Parsed,
    wish::{Picked, Wish},
};
use warren_proto::{
    content::{
        address::TrackerAddress,
        link::Link,
        listing::{Entry, EntryKind},
        manifest::Manifest,
        path::printable,
    },
    follow::FollowLink,
    id::{ContentId, Kind},
};

use crate::{output::Output, source, text};

/// Shows a `.p2p` file or a link, and marks the files that `wish` means, if it says anything.
///
/// # Errors
/// As [`source::read`] and [`Wish::pick`], and when stdout is closed.
pub(crate) fn run(argument: &OsStr, wish: &Wish, output: Output) -> Result<(), ApiError> {
    // No daemon is asked, so that it is not known which number is meant; 1 need not be typed.
    let unnumbered = |error: ApiError| ApiError {
        hint: error.hint.replace(" IDX", ""),
        ..error
    };
    match source::read(argument, false).map_err(unnumbered)?.parsed {
        Parsed::Manifest(manifest) if wish.is_default() => show_manifest(&manifest, None, output),
        Parsed::Manifest(manifest) => {
            let picked = wish.pick(&manifest.content, |_| false);
            let picked = picked.map_err(|error| source::with_file(error, argument))?;
            show_manifest(&manifest, Some(&picked), output)
        }
        Parsed::Link(link) if wish.is_default() => show_link(&link, output),
        Parsed::Follow(link) if wish.is_default() => show_follow_link(&link, output),
        Parsed::Link(_) | Parsed::Follow(_) | Parsed::Id { .. } => Err(ApiError::new(
            "no_listing",
            exit::USAGE,
            "a link or a content id does not say which files there are",
            "Name a .p2p, or download the link with the same patterns.",
        )),
    }
}

fn show_link(link: &Link, output: Output) -> Result<(), ApiError> {
    if output.json() {
        let object = json!({
            "kind": kind_word(link.kind),
            "content_id": link.id.to_string(),
            "trackers": [link.tracker.to_string()],
            "private": link.secret.is_some(),
        });
        return output.object("link", &object);
    }
    let show = |label: &str, value: &str| output.result(&field(label, value));
    show(
        "link to",
        if link.kind == Kind::Tree {
            "a folder"
        } else {
            "a file"
        },
    )?;
    show("content id", &link.id.to_string())?;
    show_reach(
        std::slice::from_ref(&link.tracker),
        link.secret.is_some(),
        output,
    )
}

fn show_follow_link(link: &FollowLink, output: Output) -> Result<(), ApiError> {
    let publisher = link.publisher.to_string();
    if output.json() {
        let object = json!({
            "publisher": publisher,
            "signed": true,
            "trackers": [link.tracker.to_string()],
        });
        return output.object("follow_link", &object);
    }
    let show = |label: &str, value: &str| output.result(&field(label, value));
    show("link to", "the versions of a share")?;
    show("publisher", &format!("{publisher} (signs each version)"))?;
    show_reach(std::slice::from_ref(&link.tracker), false, output)
}

fn show_manifest(
    manifest: &Manifest,
    picked: Option<&Picked>,
    output: Output,
) -> Result<(), ApiError> {
    let content = &manifest.content;
    if output.json() {
        output.object("manifest", &manifest_object(manifest, picked))?;
    } else {
        let (count, chunk_bytes) = (content.layout.chunk_count(), content.layout.chunk_bytes());
        let show = |label: &str, value: &str| output.result(&field(label, value));
        show(
            "kind",
            if content.kind == Kind::Tree {
                "folder"
            } else {
                "file"
            },
        )?;
        show("name", &printable(content.name.as_str()))?;
        show(
            "bytes",
            &format!("{} ({})", content.size, text::bytes(content.size)),
        )?;
        let files = match picked {
            Some(picked) => format!(
                "{} of {} ({}, marked +)",
                picked.files,
                content.file_count(),
                text::bytes(picked.selection.bytes())
            ),
            None => content.file_count().to_string(),
        };
        show("files", &files)?;
        show(
            "chunks",
            &format!("{count} of {}", text::bytes(chunk_bytes.into())),
        )?;
        show("content id", &content.id.to_string())?;
        show_reach(&manifest.trackers, manifest.secret.is_some(), output)?;
    }
    let mut marks = picked.map(|picked| picked.chosen.iter());
    for entry in content.listing.iter().flat_map(|listing| listing.entries()) {
        let mark = match (&mut marks, &entry.kind) {
            (Some(marks), EntryKind::File { .. }) => marks.next().copied(),
            _ => None,
        };
        show_entry(entry, mark, output)?;
    }
    Ok(())
}

fn manifest_object(manifest: &Manifest, picked: Option<&Picked>) -> serde_json::Value {
    let content = &manifest.content;
    let trackers: Vec<String> = manifest
        .trackers
        .iter()
        .map(TrackerAddress::to_string)
        .collect();
    let mut object = json!({
        "kind": kind_word(content.kind),
        "name": content.name.as_str(),
        "bytes": content.size,
        "files": content.file_count(),
        "chunks": content.layout.chunk_count(),
        "chunk_bytes": content.layout.chunk_bytes(),
        "content_id": content.id.to_string(),
        "trackers": trackers,
        "private": manifest.secret.is_some(),
    });
    if let Some(picked) = picked {
        object["picked_files"] = picked.files.into();
        object["picked_bytes"] = picked.selection.bytes().into();
    }
    object
}

fn show_reach(trackers: &[TrackerAddress], private: bool, output: Output) -> Result<(), ApiError> {
    for tracker in trackers {
        output.result(&field("tracker", &tracker.to_string()))?;
    }
    if private {
        output.result(&field("private", "yes; whoever has this can fetch it"))?;
    }
    Ok(())
}

/// `mark` says whether a download would fetch it, where that is asked.
fn show_entry(entry: &Entry, mark: Option<bool>, output: Output) -> Result<(), ApiError> {
    let path = entry.path.as_str();
    match &entry.kind {
        EntryKind::Dir if output.json() => {
            output.object("entry", &json!({ "kind": "dir", "path": path }))
        }
        EntryKind::Dir => output.result(&format!("  {:>12}  {}/", "empty", printable(path))),
        EntryKind::File {
            size,
            executable,
            root,
        } if output.json() => {
            let mut object = json!({
                "kind": "file",
                "path": path,
                "bytes": size,
                "executable": executable,
                "content_id": ContentId(*root).to_string(),
            });
            if let Some(mark) = mark {
                object["picked"] = mark.into();
            }
            output.object("entry", &object)
        }
        EntryKind::File {
            size, executable, ..
        } => {
            let star = if *executable { "*" } else { "" };
            let mark = if mark == Some(true) { "+" } else { " " };
            output.result(&format!(
                "{mark} {:>12}  {}{star}",
                text::bytes(*size),
                printable(path)
            ))
        }
    }
}

fn field(label: &str, value: &str) -> String {
    format!("{label:<12}{value}")
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Tree => "tree",
    }
}
