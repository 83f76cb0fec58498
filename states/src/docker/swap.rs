//! Putting a new container in the place of an old one, so that at every moment one of them can be had
//! back: the new one is made beside the old one, the old one is stopped and renamed aside, and it is
//! removed only after the new one has come up. An agent that dies in between leaves names behind that
//! tell the next one how far it came.

use std::time::Duration;

use bollard::models::ContainerInspectResponse;

use super::engine::{ContainerEngine, Created, EngineError, in_words};
use super::settle::{Settling, Verdict};
use super::spec::ContainerSpec;

/// Lines of its log that a container leaves behind when it does not come up.
const LOG_LINES: usize = 10;

/// How often a container that a dead agent asked for is removed, and how long the engine has each time to finish it.
const LEFTOVER_TRIES: u32 = 10;
const LEFTOVER_PAUSE: Duration = Duration::from_millis(200);

/// The name of a container that is made and not yet in its place.
pub(super) fn next_name(name: &str) -> String {
    format!("{name}.drover-next")
}

/// The name of a container that was replaced and is kept until its successor is known to be up.
pub(super) fn previous_name(name: &str) -> String {
    format!("{name}.drover-previous")
}

/// What stands under a container's name and beside it.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    pub(super) current: Option<Box<ContainerInspectResponse>>,
    pub(super) previous: Option<Box<ContainerInspectResponse>>,
    pub(super) next: Option<Box<ContainerInspectResponse>>,
}

impl Standing {
    pub(super) async fn observe(
        engine: &dyn ContainerEngine,
        name: &str,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            current: engine.container(name).await?,
            previous: engine.container(&previous_name(name)).await?,
            next: engine.container(&next_name(name)).await?,
        })
    }
}

/// Why a container does not run as it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum SwapError {
    /// The engine did not do it, and nothing has changed.
    #[error("{}", in_words(.0))]
    Engine(EngineError),
    /// It was started and did not come up.
    #[error("Container '{name}' did not come up: {reason}{}", log_text(.log))]
    Down { name: String, reason: String, log: String },
    /// The new one did not come up, and the old one was put back.
    #[error(
        "The new container '{name}' did not come up: {reason}. The one before was put back{}",
        log_text(.log)
    )]
    PutBack { name: String, reason: String, log: String },
    /// Neither.
    #[error(
        "The new container '{name}' did not come up: {reason}. The one before could not be put back: \
         {}\nhint: it is kept as `{}`, and the next apply puts it back{}",
        in_words(.cause), previous_name(.name), log_text(.log)
    )]
    Stuck { name: String, reason: String, log: String, cause: EngineError },
}

fn log_text(log: &str) -> String {
    match log.trim_end() {
        "" => String::new(),
        log => format!("\nThe end of the new container's log:\n{log}"),
    }
}

impl From<EngineError> for SwapError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// One container's place, and how a container is to be treated there.
pub(super) struct Place<'a> {
    pub(super) engine: &'a dyn ContainerEngine,
    pub(super) name: &'a str,
    /// Whether a container here is to run.
    pub(super) start: bool,
    /// How long it may take to stop.
    pub(super) grace: Option<Duration>,
    /// How long it must stay up.
    pub(super) settle: Duration,
}

impl Place<'_> {
    /// Puts a container made from `spec` in the place of the one that is there.
    pub(super) async fn replace(&self, spec: &ContainerSpec) -> Result<Created, SwapError> {
        let next = next_name(self.name);
        // A container that cannot even be made is known before the old one is touched.
        let created = self.make(&next, spec).await?;
        if let Err(error) = self.exchange(&next).await {
            self.restore().await?;
            return Err(error.into());
        }
        self.prove_or_put_back().await?;
        Ok(created)
    }

    /// Makes the new container. The engine may still be making one that an agent asked for before it died, and that
    /// was not there yet when this one looked: it is removed as soon as it can be.
    async fn make(&self, next: &str, spec: &ContainerSpec) -> Result<Created, EngineError> {
        for _ in 0..LEFTOVER_TRIES {
            match self.engine.create(next, spec.marked_body()).await {
                Err(EngineError::Refused { status: 409, .. }) => {
                    self.engine.remove(next).await?;
                    tokio::time::sleep(LEFTOVER_PAUSE).await;
                }
                answer => return answer,
            }
        }
        self.engine.create(next, spec.marked_body()).await
    }

    async fn exchange(&self, next: &str) -> Result<(), EngineError> {
        self.engine.stop(self.name, self.grace).await?;
        self.engine.rename(self.name, &previous_name(self.name)).await?;
        self.engine.rename(next, self.name).await
    }

    /// Removes the container before once the present one is up; puts it back if that does not happen.
    pub(super) async fn prove_or_put_back(&self) -> Result<(), SwapError> {
        let name = self.name.to_owned();
        match self.prove().await {
            Ok(()) => Ok(self.engine.remove(&previous_name(self.name)).await?),
            Err(SwapError::Down { reason, log, .. }) => Err(match self.restore().await {
                Ok(()) => SwapError::PutBack { name, reason, log },
                Err(cause) => SwapError::Stuck { name, reason, log, cause },
            }),
            Err(SwapError::Engine(cause)) => {
                let (reason, log) = ("it could not be watched".to_owned(), String::new());
                Err(SwapError::Stuck { name, reason, log, cause })
            }
            Err(other @ (SwapError::PutBack { .. } | SwapError::Stuck { .. })) => Err(other),
        }
    }

    /// Starts the container, where it is to run, and waits until it is known to be up.
    pub(super) async fn prove(&self) -> Result<(), SwapError> {
        if !self.start {
            return Ok(());
        }
        let reason = match self.engine.start(self.name).await {
            Ok(()) => match self.settled().await? {
                None => return Ok(()),
                Some(reason) => reason,
            },
            Err(EngineError::Refused { message, .. }) => message,
            Err(error) => return Err(error.into()),
        };
        // The reason is worth more than its illustration.
        let log = self.engine.logs(self.name, LOG_LINES).await.unwrap_or_default();
        Err(SwapError::Down { name: self.name.to_owned(), reason, log })
    }

    /// Waits until the container is known to be up (`None`) or down (why).
    pub(super) async fn settled(&self) -> Result<Option<String>, EngineError> {
        let mut settling = Settling::new(self.settle, tokio::time::Instant::now().into_std());
        loop {
            let container = self.engine.container(self.name).await?;
            let now = tokio::time::Instant::now().into_std();
            match settling.handle_inspection(container.as_deref(), now) {
                Verdict::Up => return Ok(None),
                Verdict::Down(reason) => return Ok(Some(reason)),
                Verdict::LookAgain(at) => tokio::time::sleep_until(at.into()).await,
            }
        }
    }

    /// Undoes a replacement from wherever it stopped: the container before is back under its name and
    /// runs, and what was to follow it is gone. Where nothing was begun, nothing is undone.
    pub(super) async fn restore(&self) -> Result<(), EngineError> {
        let previous = previous_name(self.name);
        if self.engine.container(&previous).await?.is_some() {
            self.engine.remove(self.name).await?;
            self.engine.rename(&previous, self.name).await?;
        }
        self.engine.remove(&next_name(self.name)).await?;
        if self.start {
            self.engine.start(self.name).await?;
        }
        Ok(())
    }
}
