//! The schedules' shell: signs the lists that are due, each with a number that is durable before it
//! is used, and writes them. What cannot be signed or written is told and tried again.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use drover_pki::{
    Authority, KeyDigest,
    crl::{CrlError, RevocationList, Revocations, Revoked},
    file::{self, Access, FileError},
};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    CrlHandle, Published, RevokeError, file_of,
    schedule::{Mark, Revocation, Schedule},
};
use crate::{
    clock::Now,
    registry::timestamp,
    store::{Batch, ReadError, Store, StoreError},
};

/// Revocations that wait for the task.
const COMMANDS: usize = 64;
/// How long the task sleeps at most: the wall clock may be put forward meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What the handle asks of the task; the sender is told when it is done.
pub(super) enum Command {
    Reissue(oneshot::Sender<()>),
    Issuers(Vec<Arc<Authority>>, oneshot::Sender<()>),
}

/// Signs and writes the lists.
pub struct CrlTask {
    store: Store,
    directory: PathBuf,
    validity: Duration,
    issuers: Vec<Issuer>,
    commands: mpsc::Receiver<Command>,
    published: watch::Sender<Arc<[Published]>>,
}

struct Issuer {
    authority: Arc<Authority>,
    file: PathBuf,
    schedule: Schedule,
    list: Option<Arc<RevocationList>>,
}

/// Why a list is not out.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("sign the revocation list")]
    Sign(#[source] CrlError),
    #[error("write the revocation list")]
    Write(#[source] FileError),
}

impl CrlTask {
    /// Takes up the lists of these authorities, first of the one that issues, where the master before
    /// left them in `directory`. Without an authority's key there are none to give.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(
        store: Store,
        directory: PathBuf,
        validity: Duration,
        issuers: Vec<Arc<Authority>>,
    ) -> Result<(CrlHandle, Self), RevokeError> {
        let (commands, waiting) = mpsc::channel(COMMANDS);
        let (published, lists) = watch::channel(Arc::default());
        let handle =
            CrlHandle { store: store.clone(), commands, published: lists, factory: Arc::default() };
        for list in handle.factory_lists(None)? {
            handle.remember(&list);
        }
        let mut task =
            Self { store, directory, validity, issuers: Vec::new(), commands: waiting, published };
        task.take_issuers(issuers).await?;
        // So that who starts after this finds the lists.
        task.publish().await?;
        Ok((handle, task))
    }

    /// Until the last handle is dropped.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run(mut self) -> Result<(), RevokeError> {
        loop {
            let now = Now::read().wall;
            let due = self.issuers.iter().filter_map(|issuer| issuer.schedule.poll_timeout()).min();
            let wait = due.map_or(LONGEST_SLEEP, |due| {
                Duration::try_from(due.duration_since(now)).unwrap_or_default().min(LONGEST_SLEEP)
            });
            let done = tokio::select! {
                () = tokio::time::sleep(wait) => None,
                command = self.commands.recv() => match command {
                    Some(Command::Reissue(done)) => {
                        self.look_for_changes()?;
                        Some(done)
                    }
                    Some(Command::Issuers(issuers, done)) => {
                        self.take_issuers(issuers).await?;
                        Some(done)
                    }
                    None => return Ok(()),
                },
            };
            self.publish().await?;
            if let Some(done) = done {
                // Who asked may have gone away.
                let _ = done.send(());
            }
        }
    }

    async fn take_issuers(&mut self, issuers: Vec<Arc<Authority>>) -> Result<(), RevokeError> {
        let mut taken = Vec::new();
        for (index, authority) in issuers.into_iter().enumerate() {
            let file = file_of(&self.directory, &authority.certificate().key, index == 0);
            taken.push(self.take_up(authority, file).await?);
        }
        self.issuers = taken;
        self.look_for_changes()
    }

    /// Compares what the store remembers with the list that is there.
    async fn take_up(
        &self,
        authority: Arc<Authority>,
        file: PathBuf,
    ) -> Result<Issuer, RevokeError> {
        let key = authority.certificate().key;
        let mark: Option<Mark> = self.store.crl(&key)?;
        let mut schedule = Schedule::new(self.validity, mark);
        let list = standing(&file, &authority);
        if let Some(list) = &list {
            let number = list.contents().number;
            schedule.handle_number(number);
            // A list that is older than the store, or as old, says nothing that the store did not know.
            if mark.is_none_or(|mark| mark.number < number) {
                self.adopt(list, &authority).await?;
            }
        }
        let list =
            list.filter(|list| mark.is_some_and(|mark| mark.number == list.contents().number));
        if list.is_none() {
            schedule.handle_change();
        }
        Ok(Issuer { authority, file, schedule, list: list.map(Arc::new) })
    }

    /// What a list says is revoked stays so, even where an older store was put back. How long such a
    /// certificate lasts nobody knows any more, but not longer than its authority.
    async fn adopt(&self, list: &RevocationList, authority: &Authority) -> Result<(), RevokeError> {
        let certificate = authority.certificate();
        let (mut batch, mut adopted) = (Batch::new(), 0);
        for Revoked { serial, at, reason } in list.contents().revoked.iter().cloned() {
            if self.store.revocation::<Revocation>(&certificate.key, &serial)?.is_none() {
                let (issuer, expires) = (certificate.key, timestamp(certificate.not_after));
                let revocation = Revocation { issuer, serial, expires, at, reason };
                batch.revocation(&issuer, &revocation.serial, &revocation);
                adopted += 1;
            }
        }
        if adopted > 0 {
            tracing::warn!(
                certificates = adopted,
                "the revocation list names certificates that the store does not: an older store was put back? Devices that \
                 were revoked since may be accepted again, look at `drover key list`"
            );
            self.store.write(batch).await?;
        }
        Ok(())
    }

    /// Which lists do not name what they should.
    fn look_for_changes(&mut self) -> Result<(), RevokeError> {
        for issuer in &mut self.issuers {
            let kept = revocations(&self.store, &issuer.authority.certificate().key)?;
            let named = issuer.list.iter().flat_map(|list| &list.contents().revoked);
            let named: HashSet<_> = named.map(|revoked| &revoked.serial).collect();
            if kept.iter().any(|revocation| !named.contains(&revocation.serial)) {
                issuer.schedule.handle_change();
            }
        }
        Ok(())
    }

    /// Makes the lists that are due, and gives them out.
    async fn publish(&mut self) -> Result<(), RevokeError> {
        for issuer in &mut self.issuers {
            let now = Now::read().wall;
            let Some(mark) = issuer.schedule.poll_list(now) else { continue };
            let key = issuer.authority.certificate().key;
            let (named, over): (Vec<_>, Vec<_>) = revocations(&self.store, &key)?
                .into_iter()
                .partition(|revocation| issuer.schedule.names(revocation));
            let mut batch = Batch::new();
            batch.crl(&key, &mark);
            for revocation in over {
                batch.revocation_over(&key, &revocation.serial);
            }
            // A number is used once: it is durable before there is a list with it.
            match self.store.write(batch).await {
                Ok(_) => {}
                Err(StoreError::Full) => {
                    tracing::error!(
                        file = %issuer.file.display(),
                        "the store is full: the revocation list is not renewed, and tried again in a minute"
                    );
                    issuer.schedule.handle_failed(mark, now);
                    continue;
                }
                Err(StoreError::Failed) => return Err(StoreError::Failed.into()),
            }

            let (signed, written) = make(issuer, mark, named).await;
            if let Some(list) = signed {
                issuer.list = Some(Arc::new(list));
            }
            match written {
                Ok(()) => issuer.schedule.handle_published(mark),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        file = %issuer.file.display(),
                        "the revocation list is not renewed, and tried again in a minute"
                    );
                    issuer.schedule.handle_failed(mark, now);
                }
            }
        }
        let lists = self.issuers.iter().filter_map(Issuer::published).collect();
        self.published.send_replace(lists);
        Ok(())
    }
}

