//! The files and the pillar that states are made of: the master's, by way of the cache, so that what was good once can
//! be applied without it; or, masterless, this device's own directories.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool, mpsc as blocking},
    time::Duration,
};

use drover_proto::{digest::Digest, message::TreeFile};
use drover_states::files::{DirectoryRoots, FileSource};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{
    cache::{Cache, CacheError},
    device::Device,
    durable::{self, FileError},
    error_chain,
    fetch::{FetchError, Fetched, Wanted},
};

mod master_files;
mod roots;

pub(crate) use master_files::MasterFiles;

/// How often a waiting run looks whether it was stopped.
const LOOK: Duration = Duration::from_millis(200);

/// Something that a function needs from the master, and where to put it.
pub struct Order {
    /// What.
    pub wanted: Wanted,
    /// Takes the answer.
    pub reply: Box<dyn FnOnce(Result<Fetched, FetchError>) + Send>,
}

/// Where files and pillar come from.
pub struct Library {
    source: Source,
    cache: Cache,
    kept: PathBuf,
    /// What the file lists of the runs so far name.
    in_use: Mutex<HashSet<Digest>>,
}

enum Source {
    /// The agent's session; without a connection, what was kept.
    Master(mpsc::Sender<Order>),
    /// What was kept.
    Kept,
    /// This device's own directories.
    Roots { files: Arc<DirectoryRoots>, pillar: Arc<DirectoryRoots> },
}

/// Files or pillar that cannot be had.
#[derive(Debug, Error)]
pub enum LibraryError {
    /// The name of an environment that could not be a file's name.
    #[error("`{0}` is no name of an environment")]
    Environment(String),
    /// The master did not give it.
    #[error("fetch {what} from the master")]
    Fetch {
        /// What.
        what: String,
        /// Why not.
        source: FetchError,
    },
    /// There is no connection, and nothing was kept.
    #[error("there is no connection to the master, and {0} was never kept here")]
    NeverKept(String),
    /// The master's file list cannot be read.
    #[error("read the master's file list")]
    List(#[source] drover_proto::codec::DecodeError),
    /// The disk.
    #[error("use what was kept")]
    Kept(#[from] FileError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The run was stopped.
    #[error("the run was stopped")]
    Stopped,
    /// Masterless pillar that does not compile.
    #[error("the pillar does not compile:\n{0}")]
    Pillar(String),
}

/// Where a file list was found the last time that a run had everything it named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct KeptTree {
    digest: Digest,
    size: u64,
}

/// The files of one environment, by path.
type Tree = BTreeMap<String, TreeFile>;

impl Library {
    /// What the master has, by way of the agent that answers `orders`.
    ///
    /// # Errors
    /// When the data directory cannot be used.
    pub fn of_master(
        data_dir: &Path,
        cache_limit: u64,
        orders: mpsc::Sender<Order>,
    ) -> Result<Self, LibraryError> {
        Self::open(data_dir, cache_limit, Source::Master(orders))
    }

    /// What was kept of the master's.
    ///
    /// # Errors
    /// When the data directory cannot be used.
    pub fn of_cache(data_dir: &Path, cache_limit: u64) -> Result<Self, LibraryError> {
        Self::open(data_dir, cache_limit, Source::Kept)
    }

    /// This device's own directories.
    ///
    /// # Errors
    /// When the data directory cannot be used.
    pub fn of_roots(
        data_dir: &Path,
        files: Vec<(String, Vec<PathBuf>)>,
        pillar: Vec<(String, Vec<PathBuf>)>,
    ) -> Result<Self, LibraryError> {
        let roots = |roots: Vec<_>| Arc::new(DirectoryRoots::new(roots.into_iter().collect()));
        Self::open(data_dir, 0, Source::Roots { files: roots(files), pillar: roots(pillar) })
    }

    fn open(data_dir: &Path, cache_limit: u64, source: Source) -> Result<Self, LibraryError> {
        let kept = data_dir.join("cache");
        durable::private_directory(&kept)?;
        let cache = Cache::open(&kept.join("files"), cache_limit)?;
        Ok(Self { source, cache, kept, in_use: Mutex::default() })
    }

