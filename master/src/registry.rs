//! Which minions there are and which of them may connect. The gateway asks it, operators and manifests change it, and
//! targets are matched against it. What it decides is in `admission` and `change`; here are its memory and its store.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use drover_pki::{
    Fingerprint, KeyDigest, MinionId, StationName,
    crl::RevocationReason,
    verify::{MinionCertificate, MinionCertificateKind},
};
use drover_proto::{
    event::{NewEvent, Tag},
    message::Scope,
    tunnel::{Admission, CutReason, GatewayHandle, Refusal},
};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio::sync::{Mutex, mpsc};

use crate::{
    config::Acceptance,
    crl::{CrlHandle, Revocation},
    store::{Batch, PutError, ReadError, Revision, Store},
};

mod admission;
mod certificates;
mod change;
mod entry;
mod import;
mod registration;
mod retirement;
mod station;
mod stations;
mod targets;
mod task;

#[cfg(test)]
mod tests;

pub(crate) use certificates::timestamp;
pub use certificates::{
    AskedBy, IssueRefused, IssuedCertificate, OperationalCertificates, ShownCertificate,
};
pub use change::{Verb, VerbError};
pub use entry::{Birth, Entry, Sighting, Status};
pub use import::{Import, ImportError, Only, OnlyNobody, Refused};
pub use registration::Conflict;
pub use retirement::{LastAct, LastActEnd, Retirement};
pub use station::{KnownLedger, ManifestRefused, StationRecord, StationRevocation};
pub use stations::{RevokedStation, Station};
pub use targets::{Matched, Shown};
pub use task::RegistryTask;

use admission::{Decision, Reason, Rules};
use task::Amendment;

/// Strangers that are remembered as waiting. A stolen station could make any number.
const MOST_PENDING: usize = 10_000;
/// Entries of a manifest that are written at a time; the store flushes them together.
const WRITES: usize = 512;

/// Holds what is known of every minion; clones share it.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    policy: Acceptance,
    /// Whether this master issues operational certificates.
    issues: AtomicBool,
    store: Store,
    rows: RwLock<HashMap<MinionId, Row>>,
    /// Held while an entry is changed, so that the memory and the store agree.
    changing: Mutex<()>,
    amendments: mpsc::Sender<Amendment>,
    gateway: OnceLock<GatewayHandle>,
    crl: OnceLock<CrlHandle>,
    alarms: OnceLock<mpsc::Sender<SupersededShown>>,
    stations: RwLock<Stations>,
    dropped_issuers: RwLock<Arc<[KeyDigest]>>,
}

/// What is known of stations, each with its revision in the store.
type Stations = HashMap<StationName, (StationRecord, Revision)>;

struct Row {
    entry: Entry,
    /// What the store has; `None` for an entry that is not in it yet.
    revision: Option<Revision>,
    sighting: Sighting,
    /// Entry and sighting together, made anew when one changes.
    grains: Arc<Map<String, Value>>,
    /// In memory, and not yet in the store.
    is_newcomer: bool,
}

impl Row {
    fn new(entry: Entry, revision: Option<Revision>, sighting: Sighting) -> Self {
        let grains = Arc::new(entry.grains(&sighting));
        Self { entry, revision, sighting, grains, is_newcomer: false }
    }
}

