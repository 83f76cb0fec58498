//! The station's ledger: an append-only file with a line for each certificate issued, refused,
//! re-issued and revoked, and each manifest. It is the station's memory, so a line is on disk before
//! its deed counts. The lines are chained, and how far they go is signed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use crate::authority::Authority;
use crate::crl::Revoked;
use crate::file::{self, Access, FileError, failed};
use crate::fingerprint::KeyDigest;
use crate::key::KeyError;
use crate::manifest::RevokedMinion;
use crate::name::{HardwareSerial, MinionId};

mod check;
mod head;
mod index;
mod line;
mod scan;
mod words;

pub use check::{Finding, HeadFault, Lines};
pub use index::{Device, Standing};
pub use line::{
    AdoptedLine, Event, Head, IssuedLine, Line, ManifestLine, RefusalKind, RefusedLine,
    ReplacedLine, RevocationListLine, RevokedLine,
};
pub use scan::check;
pub use words::{Actor, Reason, WordsError};

use head::{HEAD, NEXT_HEAD};
use index::{Index, Span};
use scan::{Leftover, Scan, State};

/// The ledger's lines, in a station's directory.
const LINES: &str = "ledger.ndjson";
/// How often a ledger is read that somebody is just appending to.
const READINGS: usize = 20;

/// Why the ledger could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is none.
    #[error("there is no ledger in `{}`", path.display())]
    Missing {
        /// The station's directory.
        path: PathBuf,
    },
    /// It is not as the station left it.
    #[error("`{}` does not verify: {}", path.display(), sentence(findings))]
    Broken {
        /// The ledger.
        path: PathBuf,
        /// What is wrong with it.
        findings: Vec<Finding>,
    },
    /// A line that was read before cannot be read any more.
    #[error("a line of `{}` cannot be read", path.display())]
    Line {
        /// The ledger.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The head could not be signed.
    #[error("the ledger's head could not be signed")]
    Sign(#[source] KeyError),
}

impl LedgerError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => Some(
                "name a station's directory; if this is one, somebody took its ledger: put \
                 `ledger.ndjson` and `ledger.head` back from a copy, or make the station again from \
                 its manifests with `drover-enrol init-station --replace`",
            ),
            Self::Broken { .. } => Some(
                "nothing is issued from it: find out who did it, then put `ledger.ndjson` and \
                 `ledger.head` back together from a copy, or make the station again from its \
                 manifests with `drover-enrol init-station --replace`",
            ),
            Self::File(_) | Self::Line { .. } | Self::Sign(_) => None,
        }
    }
}

/// What was found out about a ledger without changing it.
#[derive(Debug)]
pub struct Inspection {
    /// How far it goes.
    pub head: Head,
    /// What is wrong with it; nothing if it verifies.
    pub findings: Vec<Finding>,
    /// Whether a power cut left half a line, which the next program to open it takes away.
    pub has_half_line: bool,
}

/// The open ledger. While it is open, nobody else has it.
#[derive(Debug)]
pub struct Ledger {
    directory: PathBuf,
    file: File,
    /// How many bytes of the file are whole lines.
    length: u64,
    head: Head,
    index: Index,
}

