//! Revocation lists: the fleet CAs' own, and those that stations sent with their manifests.

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    routing::get,
};
use serde::Deserialize;
use serde_json::Value;

use super::ApiError;
use crate::{crl::FactoryList, master::Master};

pub(super) fn routes() -> Router<Master> {
    Router::new().route("/v1/crl", get(lists))
}

#[derive(Deserialize)]
struct Wanted {
    /// The lists of this station's authorities, and not those of the fleet CAs.
    station: Option<String>,
}

async fn lists(
    State(master): State<Master>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let Query(Wanted { station }) = wanted?;
    Ok(Json(match station {
        None => master.crl.report(),
        Some(station) => {
            let lists = master.crl.factory_lists(Some(&station))?;
            lists.iter().filter_map(FactoryList::report).collect()
        }
    }))
}
