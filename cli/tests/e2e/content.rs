//! Makes files and folders to share, and compares what arrived.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
};

pub(crate) const MIB: u64 = 1 << 20;

/// Bytes made at once.
const BLOCK_BYTES: u64 = MIB;

/// Writes a file of `len` bytes that no other `seed` gives, and the folders above it.
pub(crate) fn random_file(path: &Path, len: u64, seed: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut source = blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof();
    let mut file = File::create(path).unwrap();
    let mut block = vec![0; BLOCK_BYTES as usize];
    let mut left = len;
    while left > 0 {
        let part = &mut block[..left.min(BLOCK_BYTES) as usize];
        source.fill(part);
        file.write_all(part).unwrap();
        left -= part.len() as u64;
    }
}

/// What `b3sum` prints for the file.
pub(crate) fn b3sum(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    hasher.update_reader(file).unwrap();
    hasher.finalize().to_hex().to_string()
}

/// A folder of everything a folder may hold: nested, empty, executable, large and many small files,
/// empty folders, and names that need care.
pub(crate) fn assorted_folder(folder: &Path) {
    random_file(&folder.join("large.bin"), 9 * MIB + 1, 1);
    random_file(&folder.join("deep/er/and deeper/large too.bin"), 2 * MIB, 2);
    random_file(&folder.join("empty"), 0, 0);
    random_file(&folder.join("deep/empty.txt"), 0, 0);
    random_file(&folder.join("bin/run.sh"), 300, 3);
    random_file(&folder.join("bin/large-run"), 70_000, 4);
    for program in ["bin/run.sh", "bin/large-run"] {
        fs::set_permissions(folder.join(program), Permissions::from_mode(0o755)).unwrap();
    }
    for n in 0..200 {
        random_file(&folder.join(format!("many/{n:03}.dat")), 17 * n, 100 + n);
    }
    random_file(&folder.join("Grüße/文件 №1"), 65_536, 5);
    random_file(&folder.join(".hidden/.file"), 65_537, 6);
    fs::create_dir_all(folder.join("nothing/in here")).unwrap();
    fs::create_dir_all(folder.join("deep/nothing")).unwrap();
}

/// What one entry of a folder is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// What `b3sum` prints for it.
        hash: String,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// Anything else, which never travels.
    Other,
}

/// Everything beneath `folder`, by path.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, Node> {
    let mut found = BTreeMap::new();
    collect(folder, folder, &mut found);
    found
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, Node>) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy();
        let metadata = path.symlink_metadata().unwrap();
        let node = if metadata.is_dir() {
            collect(root, &path, found);
            Node::Folder
        } else if metadata.is_file() {
            Node::File {
                hash: b3sum(&path),
                executable: metadata.permissions().mode() & 0o100 != 0,
            }
        } else {
            Node::Other
        };
        found.insert(name.into_owned(), node);
    }
}

/// Fails unless both files exist and have the same bytes.
#[track_caller]
pub(crate) fn assert_same_file(ours: &Path, theirs: &Path) {
    assert!(
        fs::read(ours).unwrap_or_else(|error| panic!("{}: {error}", ours.display()))
            == fs::read(theirs).unwrap_or_else(|error| panic!("{}: {error}", theirs.display())),
        "{} and {} differ",
        ours.display(),
        theirs.display()
    );
}

/// Fails when a folder of downloads holds something unfinished.
#[track_caller]
pub(crate) fn assert_nothing_unfinished(downloads: &Path) {
    let left = unfinished(downloads);
    assert!(left.is_empty(), "left in {}: {left:?}", downloads.display());
}

/// Names of everything unfinished in a folder of downloads; none when there is no such folder.
pub(crate) fn unfinished(downloads: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(downloads) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".part")).collect()
}
