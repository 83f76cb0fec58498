//! Files that are only in memory: for tests, and for whoever has the content already.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{FileError, FileSource, relative};

/// The files of one environment, `base`.
#[derive(Debug, Default)]
pub struct MemoryFiles(BTreeMap<String, Arc<[u8]>>);

impl MemoryFiles {
    /// Files by path and content.
    #[must_use]
    pub fn new(files: &[(&str, &str)]) -> Arc<Self> {
        let content = |(path, text): &(&str, &str)| ((*path).to_owned(), text.as_bytes().into());
        Arc::new(Self(files.iter().map(content).collect()))
    }
}

impl FileSource for MemoryFiles {
    fn read(&self, saltenv: &str, path: &str) -> Result<Arc<[u8]>, FileError> {
        let path = relative(path)?;
        let found = self.0.get(&path).filter(|_| saltenv == "base").cloned();
        found.ok_or(FileError::NotFound { saltenv: saltenv.to_owned(), path })
    }

    fn list(&self, saltenv: &str) -> Result<Vec<String>, FileError> {
        Ok(if saltenv == "base" { self.0.keys().cloned().collect() } else { Vec::new() })
    }

    fn environments(&self) -> Vec<String> {
        vec!["base".to_owned()]
    }
}
