//! Stores what minions themselves change of their entries: that they showed themselves for the first time, that they use
//! a certificate, that they were issued one. Many at a time, so that a fleet shares its flushes.

use std::{collections::HashSet, sync::Weak, time::Duration};

use drover_pki::HardwareSerial;
use drover_proto::{
    MinionId,
    event::{NewEvent, Tag},
};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use super::{
    Inner, Registry,
    certificates::{AskedBy, IssueRefused, IssuedCertificate, ShownCertificate, Standing},
    entry::Entry,
    key_event,
};
use crate::store::{Batch, PutError, StoreError};

/// Amendments that wait. Strangers past that are refused unremembered.
pub(super) const WAITING: usize = 1_024;
/// Those that are written together.
const GROUP: usize = 512;

/// What a minion changes of its entry.
pub(super) enum Amendment {
    /// It is in memory, and is to be stored as it is there.
    Newcomer(MinionId),
    /// It was welcomed with this certificate.
    Used { id: MinionId, certificate: Box<IssuedCertificate>, now: Timestamp },
    /// It is to be issued this certificate.
    Issue(Box<Issue>),
}

/// A certificate that is signed, and not sent before it is stored.
pub(super) struct Issue {
    pub(super) id: MinionId,
    pub(super) certificate: IssuedCertificate,
    pub(super) by: AskedBy,
    pub(super) shown: ShownCertificate,
    /// See [`Entry::may_be_issued`].
    pub(super) window: Duration,
    pub(super) now: Timestamp,
    pub(super) answer: oneshot::Sender<Result<(), IssueRefused>>,
}

impl Amendment {
    const fn id(&self) -> &MinionId {
        match self {
            Self::Newcomer(id) | Self::Used { id, .. } => id,
            Self::Issue(issue) => &issue.id,
        }
    }
}

/// Stores amendments.
pub struct RegistryTask {
    pub(super) registry: Weak<Inner>,
    pub(super) waiting: mpsc::Receiver<Amendment>,
}

impl RegistryTask {
    /// Until the last handle is dropped.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run(mut self) -> Result<(), StoreError> {
        let mut waiting = Vec::new();
        while self.waiting.recv_many(&mut waiting, GROUP).await > 0 {
            let Some(inner) = self.registry.upgrade() else { break };
            let registry = Registry(inner);
            // What minions change takes nothing of the reserve, which is for who revokes their keys. Nobody holds the
            // registry's lock meanwhile.
            registry.0.store.room().await?;
            while !waiting.is_empty() {
                // Two of one minion follow each other: the second builds upon the first.
                let mut met = HashSet::new();
                let (group, later) =
                    waiting.drain(..).partition(|one| met.insert(one.id().clone()));
                waiting = later;
                registry.amend(group).await?;
            }
        }
        Ok(())
    }
}

impl Registry {
    async fn amend(&self, group: Vec<Amendment>) -> Result<(), StoreError> {
        let _changing = self.0.changing.lock().await;
        let mut writes =
            stream::iter(group).map(|amendment| self.amend_one(amendment)).buffer_unordered(GROUP);
        while let Some(written) = writes.next().await {
            written?;
        }
        Ok(())
    }

    async fn amend_one(&self, amendment: Amendment) -> Result<(), StoreError> {
        match amendment {
            Amendment::Newcomer(id) => {
                let is_unstored = self.rows_mut().get_mut(&id).is_some_and(|row| {
                    // An operator or a manifest was quicker, and has stored what counts.
                    std::mem::take(&mut row.is_newcomer)
                });
                if let (Some(entry), revision) = self.entry_and_revision(&id)
                    && is_unstored
                {
                    let batch = key_event(&entry).into();
                    self.put_amended(entry, revision, batch).await?;
                }
            }
            Amendment::Used { id, certificate, now } => {
                if let (Some(mut entry), revision) = self.entry_and_revision(&id)
                    && let Some(forgotten) = entry.use_certificate(*certificate, now)
                {
                    let mut batch = Batch::new();
                    self.revoke_forgotten(&forgotten, now, &mut batch);
                    self.put_amended(entry, revision, batch).await?;
                }
            }
            Amendment::Issue(issue) => {
                let Issue { id, certificate, by, shown, window, now, answer } = *issue;
                let (entry, revision) = self.entry_and_revision(&id);
                // It may have been revoked or replaced while the certificate was being signed.
                let permitted = entry
                    .ok_or(IssueRefused::NotAccepted(id))
                    .and_then(|entry| entry.may_be_issued(shown, window, now).map(|()| entry));
                let stored = match permitted {
                    Ok(mut entry) => {
                        let mut batch = Batch::from(renewed(&entry.id, &certificate, by));
                        let forgotten = entry.add_certificate(certificate, now);
                        self.revoke_forgotten(&forgotten, now, &mut batch);
                        let id = entry.id.clone();
                        let is_stored = self.put_amended(entry, revision, batch).await?;
                        match is_stored {
                            true => Ok(()),
                            false if self.0.store.is_full() => Err(IssueRefused::Full),
                            false => Err(IssueRefused::NotAccepted(id)),
                        }
                    }
                    Err(refused) => Err(refused),
                };
                // Whoever asked may have gone; the certificate is on the books all the same.
                let _ = answer.send(stored);
            }
        }
        Ok(())
    }

