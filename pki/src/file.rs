//! Identity files on disk: keys in mode 0600, every file whole or absent (written beside, synced,
//! renamed), none overwritten unasked. For the station's tool, the master and the minion alike.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use tempfile::NamedTempFile;

use crate::certificate::{Certificate, Unreadable};
use crate::key::{KeyError, PrivateKey};
use crate::pem_text::{PemError, decode_certificates};
use crate::verify::{AnchorError, TrustAnchors};

/// What the names of files begin with that are not whole yet.
const STAGED: &str = ".drover-";

/// Why an identity file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("could not {attempted} `{}`", path.display())]
    Io {
        /// What was attempted, such as `read`.
        attempted: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is there already, and would have been overwritten.
    #[error("`{}` exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It holds no certificates.
    #[error("`{}` cannot be used as certificates", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PemError,
    },
    /// It holds no usable key.
    #[error("`{}` cannot be used as a private key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// It holds no usable roots.
    #[error("`{}` cannot be used as the trusted root", path.display())]
    Anchors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: AnchorError,
    },
    /// Its first certificate cannot be read.
    #[error("`{}` holds a certificate that cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Unreadable,
    },
    /// Certificate and key are not a pair.
    #[error("`{}` is not the key of the certificate in `{}`", key.display(), certificate.display())]
    NoPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its owner: mode 0600.
    Private,
    /// Everybody: mode 0644.
    Public,
}

/// A certificate chain and its key: what a TLS end shows.
#[derive(Debug)]
pub struct Identity {
    /// The leaf, then its issuing authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKey,
}

impl Identity {
    /// Reads a pair such as `idevid.crt` and `idevid.key`, and checks that it is one.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, FileError> {
        let chain = read_certificates(certificate)?;
        let read = Certificate::read(&chain[0])
            .map_err(|source| FileError::Unreadable { path: certificate.to_owned(), source })?;
        let private = read_key(key)?;
        if read.key == private.public().digest() {
            Ok(Self { chain, key: private })
        } else {
            Err(FileError::NoPair { certificate: certificate.to_owned(), key: key.to_owned() })
        }
    }
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(failed("read", path))
}

/// Reads the certificates in a PEM file; there is at least one.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let path_of = |source| FileError::Certificates { path: path.to_owned(), source };
    decode_certificates(&read(path)?).map_err(path_of)
}

/// Reads an unencrypted private key.
pub fn read_key(path: &Path) -> Result<PrivateKey, FileError> {
    let text = zeroize::Zeroizing::new(read(path)?);
    PrivateKey::from_pem(&text).map_err(|source| FileError::Key { path: path.to_owned(), source })
}

/// Reads the roots to trust, such as `root.crt`.
pub fn read_anchors(path: &Path) -> Result<TrustAnchors, FileError> {
    let text = read(path)?;
    TrustAnchors::from_pem(&text)
        .map_err(|source| FileError::Anchors { path: path.to_owned(), source })
}

/// A file that is whole and synced, beside the place that it is for; gone if it does not take it.
#[derive(Debug)]
pub(crate) struct Staged<'a> {
    path: &'a Path,
    file: NamedTempFile,
}

impl<'a> Staged<'a> {
    pub(crate) fn new(path: &'a Path, bytes: &[u8], access: Access) -> Result<Self, FileError> {
        let file = write_beside(path, bytes, access)?;
        file.as_file().sync_all().map_err(failed("write", path))?;
        Ok(Self { path, file })
    }

    /// Takes its place, if that is free.
    pub(crate) fn create(self) -> Result<(), FileError> {
        let path = self.path;
        self.file.persist_noclobber(path).map_err(|error| {
            if error.error.kind() == io::ErrorKind::AlreadyExists {
                FileError::Exists { path: path.to_owned() }
            } else {
                failed("write", path)(error.error)
            }
        })?;
        sync_directory(directory(path))
    }

    /// Takes its place, whatever lies there.
    fn replace(self) -> Result<(), FileError> {
        self.file.persist(self.path).map_err(|error| failed("write", self.path)(error.error))?;
        sync_directory(directory(self.path))
    }
}

/// Writes a file that does not exist yet: whole, or not at all.
pub fn create(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    Staged::new(path, bytes, access)?.create()
}

/// Writes a file, in the place of one that may exist: at any moment there is the old one or the new.
pub fn replace(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    Staged::new(path, bytes, access)?.replace()
}

