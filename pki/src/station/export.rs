//! What a station hands over: manifests, and what it takes back: revocations and their list.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::{Station, StationError};
use crate::certificate::Certificate;
use crate::crl::{RevocationList, Revocations};
use crate::file::{self, Access, FileError, Staged};
use crate::ledger::{
    Actor, Device, Event, ManifestLine, Reason, RevocationListLine, RevokedLine, Standing,
};
use crate::manifest::{Format, Manifest, ManifestLedger};
use crate::name::{HardwareSerial, MinionId};

/// Where the station keeps its manifests.
pub(super) const MANIFESTS: &str = "manifests";
/// How long a revocation list is current. Its reader asks for a newer one after that; a station is
/// offline, and the list of the next manifest takes its place.
const LIST_VALIDITY: SignedDuration = SignedDuration::from_hours(365 * 24);

/// A manifest that was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Its number.
    pub number: u64,
    /// How many devices it lists.
    pub minions: usize,
    /// How many certificates its revocation list has.
    pub revoked: usize,
    /// The station's own copy.
    pub kept: PathBuf,
}

/// Whose certificate is to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// The minion with this id.
    Id(MinionId),
    /// The device with this hardware serial number.
    Serial(HardwareSerial),
}

/// Whether it was revoked before, which is then no failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedBefore {
    /// The minion.
    pub id: MinionId,
    /// Its hardware serial number.
    pub serial: HardwareSerial,
    /// Whether it was.
    pub before: bool,
}

/// A revocation list that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedList {
    /// Its number.
    pub number: u64,
    /// How many certificates it has.
    pub revoked: usize,
    /// Until when it is current.
    pub next_update: Timestamp,
}

impl Station {
    /// Exports what was issued since the last manifest, or everything, to a file.
    ///
    /// The station keeps a copy, written before the ledger says that the number is taken: so a
    /// manifest that gets lost on its way is still there, and no device falls between two of them.
    ///
    /// # Errors
    /// When it cannot be signed, or a file not be written.
    pub fn export(
        &mut self,
        all: bool,
        out: &Path,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Exported, StationError> {
        if out.exists() {
            return Err(FileError::Exists { path: out.to_owned() }.into());
        }
        let devices: Vec<Device> = self.ledger.to_export(all).cloned().collect();
        let minions = devices.iter().map(|device| self.entry(device));
        let minions = minions.collect::<Result<Vec<_>, _>>()?;
        let (number, count) = (self.ledger.next_number(), minions.len());
        let list = self.sign_list(now)?;
        let manifest = Manifest {
            format: Format,
            station: self.name.clone(),
            number,
            all,
            created: now,
            ledger: ManifestLedger {
                head: self.ledger.head(),
                previous: self.ledger.last_manifest(),
            },
            minions,
            revoked: self.ledger.revoked_minions(),
            crl: list.to_pem(),
        };
        let text = manifest.sign(&self.authority)?;

        // Where it cannot be written, its number is not taken: nobody would miss that manifest's
        // devices in the next.
        let handed_out = Staged::new(out, text.as_bytes(), Access::Public)?;
        let directory = self.path.join(MANIFESTS);
        file::create_private_directory(&directory)?;
        let kept = directory.join(format!("{number:06}.json"));
        // A number that the ledger does not have was never handed out, so its file may go.
        file::replace(&kept, text.as_bytes(), Access::Public)?;
        let event = Event::Manifest(ManifestLine { number, all, minions: count });
        self.ledger.append(&self.authority, by, now, event)?;
        handed_out.create()?;
        let revoked = list.contents().revoked.len();
        Ok(Exported { number, minions: count, revoked, kept })
    }

    /// Revokes a device's latest certificate: in the ledger, in the station's revocation list, and
    /// for the master with the next manifest.
    ///
    /// # Errors
    /// When nothing was issued so, or another authority issued it.
    pub fn revoke(
        &mut self,
        whom: &Revoked,
        reason: &Reason,
        by: &Actor,
        now: Timestamp,
    ) -> Result<RevokedBefore, StationError> {
        let (device, what, value) = match whom {
            Revoked::Id(id) => (self.ledger.find(id), "the id", id.to_string()),
            Revoked::Serial(serial) => {
                (self.ledger.find_serial(serial), "the serial number", serial.to_string())
            }
        };
        let device = device.ok_or(StationError::NothingToRevoke { what, value })?.clone();
        let (id, serial) = (device.id.clone(), device.serial.clone());
        if device.standing == Standing::Revoked {
            return Ok(RevokedBefore { id, serial, before: true });
        }
        let Some(line) = self.issued_line(&device)? else {
            return Err(StationError::Adopted { id });
        };
        let revoked = RevokedLine {
            id: id.clone(),
            serial: serial.clone(),
            key: device.key,
            certificate: line.entry.certificate,
            revokes: Certificate::read(&line.der)?.serial,
            reason: reason.clone(),
        };
        self.ledger.append(&self.authority, by, now, Event::Revoked(revoked))?;
        Ok(RevokedBefore { id, serial, before: false })
    }

    /// Writes the station's revocation list, in PEM, in the place of one that may be there.
    ///
    /// # Errors
    /// When it cannot be signed or written.
    pub fn write_list(
        &mut self,
        out: &Path,
        by: &Actor,
        now: Timestamp,
    ) -> Result<SignedList, StationError> {
        let list = self.sign_list(now)?;
        let Revocations { number, next_update, revoked, .. } = list.contents();
        let revoked = revoked.len();
        let event = Event::RevocationList(RevocationListLine { certificates: revoked });
        // Its number is taken before anybody has the list.
        self.ledger.append(&self.authority, by, now, event)?;
        file::replace(out, list.to_pem().as_bytes(), Access::Public)?;
        Ok(SignedList { number: *number, revoked, next_update: *next_update })
    }

    /// The list, with the number of the line that is written next (RFC 5280 §5.2.3 wants one that
    /// rises).
    fn sign_list(&self, now: Timestamp) -> Result<RevocationList, StationError> {
        let contents = Revocations {
            number: self.ledger.head().count + 1,
            this_update: now,
            next_update: now.saturating_add(LIST_VALIDITY).unwrap_or(Timestamp::MAX),
            revoked: self.ledger.revoked().to_vec(),
        };
        Ok(RevocationList::sign(&self.authority, &contents)?)
    }
}
