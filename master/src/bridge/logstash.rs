//! `type: logstash`: lines of JSON over TCP, which nobody acknowledges, or the protocol of Beats (Lumberjack, version 2),
//! which does.

use std::{collections::HashMap, fmt, sync::atomic::AtomicUsize, time::Duration};

use drover_states::{diagnostic::Diagnostic, settings::Settings, yaml::Data};
use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio::sync::Mutex;

mod frame;
mod lumberjack;

pub use frame::{AckError, Acks};
pub use lumberjack::LumberjackError;

use self::lumberjack::{AT_ONCE, Lumberjack};
use super::{
    elasticsearch::{moment, sentence},
    one_way::{OneWay, OneWayError},
    shape::Shape,
    sink::{Failure, Item, Verdict},
    tls::{Address, TlsConfig},
};

/// Logstash's usual port for Beats.
const BEATS_PORT: u16 = 5044;
/// zlib's level, as Beats have it.
const COMPRESSION: u32 = 3;
/// A receiver gives a sign of life every five seconds or so.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a batch was not taken, or not known to be.
#[derive(Debug, Error)]
pub enum LogstashError {
    /// As lines.
    #[error(transparent)]
    Lines(#[from] OneWayError),
    /// By Lumberjack.
    #[error(transparent)]
    Lumberjack(#[from] LumberjackError),
}

impl LogstashError {
    /// What to do.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Lines(error) => error.failure(),
            Self::Lumberjack(error) => error.failure(),
        }
    }
}

/// A Logstash, or what reads the same.
pub struct LogstashSink {
    shape: Shape,
    protocol: Protocol,
}

enum Protocol {
    Lines(Box<OneWay>),
    Lumberjack(Box<Lumberjack>),
}

impl LogstashSink {
    /// Reads its own keys: `hosts`, `protocol`, TLS, `fields`, `template`; `confirm` of lines, and `compression` and
    /// `ack_timeout` of Lumberjack.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let is_lumberjack = settings.take("protocol", |node| match node.as_str() {
            Some("lines") => Ok(false),
            Some("lumberjack") => Ok(true),
            Some(_) | None => Err("`lines` (a TCP input) or `lumberjack` (a Beats input)"),
        })?;
        let is_lumberjack = is_lumberjack.unwrap_or(false);
        let hosts = hosts(settings, is_lumberjack.then_some(BEATS_PORT))?;
        let tls = tls(settings)?;
        let protocol = if is_lumberjack {
            let compression = settings.take("compression", |node| {
                let level = node.to_value().as_u64().and_then(|level| u32::try_from(level).ok());
                level.filter(|level| *level <= 9).ok_or("a level from 0 (none) to 9")
            })?;
            Protocol::Lumberjack(Box::new(Lumberjack {
                hosts,
                tls,
                compression: compression.unwrap_or(COMPRESSION),
                patience: settings.duration("ack_timeout")?.unwrap_or(PATIENCE),
                at_once: AT_ONCE,
                at: AtomicUsize::new(0),
                kept: Mutex::default(),
            }))
        } else {
            Protocol::Lines(Box::new(OneWay::read(settings, hosts, tls)?))
        };
        Ok(Self { shape: Shape::read(settings)?, protocol })
    }

    /// Sends a batch; one call at a time keeps the order.
    ///
    /// # Errors
    /// When none of it is known to have arrived. Some of it may have, and comes twice.
    pub async fn deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, LogstashError> {
        match &self.protocol {
            Protocol::Lines(receiver) => {
                let mut lines = Vec::new();
                let verdicts = items.iter().map(|item| self.line(item, &mut lines)).collect();
                if !lines.is_empty() {
                    receiver.deliver(&lines).await?;
                }
                Ok(verdicts)
            }
            Protocol::Lumberjack(receiver) => {
                let mut verdicts = HashMap::new();
                let mut documents = Vec::with_capacity(items.len());
                for item in items {
                    let seq = item.event.seq;
                    match self.document(item) {
                        Ok(document) => documents.push((seq, document.to_string().into_bytes())),
                        Err(reason) => drop(verdicts.insert(seq, Verdict::Refused(reason))),
                    }
                }
                if !documents.is_empty() {
                    verdicts.extend(receiver.deliver(documents).await?);
                }
                // By number: a dead letter that is tried again may be here beside itself.
                Ok(items.iter().map(|item| verdicts[&item.event.seq].clone()).collect())
            }
        }
    }

    /// The receiver that is next, and how it is spoken to.
    #[must_use]
    pub fn server(&self) -> String {
        let (host, protocol): (_, &dyn fmt::Display) = match &self.protocol {
            Protocol::Lines(receiver) => (receiver.host(), &"JSON lines"),
            Protocol::Lumberjack(receiver) => (receiver.host(), &"Lumberjack 2"),
        };
        format!("{host}, {protocol}")
    }

    fn line(&self, item: &Item, lines: &mut Vec<u8>) -> Verdict {
        match self.shape.text(item) {
            Ok(text) => {
                push_line(lines, &text);
                Verdict::Done
            }
            Err(reason) => Verdict::Refused(reason),
        }
    }

    /// What Logstash gets of an event: its own form, and what Beats add. `@metadata` does not go further than Logstash.
    fn document(&self, item: &Item) -> Result<Value, String> {
        let mut document = match self.shape.template_text(item) {
            Some(text) => Map::from_iter([("message".to_owned(), Value::String(text?))]),
            None => match self.shape.json(item) {
                Value::Object(document) => document,
                text @ (Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_)) => unreachable!("an event is a map, and not {text}"),
            },
        };
        document.entry("message").or_insert_with(|| Value::String(sentence(&item.event)));
        document.insert("@timestamp".to_owned(), json!(moment(&item.event)));
        let metadata = json!({
            "beat": "drover",
            "type": "_doc",
            "version": env!("CARGO_PKG_VERSION"),
            "_id": item.event.id.to_string(),
        });
        document.insert("@metadata".to_owned(), metadata);
        Ok(Value::Object(document))
    }
}

