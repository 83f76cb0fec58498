//! `type: elasticsearch`: events to Elasticsearch or OpenSearch, by `_bulk` with `create` and the event's id. A shell
//! around [`Cluster`], which talks to the servers, [`bulk`] and [`answer`].

use std::{
    sync::{Arc, Mutex as Lock, PoisonError},
    time::Instant,
};

use drover_states::{diagnostic::Diagnostic, settings::Settings};
use uuid::Uuid;

mod answer;
mod budget;
mod bulk;
mod cluster;
mod destination;
mod document;
mod error;
mod fields;
mod hosts;
mod indices;
mod server;
mod template;

pub(super) use document::{moment, sentence};

pub use answer::{AnswerError, verdicts};
pub use document::Documents;
pub use error::ElasticsearchError;
pub use fields::TypedFields;
pub use indices::IndexName;

use self::{cluster::Cluster, destination::Destination, indices::Layout};
use super::{
    http::Body,
    sink::{Item, News, Quiet, Verdict},
};

/// Bulk requests at once, where the configuration does not say.
const IN_FLIGHT: usize = 4;
/// The most of them: each is a connection, and a batch in memory.
const MOST_IN_FLIGHT: usize = 64;
/// A single event that a server ends the connection over so often is too large for it.
const MOST_CUTS: u32 = 3;

/// A cluster and an index in it.
pub struct ElasticsearchSink {
    cluster: Cluster,
    destination: Destination,
    documents: Arc<Documents>,
    in_flight: usize,
    is_gzip: bool,
    /// The event over which the server ended the connection last, and how often.
    cuts: Lock<Option<(Uuid, u32)>>,
}

impl ElasticsearchSink {
    /// Reads `hosts`, where the documents go, `in_flight`, `compression`, and who we are to the server.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let cluster = Cluster::read(settings)?;
        let destination = Destination::read(settings)?;
        let in_flight = settings.count_to("in_flight", MOST_IN_FLIGHT)?.unwrap_or(IN_FLIGHT);
        let is_gzip = settings.flag("compression")?.unwrap_or(true);
        let documents = Arc::new(Documents::new(destination.fields().clone()));
        let cuts = Lock::default();
        Ok(Self { cluster, destination, documents, in_flight, is_gzip, cuts })
    }

    /// How many bulk requests at once.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// What the server is, once that is known.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        self.destination.server()
    }

    /// Whether there is something to tell, or the storage budget to look at.
    #[must_use]
    pub fn wants_upkeep(&self, now: Instant) -> bool {
        self.destination.wants_upkeep(now)
    }

    /// Keeps to the storage budget, with nothing on its way.
    pub async fn upkeep(&self, quiet: Quiet) -> Vec<News> {
        self.destination.upkeep(&self.cluster, quiet).await
    }

    /// Sends a batch, and returns what the server says of each event.
    ///
    /// # Errors
    /// When no host takes the batch: the reason of the last one.
    pub async fn deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, ElasticsearchError> {
        let place = self.destination.ready(&self.cluster, items).await?;
        let stored = self.destination.stored(&self.cluster, &place, items).await?;
        let is_new = |item: &&Item| !stored.contains(&item.event.id);
        let new: Vec<_> = items.iter().filter(is_new).cloned().collect();
        if new.is_empty() {
            return Ok(vec![Verdict::Done; items.len()]);
        }
        let sent = new.len();
        let body = self.body(new, place.layout).await;
        let (host, answer) = match self.cluster.bulk(body).await {
            Err(error) => return Err(self.judged(error, items)),
            Ok(answered) => answered,
        };
        let said = verdicts(&answer.body, sent)
            .map_err(|source| ElasticsearchError::Answer { host, source })?;
        let mut said = said.into_iter();
        let verdict = |item: &Item| {
            let answered = if is_new(&item) { said.next() } else { None };
            answered.unwrap_or(Verdict::Done)
        };
        Ok(items.iter().map(verdict).collect())
    }

    /// Makes the documents and packs them, on a thread that may take its time.
    async fn body(&self, items: Vec<Item>, layout: Layout) -> Body {
        let (documents, index) = (Arc::clone(&self.documents), self.destination.index.clone());
        let is_gzip = self.is_gzip;
        let make = move || {
            Body::written("application/x-ndjson", is_gzip, |to| {
                bulk::write(&documents, &index, layout, &items, to)
            })
        };
        tokio::task::spawn_blocking(make).await.expect("making a body does not panic")
    }

    /// That the server ended the connection says little of a single event: it is believed when it happens again.
    fn judged(&self, error: ElasticsearchError, items: &[Item]) -> ElasticsearchError {
        let ElasticsearchError::Cut { host, bytes, source } = error else { return error };
        if let [item] = items {
            let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = match *cuts {
                Some((id, count)) if id == item.event.id => count + 1,
                Some(_) | None => 1,
            };
            *cuts = Some((item.event.id, count));
            if count < MOST_CUTS {
                return ElasticsearchError::Cut { host, bytes, source };
            }
        }
        ElasticsearchError::TooLarge { host, bytes, reason: source.to_string() }
    }
}
