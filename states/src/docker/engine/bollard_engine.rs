//! The container engine by its API over a unix socket. Bytes only: what to do is decided elsewhere.

use std::path::Path;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, CreateImageInfo, ImageInspect,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions,
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RenameContainerOptionsBuilder,
    RestartContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use futures_util::StreamExt;
use futures_util::future::{FutureExt, TryFutureExt};
use tokio::sync::Mutex;

use super::{Answer, ContainerEngine, Created, EngineError, Pull, PullProgress};
use crate::docker::reference::ImageReference;

/// How long the engine may take over a request that does no work to speak of. A device's engine on a
/// slow card, busy with another pull, needs more than one would think.
const ANSWERS: Duration = Duration::from_secs(60);
/// What a container with a grace of its own may take to stop; and bollard's bound for every request,
/// which ours come before.
const AT_LONGEST: Duration = Duration::from_secs(3600);
/// Space that a pull leaves free for the system and for the agent's own journal.
const RESERVE: u64 = 64 << 20;
/// The oldest API that has all that the states use.
const OLDEST: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };

/// A Docker Engine (or one that speaks its API) behind a unix socket.
pub struct BollardEngine {
    socket: String,
    client: Mutex<Option<Docker>>,
}

impl BollardEngine {
    /// The engine on `address`, such as `unix:///var/run/docker.sock`. Nothing is connected until
    /// something is asked, so an engine that starts later or restarts is no trouble.
    #[must_use]
    pub fn new(address: &str) -> Self {
        let socket = address.strip_prefix("unix://").unwrap_or(address).to_owned();
        Self { socket, client: Mutex::new(None) }
    }

    /// A client that speaks the newest API that both sides know.
    async fn client(&self) -> Result<Docker, EngineError> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let unreachable = |source| EngineError::Unreachable {
            socket: self.socket.clone(),
            source: Box::new(source),
        };
        let connected =
            Docker::connect_with_unix(&self.socket, AT_LONGEST.as_secs(), API_DEFAULT_VERSION)
                .map_err(unreachable)?;
        let negotiated = within("ask for the API version", ANSWERS, connected.negotiate_version());
        let client = negotiated.await?.map_err(unreachable)?;
        if client.client_version() < OLDEST {
            return Err(EngineError::TooOld {
                socket: self.socket.clone(),
                version: client.client_version().to_string(),
            });
        }
        Ok(kept.insert(client).clone())
    }

    /// Asks, and puts the engine's no in the words of the attempt.
    async fn ask<T, F>(
        &self,
        attempt: String,
        at_most: Duration,
        request: impl FnOnce(Docker) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let client = self.client().await?;
        match within(&attempt, at_most, request(client)).await? {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.error(attempt, error).await),
        }
    }

    async fn error(&self, attempt: String, error: Error) -> EngineError {
        if let Error::DockerStreamError { error } = error {
            return EngineError::Refused { attempt, status: 500, message: error };
        }
        if let Error::DockerResponseServerError { status_code, message } = error {
            // An engine that was upgraded in the meantime may no longer speak the API agreed on.
            if status_code == 400 && message.contains("client version") {
                *self.client.lock().await = None;
            }
            return EngineError::Refused { attempt, status: status_code, message };
        }
        if matches!(error, Error::JsonDataError { .. } | Error::JsonSerdeError { .. }) {
            return EngineError::Garbled { attempt, source: Box::new(error) };
        }
        *self.client.lock().await = None;
        EngineError::Unreachable { socket: self.socket.clone(), source: Box::new(error) }
    }

    /// Waits until a container that is being removed has gone.
    async fn gone(&self, name: &str) -> Result<(), EngineError> {
        let attempt = format!("see container `{name}` removed");
        let gone = async {
            while self.container(name).await?.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        };
        within(&attempt, ANSWERS, gone).await?
    }

    /// Refuses a pull that leaves the device without space; where the space cannot be read, pulls.
    async fn check_space(&self, attempt: &str) -> Result<(), EngineError> {
        let info = self
            .ask(attempt.to_owned(), ANSWERS, |docker| async move { docker.info().await })
            .await?;
        let Some(directory) = info.docker_root_dir.filter(|path| Path::new(path).is_dir()) else {
            return Ok(());
        };
        let Ok(disk) = rustix::fs::statvfs(&directory) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < RESERVE {
            return Err(EngineError::DiskFull { attempt: attempt.to_owned(), directory, free });
        }
        Ok(())
    }
}

