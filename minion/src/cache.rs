//! File contents that came from the master, each under its digest. Checked again before use, bounded, and written only
//! when something is missing. What the last good file lists name is the last to go.

use std::{
    collections::HashSet,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use drover_proto::digest::Digest;
use thiserror::Error;

/// The cache directory cannot be used.
#[derive(Debug, Error)]
#[error("use the file cache `{path}`")]
pub struct CacheError {
    path: PathBuf,
    source: io::Error,
}

/// The cache of one device.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
    limit: u64,
}

impl Cache {
    /// The cache in `directory`, of at most `limit` bytes.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(directory: &Path, limit: u64) -> Result<Self, CacheError> {
        fs::create_dir_all(directory)
            .map_err(|source| CacheError { path: directory.to_owned(), source })?;
        Ok(Self { directory: directory.to_owned(), limit })
    }

    /// The content with this digest, if it is here and whole. A damaged one is removed.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        let content = fs::read(&path).ok()?;
        if Digest::of(&content) == *digest {
            return Some(content);
        }
        tracing::warn!(%digest, "a cached file is damaged and is fetched again");
        // It is replaced when it has come, whether this succeeds or not.
        let _ = fs::remove_file(&path);
        None
    }

    /// Keeps a content, and makes room for it. One that is larger than the cache is not kept.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn put(
        &self,
        digest: &Digest,
        content: &[u8],
        in_use: &HashSet<Digest>,
    ) -> Result<(), CacheError> {
        let size = content.len() as u64;
        let path = self.path(digest);
        if size > self.limit || fs::metadata(&path).is_ok_and(|found| found.len() == size) {
            return Ok(());
        }
        let failed = |source| CacheError { path: path.clone(), source };
        self.make_room(size, in_use).map_err(failed)?;
        // Not flushed: what a power cut tears is noticed by its digest, and fetched again.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed)?;
        file.write_all(content).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.to_string())
    }

    /// Oldest first, but those in use last. What a crash left half written has no digest for a name, and goes too.
    fn make_room(&self, size: u64, in_use: &HashSet<Digest>) -> io::Result<()> {
        let mut kept = Vec::new();
        let mut total = size;
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let found = entry.metadata()?;
            let digest = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
            let Some(digest) = digest else {
                fs::remove_file(entry.path())?;
                continue;
            };
            total += found.len();
            let modified = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            kept.push((in_use.contains(&digest), modified, entry.path(), found.len()));
        }
        kept.sort();
        for (_, _, path, length) in kept {
            if total <= self.limit {
                break;
            }
            fs::remove_file(path)?;
            total -= length;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> HashSet<Digest> {
        HashSet::new()
    }

    #[test]
    fn a_damaged_file_is_not_used_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 100).unwrap();
        let digest = Digest::of(b"content");
        cache.put(&digest, b"content", &none()).unwrap();
        assert_eq!(cache.get(&digest).as_deref(), Some(&b"content"[..]));
        fs::write(cache.path(&digest), b"c0ntent").unwrap();
        assert_eq!(cache.get(&digest), None);
        assert!(!cache.path(&digest).exists());
    }

    #[test]
    fn what_is_there_is_not_written_again() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 100).unwrap();
        let digest = Digest::of(b"content");
        cache.put(&digest, b"content", &none()).unwrap();
        let inode = fs::metadata(cache.path(&digest)).unwrap().ino();
        cache.put(&digest, b"content", &none()).unwrap();
        assert_eq!(fs::metadata(cache.path(&digest)).unwrap().ino(), inode);
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 10).unwrap();
        let [old, new, big] = [&b"aaaa"[..], b"bbbb", b"cccc"];
        let in_use = HashSet::from([Digest::of(old)]);
        for content in [old, new, big] {
            cache.put(&Digest::of(content), content, &in_use).unwrap();
        }
        assert!(cache.get(&Digest::of(old)).is_some());
        assert!(cache.get(&Digest::of(new)).is_none());
        assert!(cache.get(&Digest::of(big)).is_some());
        let huge = [0; 11];
        cache.put(&Digest::of(&huge), &huge, &in_use).unwrap();
        assert!(cache.get(&Digest::of(&huge)).is_none());
    }
}
