//! Many minions in one process: real certificates, TLS, ZeroMQ and session machines, and a device that answers
//! everything at once. `drover-sim` and the benchmarks run it; nothing of the agent's own shell is in it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use drover_pki::{
    MinionId, authority::Authority, file, key::PrivateKey, name::HardwareSerial,
    verify::TrustAnchors,
};
use drover_proto::{
    id::BootId,
    job::{Job, Return},
    message::{CertificateRequest, GrainSets, JobAccepted, OutboxEvent, OutboxItem, Roots, Scope},
    outbox::Outbox,
    session::minion::{
        Answer, DialFailure, Disconnected, End, Established, Event, Greeting, Request, Settings,
    },
    tunnel::{self, Identity, Tunnel, TunnelConfig, TunnelFailure, TunnelLimits},
};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::{sync::watch, time};
use uuid::Uuid;

/// What a simulated fleet is.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// What its minions come with.
    pub issuer: Issuer,
    /// The fleet's root certificate.
    pub root: PathBuf,
    /// The master's address.
    pub master: String,
    /// How many minions.
    pub count: usize,
    /// What their ids begin with.
    pub prefix: String,
    /// How often each sends a heartbeat.
    pub heartbeat: Duration,
    /// How many application events each sends, as fast as the master takes them.
    pub events: u64,
    /// How long to wait before a new attempt; `None` for the session's own backoff.
    pub retry: Option<Duration>,
}

/// Whose certificates a simulated fleet begins with.
#[derive(Debug, Clone)]
pub enum Issuer {
    /// Operational ones, by the authority in the master's `pki_dir`: a fleet that has worked for a while.
    FleetCa(PathBuf),
    /// Birth certificates, by the authority in a station's directory: a fleet that comes for the first time.
    Station(PathBuf),
}

/// How many events wait in a minion's outbox: more than the session's window.
const QUEUED: usize = 1024;

/// For how long the operational certificates are valid that a simulated fleet begins with.
const VALIDITY: Duration = Duration::from_secs(30 * 86_400);

/// How the fleet is doing.
#[derive(Debug, Default)]
pub struct Tally {
    connected: AtomicUsize,
    issued: AtomicUsize,
    answered: AtomicUsize,
}

impl Tally {
    /// How many have been welcomed and are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// How many operational certificates the master has issued to the fleet.
    #[must_use]
    pub fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }

    /// How many jobs were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }
}

