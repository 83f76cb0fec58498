//! The identifiers that travel: a job's id and a device's boot. Made only by parsing or by their makers here.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// A job's id, as Salt writes it: 20 digits, `YYYYMMDDhhmmss` in UTC and six digits of microseconds.
///
/// Ids sort by time. The master that makes them keeps them unique with [`JobId::next`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    const LENGTH: usize = 20;

    /// The first free id at or after `now`, given the last one that was made.
    #[must_use]
    pub fn next(now: Timestamp, last: Option<&Self>) -> Self {
        let mut at = now;
        loop {
            let candidate = Self::at(at);
            if last.is_none_or(|last| candidate > *last) {
                return candidate;
            }
            let floor = last.and_then(Self::timestamp).map_or(at, |last| last.max(at));
            at = floor + jiff::SignedDuration::from_micros(1);
        }
    }

    /// The time that the id was made from.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        let (date, micros) = self.0.split_at(14);
        let seconds = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", date).ok()?;
        let micros: i64 = micros.parse().ok()?;
        let at = seconds.to_zoned(TimeZone::UTC).ok()?.timestamp();
        at.checked_add(jiff::SignedDuration::from_micros(micros)).ok()
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn at(now: Timestamp) -> Self {
        let micros = now.subsec_nanosecond() / 1_000;
        Self(format!("{}{micros:06}", now.strftime("%Y%m%d%H%M%S")))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not a job's id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a job id, which is 20 digits")]
pub struct ParseJobIdError(String);

impl FromStr for JobId {
    type Err = ParseJobIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == Self::LENGTH && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseJobIdError(text.chars().take(64).collect()))
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = ParseJobIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(jid: JobId) -> Self {
        jid.0
    }
}

/// One run of the agent: outbox numbers count within it, so a restart begins a new count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(Uuid);

impl BootId {
    /// Takes a UUID that the caller drew at random when the agent started.
    #[must_use]
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The bytes, as a key of the master's store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_made_in_the_same_microsecond_differ_and_sort() {
        let now: Timestamp = "2026-11-23T02:37:05.000123Z".parse().unwrap();
        let first = JobId::next(now, None);
        let second = JobId::next(now, Some(&first));
        assert_eq!(first.as_str(), "20261123023705000123");
        assert_eq!(second.as_str(), "20261123023705000124");
    }

    #[test]
    fn job_ids_go_on_rising_when_the_clock_steps_back() {
        let later: Timestamp = "2026-11-23T02:37:59.999999Z".parse().unwrap();
        let last = JobId::next(later, None);
        let earlier: Timestamp = "2026-11-23T02:00:00Z".parse().unwrap();
        assert_eq!(JobId::next(earlier, Some(&last)).as_str(), "20261123023800000000");
    }

    #[test]
    fn what_is_not_twenty_digits_is_no_job_id() {
        for text in ["", "2026", "2026112302370500012x", "202611230237050001234"] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }
}
