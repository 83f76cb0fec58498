//! A configuration file's map: takes known keys out of it, one by one, and complains about what is left, with its
//! place and the nearest known key. `master.yml` and `minion.yml` are read by it.

use std::{
    borrow::Cow,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use drover_proto::nearest::nearest;
use serde_json::Value;
use thiserror::Error;

use crate::{
    diagnostic::Diagnostic,
    yaml::{Data, Entry, Node, Position},
};

/// The directory that is read where no other is named.
pub const DEFAULT_DIRECTORY: &str = "/etc/drover";

/// The longest that anything is waited for. Far longer, and a clock could not tell when it ends.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is not there, or cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It says something that it should not.
    #[error("{0}")]
    Wrong(Box<Diagnostic>),
}

/// Reads `file` in `directory` by `parse`, which is given both.
///
/// # Errors
/// When there is no such file, or something in it is wrong.
pub fn load<T>(
    directory: &Path,
    file: &str,
    parse: impl FnOnce(&str, &Path) -> Result<T, Diagnostic>,
) -> Result<T, ConfigError> {
    let path = directory.join(file);
    let text = fs::read_to_string(&path)
        .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
    parse(&text, directory)
        .map_err(|wrong| ConfigError::Wrong(Box::new(wrong.in_file(path.display().to_string()))))
}

/// The settings of one file.
pub struct Settings<'a> {
    directory: &'a Path,
    text: &'a str,
    entries: &'a [Entry],
    /// Where the map begins, if it is there.
    position: Option<Position>,
    known: Vec<Cow<'static, str>>,
}

/// A text of a setting, or the file that it stands in.
#[derive(Clone, PartialEq, Eq)]
pub enum TextOrFile {
    /// The text itself.
    Text(String),
    /// Where it is.
    File(PathBuf),
}

impl<'a> Settings<'a> {
    /// The settings in a text, whose root was read from it. Relative paths in it start at `directory`.
    ///
    /// # Errors
    /// When the root is no map.
    pub fn new(
        directory: &'a Path,
        text: &'a str,
        root: Option<&'a Node>,
    ) -> Result<Self, Diagnostic> {
        let entries = match root.map(|root| (&root.data, root.position)) {
            None | Some((Data::Scalar(Value::Null), _)) => &[],
            Some((Data::Mapping(entries), _)) => entries.as_slice(),
            Some((Data::Scalar(_) | Data::Sequence(_), position)) => {
                return Err(Diagnostic::new("expected a map of settings")
                    .at(text, position.line, Some(position.column))
                    .hint("write one `key: value` on each line"));
            }
        };
        let position = root.map(|root| root.position);
        Ok(Self { directory, text, entries, position, known: Vec::new() })
    }

