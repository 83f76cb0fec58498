//! EST's shell: accepts connections within the limits, carries each through TLS and HTTP until its
//! time is over, and keeps the server's certificate fresh.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls_pki_types::UnixTime;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    EstConfig, Peer, Shared,
    places::{Place, Places},
    routes,
    tls::{Shown, TlsError},
};
use crate::clock::Now;

/// How often it is looked whether the server's certificate is due, or a fleet CA has come.
const LOOK: Duration = Duration::from_secs(5);
/// After `accept` failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a connection may buffer: a header, and a part of a request.
const BUFFER: usize = 16 << 10;

/// Serves EST.
pub struct EstTask {
    listener: TcpListener,
    config: EstConfig,
    shared: Arc<Shared>,
    router: Router,
    shown: Option<Shown>,
    /// The server's certificate, where one is being made: a token may take its time, and nobody waits for it.
    making: JoinSet<Result<Shown, TlsError>>,
    is_told: bool,
}

impl EstTask {
    pub(super) fn new(listener: TcpListener, config: EstConfig, shared: Arc<Shared>) -> Self {
        let router = routes::router(shared.clone());
        Self {
            listener,
            config,
            shared,
            router,
            shown: None,
            making: JoinSet::new(),
            is_told: false,
        }
    }

    /// Until it is dropped. Its connections end with it.
    ///
    /// # Errors
    /// Never: what goes wrong is a connection's, or is tried again.
    pub async fn run(mut self) -> Result<(), Infallible> {
        let limits = self.config.limits;
        let places = Places::new(limits.connections, limits.connections_per_address);
        let mut connections = JoinSet::new();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => self.renew(),
                Some(made) = self.making.join_next() => {
                    self.take_up(made.expect("making a certificate does not panic"));
                }
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((tcp, address)) => {
                        // Without a place or a certificate it is closed at once.
                        if let (Some(place), Some(connection)) =
                            (places.take(address.ip()), self.connection(address))
                        {
                            connections.spawn(connection.serve(tcp, place));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "accept for EST");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    /// Begins to make the server's certificate anew where it is due.
    fn renew(&mut self) {
        if !self.making.is_empty() {
            return;
        }
        let Some(authority) = self.shared.operational.authority() else {
            self.shown = None;
            self.tell("there is no fleet CA's key that could be used");
            return;
        };
        let (trust, now) = (self.shared.trust(), Now::read().wall);
        if self.shown.as_ref().is_some_and(|shown| !shown.is_due(&authority, &trust, now)) {
            return;
        }
        let (hosts, shared) = (self.config.names.clone(), self.shared.clone());
        self.making.spawn_blocking(move || Shown::make(&authority, hosts, &shared, now));
    }

    fn take_up(&mut self, made: Result<Shown, TlsError>) {
        match made {
            Ok(shown) => {
                self.shown = Some(shown);
                self.is_told = false;
            }
            Err(error) => {
                let source = std::error::Error::source(&error);
                let cause = source.map(|source| format!(": {source}")).unwrap_or_default();
                self.tell(&format!("{error}{cause}"));
            }
        }
    }

    /// Once, until it works again.
    fn tell(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            let standing = if self.shown.is_some() { "is not renewed" } else { "is not served" };
            tracing::error!(reason, "EST {standing}, and tried again every few seconds");
        }
    }

    fn connection(&self, address: SocketAddr) -> Option<Connection> {
        let shown = self.shown.as_ref()?;
        Some(Connection {
            acceptor: TlsAcceptor::from(shown.config.clone()),
            shared: self.shared.clone(),
            router: self.router.clone(),
            config: self.config.clone(),
            address,
        })
    }
}

struct Connection {
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
    router: Router,
    config: EstConfig,
    address: SocketAddr,
}

impl Connection {
    /// What strangers do wrong is logged for who looks closely, and not for everybody.
    async fn serve(self, tcp: TcpStream, _place: Place) {
        let (address, limits) = (self.address, self.config.limits);
        match timeout(limits.connection, self.run(tcp)).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => tracing::debug!(%address, reason, "an EST connection failed"),
            Err(_) => tracing::debug!(%address, "an EST connection took too long"),
        }
    }

    async fn run(self, tcp: TcpStream) -> Result<(), String> {
        let limits = self.config.limits;
        let tls = timeout(limits.handshake, self.acceptor.accept(tcp))
            .await
            .map_err(|_| "the handshake took too long".to_owned())?
            .map_err(|error| error.to_string())?;
        // The handshake proved the key of this very chain, and verified it once already.
        let device = match tls.get_ref().1.peer_certificates() {
            Some([leaf, intermediates @ ..]) => {
                let verified = self.shared.verify(leaf, intermediates, now());
                Some(Arc::new(verified.map_err(|error| error.to_string())?))
            }
            Some([]) | None => None,
        };
        let peer = Peer { address: self.address, device };
        let service = TowerToHyperService::new(self.router.layer(Extension(peer)));
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(tls), service)
            .await
            .map_err(|error| error.to_string())
    }
}

fn now() -> UnixTime {
    let since = Duration::try_from(Now::read().wall.as_duration()).unwrap_or_default();
    UnixTime::since_unix_epoch(since)
}
