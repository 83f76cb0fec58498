//! What a station's manifest makes of an entry: decisions without I/O. The station knows its devices' keys and what they
//! are; who may connect is said here, and no manifest takes that back.

use drover_pki::manifest::{Manifest, ManifestEntry, RevokedMinion, VerifiedManifest};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    certificates::timestamp,
    entry::{Birth, Entry, Status},
    station::StationRecord,
};
use crate::config::Acceptance;

/// Why a device of a manifest was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    /// The id has another factory key here.
    OtherKey,
    /// The id belongs to another station here.
    OtherStation,
    /// The id is revoked here.
    Revoked,
    /// The id was deleted here after that manifest was made.
    Deleted,
}

/// What a manifest makes of one of its devices.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Registration {
    /// Registered by it.
    New(Box<Entry>),
    /// Known already; the entry is given where something else about it changes.
    Known(Option<Box<Entry>>),
    /// Its station made it again with another key.
    Reissued(Box<Entry>),
    /// Refused.
    Refused(Conflict),
}

/// Registers a device of a manifest.
pub(super) fn register(
    policy: Acceptance,
    station: &StationRecord,
    verified: &VerifiedManifest,
    device: &ManifestEntry,
    entry: Option<&Entry>,
    now: Timestamp,
) -> Registration {
    let manifest = &verified.manifest;
    let birth = Birth {
        key: device.key,
        station: manifest.station.clone(),
        serial: Some(device.serial.clone()),
        certificate: Some(device.certificate),
    };
    let fresh = |before: Option<&Entry>| {
        let status = match policy {
            Acceptance::Registered | Acceptance::Auto => Status::Accepted,
            Acceptance::Manual => Status::Pending,
        };
        let entry =
            before.cloned().unwrap_or_else(|| Entry::new(device.id.clone(), status, now, None));
        Box::new(Entry {
            status,
            since: now,
            reason: None,
            station_revoked: false,
            birth: Some(birth.clone()),
            manifest: manifest.number,
            enrolled: device.grains.clone(),
            ..entry
        })
    };
    let Some(entry) = entry else { return Registration::New(fresh(None)) };
    // A station that was made anew since then counts its manifests from 1 again.
    let is_of_new_station = || {
        let made = timestamp(verified.authority.issued);
        entry.operational_after.is_some_and(|deleted| deleted < made)
    };
    if entry.manifest == 0 && manifest.number <= entry.forgotten && !is_of_new_station() {
        return Registration::Refused(Conflict::Deleted);
    }
    let is_older = manifest.number < entry.manifest;
    match (entry.status, &entry.birth) {
        // It stays known which certificates are another device's.
        (Status::Deleted, _) => Registration::New(fresh(Some(entry))),
        // Its station has made the device again that the station itself had revoked.
        (Status::Revoked, Some(known))
            if entry.station_revoked && !is_older && is_reissue(device, known, &birth) =>
        {
            Registration::Reissued(renounced(fresh(Some(entry)), now))
        }
        (Status::Revoked, Some(known)) if known.is_same_device(&birth) => Registration::Known(None),
        (Status::Revoked, _) => Registration::Refused(Conflict::Revoked),
        // A stranger's own word is worth less than the station's.
        (Status::Pending, _) if entry.manifest == 0 => Registration::New(fresh(Some(entry))),
        (Status::Rejected, Some(stranger)) if entry.manifest == 0 && stranger.key != birth.key => {
            Registration::New(fresh(Some(entry)))
        }
        (_, Some(known)) if known.station != birth.station => {
            Registration::Refused(Conflict::OtherStation)
        }
        // A later manifest has said more; one of a station that was made anew since then is no later one.
        (_, Some(known)) if known.key != birth.key && is_older => {
            if station.is_of_earlier_authority(entry.manifest, verified) {
                Registration::Refused(Conflict::OtherKey)
            } else {
                Registration::Known(None)
            }
        }
        (_, Some(known)) if known.key != birth.key && is_reissue(device, known, &birth) => {
            let entry = Entry {
                birth: Some(birth),
                manifest: manifest.number,
                enrolled: device.grains.clone(),
                ..entry.clone()
            };
            Registration::Reissued(renounced(Box::new(entry), now))
        }
        (_, Some(known)) if known.key != birth.key => Registration::Refused(Conflict::OtherKey),
        // Accepted or rejected by hand: the manifest brings what the station knows, not a verdict.
        (Status::Accepted | Status::Rejected | Status::Pending, _) => {
            let changed = Entry {
                birth: Some(birth),
                manifest: manifest.number.max(entry.manifest),
                enrolled: device.grains.clone(),
                ..entry.clone()
            };
            Registration::Known((!is_older && changed != *entry).then(|| Box::new(changed)))
        }
    }
}

/// Whether the station says that this key takes the place of the known one. One that it issued in between may never have
/// come here: then it is the same hardware.
fn is_reissue(device: &ManifestEntry, known: &Birth, birth: &Birth) -> bool {
    known.station == birth.station
        && device.reissue.as_ref().is_some_and(|reissue| {
            reissue.replaces == known.key
                || (known.serial.is_some() && known.serial == birth.serial)
        })
}

/// The certificates of the device before are no certificates of this one.
fn renounced(mut entry: Box<Entry>, now: Timestamp) -> Box<Entry> {
    entry.renounce_operational(now);
    entry
}

/// The entry of a device that its own station has revoked; `None` where that changes nothing: the id is another device's,
/// or was deleted since.
pub(super) fn withdraw(
    manifest: &Manifest,
    revoked: &RevokedMinion,
    entry: Option<&Entry>,
    now: Timestamp,
) -> Option<Entry> {
    let (key, station) = (revoked.key, manifest.station.clone());
    let birth = Birth { key, station, serial: None, certificate: None };
    let reason = Some(format!("revoked by its station: {}", revoked.reason).into());
    let known = match entry {
        Some(entry) => match &entry.birth {
            Some(known) => (known.key, &known.station) == (birth.key, &birth.station),
            // An id that was deleted, or of which no factory key is known.
            None => entry.status == Status::Deleted && manifest.number > entry.forgotten,
        },
        None => true,
    };
    if !known || entry.is_some_and(|entry| entry.status == Status::Revoked) {
        return None;
    }
    let before = entry.cloned();
    let before =
        before.unwrap_or_else(|| Entry::new(revoked.id.clone(), Status::Revoked, now, None));
    let birth = before.birth.clone().or(Some(birth));
    let manifest = manifest.number.max(before.manifest);
    let status = Status::Revoked;
    Some(Entry { status, since: now, reason, station_revoked: true, birth, manifest, ..before })
}
