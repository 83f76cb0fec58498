//! An enrolment station's directory, and what it does: issue a device its identity, and export
//! manifests. Works offline; the ledger is its memory.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Map, Value};

use crate::authority::{Authority, AuthorityError};
use crate::file::{self, Access, FileError};
use crate::fleet::FleetError;
use crate::key::{KeyError, PrivateKey, PublicKey};
use crate::key_file::read_authority;
use crate::ledger::{Actor, IssuedLine, Ledger, LedgerError, ManifestLine, Reason};
use crate::manifest::{Manifest, ManifestEntry, ManifestError};
use crate::passphrase::PassphraseSource;
use crate::name::{HardwareSerial, MinionId, StationName};
use crate::verify::{CertificateError, TrustAnchors, verify_factory_authority, verify_minion};

mod bundle;

use bundle::Bundle;

/// Why the station did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StationError {
    /// The directory is not a station's.
    #[error("`{}` cannot be used as a station", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        source: FleetError,
    },
    /// The station's authority is not one of the fleet's.
    #[error("the station's `ca.crt` does not verify against its `root.crt`")]
    Authority(#[source] CertificateError),
    /// The id, the serial number or the key was used before.
    #[error("{what} `{value}` was issued at {at}, to `{id}` with the serial number `{serial}`")]
    Seen {
        /// `the id`, `the serial number` or `the key`.
        what: &'static str,
        /// The id, the serial number or the key's digest.
        value: String,
        /// When.
        at: Timestamp,
        /// To which id.
        id: MinionId,
        /// With which serial number.
        serial: HardwareSerial,
    },
    /// The directory for the bundle holds a device's identity already.
    #[error("`{}` exists already", path.display())]
    Occupied {
        /// The file in the way.
        path: PathBuf,
    },
    /// The certificate just made does not verify; nothing was written.
    #[error("the certificate does not verify, so it was not handed out")]
    Issued(#[source] CertificateError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The ledger could not be used.
    #[error("the station's ledger cannot be used")]
    Ledger(#[from] LedgerError),
    /// The authority refused.
    #[error(transparent)]
    Issue(#[from] AuthorityError),
    /// The device's key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The manifest could not be made.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl StationError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Directory { source: FleetError::KeyFile(error), .. } => error.hint(),
            Self::Directory { .. } => Some("make one with `drover-enrol init-station`"),
            Self::Authority(error) | Self::Issued(error) => Some(error.hint()),
            Self::Seen { .. } => Some(
                "an id, a serial number and a key are issued once: check the label; a new device gets its own",
            ),
            Self::Occupied { .. } => Some(
                "give each device an --out of its own, or move that file away if its device is gone",
            ),
            Self::File(FileError::Exists { .. }) => Some(
                "name another file with --out; every manifest is kept under the station's manifests/ too",
            ),
            Self::File(_) | Self::Ledger(_) | Self::Issue(_) | Self::Key(_) | Self::Manifest(_) => {
                None
            }
        }
    }
}

/// Where a device's key comes from.
#[derive(Debug)]
pub enum KeySource {
    /// Made on the device, which sent a signing request.
    Device(PublicKey),
    /// Made here, and then nowhere but in the bundle.
    Station,
}

/// A device to be given an identity.
#[derive(Debug)]
pub struct IssueRequest {
    /// The minion that it will be.
    pub id: MinionId,
    /// Its hardware serial number.
    pub serial: HardwareSerial,
    /// Its key.
    pub key: KeySource,
    /// Its enrolled grains.
    pub grains: Map<String, Value>,
    /// The addresses of its masters, for a `minion.yml`.
    pub masters: Vec<String>,
    /// Where the bundle goes: what will be the device's `/etc/drover`.
    pub out: PathBuf,
    /// Why the device gets another certificate, if it has one: else a serial number seen twice is
    /// refused.
    pub reissue: Option<Reason>,
    /// Who does it, for the ledger.
    pub by: Actor,
}

/// What was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// What the next manifest says of it.
    pub entry: ManifestEntry,
    /// Whether this finished a bundle that an earlier run had left half-written.
    pub finished_earlier: bool,
    /// Whether it took the place of an earlier certificate, which is revoked.
    pub reissued: bool,
    /// Whether a `minion.yml` was written; one that was there is kept.
    pub wrote_configuration: bool,
}

/// A manifest that was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Its number.
    pub number: u64,
    /// How many devices it lists.
    pub minions: usize,
    /// The station's own copy.
    pub kept: PathBuf,
}

/// An open station. While it is open, nobody else issues from it.
#[derive(Debug)]
pub struct Station {
    path: PathBuf,
    name: StationName,
    authority: Authority,
    anchors: TrustAnchors,
    ledger: Ledger,
}

