//! The device's memory of jobs that change something: a jid before its function runs, its return before it is sent,
//! and that the master has it. So a job sent again is answered and not run again, whatever crashed in between. One
//! file, appended to and flushed; a tail that a power cut tore off is left out. Read-only functions never come here.

use std::{
    collections::{HashMap, VecDeque},
    fs::{File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use drover_proto::{id::JobId, job::Return};
use serde::{Deserialize, Serialize};
use thiserror::Error;

mod record;

/// How many jobs are remembered.
const KEPT_JOBS: usize = 256;
/// How many bytes of records are kept when the file is rewritten.
const KEPT_BYTES: u64 = 2 << 20;
/// How large the file grows before it is.
const REWRITE_AT: u64 = 4 << 20;

/// The journal cannot be read or written.
#[derive(Debug, Error)]
#[error("use the journal `{path}`")]
pub struct JournalError {
    path: PathBuf,
    source: io::Error,
}

/// What the journal knows of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Remembered {
    /// Nothing: it may run.
    New,
    /// It began in this run of the agent, and has not ended.
    Begun,
    /// It has ended with this.
    Returned(Return),
}

/// The journal of one device.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    end: u64,
    jobs: HashMap<JobId, Entry>,
    /// Oldest first.
    order: VecDeque<JobId>,
}

#[derive(Debug, Clone)]
struct Entry {
    fun: String,
    /// Where its return stands in the file.
    returned: Option<u64>,
    delivered: bool,
}

/// One line of a job's life.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Begun { jid: JobId, fun: String },
    Returned(Return),
    Delivered { jid: JobId },
}

