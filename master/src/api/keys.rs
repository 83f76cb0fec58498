//! Who may connect: keys and manifests.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use drover_proto::MinionId;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ApiError;
use crate::{
    master::{ImportOptions, Master},
    registry::{
        ChangeError, Changed, Conflict, Entry, Import, IssuedCertificate, LastAct, Refused,
        Registry, Retirement, Status, Verb,
    },
};

/// A manifest of a hundred thousand devices is shorter than this.
const LONGEST_MANIFEST: usize = 128 << 20;
/// The ids of a hundred thousand devices are shorter than this.
const LONGEST_IDS: usize = 16 << 20;
/// A sentence, not a report.
const LONGEST_REASON: usize = 500;
/// Seconds that a device has for its last act, where the request does not say.
const GRACE: u64 = 7 * 86_400;

pub(super) fn routes() -> Router<Master> {
    Router::new()
        .route("/v1/keys", get(list).post(change_many).layer(DefaultBodyLimit::max(LONGEST_IDS)))
        .route("/v1/keys/{id}", get(show).delete(delete))
        .route("/v1/keys/{id}/accept", post(accept))
        .route("/v1/keys/{id}/reject", post(reject))
        .route("/v1/keys/{id}/revoke", post(revoke))
        .route("/v1/retirements", post(retire).layer(DefaultBodyLimit::max(LONGEST_IDS)))
        .route("/v1/manifests", post(import).layer(DefaultBodyLimit::max(LONGEST_MANIFEST)))
}

#[derive(Deserialize)]
struct Listing {
    /// Each key as it is shown alone, by id.
    #[serde(default)]
    detail: bool,
}

async fn list(
    State(master): State<Master>,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(listing) = listing?;
    let entries = master.registry.shown(None, &|_| None).into_iter().map(|shown| shown.entry);
    if listing.detail {
        let keys: BTreeMap<_, _> =
            entries.map(|entry| (entry.id.clone(), key(&master.registry, &entry))).collect();
        return Ok(Json(keys).into_response());
    }
    let mut keys: BTreeMap<_, Vec<_>> =
        [Status::Accepted, Status::Pending, Status::Rejected, Status::Revoked]
            .map(|status| (status, Vec::new()))
            .into();
    for entry in entries {
        keys.entry(entry.status).or_default().push(entry.id);
    }
    keys.values_mut().for_each(|ids| ids.sort_unstable());
    Ok(Json(keys).into_response())
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

/// What is to be done to which keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    change: Verb,
    ids: Vec<String>,
    reason: Option<String>,
}

/// Each id with the key as it now is, and what it was, or with why it is not changed.
async fn change_many(
    State(master): State<Master>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let Json(Wanted { change, ids, reason }) = wanted?;
    let reason = checked_reason(reason)?;
    let (known, mut told) = minion_ids(ids);
    let changes = master.change_keys(&known, change, reason.as_deref()).await;
    tell(&master.registry, changes, &mut told)?;
    Ok(Json(told))
}

/// Whose service is to end, and how; without `at` it goes on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retire {
    ids: Vec<String>,
    at: Option<Timestamp>,
    last_act: Option<LastAct>,
    /// In seconds.
    grace: Option<u64>,
}

/// Each id with the key as it now is, or with why it does not retire.
async fn retire(
    State(master): State<Master>,
    wanted: Result<Json<Retire>, JsonRejection>,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let Json(Retire { ids, at, last_act, grace }) = wanted?;
    if let Some(act) = last_act.as_ref().filter(|act| !act.fun.contains('.')) {
        return Err(ApiError::wrong(format!("`{}` is no function", act.fun)).hint(
            "a last act is `module.function` with its arguments, such as `cmd.run poweroff`",
        ));
    }
    if at.is_none() && last_act.is_some() {
        return Err(ApiError::wrong("a last act needs the date, `at`"));
    }
    let grace = grace.unwrap_or(GRACE);
    let retirement = at.map(|at| Retirement { at, last_act, grace, jid: None });
    let (known, mut told) = minion_ids(ids);
    let changes = master.retire(&known, retirement.as_ref()).await;
    tell(&master.registry, changes, &mut told)?;
    Ok(Json(told))
}

/// Ids that may be a minion's, and those that cannot, each with why.
fn minion_ids(ids: Vec<String>) -> (Vec<MinionId>, Map<String, Value>) {
    let (mut known, mut told) = (Vec::with_capacity(ids.len()), Map::new());
    for id in ids {
        match id.parse::<MinionId>() {
            Ok(id) => known.push(id),
            Err(error) => drop(told.insert(id, json!({ "error": error.to_string() }))),
        }
    }
    (known, told)
}

fn tell(
    registry: &Registry,
    changes: Vec<(MinionId, Result<Changed, ChangeError>)>,
    told: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    for (id, changed) in changes {
        let value = match changed {
            Ok(changed) => changed_key(registry, &changed),
            Err(ChangeError::Verb(error)) => {
                json!({ "error": error.to_string(), "hint": error.hint() })
            }
            // It would be the same with every other one.
            Err(error @ (ChangeError::Store(_) | ChangeError::Read(_))) => return Err(error.into()),
        };
        told.insert(id.to_string(), value);
    }
    Ok(())
}

