//! What a station needs to know of its ledger at once: who has which id, serial number and key, what
//! is revoked, and how far the manifests go. The lines themselves stay on the disk.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::line::Head;
use super::words::Reason;
use crate::certificate::SerialNumber;
use crate::crl::{RevocationReason, Revoked};
use crate::fingerprint::{KeyDigest, LineDigest};
use crate::manifest::{Reissue, RevokedMinion};
use crate::name::{HardwareSerial, MinionId};

/// Where a line stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) length: usize,
}

/// A certificate in the ledger, the station's own or one of the station before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The minion.
    pub id: MinionId,
    /// The device's hardware serial number.
    pub serial: HardwareSerial,
    /// SHA-256 of its key.
    pub key: KeyDigest,
    /// When it was issued.
    pub at: Timestamp,
    /// Whether the station before this one issued it.
    pub adopted: bool,
    /// Whether it took another certificate's place.
    pub reissued: bool,
    /// Whether it counts.
    pub standing: Standing,
    pub(super) span: Span,
}

/// Whether a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is its device's latest.
    Current,
    /// Another one took its place.
    Replaced,
    /// It is its device's latest, and revoked.
    Revoked,
}

/// A line, as far as the index looks at it.
#[derive(Debug, Deserialize)]
pub(super) struct Skim {
    pub(super) n: u64,
    pub(super) previous: LineDigest,
    at: Timestamp,
    event: Kind,
    id: Option<MinionId>,
    serial: Option<HardwareSerial>,
    key: Option<KeyDigest>,
    reissue: Option<Reissue>,
    revokes: Option<SerialNumber>,
    reason: Option<Reason>,
    number: Option<u64>,
    issued: Option<Timestamp>,
    revoked: Option<Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Issued,
    Reissued,
    Refused,
    Revoked,
    Manifest,
    RevocationList,
    Replaced,
    Adopted,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    devices: Vec<Device>,
    by_id: HashMap<MinionId, usize>,
    by_serial: HashMap<HardwareSerial, usize>,
    by_key: HashMap<KeyDigest, usize>,
    revoked: Vec<Revoked>,
    revoked_minions: HashMap<usize, (Timestamp, Reason)>,
    /// When the last line was written.
    last_at: Option<Timestamp>,
    exported: usize,
    last_number: u64,
    last_manifest: Option<Head>,
}

impl Index {
    /// Takes a line in, which follows everything that was taken in before.
    pub(super) fn take(&mut self, line: Skim, span: Span) {
        self.last_at = Some(line.at);
        match line.event {
            Kind::Issued | Kind::Reissued | Kind::Adopted => self.take_device(line, span),
            Kind::Revoked => self.take_revocation(line),
            Kind::Manifest => {
                self.exported = self.devices.len();
                self.last_number = line.number.unwrap_or(0).max(self.last_number);
                self.last_manifest = Some(Head { count: line.n - 1, head: line.previous });
            }
            // What the station before it issued is in that one's manifests.
            Kind::Replaced => self.last_number = line.number.unwrap_or(0),
            Kind::Refused | Kind::RevocationList => {}
        }
    }

    fn take_device(&mut self, line: Skim, span: Span) {
        let (Some(id), Some(serial), Some(key)) = (line.id, line.serial, line.key) else { return };
        let place = self.devices.len();
        if let Some(before) = self.by_id.insert(id.clone(), place) {
            self.devices[before].standing = Standing::Replaced;
            self.revoked_minions.remove(&before);
        }
        self.by_serial.insert(serial.clone(), place);
        self.by_key.insert(key, place);
        let adopted = line.event == Kind::Adopted;
        let mut standing = Standing::Current;
        if let Some(reason) = line.revoked {
            standing = Standing::Revoked;
            self.revoked_minions.insert(place, (line.at, reason));
        }
        if let (Some(serial), Some(reissue)) = (line.revokes, &line.reissue) {
            let mut reason = RevocationReason::from_words(reissue.reason.as_str());
            if reason == RevocationReason::Unspecified {
                reason = RevocationReason::Superseded;
            }
            self.revoked.push(Revoked { serial, at: line.at, reason });
        }
        let reissued = line.reissue.is_some();
        let at = line.issued.unwrap_or(line.at);
        self.devices.push(Device { id, serial, key, at, adopted, reissued, standing, span });
        if adopted {
            self.exported = self.devices.len();
        }
    }

    fn take_revocation(&mut self, line: Skim) {
        let (Some(id), Some(serial), Some(reason)) = (line.id, line.revokes, line.reason) else {
            return;
        };
        let code = RevocationReason::from_words(reason.as_str());
        self.revoked.push(Revoked { serial, at: line.at, reason: code });
        if let Some(&place) = self.by_id.get(&id) {
            self.devices[place].standing = Standing::Revoked;
            self.revoked_minions.insert(place, (line.at, reason));
        }
    }

    pub(super) fn by_id(&self, id: &MinionId) -> Option<&Device> {
        self.by_id.get(id).map(|&place| &self.devices[place])
    }

    pub(super) fn by_serial(&self, serial: &HardwareSerial) -> Option<&Device> {
        self.by_serial.get(serial).map(|&place| &self.devices[place])
    }

    pub(super) fn by_key(&self, key: &KeyDigest) -> Option<&Device> {
        self.by_key.get(key).map(|&place| &self.devices[place])
    }

    /// The devices that a manifest lists: each with its latest certificate, the oldest first.
    pub(super) fn to_export(&self, all: bool) -> impl Iterator<Item = &Device> {
        let from = if all { 0 } else { self.exported };
        self.devices[from..].iter().filter(|device| device.standing != Standing::Replaced)
    }

    pub(super) fn revoked(&self) -> &[Revoked] {
        &self.revoked
    }

    /// The devices whose latest certificate is revoked, the oldest first.
    pub(super) fn revoked_minions(&self) -> Vec<RevokedMinion> {
        let mut places: Vec<_> = self.revoked_minions.iter().collect();
        places.sort_unstable_by_key(|(place, _)| **place);
        places.into_iter().filter_map(|(&place, _)| self.revocation_at(place)).collect()
    }

    /// When and why an id's latest certificate was revoked, if it was.
    pub(super) fn revocation(&self, id: &MinionId) -> Option<RevokedMinion> {
        self.revocation_at(*self.by_id.get(id)?)
    }

    fn revocation_at(&self, place: usize) -> Option<RevokedMinion> {
        let (at, reason) = self.revoked_minions.get(&place)?;
        let Device { id, key, .. } = &self.devices[place];
        Some(RevokedMinion { id: id.clone(), key: *key, at: *at, reason: reason.clone() })
    }

    pub(super) fn last_at(&self) -> Option<Timestamp> {
        self.last_at
    }

    pub(super) fn last_number(&self) -> u64 {
        self.last_number
    }

    pub(super) fn last_manifest(&self) -> Head {
        self.last_manifest.unwrap_or(Head::empty())
    }
}
