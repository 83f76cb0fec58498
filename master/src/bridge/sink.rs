//! Where a bridge's events go: the closed set of sinks, and what every one of them is given and answers. A sink reads its
//! own keys, and takes batches of [`Item`]s; [`super::feed`] decides which, when and how often.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use drover_proto::event::Event;
use drover_states::{diagnostic::Diagnostic, settings::Settings};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{
    elasticsearch::{ElasticsearchError, ElasticsearchSink},
    exec::{ExecError, ExecSink},
    file::{FileError, FileSink},
    logstash::{LogstashError, LogstashSink, LumberjackError},
    mqtt::{MqttError, MqttSink},
    stdout::{StdoutError, StdoutSink},
    syslog::{SyslogError, SyslogSink},
    webhook::{WebhookError, WebhookSink},
};
use crate::store::Store;

#[cfg(test)]
pub(super) mod scripted;

/// The types that `type:` may name, for people.
const KINDS: &str =
    "`elasticsearch`, `exec`, `file`, `logstash`, `mqtt`, `stdout`, `syslog` and `webhook`";

/// An event on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The event.
    pub event: Arc<Event>,
    /// Those of its minion's grains that the bridge adds (`grains:`), as the registry has them now. Empty without a minion.
    pub grains: Arc<Map<String, Value>>,
    /// How its payload goes.
    pub form: Form,
    /// Whether it may have been sent before.
    pub is_retry: bool,
}

/// How an event's payload goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Whole,
    /// As text, because the sink refused its shape.
    Text,
}

/// What a sink says of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is there, durably.
    Done,
    /// Try again.
    Later(String),
    /// Never, in this form.
    Refused(String),
}

/// What to do with a batch that was not taken as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The server is away: the batch is tried again, each time after a longer pause.
    Away,
    /// The server refuses us, or the place that was configured: somebody must do something. The bridge pauses and says
    /// so, and tries again slowly.
    Denied,
    /// The batch is too large: halves go.
    TooLarge,
}

/// How long nothing has been on its way, as housekeeping needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// Since a request ended without an answer (or the master started): the server may still be carrying it out. `None`
    /// where there was none.
    pub since_ambiguous: Option<Duration>,
}

/// What a sink did by itself: it becomes the event `drover/bridge/<name>/<what>`.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// The last part of the event's tag.
    pub what: &'static str,
    /// Its data.
    pub data: Value,
}

/// A place for events.
#[allow(clippy::large_enum_variant, reason = "there is one for each bridge")]
#[cfg_attr(test, expect(private_interfaces, reason = "the tests' variant is nobody else's"))]
pub enum Sink {
    /// Documents.
    Elasticsearch(Arc<ElasticsearchSink>),
    /// Lines in a file.
    File(FileSink),
    /// A Logstash.
    Logstash(LogstashSink),
    /// An MQTT broker.
    Mqtt(MqttSink),
    /// A syslog daemon.
    Syslog(SyslogSink),
    /// HTTP requests.
    Webhook(WebhookSink),
    /// The daemon's standard output.
    Stdout(StdoutSink),
    /// A program of one's own.
    Exec(ExecSink),
    /// A test.
    #[cfg(test)]
    Scripted(Arc<scripted::Scripted>),
}

