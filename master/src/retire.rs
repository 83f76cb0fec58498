//! When a device's day has come: its last act is started, awaited, and then the device is revoked. A machine without I/O;
//! all that it knows stands in the registry and in the store, so a master that starts again goes on.

use std::collections::{BTreeSet, HashMap, VecDeque};

use drover_proto::{MinionId, id::JobId};
use jiff::Timestamp;

use crate::registry::{LastActEnd, Retirement};

mod task;

pub use task::{RetireHandle, RetireTask};

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start its last act, and say which job that is.
    Begin(MinionId),
    /// Send it its last act, which waits for it.
    Deliver(MinionId),
    /// Its service is over.
    End(MinionId, LastActEnd),
}

/// Devices that are to retire.
#[derive(Debug, Default)]
pub struct Retirements {
    minions: HashMap<MinionId, Leaving>,
    due: BTreeSet<(Timestamp, MinionId)>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Leaving {
    retirement: Retirement,
    due: Timestamp,
    has_begun: bool,
}

impl Retirements {
    /// What the registry has: every accepted device that is to retire. One that is not among them stays.
    pub fn handle_registry(&mut self, retiring: Vec<(MinionId, Retirement)>) {
        let mut before = std::mem::take(&mut self.minions);
        self.due.clear();
        for (minion, retirement) in retiring {
            // One that is being begun has no job in the registry yet.
            let has_begun = retirement.jid.is_some()
                || before.remove(&minion).is_some_and(|leaving| {
                    leaving.has_begun && leaving.retirement.at == retirement.at
                });
            let due = if has_begun { retirement.ends() } else { retirement.at };
            self.due.insert((due, minion.clone()));
            self.minions.insert(minion, Leaving { retirement, due, has_begun });
        }
    }

    /// Its last act has begun as this job.
    pub fn handle_begun(&mut self, minion: &MinionId, jid: JobId) {
        if let Some(leaving) = self.minions.get_mut(minion) {
            leaving.retirement.jid = Some(jid);
        }
    }

    /// A device is back.
    pub fn handle_connected(&mut self, minion: &MinionId) {
        if self.minions.get(minion).is_some_and(|leaving| leaving.retirement.jid.is_some()) {
            self.actions.push_back(Action::Deliver(minion.clone()));
        }
    }

    /// A job returned.
    pub fn handle_returned(&mut self, minion: &MinionId, jid: &JobId, is_success: bool) {
        let is_last = |leaving: &&mut Leaving| leaving.retirement.jid.as_ref() == Some(jid);
        if self.minions.get_mut(minion).as_ref().is_some_and(is_last) {
            self.end(minion, if is_success { LastActEnd::Done } else { LastActEnd::Failed });
        }
    }

    /// What is due by now.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.due.first()
            && *at <= now
        {
            let (_, minion) = self.due.pop_first().expect("there is a first one");
            let Some(leaving) = self.minions.get_mut(&minion) else { continue };
            let has_more_time = leaving.retirement.ends() > now;
            match (&leaving.retirement.last_act, leaving.has_begun) {
                (None, _) => self.end(&minion, LastActEnd::None),
                (Some(_), false) if has_more_time => {
                    leaving.has_begun = true;
                    leaving.due = leaving.retirement.ends();
                    self.due.insert((leaving.due, minion.clone()));
                    self.actions.push_back(Action::Begin(minion));
                }
                (Some(_), _) => self.end(&minion, LastActEnd::Missed),
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Last acts that have begun, and are awaited.
    pub fn awaited(&self) -> impl Iterator<Item = (&MinionId, &JobId)> {
        let jid = |leaving: &'_ Leaving| leaving.retirement.jid.is_some();
        let awaited = self.minions.iter().filter(move |(_, leaving)| jid(leaving));
        awaited.filter_map(|(minion, leaving)| Some((minion, leaving.retirement.jid.as_ref()?)))
    }

    /// Whether any last act is awaited, or about to be.
    #[must_use]
    pub fn is_acting(&self) -> bool {
        self.minions.values().any(|leaving| leaving.has_begun)
    }

    fn end(&mut self, minion: &MinionId, end: LastActEnd) {
        if let Some(leaving) = self.minions.remove(minion) {
            self.due.remove(&(leaving.due, minion.clone()));
            self.actions.push_back(Action::End(minion.clone(), end));
        }
    }
}

#[cfg(test)]
mod tests;