impl Ledger {
    /// Makes a ledger with these first lines, for a station that has not issued yet.
    ///
    /// # Errors
    /// When a file cannot be written, or the head not be signed.
    pub fn create(
        directory: &Path,
        authority: &Authority,
        events: impl IntoIterator<Item = Event>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let mut head = Head::empty();
        let mut text = Vec::new();
        for event in events {
            let line = following(head, event, by, now).encode();
            head = head.followed_by(&line);
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        // A station that is made in two halves may come here twice, before it ever issued.
        file::replace(&directory.join(LINES), &text, Access::Private)?;
        let signed = head::seal(head, now, authority).map_err(LedgerError::Sign)?;
        Ok(file::replace(&directory.join(HEAD), signed.as_bytes(), Access::Private)?)
    }

    /// Opens a ledger, waiting while another process has it, and verifies that it is as the station,
    /// whose certificate is `signer`, left it. What a power cut left is repaired. `known` are heads that
    /// the station signed elsewhere, and that the ledger must have.
    ///
    /// # Errors
    /// When it cannot be read, or does not verify.
    pub fn open(
        directory: &Path,
        signer: &CertificateDer<'_>,
        known: &[Head],
    ) -> Result<Self, LedgerError> {
        let path = directory.join(LINES);
        refuse_missing(directory, &path)?;
        let options = OpenOptions::new().read(true).write(true).open(&path);
        let file = options.map_err(failed("open", &path))?;
        file.lock().map_err(failed("lock", &path))?;
        let Scan { index, head, length, state } = scan_file(directory, &file, signer, known)?;
        match state {
            State::Broken(findings) => return Err(LedgerError::Broken { path, findings }),
            State::Whole(leftover) => repair(directory, &file, length, leftover)?,
        }
        Ok(Self { directory: directory.to_owned(), file, length, head, index })
    }

    /// Whether another process has it just now, so that opening it takes until that one ends.
    pub fn is_taken(directory: &Path) -> bool {
        let file = File::open(directory.join(LINES));
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Looks at a ledger without changing it, also while another process has it. `known` are heads that
    /// the station signed elsewhere, and that the ledger must have.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn inspect(
        directory: &Path,
        signer: &CertificateDer<'_>,
        known: &[Head],
    ) -> Result<Inspection, LedgerError> {
        let path = directory.join(LINES);
        refuse_missing(directory, &path)?;
        let mut readings = 0;
        loop {
            let file = File::open(&path).map_err(failed("open", &path))?;
            // Nobody appends while this is held; if somebody has the ledger, what is read may be of
            // two moments, and is read again.
            let alone = file.try_lock_shared().is_ok();
            let scan = scan_file(directory, &file, signer, known)?;
            readings += 1;
            let (findings, has_half_line) = match scan.state {
                State::Whole(leftover) => (Vec::new(), leftover == Leftover::HalfLine),
                State::Broken(_) if !alone && readings < READINGS => continue,
                State::Broken(findings) => (findings, false),
            };
            return Ok(Inspection { head: scan.head, findings, has_half_line });
        }
    }

    /// Every line that can be read, in the file's order.
    ///
    /// # Errors
    /// When the file cannot be opened; each line may be one that cannot be read.
    pub fn lines(
        directory: &Path,
    ) -> Result<impl Iterator<Item = Result<Line, LedgerError>> + use<>, LedgerError> {
        let path = directory.join(LINES);
        refuse_missing(directory, &path)?;
        let file = File::open(&path).map_err(failed("open", &path))?;
        let lines = BufReader::new(file).split(b'\n');
        Ok(lines.map(move |line| {
            let line = line.map_err(failed("read", &path))?;
            let unreadable = |source| LedgerError::Line { path: path.clone(), source };
            serde_json::from_slice(&line).map_err(unreadable)
        }))
    }

    /// Writes down what happened, before anybody is told of it.
    ///
    /// The head that counts this line is signed and on disk before the line is: so a line is either
    /// signed for or not the station's, and a crash between the two is told from tampering.
    ///
    /// # Errors
    /// When it cannot be written or signed. The ledger is then as it was.
    pub fn append(
        &mut self,
        authority: &Authority,
        by: &Actor,
        now: Timestamp,
        event: Event,
    ) -> Result<(), LedgerError> {
        let mut line = following(self.head, event, by, now).encode();
        let head = self.head.followed_by(&line);
        let signed = head::seal(head, now, authority).map_err(LedgerError::Sign)?;
        let next = self.directory.join(NEXT_HEAD);
        write_next_head(&next, signed.as_bytes()).map_err(failed("write", &next))?;
        file::sync_directory(&self.directory)?;

        let skim = serde_json::from_slice(&line).expect("invariant: what is written can be read");
        let span = Span { offset: self.length, length: line.len() };
        line.push(b'\n');
        let path = self.directory.join(LINES);
        // A line that failed on a full disk may have left its beginning.
        let written = self.file.set_len(self.length);
        let written = written.and_then(|()| self.file.write_all_at(&line, self.length));
        let written = written.and_then(|()| self.file.sync_data());
        let written = written.map_err(failed("append to", &path)).and_then(|()| {
            // Durable with the next line's head at the latest: until then both heads are there.
            let counted = self.directory.join(HEAD);
            std::fs::rename(&next, &counted).map_err(failed("write", &counted))
        });
        if let Err(error) = written {
            self.file.set_len(self.length).map_err(failed("repair", &path))?;
            return Err(error.into());
        }
        self.length += line.len() as u64;
        self.head = head;
        self.index.take(skim, span);
        Ok(())
    }

    /// The line of a device's certificate, with the certificate.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, device: &Device) -> Result<Line, LedgerError> {
        let path = self.directory.join(LINES);
        let mut line = vec![0; device.span.length];
        self.file.read_exact_at(&mut line, device.span.offset).map_err(failed("read", &path))?;
        serde_json::from_slice(&line).map_err(|source| LedgerError::Line { path, source })
    }

