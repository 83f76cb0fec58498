//! `file.directory`: a directory with its owner and mode.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Attributes, Resolved, Wanted, changes, make_directories, path, set_attributes};
use crate::host::Host;
use crate::module::{Arguments, Failure, Outcome, StateModule};

/// `file.directory`
///
/// *Condition:* it is missing, or its owner or mode differ. *Effect:* it is there with both.
/// *Action:* makes it, and those above it with `makedirs`; sets owner and mode.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    wanted: Wanted,
    makedirs: bool,
}

/// What is at the path.
#[derive(Debug)]
pub struct Observed {
    is_there: bool,
    is_directory: bool,
    attributes: Option<Attributes>,
    wanted: Resolved,
}

/// One step towards the directory.
#[derive(Debug)]
pub enum Step {
    /// Make it.
    Make(PathBuf),
    /// Change one attribute.
    Set(PathBuf, &'static str, String),
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make(path) => write!(formatter, "The directory {} will be made", path.display()),
            Self::Set(path, what, value) => {
                write!(formatter, "The {what} of {} will be {value}", path.display())
            }
        }
    }
}

impl StateModule for Directory {
    type Observed = Observed;
    type Step = Step;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        arguments.unsupported(
            &[
                "recurse",
                "max_depth",
                "file_mode",
                "clean",
                "exclude_pat",
                "force",
                "backupname",
                "children_only",
                "follow_symlinks",
                "allow_symlink",
            ],
            "",
        );
        let key = if arguments.is_written("dir_mode") { "dir_mode" } else { "mode" };
        Self {
            path: path(arguments),
            wanted: Wanted::parse(arguments, key),
            makedirs: arguments.bool("makedirs", false),
        }
    }

    async fn observe(&self, _host: &Host) -> Result<Observed, Failure> {
        let metadata = fs::metadata(&self.path).ok();
        Ok(Observed {
            is_there: metadata.is_some(),
            is_directory: metadata.as_ref().is_some_and(fs::Metadata::is_dir),
            attributes: metadata.as_ref().map(Attributes::of),
            wanted: self.wanted.resolve()?,
        })
    }

    fn diff(&self, observed: &Observed) -> Result<Vec<Step>, Failure> {
        let path = &self.path;
        if observed.is_there && !observed.is_directory {
            let message = format!("Specified location {} exists and is a file", path.display());
            return Err(Failure::new(message));
        }
        if !observed.is_there {
            return Ok(vec![Step::Make(path.clone())]);
        }
        let changes = self.wanted.changes(observed.attributes, observed.wanted);
        Ok(changes.into_iter().map(|(what, value)| Step::Set(path.clone(), what, value)).collect())
    }

    async fn apply(&self, _host: &Host, observed: Observed, steps: Vec<Step>) -> Outcome {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        // Not in a dry run, where an earlier state may be the one that makes it.
        if !observed.is_there && !self.makedirs && !parent.is_dir() {
            let path = self.path.display();
            return Outcome::failed(format!("No directory to create {path} in"));
        }
        let done = make_directories(&self.path, observed.wanted)
            .and_then(|()| set_attributes(&self.path, observed.wanted));
        match done {
            Ok(()) => {
                let comment = format!("Directory {} updated", self.path.display());
                Outcome::changed(comment, self.foretold(&observed, &steps))
            }
            Err(error) => Outcome::failed(format!("cannot make {}: {error}", self.path.display())),
        }
    }

    fn unchanged(&self, _observed: &Observed) -> String {
        format!("The directory {} is in the correct state", self.path.display())
    }

    fn foretold(&self, _observed: &Observed, steps: &[Step]) -> Map<String, Value> {
        changes(steps.iter().map(|step| match step {
            Step::Make(_) => ("directory", "new".to_owned()),
            Step::Set(_, what, value) => (*what, value.clone()),
        }))
    }
}
