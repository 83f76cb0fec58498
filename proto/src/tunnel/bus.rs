//! Local buses: ZeroMQ sockets on this machine for other people's programs, behind the frame guard.
//!
//! The socket that programs see is ours; what passes the guard goes on to the `zeromq` crate's
//! socket beside it. A program that misbehaves loses its own connection and nothing else.

mod lane;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use zeromq::{PubSocket, PullSocket, Socket, SocketRecv, SocketSend, ZmqError, ZmqMessage};

use super::link::{OpeningError, open_local, read_ready, write_opening};
use super::socket::{self, SocketError};
use crate::zmtp::{Opening, Ready, SocketType};

/// The directory beside a bus's socket that holds the crate's own.
const INNER: &str = "zmq";

/// After `accept` failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits of a local bus.
#[derive(Debug, Clone, Copy)]
pub struct BusLimits {
    /// Programs that are connected at once; more are turned away.
    pub programs: usize,
    /// Time for a program to open ZMTP.
    pub opening: Duration,
    /// Bytes that wait for a slow subscriber; past that, whole messages are dropped.
    pub backlog: usize,
    /// Subscriptions of one connection, cancelled ones included.
    pub subscriptions: usize,
    /// Messages a second that are taken from one program; the rest are dropped and counted.
    pub messages_per_second: Option<u32>,
}

impl Default for BusLimits {
    fn default() -> Self {
        Self {
            programs: 64,
            opening: Duration::from_secs(5),
            backlog: 1 << 20,
            subscriptions: 1024,
            messages_per_second: None,
        }
    }
}

/// Why a bus cannot be had.
#[derive(Debug, Error)]
pub enum BusError {
    /// Its socket cannot be made.
    #[error("cannot make the bus `{path}`")]
    Socket {
        /// The bus.
        path: PathBuf,
        /// Why.
        source: SocketError,
    },
    /// The `zeromq` crate does not take the socket.
    #[error("cannot start the bus `{path}`: {reason}")]
    Start {
        /// The bus.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Sends events to whoever subscribes: PUB.
pub struct Publisher {
    socket: PubSocket,
    _front: Front,
}

impl Publisher {
    /// Binds `path`, whose directory is made private.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub async fn bind(path: &Path, limits: BusLimits) -> Result<Self, BusError> {
        let (mut socket, inner) = (PubSocket::new(), inner_path(path));
        let front = Front::bind(path, &inner, &mut socket, Direction::Publish, limits).await?;
        Ok(Self { socket, _front: front })
    }

    /// Sends an event to those who subscribed to a prefix of its tag. Never waits for any of them.
    ///
    /// # Errors
    /// If the crate's socket has failed.
    pub async fn publish(&mut self, tag: &str, event: Bytes) -> Result<(), ZmqError> {
        let mut message = ZmqMessage::from(Bytes::copy_from_slice(tag.as_bytes()));
        message.push_back(event);
        self.socket.send(message).await
    }
}

/// Takes events from local programs: PULL.
pub struct Intake {
    socket: PullSocket,
    front: Front,
}

impl Intake {
    /// Binds `path`, whose directory is made private.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub async fn bind(path: &Path, limits: BusLimits) -> Result<Self, BusError> {
        let (mut socket, inner) = (PullSocket::new(), inner_path(path));
        let front = Front::bind(path, &inner, &mut socket, Direction::Pull, limits).await?;
        Ok(Self { socket, front })
    }

    /// The next event: its tag, and its data. Messages of another shape are logged and left out.
    pub async fn recv(&mut self) -> (Bytes, Bytes) {
        loop {
            match self.socket.recv().await.map(ZmqMessage::into_vec) {
                Ok(frames) => match <[Bytes; 2]>::try_from(frames) {
                    Ok([tag, data]) => return (tag, data),
                    Err(frames) => warn!(frames = frames.len(), "local event without two frames"),
                },
                // A program that ended in the middle of a message.
                Err(error) => debug!(%error, "local program lost"),
            }
        }
    }

    /// How many messages were dropped because their program sent too many, or one that breaks the
    /// rules: that one's connection is closed, and what follows on it is lost uncounted.
    #[must_use]
    pub fn refused(&self) -> u64 {
        *self.front.refused.borrow()
    }

