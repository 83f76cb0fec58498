//! Who may connect: keys and manifests.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    routing::{get, post},
};
use drover_proto::MinionId;
use serde_json::{Map, Value, json};

use super::ApiError;
use crate::{
    master::Master,
    registry::{Entry, Import, Registry, Status, Verb},
};

/// A manifest of a hundred thousand devices is shorter than this.
const LONGEST_MANIFEST: usize = 128 << 20;

pub(super) fn routes() -> Router<Master> {
    Router::new()
        .route("/v1/keys", get(list))
        .route("/v1/keys/{id}", get(show).delete(delete))
        .route("/v1/keys/{id}/accept", post(accept))
        .route("/v1/keys/{id}/reject", post(reject))
        .route("/v1/keys/{id}/revoke", post(revoke))
        .route("/v1/manifests", post(import).layer(DefaultBodyLimit::max(LONGEST_MANIFEST)))
}

async fn list(State(master): State<Master>) -> Json<BTreeMap<Status, Vec<MinionId>>> {
    let mut keys: BTreeMap<_, Vec<_>> =
        [Status::Accepted, Status::Pending, Status::Rejected, Status::Revoked]
            .map(|status| (status, Vec::new()))
            .into();
    for shown in master.registry.shown(None, &|_| None) {
        keys.entry(shown.entry.status).or_default().push(shown.entry.id);
    }
    keys.values_mut().for_each(|ids| ids.sort_unstable());
    Json(keys)
}

async fn show(
    State(master): State<Master>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let id = minion_id(&id)?;
    let missing = || {
        ApiError::missing(format!("there is no minion `{id}`"))
            .hint("`drover key list` shows the ids that are known")
    };
    let entry = master.registry.entry(&id).ok_or_else(missing)?;
    Ok(Json(key(&master.registry, &entry)))
}

async fn accept(master: State<Master>, id: Path<String>) -> Result<Json<Value>, ApiError> {
    change(master, id, Verb::Accept).await
}

async fn reject(master: State<Master>, id: Path<String>) -> Result<Json<Value>, ApiError> {
    change(master, id, Verb::Reject).await
}

async fn revoke(master: State<Master>, id: Path<String>) -> Result<Json<Value>, ApiError> {
    change(master, id, Verb::Revoke).await
}

async fn delete(master: State<Master>, id: Path<String>) -> Result<StatusCode, ApiError> {
    change(master, id, Verb::Delete).await.map(|_| StatusCode::NO_CONTENT)
}

async fn change(
    State(master): State<Master>,
    Path(id): Path<String>,
    verb: Verb,
) -> Result<Json<Value>, ApiError> {
    let entry = master.change_key(&minion_id(&id)?, verb).await?;
    Ok(Json(key(&master.registry, &entry)))
}

async fn import(State(master): State<Master>, manifest: Bytes) -> Result<Json<Import>, ApiError> {
    let import = master.import(&manifest).await?;
    if import.refused.is_empty() {
        return Ok(Json(import));
    }
    let count = import.refused.len();
    let Ok(Value::Object(report)) = serde_json::to_value(&import) else {
        return Err(ApiError::conflict("devices of the manifest are refused"));
    };
    let devices = if count == 1 { "1 device" } else { &format!("{count} devices") };
    let are = if count == 1 { "is" } else { "are" };
    Err(ApiError::conflict(format!(
        "{devices} of the manifest {are} refused, the others are registered"
    ))
    .hint("a device with a new key or station: `drover key delete` its id first")
    .with(Map::from_iter(report)))
}

fn key(registry: &Registry, entry: &Entry) -> Value {
    let birth = entry.birth.as_ref();
    let sighting = registry.sighting(&entry.id);
    json!({
        "id": entry.id,
        "status": entry.status,
        "since": entry.since,
        "key": birth.map(|birth| birth.key.with_colons()),
        "station": birth.map(|birth| birth.station.as_str()),
        "serial": birth.and_then(|birth| birth.serial.as_ref()),
        "manifest": (entry.manifest > 0).then_some(entry.manifest),
        "enrolled": entry.enrolled,
        "address": sighting.address,
        "last_seen": sighting.last_seen,
    })
}

fn minion_id(text: &str) -> Result<MinionId, ApiError> {
    text.parse().map_err(ApiError::wrong)
}