/// Issues the identities and starts the minions. They run until the runtime ends.
///
/// The returned channel holds how many are connected, each time that it changes.
///
/// # Errors
/// When the authority or the root cannot be read, or an identity cannot be issued.
pub fn start(simulation: &Simulation) -> anyhow::Result<(Arc<Tally>, watch::Receiver<usize>)> {
    let authority = authority(&simulation.issuer)?;
    let anchors = file::read_anchors(&simulation.root)
        .with_context(|| format!("read {}", simulation.root.display()))?;
    let anchors = Arc::new(anchors);
    let tally = Arc::new(Tally::default());
    let (changed, connected) = watch::channel(0);
    let changed = Arc::new(changed);
    for number in 1..=simulation.count {
        let minion = Minion {
            retry: simulation.retry,
            number,
            events: AtomicU64::new(simulation.events),
            tally: Arc::clone(&tally),
            changed: Arc::clone(&changed),
        };
        let tunnel = TunnelConfig {
            masters: vec![simulation.master.clone()],
            identity: issue(simulation, &authority, number)?,
            anchors: Arc::<TrustAnchors>::clone(&anchors),
            clock_floor: None,
            limits: TunnelLimits { handshake: Duration::from_secs(60), ..TunnelLimits::default() },
        };
        let settings = Settings {
            boot: BootId::new(Uuid::new_v4()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat: simulation.heartbeat,
            seed: number as u64,
        };
        tokio::spawn(minion.live(tunnel, settings));
    }
    Ok((tally, connected))
}

fn authority(issuer: &Issuer) -> anyhow::Result<Authority> {
    let (directory, name) = match issuer {
        Issuer::FleetCa(directory) => (directory, "fleet-ca"),
        Issuer::Station(directory) => (directory, "ca"),
    };
    let file = |end| directory.join(format!("{name}.{end}"));
    let (certificate, key) = (file("crt"), file("key"));
    let certificate = file::read_certificates(&certificate)
        .with_context(|| format!("read {}", certificate.display()))?
        .into_iter()
        .next()
        .context("the authority's certificate file is empty")?;
    let key = file::read_key(&key).with_context(|| format!("read {}", key.display()))?;
    Authority::new(certificate, key).context("the authority's certificate and key")
}

fn issue(
    simulation: &Simulation,
    authority: &Authority,
    number: usize,
) -> anyhow::Result<Identity> {
    let id: MinionId = format!("{}{number:05}", simulation.prefix).parse().context("the ids")?;
    let serial: HardwareSerial = format!("SIM{number:05}").parse().context("the serial numbers")?;
    let key = PrivateKey::generate().context("a device's key")?;
    let (public, wall) = (key.public(), Timestamp::now());
    let leaf = match &simulation.issuer {
        Issuer::FleetCa(_) => authority.issue_ldevid(&id, Some(&serial), public, VALIDITY, wall),
        Issuer::Station(_) => authority.issue_idevid(&id, &serial, public, wall),
    };
    let leaf = leaf.with_context(|| format!("the certificate of {id}"))?;
    Identity::from_der(vec![leaf, authority.der().clone()], key.to_rustls())
        .context("a device's identity")
}

struct Minion {
    retry: Option<Duration>,
    number: usize,
    /// How many are still to be queued.
    events: AtomicU64,
    tally: Arc<Tally>,
    changed: Arc<watch::Sender<usize>>,
}

impl Minion {
    async fn live(self, mut tunnel: TunnelConfig, settings: Settings) {
        let mut outbox = Outbox::default();
        let mut phase = Disconnected::new(settings, now());
        // The first attempts do not fall into one moment: a fleet is not switched on by one switch.
        time::sleep(Duration::from_micros(200 * self.number as u64)).await;
        loop {
            match self.retry {
                Some(retry) => time::sleep(retry).await,
                None => wait_until(phase.poll_timeout()).await,
            }
            let dialling = phase.connect();
            phase = match tunnel::connect(&tunnel).await {
                Ok(connection) => {
                    let (grains, wall) = (grains(self.number), Timestamp::now());
                    let (greeting, hello) =
                        dialling.connected(grains, Roots::default(), wall, now());
                    let first = (greeting, hello);
                    self.session(connection, first, &mut outbox, &mut tunnel.identity).await
                }
                Err(error) => {
                    let failure = if matches!(error.cause, TunnelFailure::NotAccepted) {
                        DialFailure::NotAccepted
                    } else {
                        DialFailure::Unreachable
                    };
                    dialling.failed(failure, now())
                }
            };
        }
    }

    async fn session(
        &self,
        mut connection: Tunnel,
        (greeting, hello): (Greeting, Bytes),
        outbox: &mut Outbox,
        identity: &mut Identity,
    ) -> Disconnected {
        if connection.send(hello).await.is_err() {
            return greeting.disconnect(now());
        }
        let deadline = greeting.poll_timeout().unwrap_or_else(now);
        let Ok(Ok(frame)) = time::timeout_at(deadline.into(), connection.recv()).await else {
            return greeting.disconnect(now());
        };
        let mut session = match greeting.handle_frame(outbox, &frame, now()) {
            Ok((session, _welcome)) => session,
            Err(ended) => return ended.next,
        };
        if session.scope() == Scope::Renewal {
            return match self.renew(&mut connection, &mut session, outbox).await {
                Ok(renewed) => {
                    *identity = renewed;
                    self.tally.issued.fetch_add(1, Ordering::Relaxed);
                    session.reconnect(now())
                }
                Err(cause) => session.disconnect(cause, now()),
            };
        }
        self.count(1);
        let cause = self.established(&mut connection, &mut session, outbox).await;
        self.count(-1);
        session.disconnect(cause, now())
    }

    /// Asks for an operational certificate, and waits for it.
    async fn renew(
        &self,
        connection: &mut Tunnel,
        session: &mut Established,
        outbox: &mut Outbox,
    ) -> Result<Identity, End> {
        let key = PrivateKey::generate().map_err(|_| End::Lost)?;
        let csr = Bytes::from(key.to_csr().map_err(|_| End::Lost)?);
        session.request(Request::Certificate(CertificateRequest { request: 1, csr }));
        loop {
            while let Some(frame) = session.poll_transmit(outbox, Timestamp::now(), now()) {
                connection.send(frame).await.map_err(|_| End::Lost)?;
            }
            tokio::select! {
                frame = connection.recv() => {
                    session.handle_frame(outbox, &frame.map_err(|_| End::Lost)?, now())?;
                }
                () = wait_until(session.poll_timeout()) => session.handle_timeout(now())?,
            }
            if let Some(Event::Answer(Answer::Certificate(answer))) = session.poll_event() {
                let der = |der: &Bytes| CertificateDer::from(der.to_vec());
                let chain = answer.chain.iter().map(der).collect();
                return Identity::from_der(chain, key.to_rustls()).map_err(|_| End::Lost);
            }
        }
    }

    async fn established(
        &self,
        connection: &mut Tunnel,
        session: &mut Established,
        outbox: &mut Outbox,
    ) -> End {
        loop {
            self.queue_events(outbox);
            while let Some(frame) = session.poll_transmit(outbox, Timestamp::now(), now()) {
                if connection.send(frame).await.is_err() {
                    return End::Lost;
                }
            }
            let outcome = tokio::select! {
                frame = connection.recv() => match frame {
                    Ok(frame) => session.handle_frame(outbox, &frame, now()),
                    Err(_) => Err(End::Lost),
                },
                () = wait_until(session.poll_timeout()) => session.handle_timeout(now()),
            };
            if let Err(end) = outcome {
                return end;
            }
            while let Some(event) = session.poll_event() {
                if let Event::Job(job) = event {
                    session.accept_job(JobAccepted { jid: job.jid.clone(), behind: 0 });
                    outbox.push(OutboxItem::Return(answer(job)), now());
                    self.tally.answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Keeps the outbox filled so far that the session never waits for it.
    fn queue_events(&self, outbox: &mut Outbox) {
        while outbox.len() < QUEUED && self.events.load(Ordering::Relaxed) > 0 {
            let left = self.events.fetch_sub(1, Ordering::Relaxed);
            // A key of its own, as no mapping should have it.
            let key = format!("k{}-{left}", self.number);
            let data = json!({"left": left, "badge": left % 977, "keys": {key: true}});
            let event = OutboxEvent { path: "sim/event".to_owned(), data };
            outbox.push(OutboxItem::App(event), now());
        }
    }

    fn count(&self, change: isize) {
        let connected = match change {
            1 => self.tally.connected.fetch_add(1, Ordering::Relaxed) + 1,
            _ => self.tally.connected.fetch_sub(1, Ordering::Relaxed) - 1,
        };
        self.changed.send_replace(connected);
    }
}

fn grains(number: usize) -> GrainSets {
    let detected = json!({"os": "Debian", "cpuarch": "armv7l", "simulated": true});
    let configured = json!({"role": if number.is_multiple_of(2) { "rfid" } else { "gate" }});
    let map = |value: Value| value.as_object().cloned().unwrap_or_default();
    GrainSets { configured: map(configured), detected: map(detected) }
}

fn answer(job: Job) -> Return {
    let value = if job.fun == "test.ping" {
        Value::Bool(true)
    } else {
        json!(format!("a simulated minion did `{}`", job.fun))
    };
    Return { jid: job.jid, fun: job.fun, value, retcode: 0 }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the simulator is a shell: its minions live in real time"
)]
fn now() -> Instant {
    Instant::now()
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
