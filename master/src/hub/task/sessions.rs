//! What the hub does with a connection's frames: takes a minion in, hands on what it did, and lets it go.

use drover_pki::verify::MinionCertificate;
use drover_proto::{
    MinionId,
    event::{NewEvent, Tag},
    id::{BootId, JobId},
    job::JobState,
    message::{OutboxEntry, OutboxItem, Roots, Scope},
    session::master::{Close, Established, Event, Offered, Terms},
    tunnel::{ConnectionId, CutReason},
};
use serde_json::json;

use super::{HubTask, send};
use crate::{
    clock::Now,
    clones::Machine,
    hub::{
        Ask, Sign,
        connection::{Phase, RETRY, RETRY_OF_CLONE},
    },
    operational::Applicant,
    registry::{AskedBy, IssuedCertificate, Sighting},
    store::JobEntry,
};

impl HubTask {
    pub(super) async fn handle_frame(&mut self, id: &ConnectionId, frame: &[u8]) {
        if !self.connections.contains_key(&id.number) {
            // Its `Connected` was sent before its first frame, by another way.
            self.handle_gateway(None);
        }
        let now = Now::read();
        let Some(connection) = self.connections.get_mut(&id.number) else { return };
        match std::mem::replace(&mut connection.phase, Phase::Closing) {
            Phase::Closing => {}
            Phase::Hello(waiting, certificate) => match waiting.handle_frame(frame) {
                Ok(offered) => match self.registry.scope(&certificate, now.wall) {
                    Some(scope) => {
                        self.welcome(id.number, offered, scope, &certificate, now).await;
                    }
                    None => {
                        self.gateway.cut(id, CutReason::NotAccepted);
                    }
                },
                Err(close) => self.close(id.number, &close).await,
            },
            Phase::Established { mut session, boot, applicant } => {
                if session.scope() == Scope::Full {
                    self.roster.heard(&id.minion, now.wall);
                }
                let handled = match connection.backlog.excess() {
                    None => session.handle_frame(frame, now.instant),
                    Some(close) => Err(close),
                };
                connection.phase = Phase::Established { session, boot, applicant };
                self.take_events(id.number, now);
                self.transmit(id.number).await;
                if let Err(close) = handled {
                    self.close(id.number, &close).await;
                }
            }
        }
    }

    /// Takes a minion in. Its newer connection takes the place of an older one, unless it has come for a certificate alone:
    /// then it is not connected as others see it, and has none of its work.
    async fn welcome(
        &mut self,
        number: u64,
        offered: Offered,
        scope: Scope,
        certificate: &MinionCertificate,
        now: Now,
    ) {
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
        let machine =
            Machine::new(boot, connection.address.ip(), &certificate.fingerprint, now.wall);
        if !self.is_welcome(&minion, number, machine, scope, now) {
            let Some(connection) = self.connections.get(&number) else { return };
            let farewell = offered.retry_after(RETRY_OF_CLONE, "another machine has this identity");
            let frames = vec![connection.identity.clone(), farewell];
            send(&mut self.sender, frames).await;
            return;
        }
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let known = entry.birth.as_ref().and_then(|birth| birth.serial.as_ref());
        let applicant = Applicant::new(certificate, known);
        let retires = entry.retire.as_ref().map(|retire| retire.at);
        let terms = Terms { grains: entry.enrolled, acknowledged, scope, retires };
        let (session, frame, hello) = offered.welcome(terms, now.wall, now.instant);
        let asked_by = applicant.by;
        let is_operational = asked_by == AskedBy::Operational;
        connection.phase = Phase::Established { session: Box::new(session), boot, applicant };
        let address = connection.address;
        connection.backlog.handle_sent(1);
        let frames = vec![connection.identity.clone(), frame];
        let roots = Roots { root_list: hello.root_list, roots: hello.roots };
        if scope == Scope::Renewal {
            tracing::debug!(%minion, "has come for an operational certificate");
            send(&mut self.sender, frames).await;
            // What it is issued may lead to a root that it does not know yet.
            self.tell_welcomed(number, &roots, certificate, asked_by);
            self.transmit(number).await;
            return;
        }
        if is_operational {
            self.registry.used(&minion, IssuedCertificate::shown(certificate), now.wall);
        }
        self.gateway.keep(&connection.id);
        let older = self.current.insert(minion.clone(), number);
        let older = older.and_then(|older| self.replace(older, now));
        let sighting = Sighting {
            own: hello.grains,
            version: hello.version,
            address: Some(address.ip()),
            last_seen: Some(now.wall),
            root_list: roots.root_list,
            roots: self.root_lists.known(&roots.roots),
        };
        let data = json!({ "id": minion, "address": address.ip(), "version": sighting.version, "boot": boot });
        let batch = &mut self.round.effects.batch;
        self.registry.sighted(&minion, sighting, false, batch);
        // One that moves to a new certificate comes before it goes: it was never away.
        if older != Some(boot) {
            batch.event(NewEvent::new(Tag::minion(&minion, "start"), Some(minion.clone()), data));
        }
        self.jobs.handle_connected(&minion, &mut self.round.effects);
        self.sign(&minion, Sign::Connected, now);
        self.roster.insert(minion, now.wall);
        send(&mut self.sender, frames).await;
        self.tell_welcomed(number, &roots, certificate, asked_by);
        self.transmit(number).await;
    }

