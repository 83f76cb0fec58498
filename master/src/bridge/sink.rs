//! Where a bridge's events go: the closed set of sinks.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use thiserror::Error;

use super::{
    elasticsearch::{ElasticsearchError, ElasticsearchSink},
    feed::{Item, Verdict},
    file::{FileSink, FileSinkError, LastLine},
};
use crate::store::{ReadError, Store};

/// A place for events.
pub enum Sink {
    /// Lines of JSON.
    File(Arc<Mutex<FileSink>>),
    /// Documents.
    Elasticsearch(Box<ElasticsearchSink>),
}

/// Why a sink took nothing. All but the last are tried again.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileSinkError),
    /// The cluster.
    #[error(transparent)]
    Elasticsearch(#[from] ElasticsearchError),
    /// The log.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Sink {
    /// Lines of JSON in a file.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        Self::File(Arc::new(Mutex::new(FileSink::new(path))))
    }

    /// Its name in the configuration.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Elasticsearch(_) => "elasticsearch",
        }
    }

    /// Takes a batch; returns a verdict for each event, once those that are done are durable.
    ///
    /// # Errors
    /// When it took none, or it is not known which; the same batch may be sent again.
    pub async fn deliver(
        &mut self,
        items: &[Item],
        store: &Store,
    ) -> Result<Vec<Verdict>, SinkError> {
        match self {
            Self::Elasticsearch(sink) => Ok(sink.deliver(items).await?),
            Self::File(sink) => {
                let last = on_file(sink, FileSink::last_line).await?;
                let there = there_already(last, items, store).await?;
                let events: Vec<_> =
                    items.iter().skip(there).map(|item| item.event.clone()).collect();
                on_file(sink, move |sink| sink.append(&events)).await?;
                Ok(vec![Verdict::Done; items.len()])
            }
        }
    }
}

/// How many of these events the file has: those up to its last line, if that is a line of this log. A master that was
/// killed after it wrote and before its cursor moved comes here with events that are there.
async fn there_already(
    last: Option<LastLine>,
    items: &[Item],
    store: &Store,
) -> Result<usize, ReadError> {
    let Some(last) = last else { return Ok(0) };
    let there = items.iter().take_while(|item| item.event.seq <= last.seq).count();
    if there == 0 {
        return Ok(0);
    }
    let same: Option<Arc<_>> = store.events(last.seq - 1, 1).await?.into_iter().next();
    let is_same = same.is_some_and(|event| (event.seq, event.id) == (last.seq, last.id));
    Ok(if is_same { there } else { 0 })
}

/// Works on a file on a thread that may block.
async fn on_file<T: Send + 'static>(
    sink: &Arc<Mutex<FileSink>>,
    work: impl FnOnce(&mut FileSink) -> T + Send + 'static,
) -> T {
    let sink = sink.clone();
    let work = move || work(&mut sink.lock().unwrap_or_else(PoisonError::into_inner));
    tokio::task::spawn_blocking(work).await.expect("writing a file does not panic")
}
