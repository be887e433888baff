//! What is kept, found again and refused.

use std::fs;

use super::*;
use crate::store::disk::FileIdentity;
use crate::store::taken::IfExists;

#[test]
fn records_survive_a_restart_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut records = vec![sample(1), sample(2), sample(3)];
    records[1].state = ShareState::Failed {
        reason: "its file is gone".into(),
    };
    records[1].path = PathBuf::from(OsString::from_vec(b"/odd/\xFFname".to_vec()));
    records[2].state = ShareState::Paused {
        reason: "no space".into(),
    };
    records[2].manifest = None;
    records[2].identities = None;
    records[2].kind = Kind::Tree;
    records[2].secret = Some(Secret([9; 16]));
    records[2].wish.files.only = vec!["a/*".into()];
    records[2].settled = Some(Identities(Vec::new()));

    let db = ShareDb::open(&path).unwrap();
    records.iter().for_each(|record| db.upsert(record).unwrap());
    drop(db);
    let db = ShareDb::open(&path).unwrap();
    assert_eq!(db.all().unwrap(), records);
    for record in &records {
        assert_eq!(db.find(&record.swarm()).unwrap().as_ref(), Some(record));
    }
    assert_eq!(db.find(&sample(4).swarm()).unwrap(), None);
}

#[test]
fn a_swarm_has_one_record_and_a_secret_makes_another() {
    let folder = tempfile::tempdir().unwrap();
    let db = ShareDb::open(&folder.path().join("state.db")).unwrap();
    let mut record = sample(1);
    db.upsert(&record).unwrap();
    record.state = ShareState::Complete;
    db.upsert(&record).unwrap();
    assert_eq!(db.all().unwrap(), [record.clone()]);

    record.secret = Some(Secret([1; 16]));
    db.upsert(&record).unwrap();
    assert_eq!(db.all().unwrap().len(), 2);
    assert!(db.remove(&record.swarm()).unwrap());
    assert!(!db.remove(&record.swarm()).unwrap());
    assert_eq!(
        db.all().unwrap(),
        [ShareRecord {
            secret: None,
            ..record
        }]
    );
}

#[test]
fn identities_change_alone() {
    let folder = tempfile::tempdir().unwrap();
    let db = ShareDb::open(&folder.path().join("state.db")).unwrap();
    let record = sample(1);
    db.upsert(&record).unwrap();
    let none = Identities(Vec::new());
    assert!(db.set_identities(&record.swarm(), &none).unwrap());
    assert!(!db.set_identities(&sample(2).swarm(), &none).unwrap());
    let expected = ShareRecord {
        identities: Some(none),
        ..record
    };
    assert_eq!(db.all().unwrap(), [expected]);
}

#[test]
fn a_state_changes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let db = ShareDb::open(&folder.path().join("state.db")).unwrap();
    let record = sample(1);
    db.upsert(&record).unwrap();
    assert!(
        db.set_state(&record.swarm(), &ShareState::Complete)
            .unwrap()
    );
    assert!(
        !db.set_state(&sample(2).swarm(), &ShareState::Complete)
            .unwrap()
    );
    assert_eq!(
        db.all().unwrap(),
        [ShareRecord {
            state: ShareState::Complete,
            ..record
        }]
    );
}

#[test]
fn a_database_of_the_first_version_is_kept_and_gets_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let db = ShareDb::open(&path).unwrap();
    let old = ShareRecord {
        placing: Placing::default(),
        ..sample(1)
    };
    db.upsert(&old).unwrap();
    lock(&db.connection)
        .execute_batch(
            "ALTER TABLE share DROP COLUMN wish; ALTER TABLE share DROP COLUMN settled;
             PRAGMA user_version = 1;",
        )
        .unwrap();
    drop(db);
    for _ in 0..2 {
        let db = ShareDb::open(&path).unwrap();
        assert_eq!(db.all().unwrap(), std::slice::from_ref(&old));
        db.upsert(&old).unwrap();
    }
}

#[test]
fn a_write_is_durable_when_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let db = ShareDb::open(&folder.path().join("state.db")).unwrap();
    let connection = lock(&db.connection);
    let mode: String = connection
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .unwrap();
    let synchronous: i32 = connection
        .pragma_query_value(None, "synchronous", |row| row.get(0))
        .unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}

#[test]
fn a_damaged_database_is_reported_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let db = ShareDb::open(&path).unwrap();
    (0..50).for_each(|n| db.upsert(&sample(n)).unwrap());
    drop(db);
    let sound = fs::read(&path).unwrap();
    let mut holed = sound.clone();
    holed[4096..12288].fill(0x55);

    for damaged in [b"not a database, but long enough".repeat(9), holed] {
        fs::write(&path, &damaged).unwrap();
        let error = ShareDb::open(&path).unwrap_err();
        assert!(matches!(error, DbError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("state.db is damaged"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[test]
fn a_damaged_row_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    for change in [
        "kind = 7",
        "state = 9",
        "id = zeroblob(3)",
        "id = zeroblob(32)",
        "trackers = x'FF'",
        "wish = 'x'",
        "settled = x'FF'",
    ] {
        let db = ShareDb::open(&path).unwrap();
        db.upsert(&sample(1)).unwrap();
        lock(&db.connection)
            .execute(&format!("UPDATE share SET {change}"), [])
            .unwrap();
        assert!(matches!(db.all(), Err(DbError::Corrupt { .. })), "{change}");
        lock(&db.connection)
            .execute("DELETE FROM share", [])
            .unwrap();
    }
}

#[test]
fn databases_of_others_and_of_the_future_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE t (x)")
        .unwrap();
    let before = fs::read(&foreign).unwrap();
    assert!(matches!(
        ShareDb::open(&foreign),
        Err(DbError::Foreign { .. })
    ));
    assert_eq!(fs::read(&foreign).unwrap(), before);

    let newer = folder.path().join("newer.db");
    let db = ShareDb::open(&newer).unwrap();
    lock(&db.connection)
        .pragma_update(None, "user_version", VERSION + 1)
        .unwrap();
    drop(db);
    assert!(matches!(
        ShareDb::open(&newer),
        Err(DbError::Newer { found, .. }) if found == VERSION + 1
    ));
}

fn sample(n: u8) -> ShareRecord {
    let identity = FileIdentity {
        size: 7,
        mtime_ns: -1,
        ctime_ns: i64::MAX,
        inode: u64::MAX,
    };
    ShareRecord {
        id: ContentId([n; 32]),
        kind: Kind::File,
        secret: None,
        name: format!("file {n}"),
        path: PathBuf::from(format!("/home/me/file {n}")),
        state: ShareState::Downloading,
        manifest: Some(vec![n; 1000]),
        trackers: vec![
            format!("example.org:59000#{}", "a".repeat(26))
                .parse()
                .unwrap(),
        ],
        identities: Some(Identities(vec![identity])),
        added_unix_ms: u64::from(n),
        wish: Wish::default(),
        settled: None,
        placing: Placing {
            if_exists: IfExists::Overwrite,
            found: true,
            aside: n % 2 == 1,
        },
    }
}
