//! The minion's side: connects to a master and gives messages both ways.
//!
//! When to try again is the minion's to decide; every call resolves names anew.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use drover_pki::verify::{MasterCertificate, TrustAnchors};
use rustls::AlertDescription;
use rustls_pki_types::UnixTime;
use thiserror::Error;
use tokio::net::{TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};
use tracing::{debug, warn};
use zeromq::{
    DealerRecvHalf, DealerSendHalf, DealerSocket, Socket, SocketRecv, SocketSend, ZmqMessage,
};

use super::bridge::{Bridge, End, Patience};
use super::link::{OpeningError, open_local, read_greeting, read_ready, write_opening};
use super::socket::{self, SocketError};
use super::tcp;
use super::tls::{Identity, MasterVerifier, any_master, client_config};
use crate::zmtp::{FrameLimits, Opening, Ready, SocketType};

/// Where a master listens unless told otherwise.
pub const DEFAULT_PORT: u16 = 4510;

/// Limits of the minion's side.
#[derive(Debug, Clone)]
pub struct TunnelLimits {
    /// Time to resolve a name; and then for TCP to connect.
    pub connect: Duration,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time until the master has sent its greeting, and again until READY.
    pub ready: Duration,
    /// Time for a message that has begun to end.
    pub message: Duration,
    /// Time in which the master has to take what is written to it.
    pub stall: Duration,
    /// What one message may be.
    pub frames: FrameLimits,
}

impl Default for TunnelLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            ready: Duration::from_secs(10),
            message: Duration::from_secs(120),
            stall: Duration::from_secs(30),
            frames: FrameLimits::tunnel(),
        }
    }
}

/// What a tunnel needs.
#[derive(Clone)]
pub struct TunnelConfig {
    /// `host:port`, `host` or an address of each master, tried in turn.
    pub masters: Vec<String>,
    /// The minion's certificate and key.
    pub identity: Identity,
    /// The roots that the master's certificate leads to.
    pub anchors: Arc<TrustAnchors>,
    /// The latest time that certificates have proved so far; `None` once the clock is known to be right.
    pub clock_floor: Option<UnixTime>,
    /// A directory for the unix socket between the tunnel and its DEALER. It is made private.
    pub run_dir: PathBuf,
    /// Limits.
    pub limits: TunnelLimits,
}

/// Why there is no connection: the last master's reason. The others' are in the log.
#[derive(Debug, Error)]
#[error("cannot connect to the master `{master}`")]
pub struct TunnelError {
    /// The master's address as configured; empty where none is.
    pub master: String,
    /// What went wrong.
    #[source]
    pub cause: TunnelFailure,
}

/// What went wrong on the way to a master.
#[derive(Debug, Error)]
pub enum TunnelFailure {
    /// The configuration names no master.
    #[error("no master is configured")]
    NoMaster,
    /// The name cannot be resolved.
    #[error("its name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// TCP does not connect.
    #[error("TCP does not connect")]
    Connect(#[source] io::Error),
    /// A step took too long.
    #[error("{step} took longer than {within:?}")]
    TimedOut {
        /// The step.
        step: &'static str,
        /// What it may take.
        within: Duration,
    },
    /// This side does not accept the master's certificate.
    #[error("the master's certificate is not accepted here")]
    MasterRefused(#[source] rustls::Error),
    /// TLS failed in another way.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The master does not accept this side's certificate.
    #[error("the master rejected this minion's certificate with the TLS alert `{}`", alert_name(*.0))]
    Rejected(AlertDescription),
    /// The certificate is good, and the master's registry does not accept the minion.
    #[error(
        "the master closed the connection after the handshake: it does not accept this minion yet, or no longer"
    )]
    NotAccepted,
    /// The master does not open ZMTP as it must.
    #[error("the connection was not opened")]
    Opening(#[source] OpeningError),
    /// The unix socket on this side.
    #[error("the socket between tunnel and DEALER cannot be made")]
    Socket(#[source] SocketError),
    /// The `zeromq` crate's DEALER on this side.
    #[error("the DEALER on this side does not connect: {0}")]
    Dealer(String),
}

impl TunnelFailure {
    /// What to do about it, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoMaster => Some("set `master:` in minion.yml"),
            Self::MasterRefused(_) => Some(
                "compare this device's `root.crt` with the master's; is it this fleet's master?",
            ),
            Self::Rejected(AlertDescription::UnknownCA) => {
                Some("this device belongs to another fleet: enrol it for this one")
            }
            Self::Rejected(AlertDescription::CertificateExpired) => {
                Some("the certificate has expired: renew it, or compare the master's clock")
            }
            Self::Rejected(_) => Some("check the certificate with `drover-enrol verify`"),
            Self::NotAccepted => {
                Some("on the master: `drover key show ID`, `drover key accept ID`")
            }
            Self::Resolve(_)
            | Self::Connect(_)
            | Self::TimedOut { .. }
            | Self::Handshake(_)
            | Self::Opening(_)
            | Self::Socket(_)
            | Self::Dealer(_) => None,
        }
    }
}

