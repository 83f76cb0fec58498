//! Jobs as the store keeps them: what was asked for, where each stands on its minions, and what waits for those that
//! are away.

use drover_pki::MinionId;
use drover_proto::{id::JobId, job::JobRecord};

use super::{
    JobEntry, PendingEntry, ReadError, Store, decode,
    keys::{self, ledger},
};

impl Store {
    /// A job.
    ///
    /// # Errors
    /// When the engine has failed or the entry is damaged.
    pub fn job(&self, jid: &JobId) -> Result<Option<JobRecord>, ReadError> {
        self.entry(&keys::named(ledger::JOB, jid.as_str()))
    }

    /// The newest jobs, newest first, before `before` where that is given.
    ///
    /// # Errors
    /// When the engine has failed or an entry is damaged.
    pub fn jobs(&self, before: Option<&JobId>, limit: usize) -> Result<Vec<JobRecord>, ReadError> {
        let until = before.map_or_else(
            || keys::end_of(ledger::JOB).to_vec(),
            |jid| keys::named(ledger::JOB, jid.as_str()),
        );
        let newest = self.engine.range(&[ledger::JOB], &until).rev().take(limit);
        newest
            .map(|entry| {
                entry.map_err(ReadError::from).and_then(|(key, value)| decode(&key, &value))
            })
            .collect()
    }

    /// Where a job stands on one minion, if that was ever written.
    ///
    /// # Errors
    /// When the engine has failed or the entry is damaged.
    pub fn job_entry(&self, jid: &JobId, minion: &MinionId) -> Result<Option<JobEntry>, ReadError> {
        self.entry(&keys::job_entry(jid, minion))
    }

    /// Where a job stands on each of its minions.
    ///
    /// # Errors
    /// When the engine has failed or an entry is damaged.
    pub fn job_entries(&self, jid: &JobId) -> Result<Vec<(MinionId, JobEntry)>, ReadError> {
        let (from, until) = keys::job_entries(jid);
        let entries = self.engine.range(&from, &until);
        entries
            .filter_map(|entry| match entry {
                Ok((key, value)) => {
                    let minion = keys::last_part(&key).parse().ok()?;
                    Some(decode(&key, &value).map(|entry| (minion, entry)))
                }
                Err(error) => Some(Err(error.into())),
            })
            .collect()
    }

    /// The jobs that are not over for every minion, oldest first.
    ///
    /// # Errors
    /// When the engine has failed.
    pub fn active_jobs(&self) -> Result<Vec<JobId>, ReadError> {
        let active = self.engine.range(&[ledger::ACTIVE_JOB], &keys::end_of(ledger::ACTIVE_JOB));
        let mut jids = Vec::new();
        for entry in active {
            let (key, _) = entry?;
            jids.extend(std::str::from_utf8(&key[1..]).ok().and_then(|jid| jid.parse().ok()));
        }
        Ok(jids)
    }

    /// Everything that is kept for minions that are away: by minion, oldest first.
    ///
    /// # Errors
    /// When the engine has failed or an entry is damaged.
    pub fn pending(&self) -> Result<Vec<PendingEntry>, ReadError> {
        let pending = self.engine.range(&[ledger::PENDING], &keys::end_of(ledger::PENDING));
        pending
            .map(|entry| {
                entry.map_err(ReadError::from).and_then(|(key, value)| decode(&key, &value))
            })
            .collect()
    }
}
