//! What is asked for again: shared, downloaded and followed once more.

use std::{
    fs,
    path::{Path, PathBuf},
};

use warren_daemon::control::model::{Event, Registered, ShareState, exit};

use crate::{
    content::{MIB, assert_same_file, random_file, tree},
    harness::{Daemon, Swarm},
};

#[test]
fn who_follows_again_gets_the_newest_version_in_the_place_of_the_one_that_is_here() {
    for ended in [
        &["unfollow", "docs"][..],
        // Fetched once by the follow link, and never followed.
        &[],
    ] {
        let swarm = Swarm::start();
        let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
        let docs = docs(&swarm);
        let link = publish(&ours, &docs).follow_link.unwrap();
        let place = match ended {
            [] => theirs.fetch(&link).path,
            ended => {
                let path = follow(&theirs, &link, &[]).path;
                theirs.client(ended).expect(0);
                path
            }
        };
        let place = Path::new(&place);
        theirs.stop();
        theirs.restart();
        theirs.until_connected();
        fs::write(place.join("b"), "mine").unwrap();
        random_file(&docs.join("a"), 2000, 9);
        let second = publish(&ours, &docs);
        let done = follow(&theirs, &link, &[]);
        assert_eq!(Path::new(&done.path), place);
        assert_eq!(done.content_id, second.content_id);
        assert_eq!(tree(place), tree(&docs));
        let kept = theirs.downloads().join("docs.kept-1");
        assert_eq!(fs::read(kept.join("b")).unwrap(), b"mine");
        assert!(!kept.join("a").exists() && !kept.join("large").exists());
        let shares = theirs.status().shares;
        assert_eq!(shares.len(), 1, "{shares:?}");
        let came = shares[0].direct_bytes + shares[0].relayed_bytes;
        assert!(came < 4 * MIB, "{came} bytes came, though most was there");
        theirs.client(&["unfollow", "docs"]).expect(0);
    }
}

#[test]
fn what_lies_in_the_way_of_a_first_version_is_refused_before_anything_is_fetched() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let docs = docs(&swarm);
    let link = publish(&ours, &docs).follow_link.unwrap();
    let place = theirs.downloads().join("docs");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("b"), "mine").unwrap();
    fs::copy(docs.join("large"), place.join("large")).unwrap();
    let ran = theirs.client(&["follow", &link]);
    let ran = ran.expect_error(exit::REFUSED.into(), "exists already");
    assert!(ran.stderr.contains("DISK-07") && ran.stderr.contains("--if-exists"));
    assert!(theirs.status().shares.is_empty());
    theirs
        .client(&["unfollow", "docs"])
        .expect(exit::NOT_FOUND.into());

    let done = follow(&theirs, &link, &["--if-exists", "resume"]);
    assert_eq!(Path::new(&done.path), place);
    assert_eq!(tree(&place), tree(&docs));
    let share = &theirs.status().shares[0];
    let came = share.direct_bytes + share.relayed_bytes;
    assert!(came < 4 * MIB, "{came} bytes came, though most was there");
    // What is in the share need not be kept.
    let kept = tree(&theirs.downloads().join("docs.kept-0"));
    let names: Vec<&String> = kept.keys().collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn what_was_kept_beside_something_is_put_in_its_place_when_that_is_asked_for() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let (film, docs) = (swarm.file("film.mkv", MIB, 1), docs(&swarm));
    let manifests = [&film, &docs].map(|path| ours.register(path).manifest);
    let folder = theirs.downloads();
    fs::create_dir_all(folder.join("docs")).unwrap();
    fs::write(folder.join("film.mkv"), "in the way").unwrap();
    fs::write(folder.join("docs/mine"), "precious").unwrap();
    for (manifest, beside, wanted) in [
        (&manifests[0], "film (2).mkv", "film.mkv"),
        (&manifests[1], "docs (2)", "docs"),
    ] {
        let rename = ["--if-exists", "rename"];
        let done = theirs.download_with(manifest, &rename).done();
        assert_eq!(Path::new(&done.path), folder.join(beside));
        assert_eq!(done.instead_of, None);
        // It is there, and what to do about its name is said.
        let wanted = folder.join(wanted);
        for options in [&[][..], &["--to", folder.to_str().unwrap()]] {
            let done = theirs.download_with(manifest, options).done();
            assert_eq!(Path::new(&done.path), folder.join(beside));
            assert_eq!(done.instead_of.as_deref(), wanted.to_str());
        }
        let overwrite = ["--if-exists", "overwrite"];
        for _ in 0..2 {
            let done = theirs.download_with(manifest, &overwrite).done();
            assert!(done.already);
            assert_eq!((Path::new(&done.path), done.instead_of), (&*wanted, None));
        }
    }
    assert_eq!(
        fs::read(folder.join("docs/mine")).unwrap(),
        b"precious",
        "what only the other folder had"
    );
    fs::remove_file(folder.join("docs/mine")).unwrap();
    assert_same_file(&film, &folder.join("film.mkv"));
    assert_eq!(tree(&folder.join("docs")), tree(&docs));
    assert_eq!(names_in(&folder), ["docs", "film.mkv"]);
    let mut names: Vec<String> = theirs
        .status()
        .shares
        .into_iter()
        .map(|it| it.name)
        .collect();
    names.sort();
    assert_eq!(names, ["docs", "film.mkv"]);

    // It is what others get, also after a restart.
    let mut theirs = theirs;
    theirs.stop();
    theirs.restart();
    ours.stop();
    theirs.until_connected();
    let other = swarm.daemon(3);
    assert_same_file(&film, Path::new(&other.fetch(&manifests[0]).path));
}

