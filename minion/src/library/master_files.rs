//! The master's files as one run sees them: the file lists are asked for once, so that a run is of one piece, and a
//! content is fetched when it is first read. Reading blocks; runs have a thread of their own.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use drover_states::files::{FileError, FileSource};

use super::{KeptTree, LibraryError, Tree};
use crate::{device::Device, error_chain};

pub(crate) struct MasterFiles {
    device: Device,
    stopped: Arc<AtomicBool>,
    trees: Mutex<BTreeMap<String, (Arc<Tree>, KeptTree)>>,
    incomplete: AtomicBool,
}

impl MasterFiles {
    pub(super) fn new(device: Device, stopped: Arc<AtomicBool>) -> Self {
        Self { device, stopped, trees: Mutex::default(), incomplete: AtomicBool::new(false) }
    }

    pub(super) fn finish(&self) {
        if !self.incomplete.load(Ordering::Relaxed) {
            let trees = self.trees();
            let trees = trees.iter().map(|(saltenv, (_, kept))| (saltenv.as_str(), *kept));
            self.device.library().keep_trees(trees);
        }
    }

    fn tree(&self, saltenv: &str) -> Result<Arc<Tree>, LibraryError> {
        let mut trees = self.trees();
        if let Some((tree, _)) = trees.get(saltenv) {
            return Ok(Arc::clone(tree));
        }
        let (tree, kept) = self.device.library().tree(saltenv, &self.stopped)?;
        let tree = Arc::new(tree);
        trees.insert(saltenv.to_owned(), (Arc::clone(&tree), kept));
        Ok(tree)
    }

    fn trees(&self) -> MutexGuard<'_, BTreeMap<String, (Arc<Tree>, KeptTree)>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreadable(&self, path: &str, why: &LibraryError) -> FileError {
        self.incomplete.store(true, Ordering::Relaxed);
        FileError::Unreadable { path: path.to_owned(), source: io::Error::other(error_chain(why)) }
    }
}

impl FileSource for MasterFiles {
    fn read(&self, saltenv: &str, path: &str) -> Result<Arc<[u8]>, FileError> {
        let path = path.strip_prefix("salt://").unwrap_or(path);
        let tree = self.tree(saltenv).map_err(|why| self.unreadable(path, &why))?;
        // Only what the list names is read, so no path leads anywhere else.
        let Some(file) = tree.get(path) else {
            return Err(FileError::NotFound { saltenv: saltenv.to_owned(), path: path.to_owned() });
        };
        let what = format!("`{path}`");
        let library = self.device.library();
        let content = library
            .blob(file.digest, file.size, &what, &self.stopped)
            .map_err(|why| self.unreadable(path, &why))?;
        Ok(content.into())
    }

    fn list(&self, saltenv: &str) -> Result<Vec<String>, FileError> {
        let tree = self.tree(saltenv).map_err(|why| self.unreadable(saltenv, &why))?;
        Ok(tree.keys().cloned().collect())
    }

    /// Those that were asked for, and `base`.
    fn environments(&self) -> Vec<String> {
        let mut known: Vec<_> = self.trees().keys().cloned().collect();
        if !known.iter().any(|saltenv| saltenv == "base") {
            known.insert(0, "base".to_owned());
        }
        known
    }
}
