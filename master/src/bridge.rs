//! Bridges carry events from the log to other systems. Each reads with a durable cursor of its own, at its own pace:
//! [`Feed`] says what goes when, [`Sink`] is where it goes, [`Health`] what is told of it, [`BridgeTask`] the loop.

mod backoff;
mod choice;
mod config;
mod credentials;
mod dead;
mod elasticsearch;
mod exec;
mod feed;
mod file;
mod filter;
mod handle;
mod health;
mod http;
mod logstash;
mod meter;
mod mqtt;
mod one_way;
mod routes;
mod sample;
mod shape;
mod sink;
mod status;
mod stdout;
mod syslog;
mod task;
mod template;
mod throttle;
mod tls;
mod webhook;

pub use config::{Bridge, read};
pub use credentials::{Secret, SecretError, Shown};
pub use elasticsearch::{
    AnswerError, Documents, ElasticsearchError, ElasticsearchSink, IndexName, TypedFields,
    verdicts as bulk_verdicts,
};
pub use exec::{Acks as ExecAcks, ExecError, ExecSink, ViolationError};
pub use feed::{Feed, Limits, Settings as FeedSettings, Settled, Transmit};
pub use file::{FileError, FileSink};
pub use filter::{Filter, GrainsOf};
pub use handle::{BridgeEnded, BridgeHandle, NothingToReplay, TestVerdict, Tested};
pub use health::{Announcement, Condition, Health};
pub use http::{Answer, Auth, Body, Call, Client, HttpError, Origin};
pub use logstash::{
    AckError, Acks as LumberjackAcks, LogstashError, LogstashSink, LumberjackError,
};
pub use mqtt::{
    End as MqttEnd, MalformedError as MqttMalformedError, Meaning as MqttMeaning, MqttError,
    MqttSink, Packet as MqttPacket, Properties as MqttProperties, Version as MqttVersion,
    read_packet as read_mqtt_packet,
};
pub use one_way::OneWayError;
pub use routes::routes;
pub use sample::Sample;
pub use shape::Shape;
pub use sink::{Failure, Form, Item, News, Quiet, Sink, SinkError, Verdict};
pub use status::{BridgeLag, BridgeState, BridgeStatus};
pub use stdout::{StdoutError, StdoutSink};
pub use syslog::{SyslogError, SyslogSink};
pub use task::{BridgeStopped, BridgeTask};
pub use template::Template;
pub use tls::{Address, ConnectError, Stream, TlsConfig, TlsError, Trouble, connect};
pub use webhook::{WebhookError, WebhookSink};