#[test]
fn a_first_version_goes_where_it_is_told_to_and_later_ones_with_it() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let docs = docs(&swarm);
    let link = publish(&ours, &docs).follow_link.unwrap();
    let there = swarm.path("there/deep");
    fs::create_dir_all(there.join("docs")).unwrap();
    let to = ["--to", there.to_str().unwrap(), "--if-exists", "rename"];
    let done = follow(&theirs, &link, &to);
    let place = there.join("docs (2)");
    assert_eq!(Path::new(&done.path), place);
    assert_eq!(tree(&place), tree(&docs));
    let ran = theirs.client(&["follow", &link, "--to", "/tmp"]);
    ran.expect_error(exit::REFUSED.into(), "it is followed already");

    random_file(&docs.join("a"), 2000, 9);
    let second = publish(&ours, &docs);
    theirs.until_share(&second.content_id, "the next version", |share| {
        share.state == ShareState::Seeding
    });
    assert_eq!(tree(&place), tree(&docs));
    let names = names_in(&there);
    assert_eq!(names, ["docs", "docs (2)"]);
    assert_eq!(theirs.share(&second.content_id).name, "docs (2)");
}

#[test]
fn a_share_in_the_place_of_a_first_version_is_its_former_one_when_that_is_said() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let docs = docs(&swarm);
    let first = publish(&ours, &docs);
    // By the link of one version nobody knows that there are others.
    let place = theirs.fetch(first.link.unwrap()).path;
    random_file(&docs.join("a"), 2000, 9);
    let second = publish(&ours, &docs);
    let link = second.follow_link.unwrap();
    let ran = theirs.client(&["follow", &link]);
    ran.expect_error(exit::REFUSED.into(), "another share of this daemon");
    let shares = theirs.status().shares;
    assert_eq!((shares.len(), shares[0].state), (1, ShareState::Seeding));

    follow(&theirs, &link, &["--if-exists", "resume"]);
    assert_eq!(tree(Path::new(&place)), tree(&docs));
    assert_eq!(names_in(&theirs.downloads()), ["docs"]);
    let shares = theirs.status().shares;
    assert_eq!(shares.len(), 1, "{shares:?}");
}

