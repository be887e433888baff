//! What the journal claims after every torn tail, every fault and every power cut.

use std::fs;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::super::record::{HEADER_BODY_BYTES, header_checksum};
use super::*;
use crate::store::faulty::{Fault, FaultyDisk};
use crate::store::samples::quick_folder;

const ID: ContentId = ContentId([7; 32]);
const CHUNKS: u32 = 100;

#[test]
fn what_is_synced_and_what_is_only_written_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let (mut journal, new) = open(&path);
    assert_eq!(
        (new.synced.count(), new.written.len(), new.torn_bytes),
        (0, 0, 0)
    );

    journal.written(run(3, 2)).unwrap();
    journal.written(run(10, 1)).unwrap();
    journal.synced().unwrap();
    journal.written(run(5, 1)).unwrap();
    journal.written(run(99, 1)).unwrap();

    let (_, recovered) = open(&path);
    assert_eq!(recovered.synced.runs(), [run(3, 2), run(10, 1)]);
    assert_eq!(recovered.written, [run(5, 1), run(99, 1)]);
}

#[test]
fn chunks_written_during_a_sync_wait_for_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let (mut journal, _) = open(&path);
    journal.written(run(0, 3)).unwrap();
    journal.begin_sync();
    journal.written(run(1, 1)).unwrap();
    journal.written(run(7, 1)).unwrap();
    journal.end_sync().unwrap();

    let (_, recovered) = open(&path);
    assert_eq!(recovered.synced.runs(), [run(0, 1), run(2, 1)]);
    assert_eq!(recovered.written, [run(1, 1), run(7, 1)]);
}

#[test]
fn recovered_writes_are_candidates_only_once_noted_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    open(&path).0.written(run(0, 4)).unwrap();

    let (mut journal, _) = open(&path);
    journal.written(run(2, 1)).unwrap();
    journal.synced().unwrap();
    let (_, recovered) = open(&path);
    assert_eq!(recovered.synced.runs(), [run(2, 1)]);
    assert_eq!(recovered.written, [run(0, 2), run(3, 1)]);
}

#[test]
fn a_failed_data_sync_takes_back_what_was_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let (mut journal, _) = open(&path);
    journal.written(run(0, 1)).unwrap();
    journal.synced().unwrap();
    journal.written(run(1, 2)).unwrap();
    journal.begin_sync();
    journal.written(run(8, 1)).unwrap();
    assert_eq!(journal.lose_unsynced().unwrap(), [run(1, 2), run(8, 1)]);
    journal.synced().unwrap();

    let (_, recovered) = open(&path);
    assert_eq!(recovered.synced.runs(), [run(0, 1)]);
    assert_eq!(recovered.written, []);
}

#[test]
fn a_lost_chunk_is_no_longer_synced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let (mut journal, _) = open(&path);
    journal.written(run(0, 3)).unwrap();
    journal.synced().unwrap();
    journal.lost(run(1, 1)).unwrap();
    assert_eq!(journal.synced_chunks().runs(), [run(0, 1), run(2, 1)]);
    assert_eq!(open(&path).1.synced.runs(), [run(0, 1), run(2, 1)]);
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_torn_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let (mut journal, _) = open(&path);
    for chunk in 0..4 {
        journal.written(run(chunk, 1)).unwrap();
        journal.synced().unwrap();
    }
    let whole = fs::read(&path).unwrap();

    for len in HEADER_BYTES..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        check_after_tear(&path, (len - HEADER_BYTES) / RECORD_BYTES, len);
        for garbage in [0, 0xFF] {
            let mut torn = whole.clone();
            torn[len..].fill(garbage);
            fs::write(&path, torn).unwrap();
            check_after_tear(&path, (len - HEADER_BYTES) / RECORD_BYTES, len);
        }
    }
}

