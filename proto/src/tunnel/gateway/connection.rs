//! One connection to the gateway, from the accepted socket to its end.

use std::hash::Hash;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use drover_pki::verify::MinionCertificate;
use futures_util::poll;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::{LazyConfigAcceptor, TlsStream};
use tracing::{debug, info, warn};

use super::beginnings::Beginning;
use super::refusals::{Refusals, Stranger, Told};
use super::{CloseReason, ConnectionId, CutReason, GatewayEvent, Refusal, Shared};
use crate::tunnel::bridge::{Bridge, End, FAREWELL, Patience, Taken};
use crate::tunnel::link::{OpeningError, open_local, read_ready, write_opening};
use crate::tunnel::tcp;
use crate::tunnel::tls::{MinionVerifier, server_config};
use crate::zmtp::{Opening, Ready, SocketType};

type Tls = TlsStream<TcpStream>;

/// While the master's own socket has its queue of connections full.
const ROUTER_BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Serves one peer. Ends by itself, by `cut`, or by being aborted while it is in the lobby.
pub(super) async fn serve(
    shared: Arc<Shared>,
    number: u64,
    tcp: TcpStream,
    address: SocketAddr,
    events: mpsc::Sender<GatewayEvent>,
) {
    // Each phase is boxed, so that an idle connection keeps only what it needs while it is idle.
    let verifier = Arc::new(MinionVerifier::new(shared.anchors()));
    let handshake = handshake(&shared, tcp, Arc::clone(&verifier));
    let shaken = Box::pin(timeout(shared.limits.handshake, handshake)).await;
    tell_refused_certificate(&shared, &verifier, address);
    let is_refused = verifier.refused().is_some();
    drop(verifier);
    if !shared.leave_lobby(number) {
        return;
    }
    let count = |beginning| shared.beginnings.count(beginning);
    let (tls, certificate) = match shaken {
        Ok(Ok(shaken)) => shaken,
        Ok(Err(error)) => {
            count(if is_refused { Beginning::Certificate } else { Beginning::Tls });
            let error = error.to_string();
            return debug!(%address, error = %Stranger(&error), "TLS handshake failed");
        }
        Err(_) => {
            count(Beginning::TimedOut);
            return debug!(%address, "TLS handshake took too long");
        }
    };
    let connection = ConnectionId { minion: certificate.id.clone(), number };
    // Registered before admission is asked: a revocation in between finds the connection.
    let (cut, registered) = Registered::new(&shared, &connection);
    if let Err(refusal) = shared.admission.admit(&certificate, address) {
        count(Beginning::NotAccepted);
        tell_refusal(&shared, &connection, address, &refusal);
        return farewell(tls).await;
    }
    count(Beginning::Admitted);
    let peer = Peer { shared: &shared, connection, certificate, address, events: &events };
    peer.serve(tls, cut).await;
    drop(registered);
}

/// A refused minion tries again within seconds, for ever: one line for each and its reason, then one an hour.
fn tell_refusal(
    shared: &Shared,
    connection: &ConnectionId,
    address: SocketAddr,
    refusal: &Refusal,
) {
    match told(&shared.refused_minions, (connection.minion.as_str(), &refusal.0)) {
        Told::Cause(times) => info!(%connection, %address, %refusal, times, "minion not admitted"),
        Told::Others(times) => {
            info!(times, "minions not admitted, more than are told apart: see the level debug");
        }
        Told::Nothing => debug!(%connection, %address, %refusal, "minion not admitted"),
    }
}

/// A certificate of no authority of ours, or of one whose key somebody else may have, is for an operator to know.
fn tell_refused_certificate(shared: &Shared, verifier: &MinionVerifier, address: SocketAddr) {
    let Some((issuer, error)) = verifier.refused() else { return };
    let (issuer, hint) = (Stranger(issuer), error.hint());
    let (reason, fault) = (error.to_string(), error.fault());
    let reason = Stranger(&reason);
    match told(&shared.refused_issuers, (issuer.0, format!("{fault:?}"))) {
        Told::Cause(times) => {
            warn!(%issuer, %reason, hint, %address, times, "certificate refused");
        }
        Told::Others(times) => {
            warn!(%address, times, "certificates of more issuers refused than are told apart");
        }
        Told::Nothing => debug!(%issuer, %reason, %address, "certificate refused"),
    }
}

fn told(refusals: &Mutex<Refusals>, cause: impl Hash) -> Told {
    refusals.lock().unwrap_or_else(PoisonError::into_inner).handle(cause, Instant::now())
}

/// TLS, with the computing parts taken in turns.
async fn handshake(
    shared: &Shared,
    tcp: TcpStream,
    verifier: Arc<MinionVerifier>,
) -> io::Result<(Tls, MinionCertificate)> {
    tcp::tune(&tcp)?;
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
    let config = Arc::new(server_config(&shared.identity(), Arc::clone(&verifier)));

    let mut turn = shared.turn().await;
    let mut accept = start.into_stream(config);
    let tls = loop {
        let outcome = poll!(&mut accept);
        // Whoever has work on an open connection runs before the next turns begin.
        tokio::task::yield_now().await;
        // A turn is held while computing, never while waiting for the peer.
        drop(turn);
        if let Poll::Ready(outcome) = outcome {
            break outcome?;
        }
        if let Some(tcp) = accept.get_ref() {
            tcp.readable().await?;
        }
        turn = shared.turn().await;
    };
    let certificate = verifier.certificate().cloned();
    let certificate = certificate.ok_or_else(|| io::Error::other("no client certificate"))?;
    Ok((TlsStream::Server(tls), certificate))
}

