//! Jobs on their way: who was sent what, who has it, who answered, and by when the others are given up. A machine
//! without I/O: the hub tells it what happens, and does what the returned [`Effects`] say. What is over lives in the
//! store alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use drover_proto::{
    MinionId,
    event::{NewEvent, Tag},
    id::JobId,
    job::{JobRecord, JobRequest, JobState, Return},
    message::{JobAccepted, Progress},
    session::master::{JobFrame, JobFrameError},
};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    clock::Now,
    store::{JobEntry, PendingEntry},
};

mod effects;
pub(crate) mod events;
mod feed;
mod pending;
mod places;

#[cfg(test)]
mod tests;

pub use effects::{Effects, Ticket};
pub use feed::{Feed, Line};

use pending::{Pending, SupersedeKey};
use places::running_time;

/// How long a minion that is connected may take to say that it has a job.
const ANSWER: Duration = Duration::from_secs(60);
/// What a return may take beyond the time that the function may take.
const RETURN: Duration = Duration::from_secs(60);
/// State runs pull images over slow links: the minion allows them this at least.
const STATE_RUN: Duration = Duration::from_secs(3_600);
/// A job that waits on the minion for others.
const TURN: Duration = Duration::from_secs(86_400);

/// What the master's configuration says of jobs.
#[derive(Debug, Clone, Copy)]
pub struct JobLimits {
    /// How long a function may run where the request does not say.
    pub timeout: Duration,
    /// How long a job is kept for a minion that is away where the request does not say.
    pub ttl: Duration,
}

/// Jobs that are not over.
pub struct Jobs {
    limits: JobLimits,
    last: Option<JobId>,
    active: BTreeMap<JobId, Active>,
    deadlines: BTreeSet<(Instant, JobId, MinionId)>,
    pending: Pending,
}

struct Active {
    record: Arc<JobRecord>,
    frame: JobFrame,
    places: HashMap<MinionId, Place>,
    /// How many places are not final.
    open: usize,
}

/// Where a job stands on one minion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    state: JobState,
    deadline: Option<Instant>,
}

impl Jobs {
    /// No jobs yet. `last` is the newest id that was ever given.
    #[must_use]
    pub fn new(limits: JobLimits, last: Option<JobId>) -> Self {
        Self {
            limits,
            last,
            active: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            pending: Pending::default(),
        }
    }

