//! `type: elasticsearch`: events to Elasticsearch or OpenSearch, by `_bulk` with `create` and the event's id. A shell
//! around [`bulk`], [`document`] and [`template`]: it talks HTTP, to each host in turn.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use thiserror::Error;
use tokio::time::timeout;

mod bulk;
mod document;
mod template;

pub use bulk::AnswerError;
pub use document::IndexName;

use self::template::Flavour;
use super::feed::{Item, Verdict};

/// Time to reach a host.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for a whole request. A server under load may take long for a batch.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 64 << 20;
/// What is wanted of a bulk answer; the rest is most of it.
const BULK: &str = "/_bulk?filter_path=items.*.status,items.*.error";

/// Why a batch was not taken. It is tried again.
#[derive(Debug, Error)]
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

/// A cluster and an index in it.
pub struct ElasticsearchSink {
    client: Client<HttpConnector, Full<Bytes>>,
    hosts: Vec<Uri>,
    /// The host that is asked next.
    at: usize,
    index: IndexName,
    flavour: Flavour,
    /// Whether the template was put since the last failure.
    is_ready: bool,
}

impl ElasticsearchSink {
    /// A sink for an index. `hosts` are `http://` addresses, and there is at least one.
    #[must_use]
    pub fn new(hosts: Vec<Uri>, index: IndexName) -> Self {
        debug_assert!(!hosts.is_empty(), "the configuration names a host");
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, hosts, at: 0, index, flavour: Flavour::Flattened, is_ready: false }
    }

    /// Sends a batch, and returns what the server says of each event.
    ///
    /// # Errors
    /// When no host takes the batch: the reason of the last one.
    pub async fn deliver(&mut self, items: &[Item]) -> Result<Vec<Verdict>, ElasticsearchError> {
        let mut asked = 0;
        loop {
            asked += 1;
            match self.try_deliver(items).await {
                Err(error) if !matches!(error, ElasticsearchError::TooLarge { .. }) => {
                    self.at = (self.at + 1) % self.hosts.len();
                    // The server that comes back may have lost its state, or be another one.
                    self.is_ready = false;
                    if asked >= self.hosts.len() {
                        return Err(error);
                    }
                }
                taken => return taken,
            }
        }
    }

    async fn try_deliver(&mut self, items: &[Item]) -> Result<Vec<Verdict>, ElasticsearchError> {
        while !self.is_ready {
            self.is_ready = self.put_template().await?;
        }
        let body = bulk::body(&self.index, items);
        let (status, answer) =
            self.request(Method::POST, BULK, "application/x-ndjson", body).await?;
        match status {
            StatusCode::OK => bulk::verdicts(&answer, items.len())
                .map_err(|source| ElasticsearchError::Answer { host: self.host(), source }),
            StatusCode::PAYLOAD_TOO_LARGE => {
                Err(ElasticsearchError::TooLarge { host: self.host() })
            }
            status => Err(self.refused(status, "a bulk request", &answer)),
        }
    }

    /// False where the server does not know the type of field, and the next flavour is to be tried.
    async fn put_template(&mut self) -> Result<bool, ElasticsearchError> {
        let path = format!("/_index_template/{}", self.index.template());
        let body = template::template(&self.index.pattern(), self.flavour).to_string();
        let (status, answer) =
            self.request(Method::PUT, &path, "application/json", body.into_bytes()).await?;
        if status.is_success() {
            return Ok(true);
        }
        let is_unknown = template::is_unknown_type(&String::from_utf8_lossy(&answer));
        match self.flavour.next().filter(|_| is_unknown) {
            Some(next) => {
                self.flavour = next;
                Ok(false)
            }
            None => Err(self.refused(status, "the index template", &answer)),
        }
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ElasticsearchError> {
        let host = self.host();
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

    fn host(&self) -> Uri {
        self.hosts[self.at].clone()
    }

    fn refused(&self, status: StatusCode, what: &'static str, answer: &[u8]) -> ElasticsearchError {
        let reason = match serde_json::from_slice::<Value>(answer) {
            Ok(answer) => bulk::reason(&answer["error"]),
            Err(_) => bulk::shorten(&String::from_utf8_lossy(answer)),
        };
        ElasticsearchError::Status { host: self.host(), status, what, reason }
    }
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
