//! A minion and a master with a store, joined by connections that can be cut, in virtual time. The shells' part is
//! played here, in the way that the machines' documents ask for.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the one kind that it looks for")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    codec,
    id::{BootId, JobId},
    job::{Job, Return},
    message::{
        FromMaster, FromMinion, GrainSets, Hello, JobAccepted, OutboxEntry, OutboxEvent,
        OutboxItem, PROTOCOL, RequestFailed, Roots, TreeRequest, Welcome,
    },
    outbox::Outbox,
    session::{
        master::{self, JobFrame},
        minion::{self, Answer, End, Settings},
    },
};

mod faults;

pub(super) const HEARTBEAT: Duration = Duration::from_secs(30);

#[expect(clippy::disallowed_methods, reason = "virtual time begins at some instant")]
pub(super) fn start() -> Instant {
    Instant::now()
}

pub(super) fn wall() -> Timestamp {
    "2026-11-23T02:37:05Z".parse().unwrap()
}

pub(super) fn boot(number: u128) -> BootId {
    BootId::new(Uuid::from_u128(number))
}

pub(super) fn settings(boot_number: u128, seed: u64) -> Settings {
    let version = "0.1.0".to_owned();
    Settings { boot: boot(boot_number), version, heartbeat: HEARTBEAT, seed }
}

pub(super) fn hello_of(boot_number: u128) -> Hello {
    Hello {
        protocols: vec![PROTOCOL],
        boot: boot(boot_number),
        version: "0.1.0".to_owned(),
        heartbeat: 30_000,
        at: wall(),
        grains: GrainSets::default(),
        root_list: 0,
        roots: Vec::new(),
    }
}

pub(super) fn job(number: u32) -> Job {
    let jid = format!("20261123023705{number:06}").parse().unwrap();
    let kwarg = serde_json::Map::new();
    Job { jid, fun: "test.ping".to_owned(), arg: Vec::new(), kwarg, timeout: 60 }
}

pub(super) fn entry(number: u64, text: &str) -> FromMinion {
    FromMinion::Outbox(OutboxEntry { number, at: wall(), item: event(text) })
}

pub(super) fn message_of_minion(message: &FromMinion) -> Bytes {
    codec::encode(message).unwrap()
}

pub(super) fn message_for_minion(message: &FromMaster) -> Bytes {
    codec::encode(message).unwrap()
}

pub(super) fn event(text: &str) -> OutboxItem {
    OutboxItem::App(OutboxEvent { path: "test".to_owned(), data: text.into() })
}

enum Minion {
    Disconnected(minion::Disconnected),
    Greeting(minion::Greeting, usize),
    Established(Box<minion::Established>, usize),
    /// For the time that a phase is being replaced.
    Changing,
}

enum Master {
    AwaitHello(master::AwaitHello),
    Established(Box<master::Established>, BootId),
    Closed,
}

/// One connection. A minion that has left it does not take back what is on its way to the master.
struct Connection {
    to_master: VecDeque<Bytes>,
    to_minion: VecDeque<Bytes>,
    master: Master,
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) outbox: Outbox,
    pub(super) welcome: Option<Welcome>,
    pub(super) master_is_deaf: bool,
    pub(super) staleness: usize,
    pub(super) heartbeats: usize,
    pub(super) answers: Vec<u64>,
    /// Every job that the minion was given, however often.
    pub(super) ran: BTreeSet<JobId>,
    /// Every entry that the minion of each boot was told is durable.
    pub(super) acknowledged: BTreeSet<(BootId, u64)>,
    pub(super) boots: u128,
    seed: u64,
    minion: Minion,
    connections: Vec<Connection>,
    store: Vec<(BootId, u64, OutboxItem)>,
    durable: usize,
    waiting_jobs: VecDeque<Job>,
    jobs: BTreeMap<JobId, Job>,
    last_end: Option<End>,
    last_boot: Option<BootId>,
}

