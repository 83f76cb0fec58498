//! Enrolment stations: which are known, which are not trusted any more, and the manifests that came from each.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use drover_pki::StationName;
use serde::Deserialize;

use super::{ApiError, keys::checked_reason};
use crate::{
    master::Master,
    registry::{RevokedStation, Station},
};

pub(super) fn routes() -> Router<Master> {
    Router::new()
        .route("/v1/stations", get(list))
        .route("/v1/stations/{station}/revoke", post(revoke))
        .route("/v1/stations/{station}/manifests", get(manifests))
        .route("/v1/stations/{station}/manifests/{number}", get(manifest))
}

async fn list(
    State(master): State<Master>,
) -> Result<Json<BTreeMap<StationName, Station>>, ApiError> {
    Ok(Json(master.registry.known_stations()?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    reason: Option<String>,
    /// Also the devices that are registered.
    #[serde(default)]
    devices: bool,
}

async fn revoke(
    State(master): State<Master>,
    Path(station): Path<String>,
    revocation: Result<Json<Revocation>, JsonRejection>,
) -> Result<Json<RevokedStation>, ApiError> {
    let station = name(&station)?;
    let Json(Revocation { reason, devices }) = revocation?;
    let reason = checked_reason(reason)?;
    Ok(Json(master.revoke_station(&station, devices, reason.as_deref()).await?))
}

async fn manifests(
    State(master): State<Master>,
    Path(station): Path<String>,
) -> Result<Json<Vec<u64>>, ApiError> {
    let numbers = master.manifests().numbers(&name(&station)?);
    numbers.map(Json).map_err(|error| ApiError::unavailable(&error))
}

async fn manifest(
    State(master): State<Master>,
    Path((station, number)): Path<(String, u64)>,
) -> Result<Response, ApiError> {
    let missing = || {
        ApiError::missing(format!("there is no manifest {number} of station `{station}`"))
            .hint("`drover key stations` shows what was imported")
    };
    let text = master.manifests().read(&name(&station)?, number);
    let text = text.map_err(|error| ApiError::unavailable(&error))?.ok_or_else(missing)?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

fn name(text: &str) -> Result<StationName, ApiError> {
    text.parse().map_err(ApiError::wrong)
}
