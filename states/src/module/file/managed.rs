//! `file.managed`: a file with its content, owner and mode.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{
    Attributes, Resolved, Wanted, changes, make_directories, path, replace, set_attributes,
};
use crate::files::FileError;
use crate::host::Host;
use crate::module::{Arguments, Failure, Outcome, StateModule, scalar_text};

/// A diff longer than this is cut in the return.
const MAX_DIFF: usize = 64 << 10;

/// `file.managed`
///
/// *Condition:* the file is missing, or its content, owner or mode differ. *Effect:* they are as
/// written. *Action:* writes beside it, syncs, renames; nothing is written where nothing differs.
#[derive(Debug)]
pub struct Managed {
    path: PathBuf,
    wanted: Wanted,
    directory: Wanted,
    source: Source,
    is_template: bool,
    context: Map<String, Value>,
    makedirs: bool,
    replace: bool,
    create: bool,
    show_changes: bool,
}

/// Where the content comes from.
#[derive(Debug)]
enum Source {
    /// Nowhere: only owner and mode are managed.
    None,
    /// The state itself.
    Contents(String),
    /// A pillar or grain key.
    Lookup { pillar: bool, key: String, delimiter: String, newline: bool },
    /// The first of these that is there: `salt://` paths, or absolute ones on the device.
    Files { paths: Vec<String>, saltenv: String },
}

/// What is at the path, and what is wanted there.
#[derive(Debug)]
pub struct Observed {
    /// The file itself, a link followed.
    target: PathBuf,
    content: Option<Vec<u8>>,
    attributes: Option<Attributes>,
    wanted_content: Option<Vec<u8>>,
    wanted: Resolved,
    directory: Resolved,
    has_parent: bool,
    is_other: bool,
}

/// One step towards the file.
#[derive(Debug)]
pub enum Step {
    /// Write a new file.
    Create(PathBuf),
    /// Write other content; the diff.
    Update(PathBuf, String),
    /// Change one attribute.
    Set(PathBuf, &'static str, String),
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(path) => {
                write!(formatter, "The file {} is set to be created", path.display())
            }
            Self::Update(path, _) => {
                write!(formatter, "The file {} is set to be changed", path.display())
            }
            Self::Set(path, what, value) => {
                write!(formatter, "The {what} of {} is set to be {value}", path.display())
            }
        }
    }
}