/// A text as one line: a template may have ends of lines, which are as good as spaces to JSON.
pub(super) fn push_line(lines: &mut Vec<u8>, text: &str) {
    lines.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    lines.push(b'\n');
}

/// `hosts`: an address, or a list of them.
pub(super) fn hosts(
    settings: &mut Settings<'_>,
    default_port: Option<u16>,
) -> Result<Vec<Address>, Diagnostic> {
    const WANTED: &str = "an address such as `logs.example:5044`, or a list of them";
    let hosts = settings.take("hosts", |node| {
        let host = |text: Option<&str>| Address::parse(text?, default_port);
        let hosts: Option<Vec<_>> = match &node.data {
            Data::Scalar(_) => host(node.as_str()).map(|host| vec![host]),
            Data::Sequence(items) => items.iter().map(|item| host(item.as_str())).collect(),
            Data::Mapping(_) => None,
        };
        hosts.filter(|hosts| !hosts.is_empty()).ok_or(WANTED)
    })?;
    hosts.ok_or_else(|| settings.missing("the bridge", "hosts"))
}

/// TLS, where `tls: true` or one of its own keys is there.
pub(super) fn tls(settings: &mut Settings<'_>) -> Result<Option<TlsConfig>, Diagnostic> {
    let given = TlsConfig::read(settings)?;
    match settings.flag("tls")? {
        None => Ok(given),
        Some(true) => Ok(Some(given.unwrap_or_default())),
        Some(false) if given.is_none() => Ok(None),
        Some(false) => Err(settings
            .wrong("the bridge has `tls: false`, and settings of TLS")
            .hint("take out `tls`, or `ca`, `cert`, `key` and `tls_server_name`")),
    }
}

#[cfg(test)]
mod tests;
