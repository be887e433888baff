use std::sync::Mutex;

use super::*;

#[tokio::test]
async fn a_file_is_taken_once_it_was_the_same_in_two_looks() {
    let place = Place::new();
    place.write("a.p2p", b"one");
    let watched = place.look(Watched::default()).await;
    assert_eq!(place.names(), ["a.p2p"]);
    // It is still being written.
    place.write("a.p2p", b"one and more");
    let watched = place.look(watched).await;
    assert_eq!(place.begun(), Vec::<String>::new());
    let watched = place.look(watched).await;
    assert_eq!(place.begun(), ["one and more"]);
    assert_eq!(place.names(), ["a.p2p.added"]);
    place.look(watched).await;
    assert_eq!(place.begun().len(), 1);
}

#[test]
fn what_has_become_something_else_is_not_read() {
    let place = Place::new();
    place.write("theirs", b"secret");
    let (link, pipe) = (
        place.folder.path().join("a.p2p"),
        place.folder.path().join("b.p2p"),
    );
    std::os::unix::fs::symlink(place.folder.path().join("theirs"), &link).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::from(0o600)).unwrap();
    read(&link).unwrap_err();
    read(&pipe).unwrap_err();
}

#[test]
fn names_that_are_not_for_us_take_no_room() {
    let place = Place::new();
    for number in 0..=NAMES {
        File::create(place.folder.path().join(format!("{number}.p2p.added"))).unwrap();
    }
    place.write("new.p2p", b"new");
    assert_eq!(names(place.folder.path()).unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_refused_says_why_beside_it() {
    let place = Place::new();
    place.write("bad.p2p", b"refused");
    place.write("late.p2p", b"fails later");
    place.look_twice().await;
    assert_eq!(
        place.names(),
        [
            "bad.p2p.failed",
            "bad.p2p.failed.txt",
            "late.p2p.failed",
            "late.p2p.failed.txt"
        ]
    );
    assert_eq!(
        place.read("bad.p2p.failed.txt"),
        "it is none\nSee client list 7.\n"
    );
    assert_eq!(place.read("late.p2p.failed.txt"), "no room\nMake some.\n");
}

#[tokio::test]
async fn links_are_read_and_other_names_left_alone() {
    let place = Place::new();
    place.write("a.link", b" p2p:abc \n");
    place.write("b.LINK", b"p2p:def");
    for other in ["a.txt", "a.p2p.part", "a.p2p.added", "p2p"] {
        place.write(other, b"theirs");
    }
    fs::create_dir(place.folder.path().join("folder.p2p")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", place.folder.path().join("x.p2p")).unwrap();
    place.look_twice().await;
    assert_eq!(place.begun(), ["p2p:abc", "p2p:def"]);
    assert_eq!(
        place.names(),
        [
            "a.link.added",
            "a.p2p.added",
            "a.p2p.part",
            "a.txt",
            "b.LINK.added",
            "folder.p2p",
            "p2p",
            "x.p2p"
        ]
    );
}

#[tokio::test]
async fn a_name_that_is_taken_is_never_replaced() {
    let place = Place::new();
    place.write("a.p2p.added", b"before");
    for content in ["second", "third"] {
        place.write("a.p2p", content.as_bytes());
        place.look_twice().await;
    }
    assert_eq!(place.read("a.p2p.added"), "before");
    assert_eq!(place.read("a.p2p.2.added"), "second");
    assert_eq!(place.read("a.p2p.3.added"), "third");
}

#[tokio::test]
async fn what_is_too_large_is_refused_unread() {
    let place = Place::new();
    place.write("a.link", &[b'x'; LINK_FILE_BYTES + 1]);
    place.look_twice().await;
    assert_eq!(place.names(), ["a.link.failed", "a.link.failed.txt"]);
    assert_eq!(place.begun(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_renamed_is_not_taken_again_unless_it_changes() {
    let place = Place::new();
    place.write("a.p2p", b"one");
    let look = names(place.folder.path()).unwrap();
    let watched = Watched {
        idx: 7,
        seen: look.clone(),
        stuck: look,
        is_unreadable: false,
    };
    let watched = place.look(watched).await;
    assert_eq!(place.begun(), Vec::<String>::new());
    place.write("a.p2p", b"another");
    let watched = place.look(watched).await;
    place.look(watched).await;
    assert_eq!(place.begun(), ["another"]);
}

#[tokio::test]
async fn a_folder_that_is_gone_is_waited_for() {
    let place = Place::new();
    let watched = look_once(
        &place.folder.path().join("gone"),
        Watched::default(),
        &place.begin(),
    )
    .await;
    assert!(watched.is_unreadable);
    place.write("a.p2p", b"one");
    let watched = place.look(watched).await;
    assert!(!watched.is_unreadable);
    place.look(watched).await;
    assert_eq!(place.begun(), ["one"]);
}

struct Place {
    folder: tempfile::TempDir,
    begun: Mutex<Vec<String>>,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
            begun: Mutex::default(),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap().clone()
    }

    async fn look(&self, watched: Watched) -> Watched {
        look_once(self.folder.path(), watched, &self.begin()).await
    }

    async fn look_twice(&self) {
        let watched = Watched {
            idx: 7,
            ..Watched::default()
        };
        let watched = self.look(watched).await;
        self.look(watched).await;
    }

    /// Downloads what it is given, but for what says that it is refused.
    fn begin(&self) -> impl Fn(Source) -> std::future::Ready<Begun> {
        |source| {
            let text = match source {
                Source::Manifest { bytes } => String::from_utf8(bytes).unwrap(),
                Source::Link { text } => text,
                Source::Id { .. } => unreachable!("no file holds one"),
            };
            let (events, receiver) = mpsc::channel(4);
            let result = match text.as_str() {
                "refused" => Err(ApiError::new(
                    "bad",
                    6,
                    "it is none",
                    "See client list IDX.",
                )),
                "fails later" => {
                    let progress = crate::control::model::Progress {
                        phase: Some(Phase::Hashing),
                        ..Default::default()
                    };
                    events.try_send(Event::Progress(progress)).unwrap();
                    let error = ApiError::new("full", 7, "no room", "Make some.");
                    events.try_send(error.into()).unwrap();
                    Ok(receiver)
                }
                _ => {
                    self.begun.lock().unwrap().push(text);
                    Ok(receiver)
                }
            };
            std::future::ready(result)
        }
    }
}
