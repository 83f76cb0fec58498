//! Bridges carry events from the log to other systems. Each reads with a durable cursor of its own, at its own pace:
//! [`Feed`] says what goes when, [`Sink`] is where it goes, [`Health`] what is told of it, [`BridgeTask`] the loop.

mod config;
mod elasticsearch;
mod feed;
mod file;
mod health;
mod routes;
mod sink;
mod status;
mod task;

pub use config::{Bridge, Filter, read};
pub use elasticsearch::{AnswerError, ElasticsearchError, ElasticsearchSink, IndexName};
pub use feed::{Dead, Feed, Item, Limits, Verdict};
pub use file::{FileSink, FileSinkError, LastLine};
pub use health::{Announcement, Health};
pub use routes::routes;
pub use sink::{Sink, SinkError};
pub use status::{BridgeHandle, BridgeStatus};
pub use task::{BridgeStopped, BridgeTask};
