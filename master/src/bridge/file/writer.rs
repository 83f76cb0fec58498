//! The open file: adds lines and syncs them, and notices that somebody renamed or removed it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use thiserror::Error;
use uuid::Uuid;

use super::{recovery, rotation::Rotation};

/// Events are no business of every user's: a new file is its group's to read, and nobody else's.
pub(super) const MODE: u32 = 0o640;

/// Why lines were not written. The batch is tried again.
#[derive(Debug, Error)]
pub enum FileError {
    /// The directory cannot be made.
    #[error("cannot make the directory of `{path}`")]
    Directory {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file cannot be opened or read.
    #[error("cannot open `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The full file cannot be put aside.
    #[error("cannot rotate `{path}`")]
    Rotate {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The disk is full, or broken.
    #[error("cannot write to `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// An event's line.
#[derive(Debug)]
pub(super) struct Line {
    /// The event.
    pub(super) id: Uuid,
    /// The line, without its end.
    pub(super) text: String,
}

/// Adds lines to a file.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    /// Whether lines tell their events' ids.
    has_id: bool,
    rotation: Option<Rotation>,
    /// Held while full files are packed: they keep their numbers meanwhile.
    packing: Arc<Mutex<()>>,
    open: Option<Open>,
    /// Whether the next lines may be there: after the start, and after an error.
    is_uncertain: bool,
}

/// Full files that are to be packed.
#[derive(Debug)]
pub(super) struct Packing {
    rotation: Rotation,
    path: PathBuf,
    lock: Arc<Mutex<()>>,
}

impl Packing {
    /// Packs them, which may take seconds.
    pub(super) fn run(self) -> io::Result<()> {
        let _files = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.rotation.pack(&self.path)
    }
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Which file it is, to notice that another one has its name now.
    inode: (u64, u64),
}

impl Writer {
    /// Whose directory is made when it is needed.
    pub(super) fn new(path: PathBuf, has_id: bool, rotation: Option<Rotation>) -> Self {
        let packing = Arc::default();
        Self { path, has_id, rotation, packing, open: None, is_uncertain: true }
    }

    /// Lines that are there are wanted again.
    pub(super) const fn handle_replay(&mut self) {
        self.is_uncertain = false;
    }

    /// Adds those lines that are not there yet, and syncs them. Returns what there is to pack, by a thread that has time.
    pub(super) fn append(&mut self, lines: &[Line]) -> Result<Option<Packing>, FileError> {
        if lines.is_empty() {
            return Ok(None);
        }
        let path = self.path.clone();
        let packing = self.rotate()?;
        let open = self.open()?;
        let mut bytes = Vec::new();
        for line in self.missing(lines, &path)? {
            bytes.extend_from_slice(line.text.trim_end_matches('\n').as_bytes());
            bytes.push(b'\n');
        }
        // The cursor moves only after this: what it says is on the disk.
        let written = (&open).write_all(&bytes).and_then(|()| open.sync_data());
        self.is_uncertain = written.is_err();
        written.map_err(|source| {
            // A part may be there; opening it again finds out which.
            self.open = None;
            FileError::Write { path, source }
        })?;
        Ok(packing)
    }

    /// Puts a full file aside. What an earlier run left unpacked is packed too.
    fn rotate(&mut self) -> Result<Option<Packing>, FileError> {
        let Some(rotation) = self.rotation else { return Ok(None) };
        let is_full = self.open()?.metadata().is_ok_and(|file| file.len() >= rotation.max_bytes);
        if !is_full && !self.is_uncertain {
            return Ok(None);
        }
        let packing = Packing { rotation, path: self.path.clone(), lock: self.packing.clone() };
        if is_full {
            let _files = self.packing.lock().unwrap_or_else(PoisonError::into_inner);
            self.open = None;
            rotation
                .rotate(&self.path)
                .map_err(|source| FileError::Rotate { path: self.path.clone(), source })?;
        }
        Ok(Some(packing))
    }

    /// What of these lines is not in the file.
    fn missing<'a>(&self, lines: &'a [Line], path: &Path) -> Result<Vec<&'a Line>, FileError> {
        if !self.is_uncertain || !self.has_id {
            return Ok(lines.iter().collect());
        }
        let wanted = lines.iter().map(|line| line.id).collect();
        let there = recovery::find(path, wanted)
            .map_err(|source| FileError::Open { path: path.to_owned(), source })?;
        Ok(lines.iter().filter(|line| !there.contains(&line.id)).collect())
    }

    /// The file that has the name now: a rotated or removed one is let go.
    fn open(&mut self) -> Result<File, FileError> {
        let is_same = |open: &Open| {
            fs::metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == open.inode)
        };
        let open = match self.open.take().filter(is_same) {
            Some(open) => open,
            None => open(&self.path)?,
        };
        let failed = |source| FileError::Open { path: self.path.clone(), source };
        self.open.insert(open).file.try_clone().map_err(failed)
    }
}

fn open(path: &Path) -> Result<Open, FileError> {
    let failed = |source| FileError::Open { path: path.to_owned(), source };
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory {
        fs::create_dir_all(directory)
            .map_err(|source| FileError::Directory { path: path.to_owned(), source })?;
    }
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(MODE);
    let mut file = options.open(path).map_err(failed)?;
    if is_new && let Some(directory) = directory {
        // The name of a new file is durable with its directory.
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    }
    recovery::end_last_line(&mut file).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    Ok(Open { file, inode: (metadata.dev(), metadata.ino()) })
}
