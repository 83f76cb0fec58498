//! What this master takes back: each fleet CA's revocation list (RFC 5280 §5), for others to read. Whom
//! the master itself lets in is the registry's to say. Stations' lists, which come with their
//! manifests, are kept beside.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use drover_pki::{
    Authority, Fingerprint, KeyDigest, StationName,
    crl::{RevocationList, RevocationReason},
    verify::FactoryAuthority,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    registry::timestamp,
    store::{Batch, ReadError, Store, StoreError},
};

mod schedule;
mod task;

pub use schedule::Revocation;
pub use task::CrlTask;

use task::Command;

/// The file of the authority that issues now.
const FILE: &str = "crl.pem";

/// A list as it stands.
#[derive(Debug, Clone)]
pub struct Published {
    /// The authority's key.
    pub issuer: KeyDigest,
    /// The list.
    pub list: Arc<RevocationList>,
    /// Where it is written.
    pub file: PathBuf,
}

impl Published {
    /// The name in its path where it is served: `crl-NAME.pem`.
    #[must_use]
    pub fn name(&self) -> String {
        name(&self.issuer)
    }

    fn report(&self) -> Value {
        let file = json!(self.file);
        report(&self.issuer, &self.list, "file", file)
    }
}

/// A station's list, as a manifest brought it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactoryList {
    /// The station.
    pub station: StationName,
    /// Its authority's key.
    pub issuer: KeyDigest,
    /// The authority's certificate.
    pub fingerprint: Fingerprint,
    /// When that was issued.
    pub issued: Timestamp,
    /// The end of its validity.
    pub expires: Timestamp,
    /// The list's number.
    pub number: u64,
    /// The list in PEM.
    pub pem: String,
}

/// Revokes, and gives the lists. Clones share it.
#[derive(Clone)]
pub struct CrlHandle {
    store: Store,
    commands: mpsc::Sender<Command>,
    published: watch::Receiver<Arc<[Published]>>,
    /// Where the stations' lists are kept, by the names in their paths: what strangers ask for is looked up here.
    factory: Arc<RwLock<HashMap<String, (StationName, KeyDigest)>>>,
}

impl CrlHandle {
    /// Remembers that certificates were revoked, and has their authorities' lists made anew. Returns
    /// when that is durable and the lists are out, or could not be made: the task tries again. What
    /// was revoked before, or has ended, stays as it is.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke(&self, revocations: &[Revocation]) -> Result<(), RevokeError> {
        let mut batch = Batch::new();
        self.add_to(revocations, &mut batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        self.store.write(batch).await?;
        self.reissue().await;
        Ok(())
    }

