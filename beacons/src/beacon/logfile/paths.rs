//! Which files there are: patterns of paths, one directory at a time.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Component, Path, PathBuf},
};

use drover_proto::glob;
use rustix::fs::OFlags;

/// Rotated files of these kinds are not text any more.
const COMPRESSED: [&str; 5] = ["gz", "xz", "bz2", "zst", "lz4"];

/// Which file it is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Opens a file, and nothing else: since it was found, a pipe may have taken its name, and to open that, or to read some
/// files of the kernel's, would hold the agent up.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    Ok((file, metadata))
}

/// The files that match, each once, at most `most`; and whether there were more.
pub(super) fn find(patterns: &[PathBuf], most: usize) -> (Vec<(PathBuf, Metadata)>, bool) {
    let mut found: Vec<(PathBuf, Metadata)> = Vec::new();
    for pattern in patterns {
        for path in expand(pattern) {
            // A pipe would block, and a directory has no lines.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let id = FileId::of(&metadata);
            if !metadata.is_file() || found.iter().any(|(_, other)| FileId::of(other) == id) {
                continue;
            }
            if found.len() == most {
                return (found, true);
            }
            found.push((path, metadata));
        }
    }
    (found, false)
}

fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for component in pattern.components() {
        let Some(name) = pattern_of(component) else {
            paths.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        // A directory that is not there yet, or not any more, has no files.
        paths = paths.iter().flat_map(|path| matching(path, name).unwrap_or_default()).collect();
    }
    paths
}

fn pattern_of(component: Component<'_>) -> Option<&str> {
    match component {
        Component::Normal(name) => name.to_str().filter(|name| glob::is_pattern(name)),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            None
        }
    }
}

fn matching(directory: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let is_hidden = name.as_bytes().starts_with(b".") && !pattern.starts_with('.');
        let is_compressed = Path::new(&name)
            .extension()
            .is_some_and(|ending| COMPRESSED.iter().any(|compressed| ending == *compressed));
        if !is_hidden && !is_compressed && glob::matches(pattern, &name.to_string_lossy()) {
            paths.push(directory.join(name));
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_in_any_directory_of_a_path() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a/app.log", "b/app.log", "b/.hidden.log", "b/app.log.1.gz", "b/other.txt"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = |pattern: &str, most| {
            let (found, more) = find(&[root.path().join(pattern)], most);
            let name =
                |path: &PathBuf| path.strip_prefix(root.path()).unwrap().display().to_string();
            (found.iter().map(|(path, _)| name(path)).collect::<Vec<_>>(), more)
        };
        assert_eq!(
            found("*/*.log*", 9),
            (vec!["a/app.log".to_owned(), "b/app.log".to_owned()], false)
        );
        assert_eq!(found("?/app.log", 1), (vec!["a/app.log".to_owned()], true));
        assert_eq!(found("missing/*", 9), (vec![], false));
        assert_eq!(found("b", 9), (vec![], false));
    }
}
