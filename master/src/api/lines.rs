//! A job's lines: what becomes of it on each minion, until there is a last word about each. A silent minion is waited
//! for a few seconds, one that says that the job is running for as long as the job may take.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use drover_proto::{
    MinionId,
    id::JobId,
    job::{JobRecord, JobState},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::stream::{ClientGone, Lines};
use crate::{
    jobs::{Feed, Line},
    master::Master,
    store::JobEntry,
};

/// For a silent minion, in seconds.
const TIMEOUT: f64 = 5.0;

/// How long a client waits.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Patience {
    /// For a silent minion, in seconds.
    #[serde(default, deserialize_with = "seconds")]
    timeout: Option<f64>,
    /// Until the state of every minion is final.
    #[serde(default, deserialize_with = "truth")]
    wait: bool,
}

/// Query values inside a flattened struct arrive as text.
fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| serde::de::Error::custom("`timeout` is a number of seconds"))
}

fn truth<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom("`wait` is `true` or `false`"))
}

#[derive(Serialize)]
struct Written<'a> {
    minion: &'a MinionId,
    state: JobState,
    #[serde(rename = "return", skip_serializing_if = "Option::is_none")]
    value: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retcode: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    silent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl<'a> Written<'a> {
    const fn new(minion: &'a MinionId, state: JobState) -> Self {
        Self {
            minion,
            state,
            value: None,
            retcode: None,
            behind: None,
            ts: None,
            silent: false,
            reason: None,
        }
    }

    fn entry(minion: &'a MinionId, entry: &'a JobEntry) -> Self {
        let line = Self::new(minion, entry.state);
        Self { value: entry.value.as_ref(), retcode: entry.retcode, ts: Some(entry.ts), ..line }
    }
}

/// The lines of a job that was just started.
pub(super) async fn follow(
    master: &Master,
    jid: &JobId,
    feed: &Feed,
    minions: &[MinionId],
    patience: Patience,
    out: &Lines,
) -> Result<(), ClientGone> {
    let open = minions.iter().cloned().collect();
    Following { master, jid, patience, open, running: HashSet::new(), out }.run(feed, 0).await
}

/// The lines of a job that is on its way: where it stands, then what follows.
pub(super) async fn take_up(
    master: &Master,
    record: &JobRecord,
    so_far: BTreeMap<MinionId, JobEntry>,
    feed: &Feed,
    patience: Patience,
    out: &Lines,
) -> Result<(), ClientGone> {
    let open = record.minions.iter().cloned().collect();
    let running = HashSet::new();
    let mut following = Following { master, jid: &record.jid, patience, open, running, out };
    for (minion, entry) in &so_far {
        following.tell(minion, entry.state, None, entry.ts, Some(entry)).await?;
    }
    // What the feed has of these minions is told; it says nothing twice about one that is final.
    following.run(feed, 0).await
}

/// The lines of a job that is over.
pub(super) async fn repeat(
    entries: &BTreeMap<MinionId, JobEntry>,
    out: &Lines,
) -> Result<(), ClientGone> {
    for (minion, entry) in entries {
        out.send(&Written::entry(minion, entry)).await?;
    }
    Ok(())
}

struct Following<'a> {
    master: &'a Master,
    jid: &'a JobId,
    patience: Patience,
    /// Minions whose last line is to come.
    open: HashSet<MinionId>,
    /// Those of them that have said that it runs.
    running: HashSet<MinionId>,
    out: &'a Lines,
}

impl Following<'_> {
    async fn run(mut self, feed: &Feed, mut seen: usize) -> Result<(), ClientGone> {
        let mut length = feed.watch();
        let timeout = Duration::try_from_secs_f64(self.patience.timeout.unwrap_or(TIMEOUT))
            .unwrap_or(Duration::MAX);
        let silent_at = far(timeout);
        let mut is_silence_told = self.patience.wait;
        while !self.open.is_empty() {
            for line in feed.after(seen) {
                seen += 1;
                let Line { minion, state, behind, ts } = line;
                if self.open.contains(&minion) {
                    self.tell(&minion, state, behind, ts, None).await?;
                }
            }
            if self.open.is_empty() {
                break;
            }
            tokio::select! {
                changed = length.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                () = sleep_until(silent_at), if !is_silence_told => {
                    is_silence_told = true;
                    self.tell_silence(timeout).await?;
                }
                () = self.out.closed() => return Err(ClientGone),
            }
        }
        Ok(())
    }

    async fn tell(
        &mut self,
        minion: &MinionId,
        state: JobState,
        behind: Option<u32>,
        ts: Timestamp,
        entry: Option<&JobEntry>,
    ) -> Result<(), ClientGone> {
        let line = Written { behind, ts: Some(ts), ..Written::new(minion, state) };
        match state {
            JobState::Sent => Ok(()),
            JobState::Running => {
                self.running.insert(minion.clone());
                self.out.send(&line).await
            }
            JobState::Queued => {
                if !self.patience.wait {
                    self.open.remove(minion);
                }
                self.out.send(&line).await
            }
            JobState::TimedOut if !self.running.contains(minion) => {
                self.open.remove(minion);
                let is_away = !self.master.hub.roster().contains(minion);
                let reason = if is_away { "it is not connected" } else { "it did not answer" };
                let reason = Some(reason.to_owned());
                self.out.send(&Written { silent: true, reason, ..line }).await
            }
            JobState::TimedOut | JobState::Expired | JobState::Superseded | JobState::Cancelled => {
                self.open.remove(minion);
                self.out.send(&line).await
            }
            JobState::Done | JobState::Failed => {
                self.open.remove(minion);
                let read = match entry {
                    Some(entry) => Some(entry.clone()),
                    // Durable before its line was written.
                    None => self.master.store.job_entry(self.jid, minion).ok().flatten(),
                };
                match &read {
                    Some(entry) => self.out.send(&Written::entry(minion, entry)).await,
                    None => self.out.send(&line).await,
                }
            }
        }
    }

    /// The time for silent minions is over.
    async fn tell_silence(&mut self, timeout: Duration) -> Result<(), ClientGone> {
        let mut silent: Vec<_> = self.open.difference(&self.running).cloned().collect();
        silent.sort_unstable();
        for minion in silent {
            self.open.remove(&minion);
            let reason = Some(format!("it did not answer within {} s", timeout.as_secs_f64()));
            self.out
                .send(&Written { silent: true, reason, ..Written::new(&minion, JobState::Sent) })
                .await?;
        }
        Ok(())
    }
}

fn far(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now + Duration::from_secs(30 * 86_400))
}
