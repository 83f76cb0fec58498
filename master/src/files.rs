//! The file server: what the file roots hold, by content digest. Minions ask for an environment's list, then for the
//! blobs that they lack, in parts. A file that changed on the disk is noticed by its time and size.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use drover_proto::{
    codec,
    digest::Digest,
    message::{BlobChunk, BlobRequest, Tree, TreeFile},
};
use drover_states::files::{DirectoryRoots, FileError, FileSource};
use thiserror::Error;

/// The longest part of a blob that is sent at once.
const PART: usize = 256 << 10;
/// Blobs that are kept in memory, in bytes; the newest one always is.
const CACHE: usize = 64 << 20;

/// Why a request for files cannot be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// There is no such environment.
    #[error("there is no environment `{0}`: `file_roots` in the master's configuration names them")]
    Environment(String),
    /// The roots cannot be read.
    #[error(transparent)]
    Files(#[from] FileError),
    /// Nothing has this digest any more: it changed since the list was made.
    #[error("the file has changed since the list was made: ask for the list again")]
    Gone,
    /// A part that begins after the end.
    #[error("the blob has {size} bytes, and the part begins at {offset}")]
    Offset {
        /// The blob's length.
        size: u64,
        /// Where the part should begin.
        offset: u64,
    },
}

/// The file roots, and what is known of what they hold. Its calls read files, so they belong on a thread that may block.
pub struct Files {
    roots: BTreeMap<String, Vec<PathBuf>>,
    source: DirectoryRoots,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By environment and path: how the file looked when its digest was taken.
    files: HashMap<(String, String), (Look, Digest)>,
    /// Where a blob can be read from.
    places: HashMap<Digest, (String, String)>,
    /// Blobs in memory, the newest last; lists among them.
    cache: VecDeque<(Digest, Bytes)>,
    cached: usize,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    size: u64,
    mode: u32,
}

impl Files {
    /// Serves these roots, each environment's directories in their order.
    #[must_use]
    pub fn new(roots: BTreeMap<String, Vec<PathBuf>>) -> Self {
        let source = DirectoryRoots::new(roots.clone());
        Self { roots, source, known: Mutex::default() }
    }

