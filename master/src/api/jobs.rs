//! Jobs: to start, follow, look up and end them.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use drover_proto::{
    MinionId,
    id::JobId,
    job::{JobRecord, JobRequest, JobState, TargetType},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ApiError,
    lines::{self, Patience},
    stream::ndjson,
};
use crate::{master::Master, store::JobEntry};

/// Jobs in a list where the request does not say.
const LISTED: usize = 50;

pub(super) fn routes() -> Router<Master> {
    Router::new()
        .route("/v1/jobs", get(list).post(start))
        .route("/v1/jobs/{jid}", get(show))
        .route("/v1/jobs/{jid}/lines", get(follow))
        .route("/v1/jobs/{jid}/kill", post(kill))
}

#[derive(Deserialize)]
struct Follow {
    #[serde(default)]
    follow: bool,
    #[serde(flatten)]
    patience: Patience,
}

/// A [`JobRequest`] of a client, which is told of a misspelt field instead of being half understood.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    tgt: String,
    #[serde(default)]
    tgt_type: TargetType,
    fun: String,
    #[serde(default)]
    arg: Vec<Value>,
    #[serde(default)]
    kwarg: Map<String, Value>,
    job_timeout: Option<u64>,
    #[serde(default)]
    pending: bool,
    ttl: Option<u64>,
    #[serde(default)]
    user: String,
}

impl From<Asked> for JobRequest {
    fn from(asked: Asked) -> Self {
        let Asked { tgt, tgt_type, fun, arg, kwarg, job_timeout, pending, ttl, user } = asked;
        Self { tgt, tgt_type, fun, arg, kwarg, job_timeout, pending, ttl, user }
    }
}

async fn start(
    State(master): State<Master>,
    query: Result<Query<Follow>, QueryRejection>,
    request: Result<Json<Asked>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Query(Follow { follow, patience }) = query?;
    let request = JobRequest::from(request?.0);
    if !request.fun.contains('.') {
        return Err(ApiError::wrong(format!("`{}` is no function", request.fun))
            .hint("a function is `module.function`, such as `test.ping`"));
    }
    let started = master.start_job(request).await?;
    if !follow {
        let status =
            if started.ticket.jid.is_some() { StatusCode::CREATED } else { StatusCode::OK };
        return Ok((status, Json(started.ticket)).into_response());
    }
    Ok(ndjson(async move |out| {
        out.send(&started.ticket).await?;
        match (&started.ticket.jid, started.feed) {
            (Some(jid), Some(feed)) => {
                lines::follow(&master, jid, &feed, &started.ticket.minions, patience, &out).await
            }
            (None, _) | (_, None) => Ok(()),
        }
    }))
}

#[derive(Deserialize)]
struct Page {
    limit: Option<usize>,
    before: Option<JobId>,
}

async fn list(
    State(master): State<Master>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Vec<JobRecord>>, ApiError> {
    let Query(page) = page?;
    Ok(Json(master.store.jobs(page.before.as_ref(), page.limit.unwrap_or(LISTED).min(10_000))?))
}

/// A job with its minions, as `drover jobs show` prints it.
#[derive(Serialize)]
struct Shown {
    jid: JobId,
    fun: String,
    arg: Vec<Value>,
    kwarg: Map<String, Value>,
    tgt: String,
    tgt_type: TargetType,
    user: String,
    ts: jiff::Timestamp,
    minions: BTreeMap<MinionId, JobEntry>,
}

async fn show(
    State(master): State<Master>,
    Path(jid): Path<String>,
) -> Result<Json<Shown>, ApiError> {
    let record = find(&master, &jid)?;
    let minions = states(&master, &record).await?;
    let request = record.request;
    Ok(Json(Shown {
        jid: record.jid,
        fun: request.fun,
        arg: request.arg,
        kwarg: request.kwarg,
        tgt: request.tgt,
        tgt_type: request.tgt_type,
        user: request.user,
        ts: record.ts,
        minions,
    }))
}

async fn follow(
    State(master): State<Master>,
    Path(jid): Path<String>,
    patience: Result<Query<Patience>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(patience) = patience?;
    let record = find(&master, &jid)?;
    let feed = master.hub.follow(record.jid.clone()).await?;
    let so_far = states(&master, &record).await?;
    Ok(ndjson(async move |out| match feed {
        Some(feed) => lines::take_up(&master, &record, so_far, &feed, patience, &out).await,
        None => lines::repeat(&so_far, &out).await,
    }))
}

async fn kill(
    State(master): State<Master>,
    Path(jid): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let record = find(&master, &jid)?;
    let minions = master.hub.kill(record.jid.clone()).await?;
    Ok(Json(serde_json::json!({ "jid": record.jid, "minions": minions })))
}

fn find(master: &Master, jid: &str) -> Result<JobRecord, ApiError> {
    let jid: JobId = jid.parse().map_err(ApiError::wrong)?;
    let missing = || {
        ApiError::missing(format!("there is no job `{jid}`"))
            .hint("`drover jobs list` shows the newest")
    };
    master.store.job(&jid)?.ok_or_else(missing)
}

/// Where a job stands on each of its minions: what is stored, and what the hub knows beyond that.
async fn states(
    master: &Master,
    record: &JobRecord,
) -> Result<BTreeMap<MinionId, JobEntry>, ApiError> {
    let live = master.hub.states(record.jid.clone()).await?;
    let sent = |minion: &MinionId| (minion.clone(), JobEntry::new(JobState::Sent, record.ts));
    let mut entries: BTreeMap<_, _> = record.minions.iter().map(sent).collect();
    entries.extend(master.store.job_entries(&record.jid)?);
    for (minion, state) in live {
        if let Some(entry) = entries.get_mut(&minion).filter(|entry| !entry.state.is_final()) {
            entry.state = state;
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_request_with_an_unknown_field_is_refused() {
        let read = |text| serde_json::from_str::<Asked>(text).map(JobRequest::from);
        let short = read(r#"{"tgt": "*", "fun": "test.ping"}"#).unwrap();
        assert_eq!((short.tgt_type, short.pending), (TargetType::Glob, false));
        let wrong = read(r#"{"tgt": "*", "fun": "test.ping", "args": [1]}"#).unwrap_err();
        assert!(wrong.to_string().contains("unknown field `args`"), "{wrong}");
    }
}
