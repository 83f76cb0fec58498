//! Does what the machine says, at the time that it says: starts last acts as jobs, reads in the event log what becomes of
//! them, and has the registry revoke.

use std::{sync::Arc, time::Duration};

use drover_proto::{
    MinionId,
    id::JobId,
    job::{JobRequest, JobState, TargetType},
};
use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::Notify;

use super::{Action, Retirements};
use crate::{
    clock::Now,
    master::Master,
    registry::{ChangeError, Retirement},
    store::{PutError, ReadError, StoreError},
};

/// Clocks step: it is looked again at least so often.
const LOOK: Duration = Duration::from_secs(60);
/// Events read at a time.
const EVENTS: usize = 512;
/// Jobs among which a last act is looked for that began just as the master ended.
const JOBS: usize = 1_000;
/// Whose jobs last acts are.
const USER: &str = "drover key retire";

/// Tells the task that the registry has other retirements.
#[derive(Clone, Default)]
pub struct RetireHandle(Arc<Notify>);

impl RetireHandle {
    /// Look again.
    pub fn look(&self) {
        self.0.notify_one();
    }
}

/// Why the task ended.
#[derive(Debug, Error)]
pub enum RetireError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The loop.
pub struct RetireTask {
    master: Master,
    changed: RetireHandle,
    machine: Retirements,
    /// The last event that was looked at.
    seq: u64,
}

impl RetireTask {
    /// Takes up what the registry has.
    #[must_use]
    pub fn new(master: Master, changed: RetireHandle) -> Self {
        let seq = master.store.last_seq();
        Self { master, changed, machine: Retirements::default(), seq }
    }

    /// As long as the master runs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run(mut self) -> Result<(), RetireError> {
        let mut last = self.master.store.watch();
        self.look();
        self.take_up()?;
        loop {
            self.machine.handle_timeout(Now::read().wall);
            while let Some(action) = self.machine.poll_action() {
                self.act(action).await?;
            }
            let wait = self.machine.poll_timeout().map_or(LOOK, until).min(LOOK);
            let is_acting = self.machine.is_acting();
            if !is_acting {
                self.seq = self.master.store.last_seq();
            }
            let changed = self.changed.0.clone();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed.notified() => self.look(),
                Ok(()) = last.changed(), if is_acting => self.read().await?,
            }
        }
    }

    fn look(&mut self) {
        self.machine.handle_registry(self.master.registry.retiring());
    }

    /// What returned while the master was not there, or began as it ended.
    fn take_up(&mut self) -> Result<(), ReadError> {
        let awaited: Vec<_> =
            self.machine.awaited().map(|(minion, jid)| (minion.clone(), jid.clone())).collect();
        for (minion, jid) in awaited {
            let entry = self.master.store.job_entry(&jid, &minion)?;
            match entry.map(|entry| entry.state) {
                Some(JobState::Done) => self.machine.handle_returned(&minion, &jid, true),
                Some(JobState::Failed) => self.machine.handle_returned(&minion, &jid, false),
                Some(
                    JobState::Queued
                    | JobState::Sent
                    | JobState::Running
                    | JobState::TimedOut
                    | JobState::Expired
                    | JobState::Superseded
                    | JobState::Cancelled,
                )
                | None => {}
            }
        }
        Ok(())
    }

    async fn act(&mut self, action: Action) -> Result<(), RetireError> {
        // A full store takes no job, and what is refused here is not tried again.
        self.master.store.room().await?;
        match action {
            Action::Begin(minion) => {
                let Some(retirement) =
                    self.master.registry.entry(&minion).and_then(|entry| entry.retire)
                else {
                    return Ok(());
                };
                let begun = self.begun_before(&minion, &retirement)?;
                let jid = match begun {
                    Some(jid) => Some(jid),
                    None => self.begin(&minion, &retirement).await,
                };
                if let Some(jid) = jid {
                    let kept = self.master.registry.begin_last_act(&minion, jid.clone()).await;
                    self.stored(&minion, kept)?;
                    self.machine.handle_begun(&minion, jid);
                    self.take_up()?;
                }
            }
            Action::Deliver(minion) => {
                // Where the hub has ended, so does the master.
                let _ = self.master.hub.deliver(vec![minion]).await;
            }
            Action::End(minion, end) => {
                tracing::info!(%minion, ?end, "its service is over");
                let now = Now::read().wall;
                let ended = self.master.registry.end_service(&minion, end, now).await;
                self.stored(&minion, ended)?;
            }
        }
        Ok(())
    }

    async fn begin(&self, minion: &MinionId, retirement: &Retirement) -> Option<JobId> {
        let act = retirement.last_act.clone()?;
        let request = JobRequest {
            tgt: minion.to_string(),
            tgt_type: TargetType::List,
            fun: act.fun,
            arg: act.arg,
            kwarg: act.kwarg,
            job_timeout: None,
            pending: true,
            ttl: Some(until(retirement.ends()).as_secs().max(1)),
            user: USER.to_owned(),
        };
        match self.master.start_job(request).await {
            Ok(started) => started.ticket.jid,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(%minion, error, "a last act was not started");
                None
            }
        }
    }

    /// A master that ended between the job's start and its note of it has begun it already.
    fn begun_before(
        &self,
        minion: &MinionId,
        retirement: &Retirement,
    ) -> Result<Option<JobId>, ReadError> {
        let jobs = self.master.store.jobs(None, JOBS)?;
        let last = jobs.into_iter().find(|job| {
            job.request.user == USER && job.minions == [minion.clone()] && job.ts >= retirement.at
        });
        Ok(last.map(|job| job.jid))
    }

    fn stored(
        &self,
        minion: &MinionId,
        result: Result<(), ChangeError>,
    ) -> Result<(), RetireError> {
        match result {
            Ok(()) => Ok(()),
            Err(ChangeError::Store(PutError::Store(error))) => Err(error.into()),
            Err(ChangeError::Read(error)) => Err(error.into()),
            // Deleted or revoked meanwhile: it is as it should be.
            Err(error @ (ChangeError::Verb(_) | ChangeError::Store(PutError::Conflict))) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%minion, error, "its service did not end by its retirement");
                Ok(())
            }
        }
    }

    async fn read(&mut self) -> Result<(), ReadError> {
        loop {
            let events = self.master.store.events(self.seq, EVENTS).await?;
            let Some(newest) = events.last() else { return Ok(()) };
            for event in &events {
                let parts: Vec<_> = event.tag.as_str().split('/').collect();
                match parts[..] {
                    ["drover", "minion", id, "start"] => {
                        if let Ok(minion) = id.parse() {
                            self.machine.handle_connected(&minion);
                        }
                    }
                    ["drover", "job", jid, "ret", id] => {
                        if let (Ok(jid), Ok(minion)) = (jid.parse::<JobId>(), id.parse()) {
                            let is_success = event.data["success"] == true;
                            self.machine.handle_returned(&minion, &jid, is_success);
                        }
                    }
                    _ => {}
                }
            }
            self.seq = newest.seq;
        }
    }
}

fn until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Now::read().wall)).unwrap_or_default()
}
