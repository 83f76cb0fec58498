//! The station's ledger: an append-only file with a line for each certificate issued and each
//! manifest exported. It is the station's memory, so a line is on disk before its deed counts.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::file::{FileError, failed};
use crate::fingerprint::KeyDigest;
use crate::manifest::ManifestEntry;
use crate::name::{HardwareSerial, MinionId};

mod words;

pub use words::{Actor, Reason, WordsError};

/// Why the ledger could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line that this program did not write.
    #[error("line {line} of `{}` cannot be read", path.display())]
    Line {
        /// The ledger.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// A certificate that the station issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedLine {
    /// What a manifest says of it.
    #[serde(flatten)]
    pub entry: ManifestEntry,
    /// The certificate itself, so that a bundle which a power cut left half-written can be finished.
    #[serde(with = "der")]
    pub der: CertificateDer<'static>,
}

/// A manifest that the station exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestLine {
    /// Its number.
    pub number: u64,
    /// Whether it had everything.
    pub all: bool,
    /// When it was made.
    pub created: Timestamp,
    /// How many devices it lists.
    pub minions: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line {
    Issued(IssuedLine),
    Manifest(ManifestLine),
}

/// The open ledger. While it is open, nobody else has it.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    issued: Vec<IssuedLine>,
    /// How many of `issued` are in some manifest.
    exported: usize,
    last_number: u64,
}

impl Ledger {
    /// Opens a ledger, or makes an empty one; waits while another process has it.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let mut file = file.map_err(failed("open", path))?;
        file.lock().map_err(failed("lock", path))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed("read", path))?;

        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            // A power cut left half a line. It was never synced, so nothing was done upon it.
            let length = u64::try_from(whole).unwrap_or(u64::MAX);
            file.set_len(length).map_err(failed("repair", path))?;
            file.seek(SeekFrom::End(0)).map_err(failed("repair", path))?;
        }
        let path = path.to_owned();
        let mut ledger = Self { path, file, issued: Vec::new(), exported: 0, last_number: 0 };
        for (index, line) in text[..whole].split(|&byte| byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let line = serde_json::from_slice(line).map_err(|source| LedgerError::Line {
                path: ledger.path.clone(),
                line: index + 1,
                source,
            })?;
            ledger.remember(line);
        }
        Ok(ledger)
    }

    /// What was issued under an id or for a hardware serial number, if anything was.
    pub fn find(&self, id: &MinionId, serial: &HardwareSerial) -> Option<&IssuedLine> {
        self.issued.iter().find(|line| line.entry.id == *id || line.entry.serial == *serial)
    }

    /// What was last issued for a hardware serial number, if anything was.
    pub fn find_serial(&self, serial: &HardwareSerial) -> Option<&IssuedLine> {
        self.issued.iter().rev().find(|line| line.entry.serial == *serial)
    }

    /// What was issued for a key, if anything was.
    pub fn find_key(&self, key: &KeyDigest) -> Option<&IssuedLine> {
        self.issued.iter().find(|line| line.entry.key == *key)
    }

    /// Everything issued, the oldest first.
    pub fn issued(&self) -> &[IssuedLine] {
        &self.issued
    }

    /// What no manifest has yet.
    pub fn unexported(&self) -> &[IssuedLine] {
        &self.issued[self.exported..]
    }

    /// The number that the next manifest takes.
    pub fn next_number(&self) -> u64 {
        self.last_number + 1
    }

    /// Writes down a certificate before anybody gets it.
    pub fn append_issued(&mut self, line: IssuedLine) -> Result<(), LedgerError> {
        self.append(Line::Issued(line))
    }

    /// Writes down a manifest before anybody gets it.
    pub fn append_manifest(&mut self, line: ManifestLine) -> Result<(), LedgerError> {
        self.append(Line::Manifest(line))
    }

    fn append(&mut self, line: Line) -> Result<(), LedgerError> {
        let mut text = serde_json::to_vec(&line).map_err(|source| LedgerError::Line {
            path: self.path.clone(),
            line: 0,
            source,
        })?;
        text.push(b'\n');
        let before = self.file.metadata().map_err(failed("append to", &self.path))?.len();
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_all());
        if let Err(error) = written {
            // On a full disk half a line may stand there, and the next must not be joined to it.
            self.file.set_len(before).map_err(failed("repair", &self.path))?;
            return Err(failed("append to", &self.path)(error).into());
        }
        self.remember(line);
        Ok(())
    }

    fn remember(&mut self, line: Line) {
        match line {
            Line::Issued(issued) => self.issued.push(issued),
            Line::Manifest(manifest) => {
                self.exported = self.issued.len();
                self.last_number = self.last_number.max(manifest.number);
            }
        }
    }
}

mod der {
    use super::{BASE64_STANDARD, CertificateDer, Deserialize, Engine};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        der: &CertificateDer<'_>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(der))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<CertificateDer<'static>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(CertificateDer::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::fingerprint::Fingerprint;

    fn line(id: &str) -> IssuedLine {
        let entry = ManifestEntry {
            id: id.parse().unwrap(),
            serial: format!("SN {id}").parse().unwrap(),
            key: KeyDigest::of(b"key"),
            certificate: Fingerprint::of(b"certificate"),
            grains: Map::new(),
            issued: Timestamp::constant(1_800_000_000, 0),
        };
        IssuedLine { entry, der: CertificateDer::from(vec![1, 2, 3]) }
    }

    fn manifest(number: u64) -> ManifestLine {
        let created = Timestamp::constant(1_800_000_000, 0);
        ManifestLine { number, all: false, created, minions: 1 }
    }

    #[test]
    fn what_was_appended_is_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.ndjson");
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.append_issued(line("a")).unwrap();
        ledger.append_manifest(manifest(1)).unwrap();
        ledger.append_issued(line("b")).unwrap();
        drop(ledger);
        let ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.issued(), [line("a"), line("b")]);
        assert_eq!(ledger.unexported(), [line("b")]);
        assert_eq!(ledger.next_number(), 2);
        let serial = "SN b".parse().unwrap();
        assert_eq!(ledger.find(&"c".parse().unwrap(), &serial), Some(&line("b")));
        assert_eq!(ledger.find(&"c".parse().unwrap(), &"SN c".parse().unwrap()), None);
    }

    #[test]
    fn half_a_line_of_a_power_cut_is_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.ndjson");
        Ledger::open(&path).unwrap().append_issued(line("a")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            std::fs::write(&path, [&whole[..], &whole[..cut]].concat()).unwrap();
            let mut ledger = Ledger::open(&path).unwrap();
            assert_eq!(ledger.issued(), [line("a")]);
            ledger.append_issued(line("b")).unwrap();
            drop(ledger);
            assert_eq!(Ledger::open(&path).unwrap().issued(), [line("a"), line("b")]);
        }
    }

    #[test]
    fn a_line_that_was_tampered_with_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.ndjson");
        Ledger::open(&path).unwrap().append_issued(line("a")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap() + "{}\n";
        std::fs::write(&path, text).unwrap();
        let error = Ledger::open(&path).unwrap_err();
        assert!(matches!(error, LedgerError::Line { line: 2, .. }), "{error}");
    }
}
