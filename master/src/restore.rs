//! `drover-master restore`: makes a stopped master what it was at a backup. All of the backup is verified first, then the
//! new data directory is made beside the present one, and one rename decides. Whoever comes next, this command or the
//! master, finishes what was cut off after that.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use drover_proto::event::NewEvent;
use drover_states::settings::ConfigError;
use jiff::Timestamp;
use serde_json::json;
use thiserror::Error;

use crate::{
    backup::{self, BackupError, Ending, File, Member, Place, Summary},
    clock::Now,
    config::Config,
    store::{self, Previous, RestoreStoreError, Restoring, StartError},
};

mod directory;
mod pki;
mod report;

pub use directory::{FinishError, finish};
pub use report::Report;

use directory::Building;

/// What is to be restored, and over what.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The directory of `master.yml`; the backup's is put there where there is none.
    pub config_dir: PathBuf,
    /// The backup.
    pub file: PathBuf,
    /// Moves aside what is there.
    pub force: bool,
}

/// Why a master was not restored. Everything is as it was.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The backup's file cannot be opened.
    #[error("open `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no whole backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// There is a configuration, and it is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The backup has no configuration, and neither has the directory.
    #[error("there is no `{0}`, and none in the backup")]
    NoConfig(PathBuf),
    /// There is a store already.
    #[error("the data directory `{0}` is not empty")]
    NotEmpty(PathBuf),
    /// A file system is mounted there, so no other directory can take its place.
    #[error("the data directory `{0}` is a mount point")]
    MountPoint(PathBuf),
    /// A master runs on it, or it cannot be locked.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The store cannot be made.
    #[error(transparent)]
    Store(#[from] RestoreStoreError),
    /// A file or directory cannot be written or moved.
    #[error("{attempted} `{path}`")]
    Io {
        /// What was attempted, such as `write`.
        attempted: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier restore was cut off, and cannot be finished.
    #[error(transparent)]
    Finish(#[from] FinishError),
}

impl RestoreError {
    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Open { .. } => "name a file that `drover backup` made",
            Self::Backup(error) => error.hint(),
            Self::Config(_) => "put master.yml right, or take it away: the backup has one",
            Self::NoConfig(_) => "write one that says where data_dir and pki_dir are",
            Self::NotEmpty(_) => "`--force` moves it aside and keeps it",
            Self::MountPoint(_) => {
                "name a directory below it as data_dir, in master.yml: there is no room beside it"
            }
            Self::Start(StartError::InUse { .. }) => {
                "stop the master first: `systemctl stop drover-master`"
            }
            Self::Start(_) | Self::Store(_) | Self::Io { .. } | Self::Finish(_) => {
                "run it as root, with room for a second data directory beside the present one"
            }
        }
    }
}

impl Restore {
    /// Does it.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn run(&self) -> Result<Report, RestoreError> {
        let now = Now::read().wall;
        let (summary, from_backup) = self.verify()?;
        let config_file = self.config_dir.join("master.yml");
        let has_config = config_file.exists();
        let mut config = match &from_backup {
            _ if has_config => Config::load(&self.config_dir)?,
            Some(file) => {
                let text = String::from_utf8_lossy(&file.content);
                let wrong = |wrong: drover_states::diagnostic::Diagnostic| {
                    ConfigError::Wrong(Box::new(wrong.in_file("the backup's master.yml")))
                };
                Config::parse(&text, &self.config_dir).map_err(wrong)?
            }
            None => return Err(RestoreError::NoConfig(config_file)),
        };
        config.data_dir = directory::resolved(&config.data_dir);
        finish(&config.data_dir, &config.pki_dir)?;
        if directory::is_mount_point(&config.data_dir) {
            return Err(RestoreError::MountPoint(config.data_dir));
        }

        let is_empty = directory::is_empty(&config.data_dir)?;
        if !is_empty && !self.force {
            return Err(RestoreError::NotEmpty(config.data_dir));
        }
        // Locked from here on, so that no master starts on what is about to go.
        let previous = if is_empty { None } else { Some(Previous::open(&config.data_dir)?) };
        // What the engine wrote as it was opened is not root's.
        if previous.is_some() {
            directory::hand_over(&config.data_dir)?;
        }
        let building = Building::begin(&config.data_dir, &config.pki_dir, now, self.force)?;
        let newest = previous.as_ref().and_then(Previous::last_seq);
        let seq = self.build(&building, &summary, newest, now)?;
        if let (false, Some(file)) = (has_config, &from_backup) {
            directory::write(&config_file, &file.content, file.mode, None)?;
        }
        let since = previous.as_ref().map(|previous| previous.since(summary.ending.last_seq));
        let aside = building.commit(previous)?;
        let pki = finish(&config.data_dir, &config.pki_dir)?.unwrap_or_default();
        let is_config_kept = has_config
            && from_backup.is_some_and(|file| {
                fs::read(&config_file).is_ok_and(|present| present != file.content)
            });
        Ok(Report { summary, seq, now, aside, since, pki, is_config_kept })
    }

    /// Reads all of it, and gives what it says and its `master.yml`.
    fn verify(&self) -> Result<(Summary, Option<File>), RestoreError> {
        let mut config = None;
        let summary = self.read(|member| {
            match member {
                Member::File(file) if file.place == Place::Config => config = Some(file),
                Member::File(_) | Member::Store(_) => {}
            }
            Ok(())
        })?;
        Ok((summary, config))
    }

    fn build(
        &self,
        building: &Building,
        summary: &Summary,
        previous: Option<u64>,
        now: Timestamp,
    ) -> Result<u64, RestoreError> {
        let mut store = Restoring::begin(building.path())?;
        let again = self.read(|member| match member {
            Member::Store(part) => Ok(store.handle_part(&part)?),
            Member::File(file) => building.place(&file),
        })?;
        if again != *summary {
            return Err(BackupError::Damaged.into());
        }
        let data = json!({
            "created": summary.manifest.created,
            "finished": summary.ending.finished,
            "last_seq": summary.ending.last_seq,
        });
        let tag = "drover/master/restored".parse().expect("a tag of letters");
        let Ending { last_seq, finished } = summary.ending;
        let given = store::given(last_seq, finished, previous, now);
        Ok(store.finish(NewEvent::new(tag, None, data), given, now)?)
    }

    fn read(
        &self,
        take: impl FnMut(Member) -> Result<(), RestoreError>,
    ) -> Result<Summary, RestoreError> {
        let open = |source| RestoreError::Open { path: self.file.clone(), source };
        let file = fs::File::open(&self.file).map_err(open)?;
        backup::read(io::BufReader::with_capacity(1 << 20, file), take)
    }
}

/// A name beside the data directory.
fn beside(data_dir: &Path, what: &str) -> PathBuf {
    let mut name = data_dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}"));
    data_dir.with_file_name(name)
}
