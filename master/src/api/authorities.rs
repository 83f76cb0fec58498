//! The authorities that this master stands on, and how they change.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiError;
use crate::{
    authorities::{AuthoritiesError, Imported, RENEW_WITHIN, Report},
    master::Master,
};

/// Longer than that a renewal is not put off: certificates live for days.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

pub(super) fn routes() -> Router<Master> {
    Router::new()
        .route("/v1/authorities", get(report))
        .route("/v1/authorities/request", post(request))
        .route("/v1/authorities/import", post(import))
        .route("/v1/authorities/{name}/drop", post(drop_authority))
}

async fn report(State(master): State<Master>) -> Result<Json<Report>, ApiError> {
    Ok(Json(master.authorities.report()?))
}

async fn request(State(master): State<Master>) -> Result<Json<Value>, ApiError> {
    let csr = master.authorities.request().await?;
    Ok(Json(json!({ "csr": csr })))
}

#[derive(Deserialize)]
struct Importing {
    /// In seconds.
    within: Option<u64>,
}

async fn import(
    State(master): State<Master>,
    importing: Result<Query<Importing>, QueryRejection>,
    file: Bytes,
) -> Result<Json<Value>, ApiError> {
    let Query(Importing { within }) = importing?;
    let within = within.map_or(RENEW_WITHIN, Duration::from_secs);
    if within > LONGEST {
        return Err(ApiError::wrong("a renewal is put off for at most seven days"));
    }
    Ok(Json(match master.authorities.import(&file, within).await? {
        Imported::Followed { number, roots, added } => json!({
            "imported": "root_list", "number": number, "in_force": true, "roots": roots, "added": added,
        }),
        Imported::Waiting { number, leaves_out } => json!({
            "imported": "root_list", "number": number, "in_force": false, "leaves_out": leaves_out,
        }),
        Imported::FleetCa { name, is_renewed, within } => json!({
            "imported": "fleet_ca", "name": name, "in_force": true, "same_key": is_renewed,
            "renew_within": within.as_secs(),
        }),
        Imported::Known { what } => json!({ "imported": "nothing", "known": what }),
    }))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dropping {
    #[serde(default)]
    force: bool,
}

async fn drop_authority(
    State(master): State<Master>,
    Path(name): Path<String>,
    dropping: Result<Json<Dropping>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(Dropping { force }) = dropping?;
    let need = master.authorities.drop_authority(&name, force).await?;
    Ok(Json(json!({ "dropped": name, "needed": need })))
}

impl From<AuthoritiesError> for ApiError {
    fn from(error: AuthoritiesError) -> Self {
        let told = match &error {
            AuthoritiesError::Store(error) => return (*error).into(),
            AuthoritiesError::Read(_) => Self::unavailable(&error),
            AuthoritiesError::Unknown { .. } => Self::missing(&error),
            AuthoritiesError::Needed { need, .. } => {
                let need = serde_json::to_value(need).expect("ids have a JSON form");
                Self::conflict(&error).with([("needed".to_owned(), need)].into_iter().collect())
            }
            AuthoritiesError::InUse(_)
            | AuthoritiesError::NoList(_)
            | AuthoritiesError::FleetCaLeftOut { .. }
            | AuthoritiesError::NoneHere
            | AuthoritiesError::Files(_) => Self::conflict(&error),
            AuthoritiesError::Neither(_)
            | AuthoritiesError::List(_)
            | AuthoritiesError::Anchors(_)
            | AuthoritiesError::Unreadable(_)
            | AuthoritiesError::NoFleetCa(_)
            | AuthoritiesError::OtherFleet(_)
            | AuthoritiesError::OtherKey
            | AuthoritiesError::Authority(_) => Self::wrong(&error),
        };
        let told = told.caused_by(&error);
        match error.hint() {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}
