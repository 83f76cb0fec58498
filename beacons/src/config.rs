//! Reads a beacon's options in Salt's form, a list of maps, or as one plain map. What is not known
//! is refused, never ignored.

use std::time::Duration;

use drover_proto::nearest::nearest;
use regex::Regex;
use serde_json::Value;

use crate::alarm::Repeat;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
const LOG_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_REPEAT: Duration = Duration::from_secs(300);
const MIN_SECONDS: f64 = 1.0;
/// Ten years: longer than any device stays up, and far from overflowing an instant.
const MAX_SECONDS: f64 = 315_360_000.0;

/// The configuration of the beacons cannot be used; the operator must change it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is a list or a scalar where the beacons should be.
    #[error("`beacons` must be a map of beacons by name, but is {found}")]
    NotAMap {
        /// What is there.
        found: &'static str,
    },
    /// A beacon's name cannot be part of a tag.
    #[error("`{name}` cannot name a beacon, use letters, digits, `_`, `-` and `.`")]
    BadName {
        /// The name.
        name: String,
    },
    /// There is no such beacon.
    #[error("unknown beacon `{name}`, {}", suggest(name, known))]
    UnknownBeacon {
        /// What the configuration asks for.
        name: String,
        /// The beacons there are.
        known: &'static [&'static str],
    },
    /// A beacon's options are not a list of maps or a map.
    #[error(
        "the options of beacon `{beacon}` must be a list like `[{{interval: 60}}]`, but are {found}"
    )]
    NotOptions {
        /// The beacon.
        beacon: String,
        /// What is there.
        found: &'static str,
    },
    /// The beacon has no such option.
    #[error("beacon `{beacon}` has no option `{option}`, {}", suggest(option, known))]
    UnknownOption {
        /// The beacon.
        beacon: String,
        /// What the configuration gives.
        option: String,
        /// The options there are.
        known: Vec<&'static str>,
    },
    /// An option stands there more than once.
    #[error("option `{option}` of beacon `{beacon}` is given twice, remove one")]
    Duplicate {
        /// The beacon.
        beacon: String,
        /// The option.
        option: String,
    },
    /// An option has a value that it cannot have.
    #[error("option `{option}` of beacon `{beacon}` must be {expected}, but is `{found}`")]
    WrongValue {
        /// The beacon.
        beacon: String,
        /// The option.
        option: String,
        /// What it may be.
        expected: &'static str,
        /// What is there, as JSON.
        found: String,
    },
    /// Two options that exclude each other.
    #[error("beacon `{beacon}` has both `onchangeonly: True` and `repeat`, remove one")]
    Contradiction {
        /// The beacon.
        beacon: String,
    },
    /// A beacon lacks what it is to watch.
    #[error("beacon `{beacon}` does not say what to watch, add {hint}")]
    NothingToWatch {
        /// The beacon.
        beacon: String,
        /// An example.
        hint: &'static str,
    },
    /// What should be a regular expression is none.
    #[error("`{pattern}` in beacon `{beacon}` is not a regular expression")]
    BadPattern {
        /// The beacon.
        beacon: String,
        /// The expression.
        pattern: String,
        /// Where it is wrong.
        source: Box<regex::Error>,
    },
}

/// The options that a beacon was given, each taken out as it is read.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    beacon: &'a str,
    left: Vec<(&'a str, &'a Value)>,
    known: Vec<&'static str>,
}

