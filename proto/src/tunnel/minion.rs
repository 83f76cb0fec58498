//! The minion's side: connects to a master and gives messages both ways.
//!
//! When to try again is the minion's to decide; every call resolves names anew.

mod dealer;
mod failure;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drover_pki::clock::Floor;
use drover_pki::verify::{MasterCertificate, TrustAnchors};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};
use tracing::{debug, warn};
use zeromq::{DealerRecvHalf, DealerSendHalf, SocketRecv, SocketSend, ZmqMessage};

use super::bridge::{Bridge, End, Patience, Taken};
use super::link::{read_greeting, read_ready, write_opening};
use super::tcp;
use super::tls::{Identity, MasterVerifier, any_master, client_config};
use crate::zmtp::{FrameLimits, Opening, Ready, SocketType};

pub use failure::{TunnelError, TunnelFailure};

use dealer::open_dealer;
use failure::{handshake_failed, not_greeted};

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
    pub clock_floor: Option<Floor>,
    /// Limits.
    pub limits: TunnelLimits,
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
    shown: Vec<CertificateDer<'static>>,
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
    let mut last =
        TunnelError { master: String::new(), cause: TunnelFailure::NoMaster, refused: false };
    for master in &config.masters {
        if !last.master.is_empty() {
            warn!(master = last.master, error = %last.cause, "trying the next master");
        }
        match Box::pin(connect_to(config, master)).await {
            Ok(tunnel) => return Ok(tunnel),
            Err(cause) => {
                let refused = last.refused || cause.is_refusal();
                last = TunnelError { master: master.clone(), cause, refused };
            }
        }
    }
    Err(last)
}

impl Tunnel {
    /// The master's certificate. It raises the clock's floor.
    #[must_use]
    pub fn master(&self) -> &MasterCertificate {
        &self.master
    }

    /// What the master showed: its certificate, then its issuer and whatever leads from there to a root.
    #[must_use]
    pub fn shown(&self) -> &[CertificateDer<'static>] {
        &self.shown
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

    let (dealer, local) = open_dealer(limits.ready).await?;
    let patience = Patience { first_message: None, message: limits.message, stall: limits.stall };
    let bridge = Bridge::new(tls, local, limits.frames, patience, Taken::default());
    let (closing, closed) = watch::channel(None);
    tokio::spawn(carry(bridge, closing));

    let (master, shown) = verifier.shown().cloned().ok_or_else(|| {
        TunnelFailure::Handshake(io::Error::other("the master showed no certificate"))
    })?;
    let (sender, receiver) = dealer.split();
    Ok(Tunnel {
        sender: TunnelSender { dealer: sender, closed: closed.clone() },
        receiver: TunnelReceiver { dealer: receiver, closed },
        master,
        shown,
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

async fn within<T>(
    step: &'static str,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, TunnelFailure> {
    timeout(limit, work).await.map_err(|_| TunnelFailure::TimedOut { step, within: limit })
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
}
