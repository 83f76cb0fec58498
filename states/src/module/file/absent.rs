//! `file.absent`: nothing is at a path.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{changes, path};
use crate::host::Host;
use crate::module::{Arguments, Failure, Outcome, StateModule};

/// `file.absent`
///
/// *Condition:* something is at the path. *Effect:* nothing is. *Action:* removes the file, the link,
/// or the directory with all in it.
#[derive(Debug)]
pub struct Absent(PathBuf);

/// Removes it.
#[derive(Debug)]
pub struct Remove {
    path: PathBuf,
    is_directory: bool,
}

impl fmt::Display for Remove {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_directory { "Directory" } else { "File" };
        write!(formatter, "{kind} {} is set for removal", self.path.display())
    }
}

impl StateModule for Absent {
    /// Whether it is a directory, if it is there.
    type Observed = Option<bool>;
    type Step = Remove;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        let path = path(arguments);
        if path == Path::new("/") {
            arguments.error("name", "refusing to make `/` absent", None);
        }
        Self(path)
    }

    async fn observe(&self, _host: &Host) -> Result<Option<bool>, Failure> {
        match fs::symlink_metadata(&self.0) {
            Ok(metadata) => Ok(Some(metadata.is_dir())),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => {
                Err(Failure::new(format!("cannot look at {}: {error}", self.0.display())))
            }
        }
    }

    fn diff(&self, observed: &Option<bool>) -> Result<Vec<Remove>, Failure> {
        let remove = |is_directory| Remove { path: self.0.clone(), is_directory };
        Ok(observed.map(remove).into_iter().collect())
    }

    async fn apply(&self, _host: &Host, observed: Option<bool>, steps: Vec<Remove>) -> Outcome {
        let is_directory = observed == Some(true);
        let removed =
            if is_directory { fs::remove_dir_all(&self.0) } else { fs::remove_file(&self.0) };
        match removed {
            Ok(()) => {
                let kind = if is_directory { "directory" } else { "file" };
                let comment = format!("Removed {kind} {}", self.0.display());
                Outcome::changed(comment, self.foretold(&observed, &steps))
            }
            Err(error) => Outcome::failed(format!("cannot remove {}: {error}", self.0.display())),
        }
    }

    fn unchanged(&self, _observed: &Option<bool>) -> String {
        format!("File {} is not present", self.0.display())
    }

    fn foretold(&self, _observed: &Option<bool>, _steps: &[Remove]) -> Map<String, Value> {
        changes([("removed", self.0.display().to_string())])
    }
}