impl StateModule for Managed {
    type Observed = Observed;
    type Step = Step;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        arguments.unsupported(
            &[
                "source_hash",
                "source_hash_name",
                "attrs",
                "encoding",
                "encoding_errors",
                "check_cmd",
                "selinux",
                "tmp_dir",
                "tmp_ext",
                "verify_ssl",
                "use_etag",
                "signature",
                "ignore_ordering",
                "ignore_whitespace",
                "ignore_comment_characters",
                "new_file_diff",
                "follow_symlinks",
                "win_owner",
                "win_perms",
            ],
            "",
        );
        // Sources are verified by digest when they are fetched, and kept in the minion's cache.
        arguments.bool("skip_verify", false);
        arguments.bool("keep_source", true);
        if arguments.value("backup").is_some_and(|backup| backup != &Value::Bool(false)) {
            arguments.error(
                "backup",
                "`backup` is not supported",
                Some("the old content is in the diff of the return".to_owned()),
            );
        }
        let template = arguments.string("template");
        if template.as_deref().is_some_and(|engine| engine != "jinja") {
            arguments.error("template", "the only template engine is `jinja`", None);
        }
        let mut context = arguments.map("defaults").unwrap_or_default();
        context.extend(arguments.map("context").unwrap_or_default());
        let mode = Wanted::parse(arguments, "mode");
        let directory = Wanted {
            user: mode.user.clone(),
            group: mode.group.clone(),
            mode: super::mode(arguments, "dir_mode"),
        };
        Self {
            path: path(arguments),
            wanted: mode,
            directory,
            source: source(arguments),
            is_template: template.is_some(),
            context,
            makedirs: arguments.bool("makedirs", false),
            replace: arguments.bool("replace", true),
            create: arguments.bool("create", true),
            show_changes: arguments.bool("show_changes", true),
        }
    }

    async fn observe(&self, host: &Host) -> Result<Observed, Failure> {
        let unreadable = |error: io::Error| {
            Failure::new(format!("cannot read {}: {error}", self.path.display()))
        };
        let target = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let metadata = match fs::metadata(&target) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(error)),
        };
        let is_file = metadata.as_ref().is_some_and(fs::Metadata::is_file);
        let is_kept = is_file && !self.replace;
        let wanted_content = if is_kept { None } else { self.content(host)? };
        let content = match &wanted_content {
            Some(_) if is_file => Some(fs::read(&target).map_err(unreadable)?),
            _ => None,
        };
        Ok(Observed {
            content,
            attributes: metadata.as_ref().map(Attributes::of),
            wanted_content,
            wanted: self.wanted.resolve()?,
            directory: self.directory.resolve()?,
            has_parent: self.path.parent().is_some_and(Path::is_dir),
            is_other: metadata.is_some() && !is_file,
            target,
        })
    }

    fn diff(&self, observed: &Observed) -> Result<Vec<Step>, Failure> {
        let path = &self.path;
        if observed.is_other {
            let message = format!("Specified target {} is not a file", path.display());
            return Err(Failure::new(message));
        }
        let mut steps = Vec::new();
        if observed.attributes.is_none() {
            if !self.create {
                return Ok(steps);
            }
            steps.push(Step::Create(path.clone()));
        } else if let (Some(old), Some(new)) = (&observed.content, &observed.wanted_content)
            && old != new
        {
            let diff = if self.show_changes { unified(old, new) } else { String::new() };
            steps.push(Step::Update(path.clone(), diff));
        }
        let attributes = self.wanted.changes(observed.attributes, observed.wanted);
        let set = |(what, value)| Step::Set(path.clone(), what, value);
        steps.extend(attributes.into_iter().map(set));
        Ok(steps)
    }

    async fn apply(&self, _host: &Host, observed: Observed, steps: Vec<Step>) -> Outcome {
        // Not in a dry run, where an earlier state may be the one that makes it.
        if observed.attributes.is_none() && !observed.has_parent && !self.makedirs {
            return Outcome::failed("Parent directory not present".to_owned());
        }
        match self.write(&observed, &steps) {
            Ok(()) => {
                let comment = format!("File {} updated", self.path.display());
                Outcome::changed(comment, self.foretold(&observed, &steps))
            }
            Err(error) => Outcome::failed(format!("cannot write {}: {error}", self.path.display())),
        }
    }

    fn unchanged(&self, observed: &Observed) -> String {
        let path = self.path.display();
        if observed.attributes.is_none() {
            return format!("File {path} is not present and is not set for creation");
        }
        format!("File {path} is in the correct state")
    }

    fn foretold(&self, _observed: &Observed, steps: &[Step]) -> Map<String, Value> {
        changes(steps.iter().map(|step| match step {
            Step::Create(_) => ("diff", "New file".to_owned()),
            Step::Update(..) if !self.show_changes => ("diff", "<show_changes=False>".to_owned()),
            Step::Update(_, diff) => ("diff", diff.clone()),
            Step::Set(_, what, value) => (*what, value.clone()),
        }))
    }
}

impl Managed {
    fn write(&self, observed: &Observed, steps: &[Step]) -> io::Result<()> {
        let writes = |step: &Step| matches!(step, Step::Create(_) | Step::Update(..));
        if !steps.iter().any(writes) {
            return set_attributes(&observed.target, observed.wanted);
        }
        if self.makedirs
            && let Some(parent) = self.path.parent()
        {
            make_directories(parent, observed.directory)?;
        }
        let content = observed.wanted_content.as_deref().unwrap_or_default();
        replace(&observed.target, content, observed.attributes, observed.wanted)
    }