/// The connection has ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the connection to the master ended")]
pub struct TunnelClosed(#[source] pub End);

/// An open connection to a master. It closes when both halves are dropped, after what was sent.
pub struct Tunnel {
    sender: TunnelSender,
    receiver: TunnelReceiver,
    master: MasterCertificate,
    address: SocketAddr,
}

/// Sends messages to the master.
pub struct TunnelSender {
    dealer: DealerSendHalf,
    closed: watch::Receiver<Option<End>>,
}

/// Receives messages from the master.
pub struct TunnelReceiver {
    dealer: DealerRecvHalf,
    closed: watch::Receiver<Option<End>>,
}

/// Connects to the first master that takes this minion.
///
/// Returns once the master has accepted it and opened ZMTP; the session's welcome is still to come.
///
/// # Errors
/// If none does.
pub async fn connect(config: &TunnelConfig) -> Result<Tunnel, TunnelError> {
    let mut last = TunnelError { master: String::new(), cause: TunnelFailure::NoMaster };
    for master in &config.masters {
        if !last.master.is_empty() {
            warn!(master = last.master, error = %last.cause, "trying the next master");
        }
        match Box::pin(connect_to(config, master)).await {
            Ok(tunnel) => return Ok(tunnel),
            Err(cause) => last = TunnelError { master: master.clone(), cause },
        }
    }
    Err(last)
}

impl Tunnel {
    /// The master's certificate. Its `latest_not_before` raises the clock floor.
    #[must_use]
    pub fn master(&self) -> &MasterCertificate {
        &self.master
    }

    /// The address that answered.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As [`TunnelSender::send`].
    pub async fn send(&mut self, message: Bytes) -> Result<(), TunnelClosed> {
        self.sender.send(message).await
    }

    /// Receives a message.
    ///
    /// # Errors
    /// As [`TunnelReceiver::recv`].
    pub async fn recv(&mut self) -> Result<Bytes, TunnelClosed> {
        self.receiver.recv().await
    }

    /// For a task that sends and another that receives.
    #[must_use]
    pub fn split(self) -> (TunnelSender, TunnelReceiver) {
        (self.sender, self.receiver)
    }
}

impl TunnelSender {
    /// Queues a message. It is on its way, not received: the session acknowledges.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn send(&mut self, message: Bytes) -> Result<(), TunnelClosed> {
        if let Some(end) = self.closed.borrow().clone() {
            return Err(TunnelClosed(end));
        }
        match self.dealer.send(ZmqMessage::from(message)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(ended(&mut self.closed).await),
        }
    }
}

