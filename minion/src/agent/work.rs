//! The device's own work, whether there is a session or not: jobs and their journal, fetches, beacons, local programs'
//! events, and the outbox in which everything waits for the master.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use drover_beacons::{BeaconSchedule, Linux};
use drover_proto::{
    codec::MAX_FRAME,
    id::JobId,
    job::{Job, Return},
    message::{JobAccepted, OutboxEvent, OutboxItem, Progress},
    outbox::Outbox,
};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::{self, AbortHandle, JoinError, JoinSet},
};

use super::{now, until};
use crate::{
    device::Device,
    error_chain,
    fetch::{FetchError, FetchId, Fetched, Fetches},
    functions::{Call, Effect, Reply},
    jobs::{Action, Admitted, Jobs},
    journal::{Journal, JournalError, Remembered},
    library::Order,
    local_bus::LocalBus,
    progress::{Reporter, STEPS},
};

/// What a return may be, so that its message has room around it.
const LARGEST_RETURN: usize = MAX_FRAME - (4 << 10);

type OnFetched = Box<dyn FnOnce(Result<Fetched, FetchError>) + Send>;

pub(super) struct Work {
    device: Device,
    journal: Journal,
    jobs: Jobs,
    orders: mpsc::Receiver<Order>,
    on_fetched: HashMap<FetchId, OnFetched>,
    running: JoinSet<Reply>,
    handles: HashMap<JobId, AbortHandle>,
    started: HashMap<task::Id, (JobId, String)>,
    /// What running jobs tell; each of them has a sender.
    steps: (mpsc::Sender<Progress>, mpsc::Receiver<Progress>),
    beacons: BeaconSchedule,
    bus: LocalBus,
    /// Returns on their way, with their numbers in the outbox.
    undelivered: VecDeque<(u64, JobId)>,
    pub(super) outbox: Outbox,
    pub(super) fetches: Fetches,
    /// For the session: where jobs stand.
    pub(super) told: VecDeque<JobAccepted>,
    /// For the session: the device's own grains are others than the master knows.
    pub(super) grains_changed: bool,
    /// The agent was asked to end.
    ending: bool,
}

impl Work {
    pub(super) fn new(
        device: Device,
        journal: Journal,
        orders: mpsc::Receiver<Order>,
        beacons: BeaconSchedule,
        bus: LocalBus,
    ) -> Result<Self, JournalError> {
        let mut work = Self {
            jobs: Jobs::new(device.config().job_slots),
            outbox: Outbox::new(device.config().outbox_limit),
            device,
            journal,
            orders,
            on_fetched: HashMap::new(),
            running: JoinSet::new(),
            handles: HashMap::new(),
            started: HashMap::new(),
            steps: mpsc::channel(STEPS),
            beacons,
            bus,
            undelivered: VecDeque::new(),
            fetches: Fetches::default(),
            told: VecDeque::new(),
            grains_changed: false,
            ending: false,
        };
        for returned in work.journal.undelivered()? {
            work.send_return(returned);
        }
        Ok(work)
    }

    /// Waits for one thing to do, and does it. Dropping it loses nothing.
    pub(super) async fn step(&mut self) {
        let due =
            [self.jobs.poll_timeout(), self.fetches.poll_timeout(), self.beacons.poll_timeout()];
        let due = due.into_iter().flatten().min();
        tokio::select! {
            () = until(due) => {
                self.jobs.handle_timeout(now());
                self.fetches.handle_timeout(now());
                self.beacons.handle_timeout(now(), &Linux, self.room_for_logs());
            }
            Some(ended) = self.running.join_next_with_id() => self.job_ended(ended),
            Some(order) = self.orders.recv() => {
                let id = self.fetches.start(order.wanted, now());
                self.on_fetched.insert(id, order.reply);
            }
            Some(step) = self.steps.1.recv() => self.queue(OutboxItem::Progress(step)),
            event = self.bus.recv() => self.queue(event),
            () = self.device.grains_changed() => self.grains_changed = true,
        }
    }

    /// Half of the outbox is never a log's: what is in it goes first to make room for others.
    fn room_for_logs(&self) -> usize {
        (self.outbox.limit() / 2).saturating_sub(self.outbox.size())
    }

    /// Carries out what the machines have decided.
    pub(super) fn settle(&mut self) {
        let room = self.room_for_logs();
        // Not for each line that has gone.
        if room >= self.outbox.limit() / 4 && self.beacons.wants_room() {
            self.beacons.handle_room(now(), &Linux, room);
        }
        while let Some((id, result)) = self.fetches.poll_event() {
            if let Some(reply) = self.on_fetched.remove(&id) {
                reply(result);
            }
        }
        let mut changed = false;
        while let Some(action) = self.jobs.poll_action() {
            changed = true;
            match action {
                Action::Tell(accepted) => {
                    // What was told of a job before is not true any more.
                    self.told.retain(|earlier| earlier.jid != accepted.jid);
                    self.told.push_back(accepted);
                }
                Action::Run(admitted) => self.start(admitted),
                Action::Stop(jid) => {
                    if let Some(handle) = self.handles.remove(&jid) {
                        self.started.remove(&handle.id());
                        handle.abort();
                    }
                }
                Action::Return { returned, journal: true } => {
                    // Persisted before it is sent: what the master has, the device remembers.
                    if let Err(why) = self.journal.end(returned.clone()) {
                        tracing::error!("{}", error_chain(&why));
                    }
                    self.send_return(returned);
                }
                Action::Return { returned, journal: false } => self.send_return(returned),
            }
        }
        if changed {
            self.device.publish_jobs(self.jobs.overview());
            self.beacons.handle_state_run(self.jobs.runs_states());
        }
        while let Some(event) = self.beacons.poll_event() {
            let happened = now().checked_sub(event.age).unwrap_or_else(now);
            let item = OutboxEvent { path: event.path(), data: event.data };
            self.outbox.push(OutboxItem::Beacon(item), happened);
        }
    }