impl Journal {
    /// Opens the journal in `directory`. A job that was cut off is given its return: failed, saying so.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let mut journal = Self::read(directory)?;
        if let Err(why) = journal.end_cut_off_jobs() {
            // On a full disk the agent is needed most. That these jobs began is written down, which is enough.
            tracing::warn!("{}", crate::error_chain(&why));
        }
        Ok(journal)
    }

    /// As the file has it. Jobs that have no return there may be under way.
    fn read(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join("journal");
        let failed = |source| JournalError { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(failed)?;
        let mut journal =
            Self { path: path.clone(), file, end: 0, jobs: HashMap::new(), order: VecDeque::new() };
        let mut at = 0;
        while let Some((record, next)) = record::read::<Record>(&content, at) {
            journal.apply(record, at as u64);
            at = next;
        }
        journal.end = at as u64;
        if at < content.len() {
            let torn = content.len() - at;
            tracing::warn!(
                "the journal's last {torn} bytes were torn off by a crash and are left out"
            );
            journal.file.set_len(journal.end).map_err(failed)?;
        }
        if content.is_empty() {
            crate::durable::sync_directory(directory).map_err(failed)?;
        }
        Ok(journal)
    }

    /// What is known of a job.
    ///
    /// # Errors
    /// When its return cannot be read again.
    pub fn recall(&mut self, jid: &JobId) -> Result<Remembered, JournalError> {
        match self.jobs.get(jid) {
            None => Ok(Remembered::New),
            Some(Entry { returned: None, .. }) => Ok(Remembered::Begun),
            Some(Entry { returned: Some(at), .. }) => {
                let at = *at;
                self.read_return(at).map(Remembered::Returned)
            }
        }
    }

    /// Writes down that a job begins. It may run when this returns, and not before.
    ///
    /// # Errors
    /// When the disk does not take it: the job must not run.
    pub fn begin(&mut self, jid: &JobId, fun: &str) -> Result<(), JournalError> {
        self.prune()?;
        self.append(Record::Begun { jid: jid.clone(), fun: fun.to_owned() }, true)
    }

    /// Writes down what came of it. The return may be sent when this returns.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn end(&mut self, returned: Return) -> Result<(), JournalError> {
        self.append(Record::Returned(returned), true)
    }

    /// Notes that the master has a job's return. Not flushed: after a crash it would be sent once more, and the master
    /// knows it by its jid.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn delivered(&mut self, jid: &JobId) -> Result<(), JournalError> {
        match self.jobs.get(jid) {
            Some(entry) if !entry.delivered => {
                self.append(Record::Delivered { jid: jid.clone() }, false)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The returns that the master may not have, oldest first: what a crash kept from being sent.
    ///
    /// # Errors
    /// When one cannot be read again.
    pub fn undelivered(&mut self) -> Result<Vec<Return>, JournalError> {
        let places: Vec<u64> = self
            .order
            .iter()
            .filter_map(|jid| self.jobs.get(jid))
            .filter(|entry| !entry.delivered)
            .filter_map(|entry| entry.returned)
            .collect();
        places.into_iter().map(|at| self.read_return(at)).collect()
    }

    fn end_cut_off_jobs(&mut self) -> Result<(), JournalError> {
        let cut_off: Vec<_> = self
            .order
            .iter()
            .filter_map(|jid| Some((jid, self.jobs.get(jid)?)))
            .filter(|(_, entry)| entry.returned.is_none())
            .map(|(jid, entry)| (jid.clone(), entry.fun.clone()))
            .collect();
        for (jid, fun) in cut_off {
            let said = format!(
                "the agent ended while `{fun}` ran: it may have done all of its work, a part, or none, and was not \
                 run again"
            );
            self.end(Return { jid, fun, value: said.into(), retcode: 1 })?;
        }
        Ok(())
    }

    fn append(&mut self, record: Record, flush: bool) -> Result<(), JournalError> {
        let bytes = record::bytes(&record);
        let at = self.end;
        let written = (|| {
            self.file.seek(SeekFrom::Start(at))?;
            self.file.write_all(&bytes)?;
            if flush { self.file.sync_data() } else { Ok(()) }
        })();
        if let Err(source) = written {
            // What was half written would hide what comes after it.
            let _ = self.file.set_len(at);
            return Err(self.failed(source));
        }
        self.end = at + bytes.len() as u64;
        self.apply(record, at);
        Ok(())
    }

    fn apply(&mut self, record: Record, at: u64) {
        match record {
            Record::Begun { jid, fun } => {
                let entry = Entry { fun, returned: None, delivered: false };
                if self.jobs.insert(jid.clone(), entry).is_none() {
                    self.order.push_back(jid);
                }
            }
            Record::Returned(returned) => {
                if let Some(entry) = self.jobs.get_mut(&returned.jid) {
                    entry.returned = Some(at);
                }
            }
            Record::Delivered { jid } => {
                if let Some(entry) = self.jobs.get_mut(&jid) {
                    entry.delivered = true;
                }
            }
        }
    }

    fn read_return(&mut self, at: u64) -> Result<Return, JournalError> {
        let read = (|| {
            self.file.seek(SeekFrom::Start(at))?;
            record::read_from(&mut self.file)
        })();
        match read {
            Ok(Record::Returned(returned)) => Ok(returned),
            Ok(Record::Begun { .. } | Record::Delivered { .. }) => {
                Err(self.failed(io::Error::from(io::ErrorKind::InvalidData)))
            }
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Rewrites the file with the newest jobs alone when it has grown, and with all that are still under way.
    fn prune(&mut self) -> Result<(), JournalError> {
        if self.end < REWRITE_AT && self.order.len() < 2 * KEPT_JOBS {
            return Ok(());
        }
        let mut kept = Vec::new();
        let mut size = 0;
        // The order stays as it is until the new file stands: on a full disk there will be none.
        for (age, jid) in self.order.clone().into_iter().rev().enumerate() {
            let Some(entry) = self.jobs.get(&jid).cloned() else { continue };
            let begun = record::bytes(&Record::Begun { jid: jid.clone(), fun: entry.fun });
            let returned = match entry.returned {
                None => Vec::new(),
                Some(at) => record::bytes(&Record::Returned(self.read_return(at)?)),
            };
            let told =
                if entry.delivered { record::bytes(&Record::Delivered { jid }) } else { vec![] };
            let bytes = [begun, returned, told].concat();
            size += bytes.len() as u64;
            if entry.returned.is_none() || (age < KEPT_JOBS && size <= KEPT_BYTES) {
                kept.push(bytes);
            }
        }
        kept.reverse();
        crate::durable::write(&self.path, &kept.concat())
            .map_err(|why| self.failed(io::Error::other(why)))?;
        // Jobs of this very run are under way: they are not cut off.
        *self = Self::read(self.path.parent().unwrap_or(Path::new(".")))?;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> JournalError {
        JournalError { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests;
