//! `client inspect`: shows what a `.p2p` or a link says. It asks no daemon and no network.
//!
//! A secret is only mentioned, never shown.

use std::ffi::OsStr;

use serde_json::json;
use warren_daemon::control::{model::ApiError, source::Parsed};
use warren_proto::{
    content::{
        address::TrackerAddress,
        link::Link,
        listing::{Entry, EntryKind},
        manifest::Manifest,
        path::printable,
    },
    id::{ContentId, Kind},
};

use crate::{output::Output, source, text};

/// Shows a `.p2p` file or a link.
///
/// # Errors
/// As [`source::read`], and when stdout is closed.
pub(crate) fn run(argument: &OsStr, output: Output) -> Result<(), ApiError> {
    match source::read(argument)?.parsed {
        Parsed::Manifest(manifest) => show_manifest(&manifest, output),
        Parsed::Link(link) => show_link(&link, output),
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

fn show_manifest(manifest: &Manifest, output: Output) -> Result<(), ApiError> {
    let content = &manifest.content;
    if output.json() {
        output.object("manifest", &manifest_object(manifest))?;
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
        show("files", &content.file_count().to_string())?;
        show(
            "chunks",
            &format!("{count} of {}", text::bytes(chunk_bytes.into())),
        )?;
        show("content id", &content.id.to_string())?;
        show_reach(&manifest.trackers, manifest.secret.is_some(), output)?;
    }
    for entry in content.listing.iter().flat_map(|listing| listing.entries()) {
        show_entry(entry, output)?;
    }
    Ok(())
}

fn manifest_object(manifest: &Manifest) -> serde_json::Value {
    let content = &manifest.content;
    let trackers: Vec<String> = manifest
        .trackers
        .iter()
        .map(TrackerAddress::to_string)
        .collect();
    json!({
        "kind": kind_word(content.kind),
        "name": content.name.as_str(),
        "bytes": content.size,
        "files": content.file_count(),
        "chunks": content.layout.chunk_count(),
        "chunk_bytes": content.layout.chunk_bytes(),
        "content_id": content.id.to_string(),
        "trackers": trackers,
        "private": manifest.secret.is_some(),
    })
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

fn show_entry(entry: &Entry, output: Output) -> Result<(), ApiError> {
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
            let object = json!({
                "kind": "file",
                "path": path,
                "bytes": size,
                "executable": executable,
                "content_id": ContentId(*root).to_string(),
            });
            output.object("entry", &object)
        }
        EntryKind::File {
            size, executable, ..
        } => {
            let mark = if *executable { "*" } else { "" };
            output.result(&format!(
                "  {:>12}  {}{mark}",
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
