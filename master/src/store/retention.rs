//! What the store forgets: events by age and by bytes, jobs with their returns by age. A pass looks at the oldest
//! only, and removes no more than a writer can wait for.

use std::time::Duration;

use drover_proto::id::JobId;
use jiff::{SignedDuration, Timestamp};

use super::{
    engine::{Change, Engine, EngineError},
    keys::{self, ledger},
    log,
};

/// How many entries one pass removes. A job goes with all of its returns, so the last one may be more.
const MOST_REMOVED: usize = 256;
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long the master remembers what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Older events go.
    pub age: Duration,
    /// The oldest events go when there are more bytes.
    pub bytes: u64,
    /// Older jobs go, with their returns, unless they are still kept for somebody.
    pub jobs: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: MONTH, bytes: 1 << 30, jobs: MONTH }
    }
}

impl Retention {
    /// The oldest values of the log, of which the newest event is `last` and all that ever were are `offset` bytes.
    /// The newest value always stays, because seqs go on from it.
    pub(super) fn expired_events(
        &self,
        engine: &Engine,
        last: u64,
        offset: u64,
        now: Timestamp,
    ) -> Result<Vec<Change>, EngineError> {
        let oldest = before(now, self.age);
        let mut values = engine.range(&[ledger::EVENT], &keys::event(last + 1)).peekable();
        let mut removed = Vec::new();
        while removed.len() < MOST_REMOVED {
            let Some((key, value)) = values.next().transpose()? else { break };
            if values.peek().is_none() {
                break;
            }
            let keep = log::header(keys::event_seq(&key), &value).is_ok_and(|header| {
                header.newest >= oldest && offset - header.offset <= self.bytes
            });
            if keep {
                break;
            }
            removed.push(Change { key, value: None });
        }
        Ok(removed)
    }

    /// The oldest jobs, with their places on minions: a job's id begins with its time.
    pub(super) fn expired_jobs(
        &self,
        engine: &Engine,
        now: Timestamp,
    ) -> Result<Vec<Change>, EngineError> {
        let until = JobId::next(before(now, self.jobs), None);
        let mut removed = Vec::new();
        for job in engine.range(&[ledger::JOB], &keys::named(ledger::JOB, until.as_str())) {
            if removed.len() >= MOST_REMOVED {
                break;
            }
            let (key, _) = job?;
            let jid = std::str::from_utf8(&key[1..]).ok().and_then(|jid| jid.parse().ok());
            if let Some(jid) = jid {
                if engine.value(&keys::named(ledger::ACTIVE_JOB, JobId::as_str(&jid)))?.is_some() {
                    continue;
                }
                let (from, until) = keys::job_entries(&jid);
                for entry in engine.range(&from, &until) {
                    removed.push(Change { key: entry?.0, value: None });
                }
            }
            removed.push(Change { key, value: None });
        }
        Ok(removed)
    }
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    now.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH)
}
