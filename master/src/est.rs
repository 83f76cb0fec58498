//! Enrolment over Secure Transport (RFC 7030) for devices that speak it, and the revocation lists for
//! whoever asks: HTTP over TLS 1.3, on an address of its own, off unless the configuration names one.
//!
//! A device shows its birth certificate or its operational one, and gets an operational one for the
//! key of its request. Names are never taken from the request. What is issued goes through
//! `operational`, as over a session.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use drover_pki::{
    host::Host,
    verify::{MinionCertificate, TrustAnchors},
};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;

use crate::{crl::CrlHandle, operational::Operational, registry::Registry};

mod places;
mod routes;
mod task;
mod tls;

pub use task::EstTask;

/// What strangers may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstLimits {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address (an IPv6 /64 counts as one).
    pub connections_per_address: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for a request's header.
    pub header: Duration,
    /// Time for a whole connection, whatever is asked on it.
    pub connection: Duration,
}

impl Default for EstLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_address: 64,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            connection: Duration::from_secs(60),
        }
    }
}

/// Where EST is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EstConfig {
    /// The address; port 0 for any.
    pub listen: SocketAddr,
    /// The names and addresses that its certificate has; there is at least one.
    pub names: Vec<Host>,
    /// What strangers may take.
    pub limits: EstLimits,
}

/// What EST needs of the master.
pub struct EstParts {
    /// Where.
    pub config: EstConfig,
    /// The roots that devices' certificates lead to.
    pub anchors: TrustAnchors,
    /// Who may enrol.
    pub registry: Registry,
    /// Issues, and has the fleet CA.
    pub operational: Operational,
    /// The revocation lists.
    pub crl: CrlHandle,
}

/// Changes what a running EST goes by. Clones share it.
#[derive(Clone)]
pub struct EstHandle {
    shared: Arc<Shared>,
    listen: SocketAddr,
}

/// What every connection reads.
struct Shared {
    registry: Registry,
    operational: Operational,
    crl: CrlHandle,
    trust: RwLock<Arc<Trust>>,
}

/// Roots, and the certificates by which they vouch for one another while one replaces another.
#[derive(Debug)]
struct Trust {
    anchors: TrustAnchors,
    cross: Vec<CertificateDer<'static>>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
struct Peer {
    address: SocketAddr,
    /// The device, where it showed a certificate.
    device: Option<Arc<MinionCertificate>>,
}

/// Why EST is not served.
#[derive(Debug, thiserror::Error)]
#[error("listen for EST on {listen}")]
pub struct EstError {
    listen: SocketAddr,
    #[source]
    source: io::Error,
}

impl EstTask {
    /// Opens the address. It is served once the task runs, and once there is a fleet CA that
    /// certifies it.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(parts: EstParts) -> Result<(EstHandle, Self), EstError> {
        let EstParts { config, anchors, registry, operational, crl } = parts;
        let failed = |source| EstError { listen: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let listen = listener.local_addr().map_err(failed)?;
        let trust = RwLock::new(Arc::new(Trust { anchors, cross: Vec::new() }));
        let shared = Arc::new(Shared { registry, operational, crl, trust });
        let task = Self::new(listener, config, shared.clone());
        Ok((EstHandle { shared, listen }, task))
    }
}

impl EstHandle {
    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.listen
    }

    /// From now on devices are judged by these roots. `cross` is sent along, so that who knows one of
    /// them finds the others.
    pub fn set_trust(&self, anchors: TrustAnchors, cross: Vec<CertificateDer<'static>>) {
        let trust = Arc::new(Trust { anchors, cross });
        *self.shared.trust.write().unwrap_or_else(PoisonError::into_inner) = trust;
    }
}

impl Shared {
    fn trust(&self) -> Arc<Trust> {
        self.trust.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
