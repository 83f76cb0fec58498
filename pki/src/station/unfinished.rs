//! Bundles on their way: what is needed to finish one whose certificate the ledger has, kept in the
//! station's directory until the bundle was read back. A power cut, or a card that was pulled out,
//! leaves its note.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file::{self, Access, FileError};
use crate::fingerprint::KeyDigest;
use crate::ledger::{Event, IssuedLine, Ledger, LedgerError};
use crate::name::{HardwareSerial, MinionId};

/// A bundle that was begun, and is not known to be whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The minion.
    pub id: MinionId,
    /// The device's hardware serial number.
    pub serial: HardwareSerial,
    /// SHA-256 of its key.
    pub key: KeyDigest,
    /// Whether the key was made on the device, so that the bundle has none.
    pub key_on_device: bool,
    /// The addresses of its masters.
    pub masters: Vec<String>,
    /// Where the bundle is.
    pub out: PathBuf,
}

/// The bundles that [`Station::unfinished`](super::Station::unfinished) has, by the ledger as it lies
/// there: needs no private key, waits for nobody, and verifies and changes nothing.
///
/// # Errors
/// When there is no ledger, or a file cannot be read.
pub fn unfinished(station: &Path) -> Result<Vec<Unfinished>, LedgerError> {
    let mut current: HashMap<MinionId, KeyDigest> = HashMap::new();
    for line in Ledger::lines(station)? {
        match line?.event {
            Event::Issued(IssuedLine { entry, .. }) | Event::Reissued(IssuedLine { entry, .. }) => {
                current.insert(entry.id, entry.key);
            }
            Event::Revoked(line) => {
                current.remove(&line.id);
            }
            // Whoever issued it kept the note, and is gone.
            Event::Adopted(_)
            | Event::Refused(_)
            | Event::Manifest(_)
            | Event::RevocationList(_)
            | Event::Replaced(_) => {}
        }
    }
    let mut notes = Notes::new(station).all()?;
    notes.retain(|note| current.get(&note.id) == Some(&note.key));
    Ok(notes)
}

/// Where the notes are, in a station's directory.
pub(super) const NOTES: &str = "unfinished";

/// The notes.
#[derive(Debug)]
pub(super) struct Notes {
    directory: PathBuf,
}

impl Notes {
    pub(super) fn new(station: &Path) -> Self {
        Self { directory: station.join(NOTES) }
    }

    pub(super) fn write(&self, bundle: &Unfinished) -> Result<(), FileError> {
        file::create_private_directory(&self.directory)?;
        let text = serde_json::to_vec(bundle).map_err(|error| FileError::Io {
            attempted: "note a bundle in",
            path: self.path(&bundle.id),
            // A path that is no text.
            source: error.into(),
        })?;
        file::replace(&self.path(&bundle.id), &text, Access::Private)
    }

    pub(super) fn remove(&self, id: &MinionId) -> Result<(), FileError> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(file::failed("remove", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn find(&self, id: &MinionId) -> Option<Unfinished> {
        let text = file::read(&self.path(id)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Every note, by id. One that cannot be read is none: it was never needed, or is a loss that
    /// the ledger makes good.
    pub(super) fn all(&self) -> Result<Vec<Unfinished>, FileError> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file::failed("read", &self.directory)(error)),
        };
        let mut notes = Vec::new();
        for entry in entries {
            let path = entry.map_err(file::failed("read", &self.directory))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                notes.extend(serde_json::from_slice::<Unfinished>(&file::read(&path)?).ok());
            }
        }
        notes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(notes)
    }

    fn path(&self, id: &MinionId) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }
}