impl Issuer {
    fn published(&self) -> Option<Published> {
        let list = self.list.clone()?;
        let issuer = self.authority.certificate().key;
        Some(Published { issuer, list, file: self.file.clone() })
    }
}

/// Signs a list, which a token may take its time for, and writes it. One that is signed counts, even
/// where the disk takes none.
async fn make(
    issuer: &Issuer,
    mark: Mark,
    named: Vec<Revocation>,
) -> (Option<RevocationList>, Result<(), PublishError>) {
    let (authority, file) = (issuer.authority.clone(), issuer.file.clone());
    let work = move || {
        let revoked = named.into_iter().map(|Revocation { serial, at, reason, .. }| {
            // The list's own times are whole seconds, and nothing is revoked after it was made.
            Revoked { serial, at: at.min(mark.this_update), reason }
        });
        let contents = Revocations {
            number: mark.number,
            this_update: mark.this_update,
            next_update: mark.next_update,
            revoked: revoked.collect(),
        };
        let list = match RevocationList::sign(&authority, &contents) {
            Ok(list) => list,
            Err(error) => return (None, Err(PublishError::Sign(error))),
        };
        let written = file::replace(&file, list.to_pem().as_bytes(), Access::Public);
        (Some(list), written.map_err(PublishError::Write))
    };
    tokio::task::spawn_blocking(work).await.expect("signing does not panic")
}

/// The list that is there, if it is this authority's.
fn standing(file: &std::path::Path, authority: &Authority) -> Option<RevocationList> {
    let list = RevocationList::from_pem(&std::fs::read(file).ok()?).ok()?;
    list.verify(authority.der()).is_ok().then_some(list)
}

fn revocations(store: &Store, issuer: &KeyDigest) -> Result<Vec<Revocation>, ReadError> {
    let mut revocations: Vec<Revocation> = store.revocations(issuer)?;
    revocations.sort_by_key(|revocation: &Revocation| -> Timestamp { revocation.at });
    Ok(revocations)
}
