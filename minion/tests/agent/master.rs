//! A fleet's authorities, and a master of few words behind the real gateway: it answers what it must, and sends what a
//! test says.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use drover_pki::{
    Authority, HardwareSerial, MinionId, PrivateKey, PublicKey,
    profile::Profile,
    verify::{MinionCertificate, MinionCertificateKind, TrustAnchors},
};
use drover_proto::{
    codec,
    digest::Digest,
    id::JobId,
    job::{Job, Return},
    message::{
        Acknowledged, BlobChunk, BlobRequest, Certificate, CertificateRequest, FromMaster,
        FromMinion, Heartbeat, Hello, JobAccepted, KillJob, OutboxItem, PROTOCOL, Pillar,
        RequestFailed, Retirement, Scope, Tree, TreeFile, Welcome,
    },
    tunnel::{
        Admission, Gateway, GatewayConfig, GatewayEvent, GatewayHandle, GatewayLimits, Identity,
        Refusal, socket,
    },
};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};
use zeromq::{
    RouterRecvHalf, RouterSendHalf, RouterSocket, Socket as _, SocketRecv as _, SocketSend as _,
    ZmqMessage,
};

/// Nothing here takes longer, or it never happens.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
const CHUNK: usize = 256 << 10;

pub(crate) struct Fleet {
    root: Authority,
    factory: Authority,
    fleet_ca: Arc<Authority>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let name = "acme".parse().unwrap();
        let root = Authority::create_root(&name, Timestamp::now()).unwrap();
        let station = "line-1".parse().unwrap();
        Self {
            factory: root.create_factory_ca(&station, Timestamp::now()).unwrap(),
            fleet_ca: root.create_fleet_ca(&name, Timestamp::now()).unwrap().into(),
            root,
        }
    }

    /// Makes a device's `pki` directory.
    pub(crate) fn enrol(&self, id: &str, pki: &Path) {
        let serial: HardwareSerial = "SN-1".parse().unwrap();
        let profile = Profile::idevid(&id.parse().unwrap(), &serial);
        let key = PrivateKey::generate().unwrap();
        let leaf = self.factory.issue(&profile, &key, Timestamp::now()).unwrap();
        fs::write(pki.join("idevid.crt"), pem(&leaf) + &pem(self.factory.der())).unwrap();
        fs::write(pki.join("idevid.key"), key.to_pem().as_bytes()).unwrap();
        fs::write(pki.join("root.crt"), pem(self.root.der())).unwrap();
    }

    fn master(&self) -> Identity {
        let profile = Profile::master(&"north".parse().unwrap());
        let key = PrivateKey::generate().unwrap();
        let leaf = self.fleet_ca.issue(&profile, &key, Timestamp::now()).unwrap();
        Identity::from_der(vec![leaf, self.fleet_ca.der().clone()], key.to_rustls()).unwrap()
    }
}

/// Lets everybody in, but for operational certificates when it is told so, and remembers what was shown.
#[derive(Default)]
struct Door {
    shown: Mutex<Vec<MinionCertificate>>,
    refuses_operational: AtomicBool,
}

impl Admission for Door {
    fn admit(&self, certificate: &MinionCertificate, _: SocketAddr) -> Result<(), Refusal> {
        self.shown.lock().unwrap().push(certificate.clone());
        let refused = !is_birth(certificate) && self.refuses_operational.load(Ordering::Relaxed);
        if refused { Err(Refusal("a test's door".to_owned())) } else { Ok(()) }
    }
}

fn is_birth(certificate: &MinionCertificate) -> bool {
    matches!(certificate.kind, MinionCertificateKind::IDevId { .. })
}

pub(crate) struct Master {
    pub(crate) enrolled: Map<String, Value>,
    /// Whether what it gets is acknowledged.
    pub(crate) acknowledges: bool,
    /// When the device ends.
    pub(crate) retires: Option<Timestamp>,
    /// For how long it issues operational certificates, if it does.
    pub(crate) issues: Option<Duration>,
    fleet_ca: Arc<Authority>,
    door: Arc<Door>,
    handle: GatewayHandle,
    _events: mpsc::Receiver<GatewayEvent>,
    sender: RouterSendHalf,
    receiver: RouterRecvHalf,
    peer: Bytes,
    blobs: HashMap<Digest, Vec<u8>>,
    tree: Vec<u8>,
    got: VecDeque<FromMinion>,
    _directory: TempDir,
}