/// Why a key could not be changed.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// It may not be.
    #[error(transparent)]
    Verb(#[from] VerbError),
    /// The store failed.
    #[error("store the change")]
    Store(#[from] PutError),
    /// The store failed.
    #[error("read the newest manifest")]
    Read(#[from] ReadError),
}

/// A superseded operational certificate that was shown: two machines may have one identity.
#[derive(Debug, Clone)]
pub struct SupersededShown {
    /// Whose.
    pub minion: MinionId,
    /// From where.
    pub address: SocketAddr,
    /// SHA-256 of it.
    pub fingerprint: Fingerprint,
    /// When.
    pub at: Timestamp,
}

/// A key that was changed, or is as it was wanted already.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The status before.
    pub was: Status,
    /// The entry as it is now.
    pub entry: Entry,
}

impl Registry {
    /// Reads the registry from the store. The task stores what minions change; it ends with the last
    /// handle.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(store: Store, policy: Acceptance) -> Result<(Self, RegistryTask), ReadError> {
        let mut sightings: HashMap<MinionId, Sighting> = store.sightings()?.into_iter().collect();
        let rows = store.registry::<Entry>()?.into_iter().map(|(revision, entry)| {
            let sighting = sightings.remove(&entry.id).unwrap_or_default();
            (entry.id.clone(), Row::new(entry, Some(revision), sighting))
        });
        let stations = store.stations::<StationRecord>()?.into_iter();
        let stations = stations.map(|(revision, record)| (record.name.clone(), (record, revision)));
        let (amendments, waiting) = mpsc::channel(task::WAITING);
        let inner = Inner {
            policy,
            issues: AtomicBool::new(false),
            rows: RwLock::new(rows.collect()),
            store,
            changing: Mutex::new(()),
            amendments,
            gateway: OnceLock::new(),
            crl: OnceLock::new(),
            alarms: OnceLock::new(),
            stations: RwLock::new(stations.collect()),
            dropped_issuers: RwLock::new(Arc::default()),
        };
        let registry = Self(Arc::new(inner));
        let task = RegistryTask { registry: Arc::downgrade(&registry.0), waiting };
        Ok((registry, task))
    }

    /// Whose connections to cut.
    pub fn set_gateway(&self, gateway: GatewayHandle) {
        // One gateway for each registry; a second one would be a bug that changes nothing here.
        let _ = self.0.gateway.set(gateway);
    }

    /// Who is told of superseded certificates that are shown.
    pub fn set_alarms(&self, alarms: mpsc::Sender<SupersededShown>) {
        // As with the gateway.
        let _ = self.0.alarms.set(alarms);
    }

    /// Where certificates are published that were taken back.
    pub fn set_crl(&self, crl: CrlHandle) {
        // As with the gateway.
        let _ = self.0.crl.set(crl);
    }

    /// Whether who shows a birth certificate comes for an operational one, and can do nothing else.
    pub fn set_issuing(&self, issues: bool) {
        self.0.issues.store(issues, Ordering::Relaxed);
    }

    /// What a minion that the gateway let through may do still, if anything.
    #[must_use]
    pub fn scope(&self, certificate: &MinionCertificate, now: Timestamp) -> Option<Scope> {
        self.decide(certificate, now).scope()
    }

    fn decide(&self, certificate: &MinionCertificate, now: Timestamp) -> Decision {
        self.decide_by(&self.rows(), certificate, now)
    }

    fn decide_by(
        &self,
        rows: &HashMap<MinionId, Row>,
        certificate: &MinionCertificate,
        now: Timestamp,
    ) -> Decision {
        let is_station_revoked = match &certificate.kind {
            MinionCertificateKind::IDevId { station, issuer } => {
                self.refuses_station(station, issuer.issued)
            }
            MinionCertificateKind::LDevId { issuer, .. } => {
                let dropped = &self.0.dropped_issuers;
                let dropped = dropped.read().unwrap_or_else(PoisonError::into_inner);
                if dropped.contains(&issuer.key) {
                    return Decision::Refuse(Reason::Dropped);
                }
                false
            }
        };
        let entry = rows.get(&certificate.id).map(|row| &row.entry);
        // One that comes for its last act is issued nothing any more, and may have its birth certificate alone.
        let is_leaving = entry.is_some_and(|entry| entry.is_leaving(now));
        let rules = Rules {
            policy: self.0.policy,
            issues: self.0.issues.load(Ordering::Relaxed) && !is_leaving,
            is_station_revoked,
        };
        admission::decide(rules, entry, certificate, now)
    }

    /// Does to keys what an operator wants. Returns once all of it is durable and in force, with what became of each: one
    /// that cannot be changed holds up none of the others.
    pub async fn change(
        &self,
        ids: &[MinionId],
        verb: Verb,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Vec<(MinionId, Result<Changed, ChangeError>)> {
        let changing = self.0.changing.lock().await;
        // Written together, so that a whole fleet shares its flushes. The same id twice would race with itself.
        let mut met = HashSet::new();
        let ids: Vec<_> = ids.iter().filter(|id| met.insert(*id)).cloned().collect();
        let changes = ids.into_iter().map(|id| async move {
            let changed = self.change_one(&id, verb, reason, Batch::new(), now).await;
            (id, changed)
        });
        let changed: Vec<_> = stream::iter(changes).buffered(WRITES).collect().await;
        drop(changing);
        if let Some(crl) = self.0.crl.get()
            && matches!(verb, Verb::Revoke | Verb::Delete)
        {
            crl.reissue().await;
        }
        changed
    }

    async fn change_one(
        &self,
        id: &MinionId,
        verb: Verb,
        reason: Option<&str>,
        mut batch: Batch,
        now: Timestamp,
    ) -> Result<Changed, ChangeError> {
        let (entry, revision) = self.entry_and_revision(id);
        let newest = match entry.as_ref().and_then(|entry| entry.birth.as_ref()) {
            Some(birth) => self.0.store.manifest(birth.station.as_str())?,
            None => 0,
        };
        let after = change::apply(verb, reason, entry.as_ref(), id.as_str(), newest, now)?;
        let entry = entry.expect("what can be changed is there");
        let was = entry.status;
        let Some(after) = after else { return Ok(Changed { was, entry }) };
        if after.status == Status::Deleted {
            batch.sighting_over(id);
            batch.presence_over(id);
        } else if after.status != was {
            batch.event(key_event(&after));
        }
        self.revoke_certificates(&entry, &after, now, &mut batch)?;
        let revision = self.0.store.put_registry(id, revision, &after, batch).await?;
        // Durable: now it comes into force, for handshakes first and then for what is open.
        self.put_row(after.clone(), revision);
        self.cut_unless_accepted(&after);
        Ok(Changed { was, entry: after })
    }

    /// What the lists of revoked certificates are to name from now on, because of a change.
    fn revoke_certificates(
        &self,
        before: &Entry,
        after: &Entry,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<(), ReadError> {
        let reason = change::revocation_reason(before, after);
        let (Some(crl), Some(reason)) = (self.0.crl.get(), reason) else { return Ok(()) };
        let certificates = before.operational.iter().flat_map(|operational| operational.all());
        crl.add_to(&revocations(certificates, reason, now), batch)
    }

    /// Certificates that are not kept any more are revoked: later nobody could. No list is made for them; they are in the
    /// next one.
    fn revoke_forgotten(&self, forgotten: &[IssuedCertificate], now: Timestamp, batch: &mut Batch) {
        let Some(crl) = self.0.crl.get() else { return };
        let revocations = revocations(forgotten, RevocationReason::Superseded, now);
        if let Err(error) = crl.add_to(&revocations, batch) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a certificate that is not kept is not revoked");
        }
    }

    /// Remembers what a minion shows of itself, and adds it to the batch where it is new. That it was seen alone is not
    /// new while it is connected.
    pub fn sighted(&self, id: &MinionId, sighting: Sighting, is_leaving: bool, batch: &mut Batch) {
        let mut rows = self.rows_mut();
        let Some(row) = rows.get_mut(id) else { return };
        let known = &row.sighting;
        let has_new_grains = known.own != sighting.own;
        if is_leaving
            || has_new_grains
            || (&known.version, known.address) != (&sighting.version, sighting.address)
            || (known.root_list, known.roots) != (sighting.root_list, sighting.roots)
        {
            batch.sighting(id, &sighting);
        }
        row.sighting = sighting;
        if has_new_grains {
            row.grains = Arc::new(row.entry.grains(&row.sighting));
        }
    }

    /// Shows everybody who is not deleted, and what each last showed of itself.
    pub fn survey(&self, mut show: impl FnMut(&Entry, &Sighting)) {
        for row in self.rows().values().filter(|row| row.entry.status != Status::Deleted) {
            show(&row.entry, &row.sighting);
        }
    }

    /// Operational certificates from these fleet CAs are accepted no more.
    pub fn set_dropped_issuers(&self, dropped: Arc<[KeyDigest]>) {
        *self.0.dropped_issuers.write().unwrap_or_else(PoisonError::into_inner) = dropped;
    }

    /// What a minion last showed of itself.
    #[must_use]
    pub fn sighting(&self, id: &MinionId) -> Sighting {
        self.rows().get(id).map(|row| row.sighting.clone()).unwrap_or_default()
    }

    /// The grains of a minion that count; nothing of one that is not known.
    #[must_use]
    pub fn grains(&self, id: &MinionId) -> Option<Arc<Map<String, Value>>> {
        let rows = self.rows();
        let row = rows.get(id).filter(|row| row.entry.status != Status::Deleted);
        row.map(|row| row.grains.clone())
    }

    /// What is known of a minion; nothing of one that was deleted.
    #[must_use]
    pub fn entry(&self, id: &MinionId) -> Option<Entry> {
        let rows = self.rows();
        rows.get(id).map(|row| row.entry.clone()).filter(|entry| entry.status != Status::Deleted)
    }

    fn entry_and_revision(&self, id: &MinionId) -> (Option<Entry>, Option<Revision>) {
        let rows = self.rows();
        let row = rows.get(id);
        (row.map(|row| row.entry.clone()), row.and_then(|row| row.revision))
    }

    fn put_row(&self, entry: Entry, revision: Revision) {
        let mut rows = self.rows_mut();
        let sighting = rows.remove(&entry.id).map(|row| row.sighting);
        let sighting = sighting.filter(|_| entry.status != Status::Deleted).unwrap_or_default();
        rows.insert(entry.id.clone(), Row::new(entry, Some(revision), sighting));
    }

    fn cut_unless_accepted(&self, entry: &Entry) {
        if entry.status != Status::Accepted
            && let Some(gateway) = self.0.gateway.get()
        {
            gateway.cut_minion(&entry.id, CutReason::NotAccepted);
        }
    }

    /// Decides of a device once more, which is a newcomer as it seems, and takes its entry into memory, to be stored by the
    /// task. Nobody changes the entry in between: an operator or a manifest may just have.
    fn welcome_newcomer(&self, certificate: &MinionCertificate, now: Timestamp) -> Decision {
        let mut rows = self.rows_mut();
        let decision = self.decide_by(&rows, certificate, now);
        let entry = match &decision {
            Decision::AdmitNew(entry, _) | Decision::RefuseNew(entry) => entry.as_ref().clone(),
            Decision::Admit(_) | Decision::Refuse(_) => return decision,
        };
        let waits = Decision::Refuse(Reason::Pending);
        let is_crowded = || {
            rows.values().filter(|row| row.entry.status == Status::Pending).count() >= MOST_PENDING
        };
        if entry.status == Status::Pending && is_crowded() {
            return waits;
        }
        let Ok(place) = self.0.amendments.try_reserve() else { return waits };
        let id = entry.id.clone();
        let before = rows.remove(&id);
        let (revision, sighting) =
            before.map_or((None, Sighting::default()), |row| (row.revision, row.sighting));
        let row = Row { is_newcomer: true, ..Row::new(entry, revision, sighting) };
        rows.insert(id.clone(), row);
        place.send(Amendment::Newcomer(id));
        decision
    }

    fn stations(&self) -> RwLockReadGuard<'_, Stations> {
        self.0.stations.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn stations_mut(&self) -> RwLockWriteGuard<'_, Stations> {
        self.0.stations.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows(&self) -> RwLockReadGuard<'_, HashMap<MinionId, Row>> {
        self.0.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows_mut(&self) -> RwLockWriteGuard<'_, HashMap<MinionId, Row>> {
        self.0.rows.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission for Registry {
    fn admit(&self, certificate: &MinionCertificate, address: SocketAddr) -> Result<(), Refusal> {
        // The gateway calls this as a shell; the time is that of a newcomer's entry.
        let now = Timestamp::now();
        let decision = match self.decide(certificate, now) {
            Decision::AdmitNew(..) | Decision::RefuseNew(_) => {
                self.welcome_newcomer(certificate, now)
            }
            decided @ (Decision::Admit(_) | Decision::Refuse(_)) => decided,
        };
        let refused = match decision {
            Decision::Admit(_) | Decision::AdmitNew(..) => None,
            Decision::RefuseNew(_) => Some(Reason::Pending),
            Decision::Refuse(reason) => {
                if let (Reason::Superseded, Some(alarms)) = (reason, self.0.alarms.get()) {
                    let (minion, fingerprint) = (certificate.id.clone(), certificate.fingerprint);
                    // Where the hub is behind, the machine shows it again soon.
                    let _ =
                        alarms.try_send(SupersededShown { minion, address, fingerprint, at: now });
                }
                Some(reason)
            }
        };
        match refused {
            None => Ok(()),
            Some(reason) => Err(Refusal(format!("`{}`: {reason}", certificate.id))),
        }
    }
}

fn revocations<'a>(
    certificates: impl IntoIterator<Item = &'a IssuedCertificate>,
    reason: RevocationReason,
    at: Timestamp,
) -> Vec<Revocation> {
    let revocation = |certificate: &IssuedCertificate| Revocation {
        issuer: certificate.issuer,
        serial: certificate.serial.clone(),
        expires: certificate.expires,
        at,
        reason,
    };
    certificates.into_iter().map(revocation).collect()
}

fn key_event(entry: &Entry) -> NewEvent {
    let what = entry.status.word();
    let station = entry.birth.as_ref().map(|birth| birth.station.as_str());
    let key = entry.birth.as_ref().map(|birth| birth.key.with_colons());
    let mut data = json!({ "id": entry.id, "status": what, "station": station, "key": key });
    if let Some(reason) = &entry.reason {
        data["reason"] = json!(reason);
    }
    NewEvent::new(Tag::key(&entry.id, what), Some(entry.id.clone()), data)
}