impl Pair {
    pub(super) fn new(seed: u64) -> Self {
        let now = start();
        Self {
            now,
            outbox: Outbox::default(),
            welcome: None,
            master_is_deaf: false,
            staleness: 0,
            heartbeats: 0,
            answers: Vec::new(),
            ran: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            boots: 1,
            seed,
            minion: Minion::Disconnected(minion::Disconnected::new(settings(1, seed), now)),
            connections: Vec::new(),
            store: Vec::new(),
            durable: 0,
            waiting_jobs: VecDeque::new(),
            jobs: BTreeMap::new(),
            last_end: None,
            last_boot: None,
        }
    }

    pub(super) fn boot(&self) -> BootId {
        boot(self.boots)
    }

    pub(super) fn push(&mut self, text: &str) -> Option<u64> {
        self.outbox.push(event(text), self.now)
    }

    pub(super) fn queue_job(&mut self, job: Job) {
        self.jobs.insert(job.jid.clone(), job.clone());
        self.waiting_jobs.push_back(job);
    }

    pub(super) fn request(&mut self, request: u64) {
        let request = TreeRequest { request, saltenv: "base".to_owned() };
        if let Minion::Established(session, _) = &mut self.minion {
            session.request(minion::Request::Tree(request));
        }
    }

    pub(super) fn is_established(&self) -> bool {
        matches!(self.minion, Minion::Established(..))
    }

    /// The texts of the events in the store.
    pub(super) fn stored(&self) -> Vec<String> {
        let text = |item: &OutboxItem| match item {
            OutboxItem::App(event) => event.data.as_str().map(str::to_owned),
            _ => None,
        };
        self.store.iter().filter_map(|(_, _, item)| text(item)).collect()
    }

    pub(super) fn store(&self) -> &[(BootId, u64, OutboxItem)] {
        &self.store
    }

    pub(super) fn is_durable(&self, boot: BootId, number: u64) -> bool {
        self.store[..self.durable].iter().any(|entry| (entry.0, entry.1) == (boot, number))
    }

    pub(super) fn connect(&mut self) {
        for _ in 0..1_000 {
            self.deliver_all();
            if self.is_established() {
                return;
            }
            self.tick();
        }
        panic!("no session after 1,000 ticks");
    }

