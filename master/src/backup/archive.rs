//! The archive: a tar file, so that anybody can look into it, whose last member is the SHA-256 of the ones before it.

use std::io::{self, Read, Write};

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use tar::{Archive, Builder, EntryType, Header};

use super::{BackupError, Ending, FORMAT, File, Manifest, Place, Summary};
use crate::store::CopyCheck;

const MANIFEST: &str = "drover-backup.json";
const STORE: &str = "store/";
const ENDING: &str = "drover-backup.end.json";
const UNFINISHED: &str = "drover-backup.unfinished";
const DIGEST: &str = "drover-backup.sha256";
/// The longest member: a part of the store with all that may wait to go along.
const LONGEST: u64 = 256 << 20;
const PRIVATE: u32 = 0o600;

/// Writes an archive, member by member.
pub(super) struct ArchiveWriter<W: Write> {
    tar: Builder<W>,
    digest: Context,
    created: Timestamp,
    parts: u64,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn begin(out: W, manifest: &Manifest) -> io::Result<Self> {
        let created = manifest.created;
        let mut archive =
            Self { tar: Builder::new(out), digest: Context::new(&SHA256), created, parts: 0 };
        archive.member(MANIFEST, PRIVATE, &json(manifest))?;
        Ok(archive)
    }

    /// The next part of the store's copy.
    pub(super) fn store(&mut self, part: &[u8]) -> io::Result<()> {
        self.member(&store_name(self.parts), PRIVATE, part)?;
        self.parts += 1;
        Ok(())
    }

    pub(super) fn file(&mut self, file: &File) -> io::Result<()> {
        let path = file.place.path();
        let name = path.to_str().ok_or_else(|| io::Error::other("a file's name is not UTF-8"))?;
        self.member(name, file.mode, &file.content)
    }

    /// Writes the end.
    pub(super) fn finish(mut self, ending: Ending) -> io::Result<()> {
        self.member(ENDING, PRIVATE, &json(&ending))?;
        let digest = hex(self.digest.clone());
        self.member(DIGEST, PRIVATE, format!("{digest}\n").as_bytes())?;
        self.tar.into_inner()?.flush()
    }

    /// Ends an archive that is not whole, and says why.
    pub(super) fn give_up(mut self, reason: &str) -> io::Result<()> {
        self.member(UNFINISHED, PRIVATE, reason.as_bytes())?;
        self.tar.into_inner()?.flush()
    }

    fn member(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_path(name)?;
        header.set_mode(mode);
        header.set_entry_type(EntryType::Regular);
        header.set_size(content.len() as u64);
        header.set_mtime(u64::try_from(self.created.as_second()).unwrap_or(0));
        header.set_cksum();
        update(&mut self.digest, &header, content);
        self.tar.append(&header, content)
    }
}

/// A part of a backup.
#[derive(Debug)]
pub enum Member {
    /// The next part of the store's copy.
    Store(Vec<u8>),
    /// A file.
    File(File),
}

/// Reads a backup to its end and hands out what is in it, as it comes: only the summary says that it is whole.
///
/// # Errors
/// When it is no whole backup, or whoever takes the members fails.
pub fn read<E: From<BackupError>>(
    input: impl Read,
    mut take: impl FnMut(Member) -> Result<(), E>,
) -> Result<Summary, E> {
    let mut reading = Reading::default();
    let mut archive = Archive::new(input);
    let entries = archive.entries().map_err(BackupError::Read)?;
    for entry in entries {
        let mut entry = entry.map_err(|error| reading.broken(error))?;
        let header = entry.header().clone();
        let path = entry.path().map_err(BackupError::Read)?.into_owned();
        let name = path.to_string_lossy().into_owned();
        if header.entry_type() != EntryType::Regular || entry.size() > LONGEST {
            return Err(reading.unexpected(name).into());
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|error| reading.broken(error))?;
        if content.len() as u64 != entry.size() {
            return Err(BackupError::Cut.into());
        }
        if let Some(member) = reading.member(name, &header, content)? {
            take(member)?;
        }
    }
    Ok(reading.finish()?)
}