async fn accept(master: State<Master>, id: Path<String>, why: Bytes) -> Answer {
    change(master, id, Verb::Accept, &why).await
}

async fn reject(master: State<Master>, id: Path<String>, why: Bytes) -> Answer {
    change(master, id, Verb::Reject, &why).await
}

async fn revoke(master: State<Master>, id: Path<String>, why: Bytes) -> Answer {
    change(master, id, Verb::Revoke, &why).await
}

async fn delete(master: State<Master>, id: Path<String>) -> Result<StatusCode, ApiError> {
    change(master, id, Verb::Delete, b"").await.map(|_| StatusCode::NO_CONTENT)
}

type Answer = Result<Json<Value>, ApiError>;

async fn change(
    State(master): State<Master>,
    Path(id): Path<String>,
    verb: Verb,
    why: &[u8],
) -> Answer {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Why {
        reason: Option<String>,
    }
    let why = match why {
        [] => Why::default(),
        body => serde_json::from_slice(body).map_err(ApiError::wrong)?,
    };
    let reason = checked_reason(why.reason)?;
    let ids = [minion_id(&id)?];
    let changes = master.change_keys(&ids, verb, reason.as_deref()).await;
    let (_, changed) = changes.into_iter().next().expect("one id, one answer");
    Ok(Json(key(&master.registry, &changed?.entry)))
}

/// Kept with the key, and in its event.
pub(super) fn checked_reason(reason: Option<String>) -> Result<Option<String>, ApiError> {
    match reason.map(|reason| reason.trim().to_owned()) {
        Some(reason) if reason.len() > LONGEST_REASON => {
            Err(ApiError::wrong(format!("a reason has at most {LONGEST_REASON} bytes")))
        }
        reason => Ok(reason.filter(|reason| !reason.is_empty())),
    }
}

async fn import(
    State(master): State<Master>,
    how: Result<Query<ImportOptions>, QueryRejection>,
    manifest: Bytes,
) -> Result<Json<Import>, ApiError> {
    let import = master.import(&manifest, how?.0).await?;
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
        "{devices} of the manifest {are} refused, which holds up no other"
    ))
    .hint(refusal_hint(&import.refused))
    .with(Map::from_iter(report)))
}

/// What to do about devices that a manifest does not register. The same manifest never brings back what was deleted after
/// it was imported, so to delete the id and import it again leads nowhere.
fn refusal_hint(refused: &[Refused]) -> &'static str {
    if refused.iter().all(|one| one.reason == Conflict::Deleted) {
        "what was deleted comes back by a manifest that is made now: `drover-enrol manifest --all` at the station, \
         of which `drover key import --only ID` takes one device"
    } else {
        "a device with a new key or station: `drover key delete` its id, then import a manifest that is made \
         after that: `drover-enrol manifest --all` at the station"
    }
}

/// The key as it now is; of one that is forgotten no more than that.
fn changed_key(registry: &Registry, changed: &Changed) -> Value {
    let mut value = match changed.entry.status {
        Status::Deleted => json!({ "id": changed.entry.id, "status": Status::Deleted }),
        Status::Accepted | Status::Pending | Status::Rejected | Status::Revoked => {
            key(registry, &changed.entry)
        }
    };
    value["was"] = json!(changed.was);
    value
}

fn key(registry: &Registry, entry: &Entry) -> Value {
    let birth = entry.birth.as_ref();
    let sighting = registry.sighting(&entry.id);
    json!({
        "id": entry.id,
        "status": entry.status,
        "since": entry.since,
        "reason": entry.reason,
        "retire": entry.retire.as_ref().map(|retire| json!({
            "at": retire.at,
            "last_act": retire.last_act,
            "grace": retire.grace,
            "ends": retire.ends(),
            "jid": retire.jid,
        })),
        "key": birth.map(|birth| birth.key.with_colons()),
        "certificate": birth.and_then(|birth| birth.certificate),
        "station": birth.map(|birth| birth.station.as_str()),
        "serial": birth.and_then(|birth| birth.serial.as_ref()),
        "manifest": (entry.manifest > 0).then_some(entry.manifest),
        "operational": entry.operational.as_ref().map(|known| operational(known.current())),
        "enrolled": entry.enrolled,
        "address": sighting.address,
        "last_seen": sighting.last_seen,
    })
}

fn operational(certificate: &IssuedCertificate) -> Value {
    json!({
        "serial": certificate.serial,
        "fingerprint": certificate.fingerprint.with_colons(),
        "issued": certificate.issued,
        "expires": certificate.expires,
        "used": certificate.seen,
    })
}

fn minion_id(text: &str) -> Result<MinionId, ApiError> {
    text.parse().map_err(ApiError::wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_is_told_a_way_that_leads_in() {
        let refused = |reasons: &[Conflict]| -> Vec<Refused> {
            let one = |reason: &Conflict| Refused { id: "a".parse().unwrap(), reason: *reason };
            reasons.iter().map(one).collect()
        };
        let deleted = refusal_hint(&refused(&[Conflict::Deleted]));
        assert!(!deleted.contains("key delete") && deleted.contains("manifest --all"), "{deleted}");
        let mixed = refusal_hint(&refused(&[Conflict::Deleted, Conflict::Revoked]));
        assert!(mixed.contains("key delete") && mixed.contains("manifest --all"), "{mixed}");
    }
}
