//! Unix sockets as Drover makes them: in a private directory, where no stale one was left.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The longest path of a unix socket on Linux, in bytes (`sun_path` without its final zero).
pub const PATH_LIMIT: usize = 107;

/// The mode of a directory that nobody else may enter.
const PRIVATE: u32 = 0o700;

/// The mode bit of directories in which everybody may write.
const STICKY: u32 = 0o1000;

/// Why a unix socket could not be made.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The path does not fit into a socket address.
    #[error(
        "the socket path `{path}` has {length} bytes, {PATH_LIMIT} are the most: choose a shorter `run_dir`"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Something answers on it: another process has it.
    #[error("another process listens on `{0}`")]
    InUse(PathBuf),
    /// Something that is not a socket is in the way.
    #[error("`{0}` is in the way, and it is not a socket")]
    NotASocket(PathBuf),
    /// Its directory is one that all users share, such as `/tmp`.
    #[error("the directory `{0}` is shared with other users: choose one of its own")]
    Shared(PathBuf),
    /// Its directory could not be made private.
    #[error("cannot make the directory `{path}` private")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be bound.
    #[error("cannot listen on `{path}`")]
    Bind {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes `directory` if it is missing, and gives it mode 0700. Its parents, such as `/run/drover`, are made for everybody:
/// others have directories there too.
///
/// # Errors
/// If it cannot be made, is not ours, or is shared by all users.
pub fn private_directory(directory: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Directory { path: directory.to_owned(), source };
    if let Some(parents) = directory.parent() {
        std::fs::create_dir_all(parents).map_err(failed)?;
    }
    DirBuilder::new().recursive(true).mode(PRIVATE).create(directory).map_err(failed)?;
    let mode = std::fs::metadata(directory).map_err(failed)?.permissions().mode();
    if mode & STICKY != 0 {
        return Err(SocketError::Shared(directory.to_owned()));
    }
    // Written only where it differs: the disk may be flash.
    if mode & 0o777 == PRIVATE {
        return Ok(());
    }
    std::fs::set_permissions(directory, Permissions::from_mode(PRIVATE)).map_err(failed)
}

/// Binds `path` in its directory, which is made private; a stale socket is removed first.
///
/// The listener goes to `zeromq`'s `bind_listener`, or into tokio.
///
/// # Errors
/// If the path is too long, in use, or cannot be bound.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let length = path.as_os_str().len();
    if length > PATH_LIMIT {
        return Err(SocketError::PathTooLong { path: path.to_owned(), length });
    }
    private_directory(path.parent().unwrap_or(Path::new(".")))?;
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(SocketError::InUse(path.to_owned()));
        }
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_over_107_bytes_is_refused_with_that_reason() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(103)));
        let error = listen(&path).unwrap_err();
        assert!(error.to_string().contains("has 108 bytes, 107 are the most"), "{error}");
    }

    #[test]
    fn the_directory_is_made_private() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().join("run");
        std::fs::create_dir(&run).unwrap();
        std::fs::set_permissions(&run, Permissions::from_mode(0o755)).unwrap();
        listen(&run.join("s")).unwrap();
        assert_eq!(std::fs::metadata(&run).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_others_need_to_pass_through_stays_open_to_them() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777
        };
        std::fs::create_dir(directory.path().join("usual")).unwrap();
        listen(&directory.path().join("drover/master/s")).unwrap();
        assert_eq!((mode("drover"), mode("drover/master")), (mode("usual"), 0o700));
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = listen(&path).unwrap();
        assert!(matches!(listen(&path), Err(SocketError::InUse(_))));
        drop(first);
        listen(&path).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
