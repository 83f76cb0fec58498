//! The master's side: accepts minions over TLS and carries their ZMTP to the ROUTER's unix socket.
//!
//! Whether a minion is accepted is asked of [`Admission`]; who is connected is told as
//! [`GatewayEvent`]s. What messages mean is the session's.

mod beginnings;
mod connection;
mod connections;
mod refusals;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use drover_pki::MinionId;
use drover_pki::verify::{MinionCertificate, TrustAnchors};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::warn;

use super::bridge::{End, Taken};
use super::lobby::Lobby;
use super::tls::Identity;
use crate::zmtp::FrameLimits;

pub use beginnings::Beginning;
pub use connections::{ConnectionId, CutReason};

use beginnings::Beginnings;
use connections::Connections;
use refusals::Refusals;

/// Connections that the kernel holds ready while the gateway is busy; it caps this by `somaxconn`.
const BACKLOG: u32 = 4096;

/// Events that wait to be taken before connections wait for them.
const EVENTS: usize = 1024;

/// Ids with a reason, of minions that are not admitted, that are told apart in the log.
const REFUSED_MINIONS: usize = 16_384;

/// Issuers with a fault, of certificates that are refused, that are told apart in the log.
const REFUSED_ISSUERS: usize = 64;

/// After `accept` failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Says whether an authentic minion is accepted. Asked once its handshake has proved the key.
pub trait Admission: Send + Sync + 'static {
    /// Called on the gateway's tasks, so it must not block: look it up in memory.
    ///
    /// # Errors
    /// The refusal; the connection is closed before any byte of ZMTP.
    fn admit(&self, certificate: &MinionCertificate, address: SocketAddr) -> Result<(), Refusal>;
}

/// Why the registry does not accept a minion, for the log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Limits of the gateway.
#[derive(Debug, Clone)]
pub struct GatewayLimits {
    /// Unfinished handshakes; past that the oldest goes.
    pub handshakes: usize,
    /// Unfinished handshakes from one source address (an IPv6 /64 counts as one).
    pub handshakes_per_address: usize,
    /// Handshakes that compute at once; open connections run in between.
    pub computing: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for READY after the handshake.
    pub ready: Duration,
    /// Time for the first message, which is the session's Hello, after READY.
    pub first_message: Duration,
    /// Time for a message that has begun to end.
    pub message: Duration,
    /// Time in which a peer has to take what is written to it.
    pub stall: Duration,
    /// Connections of one minion; past that its oldest goes that is not kept (see [`GatewayHandle::keep`]).
    pub connections_per_minion: usize,
    /// What one message may be.
    pub frames: FrameLimits,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            handshakes: 4096,
            handshakes_per_address: 1024,
            computing: 64,
            handshake: Duration::from_secs(10),
            ready: Duration::from_secs(5),
            first_message: Duration::from_secs(10),
            message: Duration::from_secs(120),
            stall: Duration::from_secs(30),
            connections_per_minion: 4,
            frames: FrameLimits::tunnel(),
        }
    }
}

/// What a gateway needs.
pub struct GatewayConfig {
    /// Where minions connect; port 0 for any.
    pub listen: SocketAddr,
    /// The unix socket on which the master's ROUTER listens (see [`socket::listen`](super::socket::listen)).
    pub router: PathBuf,
    /// The master's certificate and key.
    pub identity: Identity,
    /// The roots that minions' certificates lead to.
    pub anchors: TrustAnchors,
    /// Limits.
    pub limits: GatewayLimits,
}

/// What happened to a connection. `Connected` comes before its first message, `Closed` once after it.
#[derive(Debug, Clone)]
pub enum GatewayEvent {
    /// An accepted minion has opened ZMTP.
    Connected {
        /// The connection.
        connection: ConnectionId,
        /// What it showed of itself.
        certificate: Box<MinionCertificate>,
        /// Where it comes from.
        address: SocketAddr,
        /// How many of the messages to it have left ROUTER's queue.
        taken: Taken,
    },
    /// It ended. Messages that ROUTER had received by then may still follow.
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a minion's connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CloseReason {
    /// One of the two sides ended it.
    #[error("{0}")]
    Ended(End),
    /// The master cut it.
    #[error("cut: {0}")]
    Cut(CutReason),
    /// The master's ROUTER did not take it.
    #[error("the master's own socket cannot be reached: {0}")]
    Router(String),
}

/// Why a gateway cannot start.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The address cannot be had.
    #[error("cannot listen for minions on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A gateway that has its address and does not yet accept.
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
}