/// `good` records are whole: written 0, synced 0, written 1, and so on.
#[track_caller]
fn check_after_tear(path: &Path, good: usize, len: usize) {
    let (mut journal, recovered) = open(path);
    let synced = (good / 2) as u32;
    assert_eq!(recovered.synced.count(), synced, "torn at {len}");
    assert_eq!(recovered.written.len(), good % 2, "torn at {len}");
    // What is appended now stands where the torn record stood, and counts.
    journal.written(run(50, 1)).unwrap();
    drop(journal);
    let (_, again) = open(path);
    assert_eq!(
        (again.torn_bytes, again.synced.count()),
        (0, synced),
        "torn at {len}"
    );
    assert!(again.written.contains(&run(50, 1)), "torn at {len}");
}

#[test]
fn a_flipped_bit_ends_what_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let (mut journal, _) = open(&path);
    journal.written(run(0, 1)).unwrap();
    journal.written(run(1, 1)).unwrap();
    journal.synced().unwrap();
    let whole = fs::read(&path).unwrap();
    for byte in HEADER_BYTES..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 4;
        fs::write(&path, flipped).unwrap();
        let (_, recovered) = open(&path);
        assert!(recovered.torn_bytes > 0, "byte {byte}");
        assert_eq!(recovered.synced.count(), 0, "byte {byte}");
    }
}

#[test]
fn a_record_counts_only_where_and_in_what_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let (mut journal, _) = open(&path);
    journal.written(run(0, 1)).unwrap();
    journal.synced().unwrap();
    let whole = fs::read(&path).unwrap();
    let synced = &whole[HEADER_BYTES + RECORD_BYTES..];

    // The same record a place further on, and in the journal of another share.
    fs::write(&path, [&whole[..], synced].concat()).unwrap();
    assert_eq!(open(&path).1.torn_bytes, RECORD_BYTES as u64);
    let other = Header {
        id: ContentId([8; 32]),
        chunks: CHUNKS,
    };
    fs::write(
        &path,
        [&other.encode()[..], &whole[HEADER_BYTES..]].concat(),
    )
    .unwrap();
    let (_, recovered) = Journal::open(&path, other.id, CHUNKS).unwrap();
    assert_eq!(recovered.synced.count(), 0);
}

#[test]
fn a_header_of_something_else_says_so_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    drop(open(&path));
    let header = fs::read(&path).unwrap();

    check_refused(&path, b"", "is damaged or no journal");
    check_refused(
        &path,
        &header[..HEADER_BYTES - 1],
        "is damaged or no journal",
    );
    check_refused(&path, &[b'x'; 200], "is damaged or no journal");
    let other = Header {
        id: ContentId([8; 32]),
        chunks: CHUNKS,
    }
    .encode();
    check_refused(
        &path,
        &other,
        &format!("is about {} and not {ID}", ContentId([8; 32])),
    );
    let other = Header { id: ID, chunks: 9 }.encode();
    check_refused(&path, &other, "has 9 chunks and the share 100");
    let mut newer = Header {
        id: ID,
        chunks: CHUNKS,
    }
    .encode();
    newer[9] = 2;
    let checksum = header_checksum(&newer);
    newer[HEADER_BODY_BYTES..].copy_from_slice(&checksum);
    check_refused(&path, &newer, "has version 2 and this program knows 1");
}

#[track_caller]
fn check_refused(path: &Path, bytes: &[u8], expected: &str) {
    fs::write(path, bytes).unwrap();
    let error = Journal::open(path, ID, CHUNKS).unwrap_err().to_string();
    assert!(
        error.contains(expected) && error.contains(path.to_str().unwrap()),
        "{error}"
    );
    assert_eq!(fs::read(path).unwrap(), bytes);
}

#[test]
fn chunks_that_do_not_exist_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&folder.path().join("j"));
    for wrong in [run(100, 1), run(0, 0), run(99, 2), run(u32::MAX, 2)] {
        journal.written(wrong).unwrap_err();
        journal.lost(wrong).unwrap_err();
    }
}