    /// The pillar: asked for anew, or as it was kept where there is no connection. It holds secrets, so what is kept is
    /// for its owner alone.
    ///
    /// # Errors
    /// When the master refuses it, or there is none.
    pub async fn pillar(
        &self,
        device: &Device,
        saltenv: &str,
    ) -> Result<Map<String, Value>, LibraryError> {
        let wanted = Wanted::Pillar { saltenv: environment(saltenv)?.to_owned() };
        let answer = match &self.source {
            Source::Master(orders) => {
                let (reply, answer) = oneshot::channel();
                let reply = Box::new(move |answered| {
                    // Whoever asked may have been stopped.
                    let _ = reply.send(answered);
                });
                match orders.send(Order { wanted, reply }).await {
                    Ok(()) => answer.await.unwrap_or(Err(FetchError::Offline)),
                    Err(_) => Err(FetchError::Offline),
                }
            }
            Source::Kept => Err(FetchError::Offline),
            Source::Roots { pillar, .. } => {
                return roots::pillar(Arc::clone(pillar) as _, device.grains(), saltenv);
            }
        };
        self.pillar_of(answer, saltenv)
    }

    /// The same, for a thread that may block.
    pub(crate) fn pillar_blocking(
        &self,
        device: &Device,
        saltenv: &str,
        stopped: &AtomicBool,
    ) -> Result<Map<String, Value>, LibraryError> {
        if let Source::Roots { pillar, .. } = &self.source {
            return roots::pillar(Arc::clone(pillar) as _, device.grains(), saltenv);
        }
        let wanted = Wanted::Pillar { saltenv: environment(saltenv)?.to_owned() };
        let answer = self.fetch_blocking(wanted, stopped)?;
        self.pillar_of(answer, saltenv)
    }

    /// The files of all environments, for one run on a thread that may block.
    pub(crate) fn files(&self, device: &Device, stopped: Arc<AtomicBool>) -> RunFiles {
        match &self.source {
            Source::Master(_) | Source::Kept => {
                RunFiles::Master(Arc::new(MasterFiles::new(device.clone(), stopped)))
            }
            Source::Roots { files, .. } => RunFiles::Roots(Arc::clone(files)),
        }
    }

    fn pillar_of(
        &self,
        answer: Result<Fetched, FetchError>,
        saltenv: &str,
    ) -> Result<Map<String, Value>, LibraryError> {
        let path = self.kept.join(format!("pillar-{saltenv}.json"));
        let what = || format!("the pillar of `{saltenv}`");
        match answer {
            Ok(Fetched::Pillar(pillar)) => {
                if let Err(why) = durable::write_json(&path, &pillar) {
                    // A full disk must not keep a run from what is at hand.
                    tracing::warn!("{}", error_chain(&why));
                }
                Ok(pillar)
            }
            Ok(Fetched::Tree(..) | Fetched::Blob(_)) => {
                Err(LibraryError::Fetch { what: what(), source: FetchError::Mismatch })
            }
            Err(FetchError::Offline | FetchError::TimedOut) => {
                durable::read_json(&path)?.ok_or_else(|| LibraryError::NeverKept(what()))
            }
            Err(source) => Err(LibraryError::Fetch { what: what(), source }),
        }
    }

    /// The file list of an environment, and where it is from.
    fn tree(&self, saltenv: &str, stopped: &AtomicBool) -> Result<(Tree, KeptTree), LibraryError> {
        let wanted = Wanted::Tree { saltenv: environment(saltenv)?.to_owned() };
        let what = || format!("the file list of `{saltenv}`");
        let found = match self.fetch_blocking(wanted, stopped)? {
            Ok(Fetched::Tree(digest, size)) => KeptTree { digest, size },
            Ok(Fetched::Pillar(_) | Fetched::Blob(_)) => {
                return Err(LibraryError::Fetch { what: what(), source: FetchError::Mismatch });
            }
            Err(FetchError::Offline | FetchError::TimedOut) => {
                let kept = durable::read_json(&self.kept_tree(saltenv))?;
                kept.ok_or_else(|| LibraryError::NeverKept(what()))?
            }
            Err(source) => return Err(LibraryError::Fetch { what: what(), source }),
        };
        let list = self.blob(found.digest, found.size, &what(), stopped)?;
        let files: Vec<TreeFile> =
            drover_proto::codec::decode(&list).map_err(LibraryError::List)?;
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.insert(found.digest);
        in_use.extend(files.iter().map(|file| file.digest));
        let tree = files.into_iter().map(|file| (file.path.clone(), file)).collect();
        Ok((tree, found))
    }

