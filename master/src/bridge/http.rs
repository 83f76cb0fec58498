//! The HTTP/1.1 client of bridges, one for each server: connections that are kept, a time and a size for everything, gzip
//! both ways. It follows no redirects, and nothing that it says has a secret in it.

use std::{
    error::Error as _,
    io::{self, Read, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName,
        HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
    },
};
use hyper_util::rt::TokioIo;
use jiff::{Timestamp, fmt::rfc2822};
use thiserror::Error;
use tokio::time::timeout;

use super::{
    credentials::SecretError,
    tls::{ConnectError, TlsConfig, Trouble, connect},
};
use crate::clock::Now;

mod auth;
mod html;
mod origin;

pub use auth::Auth;
pub use origin::Origin;

/// A connection that was idle for longer is not used again: servers and what stands before them drop it, and a request
/// on it would end without an answer.
const LONGEST_IDLE: Duration = Duration::from_secs(20);
/// Idle connections that are kept.
const MOST_IDLE: usize = 8;
/// The longest answer that is read, in bytes, unpacked.
const LONGEST_ANSWER: usize = 16 << 20;

/// One server.
#[derive(Debug)]
pub struct Client {
    origin: Origin,
    tls: Arc<TlsConfig>,
    auth: Arc<Auth>,
    patience: Duration,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// What is asked of a server.
#[derive(Debug, Clone)]
pub struct Call {
    /// How.
    pub method: Method,
    /// What, with its query: it begins with `/`.
    pub path: String,
    /// With what.
    pub body: Body,
    /// Headers beside those of the client.
    pub headers: HeaderMap,
}

/// What goes with a request.
#[derive(Debug, Clone, Default)]
pub struct Body {
    /// Its kind; `None` where there is none.
    pub kind: Option<&'static str>,
    /// Its bytes.
    pub bytes: Bytes,
    /// Whether they are packed by gzip.
    pub is_gzip: bool,
}

/// What a server says.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, unpacked.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no password or key to show.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Nothing came in time.
    #[error("`{origin}` does not answer within {} s", patience.as_secs_f64())]
    Silent {
        /// The server.
        origin: Origin,
        /// How long it had.
        patience: Duration,
    },
    /// TLS 1.3 tells a client so only after it has connected.
    #[error("no TLS with `{origin}`")]
    Tls {
        /// The server.
        origin: Origin,
        /// Why not.
        source: Trouble,
    },
    /// The connection ended before the answer did.
    #[error("`{origin}` ended the connection without an answer ({reason})")]
    Cut {
        /// The server.
        origin: Origin,
        /// What hyper says, with its causes.
        reason: String,
    },
    /// What came is not HTTP/1.1.
    #[error("`{origin}` speaks no HTTP/1.1 ({reason}): is its port for TLS, or another protocol?")]
    NotHttp {
        /// The server.
        origin: Origin,
        /// What hyper says.
        reason: String,
    },
    /// Too much came.
    #[error("the answer of `{origin}` cannot be read: it is longer than {} MiB", LONGEST_ANSWER >> 20)]
    TooLong {
        /// The server.
        origin: Origin,
    },
    /// What came cannot be unpacked.
    #[error("the answer of `{origin}` cannot be read: {reason}")]
    Unreadable {
        /// The server.
        origin: Origin,
        /// Why not.
        reason: String,
    },
    /// The server sends us elsewhere. Who follows may show a password to somebody else.
    #[error(
        "`{origin}` answers {status}, a redirect to `{to}`: write the address that is meant into the configuration"
    )]
    Redirect {
        /// The server.
        origin: Origin,
        /// The status.
        status: StatusCode,
        /// Where to, without what may be secret in it.
        to: String,
    },
}

impl HttpError {
    /// Whether the server may have done what was asked, or may be doing it still.
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        match self {
            Self::Silent { .. }
            | Self::Cut { .. }
            | Self::TooLong { .. }
            | Self::Unreadable { .. } => true,
            Self::Connect(_)
            | Self::Secret(_)
            | Self::Tls { .. }
            | Self::NotHttp { .. }
            | Self::Redirect { .. } => false,
        }
    }

    /// Whether somebody must change a file or a setting before it can succeed.
    #[must_use]
    pub const fn wants_operator(&self) -> bool {
        match self {
            Self::Connect(error) => error.wants_operator(),
            Self::Tls { source, .. } => source.wants_operator(),
            Self::Secret(_) | Self::Redirect { .. } | Self::NotHttp { .. } => true,
            Self::Silent { .. }
            | Self::Cut { .. }
            | Self::TooLong { .. }
            | Self::Unreadable { .. } => false,
        }
    }
}

impl Client {
    /// A client of one server. `patience` is the time for a whole request.
    #[must_use]
    pub fn new(origin: Origin, tls: Arc<TlsConfig>, auth: Arc<Auth>, patience: Duration) -> Self {
        Self { origin, tls, auth, patience, idle: Mutex::default() }
    }

