//! Looks at what is in the master's `pki_dir` and at what stations' manifests told, and tells of what
//! ends. What was told is durable together with the event that tells it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use drover_pki::{certificate::Certificate, file};
use drover_proto::event::{NewEvent, Tag};

use super::{Stage, Watched};
use crate::{
    clock::Now,
    crl::{CrlHandle, RevokeError},
    store::{Batch, Store},
};

/// How often it looks: authorities come, and the calendar may be put right, while the master runs.
const LOOK: Duration = Duration::from_secs(3_600);
/// The least between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells of authorities that end.
pub struct ExpiryTask {
    store: Store,
    pki_dir: PathBuf,
    crl: CrlHandle,
}

impl ExpiryTask {
    /// For the authorities in this directory, and those that manifests brought.
    #[must_use]
    pub const fn new(store: Store, pki_dir: PathBuf, crl: CrlHandle) -> Self {
        Self { store, pki_dir, crl }
    }

    /// Until it is dropped.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run(self) -> Result<(), RevokeError> {
        loop {
            let wait = self.look().await?;
            tokio::time::sleep(wait).await;
        }
    }

    /// Tells what is due, and how long nothing will be.
    async fn look(&self) -> Result<Duration, RevokeError> {
        let directory = self.pki_dir.clone();
        let reading = tokio::task::spawn_blocking(move || in_directory(&directory));
        let mut watched = reading.await.expect("reading certificates does not panic");
        watched.extend(self.crl.factory_lists(None)?.iter().map(Watched::factory));

        let now = Now::read().wall;
        let mut next = None;
        for authority in watched {
            let mut told: Option<Stage> = self.store.expiry(&authority.fingerprint)?;
            if let Some(stage) = authority.due(told, now) {
                self.tell(&authority, stage).await?;
                told = Some(stage);
            }
            next = next.into_iter().chain(authority.next(told)).min();
        }
        let wait = next.map_or(LOOK, |next: jiff::Timestamp| {
            Duration::try_from(next.duration_since(now)).unwrap_or_default()
        });
        Ok(wait.clamp(PAUSE, LOOK))
    }

    async fn tell(&self, authority: &Watched, stage: Stage) -> Result<(), RevokeError> {
        let report = authority.report(Now::read().wall);
        tracing::warn!(
            authority = %authority,
            not_after = %report["not_after"],
            hint = authority.kind.hint(),
            "{}",
            if stage == Stage::Expired { "an authority has expired" } else { "an authority expires" }
        );
        let tag = Tag::authority(&authority.name, "expires");
        let mut batch = Batch::from(NewEvent::new(tag, None, report));
        batch.expiry(&authority.fingerprint, &stage);
        self.store.write(batch).await?;
        Ok(())
    }
}

/// The roots, the fleet CAs and the master's certificate. What is not there, or cannot be read, is told of by whoever
/// needs it.
#[must_use]
pub fn in_directory(directory: &Path) -> Vec<Watched> {
    let previous = fs::read_dir(directory.join("previous")).into_iter().flatten().flatten();
    let previous = previous.map(|entry| entry.path());
    let previous = previous.filter(|path| path.extension().is_some_and(|kind| kind == "crt"));
    // Of a chain, the leaf: its issuers have files of their own.
    let leaves = ["fleet-ca.crt", "master.crt"].map(|name| directory.join(name));
    let leaves = leaves.into_iter().chain(previous);
    let leaves = leaves.filter_map(|path| file::read_certificates(&path).ok()?.into_iter().next());
    let roots = file::read_certificates(&directory.join("root.crt")).unwrap_or_default();
    let certificates = roots.into_iter().chain(leaves);
    let watched = certificates.filter_map(|der| Watched::of(&Certificate::read(&der).ok()?));
    let mut watched: Vec<Watched> = watched.collect();
    watched.sort_by_key(|authority| authority.fingerprint);
    watched.dedup_by_key(|authority| authority.fingerprint);
    watched
}