impl TunnelReceiver {
    /// Waits for a message. Safe to cancel.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn recv(&mut self) -> Result<Bytes, TunnelClosed> {
        let received = tokio::select! {
            biased;
            received = self.dealer.recv() => received,
            end = ended(&mut self.closed) => return Err(end),
        };
        match received {
            // invariant: the guard passes messages of one frame alone.
            Ok(message) => Ok(message.into_vec().pop().unwrap_or_default()),
            Err(_) => Err(ended(&mut self.closed).await),
        }
    }
}

/// The DEALER never says why it lost its peer; the bridge does, and it ends whenever the DEALER fails.
async fn ended(closed: &mut watch::Receiver<Option<End>>) -> TunnelClosed {
    let end = closed.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
    TunnelClosed(end.unwrap_or(End::Local))
}

async fn connect_to(config: &TunnelConfig, master: &str) -> Result<Tunnel, TunnelFailure> {
    let limits = &config.limits;
    let lookup = lookup_host(with_port(master));
    let addresses = within("resolving its name", limits.connect, lookup).await?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses.map_err(TunnelFailure::Resolve)? {
        match within("TCP", limits.connect, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return open(config, tcp, address).await,
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
        debug!(%address, error = %last, "no connection");
    }
    Err(TunnelFailure::Connect(last))
}

/// `lookup_host` wants a port.
fn with_port(master: &str) -> String {
    if let Ok(address) = master.trim_matches(['[', ']']).parse::<IpAddr>() {
        SocketAddr::new(address, DEFAULT_PORT).to_string()
    } else if master.contains(':') {
        master.to_owned()
    } else {
        format!("{master}:{DEFAULT_PORT}")
    }
}

async fn open(
    config: &TunnelConfig,
    tcp: TcpStream,
    address: SocketAddr,
) -> Result<Tunnel, TunnelFailure> {
    let limits = &config.limits;
    tcp::tune(&tcp).map_err(TunnelFailure::Connect)?;
    let verifier = Arc::new(MasterVerifier::new(Arc::clone(&config.anchors), config.clock_floor));
    let tls = client_config(&config.identity, Arc::clone(&verifier));
    let handshake = TlsConnector::from(Arc::new(tls)).connect(any_master(), tcp);
    let handshake = within("the TLS handshake", limits.handshake, handshake).await?;
    let mut tls = TlsStream::Client(handshake.map_err(handshake_failed)?);

    // In TLS 1.3 our handshake ends before the master has judged our certificate. We stay silent
    // until it greets, so that the alert of a rejection is not lost to a reset.
    let mut opening = Opening::new();
    let greeted = read_greeting(&mut tls, &mut opening);
    within("the master's greeting", limits.ready, greeted).await?.map_err(not_greeted)?;
    let ready = async {
        write_opening(&mut tls, &Ready::new(SocketType::Dealer)).await?;
        read_ready(&mut tls, &mut opening, &[SocketType::Router]).await
    };
    within("READY", limits.ready, ready).await?.map_err(TunnelFailure::Opening)?;

    let (dealer, local) = open_dealer(&config.run_dir, limits.ready).await?;
    let patience = Patience { first_message: None, message: limits.message, stall: limits.stall };
    let bridge = Bridge::new(tls, local, limits.frames, patience);
    let (closing, closed) = watch::channel(None);
    tokio::spawn(carry(bridge, closing));

    let master = verifier.certificate().cloned().ok_or_else(|| {
        TunnelFailure::Handshake(io::Error::other("the master showed no certificate"))
    })?;
    let (sender, receiver) = dealer.split();
    Ok(Tunnel {
        sender: TunnelSender { dealer: sender, closed: closed.clone() },
        receiver: TunnelReceiver { dealer: receiver, closed },
        master,
        address,
    })
}

/// Runs until either side closes. The DEALER's end closes when its halves are dropped.
async fn carry(mut bridge: Bridge, closing: watch::Sender<Option<End>>) {
    let end = (&mut bridge).await;
    debug!(reason = %end, "tunnel closed");
    closing.send_replace(Some(end));
    bridge.close().await;
}

/// A DEALER, and the other end of its unix socket, opened.
async fn open_dealer(
    run_dir: &Path,
    limit: Duration,
) -> Result<(DealerSocket, UnixStream), TunnelFailure> {
    static NUMBERS: AtomicU32 = AtomicU32::new(0);
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    // Of one length, so that a path that fits today fits after a thousand reconnects.
    let path = run_dir.join(format!("tunnel-{number:08x}"));
    let dealer_failed = |error: &dyn std::fmt::Display| TunnelFailure::Dealer(error.to_string());

    let listener = socket::listen(&path).map_err(TunnelFailure::Socket)?;
    let _path = RemovedOnDrop(&path);
    let listener = UnixListener::from_std(listener).map_err(|error| dealer_failed(&error))?;
    let endpoint = format!("ipc://{}", path.display());
    let mut dealer = DealerSocket::new();
    let accepted = async {
        let (mut local, _) = listener.accept().await?;
        let ours = Ready::new(SocketType::Router);
        let early = open_local(&mut local, &ours, SocketType::Dealer, limit).await?;
        debug_assert!(early.is_empty(), "nobody holds the DEALER yet");
        Ok::<_, OpeningError>(local)
    };
    let both = async { tokio::join!(dealer.connect(&endpoint), accepted) };
    let (connected, accepted) = within("the DEALER", limit, both).await?;
    connected.map_err(|error| dealer_failed(&error))?;
    let local = accepted.map_err(TunnelFailure::Opening)?;
    Ok((dealer, local))
}

struct RemovedOnDrop<'a>(&'a Path);

