//! The document as it is written: the names of its fields, in their order.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    facts::{Kind, Log, Metrics, Outcome, Process},
    payload::{Payload, Remainder},
};

#[derive(Serialize)]
pub(super) struct Document<'a> {
    #[serde(rename = "@timestamp")]
    pub(super) timestamp: Timestamp,
    pub(super) event: EventFields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<Host<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<Labels<'a>>,
    pub(super) message: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<&'a Log<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<&'a Process<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<Agent<'a>>,
    pub(super) tags: [&'static str; 1],
    pub(super) ecs: Ecs,
    pub(super) drover: Drover<'a>,
}

#[derive(Serialize)]
pub(super) struct EventFields<'a> {
    pub(super) id: Uuid,
    pub(super) ingested: Timestamp,
    pub(super) kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) category: Option<[&'static str; 1]>,
    pub(super) action: &'a str,
    pub(super) dataset: String,
    pub(super) module: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) duration: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Host<'a> {
    pub(super) name: &'a str,
    pub(super) id: &'a str,
}

#[derive(Serialize)]
pub(super) struct User<'a> {
    pub(super) name: &'a str,
}

#[derive(Serialize)]
pub(super) struct Agent<'a> {
    pub(super) version: &'a str,
}

#[derive(Serialize)]
pub(super) struct Ecs {
    pub(super) version: &'static str,
}

#[derive(Serialize)]
pub(super) struct Drover<'a> {
    pub(super) tag: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) minion: Option<&'a str>,
    pub(super) seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clock: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fun: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retcode: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) success: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) beacon: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metrics: Option<&'a Metrics<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fields: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Data<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data_text: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) cut: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) cut_fields: &'a [String],
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Data<'a> {
    Whole(&'a Remainder<'a>),
    Cut(&'a Map<String, Value>),
}

impl<'a> Data<'a> {
    pub(super) const fn of(payload: &'a Payload<'a>) -> Option<Self> {
        match payload {
            Payload::Empty | Payload::Text => None,
            Payload::Whole(rest) => Some(Self::Whole(rest)),
            Payload::Cut(map) => Some(Self::Cut(map)),
        }
    }
}

/// The chosen grains as keywords.
pub(super) struct Labels<'a>(pub(super) &'a Map<String, Value>);

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut labels = serializer.serialize_map(None)?;
        let mut names: Vec<String> = Vec::new();
        for (name, value) in self.0 {
            let name = label_name(name);
            // `os.family` and `os_family` are one label: a server refuses a document that has a name twice.
            if !value.is_null() && !names.contains(&name) {
                labels.serialize_entry(&name, &Label(value))?;
                names.push(name);
            }
        }
        labels.end()
    }
}

/// The name of a grain's label. A `.` would make it a map.
pub(in crate::bridge::elasticsearch) fn label_name(grain: &str) -> String {
    let name = grain.replace(|c: char| !(c.is_alphanumeric() || "_-".contains(c)), "_");
    if name.is_empty() { "_".to_owned() } else { name }
}

/// A grain's value as a keyword, or several.
struct Label<'a>(&'a Value);

impl Serialize for Label<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Label)),
            Value::Null => serializer.serialize_none(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                serializer.collect_str(other)
            }
        }
    }
}
