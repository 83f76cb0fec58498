//! The events that jobs cause, with the fields that Salt's have.

use drover_proto::{
    MinionId,
    event::{NewEvent, Tag},
    job::{JobRecord, JobState, Return},
};
use jiff::Timestamp;
use serde_json::json;

use crate::store::PendingEntry;

pub(super) fn new_job(record: &JobRecord) -> NewEvent {
    let request = &record.request;
    let data = json!({
        "jid": record.jid,
        "fun": request.fun,
        "arg": request.arg,
        "kwarg": request.kwarg,
        "tgt": request.tgt,
        "tgt_type": request.tgt_type,
        "user": request.user,
        "minions": record.minions,
    });
    NewEvent::new(Tag::job_new(&record.jid), None, data)
}

pub(super) fn job_return(
    record: &JobRecord,
    minion: &MinionId,
    given: &Return,
    at: Timestamp,
) -> NewEvent {
    let data = json!({
        "id": minion,
        "jid": given.jid,
        "fun": given.fun,
        "fun_args": record.request.arg,
        "return": given.value,
        "retcode": given.retcode,
        "success": given.success(),
        "user": record.request.user,
    });
    let tag = Tag::job_return(&given.jid, minion);
    NewEvent { at: Some(at), tag, minion: Some(minion.clone()), data }
}

pub(super) fn pending(entry: &PendingEntry, what: &str) -> NewEvent {
    let data = json!({
        "id": entry.minion,
        "jid": entry.jid,
        "fun": entry.fun,
        "arg": entry.arg,
        "queued": entry.queued,
        "expires": entry.expires,
    });
    NewEvent::new(Tag::pending(&entry.minion, what), Some(entry.minion.clone()), data)
}

/// A state as tags write it.
pub(crate) const fn word(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Sent => "sent",
        JobState::Running => "running",
        JobState::Done => "done",
        JobState::Failed => "failed",
        JobState::TimedOut => "timed_out",
        JobState::Expired => "expired",
        JobState::Superseded => "superseded",
        JobState::Cancelled => "cancelled",
    }
}