    /// The same, for whoever waits until it grows.
    #[must_use]
    pub fn watch_refused(&self) -> watch::Receiver<u64> {
        self.front.refused.subscribe()
    }
}

/// The visible socket with the task that serves it.
struct Front {
    path: PathBuf,
    inner: PathBuf,
    task: AbortHandle,
    refused: watch::Sender<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Publish,
    Pull,
}

impl Front {
    async fn bind(
        path: &Path,
        inner: &Path,
        socket: &mut impl Socket,
        direction: Direction,
        limits: BusLimits,
    ) -> Result<Self, BusError> {
        let unusable = |source| BusError::Socket { path: path.to_owned(), source };
        let failed = |error: &dyn std::fmt::Display| BusError::Start {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let behind = socket::listen(inner).map_err(unusable)?;
        socket.bind_listener(behind).await.map_err(|error| failed(&error))?;
        let listener = socket::listen(path).map_err(unusable)?;
        let listener = UnixListener::from_std(listener).map_err(|error| failed(&error))?;
        let refused = watch::Sender::new(0);
        let bus = Bus { inner: inner.into(), direction, limits, refused: refused.clone() };
        let task = tokio::spawn(bus.accept(listener)).abort_handle();
        Ok(Self { path: path.to_owned(), inner: inner.to_owned(), task, refused })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
        for path in [&self.path, &self.inner] {
            if let Err(error) = std::fs::remove_file(path) {
                debug!(path = %path.display(), %error, "socket not removed");
            }
        }
    }
}

#[derive(Clone)]
struct Bus {
    inner: Arc<Path>,
    direction: Direction,
    limits: BusLimits,
    refused: watch::Sender<u64>,
}

impl Bus {
    async fn accept(self, listener: UnixListener) {
        // Dropped with this task, and the programs' tasks with it.
        let mut programs = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                Some(_) = programs.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(_) if programs.len() >= self.limits.programs => {
                    warn!(most = self.limits.programs, "too many local programs");
                }
                Ok((program, _)) => {
                    programs.spawn(self.clone().serve(program));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a local program");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self, program: UnixStream) {
        let opened = self.open(program).await;
        match opened {
            Ok(opened) => {
                let end = lane::carry(opened, self.direction, self.limits, &self.refused).await;
                match end {
                    lane::LaneEnd::Violation(_) | lane::LaneEnd::TooManySubscriptions(_) => {
                        warn!(reason = %end, "local program cut off");
                    }
                    lane::LaneEnd::Closed | lane::LaneEnd::Io(_) => {
                        debug!(reason = %end, "local program disconnected");
                    }
                }
            }
            Err(error) => warn!(%error, "local program turned away"),
        }
    }

    async fn open(&self, mut program: UnixStream) -> Result<lane::Opened, OpeningError> {
        let within = self.limits.opening;
        let (ours, theirs): (SocketType, &[SocketType]) = match self.direction {
            Direction::Publish => (SocketType::Pub, &[SocketType::Sub, SocketType::Xsub]),
            Direction::Pull => (SocketType::Pull, &[SocketType::Push]),
        };
        let opening = async {
            write_opening(&mut program, &Ready::new(ours)).await?;
            let mut reader = BufReader::new(&mut program);
            let ready = read_ready(&mut reader, &mut Opening::new(), theirs).await?;
            Ok::<_, OpeningError>((ready.socket_type, reader.buffer().to_vec()))
        };
        let opened = timeout(within, opening).await;
        let (theirs, from_program) = opened.map_err(|_| OpeningError::TimedOut(within))??;
        let mut inner = UnixStream::connect(&self.inner).await?;
        // The program's identity is left out: the crate makes one that is its own.
        let to_program = open_local(&mut inner, &Ready::new(theirs), ours, within).await?;
        Ok(lane::Opened { program, inner, from_program, to_program })
    }
}

/// `events.ipc` is served from `zmq/events.ipc` beside it.
fn inner_path(path: &Path) -> PathBuf {
    let directory = path.parent().unwrap_or(Path::new("."));
    directory.join(INNER).join(path.file_name().unwrap_or_default())
}
