//! The end of a round: first to the store, then, once that is durable, everything that others are told and sent.

use drover_proto::session::master::Killed;

use super::{HubTask, send};
use crate::{
    clock::Now,
    hub::{
        connection::Connection,
        settle::{self, Round},
    },
    store::StoreError,
};

impl HubTask {
    pub(super) fn answer_durably(&mut self, answer: impl FnOnce() + Send + 'static) {
        self.round.answers.push(Box::new(answer));
    }

    /// Hands in what this round brings to the store; the rest follows once that is durable.
    pub(super) async fn settle(&mut self) -> Result<(), StoreError> {
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
    pub(super) async fn finish(&mut self, round: Round) {
        let now = Now::read();
        let mut touched = Vec::new();
        self.tally.handle_open(self.jobs.active(), self.jobs.kept());
        for (jid, line) in round.effects.lines {
            self.tally.handle_state(line.state);
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
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            if let Some(session) = connection.session() {
                session.reply(*reply);
                connection.backlog.handle_reply();
                touched.push(number);
            }
        }
        for (minion, notice) in round.notices {
            let number = self.current.get(&minion).copied();
            let connection = number.and_then(|number| self.connections.get_mut(&number));
            if let (Some(number), Some(session)) =
                (number, connection.and_then(Connection::session))
            {
                session.notify(notice);
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

    pub(super) async fn transmit(&mut self, number: u64) {
        let wall = Now::read().wall;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let identity = connection.identity.clone();
        let Some(session) = connection.session() else { return };
        let mut sent = 0;
        while let Some(frame) = session.poll_transmit(wall) {
            send(&mut self.sender, vec![identity.clone(), frame]).await;
            sent += 1;
        }
        connection.backlog.handle_sent(sent);
    }
}