#[test]
fn a_long_journal_is_rewritten_when_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let (mut journal, _) = open(&path);
    for _ in 0..=COMPACT_BYTES / (100 * RECORD_BYTES as u64) {
        let bytes: Vec<Run> = (0..100).map(|chunk| run(chunk, 1)).collect();
        journal.append(RecordKind::Synced, &bytes).unwrap();
    }
    journal.written(run(98, 2)).unwrap();
    assert!(fs::metadata(&path).unwrap().len() > COMPACT_BYTES);

    let before = open(&path).1;
    assert_eq!(
        fs::metadata(&path).unwrap().len() as usize,
        HEADER_BYTES + 2 * RECORD_BYTES
    );
    assert_eq!(open(&path).1, before);
    assert_eq!(before.written, [run(98, 2)]);
}

#[test]
fn no_fault_at_any_call_makes_the_journal_claim_what_is_not_so() {
    for fault in [
        Fault::Once(Errno::IO),
        Fault::Once(Errno::NOSPC),
        Fault::From(Errno::NOSPC),
        Fault::Short(Errno::NOSPC),
    ] {
        for n in 0.. {
            let disk = Arc::new(FaultyDisk::failing_at(n, fault));
            check_claims_hold(&disk);
            if !disk.fault_was_met() {
                break;
            }
        }
    }
}

/// Writes, syncs and loses chunks and cuts the power.
fn check_claims_hold(disk: &Arc<FaultyDisk>) {
    let folder = quick_folder();
    let path = folder.path().join("j");
    let mut lost = ChunkSet::empty(CHUNKS);
    let mut durable = ChunkSet::empty(CHUNKS);
    if let Ok((mut journal, _)) = Journal::open_on(disk.clone(), &path, ID, CHUNKS) {
        for chunk in 0..6 {
            let _ = journal.written(run(chunk * 2, 1));
            if chunk == 3 {
                if let Ok(runs) = journal.lose_unsynced() {
                    lost.insert_runs(&runs).unwrap();
                }
            } else if chunk % 2 == 1 && journal.synced().is_ok() {
                durable = journal.synced_chunks().clone();
            }
        }
    }
    disk.power_loss();
    let (_, recovered) = open(&path);
    assert!(
        durable.iter().all(|chunk| recovered.synced.contains(chunk)),
        "{disk:?}"
    );
    assert!(
        recovered.synced.iter().all(|chunk| !lost.contains(chunk)),
        "{disk:?}"
    );
    assert!(
        recovered.synced.iter().all(|chunk| chunk.value() % 2 == 0),
        "{disk:?}"
    );
}

#[test]
fn after_a_failed_journal_sync_a_later_one_makes_everything_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    for n in 0..40 {
        let _ = fs::remove_file(&path);
        let disk = Arc::new(FaultyDisk::failing_at(n, Fault::Once(Errno::IO)));
        let Ok((mut journal, _)) = Journal::open_on(disk.clone(), &path, ID, CHUNKS) else {
            continue;
        };
        let first = journal.written(run(0, 1)).is_ok();
        let _ = journal.synced();
        let second = journal.written(run(1, 1)).is_ok();
        if journal.synced().is_err() {
            journal.synced().unwrap();
        }
        disk.power_loss();
        let synced = open(&path).1.synced;
        let has = |chunk| synced.contains(synced.index(chunk).unwrap());
        assert_eq!((has(0), has(1)), (first, second), "fault at call {n}");
    }
}

#[test]
fn a_symbolic_link_in_the_journals_place_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let path = folder.path().join("j");
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    Journal::open(&path, ID, CHUNKS).unwrap_err();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn bytes_beyond_the_end_are_cut_before_the_next_append() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let (mut journal, _) = open(&path);
    journal.written(run(0, 1)).unwrap();
    drop(journal);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xAA; 1000], (HEADER_BYTES + RECORD_BYTES) as u64)
        .unwrap();
    assert_eq!(open(&path).1.torn_bytes, 1000);
    assert_eq!(
        fs::metadata(&path).unwrap().len() as usize,
        HEADER_BYTES + RECORD_BYTES
    );
}

fn open(path: &Path) -> (Journal, Recovered) {
    Journal::open(path, ID, CHUNKS).unwrap()
}

fn run(start: u32, count: u32) -> Run {
    Run { start, count }
}