impl Drop for Master {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

impl Master {
    /// A master on that port; 0 for any.
    pub(crate) async fn start(fleet: &Fleet, port: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let router_path = directory.path().join("router.ipc");
        let mut router = RouterSocket::new();
        router.bind_listener(socket::listen(&router_path).unwrap()).await.unwrap();
        let door = Arc::new(Door::default());
        let bind = || {
            let config = GatewayConfig {
                listen: SocketAddr::from(([127, 0, 0, 1], port)),
                router: router_path.clone(),
                identity: fleet.master(),
                anchors: TrustAnchors::new(vec![fleet.root.der().clone()]).unwrap(),
                limits: GatewayLimits::default(),
            };
            Gateway::bind(config, Arc::clone(&door) as Arc<dyn Admission>)
        };
        // The one before it may not have let go of the port yet.
        let free = async {
            loop {
                match bind() {
                    Ok(gateway) => return gateway,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let gateway = timeout(BOUND, free).await.expect("the port is free within the bound");
        let (handle, events) = gateway.start();
        let (sender, receiver) = router.split();
        let mut master = Self {
            enrolled: Map::new(),
            acknowledges: true,
            retires: None,
            issues: None,
            fleet_ca: Arc::clone(&fleet.fleet_ca),
            door,
            handle,
            _events: events,
            sender,
            receiver,
            peer: Bytes::new(),
            blobs: HashMap::new(),
            tree: Vec::new(),
            got: VecDeque::new(),
            _directory: directory,
        };
        master.files(&[]);
        master
    }

    pub(crate) fn port(&self) -> u16 {
        self.handle.local_addr().port()
    }

    /// What minions have shown so far: whether it was a birth certificate.
    pub(crate) fn shown(&self) -> Vec<bool> {
        self.door.shown.lock().unwrap().iter().map(is_birth).collect()
    }

    /// Takes no operational certificate from now on, or takes them again.
    pub(crate) fn refuse_operational(&self, refuses: bool) {
        self.door.refuses_operational.store(refuses, Ordering::Relaxed);
    }

    /// What `base` has.
    pub(crate) fn files(&mut self, files: &[(&str, &str)]) {
        self.blobs = files
            .iter()
            .map(|(_, text)| (Digest::of(text.as_bytes()), text.as_bytes().to_vec()))
            .collect();
        let list: Vec<_> = files
            .iter()
            .map(|(path, text)| TreeFile {
                path: (*path).to_owned(),
                digest: Digest::of(text.as_bytes()),
                size: text.len() as u64,
                mode: 0o644,
            })
            .collect();
        self.tree = codec::encode(&list).unwrap().to_vec();
        self.blobs.insert(Digest::of(&self.tree), self.tree.clone());
    }

    pub(crate) async fn job(&mut self, number: u32, fun: &str, arg: Value) {
        let (jid, fun, kwarg) = (jid(number), fun.to_owned(), Map::new());
        let arg = arg.as_array().unwrap().clone();
        self.send(FromMaster::Job(Job { jid, fun, arg, kwarg, timeout: 300 })).await;
    }

    pub(crate) async fn kill_job(&mut self, number: u32) {
        self.send(FromMaster::KillJob(KillJob { jid: jid(number) })).await;
    }

    /// Tells the minion when it ends.
    pub(crate) async fn retire(&mut self, at: Option<Timestamp>) {
        self.retires = at;
        self.send(FromMaster::Retirement(Retirement { at })).await;
    }

    /// The next hello, answered with a welcome.
    pub(crate) async fn hello(&mut self) -> Hello {
        self.wait(|message| if let FromMinion::Hello(hello) = message { Some(hello) } else { None })
            .await
    }

    /// The next word on where a job stands.
    pub(crate) async fn accepted(&mut self) -> JobAccepted {
        self.wait(|message| {
            if let FromMinion::JobAccepted(accepted) = message { Some(accepted) } else { None }
        })
        .await
    }

    /// The next return of that job.
    pub(crate) async fn returned(&mut self, number: u32) -> Return {
        self.wait(|message| return_in(message).filter(|returned| returned.jid == jid(number))).await
    }

    /// The next return of any job.
    pub(crate) async fn next_return(&mut self) -> Return {
        self.wait(return_in).await
    }

    /// The next thing from the minion's outbox.
    pub(crate) async fn item(&mut self) -> OutboxItem {
        self.wait(
            |message| {
                if let FromMinion::Outbox(entry) = message { Some(entry.item) } else { None }
            },
        )
        .await
    }

    /// The next message of a kind; others stay for later.
    pub(crate) async fn wait<T>(&mut self, wanted: impl Fn(FromMinion) -> Option<T>) -> T {
        let wait = async {
            loop {
                let mut seen = self.got.iter().cloned().enumerate();
                if let Some((place, found)) =
                    seen.find_map(|(place, message)| Some((place, wanted(message)?)))
                {
                    self.got.remove(place);
                    return found;
                }
                self.receive().await;
            }
        };
        timeout(BOUND, wait).await.expect("it comes within the bound")
    }

    /// How many of what came, and was not waited for, are such.
    pub(crate) fn count(&self, wanted: impl Fn(&FromMinion) -> bool) -> usize {
        self.got.iter().filter(|message| wanted(message)).count()
    }

    async fn receive(&mut self) {
        let frames = self.receiver.recv().await.unwrap().into_vec();
        let [peer, frame] = <[Bytes; 2]>::try_from(frames).unwrap();
        self.peer = peer;
        let message: FromMinion = codec::decode(&frame).unwrap();
        if let Some(answer) = self.answer(&message) {
            self.send(answer).await;
        }
        self.got.push_back(message);
    }

    fn answer(&self, message: &FromMinion) -> Option<FromMaster> {
        let time = Timestamp::now();
        Some(match message {
            FromMinion::Hello(_) => FromMaster::Welcome(Welcome {
                protocol: PROTOCOL,
                time,
                grains: self.enrolled.clone(),
                acknowledged: 0,
                scope: self.scope(),
                retires: self.retires,
            }),
            FromMinion::Heartbeat(_) => FromMaster::Heartbeat(Heartbeat { at: time }),
            FromMinion::Outbox(entry) if self.acknowledges => {
                FromMaster::Acknowledged(Acknowledged { through: entry.number })
            }
            FromMinion::TreeRequest(asked) => FromMaster::Tree(Tree {
                request: asked.request,
                digest: Digest::of(&self.tree),
                size: self.tree.len() as u64,
            }),
            FromMinion::BlobRequest(asked) => self.chunk(asked),
            FromMinion::PillarRequest(asked) => FromMaster::Pillar(Pillar {
                request: asked.request,
                pillar: json!({"secret": "s"}).as_object().unwrap().clone(),
            }),
            FromMinion::JobAccepted(_)
            | FromMinion::Outbox(_)
            | FromMinion::Grains(_)
            | FromMinion::Roots(_) => return None,
            FromMinion::CertificateRequest(asked) => self.issue(asked),
        })
    }

    /// What the next welcome's session is for.
    pub(crate) fn scope(&self) -> Scope {
        let is_birth = self.door.shown.lock().unwrap().last().is_some_and(is_birth);
        if is_birth && self.issues.is_some() { Scope::Renewal } else { Scope::Full }
    }

    fn issue(&self, asked: &CertificateRequest) -> FromMaster {
        let request = asked.request;
        let Some(validity) = self.issues else {
            let reason = "none today".to_owned();
            return FromMaster::RequestFailed(RequestFailed { request, reason });
        };
        let id: MinionId = self.door.shown.lock().unwrap().last().unwrap().id.clone();
        let key = PublicKey::from_csr(&asked.csr).unwrap();
        let leaf = self.fleet_ca.issue_ldevid(&id, None, &key, validity, Timestamp::now()).unwrap();
        let chain = [leaf, self.fleet_ca.der().clone()];
        let chain = chain.iter().map(|der| Bytes::copy_from_slice(der)).collect();
        FromMaster::Certificate(Certificate { request, chain })
    }

    fn chunk(&self, asked: &BlobRequest) -> FromMaster {
        let (request, offset) = (asked.request, asked.offset);
        let Some(blob) = self.blobs.get(&asked.digest) else {
            let reason = "no such blob".to_owned();
            return FromMaster::RequestFailed(RequestFailed { request, reason });
        };
        let rest = &blob[offset as usize..];
        let data = Bytes::copy_from_slice(&rest[..rest.len().min(CHUNK)]);
        FromMaster::BlobChunk(BlobChunk { request, offset, size: blob.len() as u64, data })
    }

    pub(crate) async fn send(&mut self, message: FromMaster) {
        let mut frames = ZmqMessage::from(self.peer.clone());
        frames.push_back(codec::encode(&message).unwrap());
        // A minion that has just gone hears nothing.
        let _ = timeout(BOUND, self.sender.send(frames)).await.unwrap();
    }
}

fn return_in(message: FromMinion) -> Option<Return> {
    let FromMinion::Outbox(entry) = message else { return None };
    if let OutboxItem::Return(returned) = entry.item { Some(returned) } else { None }
}

pub(crate) fn jid(number: u32) -> JobId {
    format!("2026112302370500{number:04}").parse().unwrap()
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    drover_pki::pem_text::encode_certificates(std::slice::from_ref(certificate))
}
