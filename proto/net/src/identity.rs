//! The Ed25519 key that a peer or a tracker is, and the file it is kept in.
//!
//! [`Identity::load_or_create`] makes the key on the first start and reads it ever after. A file
//! that is damaged or readable by others is refused and never replaced: a new key would be a new
//! peer to everyone else, and that is for a person to decide.
//!
//! Not here: what the key signs (`tls`), and how it is named and pinned (`warren_proto::id`).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use ring::hmac;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use warren_proto::id::PublicKey;

/// The name in every certificate and in SNI. It identifies nobody; a constant tells an observer
/// nothing.
pub(crate) const CERTIFICATE_NAME: &str = "warren";

/// Largest key file read: an Ed25519 key in PEM is 200 bytes or less.
const KEY_FILE_BYTES: u64 = 4096;

/// The bits that all ports of the dynamic range have.
const DYNAMIC_PORTS: u16 = 0xc000;

/// Who this process is: an Ed25519 key pair and its self-signed certificate.
///
/// A clone is the same identity.
#[derive(Clone)]
pub struct Identity {
    key: Arc<KeyPair>,
    certificate: CertificateDer<'static>,
}

/// Why there is no identity to run under.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key file could not be read or written.
    #[error("cannot use the key file {}", path.display())]
    Io {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key file can be read by other users, so the key may be known to them.
    #[error("the key file {} is readable by others (mode {mode:03o})", path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file holds something that is not an Ed25519 key in PKCS#8 PEM.
    #[error("the key file {} is damaged", path.display())]
    Damaged {
        /// The key file.
        path: PathBuf,
    },
    /// The key could not be generated or its certificate not signed.
    #[error("cannot make a key or its certificate")]
    Crypto(#[from] rcgen::Error),
}

impl IdentityError {
    /// What the person can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } | Self::Crypto(_) => None,
            Self::Exposed { path, .. } => Some(format!(
                "If nobody else could have read it: chmod 600 {}",
                path.display()
            )),
            Self::Damaged { path } => Some(format!(
                "Restore {0} from a backup. Or move it away to start under a new key, which \
                 everyone who pinned the old one will have to accept.",
                path.display()
            )),
        }
    }
}

impl Identity {
    /// Makes a new key that is kept nowhere.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, IdentityError> {
        Self::from_key(KeyPair::generate_for(&PKCS_ED25519)?)
    }

    /// Reads the key at `path`; makes it, mode 0600, if there is no such file.
    ///
    /// Folders above it are made with mode 0700. Two processes that start at once end up with the
    /// same key.
    ///
    /// # Errors
    ///
    /// When the file is damaged or others can read it, and when the file system refuses.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match load(path) {
            Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                create(path)?;
                load(path)
            }
            loaded => loaded,
        }
    }

    /// The public half: our name towards everyone else.
    pub fn public_key(&self) -> PublicKey {
        let raw = self.key.public_key_raw();
        PublicKey(
            raw.try_into()
                .expect("an Ed25519 public key has 32 bytes, checked in from_key"),
        )
    }

    /// The self-signed certificate to present.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The private half, for rustls.
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// A port that is ours more than another's: the same each time, from the range that is nobody's
    /// (49152 to 65535, RFC 6335 §6). Nobody can tell it from the public key.
    pub fn usual_port(&self) -> u16 {
        let [high, low, ..] = self.derive("warren port v1", 0);
        DYNAMIC_PORTS | u16::from_be_bytes([high, low])
    }

    /// A key of our own for one purpose, the same for as long as our key is, which tells nothing of
    /// that: HMAC-SHA256 under the private key, of the purpose and, for one of several things, the
    /// number of that.
    pub(crate) fn derive(&self, purpose: &str, number: u16) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key.serialize_der());
        let mut context = hmac::Context::with_key(&key);
        context.update(purpose.as_bytes());
        context.update(&number.to_be_bytes());
        let mut derived = [0; 32];
        derived.copy_from_slice(context.sign().as_ref());
        derived
    }

    fn from_key(key: KeyPair) -> Result<Self, IdentityError> {
        if key.public_key_raw().len() != 32 {
            return Err(rcgen::Error::UnsupportedSignatureAlgorithm.into());
        }
        let params = CertificateParams::new(vec![CERTIFICATE_NAME.to_owned()])?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self {
            key: Arc::new(key),
            certificate,
        })
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.public_key()).finish()
    }
}

fn load(path: &Path) -> Result<Identity, IdentityError> {
    let failed = |source| IdentityError::Io {
        path: path.to_owned(),
        source,
    };
    let damaged = || IdentityError::Damaged {
        path: path.to_owned(),
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    if !metadata.is_file() || metadata.len() > KEY_FILE_BYTES {
        return Err(damaged());
    }
    let pem = io::read_to_string(file).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => damaged(),
        _ => failed(error),
    })?;
    let key = KeyPair::from_pem(&pem).map_err(|_| damaged())?;
    if !key.is_compatible(&PKCS_ED25519) {
        return Err(damaged());
    }
    Identity::from_key(key)
}

/// Writes a new key so that a crash leaves either no file at `path` or a whole one.
fn create(path: &Path) -> Result<(), IdentityError> {
    let pem = KeyPair::generate_for(&PKCS_ED25519)?.serialize_pem();
    write_new(path, pem.as_bytes()).map_err(|source| IdentityError::Io {
        path: path.to_owned(),
        source,
    })
}

fn write_new(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let temporary = folder.join(format!(".key-{}.tmp", std::process::id()));
    let written = write_synced(&temporary, contents).and_then(|()| rename_new(&temporary, path));
    if written.is_err() {
        // The error that matters is the one already in hand.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Renames unless the target exists by now: then another process was first and its key stands.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => fs::remove_file(from),
        // Not every file system knows the flag.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::rename(from, to),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept_private() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("deep/down/key");
        let made = Identity::load_or_create(&path).unwrap().public_key();
        assert_eq!(Identity::load_or_create(&path).unwrap().public_key(), made);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary left"
        );
    }

    #[test]
    fn what_is_derived_of_a_key_stays_with_it_and_is_no_other_keys() {
        let folder = tempfile::tempdir().unwrap();
        let load = |name| Identity::load_or_create(&folder.path().join(name)).unwrap();
        let (first, again, other) = (load("a"), load("a"), load("b"));
        assert_eq!(first.usual_port(), again.usual_port());
        assert!(first.usual_port() >= 49_152);
        assert_eq!(first.derive("one", 1), again.derive("one", 1));
        let others = [
            first.derive("one", 2),
            first.derive("two", 1),
            other.derive("one", 1),
        ];
        assert!(!others.contains(&first.derive("one", 1)));
    }

    #[test]
    fn a_damaged_key_is_refused_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        Identity::load_or_create(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for damage in [&whole[..0], &whole[..whole.len() / 2], b"\xff\xfe" as &[u8]] {
            fs::write(&path, damage).unwrap();
            assert!(matches!(
                Identity::load_or_create(&path),
                Err(IdentityError::Damaged { .. })
            ));
            assert_eq!(fs::read(&path).unwrap(), damage);
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        Identity::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Identity::load_or_create(&path).unwrap_err();
        assert!(matches!(
            refused,
            IdentityError::Exposed { mode: 0o640, .. }
        ));
        assert!(refused.hint().unwrap().contains("chmod 600"));
    }

    #[test]
    fn another_kind_of_key_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        write_new(&path, other.serialize_pem().as_bytes()).unwrap();
        assert!(matches!(
            Identity::load_or_create(&path),
            Err(IdentityError::Damaged { .. })
        ));
    }
}
