//! Events and their tags: what the master appends to its store, and what the bus, rules and bridges see.

use std::{fmt, str::FromStr};

use drover_pki::MinionId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::{glob, id::JobId};

/// One event, as it stands in the store, on the PUB socket and in every bridge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// UUIDv7, given by the master as it appends. A sink uses it to know an event that is sent again.
    /// Text in MessagePack too, so that a subscriber in any language can use it as it stands.
    #[serde(with = "uuid::serde::hyphenated")]
    pub id: Uuid,
    /// Position in the master's log, without gaps but for what a restore from a backup leaves out.
    pub seq: u64,
    /// When the master appended it.
    pub ts: Timestamp,
    /// The time on the device's clock, which may be wrong, for what came from a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What happened, hierarchically.
    pub tag: Tag,
    /// The minion it is about, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minion: Option<MinionId>,
    /// The payload.
    pub data: Value,
}

/// An event before the master has given it its id, number and time.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// The time on the device, for what came from a device.
    pub at: Option<Timestamp>,
    /// What happened.
    pub tag: Tag,
    /// The minion it is about.
    pub minion: Option<MinionId>,
    /// The payload.
    pub data: Value,
}

impl NewEvent {
    /// An event of the master's own.
    #[must_use]
    pub const fn new(tag: Tag, minion: Option<MinionId>, data: Value) -> Self {
        Self { at: None, tag, minion, data }
    }
}

/// A hierarchical event tag: `drover/minion/rfid-1/start`. At most 512 bytes, no control characters, not empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// Longest tag, in bytes.
    pub const MAX_LENGTH: usize = 512;

    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a rule's or subscription's glob takes this tag. Globs written for Salt's `salt/…` tags match too.
    #[must_use]
    pub fn matches(&self, pattern: &str) -> bool {
        glob::matches(pattern, &self.0)
            || pattern.strip_prefix("salt/").is_some_and(|rest| {
                self.0.strip_prefix("drover/").is_some_and(|tag| glob::matches(rest, tag))
            })
    }

    /// `drover/minion/<id>/<what>`: `start` and `stop`.
    #[must_use]
    pub fn minion(id: &MinionId, what: &str) -> Self {
        Self(format!("drover/minion/{id}/{what}"))
    }

    /// `drover/presence/<id>/<what>`: `stale`, `lost` and `back`.
    #[must_use]
    pub fn presence(id: &MinionId, what: &str) -> Self {
        Self(format!("drover/presence/{id}/{what}"))
    }

    /// `drover/key/<id>/<what>`: `pending`, `accepted`, `rejected`, `revoked`, `renewed`.
    #[must_use]
    pub fn key(id: &MinionId, what: &str) -> Self {
        Self(format!("drover/key/{id}/{what}"))
    }

    /// `drover/authority/<name>/<what>`: `expires`.
    #[must_use]
    pub fn authority(name: &str, what: &str) -> Self {
        // Names of authorities are made here: of names of stations, or of letters and digits.
        Self(format!("drover/authority/{name}/{what}"))
    }

    /// `drover/job/<jid>/new`.
    #[must_use]
    pub fn job_new(jid: &JobId) -> Self {
        Self(format!("drover/job/{jid}/new"))
    }

    /// `drover/job/<jid>/ret/<id>`.
    #[must_use]
    pub fn job_return(jid: &JobId, id: &MinionId) -> Self {
        Self(format!("drover/job/{jid}/ret/{id}"))
    }

    /// `drover/job/<jid>/prog/<id>`.
    #[must_use]
    pub fn job_progress(jid: &JobId, id: &MinionId) -> Self {
        Self(format!("drover/job/{jid}/prog/{id}"))
    }

    /// `drover/pending/<id>/<what>`: `queued`, `delivered`, `expired`, `superseded`, `cancelled`.
    #[must_use]
    pub fn pending(id: &MinionId, what: &str) -> Self {
        Self(format!("drover/pending/{id}/{what}"))
    }

    /// `drover/beacon/<id>/<path>`, with the path that a minion gave.
    ///
    /// # Errors
    /// When the path makes the tag too long or has control characters.
    pub fn beacon(id: &MinionId, path: &str) -> Result<Self, ParseTagError> {
        format!("drover/beacon/{id}/{path}").parse()
    }

    /// `drover/app/<id>/<path>`, with the path that a program on the device gave.
    ///
    /// # Errors
    /// When the path is empty, makes the tag too long or has control characters.
    pub fn app(id: &MinionId, path: &str) -> Result<Self, ParseTagError> {
        if path.is_empty() {
            return Err(ParseTagError::Empty);
        }
        format!("drover/app/{id}/{path}").parse()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot be a tag.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ParseTagError {
    /// Nothing in it.
    #[error("a tag is not empty")]
    Empty,
    /// Longer than [`Tag::MAX_LENGTH`].
    #[error("a tag has at most {max} bytes, not {0}", max = Tag::MAX_LENGTH)]
    TooLong(usize),
    /// A newline, a NUL or the like.
    #[error("a tag has no control characters")]
    ControlCharacter,
}

impl FromStr for Tag {
    type Err = ParseTagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err(ParseTagError::Empty),
            _ if text.len() > Self::MAX_LENGTH => Err(ParseTagError::TooLong(text.len())),
            _ if text.chars().any(char::is_control) => Err(ParseTagError::ControlCharacter),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Tag {
    type Error = ParseTagError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_written_for_salt_match_the_same_events() {
        let tag: Tag = "drover/minion/rfid-1/start".parse().unwrap();
        assert!(tag.matches("salt/minion/*/start"));
        assert!(tag.matches("drover/*"));
        assert!(!tag.matches("salt/job/*"));
    }

    #[test]
    fn an_events_id_is_text_in_messagepack_too() {
        let id = Uuid::nil();
        let event = Event {
            id,
            seq: 1,
            ts: Timestamp::UNIX_EPOCH,
            at: None,
            tag: Tag("a".to_owned()),
            minion: None,
            data: Value::Null,
        };
        let frame = rmp_serde::to_vec_named(&event).unwrap();
        let map = rmpv::decode::read_value(&mut frame.as_slice()).unwrap();
        assert_eq!(map["id"].as_str(), Some(id.to_string().as_str()));
        assert_eq!(rmp_serde::from_slice::<Event>(&frame).unwrap(), event);
    }

    #[test]
    fn a_tag_with_a_newline_is_refused() {
        assert_eq!("a\nb".parse::<Tag>(), Err(ParseTagError::ControlCharacter));
    }
}
