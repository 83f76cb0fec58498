//! An enrolment station's directory, and what it does: issue a device its identity, and export
//! manifests. Works offline; the ledger is its memory.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Map, Value};

use crate::authority::{Authority, AuthorityError};
use crate::certificate::Unreadable;
use crate::crl::CrlError;
use crate::file::{self, FileError};
use crate::fleet::FleetError;
use crate::key::{KeyError, PublicKey};
use crate::key_file::read_authority;
use crate::ledger::{Actor, Device, Event, IssuedLine, Ledger, LedgerError, Reason, RefusalKind};
use crate::manifest::{ManifestEntry, ManifestError, RevokedMinion};
use crate::name::{HardwareSerial, MinionId, StationName};
use crate::passphrase::PassphraseSource;
use crate::verify::{CertificateError, TrustAnchors, verify_factory_authority};

mod bundle;
mod export;
mod inspect;
mod issue;
mod replacement;
mod unfinished;

pub use export::{Exported, Revoked, RevokedBefore, SignedList};
pub use inspect::{StationInspection, inspect};
pub use replacement::{History, ReplacementError};
pub use unfinished::{Unfinished, unfinished};

use unfinished::Notes;

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
        /// Where its bundle was begun, if it is not known to be whole.
        unfinished: Option<PathBuf>,
    },
    /// The device's latest certificate is revoked: nothing goes on with it.
    #[error("the certificate of `{}` was revoked at {}: {}", revoked.id, revoked.at, revoked.reason)]
    Revoked {
        /// When and why.
        revoked: Box<RevokedMinion>,
    },
    /// There is no certificate to issue again, or whose bundle could be finished.
    #[error("nothing was issued here for {what} `{value}`")]
    NotIssued {
        /// `the id` or `the serial number`.
        what: &'static str,
        /// The id or the serial number.
        value: String,
    },
    /// There is no certificate to revoke.
    #[error("nothing was issued here for {what} `{value}`, so there is nothing to revoke")]
    NothingToRevoke {
        /// `the id` or `the serial number`.
        what: &'static str,
        /// The id or the serial number.
        value: String,
    },
    /// The certificate is not this authority's to revoke.
    #[error("the certificate of `{id}` was issued by the station before this one")]
    Adopted {
        /// The minion.
        id: MinionId,
    },
    /// The bundle was begun, and the key that was made for it is gone.
    #[error("`{}` does not hold the key that was made for `{id}`", out.display())]
    KeyLost {
        /// The minion.
        id: MinionId,
        /// Where its bundle was begun.
        out: PathBuf,
    },
    /// What was read back is not what was written.
    #[error("`{}` is not what was written there", path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in the ledger cannot be read.
    #[error("a certificate in the ledger cannot be read")]
    Certificate(#[from] Unreadable),
    /// The revocation list could not be made.
    #[error(transparent)]
    RevocationList(#[from] CrlError),
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
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Directory { source: FleetError::KeyFile(error), .. } => error.hint()?,
            Self::Directory { .. } => {
                "name a station's directory, or make one with `drover-enrol init-station`"
            }
            Self::Authority(error) | Self::Issued(error) => error.hint(),
            Self::Seen { unfinished: Some(out), .. } => {
                return Some(format!(
                    "its bundle in `{}` was not finished: `drover-enrol ledger unfinished --finish` \
                     does that, or issue it again there",
                    out.display()
                ));
            }
            Self::Seen { .. } => {
                "an id, a serial number and a key are issued once: check the label; a device that \
                 needs another certificate gets one with --reissue and --reason"
            }
            Self::Revoked { .. } => {
                "put the device aside; if it is to have another certificate, it gets one with \
                 --reissue and --reason"
            }
            Self::NotIssued { .. } => {
                "check the label; `drover-enrol ledger show` lists what was issued, and a first \
                 certificate is issued without --reissue"
            }
            Self::NothingToRevoke { .. } => {
                "check the label; `drover-enrol ledger show` lists what this station issued, and \
                 `drover key revoke` revokes on the master what another one did"
            }
            Self::Adopted { .. } => "revoke it on the master: `drover key revoke`",
            Self::KeyLost { .. } => {
                "bring the card back if it is another one, else issue again with --reissue and \
                 --reason"
            }
            Self::ReadBack { .. } => {
                "the card is bad: take another one, and issue again with --reissue and --reason"
            }
            Self::Occupied { .. } => {
                "give each device an --out of its own, or move that file away if its device is gone"
            }
            Self::File(FileError::Exists { .. }) => {
                "name another file with --out; every manifest is kept under the station's manifests/ too"
            }
            Self::Ledger(error) => error.hint()?,
            Self::File(_)
            | Self::Issue(_)
            | Self::Key(_)
            | Self::Manifest(_)
            | Self::Certificate(_)
            | Self::RevocationList(_) => return None,
        };
        Some(hint.to_owned())
    }

    /// Under which heading the ledger has a certificate that was refused so; none where it was not
    /// about the certificate.
    fn kind(&self) -> Option<RefusalKind> {
        match self {
            Self::Seen { what: "the id", .. } => Some(RefusalKind::IdSeen),
            Self::Seen { what: "the key", .. } => Some(RefusalKind::KeySeen),
            Self::Seen { .. } | Self::Revoked { .. } => Some(RefusalKind::SerialSeen),
            Self::NotIssued { .. } => Some(RefusalKind::NotIssued),
            Self::Issued(_) => Some(RefusalKind::Unverified),
            Self::Directory { .. }
            | Self::Authority(_)
            | Self::NothingToRevoke { .. }
            | Self::Adopted { .. }
            | Self::KeyLost { .. }
            | Self::ReadBack { .. }
            | Self::Occupied { .. }
            | Self::File(_)
            | Self::Ledger(_)
            | Self::Issue(_)
            | Self::Key(_)
            | Self::Manifest(_)
            | Self::Certificate(_)
            | Self::RevocationList(_) => None,
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
    /// Whether others than its owner may read the key, since the file system keeps no modes.
    pub key_is_exposed: bool,
}

/// An open station. While it is open, nobody else issues from it.
#[derive(Debug)]
pub struct Station {
    path: PathBuf,
    name: StationName,
    authority: Authority,
    anchors: TrustAnchors,
    ledger: Ledger,
    notes: Notes,
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
        let known = inspect::latest_head(path, authority.key().public().digest())?;
        let ledger = Ledger::open(path, authority.der(), known.as_slice())?;
        inspect::refuse_set_back(path, &ledger)?;
        for directory in
            [path.to_owned(), path.join(export::MANIFESTS), path.join(unfinished::NOTES)]
        {
            file::sweep(&directory);
        }
        let notes = Notes::new(path);
        Ok(Self { path: path.to_owned(), name, authority, anchors, ledger, notes })
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
        self.ledger.find_serial(serial).map(|device| self.entry(device)).transpose()
    }

    /// What was last issued to an id, if anything was.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn find_id(&self, id: &MinionId) -> Result<Option<ManifestEntry>, StationError> {
        self.ledger.find(id).map(|device| self.entry(device)).transpose()
    }

    /// When and why an id's latest certificate was revoked, if it was.
    pub fn revocation(&self, id: &MinionId) -> Option<RevokedMinion> {
        self.ledger.revocation(id)
    }

    fn refuse_revoked(&self, id: &MinionId) -> Result<(), StationError> {
        match self.revocation(id) {
            Some(revoked) => Err(StationError::Revoked { revoked: Box::new(revoked) }),
            None => Ok(()),
        }
    }

    fn entry(&self, device: &Device) -> Result<ManifestEntry, StationError> {
        let line = self.ledger.read(device)?;
        let entry = line.event.entry().expect("invariant: a device's line has its certificate");
        Ok(entry.clone())
    }

    /// The line of a certificate that this authority issued.
    fn issued_line(&self, device: &Device) -> Result<Option<IssuedLine>, StationError> {
        match self.ledger.read(device)?.event {
            Event::Issued(line) | Event::Reissued(line) => Ok(Some(line)),
            Event::Adopted(_)
            | Event::Refused(_)
            | Event::Revoked(_)
            | Event::Manifest(_)
            | Event::RevocationList(_)
            | Event::Replaced(_) => Ok(None),
        }
    }

    /// When the station last did something, by its own clock.
    pub fn last_deed(&self) -> Option<Timestamp> {
        self.ledger.last_at()
    }

    /// The station's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.authority.der()
    }
}

fn unix(time: Timestamp) -> UnixTime {
    let seconds = u64::try_from(time.as_second()).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
