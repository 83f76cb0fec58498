//! The end of a device's service: what an operator ordered, kept with its entry.

use drover_proto::{
    MinionId,
    event::{NewEvent, Tag},
    id::JobId,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ChangeError, Changed, Entry, Registry, Status, Verb, VerbError};
use crate::store::Batch;

/// How a device ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retirement {
    /// From when on nothing is renewed.
    pub at: Timestamp,
    /// What it does last; it is revoked when this has returned.
    #[serde(default)]
    pub last_act: Option<LastAct>,
    /// How long it may take to come for its last act, in seconds.
    #[serde(default)]
    pub grace: u64,
    /// The job of its last act, once that began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jid: Option<JobId>,
}

/// A function with its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastAct {
    /// `module.function`.
    pub fun: String,
    /// Positional arguments.
    #[serde(default)]
    pub arg: Vec<Value>,
    /// Keyword arguments.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub kwarg: Map<String, Value>,
}

impl Retirement {
    /// When the device is revoked at the latest.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        let grace = match self.last_act {
            Some(_) => i64::try_from(self.grace).unwrap_or(i64::MAX),
            None => 0,
        };
        self.at.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX)
    }
}

/// How a device's last act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LastActEnd {
    /// There was none.
    None,
    /// It returned, and succeeded.
    Done,
    /// It returned, and failed.
    Failed,
    /// The device did not come for it in time, or did not return.
    Missed,
}

impl Entry {
    /// Whether its day has come, and its last act is awaited.
    #[must_use]
    pub fn is_leaving(&self, now: Timestamp) -> bool {
        self.retire.as_ref().is_some_and(|retire| retire.at <= now && now < retire.ends())
    }
}

impl Registry {
    /// Orders the end of devices, or takes it back. Returns once that is durable, with what became of each.
    pub async fn retire(
        &self,
        ids: &[MinionId],
        retirement: Option<&Retirement>,
        now: Timestamp,
    ) -> Vec<(MinionId, Result<Changed, ChangeError>)> {
        let _changing = self.0.changing.lock().await;
        let mut told = Vec::with_capacity(ids.len());
        for id in ids {
            told.push((id.clone(), self.retire_one(id, retirement, now).await));
        }
        told
    }

    async fn retire_one(
        &self,
        id: &MinionId,
        retirement: Option<&Retirement>,
        now: Timestamp,
    ) -> Result<Changed, ChangeError> {
        let (entry, revision) = self.entry_and_revision(id);
        let entry = entry
            .filter(|entry| entry.status != Status::Deleted)
            .ok_or_else(|| VerbError::Unknown(id.to_string()))?;
        let was = entry.status;
        if was != Status::Accepted {
            return Err(VerbError::NotAccepted(id.to_string(), was).into());
        }
        if entry.retire.as_deref() == retirement {
            return Ok(Changed { was, entry });
        }
        if entry.retire.as_deref().is_some_and(|retire| retire.at <= now) {
            return Err(VerbError::Retiring(id.to_string()).into());
        }
        let entry = Entry { retire: retirement.cloned().map(Box::new), ..entry };
        let phase = if retirement.is_some() { "ordered" } else { "cancelled" };
        let batch = Batch::from(retiring(&entry, phase));
        let revision = self.0.store.put_registry(id, revision, &entry, batch).await?;
        self.put_row(entry.clone(), revision);
        Ok(Changed { was, entry })
    }

    /// Notes that a device's last act has begun. Returns once that is durable.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin_last_act(&self, id: &MinionId, jid: JobId) -> Result<(), ChangeError> {
        let _changing = self.0.changing.lock().await;
        let (Some(mut entry), revision) = self.entry_and_revision(id) else { return Ok(()) };
        let Some(retire) = &mut entry.retire else { return Ok(()) };
        retire.jid = Some(jid);
        let batch = Batch::from(retiring(&entry, "due"));
        let revision = self.0.store.put_registry(id, revision, &entry, batch).await?;
        self.put_row(entry, revision);
        Ok(())
    }

    /// Revokes a device whose service is over. Returns once that is durable and in force.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn end_service(
        &self,
        id: &MinionId,
        end: LastActEnd,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        {
            let _changing = self.0.changing.lock().await;
            let retire = self.entry(id).and_then(|entry| entry.retire);
            let jid = retire.as_ref().and_then(|retire| retire.jid.as_ref());
            let at = retire.as_ref().map(|retire| retire.at);
            let data = json!({ "id": id, "at": at, "last_act": end, "jid": jid });
            let event = NewEvent::new(Tag::key(id, "retired"), Some(id.clone()), data);
            // RFC 5280's word for it, which the list of revoked certificates then has.
            let reason = Some("cessation of operation");
            self.change_one(id, Verb::Revoke, reason, event.into(), now).await?;
        }
        if let Some(crl) = self.0.crl.get() {
            crl.reissue().await;
        }
        Ok(())
    }

    /// The devices that are to retire. One that was rejected since cannot come for its last act, but ends all the same.
    #[must_use]
    pub fn retiring(&self) -> Vec<(MinionId, Retirement)> {
        let rows = self.rows();
        let entries = rows.values().map(|row| &row.entry);
        entries
            .filter(|entry| !matches!(entry.status, Status::Revoked | Status::Deleted))
            .filter_map(|entry| Some((entry.id.clone(), entry.retire.as_deref()?.clone())))
            .collect()
    }

    /// When a device is revoked at the latest: nothing that it is issued is valid for longer.
    #[must_use]
    pub fn ends(&self, id: &MinionId) -> Option<Timestamp> {
        let rows = self.rows();
        rows.get(id)?.entry.retire.as_ref().map(|retire| retire.ends())
    }
}

fn retiring(entry: &Entry, phase: &str) -> NewEvent {
    let retire = entry.retire.as_deref();
    let data = json!({
        "id": entry.id,
        "phase": phase,
        "at": retire.map(|retire| retire.at),
        "last_act": retire.and_then(|retire| retire.last_act.as_ref()),
        "jid": retire.and_then(|retire| retire.jid.as_ref()),
    });
    NewEvent::new(Tag::key(&entry.id, "retiring"), Some(entry.id.clone()), data)
}
