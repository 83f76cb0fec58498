//! Whole files that survive a power cut: written beside, flushed, renamed. Whoever reads sees the old or the new one.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Two agents of one data directory would write over each other's journal, and end each other's jobs.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another one holds it.
    #[error("the data directory `{0}` is in use by another agent")]
    InUse(PathBuf),
    /// It cannot be opened or locked.
    #[error("lock the data directory `{path}`")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Locks a directory for as long as the result lives. Writes nothing.
///
/// # Errors
/// When another process has it locked.
pub(crate) fn lock_directory(path: &Path) -> Result<File, LockError> {
    let failed = |source| LockError::Directory { path: path.to_owned(), source };
    let directory = File::open(path).map_err(failed)?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(Errno::WOULDBLOCK) => Err(LockError::InUse(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

/// A file of the data directory that cannot be written or read.
#[derive(Debug, Error)]
pub enum FileError {
    /// Not written; the old one still stands.
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There, and not readable.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Read, and not what was written.
    #[error("`{path}` is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        source: serde_json::Error,
    },
}

/// Writes a file that only its owner reads, and returns when it is on the disk.
///
/// # Errors
/// When it cannot be; the old one still stands.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), FileError> {
    try_write(path, content).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

fn try_write(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.as_file().set_permissions(Permissions::from_mode(0o600))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    sync_directory(directory)
}

/// Makes a directory's entries durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes a directory that only its owner enters, where there is none.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn private_directory(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Writes a value as JSON, but only where the file does not say the same already: flash wears.
///
/// # Errors
/// When it cannot be; the old one still stands.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    let content = serde_json::to_vec(value).map_err(io::Error::from);
    let content = content.map_err(|source| FileError::Write { path: path.to_owned(), source })?;
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    write(path, &content)
}

/// Reads a value that [`write_json`] wrote; `None` where there is none yet.
///
/// # Errors
/// When it cannot be read, or says something else.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(none) if none.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FileError::Read { path: path.to_owned(), source }),
    };
    serde_json::from_slice(&content)
        .map(Some)
        .map_err(|source| FileError::Damaged { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written_and_only_its_owner_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.json");
        assert_eq!(read_json::<Value>(&path).unwrap(), None);
        write_json(&path, &json!({"a": 1})).unwrap();
        assert_eq!(read_json::<Value>(&path).unwrap(), Some(json!({"a": 1})));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_second_agent_does_not_get_the_data_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock_directory(directory.path()).unwrap();
        let second = lock_directory(directory.path());
        assert!(matches!(second, Err(LockError::InUse(_))), "{second:?}");
        drop(first);
        lock_directory(directory.path()).unwrap();
    }

    #[test]
    fn the_same_value_is_not_written_again() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.json");
        write_json(&path, &1).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        write_json(&path, &1).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }
}
