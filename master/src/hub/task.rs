//! The hub's loop: takes what comes from the gateway, the minions, the rest of the master and the clock, lets the
//! machines decide, and does what they say.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use drover_proto::{
    MinionId,
    id::{BootId, JobId},
    tunnel::{ConnectionId, CutReason, GatewayEvent, GatewayHandle},
};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use zeromq::{RouterRecvHalf, RouterSendHalf, SocketRecv, SocketSend, ZmqMessage};

use super::{
    Ask, COMMANDS, Command, HubHandle, PendingOf, Roster, Sign, SignOf, StartError, Started, Tally,
    backlog::Backlog,
    connection::{Connection, Phase},
    settle::Round,
    timers::Timers,
};
use crate::{
    authorities::{RENEW_WITHIN, RootLists},
    clock::Now,
    clones::{ClonePolicy, Clones},
    jobs::{Effects, Feed, JobLimits, Jobs},
    registry::{Registry, SupersededShown},
    store::{ReadError, Store, StoreError, StoreState},
};

mod machines;
mod notices;
mod refusals;
mod rounds;
mod sessions;

/// Messages taken in one round: what they bring shares a flush.
const ROUND: usize = 512;
/// Messages that wait for the hub before ROUTER's reader waits.
const INBOX: usize = 1024;
/// Rounds that wait for their flush before nothing more is taken in.
const ROUNDS: usize = 64;
/// With nothing to wait for.
const IDLE: Duration = Duration::from_secs(3_600);

/// What the hub is made of.
pub struct HubParts {
    /// Where everything is remembered.
    pub store: Store,
    /// Who may connect, and what is known of them.
    pub registry: Registry,
    /// Limits of jobs.
    pub limits: JobLimits,
    /// To cut connections.
    pub gateway: GatewayHandle,
    /// Who connects and who goes.
    pub connections: mpsc::Receiver<GatewayEvent>,
    /// To the minions.
    pub sender: RouterSendHalf,
    /// From the minions.
    pub receiver: RouterRecvHalf,
    /// Answers requests for files and pillar. A channel of `REQUEST_WINDOW` for each connection never fills.
    pub requests: mpsc::Sender<Ask>,
    /// Told of every sign of life, to presence.
    pub signs: mpsc::Sender<SignOf>,
    /// Who is cut off where two machines have one identity.
    pub clones: ClonePolicy,
    /// Superseded certificates that the gateway was shown.
    pub superseded: mpsc::Receiver<SupersededShown>,
    /// Which root list each minion is to follow.
    pub root_lists: RootLists,
}

/// The loop.
pub struct HubTask {
    store: Store,
    /// Whether that takes what comes from outside.
    store_state: watch::Receiver<StoreState>,
    registry: Registry,
    gateway: GatewayHandle,
    connecting: mpsc::Receiver<GatewayEvent>,
    sender: RouterSendHalf,
    inbox: mpsc::Receiver<(ConnectionId, Bytes)>,
    requests: mpsc::Sender<Ask>,
    signs: mpsc::Sender<SignOf>,
    clones: Clones,
    superseded: mpsc::Receiver<SupersededShown>,
    root_lists: RootLists,
    renew_within: Duration,
    commands: mpsc::Receiver<Command>,
    roster: Arc<Roster>,
    tally: Arc<Tally>,
    jobs: Jobs,
    feeds: HashMap<JobId, Arc<Feed>>,
    connections: HashMap<u64, Connection>,
    /// The connection that counts, of each minion that is welcomed.
    current: HashMap<MinionId, u64>,
    /// The newest outbox entry that was handed to the store, of each minion's latest boot.
    handed_in: HashMap<MinionId, (BootId, u64)>,
    timers: Timers,
    round: Round,
    flushing: FuturesOrdered<BoxFuture<'static, Result<Round, StoreError>>>,
    untold: VecDeque<SignOf>,
    /// Connections that a command has something for.
    noticed: Vec<u64>,
}

