//! Where SLS files, templates and sources come from: environments of files, addressed by relative
//! paths. The minion's cache and a master's file roots both stand behind [`FileSource`].

use std::sync::Arc;

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
