//! What goes wrong between the two: connections that are cut, and crashes of either end.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the one kind that it looks for")]

use std::collections::BTreeSet;

use super::{Master, Minion, Pair, settings};
use crate::{
    message::OutboxItem,
    outbox::Outbox,
    session::minion::{self, End},
};

impl Pair {
    /// The minion's end is gone; the master still reads what was on its way, and then loses it, too.
    pub(in crate::session::tests) fn cut(&mut self) {
        let now = self.now;
        self.minion = match std::mem::replace(&mut self.minion, Minion::Changing) {
            Minion::Greeting(phase, _) => Minion::Disconnected(phase.disconnect(now)),
            Minion::Established(phase, _) => Minion::Disconnected(phase.disconnect(End::Lost, now)),
            phase @ (Minion::Disconnected(_) | Minion::Changing) => phase,
        };
    }

    /// The master notices that every connection but the minion's newest is dead.
    pub(in crate::session::tests) fn drop_old_connections(&mut self) {
        let current = match &self.minion {
            Minion::Greeting(_, at) | Minion::Established(_, at) => Some(*at),
            Minion::Disconnected(_) | Minion::Changing => None,
        };
        for at in 0..self.connections.len() {
            if Some(at) != current {
                self.close_master_end(at);
            }
        }
    }

    fn close_master_end(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        connection.to_master.clear();
        connection.to_minion.clear();
        let Master::Established(session, _) =
            std::mem::replace(&mut connection.master, Master::Closed)
        else {
            return;
        };
        let left = session.disconnect();
        for jid in left.unacknowledged.into_iter().chain(left.unsent).rev() {
            self.waiting_jobs.push_front(self.jobs[&jid].clone());
        }
    }

    /// Power off and on: what was in memory is gone.
    pub(in crate::session::tests) fn crash_minion(&mut self) {
        self.cut();
        self.boots += 1;
        self.outbox = Outbox::default();
        self.ran.clear();
        let settings = settings(self.boots, self.seed + self.boots as u64);
        self.minion = Minion::Disconnected(minion::Disconnected::new(settings, self.now));
    }

    /// What was not flushed is gone, and so is every connection. Jobs are journalled, and queued again.
    pub(in crate::session::tests) fn crash_master(&mut self) {
        self.store.truncate(self.durable);
        for at in 0..self.connections.len() {
            self.close_master_end(at);
        }
        self.cut();
        self.queue_unreturned();
    }

    /// What the caller does when it cannot know any more who has which job: the minion tells repetitions apart.
    pub(super) fn queue_unreturned(&mut self) {
        let returned: BTreeSet<_> = self
            .store
            .iter()
            .filter_map(|(_, _, item)| match item {
                OutboxItem::Return(given) => Some(given.jid.clone()),
                _ => None,
            })
            .collect();
        self.waiting_jobs =
            self.jobs.values().filter(|job| !returned.contains(&job.jid)).cloned().collect();
    }
}