    /// The value of a key, read by `read`, which says what it wants where it cannot take what is there.
    ///
    /// # Errors
    /// With the place and what `read` wants.
    pub fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node) -> Result<T, &'static str>,
    ) -> Result<Option<T>, Diagnostic> {
        let Some(entry) = self.entry(key.into()) else { return Ok(None) };
        read(&entry.node)
            .map(Some)
            .map_err(|wanted| self.wrong_at(entry, format!("`{key}` must be {wanted}")))
    }

    /// What stands under a key, and is known from now on.
    fn entry(&mut self, key: Cow<'static, str>) -> Option<&'a Entry> {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        self.known.push(key);
        entry.filter(|entry| !entry.node.is_null())
    }

    fn wrong_at(&self, entry: &Entry, message: String) -> Diagnostic {
        let position = entry.node.position;
        Diagnostic::new(message).at(self.text, position.line, Some(position.column))
    }

    /// All keys, in their order: for a map whose keys are the user's.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// A text that may stand in a file of its own: `key`, or `key_file` with a path.
    ///
    /// # Errors
    /// With the place, when it is no such thing, or when both are given.
    pub fn text_or_file(
        &mut self,
        key: impl Into<Cow<'static, str>>,
    ) -> Result<Option<TextOrFile>, Diagnostic> {
        let (directory, key) = (self.directory, key.into());
        let (text, file) = (self.entry(key.clone()), self.entry(format!("{key}_file").into()));
        match (text, file) {
            (None, None) => Ok(None),
            (Some(_), Some(file)) => {
                let wrong = self.wrong_at(file, format!("there are both `{key}` and `{key}_file`"));
                Err(wrong.hint("one of the two is enough"))
            }
            (Some(entry), None) => match entry.node.as_str().filter(|text| !text.is_empty()) {
                Some(text) => Ok(Some(TextOrFile::Text(text.to_owned()))),
                None => {
                    Err(self.wrong_at(entry, format!("`{key}` must be a text; quote a number")))
                }
            },
            (None, Some(entry)) => match entry.node.as_str().filter(|path| !path.is_empty()) {
                Some(path) => Ok(Some(TextOrFile::File(directory.join(path)))),
                None => Err(self.wrong_at(entry, format!("`{key}_file` must be a path"))),
            },
        }
    }

    /// The value of a key, read by `read`, which is given the file's text too and says the place of what it cannot take.
    ///
    /// # Errors
    /// What `read` complains of.
    pub fn parse<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node, &str) -> Result<T, Diagnostic>,
    ) -> Result<Option<T>, Diagnostic> {
        let entry = self.entry(key.into());
        entry.map(|entry| read(&entry.node, self.text)).transpose()
    }

    /// The settings in the map that a key has, read by `read`. What it does not take is refused.
    ///
    /// # Errors
    /// When the value is no map, or `read` complains.
    pub fn map<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Settings<'_>) -> Result<T, Diagnostic>,
    ) -> Result<Option<T>, Diagnostic> {
        let directory = self.directory;
        self.parse(key, |node, text| {
            let mut settings = Settings::new(directory, text, Some(node))?;
            let value = read(&mut settings)?;
            settings.finish()?;
            Ok(value)
        })
    }

    /// A complaint about the map as a whole.
    #[must_use]
    pub fn wrong(&self, message: impl Into<String>) -> Diagnostic {
        let wrong = Diagnostic::new(message);
        match self.position {
            Some(position) => wrong.at(self.text, position.line, Some(position.column)),
            None => wrong,
        }
    }

    /// A yes or a no.
    ///
    /// # Errors
    /// With the place, when it is neither.
    pub fn flag(&mut self, key: &'static str) -> Result<Option<bool>, Diagnostic> {
        self.take(key, |node| node.to_value().as_bool().ok_or("`true` or `false`"))
    }

    /// A text.
    ///
    /// # Errors
    /// With the place, when it is none.
    pub fn text(&mut self, key: &'static str) -> Result<Option<String>, Diagnostic> {
        self.take(key, |node| node.as_str().map(str::to_owned).ok_or("a text"))
    }

    /// How much is logged, by [`log_level`].
    ///
    /// # Errors
    /// With the place, when it is no such thing.
    pub fn log_level(&mut self, key: &'static str) -> Result<Option<String>, Diagnostic> {
        self.take(key, |node| log_level(node.as_str().unwrap_or_default()))
    }

    /// A path.
    ///
    /// # Errors
    /// With the place, when it is none.
    pub fn path(&mut self, key: &'static str) -> Result<Option<PathBuf>, Diagnostic> {
        let directory = self.directory;
        self.take(key, |node| {
            let path = node.as_str().filter(|path| !path.is_empty());
            path.map(|path| directory.join(path)).ok_or("a path")
        })
    }

    /// A path that is `system` where the file is the system's own, else `own` beside the file.
    ///
    /// # Errors
    /// With the place, when it is none.
    pub fn place(
        &mut self,
        key: &'static str,
        system: &str,
        own: &str,
    ) -> Result<PathBuf, Diagnostic> {
        Ok(self.path(key)?.unwrap_or_else(|| self.default_place(system, own)))
    }

    /// `system` where the file is the system's own, else `own` beside the file.
    #[must_use]
    pub fn default_place(&self, system: &str, own: &str) -> PathBuf {
        if self.directory == Path::new(DEFAULT_DIRECTORY) {
            PathBuf::from(system)
        } else {
            self.directory.join(own)
        }
    }

    /// `{base: [states]}`: environments in their order, each with its directories.
    ///
    /// # Errors
    /// With the place, when it is something else.
    pub fn roots<T: FromIterator<(String, Vec<PathBuf>)>>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<T>, Diagnostic> {
        const WANTED: &str = "a map of environments, each with a list of directories";
        let directory = self.directory;
        let path = |node: &Node| node.as_str().map(|path| directory.join(path)).ok_or(WANTED);
        self.take(key, |node| {
            let Data::Mapping(environments) = &node.data else { return Err(WANTED) };
            environments
                .iter()
                .map(|environment| {
                    let paths = match &environment.node.data {
                        Data::Sequence(items) => {
                            items.iter().map(path).collect::<Result<_, _>>()?
                        }
                        Data::Scalar(_) => vec![path(&environment.node)?],
                        Data::Mapping(_) => return Err(WANTED),
                    };
                    Ok((environment.key.clone(), paths))
                })
                .collect()
        })
    }

    /// A duration: `30s`, `500ms`, `5m`, `1h`, `2d`, or a bare number of seconds.
    ///
    /// # Errors
    /// With the place, when it is none.
    pub fn duration(&mut self, key: &'static str) -> Result<Option<Duration>, Diagnostic> {
        self.take(key, |node| {
            duration(&node.to_value()).ok_or("a duration above zero, such as `30s`, `5m` or `1h`")
        })
    }

    /// A duration that is waited for, by [`wait`].
    ///
    /// # Errors
    /// With the place, when it is none.
    pub fn wait(&mut self, key: &'static str) -> Result<Option<Duration>, Diagnostic> {
        self.take(key, |node| {
            let wanted = "a duration above zero and at most a day, such as `500ms`, `30s` or `5m`";
            wait(&node.to_value()).ok_or(wanted)
        })
    }

    /// A number of bytes: `4MiB`, `4M`, `64k`, or a bare number; all by 1024.
    ///
    /// # Errors
    /// With the place, when it is none.
    pub fn size(&mut self, key: &'static str) -> Result<Option<u64>, Diagnostic> {
        self.take(key, |node| {
            size(&node.to_value()).ok_or("a number of bytes above zero, such as `65536` or `4MiB`")
        })
    }

    /// A whole number above zero.
    ///
    /// # Errors
    /// With the place, when it is none.
    pub fn count<T: TryFrom<u64>>(&mut self, key: &'static str) -> Result<Option<T>, Diagnostic> {
        self.take(key, |node| {
            let number = node.to_value().as_u64().filter(|number| *number > 0);
            number.and_then(|number| T::try_from(number).ok()).ok_or("a whole number above zero")
        })
    }

    /// A number from one to `most`: of what would cost more than anybody means, or wait for ever.
    ///
    /// # Errors
    /// With the place, when it is none.
    pub fn count_to(
        &mut self,
        key: &'static str,
        most: usize,
    ) -> Result<Option<usize>, Diagnostic> {
        let Some(entry) = self.entry(key.into()) else { return Ok(None) };
        let number = entry.node.to_value().as_u64().and_then(|number| usize::try_from(number).ok());
        match number.filter(|number| (1..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                Err(self.wrong_at(entry, format!("`{key}` must be a whole number, 1 to {most}")))
            }
        }
    }

    /// A complaint that something (`the bridge`) lacks a key: at the key that was written in its place, if one was.
    #[must_use]
    pub fn missing(&self, what: &str, key: &str) -> Diagnostic {
        let is_slip =
            |entry: &&Entry| !self.is_known(entry) && nearest(&entry.key, [key]).is_some();
        match self.entries.iter().find(is_slip) {
            Some(entry) => self.unknown(entry, Some(key)),
            None => self.wrong(format!("{what} has no `{key}`")),
        }
    }

    fn is_known(&self, entry: &Entry) -> bool {
        self.known.iter().any(|known| *known == entry.key)
    }

    fn unknown(&self, entry: &Entry, near: Option<&str>) -> Diagnostic {
        Diagnostic::new(format!("unknown key `{}`", entry.key))
            .at(self.text, entry.position.line, Some(entry.position.column))
            .maybe_hint(near.map(|near| format!("did you mean `{near}`?")))
    }

    /// Refuses the first key that nobody took.
    ///
    /// # Errors
    /// With the place and the nearest known key.
    pub fn finish(self) -> Result<(), Diagnostic> {
        let Some(entry) = self.entries.iter().find(|entry| !self.is_known(entry)) else {
            return Ok(());
        };
        let near = nearest(&entry.key, self.known.iter().map(|known| &**known));
        Err(self.unknown(entry, near))
    }
}