    /// Adds revocations to a batch that says why, so that they become durable with it;
    /// [`Self::reissue`] is to be called once they are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn add_to(&self, revocations: &[Revocation], batch: &mut Batch) -> Result<(), ReadError> {
        for revocation in revocations.iter().filter(|revoked| revoked.expires > revoked.at) {
            let Revocation { issuer, serial, .. } = revocation;
            if self.store.revocation::<Revocation>(issuer, serial)?.is_none() {
                batch.revocation(issuer, serial, revocation);
            }
        }
        Ok(())
    }

    /// Has the lists of all authorities made anew that do not name all that is revoked. Returns when
    /// they are out, or could not be made.
    pub async fn reissue(&self) {
        self.ask(Command::Reissue).await;
    }

    /// Which authorities sign lists from now on: first the one that issues, then those before it.
    pub async fn set_issuers(&self, issuers: Vec<Arc<Authority>>) {
        self.ask(|done| Command::Issuers(issuers, done)).await;
    }

    /// The lists as they stand: first that of the authority that issues. Empty where no authority's
    /// key is here.
    #[must_use]
    pub fn published(&self) -> Arc<[Published]> {
        self.published.borrow().clone()
    }

    /// Keeps a station's list that was verified against its authority, unless a newer one is kept.
    /// Whether it is kept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep(
        &self,
        authority: &FactoryAuthority,
        list: &RevocationList,
    ) -> Result<bool, RevokeError> {
        let (station, issuer) = (authority.station.clone(), authority.key);
        let number = list.contents().number;
        let kept: Option<FactoryList> = self.store.factory_crl(station.as_str(), &issuer)?;
        if kept.is_some_and(|kept| kept.number >= number) {
            return Ok(false);
        }
        let list = FactoryList {
            station,
            issuer,
            fingerprint: authority.fingerprint,
            issued: timestamp(authority.issued),
            expires: timestamp(authority.not_after),
            number,
            pem: list.to_pem(),
        };
        let mut batch = Batch::new();
        batch.factory_crl(list.station.as_str(), &issuer, &list);
        self.store.write(batch).await?;
        self.remember(&list);
        Ok(true)
    }

    /// The stations' lists, or those of one station: more than one where it was made again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn factory_lists(&self, station: Option<&str>) -> Result<Vec<FactoryList>, ReadError> {
        let mut lists: Vec<FactoryList> = self.store.factory_crls()?;
        lists.retain(|list| station.is_none_or(|station| list.station.as_str() == station));
        Ok(lists)
    }

    /// A station's list by the name in its path. The store is read for a name that is known, and for that list alone.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn factory_list_named(&self, name: &str) -> Result<Option<FactoryList>, ReadError> {
        let factory = self.factory.read().unwrap_or_else(PoisonError::into_inner);
        let Some((station, issuer)) = factory.get(name).cloned() else { return Ok(None) };
        drop(factory);
        self.store.factory_crl(station.as_str(), &issuer)
    }

    fn remember(&self, list: &FactoryList) {
        let mut factory = self.factory.write().unwrap_or_else(PoisonError::into_inner);
        factory.insert(list.name(), (list.station.clone(), list.issuer));
    }

    /// The fleet CAs' lists as the API shows them.
    #[must_use]
    pub fn report(&self) -> Vec<Value> {
        self.published().iter().map(Published::report).collect()
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, answer) = oneshot::channel();
        // Without the task the master is ending, and the next one makes what is missing.
        if self.commands.send(command(done)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

impl FactoryList {
    /// As the API shows it; `None` where it cannot be read, which it could when it was kept.
    #[must_use]
    pub fn report(&self) -> Option<Value> {
        let list = RevocationList::from_pem(self.pem.as_bytes()).ok()?;
        Some(report(&self.issuer, &list, "station", json!(self.station)))
    }

    /// The name in its path where it is served: `crl-NAME.pem`.
    #[must_use]
    pub fn name(&self) -> String {
        name(&self.issuer)
    }
}

/// Why a revocation was not stored.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// What is kept cannot be read.
    #[error("read what is revoked")]
    Read(#[from] ReadError),
    /// It was not written.
    #[error("store the revocation")]
    Store(#[from] StoreError),
}

/// The reason in a list for an operator's words, which may be any: a device that is revoked without
/// a reason of RFC 5280 is one that somebody else may have.
#[must_use]
pub fn reason(words: Option<&str>) -> RevocationReason {
    words.map(RevocationReason::from_words).unwrap_or_default()
}

/// Enough of the key's digest to tell authorities apart.
fn name(issuer: &KeyDigest) -> String {
    issuer.to_string().chars().take(16).collect()
}

fn file_of(directory: &Path, issuer: &KeyDigest, is_current: bool) -> PathBuf {
    if is_current {
        directory.join(FILE)
    } else {
        directory.join(format!("crl-{}.pem", name(issuer)))
    }
}

fn report(issuer: &KeyDigest, list: &RevocationList, place: &str, value: Value) -> Value {
    let contents = list.contents();
    let revoked: Vec<Value> = contents
        .revoked
        .iter()
        .map(|entry| json!({"serial": entry.serial, "at": entry.at, "reason": entry.reason}))
        .collect();
    json!({
        "issuer": list.issuer(),
        "key": issuer,
        "name": name(issuer),
        place: value,
        "number": contents.number,
        "this_update": contents.this_update,
        "next_update": contents.next_update,
        "revoked": revoked,
        "pem": list.to_pem(),
    })
}

#[cfg(test)]
mod tests;
