//! `file.symlink`: a symbolic link.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Resolved, changes, make_directories, path};
use crate::host::Host;
use crate::module::{Arguments, Failure, Outcome, StateModule};

/// `file.symlink`
///
/// *Condition:* the path is no link, or leads elsewhere. *Effect:* it leads to `target`. *Action:*
/// makes the link beside its place and renames it.
#[derive(Debug)]
pub struct Symlink {
    path: PathBuf,
    target: PathBuf,
    force: bool,
    makedirs: bool,
}

/// What is at the path.
#[derive(Debug, PartialEq, Eq)]
pub enum Present {
    /// Nothing.
    Nothing,
    /// A link to there.
    Link(PathBuf),
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// Makes the link.
#[derive(Debug)]
pub struct Link(String);

impl fmt::Display for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl StateModule for Symlink {
    type Observed = Present;
    type Step = Link;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        arguments.unsupported(
            &[
                "backupname",
                "user",
                "group",
                "mode",
                "inherit_user_and_group",
                "follow_symlinks",
                "atomic",
                "disallow_copy_and_unlink",
            ],
            "",
        );
        Self {
            path: path(arguments),
            target: PathBuf::from(arguments.required_string("target")),
            force: arguments.bool("force", false),
            makedirs: arguments.bool("makedirs", false),
        }
    }

    async fn observe(&self, _host: &Host) -> Result<Present, Failure> {
        let Ok(metadata) = fs::symlink_metadata(&self.path) else { return Ok(Present::Nothing) };
        if metadata.is_symlink() {
            let target = fs::read_link(&self.path);
            return target.map(Present::Link).map_err(|error| {
                Failure::new(format!("cannot read the link {}: {error}", self.path.display()))
            });
        }
        Ok(if metadata.is_dir() { Present::Directory } else { Present::File })
    }

    fn diff(&self, observed: &Present) -> Result<Vec<Link>, Failure> {
        let (path, target) = (self.path.display(), self.target.display());
        match observed {
            Present::Link(now) if *now == self.target => return Ok(Vec::new()),
            Present::Directory => {
                return Err(Failure::new(format!(
                    "Directory exists where the symlink {path} should be"
                )));
            }
            Present::File if !self.force => {
                return Err(Failure::new(format!(
                    "File exists where the symlink {path} should be"
                )));
            }
            Present::Nothing | Present::Link(_) | Present::File => {}
        }
        Ok(vec![Link(format!("Symlink {path} to {target} is set for creation"))])
    }

    async fn apply(&self, _host: &Host, observed: Present, steps: Vec<Link>) -> Outcome {
        // Not in a dry run, where an earlier state may be the one that makes it.
        if !self.makedirs && !parent(&self.path).is_dir() {
            let parent = parent(&self.path).display();
            return Outcome::failed(format!("Directory {parent} for symlink is not present"));
        }
        match self.make() {
            Ok(()) => {
                let (path, target) = (self.path.display(), self.target.display());
                let comment = format!("Created new symlink {path} -> {target}");
                Outcome::changed(comment, self.foretold(&observed, &steps))
            }
            Err(error) => Outcome::failed(format!("cannot link {}: {error}", self.path.display())),
        }
    }

    fn unchanged(&self, _observed: &Present) -> String {
        format!("Symlink {} is present", self.path.display())
    }

    fn foretold(&self, _observed: &Present, _steps: &[Link]) -> Map<String, Value> {
        changes([("new", self.path.display().to_string())])
    }
}

impl Symlink {
    fn make(&self) -> std::io::Result<()> {
        let parent = parent(&self.path);
        if self.makedirs {
            make_directories(parent, Resolved::default())?;
        }
        // A link cannot be replaced in place: it is made in a fresh directory and renamed.
        let room = tempfile::Builder::new().prefix(".drover-").tempdir_in(parent)?;
        let link = room.path().join("link");
        std::os::unix::fs::symlink(&self.target, &link)?;
        fs::rename(&link, &self.path)
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