async fn within<T>(
    attempt: &str,
    at_most: Duration,
    request: impl Future<Output = T>,
) -> Result<T, EngineError> {
    tokio::time::timeout(at_most, request)
        .await
        .map_err(|_| EngineError::Silent { attempt: attempt.to_owned(), after: at_most })
}

/// `None` where the engine says that there is no such thing.
fn found<T>(answer: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match answer {
        Ok(thing) => Ok(Some(thing)),
        Err(EngineError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn seconds(grace: Option<Duration>) -> Option<i32> {
    grace.map(|grace| i32::try_from(grace.as_secs()).unwrap_or(i32::MAX))
}

fn progress(report: CreateImageInfo) -> PullProgress {
    let bytes = report.progress_detail.and_then(|detail| {
        Some((u64::try_from(detail.current?).ok()?, u64::try_from(detail.total?).ok()?))
    });
    PullProgress { layer: report.id, status: report.status.unwrap_or_default(), bytes }
}

impl ContainerEngine for BollardEngine {
    fn image<'a>(&'a self, reference: &'a ImageReference) -> Answer<'a, Option<ImageInspect>> {
        async move {
            let name = reference.to_string();
            let attempt = format!("inspect image `{name}`");
            found(
                self.ask(
                    attempt,
                    ANSWERS,
                    |docker| async move { docker.inspect_image(&name).await },
                )
                .await,
            )
        }
        .boxed()
    }

    fn registry_digest<'a>(&'a self, reference: &'a ImageReference) -> Answer<'a, String> {
        async move {
            let name = reference.to_string();
            let attempt = format!("ask the registry for `{name}`");
            let answer = self
                .ask(attempt.clone(), ANSWERS, |docker| async move {
                    docker.inspect_registry_image(&name, None).await
                })
                .await?;
            answer.descriptor.digest.ok_or_else(|| EngineError::Refused {
                attempt,
                status: 500,
                message: "the registry names no digest".to_owned(),
            })
        }
        .boxed()
    }

    fn pull<'a>(&'a self, pull: Pull<'a>) -> Answer<'a, ()> {
        async move {
            let attempt = format!("pull image `{}`", pull.reference);
            self.check_space(&attempt).await?;
            let mut options = CreateImageOptionsBuilder::new()
                .from_image(pull.reference.repository())
                .tag(pull.reference.version());
            let platform = pull.platform.map(|platform| platform.to_string());
            if let Some(platform) = &platform {
                options = options.platform(platform);
            }
            let mut reports = self.client().await?.create_image(Some(options.build()), None, None);
            while let Some(report) = within(&attempt, pull.patience, reports.next()).await? {
                match report {
                    Ok(report) => (pull.progress)(&progress(report)),
                    Err(error) => return Err(self.error(attempt, error).await),
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn remove_image<'a>(&'a self, reference: &'a ImageReference, force: bool) -> Answer<'a, ()> {
        async move {
            let name = reference.to_string();
            let options = RemoveImageOptionsBuilder::new().force(force).build();
            let answer = self.ask(format!("remove image `{name}`"), ANSWERS, |docker| async move {
                docker.remove_image(&name, Some(options), None).await
            });
            found(answer.await).map(drop)
        }
        .boxed()
    }

    fn container<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Box<ContainerInspectResponse>>> {
        async move {
            let answer = self.ask(format!("inspect container `{name}`"), ANSWERS, |docker| {
                async move { docker.inspect_container(name, None::<InspectContainerOptions>).await }
                    .map_ok(Box::new)
                    .boxed()
            });
            found(answer.await)
        }
        .boxed()
    }

    fn containers(&self, all: bool) -> Answer<'_, Vec<ContainerSummary>> {
        async move {
            let options = ListContainersOptionsBuilder::new().all(all).build();
            self.ask("list containers".to_owned(), ANSWERS, |docker| async move {
                docker.list_containers(Some(options)).await
            })
            .await
        }
        .boxed()
    }

    fn create<'a>(&'a self, name: &'a str, body: Box<ContainerCreateBody>) -> Answer<'a, Created> {
        async move {
            let options = CreateContainerOptionsBuilder::new().name(name).build();
            let answer = self
                .ask(format!("create container `{name}`"), ANSWERS, |docker| async move {
                    docker.create_container(Some(options), *body).await
                })
                .await?;
            Ok(Created { id: answer.id, warnings: answer.warnings })
        }
        .boxed()
    }

    fn start<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        async move {
            self.ask(format!("start container `{name}`"), ANSWERS, |docker| async move {
                docker.start_container(name, None::<StartContainerOptions>).await
            })
            .await
        }
        .boxed()
    }

    fn stop<'a>(&'a self, name: &'a str, grace: Option<Duration>) -> Answer<'a, ()> {
        async move {
            let mut options = StopContainerOptionsBuilder::new();
            if let Some(grace) = seconds(grace) {
                options = options.t(grace);
            }
            let at_most = grace.map_or(AT_LONGEST, |grace| grace + ANSWERS);
            let answer =
                self.ask(format!("stop container `{name}`"), at_most, |docker| async move {
                    docker.stop_container(name, Some(options.build())).await
                });
            found(answer.await).map(drop)
        }
        .boxed()
    }

    fn restart<'a>(&'a self, name: &'a str, grace: Option<Duration>) -> Answer<'a, ()> {
        async move {
            let mut options = RestartContainerOptionsBuilder::new();
            if let Some(grace) = seconds(grace) {
                options = options.t(grace);
            }
            let at_most = grace.map_or(AT_LONGEST, |grace| grace + ANSWERS);
            self.ask(format!("restart container `{name}`"), at_most, |docker| async move {
                docker.restart_container(name, Some(options.build())).await
            })
            .await
        }
        .boxed()
    }

    fn signal<'a>(&'a self, name: &'a str, signal: &'a str) -> Answer<'a, ()> {
        async move {
            let options = KillContainerOptionsBuilder::new().signal(signal).build();
            self.ask(format!("send {signal} to container `{name}`"), ANSWERS, |docker| async move {
                docker.kill_container(name, Some(options)).await
            })
            .await
        }
        .boxed()
    }

    fn unpause<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        async move {
            self.ask(format!("unpause container `{name}`"), ANSWERS, |docker| async move {
                docker.unpause_container(name).await
            })
            .await
        }
        .boxed()
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> Answer<'a, ()> {
        async move {
            let options = RenameContainerOptionsBuilder::new().name(to).build();
            self.ask(format!("rename container `{from}` to `{to}`"), ANSWERS, |docker| async move {
                docker.rename_container(from, options).await
            })
            .await
        }
        .boxed()
    }

    fn remove<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        async move {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let answer =
                self.ask(format!("remove container `{name}`"), ANSWERS, |docker| async move {
                    docker.remove_container(name, Some(options)).await
                });
            match answer.await {
                // Asked for by an agent that died, or by somebody's hand.
                Err(EngineError::Refused { status: 409, message, .. })
                    if message.contains("already in progress") =>
                {
                    self.gone(name).await
                }
                answer => found(answer).map(drop),
            }
        }
        .boxed()
    }

    fn logs<'a>(&'a self, name: &'a str, lines: usize) -> Answer<'a, String> {
        async move {
            let options = LogsOptionsBuilder::new()
                .stdout(true)
                .stderr(true)
                .tail(&lines.to_string())
                .build();
            self.ask(format!("read the log of container `{name}`"), ANSWERS, |docker| async move {
                let mut pieces = docker.logs(name, Some(options));
                let mut text = String::new();
                while let Some(piece) = pieces.next().await {
                    text.push_str(&piece?.to_string());
                }
                Ok(text)
            })
            .await
        }
        .boxed()
    }
}
