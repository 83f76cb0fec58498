//! What followers of a job read: a line for each thing that became of it on a minion, in order. Returns' values are
//! not in it; they are in the store by the time that the line is.

use std::sync::{Mutex, PoisonError};

use drover_proto::{MinionId, job::JobState};
use jiff::Timestamp;
use tokio::sync::watch;

/// What became of a job on one minion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The minion.
    pub minion: MinionId,
    /// Where the job stands there.
    pub state: JobState,
    /// How many jobs run before it there.
    pub behind: Option<u32>,
    /// Since when.
    pub ts: Timestamp,
}

impl Line {
    pub(super) const fn of(minion: MinionId, state: JobState, ts: Timestamp) -> Self {
        Self { minion, state, behind: None, ts }
    }

    pub(super) const fn running(minion: MinionId, behind: u32, ts: Timestamp) -> Self {
        Self { minion, state: JobState::Running, behind: Some(behind), ts }
    }
}

/// One job's lines, shared by the hub, which writes, and any number of readers at their own pace.
#[derive(Debug)]
pub struct Feed {
    lines: Mutex<Vec<Line>>,
    length: watch::Sender<usize>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { lines: Mutex::default(), length: watch::Sender::new(0) }
    }
}

impl Feed {
    /// Adds a line.
    pub fn push(&self, line: Line) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
        self.length.send_replace(lines.len());
    }

    /// Tells how many lines there are, whenever that changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.length.subscribe()
    }

    /// The lines after the first `seen`.
    #[must_use]
    pub fn after(&self, seen: usize) -> Vec<Line> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.get(seen..).unwrap_or_default().to_vec()
    }
}
