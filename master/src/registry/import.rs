//! A station's manifest becomes what the registry knows. Whether its signature counts was asked before; what it makes of
//! each device is decided in `registration`.

use std::collections::HashMap;

use drover_pki::{
    MinionId,
    manifest::{Manifest, VerifiedManifest},
};
use drover_proto::{glob, tunnel::CutReason};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Conflict, Entry, ManifestRefused, Registry, StationRecord, Status, WRITES, key_event,
    registration::{self, Registration},
};
use crate::store::{Batch, PutError, ReadError, Revision};

/// What came of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Its station.
    pub station: String,
    /// Its number.
    pub number: u64,
    /// Devices that it registered.
    pub registered: Vec<MinionId>,
    /// Devices that were registered already.
    pub known: Vec<MinionId>,
    /// Devices that their station has made again, with another key: the one before counts no more.
    pub reissued: Vec<MinionId>,
    /// Devices that their station has revoked.
    pub revoked: Vec<MinionId>,
    /// Devices that contradict what is known, and were refused.
    pub refused: Vec<Refused>,
    /// Ids and globs that were asked for, and that no device of it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<String>,
}

/// Which devices of a manifest are imported: all, or those that one of these ids and globs matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Only(Box<[String]>);

/// A choice of devices that chooses none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("`only` names no device; it is ids or globs on ids, separated by commas")]
pub struct OnlyNobody;

impl TryFrom<String> for Only {
    type Error = OnlyNobody;

    fn try_from(text: String) -> Result<Self, OnlyNobody> {
        let patterns = text.split(',').filter(|pattern| !pattern.is_empty());
        let patterns: Box<[_]> = patterns.map(str::to_owned).collect();
        if patterns.is_empty() { Err(OnlyNobody) } else { Ok(Self(patterns)) }
    }
}

impl Only {
    /// Whether every device is meant.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the manifest has no device that is meant: nothing comes of it.
    #[must_use]
    pub fn has_missed(&self, import: &Import) -> bool {
        !self.is_all() && import.unmatched.len() == self.0.len()
    }

    fn means(&self, id: &MinionId) -> bool {
        self.is_all() || self.0.iter().any(|pattern| glob::matches(pattern, id.as_str()))
    }

    fn unmatched(&self, manifest: &Manifest) -> Vec<String> {
        let ids = || {
            let devices = manifest.minions.iter().map(|device| &device.id);
            devices.chain(manifest.revoked.iter().map(|revoked| &revoked.id))
        };
        let is_unmatched = |pattern: &&String| !ids().any(|id| glob::matches(pattern, id.as_str()));
        self.0.iter().filter(is_unmatched).cloned().collect()
    }
}

/// A device of a manifest that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The device.
    pub id: MinionId,
    /// Why.
    pub reason: Conflict,
}

