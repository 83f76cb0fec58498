//! Files of a bounded size: the full one is `events.ndjson.1`, older ones `.2` and so on, packed as `.2.gz`. A crash at any
//! point loses none of them: what was begun is ended with the next rotation.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use drover_states::{diagnostic::Diagnostic, settings::Settings};
use flate2::{Compression, write::GzEncoder};

use super::writer::MODE;

/// When a file is full, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rotation {
    /// A file of so many bytes is full.
    pub(super) max_bytes: u64,
    /// So many full files are kept.
    pub(super) keep: u32,
    /// Whether they are packed.
    pub(super) compress: bool,
}

impl Rotation {
    /// Reads `max_bytes`, `keep` and `compress`.
    pub(super) fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        Ok(Self {
            max_bytes: settings.size("max_bytes")?.unwrap_or(100 << 20),
            keep: settings.count("keep")?.unwrap_or(7),
            compress: settings.flag("compress")?.unwrap_or(true),
        })
    }

    /// Gives the full file its number, and every older one the next. Those past the last one go.
    pub(super) fn rotate(&self, path: &Path) -> io::Result<()> {
        // Up to the first number that nobody has: a crash in between leaves one free, and no file without a number.
        let free = (1..).find(|number| existing(path, *number).is_empty()).unwrap_or(1);
        for number in (1..free).rev() {
            for file in existing(path, number) {
                if number >= self.keep {
                    fs::remove_file(file.place(path, number))?;
                } else {
                    fs::rename(file.place(path, number), file.place(path, number + 1))?;
                }
            }
        }
        if self.keep == 0 {
            fs::remove_file(path)?;
        } else {
            fs::rename(path, Form::Plain.place(path, 1))?;
        }
        sync_directory(path)
    }

    /// Packs the full files that are not packed yet.
    pub(super) fn pack(&self, path: &Path) -> io::Result<()> {
        if !self.compress {
            return Ok(());
        }
        for number in 1..=self.keep {
            let plain = Form::Plain.place(path, number);
            if !plain.exists() {
                continue;
            }
            let packed = Form::Packed.place(path, number);
            if !packed.exists() {
                let part = with_end(&packed, ".part");
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(MODE);
                let file = BufWriter::new(options.open(&part)?);
                let mut packer = GzEncoder::new(file, Compression::default());
                io::copy(&mut BufReader::new(File::open(&plain)?), &mut packer)?;
                let mut file = packer.finish()?;
                file.flush()?;
                file.get_ref().sync_all()?;
                fs::rename(part, &packed)?;
                sync_directory(path)?;
            }
            // The whole of it is packed and on the disk.
            fs::remove_file(plain)?;
        }
        Ok(())
    }
}

/// How a full file lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Packed,
}

impl Form {
    pub(super) fn place(self, path: &Path, number: u32) -> PathBuf {
        match self {
            Self::Plain => with_end(path, &format!(".{number}")),
            Self::Packed => with_end(path, &format!(".{number}.gz")),
        }
    }
}

/// In which forms the file of a number is there; in both while it is packed.
pub(super) fn existing(path: &Path, number: u32) -> Vec<Form> {
    let is_there = |form: &Form| form.place(path, number).exists();
    [Form::Plain, Form::Packed].into_iter().filter(is_there).collect()
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A name is durable with its directory.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