/// Why a batch was not taken, or not known to be.
#[derive(Debug, Error)]
#[cfg_attr(test, expect(private_interfaces, reason = "the tests' variant is nobody else's"))]
pub enum SinkError {
    /// The cluster.
    #[error(transparent)]
    Elasticsearch(#[from] ElasticsearchError),
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The Logstash.
    #[error(transparent)]
    Logstash(#[from] LogstashError),
    /// The broker.
    #[error(transparent)]
    Mqtt(#[from] MqttError),
    /// The syslog daemon.
    #[error(transparent)]
    Syslog(#[from] SyslogError),
    /// The receiver of requests.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The standard output.
    #[error(transparent)]
    Stdout(#[from] StdoutError),
    /// The program.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The test.
    #[cfg(test)]
    #[error(transparent)]
    Scripted(#[from] scripted::ScriptedError),
}

impl SinkError {
    /// What to do.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Elasticsearch(error) => error.failure(),
            Self::File(_) | Self::Stdout(_) => Failure::Away,
            Self::Logstash(error) => error.failure(),
            Self::Mqtt(error) => error.failure(),
            Self::Syslog(error) => error.failure(),
            Self::Webhook(error) => error.failure(),
            Self::Exec(error) => error.failure(),
            #[cfg(test)]
            Self::Scripted(error) => error.0,
        }
    }
}

impl SinkError {
    /// Whether the receiver is there and works on what it was given: it is waited for, and is not away.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        match self {
            Self::Logstash(LogstashError::Lumberjack(LumberjackError::Busy { .. }))
            | Self::Exec(ExecError::Busy { .. }) => true,
            Self::Elasticsearch(_)
            | Self::File(_)
            | Self::Logstash(_)
            | Self::Mqtt(_)
            | Self::Syslog(_)
            | Self::Webhook(_)
            | Self::Stdout(_)
            | Self::Exec(_) => false,
            #[cfg(test)]
            Self::Scripted(_) => false,
        }
    }
}

impl Sink {
    /// Reads the keys of a type.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub fn read(kind: &str, settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        Ok(match kind {
            "elasticsearch" => Self::Elasticsearch(Arc::new(ElasticsearchSink::read(settings)?)),
            "file" => Self::File(FileSink::read(settings)?),
            "logstash" => Self::Logstash(LogstashSink::read(settings)?),
            "mqtt" => Self::Mqtt(MqttSink::read(settings)?),
            "syslog" => Self::Syslog(SyslogSink::read(settings)?),
            "stdout" => Self::Stdout(StdoutSink::read(settings)?),
            "webhook" => Self::Webhook(WebhookSink::read(settings)?),
            "exec" => Self::Exec(ExecSink::read(settings)?),
            other => {
                let wrong = settings.wrong(format!("there is no bridge type `{other}`"));
                return Err(match other {
                    "opensearch" | "elastic" | "es" => {
                        wrong.hint("write `elasticsearch`: it is for OpenSearch too")
                    }
                    _ => wrong.hint(format!("there are {KINDS}")),
                });
            }
        })
    }

    /// Begins to hear, where the sink does that too. Within a runtime, once, before the first batch.
    pub fn start(&self, store: &Store) {
        match self {
            Self::Mqtt(sink) => sink.start(store),
            Self::Elasticsearch(_)
            | Self::File(_)
            | Self::Logstash(_)
            | Self::Syslog(_)
            | Self::Webhook(_)
            | Self::Stdout(_)
            | Self::Exec(_) => {}
            #[cfg(test)]
            Self::Scripted(_) => {}
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Elasticsearch(_) => "elasticsearch",
            Self::File(_) => "file",
            Self::Logstash(_) => "logstash",
            Self::Mqtt(_) => "mqtt",
            Self::Syslog(_) => "syslog",
            Self::Webhook(_) => "webhook",
            Self::Stdout(_) => "stdout",
            Self::Exec(_) => "exec",
            #[cfg(test)]
            Self::Scripted(_) => "scripted",
        }
    }

    /// How many batches it takes at once. 1 keeps the order.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match self {
            Self::Elasticsearch(sink) => sink.in_flight(),
            Self::File(_)
            | Self::Logstash(_)
            | Self::Mqtt(_)
            | Self::Syslog(_)
            | Self::Webhook(_)
            | Self::Stdout(_)
            | Self::Exec(_) => 1,
            #[cfg(test)]
            Self::Scripted(sink) => sink.in_flight,
        }
    }

    /// Takes a batch, beside up to [`Self::in_flight`] others; returns a verdict for each item, in order, once those that
    /// are done are durable.
    ///
    /// # Errors
    /// When it took none, or it is not known which; the same batch may be sent again.
    pub async fn deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, SinkError> {
        match self {
            Self::Elasticsearch(sink) => Ok(sink.deliver(items).await?),
            Self::File(sink) => Ok(sink.deliver(items).await?),
            Self::Logstash(sink) => Ok(sink.deliver(items).await?),
            Self::Mqtt(sink) => Ok(sink.deliver(items).await?),
            Self::Syslog(sink) => Ok(sink.deliver(items).await?),
            Self::Webhook(sink) => Ok(sink.deliver(items).await?),
            Self::Stdout(sink) => Ok(sink.deliver(items).await?),
            Self::Exec(sink) => Ok(sink.deliver(items).await?),
            #[cfg(test)]
            Self::Scripted(sink) => Ok(sink.deliver(items).await?),
        }
    }

    /// What the other side is found to be, once it is.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        match self {
            Self::Elasticsearch(sink) => sink.server(),
            Self::File(_) => None,
            Self::Logstash(sink) => Some(sink.server()),
            Self::Mqtt(sink) => Some(sink.server()),
            Self::Syslog(sink) => Some(sink.server()),
            Self::Webhook(_) | Self::Stdout(_) => None,
            Self::Exec(sink) => Some(sink.server()),
            #[cfg(test)]
            Self::Scripted(_) => Some("a script".to_owned()),
        }
    }

    /// Whether it asks for its upkeep; it is given soon, once nothing is on its way.
    #[must_use]
    pub fn wants_upkeep(&self, now: Instant) -> bool {
        match self {
            Self::Elasticsearch(sink) => sink.wants_upkeep(now),
            Self::File(_)
            | Self::Logstash(_)
            | Self::Mqtt(_)
            | Self::Syslog(_)
            | Self::Webhook(_)
            | Self::Stdout(_)
            | Self::Exec(_) => false,
            #[cfg(test)]
            Self::Scripted(sink) => sink.script().news.is_some(),
        }
    }

    /// Keeps its place in order, with nothing on its way.
    ///
    /// # Errors
    /// When that failed; it asks for it again.
    pub async fn upkeep(&self, quiet: Quiet) -> Result<Vec<News>, SinkError> {
        match self {
            Self::Elasticsearch(sink) => Ok(sink.upkeep(quiet).await),
            Self::File(_)
            | Self::Logstash(_)
            | Self::Mqtt(_)
            | Self::Syslog(_)
            | Self::Webhook(_)
            | Self::Stdout(_)
            | Self::Exec(_) => Ok(Vec::new()),
            #[cfg(test)]
            Self::Scripted(sink) => Ok(sink.upkeep()),
        }
    }

    /// Whether what it is sent twice is there once.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        match self {
            Self::Elasticsearch(_) => true,
            Self::File(_)
            | Self::Logstash(_)
            | Self::Mqtt(_)
            | Self::Syslog(_)
            | Self::Webhook(_)
            | Self::Stdout(_)
            | Self::Exec(_) => false,
            #[cfg(test)]
            Self::Scripted(_) => false,
        }
    }

    /// What is wrong beside deliveries since it was last asked: of what it hears.
    #[must_use]
    pub fn poll_trouble(&self) -> Option<String> {
        match self {
            Self::Mqtt(sink) => sink.poll_trouble(),
            Self::Elasticsearch(_)
            | Self::File(_)
            | Self::Logstash(_)
            | Self::Syslog(_)
            | Self::Webhook(_)
            | Self::Stdout(_)
            | Self::Exec(_) => None,
            #[cfg(test)]
            Self::Scripted(_) => None,
        }
    }

    /// The cursor was set back: what comes next may be there already, and is wanted once more.
    pub fn handle_replay(&self) {
        match self {
            Self::Elasticsearch(_)
            | Self::Logstash(_)
            | Self::Mqtt(_)
            | Self::Syslog(_)
            | Self::Webhook(_)
            | Self::Stdout(_)
            | Self::Exec(_) => {}
            Self::File(sink) => sink.handle_replay(),
            #[cfg(test)]
            Self::Scripted(_) => {}
        }
    }
}

/// An event on its way, for the tests of sinks.
#[cfg(test)]
pub(super) fn item(seq: u64, tag: &str, data: Value) -> Item {
    let event = Event {
        id: uuid::Uuid::from_u128(seq.into()),
        seq,
        ts: "2026-11-23T02:37:05.123456789Z".parse().expect("a time"),
        at: None,
        tag: tag.parse().expect("a tag"),
        minion: None,
        data,
    };
    Item { event: Arc::new(event), grains: Arc::default(), form: Form::Whole, is_retry: false }
}
