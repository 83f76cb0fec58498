//! What the registry knows, and who is there.

use std::{collections::BTreeMap, net::IpAddr};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    routing::get,
};
use drover_proto::{MinionId, job::TargetType};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ApiError;
use crate::{
    master::Master,
    registry::{Shown, Status},
    store::PresenceState,
};

pub(super) fn routes() -> Router<Master> {
    Router::new()
        .route("/v1/minions", get(minions))
        .route("/v1/targets", get(targets))
        .route("/v1/presence", get(presence))
}

/// Whom a request is about; everybody where it does not say.
#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub(super) tgt: Option<String>,
    #[serde(default)]
    pub(super) tgt_type: TargetType,
}

#[derive(Serialize)]
struct Minion {
    status: Status,
    presence: Option<PresenceState>,
    since: Option<Timestamp>,
    last_seen: Option<Timestamp>,
    address: Option<IpAddr>,
    version: String,
    grains: Map<String, Value>,
    enrolled: Map<String, Value>,
    configured: Map<String, Value>,
    detected: Map<String, Value>,
}

async fn minions(
    State(master): State<Master>,
    target: Result<Query<Target>, QueryRejection>,
) -> Result<Json<BTreeMap<MinionId, Minion>>, ApiError> {
    let Query(target) = target?;
    let shown = master.shown(target.tgt.as_deref(), target.tgt_type).await?;
    let minions = shown.into_iter().map(|shown| {
        let Shown { entry, grains, version, address, last_seen } = shown;
        let presence = master.presence.entry(&entry.id);
        let own = master.registry.sighting(&entry.id).own;
        let minion = Minion {
            status: entry.status,
            presence: presence.map(|presence| presence.presence),
            since: presence.map(|presence| presence.since),
            last_seen: master
                .hub
                .roster()
                .last_heard(&entry.id)
                .or_else(|| presence.map(|presence| presence.last_seen).max(last_seen)),
            address,
            version,
            grains: Map::clone(&grains),
            enrolled: entry.enrolled,
            configured: own.configured,
            detected: own.detected,
        };
        (entry.id, minion)
    });
    Ok(Json(minions.collect()))
}

async fn targets(
    State(master): State<Master>,
    target: Result<Query<Target>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(target) = target?;
    let matched = master.resolve(target.tgt.as_deref().unwrap_or("*"), target.tgt_type).await?;
    Ok(Json(json!({
        "minions": matched.minions,
        "unknown": matched.unknown,
        "not_accepted": matched.not_accepted,
    })))
}

#[derive(Serialize)]
struct Presence {
    presence: PresenceState,
    since: Timestamp,
}

/// Of who may connect: nobody waits for a minion that is rejected or revoked, though it was here once.
async fn presence(
    State(master): State<Master>,
    target: Result<Query<Target>, QueryRejection>,
) -> Result<Json<BTreeMap<MinionId, Presence>>, ApiError> {
    let Query(target) = target?;
    let entries = master.presence.entries();
    let meant = match &target.tgt {
        None => None,
        Some(tgt) => Some(master.resolve(tgt, target.tgt_type).await?.minions),
    };
    let is_meant = |id: &MinionId| match &meant {
        None => master.registry.is_accepted(id),
        Some(meant) => meant.binary_search(id).is_ok(),
    };
    let entries = entries.into_iter().filter(|(id, _)| is_meant(id));
    Ok(Json(
        entries
            .map(|(id, entry)| (id, Presence { presence: entry.presence, since: entry.since }))
            .collect(),
    ))
}