/// What has been read.
struct Reading {
    digest: Context,
    manifest: Option<Manifest>,
    parts: u64,
    files: usize,
    bytes: u64,
    copy: CopyCheck,
    ending: Option<Ending>,
    is_whole: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            digest: Context::new(&SHA256),
            manifest: None,
            parts: 0,
            files: 0,
            bytes: 0,
            copy: CopyCheck::default(),
            ending: None,
            is_whole: false,
        }
    }
}

impl Reading {
    fn member(
        &mut self,
        name: String,
        header: &Header,
        content: Vec<u8>,
    ) -> Result<Option<Member>, BackupError> {
        if self.is_whole {
            return Err(self.unexpected(name));
        }
        if name == DIGEST && self.ending.is_some() {
            self.is_whole = content.trim_ascii() == hex(self.digest.clone()).as_bytes();
            return if self.is_whole { Ok(None) } else { Err(BackupError::Damaged) };
        }
        update(&mut self.digest, header, &content);
        self.bytes += content.len() as u64;
        if self.manifest.is_none() {
            if name != MANIFEST {
                return Err(BackupError::Foreign);
            }
            self.begin(&content)?;
            return Ok(None);
        }
        if name == UNFINISHED {
            return Err(BackupError::Unfinished(String::from_utf8_lossy(&content).into_owned()));
        }
        if self.ending.is_some() {
            return Err(self.unexpected(name));
        }
        if name == ENDING {
            self.ending = Some(serde_json::from_slice(&content).map_err(BackupError::Manifest)?);
            return Ok(None);
        }
        if name.starts_with(STORE) {
            if name != store_name(self.parts) {
                return Err(self.unexpected(name));
            }
            self.parts += 1;
            self.copy.handle_part(&content)?;
            return Ok(Some(Member::Store(content)));
        }
        let Some(place) = Place::of(name.as_ref()) else { return Err(self.unexpected(name)) };
        self.files += 1;
        let mode = header.mode().map_err(BackupError::Read)? & 0o7777;
        Ok(Some(Member::File(File { place, mode, content })))
    }

    fn begin(&mut self, content: &[u8]) -> Result<(), BackupError> {
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        // A later format may have another manifest.
        let Format { format } = serde_json::from_slice(content).map_err(BackupError::Manifest)?;
        if format > FORMAT {
            return Err(BackupError::Newer(format));
        }
        self.manifest = Some(serde_json::from_slice(content).map_err(BackupError::Manifest)?);
        Ok(())
    }

    fn unexpected(&self, name: String) -> BackupError {
        match self.manifest {
            Some(_) => BackupError::Unexpected(name),
            None => BackupError::Foreign,
        }
    }

    fn broken(&self, error: io::Error) -> BackupError {
        match (&self.manifest, error.kind()) {
            (Some(_), io::ErrorKind::UnexpectedEof) => BackupError::Cut,
            // What tar finds in its headers.
            (Some(_), io::ErrorKind::Other | io::ErrorKind::InvalidData) => BackupError::Damaged,
            (None, io::ErrorKind::Other | io::ErrorKind::UnexpectedEof) => BackupError::Foreign,
            _ => BackupError::Read(error),
        }
    }

    fn finish(self) -> Result<Summary, BackupError> {
        let (Some(manifest), Some(ending)) = (self.manifest.clone(), self.ending) else {
            return Err(if self.manifest.is_some() {
                BackupError::Cut
            } else {
                BackupError::Foreign
            });
        };
        if !self.is_whole {
            return Err(BackupError::Cut);
        }
        self.copy.finish()?;
        Ok(Summary { manifest, ending, files: self.files, bytes: self.bytes })
    }
}

fn store_name(part: u64) -> String {
    format!("{STORE}{part:08}")
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("a manifest has a JSON form");
    text.push(b'\n');
    text
}

/// Of each member the header and the content; what tar puts between them means nothing.
fn update(digest: &mut Context, header: &Header, content: &[u8]) {
    digest.update(header.as_bytes());
    digest.update(content);
}

fn hex(digest: Context) -> String {
    digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