    /// The latest certificate of an id, if it ever had one.
    pub fn find(&self, id: &MinionId) -> Option<&Device> {
        self.index.by_id(id)
    }

    /// The latest certificate of a hardware serial number, if it ever had one.
    pub fn find_serial(&self, serial: &HardwareSerial) -> Option<&Device> {
        self.index.by_serial(serial)
    }

    /// The certificate of a key, if it ever had one.
    pub fn find_key(&self, key: &KeyDigest) -> Option<&Device> {
        self.index.by_key(key)
    }

    /// Every device's latest certificate that no manifest has yet, or every one; the oldest first.
    pub fn to_export(&self, all: bool) -> impl Iterator<Item = &Device> {
        self.index.to_export(all)
    }

    /// Every certificate of this station's authority that is revoked.
    pub fn revoked(&self) -> &[Revoked] {
        self.index.revoked()
    }

    /// Every device whose latest certificate is revoked.
    pub fn revoked_minions(&self) -> Vec<RevokedMinion> {
        self.index.revoked_minions()
    }

    /// When and why an id's latest certificate was revoked, if it was.
    pub fn revocation(&self, id: &MinionId) -> Option<RevokedMinion> {
        self.index.revocation(id)
    }

    /// The number that the next manifest takes.
    pub fn next_number(&self) -> u64 {
        self.index.last_number() + 1
    }

    /// When its last line was written, by the station's clock.
    pub fn last_at(&self) -> Option<Timestamp> {
        self.index.last_at()
    }

    /// How far it goes.
    pub fn head(&self) -> Head {
        self.head
    }

    /// How far it went as the latest manifest has it.
    pub fn last_manifest(&self) -> Head {
        self.index.last_manifest()
    }
}

fn following(head: Head, event: Event, by: &Actor, now: Timestamp) -> Line {
    Line { n: head.count + 1, previous: head.head, at: now, by: by.clone(), event }
}

fn refuse_missing(directory: &Path, lines: &Path) -> Result<(), LedgerError> {
    if lines.exists() {
        return Ok(());
    }
    Err(LedgerError::Missing { path: directory.to_owned() })
}

fn scan_file(
    directory: &Path,
    mut file: &File,
    signer: &CertificateDer<'_>,
    known: &[Head],
) -> Result<Scan, LedgerError> {
    // The heads first: a line that is appended meanwhile is then one too many, never one too few.
    let signed = head::read(&directory.join(HEAD), signer)?;
    let next = head::read(&directory.join(NEXT_HEAD), signer)?.ok();
    let path = directory.join(LINES);
    file.seek(SeekFrom::Start(0)).map_err(failed("read", &path))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let scan = scan::scan(&mut reader, signed, next, known);
    Ok(scan.map_err(failed("read", &path))?)
}

/// In its place from the first byte on: one that a power cut left in part signs for nothing, and no
/// line was written upon it. A new file: what lies there may be a link that leads elsewhere.
fn write_next_head(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            options.open(path)?
        }
        opened => opened?,
    };
    file.write_all(text)?;
    file.sync_data()
}

/// Takes away what a power cut left: nothing was done upon it.
fn repair(
    directory: &Path,
    file: &File,
    length: u64,
    leftover: Leftover,
) -> Result<(), LedgerError> {
    let (lines, next) = (directory.join(LINES), directory.join(NEXT_HEAD));
    match leftover {
        Leftover::Nothing => {}
        Leftover::Head => std::fs::remove_file(&next).map_err(failed("repair", &next))?,
        Leftover::HalfLine => {
            file.set_len(length).map_err(failed("repair", &lines))?;
            file.sync_data().map_err(failed("repair", &lines))?;
            std::fs::remove_file(&next).map_err(failed("repair", &next))?;
        }
        // The line is whole, and signed for: it counts, though nobody was told.
        Leftover::Line => {
            file.sync_data().map_err(failed("repair", &lines))?;
            let head = directory.join(HEAD);
            std::fs::rename(&next, &head).map_err(failed("repair", &head))?;
        }
    }
    Ok(())
}

fn sentence(findings: &[Finding]) -> String {
    let findings: Vec<_> = findings.iter().map(ToString::to_string).collect();
    findings.join("; ")
}

#[cfg(test)]
mod tests;
