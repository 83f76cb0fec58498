//! The files of a master beside its store: which of them a backup has, and where each belongs.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

/// Where a file belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// `master.yml`.
    Config,
    /// This path in `pki_dir`.
    Pki(PathBuf),
    /// This path in `data_dir/manifests`.
    Manifests(PathBuf),
}

/// A file as a backup has it.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Where it belongs.
    pub place: Place,
    /// Its permissions.
    pub mode: u32,
    /// What is in it; a key, maybe.
    pub content: Vec<u8>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, mode, content } = self;
        write!(f, "File({place:?}, {mode:o}, {} bytes)", content.len())
    }
}

impl Place {
    const CONFIG: &'static str = "master.yml";
    const PKI: &'static str = "pki";
    const MANIFESTS: &'static str = "manifests";

    /// What a backup calls it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Config => Self::CONFIG.into(),
            Self::Pki(path) => Path::new(Self::PKI).join(path),
            Self::Manifests(path) => Path::new(Self::MANIFESTS).join(path),
        }
    }

    /// Of what a backup calls it; `None` where no file of a master would be, or one that leads elsewhere.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return None;
        }
        if path == Path::new(Self::CONFIG) {
            return Some(Self::Config);
        }
        let within = |directory: &str| {
            let rest = path.strip_prefix(directory).ok()?;
            (!rest.as_os_str().is_empty()).then(|| rest.to_owned())
        };
        within(Self::PKI).map(Self::Pki).or_else(|| within(Self::MANIFESTS).map(Self::Manifests))
    }
}

/// The files below a directory, by their paths in it, in order. What is not whole yet and what a restore set aside is
/// left out; none where there is no directory.
///
/// # Errors
/// When the directory cannot be read.
pub fn below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fn walk(directory: &Path, within: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(directory.join(within))? {
            let entry = entry?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if text.starts_with('.') || text.starts_with(super::ASIDE) || text.ends_with(".new") {
                continue;
            }
            let path = within.join(&name);
            // A link is followed, as whoever reads the file follows it.
            let what = fs::metadata(entry.path())?;
            if what.is_dir() {
                walk(directory, &path, found)?;
            } else if what.is_file() {
                // A pipe would be read for ever, and a token's socket is nothing to take along.
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    match walk(directory, Path::new(""), &mut found) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => {}
        Err(error) => return Err(error),
    }
    found.sort();
    Ok(found)
}

/// All of `pki_dir`, read twice where it changes meanwhile: a certificate is not torn from its key.
pub(super) fn pki(directory: &Path) -> io::Result<Vec<File>> {
    const TRIES: usize = 5;
    let mut before = read_all(directory);
    for _ in 1..TRIES {
        let again = read_all(directory);
        match (&before, &again) {
            (Ok(before), Ok(again)) if before == again => break,
            (Ok(_) | Err(_), Ok(_) | Err(_)) => before = again,
        }
    }
    before
}

fn read_all(directory: &Path) -> io::Result<Vec<File>> {
    let paths = below(directory)?.into_iter();
    paths.map(|path| read_file(&directory.join(&path), Place::Pki(path))).collect()
}

pub(super) fn read_file(path: &Path, place: Place) -> io::Result<File> {
    let content = fs::read(path)?;
    Ok(File { place, mode: fs::metadata(path)?.mode() & 0o7777, content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backups_file_stays_where_it_belongs() {
        for path in ["master.yml", "pki/fleet-ca.key", "pki/previous/a.crt", "manifests/l/1.json"] {
            assert_eq!(Place::of(Path::new(path)).unwrap().path(), Path::new(path));
        }
        for path in
            ["", "pki", "pki/../../etc/shadow", "/pki/a", "./pki/a", "x", "store/1", "pki/a/.."]
        {
            assert_eq!(Place::of(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_file_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let _socket =
            std::os::unix::net::UnixListener::bind(directory.path().join("token")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(directory.path().join("pipe")).status();
        assert!(pipe.unwrap().success());
        fs::write(directory.path().join("a"), "x").unwrap();
        assert_eq!(below(directory.path()).unwrap(), [Path::new("a")]);
    }

    #[test]
    fn files_below_are_found_but_for_those_that_are_not_whole() {
        let directory = tempfile::tempdir().unwrap();
        assert!(below(&directory.path().join("none")).unwrap().is_empty());
        for path in ["b", "a/c", ".drover-x", "d.new", "before-restore-1/e"] {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        assert_eq!(below(directory.path()).unwrap(), [Path::new("a/c"), Path::new("b")]);
        assert_eq!(pki(directory.path()).unwrap().len(), 2);
    }
}
