//! Many minions in one process: real certificates, TLS, ZeroMQ and session machines, and a device that answers
//! everything at once. `drover-sim` and the benchmarks run it; nothing of the agent's own shell is in it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use drover_pki::{
    MinionId, authority::Authority, file, key::PrivateKey, name::HardwareSerial,
    pem_text::encode_certificates, verify::TrustAnchors,
};
use drover_proto::{
    id::BootId,
    job::{Job, Return},
    message::{GrainSets, JobAccepted, OutboxItem, Roots},
    outbox::Outbox,
    session::minion::{DialFailure, Disconnected, End, Established, Event, Greeting, Settings},
    tunnel::{self, Identity, Tunnel, TunnelConfig, TunnelFailure, TunnelLimits},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::watch, time};
use uuid::Uuid;

/// What a simulated fleet is.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// The station's directory, whose authority issues the identities.
    pub station: PathBuf,
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
    /// How long to wait before a new attempt; `None` for the session's own backoff.
    pub retry: Option<Duration>,
}

/// How the fleet is doing.
#[derive(Debug, Default)]
pub struct Tally {
    connected: AtomicUsize,
    answered: AtomicUsize,
}

impl Tally {
    /// How many have been welcomed and are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
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
/// When the station or the root cannot be read, or an identity cannot be issued.
pub fn start(simulation: &Simulation) -> anyhow::Result<(Arc<Tally>, watch::Receiver<usize>)> {
    let station = station(simulation)?;
    let anchors = file::read_anchors(&simulation.root)
        .with_context(|| format!("read {}", simulation.root.display()))?;
    let anchors = Arc::new(anchors);
    let tally = Arc::new(Tally::default());
    let (changed, connected) = watch::channel(0);
    let changed = Arc::new(changed);
    for number in 1..=simulation.count {
        let minion = Minion {
            identity: issue(simulation, &station, number)?,
            retry: simulation.retry,
            tally: Arc::clone(&tally),
            changed: Arc::clone(&changed),
        };
        let tunnel = TunnelConfig {
            masters: vec![simulation.master.clone()],
            identity: minion.identity.clone(),
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
        tokio::spawn(minion.live(tunnel, settings, number));
    }
    Ok((tally, connected))
}

fn station(simulation: &Simulation) -> anyhow::Result<Authority> {
    let (certificate, key) = (simulation.station.join("ca.crt"), simulation.station.join("ca.key"));
    let certificate = file::read_certificates(&certificate)
        .with_context(|| format!("read {}", certificate.display()))?
        .into_iter()
        .next()
        .context("the station's certificate file is empty")?;
    let key = file::read_key(&key).with_context(|| format!("read {}", key.display()))?;
    Authority::new(certificate, key).context("the station's certificate and key")
}

fn issue(simulation: &Simulation, station: &Authority, number: usize) -> anyhow::Result<Identity> {
    let id: MinionId = format!("{}{number:05}", simulation.prefix).parse().context("the ids")?;
    let serial: HardwareSerial = format!("SIM{number:05}").parse().context("the serial numbers")?;
    let key = PrivateKey::generate().context("a device's key")?;
    let leaf = station
        .issue_idevid(&id, &serial, key.public(), Timestamp::now())
        .with_context(|| format!("the certificate of {id}"))?;
    let chain = encode_certificates(&[leaf, station.der().clone()]);
    Identity::from_pem(chain.as_bytes(), key.to_pem().as_bytes()).context("a device's identity")
}

struct Minion {
    identity: Identity,
    retry: Option<Duration>,
    tally: Arc<Tally>,
    changed: Arc<watch::Sender<usize>>,
}

impl Minion {
    async fn live(self, tunnel: TunnelConfig, settings: Settings, number: usize) {
        let mut outbox = Outbox::default();
        let mut phase = Disconnected::new(settings, now());
        // The first attempts do not fall into one moment: a fleet is not switched on by one switch.
        time::sleep(Duration::from_micros(200 * number as u64)).await;
        loop {
            match self.retry {
                Some(retry) => time::sleep(retry).await,
                None => wait_until(phase.poll_timeout()).await,
            }
            let dialling = phase.connect();
            phase = match tunnel::connect(&tunnel).await {
                Ok(connection) => {
                    let (grains, wall) = (grains(number), Timestamp::now());
                    let (greeting, hello) =
                        dialling.connected(grains, Roots::default(), wall, now());
                    self.session(connection, greeting, hello, &mut outbox).await
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
        greeting: Greeting,
        hello: bytes::Bytes,
        outbox: &mut Outbox,
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
        self.count(1);
        let cause = self.established(&mut connection, &mut session, outbox).await;
        self.count(-1);
        session.disconnect(cause, now())
    }

    async fn established(
        &self,
        connection: &mut Tunnel,
        session: &mut Established,
        outbox: &mut Outbox,
    ) -> End {
        loop {
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
                    outbox.push(OutboxItem::Return(answer(job)), Timestamp::now());
                    self.tally.answered.fetch_add(1, Ordering::Relaxed);
                }
            }
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
