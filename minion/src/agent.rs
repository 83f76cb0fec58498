//! The agent: one loop on one thread that keeps the session with a master and does the device's own work beside it. It
//! outlives whatever the master, a container or the link does; only SIGTERM ends it.

use std::{
    fs::File,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use drover_beacons::BeaconSchedule;
use drover_pki::clock::Floor;
use drover_proto::{
    id::BootId,
    message::{Certificate, Scope, Welcome},
    session::minion::{
        Answer, Connecting, DialFailure, Disconnected, End, Established, Event, Greeting, Settings,
    },
    tunnel::{Tunnel, TunnelConfig, TunnelFailure, TunnelLimits, connect, descriptors},
};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde_json::json;
use thiserror::Error;
use tokio::{sync::mpsc, time::sleep_until};
use uuid::Uuid;

use crate::{
    clock_floor::ClockFloor,
    config::Config,
    device::Device,
    durable::{self, FileError, LockError},
    error_chain,
    identity::DeviceIdentity,
    journal::{Journal, JournalError},
    library::{Library, LibraryError},
    local_bus::{self, LocalBusError},
};

mod following;
mod link;
mod renewing;
mod stamps;
mod work;

use following::Heard;
use link::Link;
use renewing::Renewing;
use stamps::Stamps;
use work::Work;

/// How long an agent that was asked to end still tries to tell the master what it has to tell.
const FAREWELL: Duration = Duration::from_secs(3);

/// The agent of one device.
pub struct Agent {
    device: Device,
    identity: DeviceIdentity,
    floor: ClockFloor,
    renewing: Renewing,
    heard: Heard,
    /// The present master's certificates: what a new list of roots has to lead to.
    shown_by_master: Vec<CertificateDer<'static>>,
    /// The connection that is left for one with a new certificate. It stays until that one is welcomed, so that the
    /// master never misses the device.
    leaving: Option<Link>,
    settings: Settings,
    stamps: Stamps,
    work: Work,
    /// The last failure to connect, which is logged once and not once a minute.
    last_failure: String,
    // invariant: held as long as the journal is open.
    _lock: File,
}

/// Why an agent cannot start: its configuration or its disk.
#[derive(Debug, Error)]
pub enum StartError {
    /// No master is named.
    #[error("no master is configured: set `master:` in minion.yml")]
    NoMaster,
    /// The data directory.
    #[error("use the data directory")]
    Data(#[from] FileError),
    /// Another agent uses it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file cache.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The beacons' configuration.
    #[error("read `beacons:` in minion.yml")]
    Beacons(#[from] drover_beacons::ConfigError),
    /// The bus for local programs.
    #[error(transparent)]
    Bus(#[from] LocalBusError),
}

/// The agent was asked to end.
struct Stopped;

/// Why an established session is not kept.
enum KeepEnd {
    /// It ended.
    Ended(End),
    /// There is a new certificate to show.
    Renewed,
    /// The agent was asked to end.
    Stopped,
}

impl Agent {
    /// Opens everything that the agent keeps.
    ///
    /// # Errors
    /// When the configuration or the disk does not let it.
    pub async fn start(config: Config, identity: DeviceIdentity) -> Result<Self, StartError> {
        if config.master.is_empty() {
            return Err(StartError::NoMaster);
        }
        let allowed = descriptors::raise_limit();
        tracing::debug!(?allowed, "open files");
        durable::private_directory(&config.data_dir)?;
        let lock = durable::lock_directory(&config.data_dir)?;
        let floor = ClockFloor::load(&config.data_dir, identity.born());
        let journal = Journal::open(&config.data_dir)?;
        let (orders, taken) = mpsc::channel(64);
        let library = Library::of_master(&config.data_dir, config.cache_limit, orders)?;
        let beacons = BeaconSchedule::from_config(&config.beacons, now())?;
        let bus = local_bus::open(&config, identity.id.clone()).await?;
        let settings = Settings {
            boot: BootId::new(Uuid::new_v4()),
            version: crate::VERSION.to_owned(),
            heartbeat: config.heartbeat,
            seed: Uuid::new_v4().as_u64_pair().0,
        };
        let renewing = Renewing::new(&identity, settings.seed.rotate_left(32));
        let device = Device::new(identity.id.clone(), identity.serial.clone(), config, library);
        let work = Work::new(device.clone(), journal, taken, beacons, bus)?;
        let last_failure = String::new();
        Ok(Self {
            device,
            identity,
            floor,
            renewing,
            heard: Heard::new(),
            shown_by_master: Vec::new(),
            leaving: None,
            settings,
            stamps: Stamps::default(),
            work,
            last_failure,
            _lock: lock,
        })
    }

    /// Runs until `stop` is ready. What jobs have started goes on after it.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut session = Disconnected::new(self.settings.clone(), now());
        loop {
            session = match self.cycle(session, stop.as_mut()).await {
                Ok(session) => session,
                Err(Stopped) => break,
            };
        }
        tracing::info!("stopped");
    }

    /// Waits for the moment, dials, and keeps the session until it ends.
    async fn cycle<S>(
        &mut self,
        session: Disconnected,
        mut stop: S,
    ) -> Result<Disconnected, Stopped>
    where
        S: Future<Output = ()> + Unpin,
    {
        let due = session.poll_timeout();
        self.beside(until(due), &mut stop).await?;
        let connecting = session.connect();
        self.device.detect_grains();
        let config = self.tunnel_config();
        match self.beside(connect(&config), &mut stop).await? {
            Ok(tunnel) => self.converse(connecting, tunnel, stop).await,
            Err(error) => {
                self.leaving = None;
                let failure = match &error.cause {
                    TunnelFailure::NotAccepted => DialFailure::NotAccepted,
                    TunnelFailure::NoMaster
                    | TunnelFailure::Resolve(_)
                    | TunnelFailure::Connect(_)
                    | TunnelFailure::TimedOut { .. }
                    | TunnelFailure::MasterRefused(_)
                    | TunnelFailure::Handshake(_)
                    | TunnelFailure::Rejected(_)
                    | TunnelFailure::Opening(_)
                    | TunnelFailure::Dealer(_) => DialFailure::Unreachable,
                };
                self.tell_failure(match error.cause.hint() {
                    Some(hint) => format!("{}; hint: {hint}", error_chain(&error)),
                    None => error_chain(&error),
                });
                if error.refused {
                    self.show_other();
                }
                Ok(connecting.failed(failure, now()))
            }
        }
    }

    /// Greets the master and does what it wants.
    async fn converse<S>(
        &mut self,
        connecting: Connecting,
        tunnel: Tunnel,
        mut stop: S,
    ) -> Result<Disconnected, Stopped>
    where
        S: Future<Output = ()> + Unpin,
    {
        // The certificate has verified, so its notBefore is past, whatever the clock says.
        self.floor.raise(Floor::of_master(tunnel.master()));
        let (master, address) = (tunnel.master().name.to_string(), tunnel.address());
        self.shown_by_master = tunnel.shown().to_vec();
        let mut link = Link::new(tunnel);
        let (grains, roots) = (self.device.own_grains(), self.identity.roots.told());
        let (greeting, hello) = connecting.connected(grains, roots, Timestamp::now(), now());
        link.send(hello);
        let answer = self.beside(first_frame(&greeting, &mut link), &mut stop).await?;
        let (mut established, welcome) = match self.greeted(greeting, answer) {
            Ok(welcomed) => welcomed,
            Err(ended) => {
                let (why, next) = *ended;
                self.leaving = None;
                self.tell_failure(format!(
                    "the master `{master}` did not welcome this minion: {why}"
                ));
                return Ok(next);
            }
        };
        let scope = established.scope();
        match scope {
            Scope::Full => {
                tracing::info!(master, %address, id = %self.device.id(), "connected");
                self.last_failure.clear();
            }
            Scope::Renewal => {
                tracing::info!(master, %address, "connected to get an operational certificate");
            }
        }
        self.take_welcome(welcome);
        let end = self.keep(&mut established, &mut link, stop).await;
        self.work.fetches.handle_disconnected();
        self.renewing.handle_disconnected(now());
        match end {
            KeepEnd::Ended(end) => {
                self.tell_failure(format!("disconnected: {}", error_chain(&end)));
                Ok(established.disconnect(end, now()))
            }
            KeepEnd::Renewed => {
                match scope {
                    Scope::Full => self.leaving = Some(link),
                    // The master does not count this one as the device's presence.
                    Scope::Renewal => link.close().await,
                }
                Ok(established.reconnect(now()))
            }
            KeepEnd::Stopped => {
                link.close().await;
                Err(Stopped)
            }
        }
    }

    fn greeted(
        &mut self,
        greeting: Greeting,
        answer: Option<Bytes>,
    ) -> Result<(Established, Welcome), Box<(String, Disconnected)>> {
        let ended = match answer {
            Some(frame) => greeting.handle_frame(&mut self.work.outbox, &frame, now()),
            None => match greeting.handle_timeout(now()) {
                Err(ended) => Err(ended),
                Ok(greeting) => {
                    self.show_other();
                    let why = error_chain(&End::Lost);
                    return Err(Box::new((why, greeting.disconnect(now()))));
                }
            },
        };
        ended.map_err(|ended| Box::new((error_chain(&ended.cause), ended.next)))
    }

    fn take_welcome(&mut self, welcome: Welcome) {
        // The master has this connection for that one now.
        self.leaving = None;
        let Welcome { time, grains, scope, retires, protocol: _, acknowledged: _ } = welcome;
        self.stamps = Stamps::from_welcome(time, now());
        let wall = self.stamps.at(Timestamp::now(), now());
        self.renewing.machine.handle_connected(scope, retires, wall, now());
        self.take_retirement(retires);
        if scope == Scope::Renewal {
            return;
        }
        if let Err(why) = self.device.enrol_grains(grains) {
            tracing::warn!("{}", error_chain(&why));
        }
        self.work.fetches.handle_connected(now());
        self.work.note_deliveries();
    }

    /// The certificate that was shown was refused.
    fn show_other(&mut self) {
        let before = self.identity.shows();
        self.identity.show_other();
        let next = self.identity.shows();
        if next != before {
            tracing::debug!(?next, "the other certificate is shown next");
        }
    }

    /// Keeps an established session until it, the certificate or the agent ends.
    async fn keep<S>(&mut self, session: &mut Established, link: &mut Link, mut stop: S) -> KeepEnd
    where
        S: Future<Output = ()> + Unpin,
    {
        let mut farewell: Option<Instant> = None;
        loop {
            let full = self.exchange(session, link);
            if farewell.is_some_and(|until| self.work.outbox.is_empty() || until <= now()) {
                return KeepEnd::Stopped;
            }
            if std::mem::take(&mut self.renewing.is_new) && farewell.is_none() {
                return KeepEnd::Renewed;
            }
            let room = link.has_room();
            let ended = tokio::select! {
                received = link.receive() => match received {
                    Some(frame) => session.handle_frame(&mut self.work.outbox, &frame, now()),
                    None => Err(End::Lost),
                },
                () = until(session.poll_timeout()) => session.handle_timeout(now()),
                () = room, if full => Ok(()),
                () = self.work.step() => Ok(()),
                () = until(self.renewing.machine.poll_timeout()) => Ok(()),
                () = until(farewell), if farewell.is_some() => Ok(()),
                () = &mut stop, if farewell.is_none() => {
                    self.work.shut_down();
                    farewell = Some(now() + FAREWELL);
                    Ok(())
                }
            };
            if let Err(end) = ended {
                return if farewell.is_none() { KeepEnd::Ended(end) } else { KeepEnd::Stopped };
            }
        }
    }

    /// Passes what came from the master to the work, and what the work has to the master. Says whether the link is
    /// full, with more to send.
    fn exchange(&mut self, session: &mut Established, link: &mut Link) -> bool {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Job(job) => self.work.take_job(job),
                Event::Kill(jid) => self.work.kill_job(&jid),
                Event::Answer(Answer::Certificate(answer)) => self.take_certificate(answer),
                Event::Answer(Answer::Failed(failed))
                    if self.renewing.machine.is_open(failed.request) =>
                {
                    self.renewing.handle_refusal(failed.request, &failed.reason, now());
                }
                Event::Answer(answer) => self.work.fetches.handle_answer(answer, now()),
                Event::RootList(list) => self.follow_roots(&list, session),
                Event::Renew(within) => {
                    tracing::debug!(?within, "the master asks for a renewal");
                    self.renewing.machine.handle_renew(within, now());
                }
                Event::Retirement(at) => {
                    self.renewing.machine.handle_retirement(at);
                    self.take_retirement(at);
                }
            }
        }
        self.work.settle();
        if let Some(request) = self.renewing.poll_transmit(now()) {
            session.request(request);
        }
        if session.scope() == Scope::Full {
            self.pass_on(session);
        }
        let full = loop {
            let Some(permit) = link.room() else { break true };
            let (now, wall) = (now(), self.stamps.at(Timestamp::now(), now()));
            match session.poll_transmit(&mut self.work.outbox, wall, now) {
                Some(frame) => permit.send(frame),
                None => break false,
            }
        };
        self.work.note_deliveries();
        full
    }

    /// What the work has for the master.
    fn pass_on(&mut self, session: &mut Established) {
        while let Some(accepted) = self.work.told.pop_front() {
            session.accept_job(accepted);
        }
        if std::mem::take(&mut self.work.grains_changed) {
            session.send_grains(self.device.own_grains());
        }
        while let Some(request) = self.work.fetches.poll_transmit() {
            session.request(request);
        }
    }

    fn take_certificate(&mut self, answer: Certificate) {
        let (identity, floor) = (&mut self.identity, &mut self.floor);
        if let Some(why) = self.renewing.handle_certificate(answer, identity, floor, now()) {
            let reason = error_chain(&why);
            tracing::error!("the new certificate is kept in memory alone: {reason}");
            self.work.tell("identity/not_stored", json!({ "reason": reason }));
        }
    }

    /// Does the device's own work until `other` is ready.
    async fn beside<T, S>(
        &mut self,
        other: impl Future<Output = T>,
        mut stop: S,
    ) -> Result<T, Stopped>
    where
        S: Future<Output = ()> + Unpin,
    {
        tokio::pin!(other);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => {
                    self.work.shut_down();
                    return Err(Stopped);
                }
                output = &mut other => return Ok(output),
                () = self.work.step() => self.work.settle(),
            }
        }
    }

    fn tunnel_config(&self) -> TunnelConfig {
        TunnelConfig {
            masters: self.device.config().master.clone(),
            identity: self.identity.shown().clone(),
            anchors: Arc::clone(self.identity.roots.anchors()),
            clock_floor: Some(self.floor.get()),
            limits: TunnelLimits::default(),
        }
    }

    /// Logs a failure once: an agent that is alone for a year writes no log each minute.
    fn tell_failure(&mut self, failure: String) {
        if failure == self.last_failure {
            tracing::debug!("{failure}");
        } else {
            tracing::warn!("{failure}");
            self.last_failure = failure;
        }
    }
}

/// The master's first frame; none when the connection ends or nothing comes in time.
async fn first_frame(greeting: &Greeting, link: &mut Link) -> Option<Bytes> {
    tokio::select! {
        frame = link.receive() => frame,
        () = until(greeting.poll_timeout()) => None,
    }
}

/// The moment, by the clock that timers go by.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits until then; for ever, if never.
async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