    /// No more faults: everything arrives.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000 {
            self.drop_old_connections();
            self.connect();
            self.flush();
            self.deliver_all();
            let jobs_done = self.jobs.keys().all(|jid| {
                self.store.iter().any(
                    |(_, _, item)| matches!(item, OutboxItem::Return(given) if given.jid == *jid),
                )
            });
            if self.outbox.is_empty() && jobs_done && self.is_established() {
                return;
            }
            self.tick();
        }
        panic!("not settled");
    }

    pub(super) fn run_until_disconnected(&mut self) -> End {
        while self.is_established() {
            self.tick();
            self.deliver_all();
        }
        self.last_end.take().unwrap()
    }

    /// Goes on to the next moment at which a machine has something to do.
    pub(super) fn tick(&mut self) {
        let minion = match &self.minion {
            Minion::Disconnected(phase) => phase.poll_timeout(),
            Minion::Greeting(phase, _) => phase.poll_timeout(),
            Minion::Established(phase, _) => phase.poll_timeout(),
            Minion::Changing => None,
        };
        let masters = self.connections.iter().filter_map(|connection| match &connection.master {
            Master::AwaitHello(phase) => phase.poll_timeout(),
            Master::Established(phase, _) => phase.poll_timeout(),
            Master::Closed => None,
        });
        if let Some(next) = minion.into_iter().chain(masters).min() {
            self.now = self.now.max(next);
        }
        self.handle_timeouts();
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.handle_timeouts();
    }

    fn handle_timeouts(&mut self) {
        let now = self.now;
        self.minion = match std::mem::replace(&mut self.minion, Minion::Changing) {
            Minion::Disconnected(phase) if phase.poll_timeout().is_some_and(|at| at <= now) => {
                let (grains, roots) = (GrainSets::default(), Roots::default());
                let (greeting, hello) = phase.connect().connected(grains, roots, wall(), now);
                self.connections.push(Connection {
                    to_master: VecDeque::from([hello]),
                    to_minion: VecDeque::new(),
                    master: Master::AwaitHello(master::AwaitHello::new(now)),
                });
                Minion::Greeting(greeting, self.connections.len() - 1)
            }
            Minion::Greeting(phase, at) => match phase.handle_timeout(now) {
                Ok(phase) => Minion::Greeting(phase, at),
                Err(ended) => Minion::Disconnected(ended.next),
            },
            Minion::Established(mut phase, at) => match phase.handle_timeout(now) {
                Ok(()) => Minion::Established(phase, at),
                Err(cause) => {
                    let silent = End::Silent(Duration::ZERO);
                    self.last_end = Some(cause);
                    Minion::Disconnected(phase.disconnect(silent, now))
                }
            },
            phase @ (Minion::Disconnected(_) | Minion::Changing) => phase,
        };
        for at in 0..self.connections.len() {
            let connection = &mut self.connections[at];
            match std::mem::replace(&mut connection.master, Master::Closed) {
                Master::AwaitHello(phase) => {
                    if let Ok(phase) = phase.handle_timeout(now) {
                        connection.master = Master::AwaitHello(phase);
                    }
                }
                Master::Established(mut phase, boot) => {
                    phase.handle_timeout(now);
                    connection.master = Master::Established(phase, boot);
                    self.master_events(at);
                }
                Master::Closed => {}
            }
        }
        self.transmit();
    }

    pub(super) fn deliver_all(&mut self) {
        self.transmit();
        loop {
            let to_master = (0..self.connections.len()).any(|at| self.deliver_to_master(at));
            let to_minion = self.deliver_to_minion();
            if !to_master && !to_minion {
                return;
            }
        }
    }

    /// One frame, in order, if there is one.
    pub(super) fn deliver_to_master(&mut self, at: usize) -> bool {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(at) else { return false };
        let Some(frame) = connection.to_master.pop_front() else { return false };
        match std::mem::replace(&mut connection.master, Master::Closed) {
            Master::AwaitHello(phase) => {
                let offered = phase.handle_frame(&frame).unwrap();
                let boot = offered.hello().boot;
                if self.last_boot.replace(boot).is_some_and(|last| last != boot) {
                    self.queue_unreturned();
                }
                let acknowledged = self.store[..self.durable]
                    .iter()
                    .filter(|entry| entry.0 == boot)
                    .map(|entry| entry.1)
                    .max();
                let grains = json!({ "role": "rfid" }).as_object().unwrap().clone();
                let acknowledged = acknowledged.unwrap_or(0);
                let terms = master::Terms { grains, acknowledged, ..master::Terms::default() };
                let (session, welcome, _) = offered.welcome(terms, wall(), now);
                self.connections[at].to_minion.push_back(welcome);
                self.connections[at].master = Master::Established(Box::new(session), boot);
            }
            Master::Established(mut phase, boot) => {
                if matches!(codec::decode(&frame), Ok(FromMinion::Heartbeat(_))) {
                    self.heartbeats += 1;
                }
                phase.handle_frame(&frame, now).unwrap();
                self.connections[at].master = Master::Established(phase, boot);
                self.master_events(at);
            }
            Master::Closed => {}
        }
        self.transmit();
        true
    }

    pub(super) fn deliver_to_minion(&mut self) -> bool {
        let now = self.now;
        let (Minion::Greeting(_, at) | Minion::Established(_, at)) = &self.minion else {
            return false;
        };
        let at = *at;
        let Some(frame) = self.connections[at].to_minion.pop_front() else { return false };
        let before = self.outbox_numbers();
        self.minion = match std::mem::replace(&mut self.minion, Minion::Changing) {
            Minion::Greeting(phase, _) => {
                let (session, welcome) = phase.handle_frame(&mut self.outbox, &frame, now).unwrap();
                self.welcome = Some(welcome);
                Minion::Established(Box::new(session), at)
            }
            Minion::Established(mut session, _) => {
                session.handle_frame(&mut self.outbox, &frame, now).unwrap();
                while let Some(event) = session.poll_event() {
                    match event {
                        minion::Event::Job(job) => {
                            session.accept_job(JobAccepted { jid: job.jid.clone(), behind: 0 });
                            if self.ran.insert(job.jid.clone()) {
                                let value = Value::Bool(true);
                                let given =
                                    Return { jid: job.jid, fun: job.fun, value, retcode: 0 };
                                self.outbox.push(OutboxItem::Return(given), now);
                            }
                        }
                        minion::Event::Kill(_) => {}
                        minion::Event::Answer(Answer::Failed(answer)) => {
                            self.answers.push(answer.request);
                        }
                        other => panic!("{other:?}"),
                    }
                }
                Minion::Established(session, at)
            }
            phase @ (Minion::Disconnected(_) | Minion::Changing) => phase,
        };
        let boot = self.boot();
        let after = self.outbox_numbers();
        self.acknowledged.extend(before.difference(&after).map(|number| (boot, *number)));
        self.transmit();
        true
    }

    fn outbox_numbers(&mut self) -> BTreeSet<u64> {
        let mut numbers = BTreeSet::new();
        let mut after = 0;
        while let Some((number, _)) = self.outbox.next_after(after, wall(), self.now) {
            numbers.insert(number);
            after = number;
        }
        numbers
    }

    /// What the machines have to say goes onto the wires.
    fn transmit(&mut self) {
        if let Minion::Established(session, at) = &mut self.minion {
            while let Some(frame) = session.poll_transmit(&mut self.outbox, wall(), self.now) {
                self.connections[*at].to_master.push_back(frame);
            }
        }
        let newest = self.connections.len().saturating_sub(1);
        for (at, connection) in self.connections.iter_mut().enumerate() {
            let Master::Established(session, _) = &mut connection.master else { continue };
            if at == newest {
                while let Some(job) = self.waiting_jobs.pop_front() {
                    session.queue_job(JobFrame::new(job).unwrap()).unwrap();
                }
            }
            while let Some(frame) = session.poll_transmit(wall()) {
                if !self.master_is_deaf {
                    connection.to_minion.push_back(frame);
                }
            }
        }
    }

    fn master_events(&mut self, at: usize) {
        let Master::Established(session, boot) = &mut self.connections[at].master else { return };
        while let Some(event) = session.poll_event() {
            match event {
                master::Event::Store(entry) => {
                    let last = self.store.iter().filter(|stored| stored.0 == *boot);
                    // The store's own check, in one step with the append.
                    if last.map(|stored| stored.1).max().is_none_or(|last| entry.number > last) {
                        self.store.push((*boot, entry.number, entry.item));
                    }
                }
                master::Event::Stale => self.staleness += 1,
                master::Event::Request(master::Request::Tree(request)) => {
                    let reason = "none".to_owned();
                    let failed = RequestFailed { request: request.request, reason };
                    session.reply(master::Reply::Failed(failed));
                }
                master::Event::JobAccepted(_)
                | master::Event::Grains(_)
                | master::Event::Roots(_)
                | master::Event::Back => {}
                master::Event::Request(other) => panic!("{other:?}"),
            }
        }
    }

    /// The store flushes, and each session hears what of its boot is durable and was handed out by it.
    pub(super) fn flush(&mut self) {
        self.durable = self.store.len();
        for connection in &mut self.connections {
            if let Master::Established(session, boot) = &mut connection.master {
                let through = self.store.iter().filter(|entry| entry.0 == *boot);
                if let Some(through) = through.map(|entry| entry.1).max() {
                    session.durable(through);
                }
            }
        }
        self.transmit();
    }

    /// How many connections there have been.
    pub(super) const fn connections(&self) -> usize {
        self.connections.len()
    }
}
