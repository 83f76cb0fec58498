//! `type: elasticsearch`: events to Elasticsearch or OpenSearch, by `_bulk` with `create` and the event's id. A shell
//! around [`bulk`], [`document`] and [`template`]: it talks HTTP, to each host in turn.

use std::time::Duration;

use bytes::Bytes;
use drover_states::{diagnostic::Diagnostic, settings::Settings, yaml::Node};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use thiserror::Error;
use tokio::{sync::Mutex, time::timeout};

mod bulk;
mod document;
mod template;

pub use bulk::AnswerError;
pub use document::IndexName;

use self::template::Flavour;
use super::{
    config::texts,
    sink::{Failure, Item, Verdict},
};

/// Time to reach a host.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for a whole request. A server under load may take long for a batch.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bulk requests at once, where the configuration does not say.
const IN_FLIGHT: usize = 4;
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 64 << 20;
/// What is wanted of a bulk answer; the rest is most of it.
const BULK: &str = "/_bulk?filter_path=items.*.status,items.*.error";

/// Why a batch was not taken. It is tried again.
#[derive(Debug, Clone, Error)]
pub enum ElasticsearchError {
    /// The host is not reached, or ends the connection.
    #[error("cannot reach `{host}`: {reason}")]
    Unreachable {
        /// The host.
        host: Uri,
        /// What the client says, with its causes.
        reason: String,
    },
    /// The host does not answer.
    #[error("`{host}` does not answer within {} s", PATIENCE.as_secs())]
    Silent {
        /// The host.
        host: Uri,
    },
    /// The server refuses the request as a whole.
    #[error("`{host}` answers {status} to {what}: {reason}")]
    Status {
        /// The host.
        host: Uri,
        /// The status.
        status: StatusCode,
        /// What was asked of it.
        what: &'static str,
        /// The server's reason.
        reason: String,
    },
    /// The batch is more than the server takes at once.
    #[error("`{host}` answers that the batch is too large")]
    TooLarge {
        /// The host.
        host: Uri,
    },
    /// The answer is none.
    #[error("`{host}`: {source}")]
    Answer {
        /// The host.
        host: Uri,
        /// What is wrong with it.
        source: AnswerError,
    },
}

impl ElasticsearchError {
    /// What to do.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::TooLarge { .. } => Failure::TooLarge,
            Self::Status {
                status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND,
                ..
            } => Failure::Denied,
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Status { .. }
            | Self::Answer { .. } => Failure::Away,
        }
    }
}

/// A cluster and an index in it.
pub struct ElasticsearchSink {
    client: Client<HttpConnector, Full<Bytes>>,
    hosts: Vec<Uri>,
    index: IndexName,
    in_flight: usize,
    known: Mutex<Known>,
}

/// What is known of the cluster.
#[derive(Clone, Copy)]
struct Known {
    /// The host that is asked next.
    at: usize,
    flavour: Flavour,
    /// Whether the template was put since the last failure.
    is_ready: bool,
}