impl Station {
    /// Opens a station's directory, with the passphrase or the PIN of its key, and checks that it is
    /// one of the fleet's.
    pub fn open(
        path: &Path,
        passphrase: &PassphraseSource,
        now: Timestamp,
    ) -> Result<Self, StationError> {
        let directory = |source| StationError::Directory { path: path.to_owned(), source };
        let authority = read_authority(path, "ca", passphrase)
            .map_err(|error| directory(FleetError::from(error)))?;
        let anchors = file::read_anchors(&path.join("root.crt"))
            .map_err(|source| directory(FleetError::File(source)))?;
        let verified = verify_factory_authority(&anchors, authority.der(), unix(now));
        let name = verified.map_err(StationError::Authority)?.station;
        let ledger = Ledger::open(&path.join("ledger.ndjson"))?;
        Ok(Self { path: path.to_owned(), name, authority, anchors, ledger })
    }

    /// The station's name.
    pub fn name(&self) -> &StationName {
        &self.name
    }

    /// What was last issued for a hardware serial number, if anything was.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn find(&self, serial: &HardwareSerial) -> Result<Option<ManifestEntry>, StationError> {
        Ok(self.ledger.find_serial(serial).map(|line| line.entry.clone()))
    }

    /// Issues a device its identity and writes its bundle.
    ///
    /// The order is what makes a power cut harmless: the key, then the ledger, then the bundle with
    /// `idevid.crt` last. Asked again for the same device, the half-written bundle is finished.
    pub fn issue(
        &mut self,
        request: &IssueRequest,
        now: Timestamp,
    ) -> Result<Issued, StationError> {
        let bundle = Bundle::new(&request.out);
        if let Some(line) = self.ledger.find(&request.id, &request.serial) {
            let line = line.clone();
            if !bundle.awaits(&line, &request.id, &request.serial, &request.key) {
                return Err(seen(&line.entry, &request.id));
            }
            return self.write_bundle(&bundle, request, line, true);
        }
        if let Some(path) = bundle.occupied() {
            return Err(StationError::Occupied { path });
        }

        let (public, private) = match &request.key {
            KeySource::Device(key) => (key.clone(), None),
            KeySource::Station => {
                let key = PrivateKey::generate()?;
                (key.public().clone(), Some(key))
            }
        };
        let der = self.authority.issue_idevid(&request.id, &request.serial, &public, now)?;
        let chain = std::slice::from_ref(self.authority.der());
        let verified = verify_minion(&self.anchors, &der, chain, unix(now));
        let verified = verified.map_err(StationError::Issued)?;

        if let Some(line) = self.ledger.find_key(&verified.key) {
            return Err(seen_as("the key", verified.key.to_string(), &line.entry));
        }

        bundle.create(private.as_ref())?;
        let entry = ManifestEntry {
            id: request.id.clone(),
            serial: request.serial.clone(),
            key: verified.key,
            certificate: verified.fingerprint,
            grains: request.grains.clone(),
            issued: now,
        };
        let line = IssuedLine { entry, der };
        self.ledger.append_issued(line.clone())?;
        self.write_bundle(&bundle, request, line, false)
    }

    fn write_bundle(
        &self,
        bundle: &Bundle,
        request: &IssueRequest,
        line: IssuedLine,
        finished_earlier: bool,
    ) -> Result<Issued, StationError> {
        let chain = [line.der, self.authority.der().clone()];
        let wrote_configuration =
            bundle.write(&chain, self.anchors.certificates(), &request.masters)?;
        Ok(Issued { entry: line.entry, finished_earlier, reissued: false, wrote_configuration })
    }

    /// Exports what was issued since the last manifest, or everything, to a file.
    ///
    /// The station keeps a copy, written before the ledger says that the number is taken: so a
    /// manifest that gets lost on its way is still there, and no device falls between two of them.
    pub fn export(
        &mut self,
        all: bool,
        out: &Path,
        now: Timestamp,
    ) -> Result<Exported, StationError> {
        if out.exists() {
            return Err(FileError::Exists { path: out.to_owned() }.into());
        }
        let lines = if all { self.ledger.issued() } else { self.ledger.unexported() };
        let minions: Vec<_> = lines.iter().map(|line| line.entry.clone()).collect();
        let (number, count) = (self.ledger.next_number(), minions.len());
        let manifest = Manifest::new(self.name.clone(), number, all, now, minions);
        let text = manifest.sign(&self.authority)?;

        let directory = self.path.join("manifests");
        file::create_private_directory(&directory)?;
        let kept = directory.join(format!("{number:06}.json"));
        // A number that the ledger does not have was never handed out, so its file may go.
        file::replace(&kept, text.as_bytes(), Access::Public)?;
        self.ledger.append_manifest(ManifestLine { number, all, created: now, minions: count })?;
        file::create(out, text.as_bytes(), Access::Public)?;
        Ok(Exported { number, minions: count, kept })
    }

    /// The station's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.authority.der()
    }
}

fn seen(entry: &ManifestEntry, id: &MinionId) -> StationError {
    if entry.id == *id {
        seen_as("the id", entry.id.to_string(), entry)
    } else {
        seen_as("the serial number", entry.serial.to_string(), entry)
    }
}

fn seen_as(what: &'static str, value: String, entry: &ManifestEntry) -> StationError {
    StationError::Seen {
        what,
        value,
        at: entry.issued,
        id: entry.id.clone(),
        serial: entry.serial.clone(),
    }
}

fn unix(time: Timestamp) -> UnixTime {
    let seconds = u64::try_from(time.as_second()).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
