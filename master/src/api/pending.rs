//! Jobs that are kept for minions that are away.

use std::collections::HashSet;

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    routing::get,
};
use serde_json::{Value, json};

use super::{ApiError, minions::Target};
use crate::{hub::PendingOf, master::Master, store::PendingEntry};

pub(super) fn routes() -> Router<Master> {
    Router::new()
        .route("/v1/pending", get(list))
        .route("/v1/pending/{id}", get(show).delete(cancel))
}

async fn list(
    State(master): State<Master>,
    target: Result<Query<Target>, QueryRejection>,
) -> Result<Json<Vec<PendingEntry>>, ApiError> {
    let Query(target) = target?;
    let mut pending = master.hub.pending().await?;
    if let Some(tgt) = &target.tgt {
        let meant: HashSet<_> =
            master.resolve(tgt, target.tgt_type).await?.minions.into_iter().collect();
        pending.retain(|entry| meant.contains(&entry.minion));
    }
    Ok(Json(pending))
}

async fn show(
    State(master): State<Master>,
    Path(id): Path<String>,
) -> Result<Json<Vec<PendingEntry>>, ApiError> {
    let of = pending_of(&id)?;
    let mut pending = master.hub.pending().await?;
    pending.retain(|entry| match &of {
        PendingOf::Job(jid) => entry.jid == *jid,
        PendingOf::Minions(minions) => minions.contains(&entry.minion),
    });
    if pending.is_empty() {
        return Err(nothing(&id));
    }
    Ok(Json(pending))
}

async fn cancel(
    State(master): State<Master>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let cancelled = master.hub.cancel_pending(pending_of(&id)?).await?;
    if cancelled.is_empty() {
        return Err(nothing(&id));
    }
    let cancelled =
        cancelled.into_iter().map(|(jid, minion)| json!({ "jid": jid, "minion": minion }));
    Ok(Json(json!({ "cancelled": cancelled.collect::<Vec<_>>() })))
}

/// A job's id is 20 digits; everything else is a minion's.
fn pending_of(id: &str) -> Result<PendingOf, ApiError> {
    match id.parse() {
        Ok(jid) => Ok(PendingOf::Job(jid)),
        Err(_) => {
            let minion = id.parse().map_err(ApiError::wrong)?;
            Ok(PendingOf::Minions([minion].into()))
        }
    }
}

fn nothing(id: &str) -> ApiError {
    ApiError::missing(format!("nothing is pending for `{id}`"))
        .hint("`drover pending list` shows what is")
}
