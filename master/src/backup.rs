//! A backup of the whole master in one file: a tar archive that says what it is first, then has the store's copy in
//! parts, the manifests, `pki_dir` and `master.yml`, and last a digest over all of it. It is made while the master runs,
//! sent through the API, and taken back by `drover-master restore` (docs/operations.md).

use drover_pki::MasterName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::store::BrokenCopy;

mod archive;
mod files;
mod make;

pub use archive::{Member, read};
pub use files::{File, Place, below as files_below};
pub use make::{Backups, Busy, Sources};

/// What the names begin with that a restore gives to what it moves aside.
pub const ASIDE: &str = "before-restore-";
/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// What a backup says of itself at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of the archive.
    pub format: u32,
    /// Of the master that made it.
    pub version: String,
    /// That master's name.
    pub name: MasterName,
    /// When it was begun.
    pub created: Timestamp,
}

/// What a backup says of itself at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The newest event in it.
    pub last_seq: u64,
    /// The moment that it shows the master at.
    pub finished: Timestamp,
}

/// A backup that was read to its end, and is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its beginning.
    #[serde(flatten)]
    pub manifest: Manifest,
    /// Its end.
    #[serde(flatten)]
    pub ending: Ending,
    /// Files in it beside the store.
    pub files: usize,
    /// Bytes of its members.
    pub bytes: u64,
}

/// What is wrong with a file that should be a backup.
#[derive(Debug, Error)]
pub enum BackupError {
    /// It cannot be read.
    #[error("read the backup")]
    Read(#[source] std::io::Error),
    /// It begins with something else.
    #[error("this is no backup of a master")]
    Foreign,
    /// What it says of itself cannot be read.
    #[error("read what the backup says of itself")]
    Manifest(#[source] serde_json::Error),
    /// A later version made it.
    #[error("the backup has format {0}, this version reads up to format {FORMAT}")]
    Newer(u32),
    /// It ends too early.
    #[error("the backup is cut off: it has no digest at its end")]
    Cut,
    /// It is not what was written.
    #[error("the backup is damaged: its digest is not that of what it holds")]
    Damaged,
    /// It has a part that no backup has, or has it in another place.
    #[error("the backup has a part `{0}` that does not belong there")]
    Unexpected(String),
    /// Its copy of the store is broken.
    #[error(transparent)]
    Store(#[from] BrokenCopy),
    /// The master did not come to its end, and said why.
    #[error("the master could not finish the backup: {0}")]
    Unfinished(String),
}

impl BackupError {
    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Read(_) => "see whether the disk can be read",
            Self::Foreign | Self::Manifest(_) | Self::Unexpected(_) => {
                "name a file that `drover backup` made"
            }
            Self::Newer(_) | Self::Store(BrokenCopy::Newer(_)) => {
                "install the version that made it, or a later one"
            }
            Self::Cut | Self::Damaged | Self::Store(_) => "take another backup",
            Self::Unfinished(_) => "take it again, to a faster disk or when less happens",
        }
    }
}
