//! NDJSON: one JSON value a line, each sent as it comes. A client that reads slowly slows its own stream alone.

use std::error::Error;

use axum::{
    body::{Body, Bytes},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::sync::mpsc;

/// Lines that wait for a client; one may have a megabyte.
const WAITING: usize = 16;

/// Where a stream's lines go.
pub(super) struct Lines(mpsc::Sender<Result<Bytes, Broken>>);

/// The rest of the stream cannot be had. The connection is cut, so that nobody takes what came for all there is.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the stream cannot be read")]
pub(super) struct Broken;

/// The client has gone.
pub(super) struct ClientGone;

impl Lines {
    pub(super) async fn send<T: Serialize>(&self, value: &T) -> Result<(), ClientGone> {
        let mut line = serde_json::to_vec(value).map_err(|_| ClientGone)?;
        line.push(b'\n');
        self.0.send(Ok(line.into())).await.map_err(|_| ClientGone)
    }

    /// Cuts the stream off where it is, and logs why.
    pub(super) async fn cut<E: Error + Sync + 'static>(&self, why: &E) -> Result<(), ClientGone> {
        tracing::error!(error = why as &dyn Error, "the rest of a stream cannot be read");
        self.0.send(Err(Broken)).await.map_err(|_| ClientGone)
    }

    /// Whether the client has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Returns when the client has gone.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// The answer whose lines `write` sends. It ends when `write` does, and `write` ends when the client goes.
pub(super) fn ndjson<F>(write: impl FnOnce(Lines) -> F) -> Response
where
    F: Future<Output = Result<(), ClientGone>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(write(Lines(sender)));
    let body = Body::from_stream(lines(receiver));
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

fn lines(
    receiver: mpsc::Receiver<Result<Bytes, Broken>>,
) -> impl Stream<Item = Result<Bytes, Broken>> {
    stream::unfold((receiver, None), |(mut receiver, broken)| async move {
        if let Some(broken) = broken {
            return Some((Err(broken), (receiver, None)));
        }
        let mut line = match receiver.recv().await? {
            Ok(line) => line,
            Err(broken) => return Some((Err(broken), (receiver, None))),
        };
        // What is there already goes in one write.
        let (mut more, mut broken) = (Vec::new(), None);
        while more.len() < WAITING
            && broken.is_none()
            && let Ok(next) = receiver.try_recv()
        {
            match next {
                Ok(next) => more.push(next),
                Err(error) => broken = Some(error),
            }
        }
        if !more.is_empty() {
            let mut joined = line.to_vec();
            more.iter().for_each(|next| joined.extend_from_slice(next));
            line = joined.into();
        }
        Some((Ok(line), (receiver, broken)))
    })
}
