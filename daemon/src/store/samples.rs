//! Shares for tests, with every shape of file a layout knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use warren_proto::content::tree::{subtree_cv, whole_hash};
use warren_proto::content::{
    ChunkIndex, Content, Entry, EntryKind, HashList, Layout, Listing, ShareName, SharePath,
};

use super::db::{ShareRecord, ShareState};
use super::error::StoreError;
use super::files::ShareFiles;
use super::taken::Placing;
use crate::control::wish::Wish;

/// Chunks of a small share.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// A folder in memory where the system has one: a fault suite makes thousands of files.
pub(crate) fn quick_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = tempfile::tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

/// One entry of a tree: `None` for an empty folder.
pub(crate) type Item = (&'static str, Option<Vec<u8>>);

/// A share and the bytes of its files in listing order.
pub(crate) struct Sample {
    pub(crate) content: Arc<Content>,
    pub(crate) files: Vec<Vec<u8>>,
}

impl Sample {
    pub(crate) fn file(name: &str, bytes: Vec<u8>) -> Sample {
        let hashes = match cvs(&bytes) {
            cvs if cvs.is_empty() => [whole_hash(&bytes)].into_iter().collect(),
            cvs => cvs,
        };
        let name = ShareName::parse(name).unwrap();
        let content = Content::file(name, bytes.len() as u64, hashes).unwrap();
        Sample {
            content: Arc::new(content),
            files: vec![bytes],
        }
    }

    pub(crate) fn tree(name: &str, mut items: Vec<Item>) -> Sample {
        items.sort();
        let entries = items.iter().map(|(path, bytes)| Entry {
            path: SharePath::parse(path).unwrap(),
            kind: match bytes {
                None => EntryKind::Dir,
                Some(bytes) => EntryKind::File {
                    size: bytes.len() as u64,
                    executable: path.ends_with(".sh"),
                    root: whole_hash(bytes),
                },
            },
        });
        let listing = Listing::new(entries.collect()).unwrap();
        let files: Vec<Vec<u8>> = items.into_iter().filter_map(|(_, bytes)| bytes).collect();
        let hashes: HashList = files
            .iter()
            .flat_map(|f| cvs(f).iter().collect::<Vec<_>>())
            .collect();
        let content = Content::tree(ShareName::parse(name).unwrap(), listing, hashes).unwrap();
        Sample {
            content: Arc::new(content),
            files,
        }
    }

    /// Large and small files, an empty one, an empty folder, nesting, an executable.
    pub(crate) fn mixed() -> Sample {
        Sample::tree(
            "photos",
            vec![
                ("a/b/deep.bin", Some(noise(3, 2 * CHUNK_BYTES + 100))),
                ("a/b/small", Some(noise(4, 1000))),
                ("a-b", Some(noise(5, CHUNK_BYTES - 500))),
                ("empty", Some(Vec::new())),
                ("nothing/here", None),
                ("run.sh", Some(noise(6, 300))),
                ("z", Some(noise(7, CHUNK_BYTES + 1))),
            ],
        )
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = ChunkIndex> + use<> {
        let content = self.content.clone();
        (0..content.layout.chunk_count()).map(move |chunk| content.layout.chunk(chunk).unwrap())
    }

    /// The bytes of a chunk.
    pub(crate) fn chunk(&self, chunk: ChunkIndex) -> Vec<u8> {
        let extents = self.content.layout.extents(chunk);
        extents
            .flat_map(|extent| {
                let start = extent.offset as usize;
                self.files[extent.file as usize][start..start + extent.len as usize].to_vec()
            })
            .collect()
    }

    /// Writes the share as a person would have it on disk.
    pub(crate) fn lay_out(&self, path: &Path) {
        let Some(listing) = &self.content.listing else {
            return std::fs::write(path, &self.files[0]).unwrap();
        };
        std::fs::create_dir(path).unwrap();
        for entry in listing
            .entries()
            .iter()
            .filter(|entry| entry.kind == EntryKind::Dir)
        {
            std::fs::create_dir_all(path.join(entry.path.as_str())).unwrap();
        }
        for (file, bytes) in listing.files().zip(&self.files) {
            let path = path.join(file.path.as_str());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            if file.executable {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }

    /// What is noted of a download of it to `path`.
    pub(crate) fn record(&self, path: PathBuf) -> ShareRecord {
        ShareRecord {
            id: self.content.id,
            kind: self.content.kind,
            secret: None,
            name: self.content.name.as_str().to_owned(),
            path,
            state: ShareState::Downloading,
            manifest: None,
            trackers: Vec::new(),
            identities: None,
            added_unix_ms: 1,
            wish: Wish::default(),
            settled: None,
            placing: Placing::default(),
        }
    }

    /// Where it lies in a folder under its own name.
    pub(crate) fn path_in(&self, folder: &Path) -> PathBuf {
        folder.join(self.content.name.as_str())
    }

    /// Whether exactly these files lie at `path`.
    #[track_caller]
    pub(crate) fn assert_at(&self, path: &Path) {
        let Some(listing) = &self.content.listing else {
            return assert_eq!(std::fs::read(path).unwrap(), self.files[0]);
        };
        for (file, bytes) in listing.files().zip(&self.files) {
            let path = path.join(file.path.as_str());
            assert_eq!(std::fs::read(&path).unwrap(), *bytes, "{}", path.display());
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o100 != 0, file.executable, "{}", path.display());
        }
        for entry in listing
            .entries()
            .iter()
            .filter(|entry| entry.kind == EntryKind::Dir)
        {
            assert!(path.join(entry.path.as_str()).is_dir());
        }
    }
}

/// CVs of the chunks of a file larger than a chunk.
fn cvs(bytes: &[u8]) -> HashList {
    assert_eq!(
        Layout::file(bytes.len() as u64).unwrap().chunk_bytes() as usize,
        CHUNK_BYTES
    );
    if bytes.len() <= CHUNK_BYTES {
        return HashList::new();
    }
    let chunks = (0..).step_by(CHUNK_BYTES).zip(bytes.chunks(CHUNK_BYTES));
    chunks
        .map(|(offset, chunk)| subtree_cv(chunk, offset))
        .collect()
}

/// Bytes that repeat nowhere.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_be_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A run of grains of a chunk, as the files have it.
pub(crate) fn read(
    files: &ShareFiles,
    chunk: ChunkIndex,
    offset: u32,
    len: u32,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    files.read(chunk, offset, len, &mut bytes)?;
    Ok(bytes)
}