    /// Starts a job on the minions that its target means.
    ///
    /// # Errors
    /// When its arguments make it a message that no minion takes.
    pub fn start(
        &mut self,
        request: JobRequest,
        minions: Vec<MinionId>,
        is_connected: impl Fn(&MinionId) -> bool,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Ticket, JobFrameError> {
        let jid = JobId::next(now.wall, self.last.as_ref());
        let record = Arc::new(JobRecord { jid: jid.clone(), request, ts: now.wall, minions });
        let frame = self.frame(&record)?;
        self.last = Some(jid.clone());
        effects.batch.job(&record);
        effects.batch.event(events::new_job(&record));
        let active = Active {
            frame: frame.clone(),
            places: HashMap::with_capacity(record.minions.len()),
            open: record.minions.len(),
            record: record.clone(),
        };
        self.active.insert(jid.clone(), active);
        let mut ticket = Ticket {
            jid: Some(jid.clone()),
            minions: record.minions.clone(),
            away: Vec::new(),
            queued: Vec::new(),
            unknown: Vec::new(),
            not_accepted: BTreeMap::new(),
        };
        let key = SupersedeKey::of(&record.request);
        for minion in &record.minions {
            let is_connected = is_connected(minion);
            // One that never reaches the minion replaces nothing that would.
            if is_connected || record.request.pending {
                let earlier = key.as_ref().map(|key| self.pending.superseded_by(minion, key));
                for earlier in earlier.unwrap_or_default() {
                    self.end_pending(&earlier, minion, JobState::Superseded, now, effects);
                }
            }
            if is_connected {
                self.place(&jid, minion, JobState::Sent, Some(now.instant + ANSWER));
                effects.sends.push((minion.clone(), frame.clone()));
            } else {
                ticket.away.push(minion.clone());
                if record.request.pending {
                    ticket.queued.push(minion.clone());
                    self.queue(&record, minion, now, effects);
                } else {
                    self.end(&jid, minion, JobEntry::new(JobState::TimedOut, now.wall), effects);
                }
            }
        }
        Ok(ticket)
    }

    /// Takes up a job that was not over when the master ended.
    pub fn load(
        &mut self,
        record: JobRecord,
        entries: Vec<(MinionId, JobEntry)>,
        now: Now,
        effects: &mut Effects,
    ) {
        let jid = record.jid.clone();
        self.take_up(record, entries, now, effects);
        self.close_if_over(&jid, effects);
    }

    fn take_up(
        &mut self,
        record: JobRecord,
        entries: Vec<(MinionId, JobEntry)>,
        now: Now,
        effects: &mut Effects,
    ) {
        let Ok(frame) = self.frame(&record) else { return };
        let record = Arc::new(record);
        let jid = record.jid.clone();
        let mut active = Active {
            record: record.clone(),
            frame,
            places: HashMap::with_capacity(record.minions.len()),
            open: record.minions.len(),
        };
        for (minion, entry) in entries {
            if entry.state.is_final() {
                active.open = active.open.saturating_sub(1);
            }
            active.places.insert(minion, Place { state: entry.state, deadline: None });
        }
        self.active.insert(jid.clone(), active);
        for minion in &record.minions {
            let state = self.active[&jid].places.get(minion).map(|place| place.state);
            match state {
                // It was sent, or about to be, and nobody knows whether it came through. A repetition is harmless.
                None | Some(JobState::Sent) if record.request.pending => {
                    self.queue(&record, minion, now, effects);
                }
                Some(JobState::Queued) => {
                    self.pending.insert(self.pending_entry(&record, minion), now);
                }
                None | Some(JobState::Sent) => {
                    self.place(&jid, minion, JobState::Sent, Some(now.instant + ANSWER));
                }
                Some(JobState::Running) => {
                    self.place(
                        &jid,
                        minion,
                        JobState::Running,
                        Some(now.instant + running_time(&record, self.limits)),
                    );
                }
                Some(
                    JobState::Done
                    | JobState::Failed
                    | JobState::TimedOut
                    | JobState::Expired
                    | JobState::Superseded
                    | JobState::Cancelled,
                ) => {}
            }
        }
    }

    /// Brings back a job that is over, for a return that comes late. It is over again with that return.
    pub fn recall(&mut self, record: JobRecord, entries: Vec<(MinionId, JobEntry)>, now: Now) {
        // What this would store is stored already, and what it would tell was told.
        self.take_up(record, entries, now, &mut Effects::default());
    }

    /// Whether the job is here. One that is not may be in the store.
    #[must_use]
    pub fn knows(&self, jid: &JobId) -> bool {
        self.active.contains_key(jid)
    }

    /// Where an active job stands on its minions, as far as it is not in the store.
    #[must_use]
    pub fn states(&self, jid: &JobId) -> Vec<(MinionId, JobState)> {
        let places = self.active.get(jid).into_iter().flat_map(|active| &active.places);
        places.map(|(minion, place)| (minion.clone(), place.state)).collect()
    }

    /// The minion has the job.
    pub fn handle_accepted(
        &mut self,
        minion: &MinionId,
        accepted: &JobAccepted,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(active) = self.active.get(&accepted.jid) else { return };
        let record = active.record.clone();
        let Some(place) = active.places.get(minion) else { return };
        if place.state.is_final() {
            return;
        }
        let takes = running_time(&record, self.limits)
            + if accepted.behind > 0 { TURN } else { Duration::ZERO };
        self.delivered(&record, minion, now, effects);
        self.place(&accepted.jid, minion, JobState::Running, Some(now.instant + takes));
        let line = Line::running(minion.clone(), accepted.behind, now.wall);
        effects.lines.push((accepted.jid.clone(), line));
    }

    /// The minion's return; false when it brings nothing new. The event is part of the batch.
    pub fn handle_return(
        &mut self,
        minion: &MinionId,
        given: Return,
        at: Timestamp,
        now: Now,
        effects: &mut Effects,
    ) -> bool {
        let Some(active) = self.active.get(&given.jid) else { return false };
        let record = active.record.clone();
        let is_new = match active.places.get(minion).map(|place| place.state) {
            // A resent return of an agent that has restarted since.
            Some(JobState::Done | JobState::Failed) => false,
            // One that comes late is better than none.
            Some(
                JobState::Queued
                | JobState::Sent
                | JobState::Running
                | JobState::TimedOut
                | JobState::Expired
                | JobState::Superseded
                | JobState::Cancelled,
            ) => true,
            None => record.minions.contains(minion),
        };
        if !is_new {
            self.close_if_over(&given.jid, effects);
            return false;
        }
        self.delivered(&record, minion, now, effects);
        effects.batch.event(events::job_return(&record, minion, &given, at));
        let jid = given.jid.clone();
        let entry = JobEntry {
            state: if given.success() { JobState::Done } else { JobState::Failed },
            retcode: Some(given.retcode),
            value: Some(given.value),
            ts: now.wall,
        };
        self.end(&jid, minion, entry, effects);
        true
    }

    /// How far a job is: an event.
    pub fn handle_progress(
        &self,
        minion: &MinionId,
        progress: Progress,
        at: Timestamp,
        effects: &mut Effects,
    ) {
        if self
            .active
            .get(&progress.jid)
            .is_some_and(|active| active.record.minions.contains(minion))
        {
            let tag = Tag::job_progress(&progress.jid, minion);
            let data = json!({ "id": minion, "jid": progress.jid, "data": progress.data });
            effects.batch.event(NewEvent { at: Some(at), tag, minion: Some(minion.clone()), data });
        }
    }

    /// A connection ended with these jobs sent and not acknowledged, or not sent. Those that may wait are queued again;
    /// whether the minion has the others shows when it returns.
    pub fn handle_unfinished(
        &mut self,
        minion: &MinionId,
        jids: &[JobId],
        now: Now,
        effects: &mut Effects,
    ) {
        for jid in jids {
            let Some(active) = self.active.get(jid) else { continue };
            let record = active.record.clone();
            let is_sent = active
                .places
                .get(minion)
                .is_some_and(|place| matches!(place.state, JobState::Sent | JobState::Queued));
            if record.request.pending && is_sent {
                if self.pending.release(minion, jid) {
                    self.place(jid, minion, JobState::Queued, None);
                } else {
                    self.queue(&record, minion, now, effects);
                }
            }
        }
        for outdated in self.pending.outdated(minion) {
            self.end_pending(&outdated, minion, JobState::Superseded, now, effects);
        }
    }

    /// A minion is back. What it was sent and has not returned is sent again: what changes something runs once all the
    /// same.
    pub fn handle_connected(&self, minion: &MinionId, effects: &mut Effects) {
        for active in self.active.values() {
            // One that it has may have ended with the agent: a repetition is harmless, and brings it back if so.
            let under_way = |place: &Place| {
                matches!(place.state, JobState::Sent | JobState::Running)
                    && place.deadline.is_some()
            };
            if active.places.get(minion).is_some_and(under_way) {
                effects.sends.push((minion.clone(), active.frame.clone()));
            }
        }
    }

    /// The session's queue had no place for a job.
    pub fn handle_refused(
        &mut self,
        minion: &MinionId,
        jid: &JobId,
        now: Now,
        effects: &mut Effects,
    ) {
        self.handle_unfinished(minion, std::slice::from_ref(jid), now, effects);
        let is_sent = self.active.get(jid).and_then(|active| active.places.get(minion));
        if is_sent.is_some_and(|place| place.state == JobState::Sent) {
            self.end(jid, minion, JobEntry::new(JobState::TimedOut, now.wall), effects);
        }
    }

    /// Sends what is kept for a minion that is connected, oldest first; what is on its way is not sent twice. Returns what
    /// is sent.
    pub fn deliver(&mut self, minion: &MinionId, now: Now, effects: &mut Effects) -> Vec<JobId> {
        let jids = self.pending.take_waiting(minion);
        for jid in &jids {
            let Some(active) = self.active.get(jid) else { continue };
            effects.sends.push((minion.clone(), active.frame.clone()));
            self.place(jid, minion, JobState::Sent, None);
            let line = Line::of(minion.clone(), JobState::Sent, now.wall);
            effects.lines.push((jid.clone(), line));
        }
        jids
    }

    /// Everything that is kept, by minion, oldest first.
    #[must_use]
    pub fn pending(&self) -> Vec<PendingEntry> {
        self.pending.entries()
    }

    /// Takes back what is kept: of a job, or of a minion. Returns what it was.
    pub fn cancel_pending(
        &mut self,
        is_meant: impl Fn(&PendingEntry) -> bool,
        now: Now,
        effects: &mut Effects,
    ) -> Vec<(JobId, MinionId)> {
        let meant: Vec<_> = self.pending.entries().into_iter().filter(is_meant).collect();
        let meant: Vec<_> = meant.into_iter().map(|entry| (entry.jid, entry.minion)).collect();
        for (jid, minion) in &meant {
            if self.pending.is_on_its_way(minion, jid) {
                effects.kills.push((minion.clone(), jid.clone()));
            }
            self.end_pending(jid, minion, JobState::Cancelled, now, effects);
        }
        meant
    }

    /// Ends a job wherever it is not over. Returns where that is.
    pub fn kill(
        &mut self,
        jid: &JobId,
        is_connected: impl Fn(&MinionId) -> bool,
        now: Now,
        effects: &mut Effects,
    ) -> Vec<MinionId> {
        let Some(active) = self.active.get(jid) else { return Vec::new() };
        let mut open: Vec<_> = active
            .places
            .iter()
            .filter(|(_, place)| !place.state.is_final())
            .map(|(minion, place)| (minion.clone(), place.state))
            .collect();
        open.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (minion, state) in &open {
            if is_connected(minion) && *state != JobState::Queued {
                // The minion's return says how it ended.
                effects.kills.push((minion.clone(), jid.clone()));
            } else if self.pending.contains(minion, jid) {
                self.end_pending(jid, minion, JobState::Cancelled, now, effects);
            } else {
                self.end(jid, minion, JobEntry::new(JobState::Cancelled, now.wall), effects);
            }
        }
        open.into_iter().map(|(minion, _)| minion).collect()
    }

    /// A job that was still in the session's queue was taken out of it.
    pub fn handle_unsent(
        &mut self,
        minion: &MinionId,
        jid: &JobId,
        now: Now,
        effects: &mut Effects,
    ) {
        let is_open = self.active.get(jid).and_then(|active| active.places.get(minion));
        if is_open.is_some_and(|place| !place.state.is_final()) {
            if self.pending.contains(minion, jid) {
                self.end_pending(jid, minion, JobState::Cancelled, now, effects);
            } else {
                self.end(jid, minion, JobEntry::new(JobState::Cancelled, now.wall), effects);
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(at, _, _)| *at);
        deadline.into_iter().chain(self.pending.poll_timeout()).min()
    }

    /// Gives up what nobody answered in time, and what was kept long enough.
    pub fn handle_timeout(&mut self, now: Now, effects: &mut Effects) {
        while let Some((at, _, _)) = self.deadlines.first()
            && *at <= now.instant
        {
            let (_, jid, minion) = self.deadlines.pop_first().expect("there is a first one");
            self.end(&jid, &minion, JobEntry::new(JobState::TimedOut, now.wall), effects);
        }
        for (minion, jid) in self.pending.take_expired(now.instant) {
            self.end_pending(&jid, &minion, JobState::Expired, now, effects);
        }
    }
}