/// A level, or levels by module, as `tracing` reads them. A bare word that is no level would name a module there, and
/// silence all others.
///
/// # Errors
/// With what is wanted, when it is something else.
pub fn log_level(text: &str) -> Result<String, &'static str> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_known = |directive: &str| {
        let level = match directive.rsplit_once('=') {
            Some(("", _)) => return false,
            Some((_, level)) => level,
            None => directive,
        };
        LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level.trim()))
    };
    if text.split(',').all(is_known) {
        return Ok(text.to_owned());
    }
    Err(
        "`error`, `warn`, `info`, `debug`, `trace` or `off`; also by module, as `info,drover_proto=debug`",
    )
}

/// `30s`, `500ms`, `5m`, `1h`, `2d`, or a bare number of seconds; never zero.
#[must_use]
pub fn duration(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => {
            let (number, unit) = number_and_unit(text)?;
            let unit = match unit {
                "ms" => 0.001,
                "s" | "" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return None,
            };
            number * unit
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

/// As [`duration`], and at most a day.
#[must_use]
pub fn wait(value: &Value) -> Option<Duration> {
    duration(value).filter(|duration| *duration <= LONGEST_WAIT)
}

/// `4MiB`, `4M`, `64k`, or a bare number of bytes; all by 1024.
#[must_use]
pub fn size(value: &Value) -> Option<u64> {
    let bytes = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => {
            let (number, unit) = number_and_unit(text)?;
            let unit = match unit.to_ascii_lowercase().as_str() {
                "" | "b" => 1_u64,
                "k" | "kb" | "kib" => 1 << 10,
                "m" | "mb" | "mib" => 1 << 20,
                "g" | "gb" | "gib" => 1 << 30,
                "t" | "tb" | "tib" => 1 << 40,
                _ => return None,
            };
            number * unit as f64
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    // Far below the sizes at which a float would lie.
    (1.0..=1e15).contains(&bytes).then_some(bytes as u64)
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests;
