//! The backup, as it is made. It holds the fleet CA's key, which nobody else gets through this socket: only root and the
//! master's own user may have it.

use std::convert::Infallible;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, State, connect_info::Connected},
    http::{HeaderName, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
    serve::IncomingStream,
};
use futures_util::stream;
use tokio::net::UnixListener;

use super::ApiError;
use crate::{backup::Busy, master::Master};

pub(super) fn routes() -> Router<Master> {
    Router::new().route("/v1/backup", get(backup))
}

/// Who is at the other end of the socket, as the kernel says.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    user: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { user: stream.io().peer_cred().ok().map(|peer| peer.uid()) }
    }
}

impl Peer {
    fn may_have_keys(self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        self.user.is_some_and(|user| user == 0 || user == own)
    }
}

async fn backup(
    State(master): State<Master>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<impl IntoResponse, ApiError> {
    if !peer.may_have_keys() {
        let refused =
            "a backup holds the fleet CA's key, and is only for root and the master's own user";
        return Err(ApiError::forbidden(refused).hint("`sudo drover backup FILE`"));
    }
    let chunks = master.backups.begin(peer.user).await.map_err(|error| match error {
        Busy::Another => ApiError::conflict(&error).hint("wait until it is done"),
        Busy::Store(error) => error.into(),
    })?;
    let body = Body::from_stream(stream::unfold(chunks, |mut chunks| async move {
        let chunk = chunks.recv().await?;
        Some((Ok::<Bytes, Infallible>(chunk), chunks))
    }));
    // How much will come, as far as that is known now: for a progress bar.
    let expected = (HeaderName::from_static("x-drover-expected"), expected(&master));
    Ok(([(CONTENT_TYPE, "application/x-tar".to_owned()), expected], body))
}

fn expected(master: &Master) -> String {
    master.store.usage().map_or(0, |usage| usage.event_bytes).to_string()
}