    /// A content, from the cache or from the master.
    fn blob(
        &self,
        digest: Digest,
        size: u64,
        what: &str,
        stopped: &AtomicBool,
    ) -> Result<Vec<u8>, LibraryError> {
        if let Some(content) = self.cache.get(&digest) {
            return Ok(content);
        }
        match self.fetch_blocking(Wanted::Blob { digest, size }, stopped)? {
            Ok(Fetched::Blob(content)) => {
                let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(why) = self.cache.put(&digest, &content, &in_use) {
                    tracing::warn!("{}", error_chain(&why));
                }
                Ok(content)
            }
            Ok(Fetched::Tree(..) | Fetched::Pillar(_)) => {
                Err(LibraryError::Fetch { what: what.to_owned(), source: FetchError::Mismatch })
            }
            Err(FetchError::Offline) => Err(LibraryError::NeverKept(what.to_owned())),
            Err(source) => Err(LibraryError::Fetch { what: what.to_owned(), source }),
        }
    }

    /// A run had everything that it asked for: these lists are good without the master.
    fn keep_trees<'a>(&self, trees: impl Iterator<Item = (&'a str, KeptTree)>) {
        for (saltenv, tree) in trees {
            if let Err(why) = durable::write_json(&self.kept_tree(saltenv), &tree) {
                tracing::warn!("{}", error_chain(&why));
            }
        }
    }

    fn kept_tree(&self, saltenv: &str) -> PathBuf {
        self.kept.join(format!("tree-{saltenv}.json"))
    }

    fn fetch_blocking(
        &self,
        wanted: Wanted,
        stopped: &AtomicBool,
    ) -> Result<Result<Fetched, FetchError>, LibraryError> {
        let Source::Master(orders) = &self.source else { return Ok(Err(FetchError::Offline)) };
        let (reply, answer) = blocking::sync_channel(1);
        let reply = Box::new(move |answered| {
            // Whoever asked may have been stopped.
            let _ = reply.send(answered);
        });
        // A run has one order under way, and the queue has room for many.
        if orders.try_send(Order { wanted, reply }).is_err() {
            return Ok(Err(FetchError::Offline));
        }
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answered) => return Ok(answered),
                Err(blocking::RecvTimeoutError::Disconnected) => {
                    return Ok(Err(FetchError::Offline));
                }
                Err(blocking::RecvTimeoutError::Timeout) => {
                    if stopped.load(std::sync::atomic::Ordering::Relaxed) {
                        return Err(LibraryError::Stopped);
                    }
                }
            }
        }
    }
}

/// The files of one run.
pub(crate) enum RunFiles {
    Master(Arc<MasterFiles>),
    Roots(Arc<DirectoryRoots>),
}

impl RunFiles {
    /// As the compiler and the state modules take them.
    pub(crate) fn source(&self) -> Arc<dyn FileSource> {
        match self {
            Self::Master(files) => Arc::clone(files) as _,
            Self::Roots(files) => Arc::clone(files) as _,
        }
    }

    /// The run is over: what it had whole is kept for the time without a master.
    pub(crate) fn finish(&self) {
        match self {
            Self::Master(files) => files.finish(),
            Self::Roots(_) => {}
        }
    }
}

/// An environment's name becomes part of a file's.
fn environment(saltenv: &str) -> Result<&str, LibraryError> {
    let is_name = !saltenv.is_empty()
        && saltenv.len() <= 64
        && saltenv.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if is_name { Ok(saltenv) } else { Err(LibraryError::Environment(saltenv.to_owned())) }
}

#[cfg(test)]
mod tests;
