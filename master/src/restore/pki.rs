//! The keys and certificates of a backup, and those that are there: what is there stays, unless it was said otherwise.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::directory::{owner_beside, sync, write_whole};
use crate::backup::files_below;

/// What became of `pki_dir`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PkiReport {
    /// Files that were put there.
    pub placed: Vec<PathBuf>,
    /// Files that are there with other content than the backup's, and stayed.
    pub kept: Vec<PathBuf>,
    /// Files that are not there, and were left out because their key or certificate is another.
    pub unpaired: Vec<PathBuf>,
    /// Where the files went that were there, if some did.
    pub aside: Option<PathBuf>,
}

/// Puts the files below `staged` into `pki_dir`. Done again after it was cut off, it goes on.
pub(super) fn place(
    staged: &Path,
    pki_dir: &Path,
    force: bool,
    aside: &str,
) -> io::Result<PkiReport> {
    let mut report = PkiReport::default();
    let paths = files_below(staged)?;
    let aside = pki_dir.join(aside);
    let owner = owner_beside(pki_dir);
    for path in &paths {
        let (from, to) = (staged.join(path), pki_dir.join(path));
        let content = fs::read(&from)?;
        let present = match fs::read(&to) {
            Ok(present) => Some(present),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match present {
            Some(present) if present == content => continue,
            Some(_) if !force => {
                report.kept.push(path.clone());
                continue;
            }
            Some(present) => {
                let mode = fs::metadata(&to)?.mode() & 0o7777;
                write_whole(&aside.join(path), &present, mode, owner)?;
            }
            None if !force && is_unpaired(staged, pki_dir, path) => {
                report.unpaired.push(path.clone());
                continue;
            }
            None => {}
        }
        write_whole(&to, &content, fs::metadata(&from)?.mode() & 0o7777, owner)?;
        report.placed.push(path.clone());
    }
    if force {
        // What came after the backup, a list or a key, does not belong to what it restores.
        for path in files_below(pki_dir)?.iter().filter(|path| !paths.contains(path)) {
            let to = aside.join(path);
            fs::create_dir_all(to.parent().unwrap_or(&aside))?;
            fs::rename(pki_dir.join(path), to)?;
        }
        if pki_dir.exists() {
            sync(pki_dir)?;
        }
    }
    report.aside = aside.exists().then_some(aside);
    Ok(report)
}

/// Whether the other half of a pair of key and certificate is there, and is not the backup's.
fn is_unpaired(staged: &Path, pki_dir: &Path, path: &Path) -> bool {
    let other = match path.extension().and_then(std::ffi::OsStr::to_str) {
        Some("key") => path.with_extension("crt"),
        Some("crt") => path.with_extension("key"),
        Some(_) | None => return false,
    };
    // One that this very restore has put there is the backup's.
    match (fs::read(pki_dir.join(&other)), fs::read(staged.join(&other))) {
        (Ok(present), Ok(backups)) => present != backups,
        (Ok(_), Err(_)) => true,
        (Err(_), Ok(_) | Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        directory
    }

    fn paths(paths: &[&str]) -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn what_is_there_stays_and_no_pair_is_torn() {
        let staged = directory(&[
            ("crl.pem", "old"),
            ("fleet-ca.crt", "a"),
            ("fleet-ca.key", "b"),
            ("master.crt", "c"),
            ("master.key", "d"),
            ("previous/x.crt", "e"),
        ]);
        let present = directory(&[("crl.pem", "new"), ("master.crt", "other"), ("more", "f")]);
        let report = place(staged.path(), present.path(), false, "before-restore-1").unwrap();
        let placed = paths(&["fleet-ca.crt", "fleet-ca.key", "previous/x.crt"]);
        let kept = paths(&["crl.pem", "master.crt"]);
        let unpaired = paths(&["master.key"]);
        assert_eq!(report, PkiReport { placed, kept, unpaired, aside: None });
        assert_eq!(fs::read(present.path().join("crl.pem")).unwrap(), b"new");
        assert!(present.path().join("more").exists());
    }

    #[test]
    fn by_force_all_is_the_backups_and_what_was_there_is_kept_aside() {
        let staged = directory(&[("crl.pem", "old"), ("master.crt", "c"), ("master.key", "d")]);
        let present = directory(&[("crl.pem", "new"), ("master.crt", "c"), ("previous/x", "f")]);
        for _ in 0..2 {
            let report = place(staged.path(), present.path(), true, "before-restore-1").unwrap();
            assert_eq!(report.aside, Some(present.path().join("before-restore-1")));
        }
        assert_eq!(
            files_below(present.path()).unwrap(),
            paths(&["crl.pem", "master.crt", "master.key"])
        );
        assert_eq!(fs::read(present.path().join("crl.pem")).unwrap(), b"old");
        let aside = present.path().join("before-restore-1");
        assert_eq!(files_below(&aside).unwrap(), paths(&["crl.pem", "previous/x"]));
        assert_eq!(fs::read(aside.join("crl.pem")).unwrap(), b"new");
    }
}
