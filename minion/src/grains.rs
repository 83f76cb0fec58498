//! What this device is: grains from three sources, of which earlier ones win. *Enrolled* ones came from the factory by
//! the master's welcome, *configured* ones stand in `minion.yml` or were set at run time, *detected* ones are found.

use std::path::{Path, PathBuf};

use drover_proto::message::GrainSets;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::durable::{self, FileError};

pub mod detected;

/// All grains of this device, and the files that keep what was set, what was enrolled, and when the device ends.
#[derive(Debug)]
pub struct Grains {
    enrolled: Map<String, Value>,
    /// Set at run time; wins over the file.
    set: Map<String, Value>,
    file: Map<String, Value>,
    detected: Map<String, Value>,
    /// When the device ends, as the master said last: the grain `retires_at`.
    retires: Option<Timestamp>,
    directory: PathBuf,
}

/// Why a grain is not set.
#[derive(Debug, Error)]
pub enum SetGrainError {
    /// It was given at the enrolment station.
    #[error("the grain `{0}` was given at enrolment, and the device cannot change it")]
    Enrolled(String),
    /// It stands in the configuration file, so it cannot be taken back here.
    #[error("the grain `{0}` stands in minion.yml; take it out there")]
    InFile(String),
    /// A name that targeting could not reach.
    #[error("`{0}` is no name for a grain: it must not be empty or have a colon")]
    Name(String),
    /// More than the message that greets the master should carry.
    #[error(
        "with it the grains that were set would have {0} bytes, {LARGEST} are the most; put large data into files"
    )]
    TooLarge(usize),
    /// The disk did not take it.
    #[error("keep the grain")]
    Keep(#[from] FileError),
}

impl Grains {
    /// The grains of a device whose configuration has `file`, with what was kept in `directory`. A damaged file is as
    /// good as none: the master sends enrolled grains again.
    #[must_use]
    pub fn load(directory: &Path, file: Map<String, Value>, detected: Map<String, Value>) -> Self {
        Self {
            enrolled: kept(directory, ENROLLED).unwrap_or_default(),
            set: kept(directory, SET).unwrap_or_default(),
            file,
            detected,
            retires: kept(directory, RETIREMENT).flatten(),
            directory: directory.to_owned(),
        }
    }

    /// All of them, by their precedence.
    #[must_use]
    pub fn merged(&self) -> Map<String, Value> {
        drover_proto::grains::Grains::merge(&self.enrolled, &self.own()).values().clone()
    }

    /// What the device tells the master: all but the enrolled ones.
    #[must_use]
    pub fn own(&self) -> GrainSets {
        let mut configured = self.file.clone();
        configured.extend(self.set.clone());
        let mut detected = self.detected.clone();
        if let Some(at) = self.retires {
            detected.insert("retires_at".to_owned(), json!(at));
        }
        GrainSets { configured, detected }
    }

    /// Sets a grain at run time, or takes back what was set, and keeps it. Says whether anything changed.
    ///
    /// # Errors
    /// When it may not be changed here, or the disk does not take it; nothing changes then.
    pub fn set(&mut self, name: &str, value: Option<Value>) -> Result<bool, SetGrainError> {
        if name.is_empty() || name.contains(':') {
            return Err(SetGrainError::Name(name.to_owned()));
        }
        if self.enrolled.contains_key(name) {
            return Err(SetGrainError::Enrolled(name.to_owned()));
        }
        if value.is_none() && !self.set.contains_key(name) {
            return match self.file.contains_key(name) {
                true => Err(SetGrainError::InFile(name.to_owned())),
                false => Ok(false),
            };
        }
        let grows = value.is_some();
        let mut set = self.set.clone();
        match value {
            Some(value) => set.insert(name.to_owned(), value),
            None => set.shift_remove(name),
        };
        if set == self.set {
            return Ok(false);
        }
        let size = Value::Object(set.clone()).to_string().len();
        if grows && size > LARGEST {
            return Err(SetGrainError::TooLarge(size));
        }
        durable::write_json(&self.directory.join(SET), &set)?;
        self.set = set;
        Ok(true)
    }

    /// Takes the enrolled grains that a welcome brought, and keeps a copy for the time without a master.
    ///
    /// # Errors
    /// When the disk does not take the copy; they hold until the agent ends.
    pub fn enrol(&mut self, enrolled: Map<String, Value>) -> Result<(), FileError> {
        if enrolled == self.enrolled {
            return Ok(());
        }
        self.enrolled = enrolled;
        durable::write_json(&self.directory.join(ENROLLED), &self.enrolled)
    }

