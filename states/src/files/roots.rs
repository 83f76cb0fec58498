//! File roots: plain directories, searched in order, whose files never come from outside them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FileError, FileSource, relative};

/// A file over this size is no state source; bulk data travels otherwise.
const MAX_FILE: u64 = 256 << 20;
/// Directories nested deeper than this are not listed.
const MAX_DEPTH: usize = 32;

/// `file_roots` and `pillar_roots`: environments, each a list of directories; the first that has a
/// path wins.
#[derive(Debug, Clone, Default)]
pub struct DirectoryRoots(BTreeMap<String, Vec<PathBuf>>);

impl DirectoryRoots {
    /// Roots by environment.
    #[must_use]
    pub fn new(roots: BTreeMap<String, Vec<PathBuf>>) -> Self {
        Self(roots)
    }

    /// One directory as environment `base`.
    #[must_use]
    pub fn base(directory: impl Into<PathBuf>) -> Self {
        Self(BTreeMap::from([("base".to_owned(), vec![directory.into()])]))
    }

    /// Where a file lies, symbolic links resolved.
    fn resolve(&self, saltenv: &str, path: &str) -> Result<PathBuf, FileError> {
        let path = relative(path)?;
        for root in self.0.get(saltenv).into_iter().flatten() {
            let unreadable = |source| FileError::Unreadable { path: path.clone(), source };
            let file = match root.join(&path).canonicalize() {
                Ok(file) => file,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(unreadable(error)),
            };
            // A link inside the root may point anywhere; only what stays inside is served.
            if !file.starts_with(root.canonicalize().map_err(unreadable)?) {
                return Err(FileError::Outside { path });
            }
            if file.is_file() {
                return Ok(file);
            }
        }
        Err(FileError::NotFound { saltenv: saltenv.to_owned(), path })
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl FileSource for DirectoryRoots {
    fn read(&self, saltenv: &str, path: &str) -> Result<Arc<[u8]>, FileError> {
        let file = self.resolve(saltenv, path)?;
        let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
        let mut content = Vec::new();
        let opened = std::fs::File::open(&file).map_err(unreadable)?;
        opened.take(MAX_FILE + 1).read_to_end(&mut content).map_err(unreadable)?;
        if content.len() as u64 > MAX_FILE {
            return Err(unreadable(io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        Ok(content.into())
    }

    fn list(&self, saltenv: &str) -> Result<Vec<String>, FileError> {
        let mut files = BTreeSet::new();
        for root in self.0.get(saltenv).into_iter().flatten() {
            walk(root, root, 0, &mut files).map_err(|source| FileError::Unreadable {
                path: root.display().to_string(),
                source,
            })?;
        }
        // Links that lead outside are listed by the walk and dropped here.
        Ok(files.into_iter().filter(|path| self.resolve(saltenv, path).is_ok()).collect())
    }

    fn environments(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn walk(root: &Path, at: &Path, depth: usize, files: &mut BTreeSet<String>) -> io::Result<()> {
    let entries = match std::fs::read_dir(at) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        // A dangling link, or a file that went between two calls, is no file.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            if depth < MAX_DEPTH {
                walk(root, &path, depth + 1, files)?;
            }
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            files.insert(name.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_root_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(directory.path().join("secret"), "s").unwrap();
        std::fs::write(root.join("a.sls"), "a").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
        std::os::unix::fs::symlink("a.sls", root.join("inside")).unwrap();
        let files = DirectoryRoots::base(&root);
        assert_eq!(&*files.read("base", "salt://a.sls").unwrap(), b"a");
        assert_eq!(&*files.read("base", "inside").unwrap(), b"a");
        for path in ["../secret", "/etc/passwd", "x/../../secret", "link"] {
            let error = files.read("base", path).unwrap_err();
            assert!(matches!(error, FileError::Outside { .. }), "{path}: {error}");
        }
        assert!(matches!(files.read("base", "none"), Err(FileError::NotFound { .. })));
        assert!(matches!(files.read("dev", "a.sls"), Err(FileError::NotFound { .. })));
        assert_eq!(files.list("base").unwrap(), ["a.sls", "inside"]);
    }
}
