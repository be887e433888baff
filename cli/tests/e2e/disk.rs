//! A disk that is full: the download says so, and goes on once there is room.

use std::{fs, path::PathBuf, process::Command};

use warren_daemon::control::model::exit;

use crate::{
    content::{MIB, assert_same_file},
    harness::{Daemon, DaemonOptions, Swarm, succeeds},
};

/// Makes a small file system of its own for the command in its arguments, with a file in it that
/// takes up most of the room.
const SMALL_DISK: &str = "\
    mkdir -p \"$0\" && mount -t tmpfs -o size=24m tmpfs \"$0\" && \
    head -c 12582912 /dev/zero > \"$0/ballast\" && exec \"$@\"";

#[test]
fn a_full_disk_is_exit_7_and_the_same_command_completes_once_there_is_room() {
    if !succeeds(Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])) {
        eprintln!("SKIPPED: the kernel lets us mount nothing");
        return;
    }
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let theirs = on_small_disk(&swarm, 2);
    let file = swarm.file("film.mkv", 16 * MIB, 1);
    let registered = ours.register(&file);

    let error = theirs.download(&registered.manifest).failed(exit::DISK);
    assert!(error.message.contains("space"), "{error:?}");
    assert!(!error.hint.is_empty(), "{error:?}");
    theirs.client(&["status"]).expect(0);
    let disk = seen_from_here(&theirs);
    assert!(!disk.join("film.mkv").exists());

    fs::remove_file(disk.join("ballast")).unwrap();
    theirs.fetch(&registered.manifest);
    assert_same_file(&file, &disk.join("film.mkv"));
}

/// A daemon whose downloads go to a disk with 12 MiB of room.
fn on_small_disk(swarm: &Swarm, idx: u16) -> Daemon {
    let downloads = swarm.path("small");
    let wrapper = ["unshare", "-Urm", "sh", "-c", SMALL_DISK];
    let mut wrapper: Vec<_> = wrapper.into_iter().map(str::to_owned).collect();
    wrapper.push(downloads.to_str().unwrap().to_owned());
    let options = DaemonOptions {
        downloads: Some(downloads),
        wrapper,
        ..DaemonOptions::default()
    };
    let daemon = swarm.daemon_with(idx, options);
    daemon.until_connected();
    daemon
}

/// The folder of a daemon's downloads, which only its own processes see at its path.
fn seen_from_here(daemon: &Daemon) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", daemon.process().pid()));
    root.join(daemon.downloads().strip_prefix("/").unwrap())
}
