//! Stations that were stolen, and the list of those that are known.

use std::collections::BTreeMap;

use drover_pki::StationName;
use drover_proto::{MinionId, event::NewEvent};
use jiff::Timestamp;
use rustls_pki_types::UnixTime;
use serde::Serialize;
use serde_json::json;

use super::{ChangeError, Registry, StationRecord, Status, Verb, station::StationRevocation};
use crate::store::{Batch, ReadError};

/// One station, as it is listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Station {
    /// Devices of it that are registered, by their status.
    pub devices: BTreeMap<Status, usize>,
    /// The number of its newest manifest; 0 for none.
    pub manifest: u64,
    /// Since when it is revoked.
    pub revoked: Option<Timestamp>,
    /// Why.
    pub reason: Option<Box<str>>,
}

/// What came of revoking a station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RevokedStation {
    /// Which.
    pub station: StationName,
    /// Since when.
    pub since: Timestamp,
    /// Devices that were revoked with it.
    pub revoked: Vec<MinionId>,
    /// Devices that waited to be accepted, and are rejected now.
    pub rejected: Vec<MinionId>,
    /// Devices of it that may connect still.
    pub kept: Vec<MinionId>,
}

impl Registry {
    /// Refuses what a station signs from now on, be it devices or manifests. Devices of it that were registered before may
    /// connect still, unless `devices` is set: then each is revoked. Those that wait are rejected, so that nobody accepts
    /// them with the others. Returns once all of it is durable and in force.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn revoke_station(
        &self,
        name: &StationName,
        devices: bool,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<RevokedStation, ChangeError> {
        {
            let _changing = self.0.changing.lock().await;
            let (record, revision) = match self.stations().get(name) {
                Some((record, revision)) => (record.clone(), Some(*revision)),
                None => (StationRecord::new(name.clone()), None),
            };
            let revoked = StationRevocation { at: now, reason: reason.map(Into::into) };
            let record = StationRecord { revoked: Some(revoked), ..record };
            let tag = format!("drover/station/{name}/revoked");
            let tag = tag.parse().expect("a station's name fits into a tag");
            let data = json!({ "station": name, "reason": reason, "devices": devices });
            let batch = Batch::from(NewEvent::new(tag, None, data));
            let revision = self.0.store.put_station(name, revision, &record, batch).await?;
            // Durable: from here on its newcomers and manifests are refused.
            self.stations_mut().insert(name.clone(), (record, revision));
        }
        let of_station = |wanted: &dyn Fn(Status) -> bool| -> Vec<MinionId> {
            let rows = self.rows();
            let entries = rows.values().map(|row| &row.entry);
            let of_station = entries.filter(|entry| {
                wanted(entry.status)
                    && entry.birth.as_ref().is_some_and(|birth| birth.station == *name)
            });
            let mut ids: Vec<_> = of_station.map(|entry| entry.id.clone()).collect();
            ids.sort_unstable();
            ids
        };
        let reason = match reason {
            Some(reason) => format!("its station `{name}` is revoked: {reason}"),
            None => format!("its station `{name}` is revoked"),
        };
        let (mut revoked, mut rejected) = (Vec::new(), Vec::new());
        if devices {
            revoked = of_station(&|status| !matches!(status, Status::Revoked | Status::Deleted));
            self.change_all(&revoked, Verb::Revoke, &reason, now).await?;
        } else {
            rejected = of_station(&|status| status == Status::Pending);
            self.change_all(&rejected, Verb::Reject, &reason, now).await?;
        }
        let kept = of_station(&|status| status == Status::Accepted);
        Ok(RevokedStation { station: name.clone(), since: now, revoked, rejected, kept })
    }

    async fn change_all(
        &self,
        ids: &[MinionId],
        verb: Verb,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        for (_, changed) in self.change(ids, verb, Some(reason), now).await {
            match changed {
                // One that somebody deleted or revoked at the same time is as it should be.
                Ok(_) | Err(ChangeError::Verb(_)) => {}
                Err(error @ (ChangeError::Store(_) | ChangeError::Read(_))) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether what a station's authority says is refused.
    pub(super) fn refuses_station(&self, station: &StationName, issuer_issued: UnixTime) -> bool {
        self.stations().get(station).is_some_and(|(record, _)| record.refuses(issuer_issued))
    }

    /// Every station that a device, a manifest or an operator named.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn known_stations(&self) -> Result<BTreeMap<StationName, Station>, ReadError> {
        let mut known = BTreeMap::<StationName, Station>::new();
        for row in self.rows().values() {
            let Some(birth) = &row.entry.birth else { continue };
            let station = known.entry(birth.station.clone()).or_default();
            *station.devices.entry(row.entry.status).or_default() += 1;
        }
        for (name, manifest) in self.0.store.manifests()? {
            known.entry(name).or_default().manifest = manifest;
        }
        for (name, (record, _)) in self.stations().iter() {
            let station = known.entry(name.clone()).or_default();
            station.revoked = record.revoked.as_ref().map(|revoked| revoked.at);
            station.reason = record.revoked.as_ref().and_then(|revoked| revoked.reason.clone());
        }
        Ok(known)
    }
}