    /// Whether it was stored: if not, something else wrote to the registry's place, which would be a bug.
    async fn put_amended(
        &self,
        entry: Entry,
        revision: Option<crate::store::Revision>,
        batch: Batch,
    ) -> Result<bool, StoreError> {
        match self.0.store.put_registry(&entry.id, revision, &entry, batch).await {
            Ok(revision) => {
                self.put_row(entry, revision);
                Ok(true)
            }
            Err(PutError::Store(StoreError::Full)) => {
                // Its minion comes again, and shows what it showed.
                tracing::warn!(minion = %entry.id, "the store is full: a change of its entry is not kept");
                Ok(false)
            }
            Err(PutError::Store(StoreError::Failed)) => Err(StoreError::Failed),
            Err(PutError::Conflict) => {
                tracing::error!(minion = %entry.id, "the registry and its store disagree");
                Ok(false)
            }
        }
    }

    /// Notes that a minion was welcomed with a certificate, where that says something new.
    pub fn used(&self, id: &MinionId, certificate: IssuedCertificate, now: Timestamp) {
        let (fingerprint, issued) = (certificate.fingerprint, certificate.issued);
        let is_new = |entry: &Entry| entry.standing(fingerprint, issued) == Some(Standing::New);
        if self.rows().get(id).is_some_and(|row| is_new(&row.entry)) {
            let used = Amendment::Used { id: id.clone(), certificate: Box::new(certificate), now };
            if let Err(TrySendError::Full(used)) = self.0.amendments.try_send(used)
                && !self.0.store.is_full()
            {
                // A fleet that comes at once: as many wait as are connected.
                let amendments = self.0.amendments.clone();
                tokio::spawn(async move { amendments.send(used).await });
            }
        }
    }

    /// Enters a certificate that is about to be sent. Returns once that is durable.
    ///
    /// # Errors
    /// When the minion may not have it, or no more now.
    pub async fn issue(
        &self,
        id: &MinionId,
        certificate: IssuedCertificate,
        by: AskedBy,
        shown: ShownCertificate,
        window: Duration,
        now: Timestamp,
    ) -> Result<(), IssueRefused> {
        if self.0.store.is_full() {
            return Err(IssueRefused::Full);
        }
        let (answer, answered) = oneshot::channel();
        let id = id.clone();
        let issue = Issue { id, certificate, by, shown, window, now, answer };
        let stopping = |_| IssueRefused::Stopping;
        let sent = self.0.amendments.send(Amendment::Issue(Box::new(issue))).await;
        sent.map_err(|_| IssueRefused::Stopping)?;
        answered.await.map_err(stopping)?
    }

    /// Whether who showed this may have a certificate now, asked before anything costly is done for it: the hardware serial number
    /// that it is registered by.
    ///
    /// # Errors
    /// When it may not.
    pub fn permit(
        &self,
        id: &MinionId,
        shown: ShownCertificate,
        window: Duration,
        now: Timestamp,
    ) -> Result<Option<HardwareSerial>, IssueRefused> {
        let rows = self.rows();
        let row = rows.get(id).ok_or_else(|| IssueRefused::NotAccepted(id.clone()))?;
        row.entry.may_be_issued(shown, window, now)?;
        Ok(row.entry.birth.as_ref().and_then(|birth| birth.serial.clone()))
    }
}

fn renewed(id: &MinionId, certificate: &IssuedCertificate, by: AskedBy) -> NewEvent {
    let data = json!({
        "id": id,
        "serial": certificate.serial,
        "fingerprint": certificate.fingerprint.with_colons(),
        "issued": certificate.issued,
        "expires": certificate.expires,
        "by": by,
    });
    NewEvent::new(Tag::key(id, "renewed"), Some(id.clone()), data)
}
