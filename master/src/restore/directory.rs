//! The data directory that is made beside the present one, and how it takes its place.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write as _},
    iter,
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    RestoreError, beside,
    pki::{self, PkiReport},
};
use crate::{
    backup::{ASIDE, File, Place},
    store::{DirectoryLock, Previous, StartError},
};

/// In the new directory: what is left to be done.
const MARK: &str = "restore.json";
/// In the new directory: what belongs into `pki_dir`.
const STAGED_PKI: &str = "restored-pki";

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// What the name of the old directory ends with, and those of files in `pki_dir` begin with.
    aside: String,
    /// Whether what is in `pki_dir` is moved aside.
    force: bool,
    /// Whether all of it is there, and an old directory has to go first.
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Incomplete,
    /// Whole; it takes the place of nothing.
    Whole,
    /// Whole; it takes the place of a directory that is moved aside before.
    Replaces,
}

/// Why a restore that was cut off cannot be finished.
#[derive(Debug, Error)]
pub enum FinishError {
    /// A file or directory cannot be read, written or moved.
    #[error("finish a restore: {attempted} `{path}`")]
    Io {
        /// What was attempted, such as `write`.
        attempted: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its note of what is left to be done is damaged.
    #[error("finish a restore: `{path}` cannot be read")]
    Mark {
        /// The note.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Somebody else is at it.
    #[error(transparent)]
    Locked(#[from] StartError),
}

/// A data directory in the making. It goes with this unless it was decided that it counts.
pub(super) struct Building {
    path: PathBuf,
    data_dir: PathBuf,
    mark: Mark,
    owner: Option<(u32, u32)>,
    has_decided: bool,
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.has_decided {
            // On a full disk it would take what the old master needs, and it has keys in it.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Building {
    /// Beside this one.
    pub(super) fn begin(
        data_dir: &Path,
        pki_dir: &Path,
        at: Timestamp,
        force: bool,
    ) -> Result<Self, RestoreError> {
        let path = beside(data_dir, "restoring");
        if path.join(MARK).exists() || is_empty(&path)? {
            // One of an earlier try that did not come to the rename that decides.
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        } else {
            // A master's, which an earlier restore has replaced and could not give its name.
            let aside = beside(data_dir, &free_name(data_dir, pki_dir, at));
            fs::rename(&path, &aside).map_err(failed("move aside", &path))?;
        }
        let parent = data_dir.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(failed("make", parent))?;
        DirBuilder::new().mode(0o700).create(&path).map_err(failed("make", &path))?;
        let aside = free_name(data_dir, pki_dir, at);
        let mark = Mark { aside, force, stage: Stage::Incomplete };
        let (data_dir, owner) = (data_dir.to_owned(), owner_beside(data_dir));
        let building = Self { path, data_dir, mark, owner, has_decided: false };
        building.write_mark()?;
        Ok(building)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a file where it will be found.
    pub(super) fn place(&self, file: &File) -> Result<(), RestoreError> {
        let path = match &file.place {
            Place::Config => return Ok(()),
            Place::Manifests(path) => self.path.join("manifests").join(path),
            Place::Pki(path) => self.path.join(STAGED_PKI).join(path),
        };
        write(&path, &file.content, file.mode, self.owner)
    }

    /// Takes the place of what is there. Returns where that went.
    pub(super) fn commit(
        mut self,
        previous: Option<Previous>,
    ) -> Result<Option<PathBuf>, RestoreError> {
        let lock = DirectoryLock::take(&self.path)?;
        self.mark.stage = if previous.is_some() { Stage::Replaces } else { Stage::Whole };
        self.write_mark()?;
        own_all(&self.path, self.owner).map_err(failed("hand over", &self.path))?;
        sync_all(&self.path).map_err(failed("write", &self.path))?;
        let mut aside = previous.is_some().then(|| beside(&self.data_dir, &self.mark.aside));
        let put_in_place = failed("put in place", &self.path);
        match &mut aside {
            None => fs::rename(&self.path, &self.data_dir).map_err(put_in_place)?,
            Some(aside) => match exchange(&self.path, &self.data_dir) {
                Ok(()) => {
                    // Decided. What is there now is the old one, under the name of the new one.
                    self.has_decided = true;
                    if fs::rename(&self.path, &*aside).is_err() {
                        aside.clone_from(&self.path);
                    }
                }
                Err(error) if knows_no_exchange(&error) => {
                    fs::rename(&self.data_dir, aside)
                        .map_err(failed("move aside", &self.data_dir))?;
                    // Decided: whoever comes finishes.
                    self.has_decided = true;
                    fs::rename(&self.path, &self.data_dir).map_err(put_in_place)?;
                }
                Err(error) => return Err(failed("move aside", &self.data_dir)(error)),
            },
        }
        self.has_decided = true;
        sync(self.data_dir.parent().unwrap_or(Path::new("/")))
            .map_err(failed("write", &self.data_dir))?;
        drop((lock, previous));
        Ok(aside)
    }

    fn write_mark(&self) -> Result<(), RestoreError> {
        let text = serde_json::to_vec(&self.mark).expect("a mark has a JSON form");
        write(&self.path.join(MARK), &text, 0o600, self.owner)
    }
}

/// Finishes a restore that has decided: one that was cut off, too. Returns what became of `pki_dir`, if there was
/// something to do.
///
/// # Errors
/// See [`FinishError`].
pub fn finish(data_dir: &Path, pki_dir: &Path) -> Result<Option<PkiReport>, FinishError> {
    let data_dir = &resolved(data_dir);
    let building = beside(data_dir, "restoring");
    // Whoever starts the master may have made an empty one in its place.
    if is_vacant(data_dir)
        && let Some(mark) = read_mark(&building)?
        && has_decided(&mark, data_dir)
    {
        let failed =
            |source| FinishError::Io { attempted: "put in place", path: building.clone(), source };
        fs::rename(&building, data_dir).map_err(failed)?;
        sync(data_dir.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    }
    let Some(mark) = read_mark(data_dir)? else { return Ok(None) };
    let _lock = DirectoryLock::take(data_dir)?;
    let aside = beside(data_dir, &mark.aside);
    if mark.stage == Stage::Replaces && building.exists() && !aside.exists() {
        // The master itself may not be allowed to; the next restore does not remove it.
        if let Err(error) = fs::rename(&building, &aside) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, old = %building.display(), "what was there before a restore keeps this name");
        }
    }
    let staged = data_dir.join(STAGED_PKI);
    let failed = |attempted, path: &Path| {
        let path = path.to_owned();
        move |source| FinishError::Io { attempted, path, source }
    };
    let report = pki::place(&staged, pki_dir, mark.force, &mark.aside)
        .map_err(failed("put the keys and certificates into", pki_dir))?;
    match fs::remove_dir_all(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &staged)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let path = data_dir.join(MARK);
    fs::remove_file(&path).map_err(failed("remove", &path))?;
    sync(data_dir).map_err(failed("write", data_dir))?;
    Ok(Some(report))
}

fn has_decided(mark: &Mark, data_dir: &Path) -> bool {
    match mark.stage {
        Stage::Incomplete => false,
        Stage::Whole => true,
        Stage::Replaces => beside(data_dir, &mark.aside).exists(),
    }
}

/// What nothing has that was set aside.
fn free_name(data_dir: &Path, pki_dir: &Path, at: Timestamp) -> String {
    let is_free =
        |aside: &String| !beside(data_dir, aside).exists() && !pki_dir.join(aside).exists();
    let first = format!("{ASIDE}{}", at.strftime("%Y%m%dT%H%M%SZ"));
    let others = (2..).map(|number| format!("{first}-{number}"));
    let name = iter::once(first.clone()).chain(others).find(is_free);
    name.expect("some number is free")
}

/// Each gets the name of the other, in one step: at no moment is there no data directory.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

fn knows_no_exchange(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Where links under this name lead: a restore replaces the directory, on its own disk, and not a link to it.
pub(super) fn resolved(directory: &Path) -> PathBuf {
    /// As many as the kernel follows.
    const LINKS: usize = 40;
    let mut path = directory.to_owned();
    for _ in 0..LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    path
}

/// Whether another file system is mounted there, so that nothing takes its place.
pub(super) fn is_mount_point(directory: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
    let parent = directory.parent().and_then(device);
    matches!((device(directory), parent), (Some(own), Some(parent)) if own != parent)
}

fn is_vacant(directory: &Path) -> bool {
    match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn read_mark(directory: &Path) -> Result<Option<Mark>, FinishError> {
    let path = directory.join(MARK);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FinishError::Io { attempted: "read", path, source }),
    };
    match serde_json::from_slice(&text) {
        Ok(mark) => Ok(Some(mark)),
        Err(source) => Err(FinishError::Mark { path, source }),
    }
}

/// Whether there is nothing at a place.
pub(super) fn is_empty(directory: &Path) -> Result<bool, RestoreError> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(failed("read", directory)(error)),
    }
}

/// Writes a file that is whole or absent, with the directories that it needs.
pub(super) fn write(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Result<(), RestoreError> {
    write_whole(path, content, mode, owner).map_err(failed("write", path))
}

pub(super) fn write_whole(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut name = std::ffi::OsString::from(".restoring-");
    name.push(path.file_name().unwrap_or_default());
    let aside = path.with_file_name(name);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::chown(&aside, Some(user), Some(group))?;
    }
    file.sync_all()?;
    fs::rename(&aside, path)?;
    sync(directory)
}

/// Whose the directory is, or would be, where root restores for another user.
pub(super) fn owner_beside(directory: &Path) -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let of = |path: &Path| fs::metadata(path).ok().map(|found| (found.uid(), found.gid()));
    of(directory).or_else(|| of(directory.parent()?))
}

/// Gives what is in a directory to whom the directory belongs, where root has written there.
pub(super) fn hand_over(directory: &Path) -> Result<(), RestoreError> {
    own_all(directory, owner_beside(directory)).map_err(failed("hand over", directory))
}

fn own_all(directory: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let Some((user, group)) = owner else { return Ok(()) };
    std::os::unix::fs::chown(directory, Some(user), Some(group))?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            own_all(&path, owner)?;
        } else {
            std::os::unix::fs::chown(&path, Some(user), Some(group))?;
        }
    }
    Ok(())
}

fn sync_all(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { sync_all(&path)? } else { sync(&path)? }
    }
    sync(directory)
}

pub(super) fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

fn failed(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError + use<> {
    let path = path.to_owned();
    move |source| RestoreError::Io { attempted, path, source }
}

#[cfg(test)]
mod tests;