/// Why a manifest was not imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] ManifestRefused),
    /// The store failed.
    #[error("store what the manifest says")]
    Store(#[from] PutError),
    /// The store failed.
    #[error("read what is known of the station")]
    Read(#[from] ReadError),
}

/// What a manifest changes.
#[derive(Default)]
struct Plan {
    changes: HashMap<MinionId, Change>,
    import: Import,
}

struct Change {
    before: Option<Entry>,
    after: Entry,
    revision: Option<Revision>,
    /// Whether it is told as an event, and ends what is open.
    is_verdict: bool,
}

impl Registry {
    /// Registers the devices of a manifest, or some of them. Returns once all of it is durable.
    ///
    /// # Errors
    /// When it may not be imported, or the store fails.
    pub async fn import(
        &self,
        verified: &VerifiedManifest,
        only: &Only,
        force: bool,
        now: Timestamp,
    ) -> Result<Import, ImportError> {
        let manifest = &verified.manifest;
        let changing = self.0.changing.lock().await;
        let Plan { changes, import } = self.plan_import(verified, only, force, now)?;
        if only.has_missed(&import) {
            return Ok(import);
        }
        let writes = changes.into_values().map(|change| self.write(change, now));
        let mut writes = stream::iter(writes).buffer_unordered(WRITES);
        while let Some(written) = writes.next().await {
            written?;
        }
        drop(writes);
        // Last: a manifest that was imported in part is imported again.
        let newest = self.0.store.manifest(manifest.station.as_str())?;
        let mut batch = Batch::new();
        // What is deleted stays so under every manifest up to this number. Of one that was imported in part the rest may
        // still come; how far its ledger goes is known either way.
        if only.is_all() {
            batch.manifest(manifest.station.as_str(), manifest.number.max(newest));
        }
        let (mut record, revision) = self.station(verified);
        if record.note(verified) {
            let name = &manifest.station;
            let revision = self.0.store.put_station(name, revision, &record, batch).await?;
            self.stations_mut().insert(name.clone(), (record, revision));
        } else {
            self.0.store.write(batch).await.map_err(PutError::from)?;
        }
        drop(changing);
        if let Some(crl) = self.0.crl.get()
            && !(import.reissued.is_empty() && import.revoked.is_empty())
        {
            crl.reissue().await;
        }
        Ok(import)
    }

    /// What would come of a manifest.
    ///
    /// # Errors
    /// When it may not be imported, or the store fails.
    pub async fn preview_import(
        &self,
        verified: &VerifiedManifest,
        only: &Only,
        force: bool,
        now: Timestamp,
    ) -> Result<Import, ImportError> {
        let _changing = self.0.changing.lock().await;
        Ok(self.plan_import(verified, only, force, now)?.import)
    }

    fn station(&self, verified: &VerifiedManifest) -> (StationRecord, Option<Revision>) {
        let name = &verified.manifest.station;
        match self.stations().get(name) {
            Some((record, revision)) => (record.clone(), Some(*revision)),
            None => (StationRecord::new(name.clone()), None),
        }
    }

    fn plan_import(
        &self,
        verified: &VerifiedManifest,
        only: &Only,
        force: bool,
        now: Timestamp,
    ) -> Result<Plan, ImportError> {
        let manifest = &verified.manifest;
        let (station, _) = self.station(verified);
        station.check(verified, force)?;
        let mut plan = Plan::default();
        plan.import.station = manifest.station.to_string();
        plan.import.number = manifest.number;
        plan.import.unmatched = only.unmatched(manifest);
        for device in manifest.minions.iter().filter(|device| only.means(&device.id)) {
            let (before, revision) = self.entry_and_revision(&device.id);
            let registration = registration::register(
                self.0.policy,
                &station,
                verified,
                device,
                before.as_ref(),
                now,
            );
            let id = device.id.clone();
            let (after, is_verdict) = match registration {
                Registration::New(entry) => {
                    plan.import.registered.push(id.clone());
                    (entry, true)
                }
                Registration::Reissued(entry) => {
                    plan.import.reissued.push(id.clone());
                    (entry, true)
                }
                Registration::Known(changed) => {
                    plan.import.known.push(id.clone());
                    let Some(entry) = changed else { continue };
                    (entry, false)
                }
                Registration::Refused(reason) => {
                    plan.import.refused.push(Refused { id, reason });
                    continue;
                }
            };
            let change = Change { before, after: *after, revision, is_verdict };
            plan.changes.insert(id, change);
        }
        for revoked in manifest.revoked.iter().filter(|revoked| only.means(&revoked.id)) {
            let (before, revision) = self.entry_and_revision(&revoked.id);
            let planned = plan.changes.get(&revoked.id).map(|change| &change.after);
            let withdrawn =
                registration::withdraw(manifest, revoked, planned.or(before.as_ref()), now);
            if let Some(after) = withdrawn {
                plan.import.revoked.push(revoked.id.clone());
                let change = Change { before, after, revision, is_verdict: true };
                plan.changes.insert(revoked.id.clone(), change);
            }
        }
        Ok(plan)
    }

    async fn write(&self, change: Change, now: Timestamp) -> Result<(), ImportError> {
        let Change { before, after, revision, is_verdict } = change;
        let mut batch = if is_verdict { key_event(&after).into() } else { Batch::new() };
        if let Some(before) = &before {
            self.revoke_certificates(before, &after, now, &mut batch)?;
        }
        let revision = self.0.store.put_registry(&after.id, revision, &after, batch).await?;
        self.put_row(after.clone(), revision);
        // A key that counts no more ends what was opened with it.
        let is_other_key = before.is_some_and(|before| {
            before.status == Status::Accepted
                && before.birth.as_ref().is_some_and(|birth| {
                    Some(birth.key) != after.birth.as_ref().map(|birth| birth.key)
                })
        });
        match self.0.gateway.get().filter(|_| is_other_key) {
            Some(gateway) => drop(gateway.cut_minion(&after.id, CutReason::NotAccepted)),
            None => self.cut_unless_accepted(&after),
        }
        Ok(())
    }
}