#[test]
fn the_next_version_has_what_was_set_for_the_one_before_and_leaves_no_p2p_of_it() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let docs = docs(&swarm);
    let first = ours.try_register(&docs, &["--update", "--expire", "2h", "--json"]);
    let first = registered(&first.expect(0).stdout);
    ours.client(&["limit", "--share", "docs", "--up", "90M"])
        .expect(0);
    let link = first.follow_link.unwrap();
    follow(&theirs, &link, &[]);
    theirs
        .client(&["limit", "--share", "docs", "--down", "80M"])
        .expect(0);
    theirs.client(&["expire", "docs", "3h"]).expect(0);
    let before = theirs.share(&first.content_id);

    random_file(&docs.join("a"), 2000, 9);
    let second = publish(&ours, &docs);
    assert_eq!(second.expires_unix_ms, first.expires_unix_ms);
    assert_eq!(second.manifest, first.manifest);
    assert_eq!(names_in(&ours.downloads()), ["docs.p2p"]);
    let our_share = ours.share(&second.content_id);
    assert_eq!(our_share.up_bits_per_s, Some(90_000_000));
    assert_eq!(our_share.expires_unix_ms, first.expires_unix_ms);
    let share = theirs.until_share(&second.content_id, "the next version", |share| {
        share.state == ShareState::Seeding
    });
    assert_eq!(share.down_bits_per_s, Some(80_000_000));
    assert_eq!(share.expires_unix_ms, before.expires_unix_ms);
    assert!(before.expires_unix_ms.is_some());
}

#[test]
fn a_share_whose_file_was_changed_is_not_lost_and_is_fetched_again_as_asked() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", 4 * MIB, 1);
    let registered = ours.register(&file);
    let (manifest, id) = (&registered.manifest, &registered.content_id);
    let place = theirs.fetch(manifest).path;
    let place = Path::new(&place);
    for (how, at) in [
        ("resume", place.to_owned()),
        ("overwrite", place.to_owned()),
        ("rename", theirs.downloads().join("film (2).mkv")),
    ] {
        let whole = fs::read(place).unwrap();
        fs::write(place, [&whole[..1000], b"edited", &whole[1006..]].concat()).unwrap();
        let edited = fs::read(place).unwrap();
        for _ in 0..2 {
            let error = theirs.download(manifest).failed(exit::REFUSED);
            assert!(error.hint.contains("--if-exists"), "{error:?}");
            assert_eq!(theirs.share(id).state, ShareState::Changed, "{how}");
            assert_eq!(fs::read(place).unwrap(), edited);
        }
        let done = theirs.download_with(manifest, &["--if-exists", how]).done();
        assert_eq!(Path::new(&done.path), at, "{how}");
        assert_same_file(&file, &at);
        assert_eq!(theirs.share(id).state, ShareState::Seeding);
        assert_eq!(theirs.status().shares.len(), 1);
        if how == "resume" {
            let share = theirs.share(id);
            let came = share.direct_bytes + share.relayed_bytes;
            assert!(came < 2 * MIB, "{came} bytes came again");
        }
    }
    assert!(
        fs::read(place)
            .unwrap()
            .windows(6)
            .any(|it| it == b"edited")
    );
    // A number is given once, and the name that was wanted first is known of each.
    let second = theirs.downloads().join("film (2).mkv");
    fs::write(&second, "edited").unwrap();
    let done = theirs.download_with(manifest, &["--if-exists", "rename"]);
    let third = theirs.downloads().join("film (3).mkv");
    assert_eq!(Path::new(&done.done().path), third);
    let done = theirs.download_with(manifest, &["--if-exists", "overwrite"]);
    assert_eq!(Path::new(&done.done().path), place);
    assert_same_file(&file, place);
    assert!(second.exists() && !third.exists());
}