/// A peer whose key is proved and whom the registry accepts.
struct Peer<'a> {
    shared: &'a Shared,
    connection: ConnectionId,
    certificate: MinionCertificate,
    address: SocketAddr,
    events: &'a mpsc::Sender<GatewayEvent>,
}

impl Peer<'_> {
    async fn serve(self, mut tls: Tls, mut cut: oneshot::Receiver<CutReason>) {
        let within = self.shared.limits.ready;
        let ready = Box::pin(timeout(within, ready(&mut tls)));
        let ready = tokio::select! {
            biased;
            _ = &mut cut => return,
            ready = ready => ready.unwrap_or(Err(OpeningError::TimedOut(within))),
        };
        let Self { shared, connection, certificate, address, events } = self;
        if let Err(error) = ready {
            warn!(%connection, %address, %error, "connection closed before READY");
            return farewell(tls).await;
        }
        // Who listens knows of the connection before its first message can reach ROUTER.
        let certificate = Box::new(certificate);
        let taken = Taken::default();
        let connected = GatewayEvent::Connected {
            connection: connection.clone(),
            certificate,
            address,
            taken: taken.clone(),
        };
        if events.send(connected).await.is_err() {
            return;
        }
        let reason = carry(shared, &connection, tls, cut, taken).await;
        debug!(%connection, %reason, "connection closed");
        // The only one who waits here is this connection, and it holds no socket any more.
        let _ = events.send(GatewayEvent::Closed { connection, reason }).await;
    }
}

/// Greets the peer and reads its READY. What it calls itself is not used.
async fn ready(tls: &mut Tls) -> Result<(), OpeningError> {
    write_opening(tls, &Ready::new(SocketType::Router)).await?;
    read_ready(tls, &mut Opening::new(), &[SocketType::Dealer]).await?;
    Ok(())
}

async fn carry(
    shared: &Shared,
    connection: &ConnectionId,
    tls: Tls,
    mut cut: oneshot::Receiver<CutReason>,
    taken: Taken,
) -> CloseReason {
    let opened = tokio::select! {
        biased;
        reason = &mut cut => return CloseReason::Cut(reason.unwrap_or(CutReason::Shutdown)),
        opened = Box::pin(open_router(shared, connection)) => opened,
    };
    let (local, early) = match opened {
        Ok(opened) => opened,
        Err(error) => return CloseReason::Router(error.to_string()),
    };
    let limits = &shared.limits;
    let patience = Patience {
        first_message: Some(limits.first_message),
        message: limits.message,
        stall: limits.stall,
    };
    let mut bridge = Bridge::new(tls, local, limits.frames, patience, taken);
    if let Err(end) = bridge.send_early(&early).await {
        return CloseReason::Ended(end);
    }
    drop(early);
    let reason = tokio::select! {
        biased;
        // A dropped sender is a cut too: the table forgets a connection only to end it.
        reason = &mut cut => CloseReason::Cut(reason.unwrap_or(CutReason::Shutdown)),
        end = &mut bridge => CloseReason::Ended(end),
    };
    if !matches!(reason, CloseReason::Ended(End::Stalled(_) | End::Peer | End::Failed(_))) {
        Box::pin(bridge.close()).await;
    }
    reason
}

/// Connects to the master's ROUTER under the name that the certificate gives.
async fn open_router(
    shared: &Shared,
    connection: &ConnectionId,
) -> Result<(UnixStream, Vec<u8>), OpeningError> {
    let within = shared.limits.ready;
    let dial = dial(&shared.router);
    let dialled = timeout(within, dial).await;
    let mut local = dialled.map_err(|_| OpeningError::TimedOut(within))??;
    let identity = connection.to_string().into_bytes();
    let ours = Ready { socket_type: SocketType::Dealer, identity };
    let early = open_local(&mut local, &ours, SocketType::Router, within).await?;
    Ok((local, early))
}

/// A unix socket whose queue is full refuses at once, where TCP would wait.
async fn dial(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(ROUTER_BUSY_PAUSE).await;
            }
            dialled => return dialled,
        }
    }
}

async fn farewell(mut tls: Tls) {
    // The peer is not wanted; whether it hears the farewell does not matter.
    let _ = timeout(FAREWELL, tls.shutdown()).await;
}

/// An entry in the table of connections, for as long as this lives.
struct Registered<'a> {
    shared: &'a Shared,
    number: u64,
}

impl<'a> Registered<'a> {
    fn new(shared: &'a Shared, connection: &ConnectionId) -> (oneshot::Receiver<CutReason>, Self) {
        let mut connections = shared.connections();
        let cut = connections.insert(connection, shared.limits.connections_per_minion);
        // Shutdown sets the flag before it cuts those in the table: nobody slips in behind it.
        if *shared.stop.borrow() {
            connections.cut(connection.number, CutReason::Shutdown);
        }
        drop(connections);
        (cut, Self { shared, number: connection.number })
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.shared.connections().remove(self.number);
    }
}