    /// An environment's list as it is now: its digest and length. The list itself is a blob.
    ///
    /// # Errors
    /// See [`ServeError`].
    ///
    /// # Panics
    /// Never: a list has a MessagePack form.
    pub fn tree(&self, request: u64, saltenv: &str) -> Result<Tree, ServeError> {
        if !self.roots.contains_key(saltenv) {
            return Err(ServeError::Environment(saltenv.to_owned()));
        }
        let mut list = Vec::new();
        for path in self.source.list(saltenv)? {
            // A file that goes away while it is looked at was never there.
            let Some(look) = self.look(saltenv, &path) else { continue };
            match self.digest(saltenv, &path, look) {
                Ok(digest) => {
                    let mode = look.mode & 0o7777;
                    list.push(TreeFile { path, digest, size: look.size, mode });
                }
                Err(FileError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let list = codec::encode(&list).expect("a list has a MessagePack form");
        let (digest, size) = (Digest::of(&list), list.len() as u64);
        self.known().keep(digest, list);
        Ok(Tree { request, digest, size })
    }

    /// A part of a blob.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn part(&self, request: &BlobRequest) -> Result<BlobChunk, ServeError> {
        let blob = self.blob(&request.digest)?;
        let size = blob.len() as u64;
        let beyond = ServeError::Offset { size, offset: request.offset };
        let offset = usize::try_from(request.offset).ok().filter(|offset| *offset <= blob.len());
        let offset = offset.ok_or(beyond)?;
        let data = blob.slice(offset..(offset + PART).min(blob.len()));
        Ok(BlobChunk { request: request.request, offset: request.offset, size, data })
    }

    fn blob(&self, digest: &Digest) -> Result<Bytes, ServeError> {
        let place = {
            let known = self.known();
            if let Some((_, blob)) = known.cache.iter().find(|(of, _)| of == digest) {
                return Ok(blob.clone());
            }
            known.places.get(digest).cloned()
        };
        let (saltenv, path) = place.ok_or(ServeError::Gone)?;
        let content = self.source.read(&saltenv, &path)?;
        if Digest::of(&content) != *digest {
            return Err(ServeError::Gone);
        }
        let blob = Bytes::copy_from_slice(&content);
        self.known().keep(*digest, blob.clone());
        Ok(blob)
    }

    fn digest(&self, saltenv: &str, path: &str, look: Look) -> Result<Digest, FileError> {
        let key = (saltenv.to_owned(), path.to_owned());
        if let Some((known, digest)) = self.known().files.get(&key)
            && *known == look
        {
            return Ok(*digest);
        }
        let digest = Digest::of(&self.source.read(saltenv, path)?);
        let mut known = self.known();
        known.places.insert(digest, key.clone());
        if let Some((_, before)) = known.files.insert(key.clone(), (look, digest))
            && before != digest
            && known.places.get(&before) == Some(&key)
        {
            known.places.remove(&before);
        }
        Ok(digest)
    }

    fn look(&self, saltenv: &str, path: &str) -> Option<Look> {
        let places = self.roots.get(saltenv)?.iter().map(|root| root.join(path));
        let metadata =
            places.filter_map(|path| metadata(&path).ok()).find(fs::Metadata::is_file)?;
        Some(Look {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn metadata(path: &PathBuf) -> io::Result<fs::Metadata> {
    fs::metadata(path)
}

impl Known {
    fn keep(&mut self, digest: Digest, blob: Bytes) {
        if let Some(at) = self.cache.iter().position(|(of, _)| *of == digest) {
            let newest = self.cache.remove(at);
            self.cache.extend(newest);
            return;
        }
        self.cached += blob.len();
        self.cache.push_back((digest, blob));
        while self.cached > CACHE && self.cache.len() > 1 {
            self.cached -= self.cache.pop_front().map_or(0, |(_, blob)| blob.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let directory = tempfile::tempdir().unwrap();
        let roots = BTreeMap::from([("base".to_owned(), vec![directory.path().join("states")])]);
        fs::create_dir(directory.path().join("states")).unwrap();
        (directory, Files::new(roots))
    }

    fn list(files: &Files) -> Vec<TreeFile> {
        let tree = files.tree(1, "base").unwrap();
        let request = BlobRequest { request: 2, digest: tree.digest, offset: 0 };
        codec::decode(&files.part(&request).unwrap().data).unwrap()
    }

    #[test]
    fn a_changed_file_has_a_new_digest_and_its_old_content_is_gone() {
        let (directory, files) = files();
        let path = directory.path().join("states/a.sls");
        fs::write(&path, "one").unwrap();
        let before = list(&files);
        assert_eq!((before[0].path.as_str(), before[0].digest), ("a.sls", Digest::of(b"one")));
        fs::write(&path, "two").unwrap();
        assert_eq!(list(&files)[0].digest, Digest::of(b"two"));
        let request = BlobRequest { request: 3, digest: before[0].digest, offset: 0 };
        assert!(matches!(files.part(&request), Err(ServeError::Gone)));
    }

    #[test]
    fn a_long_file_comes_in_parts() {
        let (directory, files) = files();
        let content: Vec<u8> = (0..PART + 10).map(|n| n as u8).collect();
        fs::write(directory.path().join("states/long"), &content).unwrap();
        let digest = list(&files)[0].digest;
        let part = |offset| files.part(&BlobRequest { request: 1, digest, offset });
        assert_eq!(part(0).unwrap().data.len(), PART);
        assert_eq!(part(PART as u64).unwrap().data, content[PART..]);
        assert!(matches!(part(1 << 40), Err(ServeError::Offset { .. })));
    }

    #[test]
    fn nothing_outside_the_roots_is_listed() {
        let (directory, files) = files();
        fs::write(directory.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", directory.path().join("states/link")).unwrap();
        assert!(list(&files).is_empty());
        assert!(matches!(files.tree(1, "dev"), Err(ServeError::Environment(_))));
    }
}