impl ElasticsearchSink {
    /// Reads `hosts`, `index` and `in_flight`.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let hosts = settings.take("hosts", hosts)?;
        let hosts = hosts.ok_or_else(|| settings.wrong("the bridge has no `hosts`"))?;
        let index =
            settings.take("index", |node| IndexName::new(node.as_str().unwrap_or_default()))?;
        let index = index.ok_or_else(|| settings.wrong("the bridge has no `index`"))?;
        let in_flight = settings.count("in_flight")?.unwrap_or(IN_FLIGHT);
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let known = Known { at: 0, flavour: Flavour::Flattened, is_ready: false };
        Ok(Self { client, hosts, index, in_flight, known: Mutex::new(known) })
    }

    /// How many bulk requests at once.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// What the server is, once that is known.
    #[must_use]
    pub const fn server(&self) -> Option<String> {
        None
    }

    /// Sends a batch, and returns what the server says of each event.
    ///
    /// # Errors
    /// When no host takes the batch: the reason of the last one.
    pub async fn deliver(&self, items: &[Item]) -> Result<Vec<Verdict>, ElasticsearchError> {
        let mut asked = 0;
        loop {
            asked += 1;
            let known = self.ready().await;
            let taken = match &known {
                Ok(known) => self.bulk(&self.hosts[known.at], items).await,
                Err((_, error)) => Err(error.clone()),
            };
            match taken {
                Err(error) if !matches!(error, ElasticsearchError::TooLarge { .. }) => {
                    let failed = known.map_or_else(|(at, _)| at, |known| known.at);
                    let mut known = self.known.lock().await;
                    if known.at == failed {
                        known.at = (failed + 1) % self.hosts.len();
                        // The server that comes back may have lost its state, or be another one.
                        known.is_ready = false;
                    }
                    drop(known);
                    if asked >= self.hosts.len() {
                        return Err(error);
                    }
                }
                taken => return taken,
            }
        }
    }

    /// The host to ask, with our template in it; or the one that has it not.
    async fn ready(&self) -> Result<Known, (usize, ElasticsearchError)> {
        let mut known = self.known.lock().await;
        while !known.is_ready {
            let at = known.at;
            known.is_ready = self.put_template(&mut known).await.map_err(|error| (at, error))?;
        }
        Ok(*known)
    }

    async fn bulk(&self, host: &Uri, items: &[Item]) -> Result<Vec<Verdict>, ElasticsearchError> {
        let body = bulk::body(&self.index, items);
        let (status, answer) =
            self.request(host, Method::POST, BULK, "application/x-ndjson", body).await?;
        match status {
            StatusCode::OK => bulk::verdicts(&answer, items.len())
                .map_err(|source| ElasticsearchError::Answer { host: host.clone(), source }),
            StatusCode::PAYLOAD_TOO_LARGE => {
                Err(ElasticsearchError::TooLarge { host: host.clone() })
            }
            status => Err(refused(host, status, "a bulk request", &answer)),
        }
    }

    /// False where the server does not know the type of field, and the next flavour is to be tried.
    async fn put_template(&self, known: &mut Known) -> Result<bool, ElasticsearchError> {
        let host = &self.hosts[known.at];
        let path = format!("/_index_template/{}", self.index.template());
        let body = template::template(&self.index.pattern(), known.flavour).to_string();
        let (status, answer) =
            self.request(host, Method::PUT, &path, "application/json", body.into_bytes()).await?;
        if status.is_success() {
            return Ok(true);
        }
        let is_unknown = template::is_unknown_type(&String::from_utf8_lossy(&answer));
        match known.flavour.next().filter(|_| is_unknown) {
            Some(next) => {
                known.flavour = next;
                Ok(false)
            }
            None => Err(refused(host, status, "the index template", &answer)),
        }
    }

    async fn request(
        &self,
        host: &Uri,
        method: Method,
        path: &str,
        content: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ElasticsearchError> {
        let address = format!("{}{path}", host.to_string().trim_end_matches('/'));
        let request = Request::builder()
            .method(method)
            .uri(address)
            .header(CONTENT_TYPE, content)
            .body(Full::new(Bytes::from(body)))
            .expect("a host of the configuration and a fixed path make an address");
        let unreachable = |reason| ElasticsearchError::Unreachable { host: host.clone(), reason };
        let exchange = async {
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|error| unreachable(chain(&error)))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await;
            let body = body.map_err(|error| unreachable(error.to_string()))?;
            Ok((head.status, body.to_bytes()))
        };
        let silent = |_| ElasticsearchError::Silent { host: host.clone() };
        timeout(PATIENCE, exchange).await.map_err(silent)?
    }
}

fn refused(
    host: &Uri,
    status: StatusCode,
    what: &'static str,
    answer: &[u8],
) -> ElasticsearchError {
    let reason = match serde_json::from_slice::<Value>(answer) {
        Ok(answer) => bulk::reason(&answer["error"]),
        Err(_) => bulk::shorten(&String::from_utf8_lossy(answer)),
    };
    ElasticsearchError::Status { host: host.clone(), status, what, reason }
}

fn hosts(node: &Node) -> Result<Vec<Uri>, &'static str> {
    const WANTED: &str = "an address such as `http://127.0.0.1:9200`, or a list of them";
    const NO_TLS: &str = "`http://` addresses: the bridge speaks no TLS, put a local proxy that does before a server \
                          that wants it";
    const NO_PASSWORD: &str = "addresses without a user or password: put a local proxy that adds them before a server \
                               that wants them";
    let addresses = texts(node).map_err(|_| WANTED)?;
    if addresses.is_empty() {
        return Err(WANTED);
    }
    let host = |address: &String| {
        let host: Uri = address.parse().map_err(|_| WANTED)?;
        match host.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(NO_TLS),
            Some(_) | None => return Err(WANTED),
        }
        let authority = host.authority().ok_or(WANTED)?;
        if authority.as_str().contains('@') {
            return Err(NO_PASSWORD);
        }
        if host.query().is_some() { Err(WANTED) } else { Ok(host) }
    };
    addresses.iter().map(host).collect()
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