    /// The content that is wanted; `None` when any will do.
    fn content(&self, host: &Host) -> Result<Option<Vec<u8>>, Failure> {
        let (name, bytes) = match &self.source {
            Source::None => return Ok(None),
            Source::Contents(text) => (self.path.display().to_string(), text.clone().into_bytes()),
            Source::Lookup { pillar, key, delimiter, newline } => {
                let (place, map) =
                    if *pillar { ("Pillar", host.pillar()) } else { ("Grain", host.grains()) };
                let value = crate::render::traverse(map, key, delimiter);
                let value =
                    value.ok_or_else(|| Failure::new(format!("{place} {key} does not exist")))?;
                let text = lines(value, *newline)
                    .ok_or_else(|| Failure::new(format!("{place} {key} is not text")))?;
                (key.clone(), text.into_bytes())
            }
            Source::Files { paths, saltenv } => read_source(host, paths, saltenv)?,
        };
        if !self.is_template {
            return Ok(Some(bytes));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::new(format!("template {name} is not UTF-8")))?;
        let rendered = host.renderer().template(&name, &text, &self.context);
        let rendered = rendered
            .map_err(|error| Failure::new(format!("Unable to render template: {error}")))?;
        Ok(Some(rendered.into_bytes()))
    }
}

fn source(arguments: &mut Arguments<'_>) -> Source {
    let newline = arguments.bool("contents_newline", true);
    let delimiter = arguments.string("contents_delimiter").unwrap_or_else(|| ":".to_owned());
    let allow_empty = arguments.bool("allow_empty", true);
    let saltenv = arguments.string("saltenv").unwrap_or_else(|| "base".to_owned());
    let paths = arguments.strings("source");
    let mut found = Vec::new();
    if let Some(value) = arguments.value("contents") {
        match lines(value, newline) {
            Some(text) => {
                if text.is_empty() && !allow_empty {
                    arguments.error("contents", "`contents` is empty", None);
                }
                found.push(Source::Contents(text));
            }
            None => arguments.refuse_value("contents", value, "a string or a list of strings"),
        }
    }
    for (key, pillar) in [("contents_pillar", true), ("contents_grains", false)] {
        if let Some(name) = arguments.string(key) {
            let delimiter = delimiter.clone();
            found.push(Source::Lookup { pillar, key: name, delimiter, newline });
        }
    }
    if let Some(paths) = paths {
        for path in &paths {
            if !path.starts_with("salt://") && !path.starts_with('/') {
                let message = format!("`{path}` is no source");
                let hint = "sources begin with `salt://`, or with `/` for a file on the device";
                arguments.error("source", message, Some(hint.to_owned()));
            }
        }
        found.push(Source::Files { paths, saltenv });
    }
    if found.len() > 1 {
        arguments.error(
            "source",
            "only one of `source`, `contents`, `contents_pillar` and \
            `contents_grains` is permitted",
            None,
        );
    }
    found.pop().unwrap_or(Source::None)
}

/// A text, or a list of lines; ended by a newline unless that is not wanted.
fn lines(value: &Value, newline: bool) -> Option<String> {
    let mut text = match value {
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(scalar_text).collect();
            items?.join("\n")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            scalar_text(value)?
        }
    };
    if newline && !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Some(text)
}

fn read_source(host: &Host, paths: &[String], saltenv: &str) -> Result<(String, Vec<u8>), Failure> {
    for path in paths {
        let Some(name) = path.strip_prefix("salt://") else {
            match fs::read(path) {
                Ok(bytes) => return Ok((path.clone(), bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Failure::new(format!("cannot read {path}: {error}"))),
            }
        };
        match host.files().read(saltenv, name) {
            Ok(bytes) => return Ok((name.to_owned(), bytes.to_vec())),
            Err(FileError::NotFound { .. }) => {}
            Err(error) => return Err(Failure::new(format!("cannot read {path}: {error}"))),
        }
    }
    Err(Failure::new(format!("Source file {} not found in saltenv '{saltenv}'", paths.join(", "))))
}

fn unified(old: &[u8], new: &[u8]) -> String {
    let texts = (std::str::from_utf8(old), std::str::from_utf8(new));
    let (Ok(old), Ok(new)) = texts else { return "Replace binary file".to_owned() };
    let diff = similar::TextDiff::from_lines(old, new);
    let mut text = diff.unified_diff().header("", "").to_string();
    if text.len() > MAX_DIFF {
        let end = (0..=MAX_DIFF).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("\n[diff cut]");
    }
    text
}