    /// The server.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Asks, and reads all of the answer, whatever its status; only redirects are errors.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call(&self, call: &Call) -> Result<Answer, HttpError> {
        let request = self.request(call)?;
        let sender = match self.kept() {
            Some(sender) => sender,
            None => self.connected().await?,
        };
        let exchange = timeout(self.patience, self.exchange(sender, request)).await;
        let answer = exchange.map_err(|_| HttpError::Silent {
            origin: self.origin.clone(),
            patience: self.patience,
        })??;
        if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.auth.handle_refused();
        }
        if answer.status.is_redirection() {
            let to = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok());
            return Err(HttpError::Redirect {
                origin: self.origin.clone(),
                status: answer.status,
                to: origin::without_secrets(to.unwrap_or_default()),
            });
        }
        Ok(answer)
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, HttpError> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(format!("{}{}", self.origin.path(), call.path))
            .header(HOST, self.origin.authority())
            .header(USER_AGENT, concat!("drover/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT_ENCODING, "gzip");
        if let Some(kind) = call.body.kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        if call.body.is_gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        if let Some(authorization) = self.auth.header()? {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut request = request
            .body(Full::new(call.body.bytes.clone()))
            .expect("an origin and a path that were read make an address");
        for (name, value) in &call.headers {
            request.headers_mut().insert(name, value.clone());
        }
        Ok(request)
    }

    /// A connection that is open still.
    fn kept(&self) -> Option<SendRequest<Full<Bytes>>> {
        let now = Now::read().instant;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| {
            !idle.sender.is_closed() && now.duration_since(idle.since) < LONGEST_IDLE
        });
        let ready = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(idle.swap_remove(ready).sender)
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(Idle { sender, since: Now::read().instant });
        }
    }

    async fn connected(&self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let address = self.origin.address();
        let tls = self.origin.is_tls().then_some(&*self.tls);
        let stream = connect(&address.host, address.port, tls).await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.failed(&error))?;
        // What goes wrong with it is told to the request that it carries.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    async fn exchange(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, HttpError> {
        let answer = match sender.try_send_request(request).await {
            Ok(answer) => answer,
            Err(mut error) => match error.take_message() {
                // It was closed just now, and took nothing: another one is as good.
                Some(request) => {
                    sender = self.connected().await?;
                    let answer = sender.send_request(request).await;
                    answer.map_err(|error| self.failed(&error))?
                }
                None => return Err(self.failed(error.error())),
            },
        };
        let answer = self.read(answer).await?;
        self.keep(sender);
        Ok(answer)
    }

    async fn read(&self, answer: Response<Incoming>) -> Result<Answer, HttpError> {
        let too_long = || HttpError::TooLong { origin: self.origin.clone() };
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<hyper::Error>() {
            Some(error) => self.failed(error),
            None => too_long(),
        })?;
        let body = body.to_bytes();
        let is_gzip = head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        let body = if is_gzip {
            let unpacked = unpacked(&body).map_err(|error| HttpError::Unreadable {
                origin: self.origin.clone(),
                reason: format!("it is no gzip: {error}"),
            })?;
            unpacked.ok_or_else(too_long)?
        } else {
            body
        };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    fn failed(&self, error: &hyper::Error) -> HttpError {
        let origin = self.origin.clone();
        let mut reason = error.to_string();
        let mut at = error.source();
        while let Some(cause) = at {
            if let Some(source) = cause.downcast_ref().and_then(Trouble::of_tls) {
                return HttpError::Tls { origin, source };
            }
            reason = format!("{reason}: {cause}");
            at = cause.source();
        }
        if error.is_parse() {
            HttpError::NotHttp { origin, reason }
        } else {
            HttpError::Cut { origin, reason }
        }
    }
}

impl Call {
    /// Without a body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: Body::default(), headers: HeaderMap::new() }
    }

    /// With a body.
    #[must_use]
    pub fn with(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl Body {
    /// JSON.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        let bytes = Bytes::from(value.to_string());
        Self { kind: Some("application/json"), bytes, is_gzip: false }
    }

    /// What `write` writes, packed as it comes if that is wanted. Fast before small: the network is seldom the limit.
    ///
    /// # Panics
    /// Never: memory takes every write.
    pub fn written(
        kind: &'static str,
        is_gzip: bool,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Self {
        const TAKES_ALL: &str = "memory takes every write";
        let bytes = if is_gzip {
            let packer = GzEncoder::new(Vec::new(), Compression::fast());
            let mut packer = io::BufWriter::with_capacity(32 << 10, packer);
            write(&mut packer).expect(TAKES_ALL);
            let packer =
                packer.into_inner().map_err(io::IntoInnerError::into_error).expect(TAKES_ALL);
            packer.finish().expect(TAKES_ALL)
        } else {
            let mut bytes = Vec::new();
            write(&mut bytes).expect(TAKES_ALL);
            bytes
        };
        Self { kind: Some(kind), bytes: Bytes::from(bytes), is_gzip }
    }
}

impl Answer {
    /// What a page for people says, where that came in place of an answer: its title.
    #[must_use]
    pub fn html(&self) -> Option<String> {
        let kind = self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        html::title(kind.unwrap_or_default(), &self.body)
    }

    /// How long the server wants to be left alone.
    #[must_use]
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = rfc2822::parse(text).ok()?.timestamp();
        Duration::try_from(until.duration_since(now)).ok()
    }

    /// The beginning of its body, on one line, for people.
    #[must_use]
    pub fn excerpt(&self) -> String {
        const SHOWN: usize = 300;
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(4 * SHOWN)]);
        let mut line = String::new();
        for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
            if line.chars().count() >= SHOWN {
                line.push('…');
                break;
            }
            if !word.is_empty() {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.extend(word.chars().take(SHOWN));
            }
        }
        line
    }
}

/// Unpacks an answer, unless it is too long: a small one may unpack to gigabytes.
fn unpacked(packed: &[u8]) -> io::Result<Option<Bytes>> {
    let mut body = Vec::new();
    let longest = LONGEST_ANSWER as u64;
    let read = MultiGzDecoder::new(packed).take(longest + 1).read_to_end(&mut body)?;
    Ok((read <= LONGEST_ANSWER).then(|| Bytes::from(body)))
}

#[cfg(test)]
pub(super) mod fake;
#[cfg(test)]
mod tests;
