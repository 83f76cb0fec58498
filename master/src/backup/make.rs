//! Makes a backup of the running master: a thread reads and packs, whoever asked takes the bytes at their own pace.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::body::Bytes;
use drover_pki::MasterName;
use drover_proto::event::NewEvent;
use serde_json::json;
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

use super::{Ending, FORMAT, Manifest, Place, archive::ArchiveWriter, files};
use crate::{
    clock::Now,
    store::{Copy, CopyError, Store, StoreError},
};

/// Bytes that are handed over at once.
const CHUNK: usize = 256 << 10;
/// Chunks that wait for whoever takes them.
const WAITING: usize = 4;
/// For its event.
const TELLING: Duration = Duration::from_secs(2);

/// What a backup is made from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The master's name.
    pub name: MasterName,
    /// `master.yml`.
    pub config_file: PathBuf,
    /// The keys and certificates.
    pub pki_dir: PathBuf,
    /// Where manifests lie beside the store.
    pub data_dir: PathBuf,
}

/// Makes backups, one at a time.
#[derive(Clone)]
pub struct Backups {
    store: Store,
    sources: Arc<Sources>,
    turn: Arc<Semaphore>,
}

/// Why no backup was begun.
#[derive(Debug, Error)]
pub enum Busy {
    /// One is being made.
    #[error("another backup is being made")]
    Another,
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a backup was not finished.
#[derive(Debug, Error)]
enum MakeError {
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    /// Nobody takes it any more.
    #[error("write the backup")]
    Write(#[from] io::Error),
}

impl Backups {
    /// Of this master.
    #[must_use]
    pub fn new(store: Store, sources: Sources) -> Self {
        Self { store, sources: Arc::new(sources), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Begins one, for this user of the machine. What comes is an archive, whole if it has its digest.
    ///
    /// # Errors
    /// See [`Busy`].
    pub async fn begin(&self, user: Option<u32>) -> Result<mpsc::Receiver<Bytes>, Busy> {
        let turn = self.turn.clone().try_acquire_owned().map_err(|_| Busy::Another)?;
        // Who took the keys along is in the log, and in the backup.
        let tag = "drover/master/backup".parse().expect("a tag of letters");
        let told = NewEvent::new(tag, None, json!({ "uid": user }));
        // A full disk is a good reason for a backup: what has to wait for room is told when there is some.
        match timeout(TELLING, self.store.append(told)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(uid = user, error, "a backup is taken");
            }
            Err(_) => tracing::warn!(uid = user, "a backup is taken, which is told later"),
        }
        let copy = self.store.copy().await?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let sources = self.sources.clone();
        tokio::task::spawn_blocking(move || make(copy, &sources, sender, turn));
        Ok(receiver)
    }
}

fn make(copy: Copy, sources: &Sources, out: mpsc::Sender<Bytes>, _turn: OwnedSemaphorePermit) {
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: sources.name.clone(),
        created: Now::read().wall,
    };
    let out = BufWriter::with_capacity(CHUNK, Chunks(out));
    let Ok(mut archive) = ArchiveWriter::begin(out, &manifest) else { return };
    match fill(&mut archive, copy, sources) {
        Ok(ending) => {
            // Whoever waited for it sees that it has no end.
            let _ = archive.finish(ending);
            tracing::info!(last_seq = ending.last_seq, "a backup was taken");
        }
        Err(error) => {
            let mut reason = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                reason = format!("{reason}: {cause}");
                source = cause.source();
            }
            tracing::warn!(%reason, "a backup was not finished");
            let _ = archive.give_up(&reason);
        }
    }
}

fn fill<W: Write>(
    archive: &mut ArchiveWriter<W>,
    mut copy: Copy,
    sources: &Sources,
) -> Result<Ending, MakeError> {
    while let Some(part) = copy.next_part()? {
        archive.store(&part)?;
    }
    let ending = Ending {
        last_seq: copy.last_seq().expect("a copy that has ended knows its last event"),
        finished: Now::read().wall,
    };
    // After the store: what the registry takes for newer than it knows is what a restored master can live with.
    let manifests = sources.data_dir.join("manifests");
    let failed = |path: PathBuf| |source| MakeError::Read { path, source };
    for path in files::below(&manifests).map_err(failed(manifests.clone()))? {
        let from = manifests.join(&path);
        let file = files::read_file(&from, Place::Manifests(path)).map_err(failed(from))?;
        archive.file(&file)?;
    }
    for file in files::pki(&sources.pki_dir).map_err(failed(sources.pki_dir.clone()))? {
        archive.file(&file)?;
    }
    let config = files::read_file(&sources.config_file, Place::Config);
    archive.file(&config.map_err(failed(sources.config_file.clone()))?)?;
    Ok(ending)
}

/// What is written goes to whoever takes it; it waits for them.
struct Chunks(mpsc::Sender<Bytes>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
