//! A fleet with its authorities, a master that listens, and peers that do as they like.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use drover_pki::profile::{Profile, Validity};
use drover_pki::verify::{MinionCertificate, TrustAnchors};
use drover_pki::{Authority, HardwareSerial, MinionId, PrivateKey};
use drover_proto::tunnel::{
    Admission, ConnectionId, Gateway, GatewayConfig, GatewayEvent, GatewayHandle, GatewayLimits,
    Identity, Refusal, Tunnel, TunnelConfig, TunnelError, TunnelLimits, connect, socket,
};
use drover_proto::zmtp::{Ready, SocketType, greeting};
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeromq::{
    RouterRecvHalf, RouterSendHalf, RouterSocket, Socket, SocketRecv, SocketSend, ZmqResult,
};

/// Nothing here takes longer, or it never happens.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(BOUND, work).await.expect("it happens within the bound")
}

pub(crate) struct Fleet {
    pub(crate) root: Authority,
    pub(crate) factory: Authority,
    pub(crate) fleet_ca: Authority,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let name = "acme".parse().unwrap();
        let root = Authority::create_root(&name, Timestamp::now()).unwrap();
        let station = "line-1".parse().unwrap();
        Self {
            factory: root.create_factory_ca(&station, Timestamp::now()).unwrap(),
            fleet_ca: root.create_fleet_ca(&name, Timestamp::now()).unwrap(),
            root,
        }
    }

    pub(crate) fn anchors(&self) -> TrustAnchors {
        TrustAnchors::new(vec![self.root.der().clone()]).unwrap()
    }

    pub(crate) fn master(&self) -> Identity {
        identity(&self.fleet_ca, &Profile::master(&"north".parse().unwrap()))
    }

    pub(crate) fn minion(&self, id: &str) -> Identity {
        identity(&self.factory, &minion_profile(id))
    }
}

pub(crate) fn minion_profile(id: &str) -> Profile {
    let serial: HardwareSerial = "SN-1".parse().unwrap();
    Profile::idevid(&id.parse().unwrap(), &serial)
}

pub(crate) fn expired() -> Validity {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    Validity::Between(at("2020-01-01T00:00:00Z"), at("2021-01-01T00:00:00Z"))
}

pub(crate) fn chain(
    authority: &Authority,
    profile: &Profile,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = PrivateKey::generate().unwrap();
    let leaf = authority.issue(profile, &key, Timestamp::now()).unwrap();
    (vec![leaf, authority.der().clone()], key.to_rustls())
}

pub(crate) fn identity(authority: &Authority, profile: &Profile) -> Identity {
    let (chain, key) = chain(authority, profile);
    Identity::from_der(chain, key).unwrap()
}

/// A registry that accepts everybody but the minions named.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) refused: Mutex<Vec<MinionId>>,
}

impl Admission for Registry {
    fn admit(&self, certificate: &MinionCertificate, _: SocketAddr) -> Result<(), Refusal> {
        if self.refused.lock().unwrap().contains(&certificate.id) {
            return Err(Refusal("revoked".to_owned()));
        }
        Ok(())
    }
}

pub(crate) struct Master {
    pub(crate) handle: GatewayHandle,
    pub(crate) events: mpsc::Receiver<GatewayEvent>,
    pub(crate) sender: RouterSendHalf,
    pub(crate) receiver: RouterRecvHalf,
    pub(crate) registry: Arc<Registry>,
    _directory: TempDir,
}

impl Master {
    pub(crate) async fn start(fleet: &Fleet) -> Self {
        Self::start_with(fleet, fleet.master(), GatewayLimits::default()).await
    }

