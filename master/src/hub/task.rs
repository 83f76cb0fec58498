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
    event::{NewEvent, Tag},
    id::{BootId, JobId},
    message::{OutboxEntry, OutboxItem},
    session::master::{Close, Established, Event, Killed, Offered},
    tunnel::{ConnectionId, CutReason, GatewayEvent, GatewayHandle},
};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use zeromq::{RouterRecvHalf, RouterSendHalf, SocketRecv, SocketSend, ZmqMessage};

use super::{
    Ask, COMMANDS, Command, HubHandle, PendingOf, Roster, Sign, SignOf, Started,
    connection::{Connection, Phase, RETRY},
    settle::{self, Round},
    timers::Timers,
};
use crate::{
    clock::Now,
    jobs::{Effects, Feed, JobLimits, Jobs},
    registry::{Registry, Sighting},
    store::{ReadError, Store, StoreError},
};

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
}

/// The loop.
pub struct HubTask {
    store: Store,
    registry: Registry,
    gateway: GatewayHandle,
    connecting: mpsc::Receiver<GatewayEvent>,
    sender: RouterSendHalf,
    inbox: mpsc::Receiver<(ConnectionId, Bytes)>,
    requests: mpsc::Sender<Ask>,
    signs: mpsc::Sender<SignOf>,
    commands: mpsc::Receiver<Command>,
    roster: Arc<Roster>,
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
        let handle = HubHandle { commands: handle, roster: roster.clone() };
        let (into_inbox, inbox) = mpsc::channel(INBOX);
        tokio::spawn(receive(receiver, into_inbox));
        let hub = Self {
            store,
            registry,
            gateway,
            connecting: connections,
            sender,
            inbox,
            requests,
            signs,
            commands,
            roster,
            jobs,
            feeds,
            connections: HashMap::new(),
            current: HashMap::new(),
            handed_in: HashMap::new(),
            timers: Timers::default(),
            round,
            flushing: FuturesOrdered::new(),
            untold: VecDeque::new(),
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
                Some(event) = self.connecting.recv() => self.handle_gateway(event).await,
                Some(command) = self.commands.recv(), if is_open => {
                    if matches!(command, Command::Stop) {
                        break;
                    }
                    self.handle_command(command);
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

    async fn handle_gateway(&mut self, event: GatewayEvent) {
        let now = Now::read();
        match event {
            GatewayEvent::Connected { connection, certificate, address } => {
                // Between the gateway's question and now the registry may have changed its mind.
                if !self.registry.accepts(&certificate, now.wall) {
                    self.gateway.cut(&connection, CutReason::NotAccepted);
                    return;
                }
                let number = connection.number;
                self.connections
                    .insert(number, Connection::new(connection, certificate, address, now.instant));
                self.set_timer(number);
            }
            GatewayEvent::Closed { connection, reason } => {
                tracing::debug!(%connection, %reason, "connection closed");
                self.forget(connection.number, now);
            }
        }
        // The next ones wait in the channel; a fleet that comes back brings thousands.
        while let Ok(event) = self.connecting.try_recv() {
            Box::pin(self.handle_gateway(event)).await;
        }
    }

    async fn handle_frame(&mut self, id: &ConnectionId, frame: &[u8]) {
        if !self.connections.contains_key(&id.number) {
            // Its `Connected` was sent before its first frame, by another way.
            while let Ok(event) = self.connecting.try_recv() {
                Box::pin(self.handle_gateway(event)).await;
            }
        }
        let now = Now::read();
        let Some(connection) = self.connections.get_mut(&id.number) else { return };
        match std::mem::replace(&mut connection.phase, Phase::Closing) {
            Phase::Closing => {}
            Phase::Hello(waiting, certificate) => match waiting.handle_frame(frame) {
                Ok(offered) if self.registry.accepts(&certificate, now.wall) => {
                    self.welcome(id.number, offered, now).await;
                }
                Ok(_) => {
                    self.gateway.cut(id, CutReason::NotAccepted);
                }
                Err(close) => self.close(id.number, &close).await,
            },
            Phase::Established { mut session, boot } => {
                let handled = session.handle_frame(frame, now.instant);
                connection.phase = Phase::Established { session, boot };
                self.take_events(id.number, now);
                self.transmit(id.number).await;
                if let Err(close) = handled {
                    self.close(id.number, &close).await;
                }
            }
        }
    }

    /// Takes a minion in. Its newer connection takes the place of an older one.
    async fn welcome(&mut self, number: u64, offered: Offered, now: Now) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let minion = connection.id.minion.clone();
        let boot = offered.hello().boot;
        let (Ok(acknowledged), Some(entry)) =
            (self.store.outbox(&minion, boot), self.registry.entry(&minion))
        else {
            let farewell = offered.retry_after(RETRY, "the master cannot read its store");
            let frames = vec![connection.identity.clone(), farewell];
            send(&mut self.sender, frames).await;
            return;
        };
        let (session, frame, hello) =
            offered.welcome(entry.enrolled, acknowledged, now.wall, now.instant);
        connection.phase = Phase::Established { session: Box::new(session), boot };
        let address = connection.address;
        let frames = vec![connection.identity.clone(), frame];
        if let Some(older) = self.current.insert(minion.clone(), number) {
            self.replace(older, now);
        }
        let sighting = Sighting {
            own: hello.grains,
            version: hello.version,
            address: Some(address.ip()),
            last_seen: Some(now.wall),
        };
        let data = json!({ "id": minion, "address": address.ip(), "version": sighting.version, "boot": boot });
        let batch = &mut self.round.effects.batch;
        self.registry.sighted(&minion, sighting, false, batch);
        batch.event(NewEvent::new(Tag::minion(&minion, "start"), Some(minion.clone()), data));
        self.jobs.handle_connected(&minion, &mut self.round.effects);
        self.sign(&minion, Sign::Connected, now);
        self.roster.insert(minion);
        send(&mut self.sender, frames).await;
    }

    /// An older connection of a minion that has a newer one.
    fn replace(&mut self, older: u64, now: Now) {
        let Some(connection) = self.connections.get_mut(&older) else { return };
        let id = connection.id.clone();
        if let Phase::Established { session, .. } =
            std::mem::replace(&mut connection.phase, Phase::Closing)
        {
            self.unfinished(&id.minion, *session, now);
        }
        self.gateway.cut(&id, CutReason::Superseded);
    }

    fn unfinished(&mut self, minion: &MinionId, session: Established, now: Now) {
        let left = session.disconnect();
        for jids in [left.unacknowledged, left.unsent] {
            self.jobs.handle_unfinished(minion, &jids, now, &mut self.round.effects);
        }
    }

    /// A connection has ended.
    fn forget(&mut self, number: u64, now: Now) {
        let Some(connection) = self.connections.remove(&number) else { return };
        let minion = connection.id.minion;
        if let Phase::Established { session, .. } = connection.phase {
            self.unfinished(&minion, *session, now);
        }
        if self.current.get(&minion) == Some(&number) {
            self.current.remove(&minion);
            self.roster.remove(&minion);
            let sighting =
                Sighting { last_seen: Some(now.wall), ..self.registry.sighting(&minion) };
            let batch = &mut self.round.effects.batch;
            self.registry.sighted(&minion, sighting, true, batch);
            let data = json!({ "id": minion });
            batch.event(NewEvent::new(Tag::minion(&minion, "stop"), Some(minion.clone()), data));
            self.sign(&minion, Sign::Disconnected, now);
        }
    }

    /// Ends a connection whose peer broke the protocol.
    async fn close(&mut self, number: u64, close: &Close) {
        let Some(connection) = self.connections.get(&number) else { return };
        tracing::warn!(connection = %connection.id, error = close as &dyn std::error::Error, "session ended");
        let (id, identity) = (connection.id.clone(), connection.identity.clone());
        match close.farewell() {
            // The peer goes by itself; one that does not is cut when nothing is heard of it.
            Some(farewell) => send(&mut self.sender, vec![identity, farewell]).await,
            None => {
                self.gateway.cut(&id, CutReason::Session);
            }
        }
        let now = Now::read();
        if let Some(connection) = self.connections.get_mut(&number)
            && let Phase::Established { session, .. } =
                std::mem::replace(&mut connection.phase, Phase::Closing)
        {
            self.unfinished(&id.minion, *session, now);
        }
    }

    fn take_events(&mut self, number: u64, now: Now) {
        loop {
            let Some(connection) = self.connections.get_mut(&number) else { return };
            let Phase::Established { session, boot } = &mut connection.phase else { return };
            let Some(event) = session.poll_event() else { return };
            let (id, boot) = (connection.id.clone(), *boot);
            match event {
                Event::Store(entry) => self.handle_entry(&id, boot, *entry, now),
                Event::JobAccepted(accepted) => {
                    self.jobs.handle_accepted(&id.minion, &accepted, now, &mut self.round.effects);
                }
                Event::Grains(own) => {
                    let sighting = Sighting { own: *own, ..self.registry.sighting(&id.minion) };
                    self.registry.sighted(
                        &id.minion,
                        sighting,
                        false,
                        &mut self.round.effects.batch,
                    );
                }
                Event::Request(request) => {
                    let ask = Ask { connection: id, request };
                    if self.requests.try_send(ask).is_err() {
                        tracing::error!("more requests than the windows of all sessions allow");
                    }
                }
                Event::Stale => self.sign(&id.minion, Sign::Stale, now),
                Event::Back => {
                    self.sign(&id.minion, Sign::Heard, now);
                    // Its timer ended when it fell silent.
                    self.set_timer(number);
                }
            }
        }
    }

    fn handle_entry(&mut self, id: &ConnectionId, boot: BootId, entry: OutboxEntry, now: Now) {
        let minion = &id.minion;
        self.round.outboxes.insert(id.number, entry.number);
        let newest = self.handed_in.entry(minion.clone()).or_insert((boot, 0));
        if *newest == (boot, newest.1) && entry.number <= newest.1 {
            // An older connection handed it in; this round is durable after that one.
            return;
        }
        *newest = (boot, entry.number);
        self.round.effects.batch.outbox(minion, boot, entry.number);
        let effects = &mut self.round.effects;
        let event =
            |tag, data| NewEvent { at: Some(entry.at), tag, minion: Some(minion.clone()), data };
        match entry.item {
            OutboxItem::Beacon(beacon) => match Tag::beacon(minion, &beacon.path) {
                Ok(tag) => effects.batch.event(event(tag, beacon.data)),
                Err(error) => tracing::warn!(%minion, %error, "an event's tag cannot be"),
            },
            OutboxItem::App(app) => match Tag::app(minion, &app.path) {
                Ok(tag) => effects.batch.event(event(tag, app.data)),
                Err(error) => tracing::warn!(%minion, %error, "an event's tag cannot be"),
            },
            OutboxItem::Agent(agent) => {
                match format!("drover/minion/{minion}/{}", agent.path).parse() {
                    // `start` and `stop` are the master's own words.
                    Ok(tag) if !matches!(agent.path.as_str(), "start" | "stop") => {
                        effects.batch.event(event(tag, agent.data));
                    }
                    Ok(_) => {
                        tracing::warn!(%minion, path = agent.path, "an event that is the master's to send")
                    }
                    Err(error) => tracing::warn!(%minion, %error, "an event's tag cannot be"),
                }
            }
            OutboxItem::Progress(progress) => {
                self.jobs.handle_progress(minion, progress, entry.at, effects)
            }
            OutboxItem::Return(given) => {
                self.recall(&given.jid, now);
                let jid = given.jid.clone();
                let effects = &mut self.round.effects;
                if !self.jobs.handle_return(minion, given, entry.at, now, effects) {
                    tracing::debug!(%minion, %jid, "a return that brings nothing new");
                }
            }
        }
    }

    /// A job that is over may get a late return: it comes back from the store.
    fn recall(&mut self, jid: &JobId, now: Now) {
        if self.jobs.knows(jid) {
            return;
        }
        let stored = self.store.job(jid).and_then(|job| Ok((job, self.store.job_entries(jid)?)));
        match stored {
            Ok((Some(record), entries)) => self.jobs.recall(record, entries, now),
            Ok((None, _)) => {}
            Err(error) => {
                tracing::error!(%jid, error = &error as &dyn std::error::Error, "cannot read a job");
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = Now::read();
        let current = &self.current;
        let is_connected = |minion: &MinionId| current.contains_key(minion);
        match command {
            Command::Start { request, matched, answer } => {
                // A job that is refused leaves nothing behind.
                let mut effects = Effects::default();
                let minions = matched.minions;
                match self.jobs.start(*request, minions, is_connected, now, &mut effects) {
                    Ok(mut ticket) => {
                        ticket.unknown = matched.unknown;
                        self.round.effects.append(effects);
                        let jid = ticket.jid.clone().expect("a job that was started has an id");
                        let feed = self.feeds.entry(jid).or_default().clone();
                        let started = Started { ticket, feed: Some(feed) };
                        self.answer_durably(move || drop(answer.send(Ok(started))));
                    }
                    Err(error) => drop(answer.send(Err(error))),
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
                    PendingOf::Minion(minion) => entry.minion == *minion,
                };
                let cancelled = self.jobs.cancel_pending(is_meant, now, &mut self.round.effects);
                self.answer_durably(move || drop(answer.send(cancelled)));
            }
            Command::Reply { connection, reply } => {
                self.round.replies.push((connection.number, reply))
            }
            Command::Stop => {}
        }
    }

    fn answer_durably(&mut self, answer: impl FnOnce() + Send + 'static) {
        self.round.answers.push(Box::new(answer));
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
                Phase::Established { mut session, boot } => {
                    session.handle_timeout(now.instant);
                    connection.phase = Phase::Established { session, boot };
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

    /// Hands in what this round brings to the store; the rest follows once that is durable.
    async fn settle(&mut self) -> Result<(), StoreError> {
        while !self.round.is_empty() {
            let mut round = std::mem::take(&mut self.round);
            if round.needs_store() {
                let submitted = self.store.submit(round.take_batch()).await?;
                self.flushing.push_back(Box::pin(settle::stored(submitted, round)));
            } else {
                self.finish(round).await;
            }
        }
        Ok(())
    }

    /// Everything that the round brought is durable: it may be acknowledged, answered and told.
    async fn finish(&mut self, round: Round) {
        let now = Now::read();
        let mut touched = Vec::new();
        for (jid, line) in round.effects.lines {
            if let Some(feed) = self.feeds.get(&jid) {
                feed.push(line);
            }
        }
        for answer in round.answers {
            answer();
        }
        for jid in round.effects.over {
            if !self.jobs.knows(&jid) {
                self.feeds.remove(&jid);
            }
        }
        for (number, reply) in round.replies {
            if let Some(session) = self.connections.get_mut(&number).and_then(Connection::session) {
                session.reply(*reply);
                touched.push(number);
            }
        }
        for (number, through) in round.outboxes {
            if let Some(session) = self.connections.get_mut(&number).and_then(Connection::session) {
                session.durable(through);
                touched.push(number);
            }
        }
        for (minion, frame) in round.effects.sends {
            let number = self.current.get(&minion).copied();
            let connection = number.and_then(|number| self.connections.get_mut(&number));
            match (number, connection.and_then(Connection::session)) {
                (Some(number), Some(session)) => {
                    touched.push(number);
                    if let Err(frame) = session.queue_job(frame) {
                        self.jobs.handle_refused(
                            &minion,
                            frame.jid(),
                            now,
                            &mut self.round.effects,
                        );
                    }
                }
                // It went while the job was journalled.
                (None, _) | (_, None) => {
                    self.jobs.handle_refused(&minion, frame.jid(), now, &mut self.round.effects);
                }
            }
        }
        for (minion, jid) in round.effects.kills {
            let number = self.current.get(&minion).copied();
            let connection = number.and_then(|number| self.connections.get_mut(&number));
            if let (Some(number), Some(session)) =
                (number, connection.and_then(Connection::session))
            {
                touched.push(number);
                match session.kill_job(&jid) {
                    Killed::Sent => {}
                    Killed::Unsent => {
                        self.jobs.handle_unsent(&minion, &jid, now, &mut self.round.effects)
                    }
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for number in touched {
            self.transmit(number).await;
        }
    }

    async fn transmit(&mut self, number: u64) {
        let wall = Now::read().wall;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let identity = connection.identity.clone();
        let Some(session) = connection.session() else { return };
        while let Some(frame) = session.poll_transmit(wall) {
            send(&mut self.sender, vec![identity.clone(), frame]).await;
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
