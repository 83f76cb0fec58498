//! HTTP/1.1 over the master's unix socket: one connection, one request after another.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::failure::Failure;
use crate::config::{Config, ConfigError};

/// The socket's name in the master's `run_dir`.
const SOCKET: &str = "api.sock";

/// The longest line of a stream that is read.
const LONGEST_LINE: usize = 64 << 20;

pub(super) struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Finds the socket of the master that is configured in `directory`, and connects to it.
    pub(super) async fn connect(directory: &Path) -> Result<Self, Failure> {
        let socket = socket_of(directory)?;
        let stream = UnixStream::connect(&socket).await.map_err(|error| {
            Failure::failed(format!("cannot reach the master at `{}`", socket.display()))
                .hint(unreachable_hint(error.kind(), directory))
                .because(error)
        })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends when the sender is dropped; what goes wrong there is told to whoever waits for an answer.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender })
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Value, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        json(response).await
    }

    /// Gets what is to be kept as it is.
    pub(super) async fn get_bytes(&mut self, path: &str) -> Result<Bytes, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }

    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        let response = self.send(Method::POST, path, Some(Bytes::from(body.to_string()))).await?;
        json(response).await
    }

    /// Posts what is not JSON. A conflict that names what is refused tells of the rest too, and is an answer.
    pub(super) async fn post_file(&mut self, path: &str, body: Bytes) -> Result<Value, Failure> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        match serde_json::from_slice::<Value>(&body) {
            Ok(told) if status == StatusCode::CONFLICT && told["refused"].is_array() => Ok(told),
            Ok(_) | Err(_) => answer(status, &body),
        }
    }

    pub(super) async fn delete(&mut self, path: &str) -> Result<Value, Failure> {
        let response = self.send(Method::DELETE, path, None).await?;
        json(response).await
    }

    pub(super) async fn get_lines(&mut self, path: &str) -> Result<Lines, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        Lines::of(response).await
    }

    pub(super) async fn post_lines(&mut self, path: &str, body: &Value) -> Result<Lines, Failure> {
        let response = self.send(Method::POST, path, Some(Bytes::from(body.to_string()))).await?;
        Lines::of(response).await
    }

    /// Gets what is too long to be kept, and about how long it will be.
    pub(super) async fn get_stream(mut self, path: &str) -> Result<(Body, u64), Failure> {
        let response = self.send(Method::GET, path, None).await?;
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
            return Err(refusal(status, &body));
        }
        let expected = response.headers().get("x-drover-expected");
        let expected = expected.and_then(|bytes| bytes.to_str().ok()?.parse().ok()).unwrap_or(0);
        Ok((Body { body: response.into_body(), _client: self }, expected))
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder().method(method).uri(path).header("host", "drover");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| Failure::failed("cannot put the request together").because(error))?;
        self.sender.ready().await.map_err(broken)?;
        self.sender.send_request(request).await.map_err(broken)
    }
}

fn unreachable_hint(kind: ErrorKind, directory: &Path) -> String {
    if kind == ErrorKind::PermissionDenied {
        return "become root, or a member of the group `drover`".to_owned();
    }
    format!(
        "the master is not running; start it with `drover-master -c {}` or `systemctl start drover-master`",
        directory.display()
    )
}

fn broken(error: hyper::Error) -> Failure {
    Failure::failed("the connection to the master broke")
        .because(error)
        .hint("it may be stopping; see its log, `journalctl -u drover-master`")
}

fn socket_of(directory: &Path) -> Result<PathBuf, Failure> {
    match Config::load(directory) {
        Ok(config) => Ok(config.run_dir.join(SOCKET)),
        Err(ConfigError::Read { path, source }) => {
            Err(Failure::wrong(format!("cannot read `{}`", path.display())).because(source).hint(
                "say where the master's configuration is, with `-c DIR` or DROVER_CONFIG_DIR",
            ))
        }
        Err(ConfigError::Wrong(diagnostic)) => Err(Failure::wrong(diagnostic.to_string())),
    }
}

async fn json(response: Response<Incoming>) -> Result<Value, Failure> {
    let status = response.status();
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    answer(status, &body)
}

fn answer(status: StatusCode, body: &[u8]) -> Result<Value, Failure> {
    if !status.is_success() {
        return Err(refusal(status, body));
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body)
        .map_err(|error| Failure::failed("the master's answer is not JSON").because(error))
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = body["message"]
        .as_str()
        .map_or_else(|| format!("the master answered {status}"), str::to_owned);
    let failure = match status {
        StatusCode::BAD_REQUEST => Failure::wrong(message),
        StatusCode::NOT_FOUND => Failure::missing(message),
        _ => Failure::failed(message),
    };
    let causes = body["causes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let failure = causes.fold(failure, Failure::because);
    match body["hint"].as_str() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A stream of bytes.
pub(super) struct Body {
    body: Incoming,
    // The connection ends with it.
    _client: Client,
}

impl Body {
    /// The next bytes; `None` at the end, and where the connection broke: what came has to say itself whether it is whole.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                return Some(data);
            }
        }
    }
}

/// A stream of JSON values, one a line.
pub(super) struct Lines {
    body: Incoming,
    read: BytesMut,
}

impl Lines {
    async fn of(response: Response<Incoming>) -> Result<Self, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(Self { body: response.into_body(), read: BytesMut::new() });
        }
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        Err(refusal(status, &body))
    }

    /// The next value; `None` at the stream's end.
    pub(super) async fn next(&mut self) -> Result<Option<Value>, Failure> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.read[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(searched + at + 1);
                if line.trim_ascii().is_empty() {
                    searched = 0;
                    continue;
                }
                return parse(&line).map(Some);
            }
            searched = self.read.len();
            if searched > LONGEST_LINE {
                return Err(Failure::failed("the master sent a line without an end"));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.map_err(broken)?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                None if self.read.is_empty() => return Ok(None),
                None => return parse(&self.read.split()).map(Some),
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(line)
        .map_err(|error| Failure::failed("the master sent a line that is not JSON").because(error))
}

/// A path with its query.
pub(super) struct Query(String);

impl Query {
    pub(super) fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let separator = if self.0.contains('?') { '&' } else { '?' };
        self.0.push(separator);
        self.0.push_str(name);
        self.0.push('=');
        escape_into(&mut self.0, value);
        self
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One segment of a path.
pub(super) fn segment(text: &str) -> String {
    let mut escaped = String::new();
    escape_into(&mut escaped, text);
    escaped
}

/// RFC 3986 §2.1: what is not unreserved.
fn escape_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_ends_with_status_3() {
        let body = br#"{"message": "there is no job `1`", "hint": "list them"}"#;
        let failure = refusal(StatusCode::NOT_FOUND, body);
        let Failure::Told(told) = failure else { panic!("it is told") };
        assert_eq!((told.status, told.message.as_str()), (3, "there is no job `1`"));
    }

    #[test]
    fn queries_are_escaped() {
        let query = Query::new("/v1/minions").with("tgt", "G@role:rfid and a*").with("n", "ü&=");
        assert_eq!(query.as_str(), "/v1/minions?tgt=G%40role%3Arfid%20and%20a%2A&n=%C3%BC%26%3D");
    }
}
