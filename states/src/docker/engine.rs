//! Where the container engine begins: what the container states ask of it. Its vocabulary is the
//! Docker Engine API's own. [`BollardEngine`] speaks to a real one; tests have one in memory.

use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ImageInspect,
};
use futures_util::future::BoxFuture;

use super::platform::Platform;
use super::reference::ImageReference;
use crate::module::Failure;

mod bollard_engine;
#[cfg(test)]
pub(super) mod memory;

pub use bollard_engine::BollardEngine;

/// What an engine answers, in time.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

/// A container engine. Names are container names or ids; what is not there is `None` when it is asked
/// for, and no error when it is removed.
pub trait ContainerEngine: Send + Sync {
    /// The image that the engine has under this name.
    fn image<'a>(&'a self, reference: &'a ImageReference) -> Answer<'a, Option<ImageInspect>>;

    /// The digest that the registry has under this name now; nothing is pulled.
    fn registry_digest<'a>(&'a self, reference: &'a ImageReference) -> Answer<'a, String>;

    /// Pulls an image.
    fn pull<'a>(&'a self, pull: Pull<'a>) -> Answer<'a, ()>;

    /// Removes an image's name, and the image with its last one.
    fn remove_image<'a>(&'a self, reference: &'a ImageReference, force: bool) -> Answer<'a, ()>;

    /// A container; in a box, because the engine says a great deal about it.
    fn container<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Box<ContainerInspectResponse>>>;

    /// The containers that run, or all of them.
    fn containers(&self, all: bool) -> Answer<'_, Vec<ContainerSummary>>;

    /// Makes a container and does not start it.
    fn create<'a>(&'a self, name: &'a str, body: Box<ContainerCreateBody>) -> Answer<'a, Created>;

    /// Starts a container; one that runs is no error.
    fn start<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;

    /// Stops a container, killing it after `grace` (its own stop timeout when `None`).
    fn stop<'a>(&'a self, name: &'a str, grace: Option<Duration>) -> Answer<'a, ()>;

    /// Stops and starts a container.
    fn restart<'a>(&'a self, name: &'a str, grace: Option<Duration>) -> Answer<'a, ()>;

    /// Sends a signal to a container's first process.
    fn signal<'a>(&'a self, name: &'a str, signal: &'a str) -> Answer<'a, ()>;

    /// Lets a paused container go on.
    fn unpause<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;

    /// Gives a container another name.
    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> Answer<'a, ()>;

    /// Removes a container with its anonymous volumes, killing it first.
    fn remove<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;

    /// The last lines that a container wrote.
    fn logs<'a>(&'a self, name: &'a str, lines: usize) -> Answer<'a, String>;
}

/// A request to pull an image.
pub struct Pull<'a> {
    /// Which image.
    pub reference: &'a ImageReference,
    /// For which platform, when not for the engine's own.
    pub platform: Option<Platform>,
    /// How long the engine may report no progress before the pull is given up.
    pub patience: Duration,
    /// Is told of each report of progress.
    pub progress: &'a (dyn Fn(&PullProgress) + Send + Sync),
}

/// One report of progress while an image is pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// The layer it is about; `None` when it is about the whole image.
    pub layer: Option<String>,
    /// The engine's words, such as `Downloading`.
    pub status: String,
    /// Bytes done and bytes in all, where the engine counts.
    pub bytes: Option<(u64, u64)>,
}

/// A container that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: String,
    /// What the engine did not like or left out.
    pub warnings: Vec<String>,
}

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No state asked for an engine before, and none is configured.
    #[error("this device has no container engine configured")]
    NotConfigured,
    /// Nobody answers on the socket.
    #[error("no Docker Engine answers on `{socket}`")]
    Unreachable {
        /// The socket's path.
        socket: String,
        /// What connecting to it led to.
        #[source]
        source: Box<bollard::errors::Error>,
    },
    /// The engine's API is older than what the states need.
    #[error("the Docker Engine on `{socket}` speaks API {version}, and 1.41 is needed")]
    TooOld {
        /// The socket's path.
        socket: String,
        /// Its API version.
        version: String,
    },
    /// The engine said no.
    #[error("cannot {attempt}: {message}")]
    Refused {
        /// What was attempted.
        attempt: String,
        /// The engine's HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The engine did not come to an end in time.
    #[error("cannot {attempt}: the engine has been silent for {} s", .after.as_secs())]
    Silent {
        /// What was attempted.
        attempt: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A pull would fill the disk.
    #[error("cannot {attempt}: only {} MiB are free in `{directory}`", .free >> 20)]
    DiskFull {
        /// What was attempted.
        attempt: String,
        /// The engine's data directory.
        directory: String,
        /// Bytes that are free there.
        free: u64,
    },
    /// The answer broke off or made no sense.
    #[error("cannot {attempt}: the engine's answer is not to be understood")]
    Garbled {
        /// What was attempted.
        attempt: String,
        /// What was wrong with it.
        #[source]
        source: Box<bollard::errors::Error>,
    },
}

impl EngineError {
    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotConfigured => Some("name its socket as `docker:` in minion.yml"),
            Self::Unreachable { .. } => Some(
                "is the engine running (`systemctl status docker`), and is `docker:` in minion.yml \
                 its socket?",
            ),
            Self::TooOld { .. } => Some("upgrade the engine to Docker 20.10 or later"),
            Self::DiskFull { .. } => Some("remove what is not needed: `docker image prune -a`"),
            Self::Refused { .. } | Self::Silent { .. } | Self::Garbled { .. } => None,
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::new(in_words(&error))
    }
}

/// The error with its causes, and the hint on a line of its own.
pub(super) fn in_words(error: &EngineError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    match error.hint() {
        Some(hint) => format!("{text}\nhint: {hint}"),
        None => text,
    }
}