    /// A job from the master.
    pub(super) fn take_job(&mut self, job: Job) {
        if self.ending {
            // Not accepted, so the master sends it again to the agent that follows.
            return;
        }
        tracing::debug!(jid = %job.jid, fun = job.fun, "job");
        let call = match Call::of_job(&job) {
            Ok(call) => call,
            Err(why) => {
                let Reply { value, retcode } = why.reply();
                let Job { jid, fun, .. } = job;
                return self.send_return(Return { jid, fun, value, retcode });
            }
        };
        let effect = call.effect();
        if effect == Effect::Changing {
            match self.journal.recall(&job.jid) {
                Ok(Remembered::New) => {}
                Ok(Remembered::Begun) if self.jobs.has(&job.jid) => {}
                // Its end could not be written down. That it began is enough: at most once.
                Ok(Remembered::Begun) => {
                    let value = Value::from("it has run, and what came of it could not be kept");
                    let Job { jid, fun, .. } = job;
                    return self.send_return(Return { jid, fun, value, retcode: 1 });
                }
                Ok(Remembered::Returned(returned)) => return self.send_return(returned),
                Err(why) => return self.refuse(job, &why),
            }
        }
        let of_job = match job.timeout {
            0 => self.device.config().job_timeout,
            seconds => Duration::from_secs(seconds),
        };
        let limit = call.time_limit(of_job, &self.device);
        self.jobs.handle_job(Admitted { job, effect, limit }, now());
    }

    /// Tells the master something of the agent itself.
    pub(super) fn tell(&mut self, path: &str, data: Value) {
        self.queue(OutboxItem::Agent(OutboxEvent { path: path.to_owned(), data }));
    }

    /// Ends a job that runs or waits.
    pub(super) fn kill_job(&mut self, jid: &JobId) {
        tracing::info!(%jid, "killed");
        self.jobs.handle_kill(jid, now());
    }

    /// Notes which returns the master has; those of journalled jobs in the journal.
    pub(super) fn note_deliveries(&mut self) {
        while let Some((number, jid)) = self.undelivered.front() {
            if *number > self.outbox.acknowledged() {
                return;
            }
            if let Err(why) = self.journal.delivered(jid) {
                tracing::warn!("{}", error_chain(&why));
            }
            self.undelivered.pop_front();
        }
    }

    /// The agent ends. What jobs have started goes on; that they were left is their return.
    pub(super) fn shut_down(&mut self) {
        self.ending = true;
        self.jobs.handle_shutdown();
        // Not stopped: a job that upgrades this very agent must not be killed half-way.
        self.running.detach_all();
        self.handles.clear();
        self.settle();
    }

    fn start(&mut self, admitted: Admitted) {
        let Admitted { job, effect, limit: _ } = admitted;
        if effect == Effect::Changing {
            // Persisted before it runs: at most once.
            if let Err(why) = self.journal.begin(&job.jid, &job.fun) {
                let value = Value::from(format!("not run: {}", error_chain(&why)));
                let returned = Return { jid: job.jid, fun: job.fun, value, retcode: 1 };
                return self.jobs.handle_return(returned, now());
            }
        }
        let reporter = Reporter::new(job.jid.clone(), self.steps.0.clone());
        let device = self.device.reporting_to(reporter);
        let (jid, fun) = (job.jid.clone(), job.fun.clone());
        let handle = self.running.spawn(async move {
            match Call::of_job(&job) {
                Ok(call) => call.run(&device).await,
                Err(why) => why.reply(),
            }
        });
        self.started.insert(handle.id(), (jid.clone(), fun));
        self.handles.insert(jid, handle);
    }

    fn job_ended(&mut self, ended: Result<(task::Id, Reply), JoinError>) {
        let (id, reply) = match ended {
            Ok(ended) => ended,
            Err(failed) => (failed.id(), Reply::failed(fate(failed))),
        };
        // A job that was stopped has given its return already.
        let Some((jid, fun)) = self.started.remove(&id) else { return };
        self.handles.remove(&jid);
        // What it told goes before its return.
        while let Ok(step) = self.steps.1.try_recv() {
            self.queue(OutboxItem::Progress(step));
        }
        let Reply { value, retcode } = reply.within(LARGEST_RETURN);
        self.jobs.handle_return(Return { jid, fun, value, retcode }, now());
    }

    fn refuse(&mut self, job: Job, why: &JournalError) {
        let value = Value::from(format!("not run: {}", error_chain(why)));
        self.send_return(Return { jid: job.jid, fun: job.fun, value, retcode: 1 });
    }

    /// Queues a return, unless it is on its way already: a master that was away sends a job again before it has seen
    /// what the outbox holds for it.
    fn send_return(&mut self, returned: Return) {
        let jid = returned.jid.clone();
        if self.undelivered.iter().any(|(_, waiting)| *waiting == jid) {
            return;
        }
        if let Some(number) = self.outbox.push(OutboxItem::Return(returned), now()) {
            self.undelivered.push_back((number, jid));
        }
    }

    fn queue(&mut self, item: OutboxItem) {
        self.outbox.push(item, now());
    }
}

/// What became of a task that gave no reply.
fn fate(failed: JoinError) -> String {
    match failed.try_into_panic() {
        Ok(panic) => {
            let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
            let said = said.unwrap_or_else(|| "without a word".to_owned());
            format!("the function panicked, which is a bug in the agent: {said}")
        }
        Err(_) => "the function was stopped".to_owned(),
    }
}
