//! Opening further sockets while few files may be open. Alone, because the limit is the process's.

use std::fs::File;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use warren_net::Socket;

#[tokio::test]
async fn further_sockets_leave_files_to_everyone_else() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(256);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
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