/// Writes a file that can be made again at any time, so nothing is synced for it: whole, or not at
/// all, and where a link lies, in the link's place.
#[cfg(feature = "station")]
pub fn replace_unsynced(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    let written = write_beside(path, bytes, access)?;
    written.persist(path).map(drop).map_err(|error| failed("write", path)(error.error))
}

/// Copies a file, whole or not at all. What was read is zeroed: it may be a key.
pub fn copy(from: &Path, to: &Path, access: Access) -> Result<(), FileError> {
    replace(to, &zeroize::Zeroizing::new(read(from)?), access)
}

/// Makes a directory for its owner alone, and those above it as usual; one that exists is kept.
pub fn create_private_directory(path: &Path) -> Result<(), FileError> {
    make_directory(path, 0o700)
}

fn make_directory(path: &Path, mode: u32) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = directory(path);
    make_directory(parent, 0o755)?;
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(failed("make the directory", path)),
    }?;
    // A key is no safer than the name of the directory that it lies in.
    sync_directory(parent)
}

/// Makes sure that names which were just given survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))
}

pub(crate) fn failed(
    attempted: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |source| FileError::Io { attempted, path, source }
}

/// Takes away what a killed program was just writing in a directory that nobody else writes to now.
#[cfg(feature = "station")]
pub(crate) fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(STAGED) {
            // What stays is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn write_beside(path: &Path, bytes: &[u8], access: Access) -> Result<NamedTempFile, FileError> {
    // A temporary file has mode 0600 from its first moment.
    let staged = tempfile::Builder::new().prefix(STAGED).tempfile_in(directory(path));
    let mut staged = staged.map_err(failed("write", path))?;
    let written = staged.write_all(bytes).and_then(|()| match access {
        Access::Private => Ok(()),
        Access::Public => open_to_all(staged.as_file()),
    });
    written.map_err(failed("write", path))?;
    Ok(staged)
}

/// A card with FAT refuses modes that it cannot show. Who reads it is then settled where it is mounted,
/// and it is an error nowhere else.
fn open_to_all(file: &File) -> io::Result<()> {
    match file.set_permissions(Permissions::from_mode(0o644)) {
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied
                && has_no_modes(file.metadata()?.permissions().mode()) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Whether a file system keeps no modes, by what it shows of a file that was just made for its owner
/// alone.
fn has_no_modes(shown: u32) -> bool {
    shown & 0o777 != 0o600
}

/// The directory that a path lies in; `.` for a bare name.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_is_private_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.key");
        create(&path, b"one", Access::Private).unwrap();
        assert_eq!(mode(&path), 0o600);
        let refusal = create(&path, b"two", Access::Private).unwrap_err();
        assert!(matches!(refusal, FileError::Exists { .. }));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three", Access::Public).unwrap();
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (0o644, b"three".to_vec()));
        // Nothing is left beside it.
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_card_that_keeps_no_modes_is_known_by_a_file_made_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let made = NamedTempFile::new_in(directory.path()).unwrap();
        let shown = made.as_file().metadata().unwrap().permissions().mode();
        assert!(!has_no_modes(shown), "{shown:o}");
        // As FAT shows it, by its fmask.
        assert!([0o100_755, 0o100_777, 0o100_700].into_iter().all(has_no_modes));
        open_to_all(made.as_file()).unwrap();
        assert_eq!(mode(made.path()), 0o644);
    }

    #[test]
    fn directories_are_made_private_below_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c");
        create_private_directory(&path).unwrap();
        create_private_directory(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        fs::write(directory.path().join("file"), b"").unwrap();
        create_private_directory(&directory.path().join("file")).unwrap_err();
    }

    #[test]
    fn a_certificate_with_another_ones_key_is_no_identity() {
        let directory = tempfile::tempdir().unwrap();
        let (crt, key) = (directory.path().join("a.crt"), directory.path().join("a.key"));
        let now = jiff::Timestamp::constant(1_800_000_000, 0);
        let (fleet, private) = ("acme".parse().unwrap(), PrivateKey::generate().unwrap());
        let text = private.to_pem();
        let root = crate::Authority::create_root_with(&fleet, private, now).unwrap();
        let pem = crate::pem_text::encode_certificates(&[root.der().clone()]);
        create(&crt, pem.as_bytes(), Access::Public).unwrap();
        replace(&key, text.as_bytes(), Access::Private).unwrap();
        assert_eq!(Identity::load(&crt, &key).unwrap().chain, [root.der().clone()]);
        let other = PrivateKey::generate().unwrap();
        replace(&key, other.to_pem().as_bytes(), Access::Private).unwrap();
        assert!(matches!(Identity::load(&crt, &key), Err(FileError::NoPair { .. })));
    }
}