impl Drop for RemovedOnDrop<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(self.0) {
            debug!(path = %self.0.display(), %error, "socket not removed");
        }
    }
}

async fn within<T>(
    step: &'static str,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, TunnelFailure> {
    timeout(limit, work).await.map_err(|_| TunnelFailure::TimedOut { step, within: limit })
}

fn handshake_failed(error: io::Error) -> TunnelFailure {
    match tls_error(&error) {
        Some(rustls::Error::AlertReceived(alert)) => TunnelFailure::Rejected(*alert),
        Some(refused @ rustls::Error::InvalidCertificate(_)) => {
            TunnelFailure::MasterRefused(refused.clone())
        }
        Some(_) | None => TunnelFailure::Handshake(error),
    }
}

fn not_greeted(error: OpeningError) -> TunnelFailure {
    match error {
        OpeningError::Closed => TunnelFailure::NotAccepted,
        OpeningError::Io(error) => match tls_error(&error) {
            Some(rustls::Error::AlertReceived(alert)) => TunnelFailure::Rejected(*alert),
            Some(_) | None => TunnelFailure::Opening(OpeningError::Io(error)),
        },
        error @ (OpeningError::Violation(_) | OpeningError::TimedOut(_)) => {
            TunnelFailure::Opening(error)
        }
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// RFC 8446's name of an alert, such as `unknown_ca`.
fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    let debug = format!("{alert:?}");
    let mut after_lower = false;
    for letter in debug.chars() {
        if letter.is_ascii_uppercase() && after_lower {
            name.push('_');
        }
        after_lower = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_without_a_port_has_the_usual_one() {
        let cases = [
            ("master.example", "master.example:4510"),
            ("master.example:9", "master.example:9"),
            ("192.0.2.1", "192.0.2.1:4510"),
            ("192.0.2.1:9", "192.0.2.1:9"),
            ("2001:db8::1", "[2001:db8::1]:4510"),
            ("[2001:db8::1]", "[2001:db8::1]:4510"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
        ];
        for (given, wanted) in cases {
            assert_eq!(with_port(given), wanted);
        }
    }

    #[test]
    fn alerts_have_their_names_in_the_rfc() {
        assert_eq!(alert_name(AlertDescription::UnknownCA), "unknown_ca");
        assert_eq!(alert_name(AlertDescription::CertificateExpired), "certificate_expired");
    }
}
