//! Numbers about jobs that others read: how many are not over, and how they ended since the master started.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use drover_proto::job::JobState;

/// Numbers about jobs; the hub writes them.
#[derive(Debug, Default)]
pub struct Tally {
    ended: [AtomicU64; Self::ENDS.len()],
    active: AtomicUsize,
    pending: AtomicUsize,
}

impl Tally {
    /// The states in which a job ends on a minion.
    pub const ENDS: [JobState; 6] = [
        JobState::Done,
        JobState::Failed,
        JobState::TimedOut,
        JobState::Expired,
        JobState::Superseded,
        JobState::Cancelled,
    ];

    /// How often a job ended so on a minion. One that ended twice, by a late return, counts twice.
    #[must_use]
    pub fn ended(&self, state: JobState) -> u64 {
        self.place(state).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Jobs that are not over on every minion.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// What is kept for minions that are away.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    pub(super) fn handle_state(&self, state: JobState) {
        if let Some(count) = self.place(state) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn handle_open(&self, active: usize, pending: usize) {
        self.active.store(active, Ordering::Relaxed);
        self.pending.store(pending, Ordering::Relaxed);
    }

    fn place(&self, state: JobState) -> Option<&AtomicU64> {
        let place = Self::ENDS.iter().position(|end| *end == state)?;
        Some(&self.ended[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_and_what_is_under_way_is_not() {
        let tally = Tally::default();
        for state in [JobState::Sent, JobState::Done, JobState::Running, JobState::Done] {
            tally.handle_state(state);
        }
        let ended = Tally::ENDS.map(|state| tally.ended(state));
        assert_eq!(ended, [2, 0, 0, 0, 0, 0]);
    }
}
