//! How many files may be open, and further sockets where that is few. Alone, because the limit is the
//! process's.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use warren_net::{Socket, raise_open_files};

/// Held by the test that changes the limit.
static LIMIT: Mutex<()> = Mutex::new(());

#[test]
fn as_many_files_may_be_open_as_ever_may_be() {
    let (maximum, _alone) = (getrlimit(Resource::Nofile).maximum, few_files());
    raise_open_files();
    let raised = getrlimit(Resource::Nofile);
    assert_eq!((raised.current, raised.maximum), (maximum, maximum));
}

#[tokio::test]
async fn further_sockets_leave_files_to_everyone_else() {
    let _alone = few_files();
    let socket = Socket::bind("127.0.0.1:0".parse().unwrap(), 1472).unwrap();
    let mut vias = Vec::new();
    let refused = loop {
        match socket.open_extra() {
            Ok(via) => vias.push(via),
            Err(error) => break error,
        }
    };
    assert!(vias.len() > 50, "{}", vias.len());
    let files: io::Result<Vec<File>> = (0..120).map(|_| File::open("/dev/null")).collect();
    assert!(files.is_ok(), "{files:?} after {refused}");

    assert!(socket.open_extra().is_err());
    drop(files);
    vias.into_iter().for_each(|via| socket.close_extra(via));
    assert!(socket.open_extra().is_ok());
}

/// Lets 256 files be open.
fn few_files() -> MutexGuard<'static, ()> {
    let alone = LIMIT.lock().unwrap_or_else(PoisonError::into_inner);
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(256);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    alone
}
