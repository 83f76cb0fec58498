//! Where SLS files, templates and sources come from: environments of files, addressed by relative
//! paths. The minion's cache and a master's file roots both stand behind [`FileSource`].

use std::sync::Arc;

pub mod memory;
mod roots;

pub use roots::DirectoryRoots;

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is no such file in that environment.
    #[error("no file `{path}` in environment `{saltenv}`")]
    NotFound {
        /// The environment.
        saltenv: String,
        /// The path asked for.
        path: String,
    },
    /// The path leaves the file roots.
    #[error("`{path}` leads outside the file roots")]
    Outside {
        /// The path asked for.
        path: String,
    },
    /// It is there and cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The path asked for.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Files by environment and relative path (`rfid/init.sls`), without `salt://`.
pub trait FileSource: Send + Sync {
    /// A file's content.
    ///
    /// # Errors
    /// See [`FileError`].
    fn read(&self, saltenv: &str, path: &str) -> Result<Arc<[u8]>, FileError>;

    /// Every file of an environment, sorted.
    ///
    /// # Errors
    /// See [`FileError`].
    fn list(&self, saltenv: &str) -> Result<Vec<String>, FileError>;

    /// The environments there are, sorted.
    fn environments(&self) -> Vec<String>;
}

/// A path of a `salt://` address, or of a plain name, cleaned: relative, and never upwards.
///
/// # Errors
/// [`FileError::Outside`] for absolute paths and those with `..`.
pub fn relative(path: &str) -> Result<String, FileError> {
    let path = path.strip_prefix("salt://").unwrap_or(path);
    let outside = || FileError::Outside { path: path.to_owned() };
    if path.starts_with('/') || path.contains(['\\', '\0']) {
        return Err(outside());
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(outside()),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