#[test]
fn a_share_stays_when_a_download_cannot_take_its_place_and_is_fetched_again_when_one_can() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    let (manifest, id) = (&registered.manifest, &registered.content_id);
    let place = theirs.fetch(manifest).path;
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    // A folder does not become a file.
    for how in ["resume", "overwrite"] {
        theirs
            .download_with(manifest, &["--if-exists", how])
            .failed(exit::REFUSED);
        assert_eq!(theirs.share(id).state, ShareState::Changed, "{how}");
    }
    fs::remove_dir(&place).unwrap();
    let done = theirs.fetch(manifest);
    assert_eq!(done.path, place);
    assert_same_file(&file, Path::new(&place));
}

#[test]
fn a_share_that_is_somewhere_else_is_said_to_be_there() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    let place = theirs.fetch(&registered.manifest).path;
    let there = swarm.path("there");
    let to = ["--to", there.to_str().unwrap()];
    let error = theirs
        .download_with(&registered.manifest, &to)
        .failed(exit::REFUSED);
    assert_eq!(error.message_code, "SHR-22");
    assert!(error.message.contains(&place), "{error:?}");
    assert!(error.hint.contains(" relocate "), "{error:?}");
    assert!(!there.exists());
    let usual = theirs.downloads();
    let to = ["--to", usual.to_str().unwrap()];
    assert!(
        theirs
            .download_with(&registered.manifest, &to)
            .done()
            .already
    );
    let mut client = swarm.client(&[
        "download",
        &registered.manifest,
        "2",
        "--to",
        "~nobody-here/x",
    ]);
    client = client.expect_error(exit::USAGE.into(), "~nobody-here");
    assert!(client.stderr.contains("./~name"), "{client:?}");
}

#[test]
fn what_is_not_said_again_of_a_share_stays_as_it_was() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", MIB, 1);
    let options = ["--expire", "2h", "--max-downloads", "3", "--json"];
    let before = registered(&ours.try_register(&file, &options).expect(0).stdout);
    assert!(before.expires_unix_ms.is_some());
    let terms = |it: &Registered| (it.expires_unix_ms, it.max_downloads, it.downloads);
    assert_eq!(terms(&ours.register(&file)), terms(&before));
    let said = ours.try_register(&file, &[]).expect(0).stderr;
    assert!(said.contains("its terms: expires in "), "{said}");
    assert!(said.contains("0 of 3 downloads"), "{said}");
    let options = ["--expire", "never", "--max-downloads", "off", "--json"];
    let after = registered(&ours.try_register(&file, &options).expect(0).stdout);
    assert_eq!(terms(&after), (None, None, None));
    let share = ours.share(&before.content_id);
    assert_eq!((share.expires_unix_ms, share.max_downloads), (None, None));
}

/// A folder of which most is one large file.
fn docs(swarm: &Swarm) -> PathBuf {
    let folder = swarm.path("docs");
    fs::create_dir(&folder).unwrap();
    for (seed, name) in (0..).zip(["a", "b", "c"]) {
        random_file(&folder.join(name), 1000, seed);
    }
    random_file(&folder.join("large"), 16 * MIB, 99);
    folder
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn publish(daemon: &Daemon, path: &Path) -> Registered {
    let ran = daemon.try_register(path, &["--update", "--json"]);
    registered(&ran.expect(0).stdout)
}

#[track_caller]
fn registered(stdout: &str) -> Registered {
    let last = stdout.lines().last().unwrap_or_default();
    match serde_json::from_str(last) {
        Ok(Event::Registered(registered)) => registered,
        other => panic!("{other:?} in {stdout}"),
    }
}

/// Runs `client follow LINK OPTIONS.. IDX` until the newest version is there.
#[track_caller]
fn follow(daemon: &Daemon, link: &str, options: &[&str]) -> warren_daemon::control::model::Done {
    daemon.client_last(&[&["follow", link], options].concat())
}