    /// Takes the day on which the device ends, and keeps it for the time without a master.
    ///
    /// # Errors
    /// When the disk does not take it; it holds until the agent ends.
    pub fn retire(&mut self, at: Option<Timestamp>) -> Result<(), FileError> {
        if at == self.retires {
            return Ok(());
        }
        self.retires = at;
        durable::write_json(&self.directory.join(RETIREMENT), &at)
    }

    /// When the device ends.
    #[must_use]
    pub const fn retires(&self) -> Option<Timestamp> {
        self.retires
    }

    /// Takes what was detected anew. Says whether anything changed.
    pub fn detect(&mut self, detected: Map<String, Value>) -> bool {
        let changed = detected != self.detected;
        self.detected = detected;
        changed
    }
}

/// What was set at run time, in bytes of JSON. All grains go into one message on every connection: a device whose
/// grains do not fit there would never connect again, not even to be told otherwise.
const LARGEST: usize = 256 << 10;

const SET: &str = "grains.json";
const ENROLLED: &str = "enrolled-grains.json";
const RETIREMENT: &str = "retirement.json";

fn kept<T: DeserializeOwned>(directory: &Path, name: &str) -> Option<T> {
    durable::read_json(&directory.join(name)).unwrap_or_else(|why| {
        tracing::warn!("{}", crate::error_chain(&why));
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn grains(directory: &Path) -> Grains {
        Grains::load(
            directory,
            map(json!({"site": "bne", "role": "file"})),
            map(json!({"os": "Debian", "role": "detected", "site": "detected"})),
        )
    }

    #[test]
    fn enrolled_wins_over_configured_wins_over_detected() {
        let directory = tempfile::tempdir().unwrap();
        let mut grains = grains(directory.path());
        assert!(grains.set("role", Some(json!("set"))).unwrap());
        grains.enrol(map(json!({"site": "factory"}))).unwrap();
        let merged = grains.merged();
        assert_eq!(
            Value::Object(merged),
            json!({"site": "factory", "role": "set", "os": "Debian"})
        );
        assert_eq!(grains.own().configured["site"], json!("bne"));
    }

    #[test]
    fn what_was_set_and_enrolled_is_still_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut before = grains(directory.path());
        before.set("tier", Some(json!(2))).unwrap();
        before.enrol(map(json!({"site": "factory"}))).unwrap();
        let after = grains(directory.path()).merged();
        assert_eq!((&after["tier"], &after["site"]), (&json!(2), &json!("factory")));
    }

    #[test]
    fn states_can_tell_when_the_device_ends_also_without_a_master() {
        let directory = tempfile::tempdir().unwrap();
        let mut before = grains(directory.path());
        before.retire(None).unwrap();
        assert!(!directory.path().join(RETIREMENT).exists(), "nothing is written for nothing");
        before.retire("2036-11-23T00:00:00Z".parse().ok()).unwrap();
        let mut after = grains(directory.path());
        assert_eq!(after.merged()["retires_at"], json!("2036-11-23T00:00:00Z"));
        after.retire(None).unwrap();
        assert!(!grains(directory.path()).merged().contains_key("retires_at"));
    }

    #[test]
    fn enrolled_grains_are_not_set_and_those_of_the_file_not_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut grains = grains(directory.path());
        grains.enrol(map(json!({"site": "factory"}))).unwrap();
        assert!(matches!(grains.set("site", Some(json!(1))), Err(SetGrainError::Enrolled(_))));
        assert!(matches!(grains.set("role", None), Err(SetGrainError::InFile(_))));
        assert!(!grains.set("unknown", None).unwrap());
        assert!(matches!(grains.set("a:b", Some(json!(1))), Err(SetGrainError::Name(_))));
    }

    #[test]
    fn grains_that_would_keep_the_device_from_connecting_are_not_set() {
        let directory = tempfile::tempdir().unwrap();
        let mut grains = grains(directory.path());
        let half = json!("x".repeat(LARGEST / 2));
        assert!(grains.set("one", Some(half.clone())).unwrap());
        let refused = grains.set("two", Some(half));
        assert!(matches!(refused, Err(SetGrainError::TooLarge(_))), "{refused:?}");
        assert!(grains.set("one", None).unwrap());
    }
}
