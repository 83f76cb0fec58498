//! HTTP and JSON on a unix socket: what the command line and other programs know of the master (docs/api.md). Handlers
//! translate; what they ask for is done by the master's parts.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use axum::Router;
use tokio::net::UnixListener;

use crate::master::Master;

mod authorities;
mod backup;
mod crl;
mod error;
mod events;
mod jobs;
mod keys;
mod lines;
mod minions;
mod openapi;
mod pending;
mod states;
mod stations;
mod stream;

pub use backup::Peer;
pub use error::ApiError;
pub(crate) use events::before as seq_before;

/// The routes of this master, with those that other parts bring.
pub fn router(master: Master, others: Router) -> Router {
    Router::new()
        .merge(jobs::routes())
        .merge(pending::routes())
        .merge(minions::routes())
        .merge(keys::routes())
        .merge(crl::routes())
        .merge(authorities::routes())
        .merge(events::routes())
        .merge(backup::routes())
        .merge(states::routes())
        .merge(stations::routes())
        .merge(openapi::routes())
        .with_state(master)
        .merge(others)
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::not_allowed)
}

/// Opens the API's socket: 0660, for the master's user and the group, in a directory of 0750.
///
/// # Errors
/// When it cannot be bound, or its modes not be set.
pub fn listen(path: &Path, group: Option<u32>) -> Result<UnixListener, ListenError> {
    use drover_proto::tunnel::socket;
    let listener = socket::listen(path)?;
    let modes = || {
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::set_permissions(directory, fs::Permissions::from_mode(0o750))?;
        for place in [path, directory].into_iter().filter(|_| group.is_some()) {
            std::os::unix::fs::chown(place, None, group)?;
        }
        UnixListener::from_std(listener)
    };
    modes().map_err(ListenError::Modes)
}

/// Why the API's socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It cannot be bound.
    #[error(transparent)]
    Socket(#[from] drover_proto::tunnel::socket::SocketError),
    /// Its group or modes cannot be set.
    #[error("set the modes of the API's socket")]
    Modes(#[source] io::Error),
}
