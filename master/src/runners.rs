//! Functions of the master itself, by Salt's names: for reactor rules (`runner.pending.deliver`) and the API.

use drover_proto::{
    event::NewEvent,
    id::{JobId, ParseJobIdError},
    job::TargetType,
    target::TargetError,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::{
    bus::{ReservedTag, check_own_tag},
    hub::HubError,
    master::Master,
    store::{ReadError, StoreError},
};

/// What a runner is given: by position or by name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// By position.
    #[serde(default)]
    pub arg: Vec<Value>,
    /// By name.
    #[serde(default)]
    pub kwarg: Map<String, Value>,
}

/// Why a runner did nothing.
#[derive(Debug, Error)]
pub enum RunnerError {
    /// There is no such runner.
    #[error("there is no runner `{0}`")]
    Unknown(String),
    /// An argument is missing or of the wrong kind.
    #[error("`{0}` is missing, or not a text")]
    Argument(&'static str),
    /// The target is wrong.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Not a job's id.
    #[error(transparent)]
    JobId(#[from] ParseJobIdError),
    /// Not a tag.
    #[error("the tag is wrong: {0}")]
    Tag(#[from] drover_proto::event::ParseTagError),
    /// A tag that the master alone uses.
    #[error(transparent)]
    Reserved(#[from] ReservedTag),
    /// The master stops.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Arguments {
    /// The argument of a name, or at a position.
    fn value(&self, name: &str, at: usize) -> Option<&Value> {
        self.kwarg.get(name).or_else(|| self.arg.get(at))
    }

    fn text(&self, name: &'static str, at: usize) -> Result<&str, RunnerError> {
        self.value(name, at).and_then(Value::as_str).ok_or(RunnerError::Argument(name))
    }
}

/// Runs a runner.
///
/// # Errors
/// See [`RunnerError`].
pub async fn run(master: &Master, name: &str, arguments: &Arguments) -> Result<Value, RunnerError> {
    match name {
        "pending.deliver" => {
            let tgt = arguments.text("tgt", 0)?;
            let kind = match arguments.value("tgt_type", 1) {
                None => TargetType::Glob,
                Some(kind) => serde_json::from_value(kind.clone())
                    .map_err(|_| RunnerError::Argument("tgt_type"))?,
            };
            let matched = master.resolve(tgt, kind).await?;
            Ok(json!(master.hub.deliver(matched.minions).await?))
        }
        "pending.list" => Ok(json!(master.hub.pending().await?)),
        "jobs.active" => Ok(json!(master.store.active_jobs()?)),
        "jobs.lookup_jid" => {
            let jid: JobId = arguments.text("jid", 0)?.parse()?;
            let entries = master.store.job_entries(&jid)?.into_iter();
            let returns =
                entries.filter_map(|(minion, entry)| Some((minion.to_string(), entry.value?)));
            Ok(Value::Object(returns.collect()))
        }
        "manage.up" => Ok(present(master, true)),
        "manage.down" => Ok(present(master, false)),
        "event.send" => {
            let tag = arguments.text("tag", 0)?.parse()?;
            check_own_tag(&tag)?;
            let data = arguments.value("data", 1).cloned().unwrap_or_default();
            Ok(json!(master.store.append(NewEvent::new(tag, None, data)).await?))
        }
        _ => Err(RunnerError::Unknown(name.to_owned())),
    }
}

/// Accepted minions that are connected, or that are not.
fn present(master: &Master, is_connected: bool) -> Value {
    let shown = master.registry.shown(None, &|_| None).into_iter();
    let mut ids: Vec<_> = shown
        .filter(|shown| shown.entry.status == crate::registry::Status::Accepted)
        .map(|shown| shown.entry.id)
        .filter(|id| master.hub.roster().contains(id) == is_connected)
        .collect();
    ids.sort_unstable();
    json!(ids)
}
