//! A cluster, by whichever of its hosts answers: every request of the bridge goes through here. A shell around [`Hosts`].

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use drover_states::{
    diagnostic::Diagnostic,
    settings::Settings,
    yaml::{Data, Node},
};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tracing::warn;
use uuid::Uuid;

use super::{
    answer,
    error::ElasticsearchError,
    hosts::{Hosts, Stranger},
};
use crate::{
    bridge::{
        http::{Answer, Auth, Body, Call, Client, HttpError, Origin},
        tls::TlsConfig,
    },
    clock::Now,
};

/// The port of an address without one.
const PORT: u16 = 9200;
/// Time for a whole request, where the configuration does not say. A server under load may take long for a batch.
const PATIENCE: Duration = Duration::from_secs(60);
/// A request that is no larger is not ended by a server for its size.
const SMALL: usize = 16 << 10;
/// How many documents are asked for at once.
const MOST_ASKED: usize = 10_000;

/// All hosts of a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    clients: Vec<Client>,
    hosts: Mutex<Hosts>,
    /// When a bulk request last ended without an answer.
    ambiguous: Mutex<Option<Instant>>,
}

impl Cluster {
    /// Reads `hosts`, `timeout`, and who we are to them.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub(super) fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let origins = settings.take("hosts", origins)?;
        let origins = origins.ok_or_else(|| settings.missing("the bridge", "hosts"))?;
        let patience = settings.wait("timeout")?.unwrap_or(PATIENCE);
        let tls = Arc::new(TlsConfig::read(settings)?.unwrap_or_default());
        let auth = Arc::new(Auth::read(settings)?);
        for origin in origins.iter().filter(|origin| auth.is_some() && origin.shows_secrets()) {
            warn!(%origin, "a password goes to another machine without TLS: use `https://`");
        }
        Ok(Self::new(origins, &tls, &auth, patience))
    }

    fn new(
        origins: Vec<Origin>,
        tls: &Arc<TlsConfig>,
        auth: &Arc<Auth>,
        patience: Duration,
    ) -> Self {
        let hosts = Mutex::new(Hosts::new(origins.len()));
        let client = |origin| Client::new(origin, Arc::clone(tls), Arc::clone(auth), patience);
        let clients = origins.into_iter().map(client).collect();
        Self { clients, hosts, ambiguous: Mutex::default() }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// Where there is no answer, or 401, 403, 408, 429 or 5xx. What else the server says is for the caller to judge.
    pub(super) async fn get(&self, path: &str) -> Result<(StatusCode, Value), ElasticsearchError> {
        self.json(Call::new(Method::GET, path)).await
    }

    /// Puts something.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn put(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), ElasticsearchError> {
        self.json(Call::new(Method::PUT, path).with(Body::json(body))).await
    }

    /// Posts something; `Value::Null` for no body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn post(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), ElasticsearchError> {
        let body = if body.is_null() { Body::default() } else { Body::json(body) };
        self.json(Call::new(Method::POST, path).with(body)).await
    }

    /// Deletes something.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn delete(
        &self,
        path: &str,
    ) -> Result<(StatusCode, Value), ElasticsearchError> {
        self.json(Call::new(Method::DELETE, path)).await
    }

    /// Which of these documents are in any of these indices. Unlike a search it sees what was written a moment ago.
    ///
    /// # Errors
    /// As [`Self::get`], and where an index cannot be asked.
    pub(super) async fn mget(
        &self,
        indices: &[String],
        ids: &[Uuid],
    ) -> Result<HashSet<Uuid>, ElasticsearchError> {
        const PATH: &str = "/_mget?_source=false&filter_path=docs._id,docs.found,docs.error.type,docs.error.reason";
        let pairs = indices.iter().flat_map(|index| ids.iter().map(move |id| (index, id)));
        let pairs: Vec<_> = pairs.map(|(index, id)| json!({"_index": index, "_id": id})).collect();
        let mut found = HashSet::new();
        for some in pairs.chunks(MOST_ASKED) {
            let call = Call::new(Method::POST, PATH).with(Body::json(&json!({"docs": some})));
            let (host, answer) = self.request(&call).await?;
            let said = self.value(host, &call, &answer)?;
            for document in said["docs"].as_array().into_iter().flatten() {
                let kind = document["error"]["type"].as_str().unwrap_or_default();
                // An index that was removed meanwhile has nothing.
                if !matches!(kind, "" | "index_not_found_exception") {
                    return Err(ElasticsearchError::Status {
                        host: self.origin(host).clone(),
                        status: StatusCode::SERVICE_UNAVAILABLE,
                        what: what(&call),
                        reason: answer::reason(&document["error"]),
                    });
                }
                let id: Option<Uuid> = document["_id"].as_str().and_then(|id| id.parse().ok());
                found.extend(id.filter(|_| document["found"] == true));
            }
            if said["docs"].as_array().is_none_or(|docs| docs.len() != some.len()) {
                return Err(self.foreign(host, &call, &answer));
            }
        }
        Ok(found)
    }

    /// Sends a bulk request; the answer has status 200, and is for the caller to read.
    ///
    /// # Errors
    /// Where no host took it.
    pub(super) async fn bulk(&self, body: Body) -> Result<(Origin, Answer), ElasticsearchError> {
        const PATH: &str = "/_bulk?filter_path=items.*.status,items.*.error.type,items.*.error.reason,\
                            items.*.error.caused_by";
        let call = Call::new(Method::POST, PATH).with(body);
        let (host, answer) = self.request(&call).await?;
        let bytes = call.body.bytes.len();
        match answer.status {
            StatusCode::OK => Ok((self.origin(host).clone(), answer)),
            StatusCode::PAYLOAD_TOO_LARGE => Err(ElasticsearchError::TooLarge {
                host: self.origin(host).clone(),
                bytes,
                reason: "413 Payload Too Large".to_owned(),
            }),
            _ => Err(self.status(host, &call, &answer)),
        }
    }

    /// Changes whenever what was found out about the cluster may no longer be so.
    pub(super) fn epoch(&self) -> u64 {
        self.hosts().epoch()
    }

    /// How long ago a bulk request ended without an answer.
    pub(super) fn since_ambiguous(&self, now: Instant) -> Option<Duration> {
        let ambiguous = self.ambiguous.lock().unwrap_or_else(PoisonError::into_inner);
        ambiguous.map(|ambiguous| now.saturating_duration_since(ambiguous))
    }

    async fn json(&self, call: Call) -> Result<(StatusCode, Value), ElasticsearchError> {
        let (host, answer) = self.request(&call).await?;
        Ok((answer.status, self.value(host, &call, &answer)?))
    }

    /// Asks one host after the other until one answers as Elasticsearch does.
    async fn request(&self, call: &Call) -> Result<(usize, Answer), ElasticsearchError> {
        let mut asked = Vec::new();
        let mut last = None;
        loop {
            let chosen = self.hosts().choose(&asked, Now::read().instant);
            let Some(host) = chosen else {
                return Err(last.expect("the first host is always asked"));
            };
            asked.push(host);
            match self.ask(host, call).await {
                Ok(answer) => {
                    self.hosts().handle_success(host);
                    return Ok((host, answer));
                }
                Err(error) => {
                    let now = Now::read().instant;
                    if error.is_of_host() {
                        self.hosts().handle_failure(host, now);
                        if self.clients.len() > 1 {
                            let reason = chain(&error);
                            warn!(host = %self.origin(host), reason, "a host of the cluster fails");
                        }
                    }
                    // What may have been stored must not be sent again as if it were new: the older indices are asked
                    // first, if need be.
                    let is_open = call.path.starts_with("/_bulk") && error.is_ambiguous();
                    if is_open {
                        *self.ambiguous.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                    }
                    if is_open || !error.is_of_host() {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
    }

    async fn ask(&self, host: usize, call: &Call) -> Result<Answer, ElasticsearchError> {
        if !self.hosts().is_greeted(host) {
            self.greet(host).await?;
        }
        let answer = match self.clients[host].call(call).await {
            Ok(answer) => answer,
            Err(error @ HttpError::Cut { .. }) if call.body.bytes.len() > SMALL => {
                // A server that finds a request too long may end the connection before it has read it. One that ends all
                // of them is going.
                return Err(match self.greet(host).await {
                    Ok(()) => ElasticsearchError::Cut {
                        host: self.origin(host).clone(),
                        bytes: call.body.bytes.len(),
                        source: Box::new(error),
                    },
                    Err(_) => error.into(),
                });
            }
            // It says something of each event: of fewer it says less. They may all be stored.
            Err(error @ HttpError::TooLong { .. }) if call.path.starts_with("/_bulk") => {
                return Err(ElasticsearchError::TooLarge {
                    host: self.origin(host).clone(),
                    bytes: call.body.bytes.len(),
                    reason: error.to_string(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(title) = answer.html() {
            let (host, status) = (self.origin(host).clone(), answer.status);
            // A proxy in front may be the one to say so, in its own words.
            if status == StatusCode::PAYLOAD_TOO_LARGE {
                let bytes = call.body.bytes.len();
                return Err(ElasticsearchError::TooLarge { host, bytes, reason: title });
            }
            return Err(ElasticsearchError::Html { host, status, title });
        }
        match answer.status.as_u16() {
            401 | 403 | 408 | 429 | 500.. => Err(self.status(host, call, &answer)),
            _ => Ok(answer),
        }
    }

    /// Asks a host who it is, before it is given anything.
    async fn greet(&self, host: usize) -> Result<(), ElasticsearchError> {
        let call = Call::new(Method::GET, "/");
        let answer = self.clients[host].call(&call).await?;
        let origin = || self.origin(host).clone();
        if let Some(title) = answer.html() {
            return Err(ElasticsearchError::Html { host: origin(), status: answer.status, title });
        }
        if answer.status != StatusCode::OK {
            return Err(self.status(host, &call, &answer));
        }
        let said = self.value(host, &call, &answer)?;
        let found = match said["cluster_uuid"].as_str() {
            Some("_na_") => return Err(ElasticsearchError::Forming { host: origin() }),
            Some(found) => found,
            // Some services keep it to themselves.
            None if said["version"]["number"].is_string() => "",
            None => return Err(self.foreign(host, &call, &answer)),
        };
        self.hosts().handle_greeting(host, found).map_err(|Stranger { known }| {
            ElasticsearchError::Stranger { host: origin(), found: found.to_owned(), known }
        })
    }

    fn value(
        &self,
        host: usize,
        call: &Call,
        answer: &Answer,
    ) -> Result<Value, ElasticsearchError> {
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body).map_err(|_| self.foreign(host, call, answer))
    }

    fn foreign(&self, host: usize, call: &Call, answer: &Answer) -> ElasticsearchError {
        ElasticsearchError::Foreign {
            host: self.origin(host).clone(),
            status: answer.status,
            what: what(call),
            excerpt: answer.excerpt(),
        }
    }

    fn status(&self, host: usize, call: &Call, answer: &Answer) -> ElasticsearchError {
        let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let error = &said["error"];
        let reason = if error.is_null() { answer.excerpt() } else { answer::reason(error) };
        let (host, what, status) = (self.origin(host).clone(), what(call), answer.status);
        // Unlike every other 403 it says nothing of who we are.
        if said["error"]["type"] == "cluster_block_exception" {
            return ElasticsearchError::Blocked { host, what, reason };
        }
        ElasticsearchError::Status { host, status, what, reason }
    }

    fn origin(&self, host: usize) -> &Origin {
        self.clients[host].origin()
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request, for people.
fn what(call: &Call) -> String {
    let path = call.path.split('?').next().unwrap_or_default();
    format!("`{} {path}`", call.method)
}

/// An error with what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text = format!("{text}: {cause}");
        at = cause.source();
    }
    text
}

fn origins(node: &Node) -> Result<Vec<Origin>, &'static str> {
    const WANTED: &str = "an address such as `https://es.example:9200`, or a list of them";
    let origin = |node: &Node| Origin::parse(node.as_str().ok_or(WANTED)?, Some(PORT));
    let origins = match &node.data {
        Data::Scalar(_) => vec![origin(node)?],
        Data::Sequence(items) => items.iter().map(origin).collect::<Result<_, _>>()?,
        Data::Mapping(_) => return Err(WANTED),
    };
    if origins.is_empty() { Err(WANTED) } else { Ok(origins) }
}

#[cfg(test)]
mod tests;
