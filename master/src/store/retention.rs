//! What the store forgets: events by age and by bytes, jobs with their returns by age. A pass looks at the oldest
//! only, and removes no more than a writer can wait for.

use std::time::Duration;

use drover_proto::id::JobId;
use jiff::{SignedDuration, Timestamp};

use super::{
    engine::{Change, Engine, EngineError},
    keys::{self, ledger},
    log::{self, Header},
};

/// How many entries one pass removes. A job goes with all of its returns, so the last one may be more.
const MOST_REMOVED: usize = 256;
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long the master remembers what happened, and how much of the disk it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Older events go.
    pub age: Duration,
    /// The oldest events go when there are more bytes.
    pub bytes: u64,
    /// What a reader that [holds](super::Store::hold) the log has not passed goes only when there are more bytes.
    pub undelivered: u64,
    /// Older jobs go, with their returns, unless they are still kept for somebody.
    pub jobs: Duration,
    /// With less of the disk free, the store takes nothing more from outside.
    pub reserve: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: MONTH, bytes: 2 << 30, undelivered: 8 << 30, jobs: MONTH, reserve: 64 << 20 }
    }
}

/// One value of the log, as far as retention has to know it.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// Its newest event.
    through: u64,
    /// When that was appended.
    newest: Timestamp,
    /// Bytes of the log from its beginning to the end.
    to_end: u64,
}

impl Retention {
    fn keeps(&self, stretch: Stretch, delivered: u64, oldest: Timestamp) -> bool {
        let is_young = stretch.newest >= oldest && stretch.to_end <= self.bytes;
        is_young || (stretch.through > delivered && stretch.to_end <= self.undelivered)
    }

    /// The oldest values of the log, of which the newest event is `last` and all that ever were are `offset` bytes.
    /// Readers have passed everything up to `delivered`. The newest value always stays, because seqs go on from it. Without
    /// a time to believe, nothing is too old.
    pub(super) fn expired_events(
        &self,
        engine: &Engine,
        last: u64,
        offset: u64,
        delivered: u64,
        now: Option<Timestamp>,
    ) -> Result<Vec<Change>, EngineError> {
        let oldest = now.map_or(Timestamp::MIN, |now| before(now, self.age));
        let mut values = engine.range(&[ledger::EVENT], &keys::event(last + 1)).peekable();
        let mut removed = Vec::new();
        while removed.len() < MOST_REMOVED {
            let Some((key, value)) = values.next().transpose()? else { break };
            let Some(Ok((next, _))) = values.peek() else { break };
            let through = keys::event_seq(next) - 1;
            let keep = log::header(keys::event_seq(&key), &value).is_ok_and(|header| {
                let Header { offset: begin, newest } = header;
                self.keeps(Stretch { through, newest, to_end: offset - begin }, delivered, oldest)
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

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Values of the log as a test says them: events, bytes, and seconds since the one before.
    fn stretches(values: &[(u64, u64, i64)]) -> Vec<Stretch> {
        let (mut through, mut second) = (0, 0);
        let mut to_end: u64 = values.iter().map(|(_, bytes, _)| bytes).sum();
        values
            .iter()
            .map(|(events, bytes, later)| {
                (through, second) = (through + events, second + later);
                let stretch = Stretch { through, newest: at(second), to_end };
                to_end -= bytes;
                stretch
            })
            .collect()
    }

    proptest! {
        /// The model asks of each value by itself; what is kept is the end of the log from the first one that has to
        /// stay.
        #[test]
        fn what_goes_is_what_nobody_needs_or_has_no_room(
            values in collection::vec((1..9_u64, 1..100_u64, 0..50_i64), 1..40),
            bytes in 0..3_000_u64,
            more in 0..3_000_u64,
            delivered in 0..200_u64,
            oldest in 0..1_500_i64,
        ) {
            let retention = Retention { bytes, undelivered: more, ..Retention::default() };
            let stretches = stretches(&values);
            let keeps = |stretch: &Stretch| retention.keeps(*stretch, delivered, at(oldest));
            let gone = stretches.iter().take_while(|stretch| !keeps(stretch)).count();
            for stretch in &stretches[..gone] {
                let is_expired = stretch.newest < at(oldest) || stretch.to_end > bytes;
                prop_assert!(is_expired, "young and within the log's bytes, and gone");
                let is_delivered = stretch.through <= delivered;
                prop_assert!(is_delivered || stretch.to_end > more, "not delivered, and gone");
            }
            if let Some(first) = stretches.get(gone) {
                let undelivered = first.through > delivered && first.to_end <= more;
                let young = first.newest >= at(oldest) && first.to_end <= bytes;
                prop_assert!(undelivered || young, "kept for nobody");
            }
        }
    }
}