/// Controls a gateway. Dropping it does not stop the gateway.
#[derive(Clone)]
pub struct GatewayHandle {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// What all connections of a gateway share.
struct Shared {
    limits: GatewayLimits,
    router: PathBuf,
    admission: Arc<dyn Admission>,
    identity: RwLock<Identity>,
    anchors: RwLock<Arc<TrustAnchors>>,
    turns: Semaphore,
    waiting: Mutex<Waiting>,
    connections: Mutex<Connections>,
    refused_minions: Mutex<Refusals>,
    refused_issuers: Mutex<Refusals>,
    beginnings: Beginnings,
    numbers: AtomicU64,
    stop: watch::Sender<bool>,
}

struct Waiting {
    lobby: Lobby,
    tasks: HashMap<u64, AbortHandle>,
}

impl Gateway {
    /// Takes the address.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn bind(
        config: GatewayConfig,
        admission: Arc<dyn Admission>,
    ) -> Result<Self, GatewayError> {
        let GatewayConfig { listen, router, identity, anchors, limits } = config;
        let failed = |source| GatewayError::Listen { address: listen, source };
        let listener = listen_on(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let lobby = Lobby::new(limits.handshakes, limits.handshakes_per_address);
        let shared = Arc::new(Shared {
            turns: Semaphore::new(limits.computing),
            limits,
            router,
            admission,
            identity: RwLock::new(identity),
            anchors: RwLock::new(Arc::new(anchors)),
            waiting: Mutex::new(Waiting { lobby, tasks: HashMap::new() }),
            connections: Mutex::default(),
            refused_minions: Mutex::new(Refusals::new(REFUSED_MINIONS)),
            refused_issuers: Mutex::new(Refusals::new(REFUSED_ISSUERS)),
            beginnings: Beginnings::default(),
            numbers: AtomicU64::new(1),
            stop,
        });
        Ok(Self { listener, address, shared, stop: stopped })
    }

    /// Begins to accept minions.
    ///
    /// Nobody's bytes wait for the events but those of the connection that an event is about. The
    /// channel ends after [`GatewayHandle::shutdown`], once the last connection has ended.
    #[must_use]
    pub fn start(self) -> (GatewayHandle, mpsc::Receiver<GatewayEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let Self { listener, address, shared, stop } = self;
        tokio::spawn(accept(Arc::clone(&shared), listener, stop, events));
        (GatewayHandle { shared, address }, receiver)
    }
}

impl GatewayHandle {
    /// Where the gateway listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections of a minion at once; returns how many there were.
    pub fn cut_minion(&self, minion: &MinionId, reason: CutReason) -> usize {
        self.shared.connections().cut_minion(minion, reason)
    }

    /// Ends one connection; false if it has ended already.
    pub fn cut(&self, connection: &ConnectionId, reason: CutReason) -> bool {
        self.shared.connections().cut(connection.number, reason)
    }

    /// Newer connections of its minion do not push this one out any more: from now on that is for the caller to do. What
    /// anybody opens who has the minion's birth certificate, or had it once, ends no session by being many.
    pub fn keep(&self, connection: &ConnectionId) {
        self.shared.connections().keep(connection.number);
    }

    /// From now on, new connections are shown this certificate.
    pub fn set_identity(&self, identity: Identity) {
        *self.shared.identity.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// From now on, new connections are judged by these roots.
    pub fn set_anchors(&self, anchors: TrustAnchors) {
        *self.shared.anchors.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(anchors);
    }

    /// How many handshakes are unfinished.
    #[must_use]
    pub fn unfinished_handshakes(&self) -> usize {
        self.shared.waiting().lobby.len()
    }

    /// How many connections began so, since the gateway was made.
    #[must_use]
    pub fn beginnings(&self, beginning: Beginning) -> u64 {
        self.shared.beginnings.of(beginning)
    }

    /// How many authentic connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections().len()
    }

    /// Stops listening and ends all connections.
    pub fn shutdown(&self) {
        self.shared.stop.send_replace(true);
    }
}

impl Shared {
    fn begin(
        self: &Arc<Self>,
        tcp: TcpStream,
        address: SocketAddr,
        events: mpsc::Sender<GatewayEvent>,
    ) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        // The task cannot leave the lobby before it is in it: that takes this lock too.
        let mut waiting = self.waiting();
        let task = connection::serve(Arc::clone(self), number, tcp, address, events);
        let task = tokio::spawn(task).abort_handle();
        let displaced = waiting.lobby.handle_arrival(number, address.ip());
        if let Some(task) = displaced.and_then(|number| waiting.tasks.remove(&number)) {
            task.abort();
            self.beginnings.count(Beginning::Displaced);
        }
        waiting.tasks.insert(number, task);
    }

    /// False if the connection has been displaced: it must end at once.
    fn leave_lobby(&self, number: u64) -> bool {
        let mut waiting = self.waiting();
        waiting.tasks.remove(&number);
        waiting.lobby.handle_departure(number)
    }

    async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("the semaphore is never closed")
    }

    fn identity(&self) -> Identity {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn anchors(&self) -> Arc<TrustAnchors> {
        Arc::clone(&self.anchors.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted master gets its port back while old connections linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
    events: mpsc::Sender<GatewayEvent>,
) {
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, address)) => shared.begin(tcp, address, events.clone()),
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // Those in the lobby first: who is in it cannot become a connection behind our back.
    let waiting = std::mem::take(&mut shared.waiting().tasks);
    for task in waiting.into_values() {
        task.abort();
    }
    shared.connections().cut_all(CutReason::Shutdown);
}
