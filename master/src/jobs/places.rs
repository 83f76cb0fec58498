//! How a job's place on one minion changes: the entries, events, lines and deadlines that belong together.

use std::time::{Duration, Instant};

use drover_proto::{
    MinionId,
    id::JobId,
    job::{Job, JobRecord, JobState},
    session::master::{JobFrame, JobFrameError},
};
use jiff::Timestamp;

use super::{Effects, JobLimits, Jobs, Line, Place, RETURN, STATE_RUN, events};
use crate::{
    clock::Now,
    store::{JobEntry, PendingEntry},
};

impl Jobs {
    pub(super) fn frame(&self, record: &JobRecord) -> Result<JobFrame, JobFrameError> {
        let request = &record.request;
        JobFrame::new(Job {
            jid: record.jid.clone(),
            fun: request.fun.clone(),
            arg: request.arg.clone(),
            kwarg: request.kwarg.clone(),
            timeout: request.job_timeout.unwrap_or(self.limits.timeout.as_secs()),
        })
    }

    /// How many are not over on every minion.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// How many are kept for minions that are away, each minion's counted.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn pending_entry(&self, record: &JobRecord, minion: &MinionId) -> PendingEntry {
        let ttl = record.request.ttl.unwrap_or(self.limits.ttl.as_secs());
        let ttl = jiff::SignedDuration::from_secs(i64::try_from(ttl).unwrap_or(i64::MAX));
        PendingEntry {
            jid: record.jid.clone(),
            minion: minion.clone(),
            fun: record.request.fun.clone(),
            arg: record.request.arg.clone(),
            kwarg: record.request.kwarg.clone(),
            queued: record.ts,
            expires: record.ts.checked_add(ttl).unwrap_or(Timestamp::MAX),
        }
    }

    pub(super) fn queue(
        &mut self,
        record: &JobRecord,
        minion: &MinionId,
        now: Now,
        effects: &mut Effects,
    ) {
        let entry = self.pending_entry(record, minion);
        effects.batch.pending(&entry);
        effects.batch.job_entry(&record.jid, minion, &JobEntry::new(JobState::Queued, now.wall));
        effects.batch.event(events::pending(&entry, "queued"));
        effects
            .lines
            .push((record.jid.clone(), Line::of(minion.clone(), JobState::Queued, now.wall)));
        self.pending.insert(entry, now);
        self.place(&record.jid, minion, JobState::Queued, None);
    }

    /// The minion has a job that was kept for it: it is kept no longer.
    pub(super) fn delivered(
        &mut self,
        record: &JobRecord,
        minion: &MinionId,
        now: Now,
        effects: &mut Effects,
    ) {
        if let Some(entry) = self.pending.remove(minion, &record.jid) {
            effects.batch.pending_over(minion, &record.jid);
            effects.batch.job_entry(
                &record.jid,
                minion,
                &JobEntry::new(JobState::Running, now.wall),
            );
            effects.batch.event(events::pending(&entry, "delivered"));
        }
    }

    pub(super) fn end_pending(
        &mut self,
        jid: &JobId,
        minion: &MinionId,
        state: JobState,
        now: Now,
        effects: &mut Effects,
    ) {
        if let Some(entry) = self.pending.remove(minion, jid) {
            effects.batch.pending_over(minion, jid);
            effects.batch.event(events::pending(&entry, events::word(state)));
        }
        self.end(jid, minion, JobEntry::new(state, now.wall), effects);
    }

    /// Moves a minion's place; the first one counts as open already.
    pub(super) fn place(
        &mut self,
        jid: &JobId,
        minion: &MinionId,
        state: JobState,
        deadline: Option<Instant>,
    ) {
        let Some(active) = self.active.get_mut(jid) else { return };
        let before = active.places.insert(minion.clone(), Place { state, deadline });
        if before.is_none_or(|place| !place.state.is_final()) && state.is_final() {
            active.open = active.open.saturating_sub(1);
        }
        if let Some(at) = before.and_then(|place| place.deadline) {
            self.deadlines.remove(&(at, jid.clone(), minion.clone()));
        }
        if let Some(at) = deadline {
            self.deadlines.insert((at, jid.clone(), minion.clone()));
        }
    }

    pub(super) fn end(
        &mut self,
        jid: &JobId,
        minion: &MinionId,
        entry: JobEntry,
        effects: &mut Effects,
    ) {
        debug_assert!(entry.state.is_final(), "an end is final");
        effects.batch.job_entry(jid, minion, &entry);
        effects.lines.push((jid.clone(), Line::of(minion.clone(), entry.state, entry.ts)));
        self.place(jid, minion, entry.state, None);
        self.close_if_over(jid, effects);
    }

    pub(super) fn close_if_over(&mut self, jid: &JobId, effects: &mut Effects) {
        if self.active.get(jid).is_some_and(|active| active.open == 0) {
            self.active.remove(jid);
            effects.batch.job_over(jid);
            effects.over.push(jid.clone());
        }
    }
}

/// Whatever a request asks for: a year is as good as for ever, as the minion takes it too.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// How long a minion that runs a job may take to return it.
pub(super) fn running_time(record: &JobRecord, limits: JobLimits) -> Duration {
    let timeout = record.request.job_timeout.map_or(limits.timeout, Duration::from_secs);
    // A deadline beyond the clock's range would be none.
    let timeout = timeout.min(LONGEST);
    let at_least =
        if record.request.fun.starts_with("state.") { STATE_RUN } else { Duration::ZERO };
    timeout.max(at_least) + RETURN
}