impl<'a> Options<'a> {
    pub(crate) fn read(beacon: &'a str, value: &'a Value) -> Result<Self, ConfigError> {
        let refuse = |found: &Value| ConfigError::NotOptions {
            beacon: beacon.to_owned(),
            found: kind_of(found),
        };
        let mut left = Vec::new();
        match value {
            Value::Null => {}
            Value::Object(map) => left.extend(pairs(map)),
            Value::Array(items) => {
                for item in items {
                    left.extend(pairs(item.as_object().ok_or_else(|| refuse(item))?));
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(refuse(value)),
        }
        Ok(Self { beacon, left, known: Vec::new() })
    }

    pub(crate) fn take(&mut self, option: &'static str) -> Result<Option<&'a Value>, ConfigError> {
        self.known.push(option);
        let mut found = None;
        for (_, value) in self.left.extract_if(.., |(name, _)| *name == option) {
            if found.replace(value).is_some() {
                return Err(ConfigError::Duplicate {
                    beacon: self.beacon.to_owned(),
                    option: option.to_owned(),
                });
            }
        }
        Ok(found)
    }

    pub(crate) fn take_bool(&mut self, option: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.take(option)? else { return Ok(None) };
        let expected = "`True` or `False`";
        value.as_bool().map(Some).ok_or_else(|| self.wrong(option, expected, value))
    }

    fn take_seconds(&mut self, option: &'static str) -> Result<Option<Duration>, ConfigError> {
        let Some(value) = self.take(option)? else { return Ok(None) };
        value
            .as_f64()
            .filter(|seconds| (MIN_SECONDS..=MAX_SECONDS).contains(seconds))
            .map(|seconds| Some(Duration::from_secs_f64(seconds)))
            .ok_or_else(|| self.wrong(option, "a number of seconds, at least 1", value))
    }

    /// Takes one text or a list of them.
    pub(crate) fn take_texts(&mut self, option: &'static str) -> Result<Vec<String>, ConfigError> {
        let Some(value) = self.take(option)? else { return Ok(Vec::new()) };
        let texts: Option<Vec<&str>> = match value {
            Value::Array(items) => items.iter().map(Value::as_str).collect(),
            Value::String(text) => Some(vec![text]),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        };
        let texts = texts.filter(|texts| texts.iter().all(|text| !text.is_empty()));
        let texts = texts.ok_or_else(|| self.wrong(option, "a text or a list of texts", value))?;
        Ok(texts.into_iter().map(str::to_owned).collect())
    }

    /// Takes one regular expression or a list of them.
    pub(crate) fn take_regexes(&mut self, option: &'static str) -> Result<Vec<Regex>, ConfigError> {
        self.take_texts(option)?.iter().map(|text| self.regex(text, text)).collect()
    }

    /// Takes one regular expression.
    pub(crate) fn take_regex(
        &mut self,
        option: &'static str,
    ) -> Result<Option<Regex>, ConfigError> {
        let Some(value) = self.take(option)? else { return Ok(None) };
        let wrong = || self.wrong(option, "a regular expression", value);
        let text = value.as_str().ok_or_else(wrong)?;
        self.regex(text, text).map(Some)
    }

    /// What the operator has `written`, as the expression `anchored`.
    pub(crate) fn regex(&self, written: &str, anchored: &str) -> Result<Regex, ConfigError> {
        Regex::new(anchored).map_err(|source| ConfigError::BadPattern {
            beacon: self.beacon.to_owned(),
            pattern: written.to_owned(),
            source: Box::new(source),
        })
    }

    /// Takes a count from 1, of bytes also as `64KiB`.
    pub(crate) fn take_size(&mut self, option: &'static str) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.take(option)? else { return Ok(None) };
        let size = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => size(text),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        size.filter(|size| *size > 0)
            .map(Some)
            .ok_or_else(|| self.wrong(option, "a number from 1, of bytes also as `64KiB`", value))
    }

    /// Takes all whose names the beacon gives a meaning of its own, such as mount points.
    pub(crate) fn take_others(
        &mut self,
        is_own: impl Fn(&str) -> bool,
    ) -> Vec<(&'a str, &'a Value)> {
        self.left.extract_if(.., |(name, _)| is_own(name)).collect()
    }

    /// Refuses what nobody took. Called once every option has been asked for.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        match self.left.first() {
            None => Ok(()),
            Some((option, _)) => Err(ConfigError::UnknownOption {
                beacon: self.beacon.to_owned(),
                option: (*option).to_owned(),
                known: self.known,
            }),
        }
    }

    pub(crate) fn wrong(&self, option: &str, expected: &'static str, found: &Value) -> ConfigError {
        ConfigError::WrongValue {
            beacon: self.beacon.to_owned(),
            option: option.to_owned(),
            expected,
            found: found.to_string(),
        }
    }

    /// Reads `63%`, `'63'` or `63`.
    pub(crate) fn percent(&self, option: &str, value: &Value) -> Result<f64, ConfigError> {
        let number = match value {
            Value::String(text) => text.trim().trim_end_matches('%').trim_end().parse().ok(),
            Value::Number(number) => number.as_f64(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number
            .filter(|percent| (0.0..=100.0).contains(percent))
            .ok_or_else(|| self.wrong(option, "a percentage like `63%`", value))
    }
}

/// When a beacon looks: the options that every beacon has.
#[derive(Debug)]
pub(crate) struct Timing {
    pub(crate) interval: Duration,
    pub(crate) enabled: bool,
    pub(crate) disable_during_state_run: bool,
    pub(crate) run_once: bool,
}

impl Timing {
    /// Logs are looked at more often where nothing else is said.
    pub(crate) fn take(options: &mut Options<'_>, is_log: bool) -> Result<Self, ConfigError> {
        let default = if is_log { LOG_INTERVAL } else { DEFAULT_INTERVAL };
        Ok(Self {
            interval: options.take_seconds("interval")?.unwrap_or(default),
            enabled: options.take_bool("enabled")?.unwrap_or(true),
            disable_during_state_run: options
                .take_bool("disable_during_state_run")?
                .unwrap_or(false),
            run_once: options.take_bool("run_once")?.unwrap_or(false),
        })
    }
}

/// When a beacon tells what it saw: the options of all that measure a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Telling {
    pub(crate) repeat: Repeat,
    pub(crate) emit_at_startup: bool,
}

impl Telling {
    /// Whoever writes `onchangeonly` gets Salt's meaning, either way; left out, a lasting condition
    /// is told every five minutes.
    pub(crate) fn take(options: &mut Options<'_>) -> Result<Self, ConfigError> {
        let on_change_only = options.take_bool("onchangeonly")?;
        let repeat = match (on_change_only, options.take_seconds("repeat")?) {
            (Some(true), Some(_)) => {
                return Err(ConfigError::Contradiction { beacon: options.beacon.to_owned() });
            }
            (Some(true), None) => Repeat::Never,
            (Some(false), None) => Repeat::EveryLook,
            (_, Some(gap)) => Repeat::After(gap),
            (None, None) => Repeat::After(DEFAULT_REPEAT),
        };
        let emit_at_startup = options.take_bool("emitatstartup")?.unwrap_or(true);
        Ok(Self { repeat, emit_at_startup })
    }
}

pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// Reads `64KiB`, `64 kB` or `65536`.
fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim_start() {
        "" | "B" => 1,
        "kB" | "KB" | "k" => 1000,
        "KiB" | "K" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" | "M" => 1 << 20,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

fn pairs(map: &serde_json::Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    map.iter().map(|(name, value)| (name.as_str(), value))
}

/// Offers the nearest known name, or all of them where none is near.
fn suggest(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are `{}`", known.join("`, `")),
    }
}