    pub(crate) async fn start_with(
        fleet: &Fleet,
        identity: Identity,
        limits: GatewayLimits,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let router_path = directory.path().join("router.ipc");
        let mut router = RouterSocket::new();
        router.bind_listener(socket::listen(&router_path).unwrap()).await.unwrap();
        let config = GatewayConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            router: router_path,
            identity,
            anchors: fleet.anchors(),
            limits,
        };
        let registry = Arc::new(Registry::default());
        let gateway = Gateway::bind(config, Arc::clone(&registry) as Arc<dyn Admission>).unwrap();
        let (handle, events) = gateway.start();
        let (sender, receiver) = router.split();
        Self { handle, events, sender, receiver, registry, _directory: directory }
    }

    pub(crate) fn config(&self, fleet: &Fleet, identity: Identity) -> TunnelConfig {
        TunnelConfig {
            masters: vec![self.handle.local_addr().to_string()],
            identity,
            anchors: Arc::new(fleet.anchors()),
            clock_floor: None,
            limits: TunnelLimits::default(),
        }
    }

    pub(crate) async fn minion(&self, fleet: &Fleet, id: &str) -> Tunnel {
        self.try_minion(fleet, fleet.minion(id)).await.unwrap()
    }

    pub(crate) async fn try_minion(
        &self,
        fleet: &Fleet,
        identity: Identity,
    ) -> Result<Tunnel, TunnelError> {
        soon(connect(&self.config(fleet, identity))).await
    }

    pub(crate) async fn recv(&mut self) -> (ConnectionId, Bytes) {
        let mut frames = soon(self.receiver.recv()).await.unwrap().into_vec();
        assert_eq!(frames.len(), 2);
        let message = frames.pop().unwrap();
        (ConnectionId::from_identity(&frames[0]).unwrap(), message)
    }

    pub(crate) async fn send(&mut self, to: &ConnectionId, message: Bytes) {
        self.try_send(to, message).await.unwrap();
    }

    /// Fails once the connection has ended.
    pub(crate) async fn try_send(&mut self, to: &ConnectionId, message: Bytes) -> ZmqResult<()> {
        let mut frames = zeromq::ZmqMessage::from(to.to_string().into_bytes());
        frames.push_back(message);
        soon(self.sender.send(frames)).await
    }

    pub(crate) async fn event(&mut self) -> GatewayEvent {
        soon(self.events.recv()).await.unwrap()
    }

    pub(crate) async fn connected(&mut self) -> ConnectionId {
        match self.event().await {
            GatewayEvent::Connected { connection, certificate, .. } => {
                assert_eq!(connection.minion, certificate.id);
                connection
            }
            event @ GatewayEvent::Closed { .. } => panic!("not connected: {event:?}"),
        }
    }

    /// The reason of the next event, which must be an end.
    pub(crate) async fn closed(&mut self) -> String {
        match self.event().await {
            GatewayEvent::Closed { reason, .. } => reason.to_string(),
            event @ GatewayEvent::Connected { .. } => panic!("not closed: {event:?}"),
        }
    }

    /// A minion goes through its whole round, so the master is well.
    pub(crate) async fn still_serves(&mut self, fleet: &Fleet) {
        let mut honest = self.minion(fleet, "honest").await;
        honest.send(Bytes::from_static(b"ping")).await.unwrap();
        let connection = loop {
            if let GatewayEvent::Connected { connection, .. } = self.event().await
                && connection.minion.as_str() == "honest"
            {
                break connection;
            }
        };
        // What others said before their end may still be in the queue.
        while self.recv().await != (connection.clone(), Bytes::from_static(b"ping")) {}
        self.send(&connection, Bytes::from_static(b"pong")).await;
        assert_eq!(soon(honest.recv()).await.unwrap(), "pong");
    }
}

/// TLS as any client can have it: it takes every master, and shows what it is given.
pub(crate) async fn raw(
    address: SocketAddr,
    shown: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let config = match shown {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
        None => config.with_no_client_auth(),
    };
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("anybody").unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
}

/// A peer with a good certificate that has opened ZMTP and writes what it likes from then on.
pub(crate) async fn raw_minion(
    master: &Master,
    fleet: &Fleet,
    id: &str,
    identity: &[u8],
) -> TlsStream<TcpStream> {
    let shown = chain(&fleet.factory, &minion_profile(id));
    let mut tls = raw(master.handle.local_addr(), Some(shown)).await.unwrap();
    let ready = Ready { socket_type: SocketType::Dealer, identity: identity.to_vec() };
    let opening = [greeting().as_slice(), &ready.to_frame()].concat();
    tls.write_all(&opening).await.unwrap();
    let mut answer = vec![0; 64 + Ready::new(SocketType::Router).to_frame().len()];
    soon(tls.read_exact(&mut answer)).await.unwrap();
    tls
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// TLS with a certificate and a key that do not belong together.
pub(crate) async fn raw_unpaired(
    address: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> TlsStream<TcpStream> {
    let provider = default_provider();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = Arc::new(rustls::sign::CertifiedKey::new(chain, key));
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("anybody").unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.unwrap()
}