    /// An older connection of a minion that has a newer one: it ends. Gives its boot, if it was welcomed.
    fn replace(&mut self, older: u64, now: Now) -> Option<BootId> {
        let connection = self.connections.get_mut(&older)?;
        let id = connection.id.clone();
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        self.gateway.cut(&id, CutReason::Superseded);
        let Phase::Established { session, boot, .. } = phase else { return None };
        self.unfinished(&id.minion, *session, now);
        Some(boot)
    }

    pub(super) fn unfinished(&mut self, minion: &MinionId, session: Established, now: Now) {
        let left = session.disconnect();
        for jids in [left.unacknowledged, left.unsent] {
            self.jobs.handle_unfinished(minion, &jids, now, &mut self.round.effects);
        }
    }

    /// A connection has ended.
    pub(super) fn forget(&mut self, number: u64, now: Now) {
        let Some(connection) = self.connections.remove(&number) else { return };
        let minion = connection.id.minion;
        if let Phase::Established { session, .. } = connection.phase {
            self.unfinished(&minion, *session, now);
        }
        self.clones.handle_closed(&minion, number);
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
    pub(super) async fn close(&mut self, number: u64, close: &Close) {
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

    pub(super) fn take_events(&mut self, number: u64, now: Now) {
        loop {
            let Some(connection) = self.connections.get_mut(&number) else { return };
            let Phase::Established { session, boot, applicant } = &mut connection.phase else {
                return;
            };
            let Some(event) = session.poll_event() else { return };
            let (id, boot, scope) = (connection.id.clone(), *boot, session.scope());
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
                    let ask = Ask { connection: id, applicant: applicant.clone(), request };
                    if self.requests.try_send(ask).is_err() {
                        tracing::error!("more requests than the windows of all sessions allow");
                    }
                }
                Event::Roots(roots) => self.handle_roots(&id.minion, &roots),
                // One that has come for a certificate and says nothing has no business here.
                Event::Stale if scope == Scope::Renewal => {
                    self.gateway.cut(&id, CutReason::Session);
                }
                Event::Stale => self.sign(&id.minion, Sign::Stale, now),
                Event::Back if scope == Scope::Renewal => {}
                Event::Back => {
                    self.sign(&id.minion, Sign::Heard, now);
                    // Its timer ended when it fell silent.
                    self.set_timer(number);
                }
            }
        }
    }

    fn handle_entry(&mut self, id: &ConnectionId, boot: BootId, entry: OutboxEntry, now: Now) {
        if self.refuses(id.number) {
            return;
        }
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
                self.recall(minion, &given.jid, now);
                let jid = given.jid.clone();
                let effects = &mut self.round.effects;
                if !self.jobs.handle_return(minion, given, entry.at, now, effects) {
                    tracing::debug!(%minion, %jid, "a return that brings nothing new");
                }
            }
        }
    }

    /// A job that is over may get a late return: it comes back from the store.
    fn recall(&mut self, minion: &MinionId, jid: &JobId, now: Now) {
        if self.jobs.knows(jid) {
            return;
        }
        // A job of a whole fleet is long to read: not for one that has returned it, or was never given it.
        let is_late = |entry: JobEntry| !matches!(entry.state, JobState::Done | JobState::Failed);
        if self.store.job_entry(jid, minion).is_ok_and(|entry| !entry.is_some_and(is_late)) {
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
}
