//! What tests need whose scripts build networks in namespaces of their own: the programs, and a word
//! where the machine allows no such thing.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// Exit code of the scripts where the kernel forbids what they need.
const NOT_POSSIBLE: i32 = 77;

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Whether such networks are not possible here. Said past the test harness, which shows nothing of a test
/// that passes.
#[track_caller]
pub(crate) fn skipped(output: &Output) -> bool {
    if output.status.code() != Some(NOT_POSSIBLE) {
        return false;
    }
    let why = String::from_utf8_lossy(&output.stderr);
    assert_ne!(
        std::env::var("NATLAB").as_deref(),
        Ok("required"),
        "networks in namespaces are not possible here: {why}"
    );
    // A terminal that is gone has no reader.
    let _ = writeln!(io::stderr(), "SKIPPED, nothing was tested: {why}");
    true
}

/// The folder with `client` and `tracker`. Tests of the whole workspace have built both; those of
/// this package alone have not.
pub(crate) fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let client = Path::new(env!("CARGO_BIN_EXE_client"));
        let folder = client.parent().unwrap();
        if !folder.join("tracker").exists() {
            build_tracker(folder);
        }
        folder.to_owned()
    })
}

fn build_tracker(folder: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "-p",
        "warren-tracker",
        "--bin",
        "tracker",
    ]);
    cargo.arg("--target-dir").arg(folder.parent().unwrap());
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(status.unwrap().success(), "the tracker does not build");
}