impl HubTask {
    /// Takes up what the store has, and makes the loop and its handle.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(parts: HubParts) -> Result<(Self, HubHandle), ReadError> {
        let HubParts {
            store,
            registry,
            limits,
            gateway,
            connections,
            sender,
            receiver,
            requests,
            signs,
            clones,
            superseded,
            root_lists,
        } = parts;
        let newest = store.jobs(None, 1)?.pop().map(|job| job.jid);
        let mut jobs = Jobs::new(limits, newest);
        let mut round = Round::default();
        let mut feeds = HashMap::new();
        let now = Now::read();
        for jid in store.active_jobs()? {
            if let Some(record) = store.job(&jid)? {
                feeds.insert(jid.clone(), Arc::<Feed>::default());
                jobs.load(record, store.job_entries(&jid)?, now, &mut round.effects);
            }
        }
        let (handle, commands) = mpsc::channel(COMMANDS);
        let roster = Arc::<Roster>::default();
        let tally = Arc::<Tally>::default();
        tally.handle_open(jobs.active(), jobs.kept());
        let handle = HubHandle { commands: handle, roster: roster.clone(), tally: tally.clone() };
        let (into_inbox, inbox) = mpsc::channel(INBOX);
        tokio::spawn(receive(receiver, into_inbox));
        let hub = Self {
            store_state: store.state(),
            store,
            registry,
            gateway,
            connecting: connections,
            sender,
            inbox,
            requests,
            signs,
            clones: Clones::new(clones),
            superseded,
            root_lists,
            renew_within: RENEW_WITHIN,
            commands,
            roster,
            tally,
            jobs,
            feeds,
            connections: HashMap::new(),
            current: HashMap::new(),
            handed_in: HashMap::new(),
            timers: Timers::default(),
            round,
            flushing: FuturesOrdered::new(),
            untold: VecDeque::new(),
            noticed: Vec::new(),
        };
        Ok((hub, handle))
    }

    /// Until it is told to stop, or the store fails.
    ///
    /// # Errors
    /// When the store fails: nothing more can be acknowledged, so the master should end.
    pub async fn run(mut self) -> Result<(), StoreError> {
        let mut frames = Vec::with_capacity(ROUND);
        self.settle().await?;
        loop {
            let is_open = self.flushing.len() < ROUNDS;
            let now = Instant::now();
            let due = self.next_timer().map_or(now + IDLE, Instant::from_std);
            tokio::select! {
                Some(round) = self.flushing.next() => self.finish(round?).await,
                Ok(()) = self.store_state.changed() => self.handle_store_state().await,
                Some(event) = self.connecting.recv() => self.handle_gateway(Some(event)),
                Some(shown) = self.superseded.recv() => self.handle_superseded(shown),
                Some(command) = self.commands.recv(), if is_open => {
                    if matches!(command, Command::Stop) {
                        break;
                    }
                    self.handle_command(command);
                    self.transmit_notices().await;
                }
                taken = self.inbox.recv_many(&mut frames, ROUND), if is_open => {
                    if taken == 0 {
                        break;
                    }
                    for (connection, frame) in frames.drain(..) {
                        self.handle_frame(&connection, &frame).await;
                    }
                }
                () = sleep_until(due) => self.handle_timeouts().await,
            }
            self.settle().await?;
            self.tell_presence().await;
        }
        while let Some(round) = self.flushing.next().await {
            self.finish(round?).await;
        }
        Ok(())
    }

    fn next_timer(&self) -> Option<std::time::Instant> {
        self.timers.first().into_iter().chain(self.jobs.poll_timeout()).min()
    }

    /// What the gateway told, and all that waits behind it: a fleet that comes back brings thousands.
    fn handle_gateway(&mut self, event: Option<GatewayEvent>) {
        let now = Now::read();
        let mut next = event.or_else(|| self.connecting.try_recv().ok());
        while let Some(event) = next {
            self.handle_gateway_event(event, now);
            next = self.connecting.try_recv().ok();
        }
    }

    fn handle_gateway_event(&mut self, event: GatewayEvent, now: Now) {
        match event {
            GatewayEvent::Connected { connection, certificate, address, taken } => {
                // Between the gateway's question and now the registry may have changed its mind.
                if self.registry.scope(&certificate, now.wall).is_none() {
                    self.gateway.cut(&connection, CutReason::NotAccepted);
                    return;
                }
                let number = connection.number;
                let backlog = Backlog::new(taken);
                let connection =
                    Connection::new(connection, certificate, address, backlog, now.instant);
                self.connections.insert(number, connection);
                self.set_timer(number);
            }
            GatewayEvent::Closed { connection, reason } => {
                tracing::debug!(%connection, %reason, "connection closed");
                self.forget(connection.number, now);
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = Now::read();
        let current = &self.current;
        let is_connected = |minion: &MinionId| current.contains_key(minion);
        match command {
            Command::Start { answer, .. } if self.store.is_full() => {
                drop(answer.send(Err(StartError::Store(StoreError::Full))));
            }
            Command::Start { request, matched, answer } => {
                // A job that is refused leaves nothing behind.
                let mut effects = Effects::default();
                let minions = matched.minions;
                match self.jobs.start(*request, minions, is_connected, now, &mut effects) {
                    Ok(mut ticket) => {
                        ticket.unknown = matched.unknown;
                        ticket.not_accepted = matched.not_accepted;
                        self.round.effects.append(effects);
                        let jid = ticket.jid.clone().expect("a job that was started has an id");
                        let feed = self.feeds.entry(jid).or_default().clone();
                        let started = Started { ticket, feed: Some(feed) };
                        self.answer_durably(move || drop(answer.send(Ok(started))));
                    }
                    Err(error) => drop(answer.send(Err(error.into()))),
                }
            }
            Command::Follow { jid, answer } => drop(answer.send(self.feeds.get(&jid).cloned())),
            Command::States { jid, answer } => drop(answer.send(self.jobs.states(&jid))),
            Command::Kill { jid, answer } => {
                let open = self.jobs.kill(&jid, is_connected, now, &mut self.round.effects);
                self.answer_durably(move || drop(answer.send(open)));
            }
            Command::Deliver { minions, answer } => {
                let mut sent = Vec::new();
                for minion in minions.iter().filter(|minion| is_connected(minion)) {
                    sent.extend(self.jobs.deliver(minion, now, &mut self.round.effects));
                }
                self.answer_durably(move || drop(answer.send(sent)));
            }
            Command::Pending { answer } => drop(answer.send(self.jobs.pending())),
            Command::CancelPending { of, answer } => {
                let is_meant = |entry: &crate::store::PendingEntry| match &of {
                    PendingOf::Job(jid) => entry.jid == *jid,
                    PendingOf::Minions(minions) => minions.contains(&entry.minion),
                };
                let cancelled = self.jobs.cancel_pending(is_meant, now, &mut self.round.effects);
                self.answer_durably(move || drop(answer.send(cancelled)));
            }
            Command::Notify { minion, notice } => self.round.notices.push((minion, notice)),
            Command::Reply { connection, reply } => {
                self.round.replies.push((connection.number, reply))
            }
            Command::TellRoots => self.tell_roots(),
            Command::TellRenew { within } => self.tell_renew(within),
            Command::Stop => {}
        }
    }

    async fn handle_timeouts(&mut self) {
        let now = Now::read();
        self.jobs.handle_timeout(now, &mut self.round.effects);
        while let Some(number) = self.timers.take_due(now.instant) {
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            connection.has_timer = false;
            match std::mem::replace(&mut connection.phase, Phase::Closing) {
                Phase::Hello(waiting, certificate) => match waiting.handle_timeout(now.instant) {
                    Ok(waiting) => connection.phase = Phase::Hello(waiting, certificate),
                    Err(close) => self.close(number, &close).await,
                },
                Phase::Established { mut session, boot, applicant } => {
                    session.handle_timeout(now.instant);
                    connection.phase = Phase::Established { session, boot, applicant };
                    self.take_events(number, now);
                }
                Phase::Closing => {}
            }
            self.set_timer(number);
        }
    }

    fn set_timer(&mut self, number: u64) {
        if let Some(connection) = self.connections.get_mut(&number)
            && !connection.has_timer
            && let Some(at) = connection.poll_timeout()
        {
            connection.has_timer = true;
            self.timers.set(at, number);
        }
    }

    fn sign(&mut self, minion: &MinionId, sign: Sign, now: Now) {
        self.untold.push_back(SignOf { minion: minion.clone(), sign, at: now.wall });
    }

    async fn tell_presence(&mut self) {
        for sign in self.untold.drain(..) {
            // Where nobody keeps presence, nobody misses a sign.
            let _ = self.signs.send(sign).await;
        }
    }
}

/// Sends one message; a peer that has gone is told by the gateway.
async fn send(sender: &mut RouterSendHalf, frames: Vec<Bytes>) {
    let Ok(message) = ZmqMessage::try_from(frames) else { return };
    if let Err(error) = sender.send(message).await {
        tracing::debug!(%error, "a message found no peer");
    }
}

/// Takes messages from ROUTER, each an identity and one frame; the gateway lets nothing else through.
async fn receive(mut receiver: RouterRecvHalf, inbox: mpsc::Sender<(ConnectionId, Bytes)>) {
    while let Ok(message) = receiver.recv().await {
        let mut frames = message.into_vec().into_iter();
        let (Some(identity), Some(frame), None) = (frames.next(), frames.next(), frames.next())
        else {
            continue;
        };
        let Some(connection) = ConnectionId::from_identity(&identity) else { continue };
        if inbox.send((connection, frame)).await.is_err() {
            break;
        }
    }
}
