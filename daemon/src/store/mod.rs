//! What a daemon keeps on disk: the files of shares, and what is known about them.
//!
//! [`files`] maps chunks to files, [`journal`] remembers which of them survived, [`db`] lists the
//! shares, [`settings`] keeps limits, `paused` what is paused, [`following`] what is followed, [`terms`] for how long shares are given, [`taken`] says what becomes
//! of what is in the place of a download, [`register`] makes a share out of what lies on the disk. All of it blocks: call it from
//! threads that may.
//!
//! Not here: which chunks to fetch (`warren_proto::transfer`), when to write and sync (`engine`).

pub mod atomic;
pub mod changes;
mod cores;
pub mod db;
pub mod disk;
mod division;
pub(crate) mod edited;
pub mod error;
pub(crate) mod exchange;
mod explain;
pub mod files;
pub mod following;
mod hashing;
pub mod journal;
pub mod known;
pub mod manifest_file;
mod open_files;
mod packed;
mod partial;
mod paused;
mod record;
pub mod register;
pub mod rereading;
pub mod reuse;
pub mod segments;
pub mod settings;
pub mod sync;
pub mod taken;
pub mod terms;
mod walk;

#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
pub(crate) mod samples;
