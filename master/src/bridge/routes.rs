//! The API's part about bridges.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};

use super::status::{BridgeHandle, BridgeStatus};
use crate::{api::ApiError, store::DeadLetter};

/// The routes of these bridges, for the API's router.
pub fn routes(bridges: Vec<BridgeHandle>) -> Router {
    Router::new()
        .route("/v1/bridges", get(status))
        .route("/v1/bridges/{name}/dead-letters", get(dead_letters))
        .with_state(Arc::from(bridges))
}

async fn status(State(bridges): State<Arc<[BridgeHandle]>>) -> Json<Vec<BridgeStatus>> {
    Json(bridges.iter().map(BridgeHandle::status).collect())
}

async fn dead_letters(
    State(bridges): State<Arc<[BridgeHandle]>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<DeadLetter>>, ApiError> {
    let bridge = bridges.iter().find(|bridge| bridge.status().name == name);
    let bridge = bridge.ok_or_else(|| ApiError::missing(format!("there is no bridge `{name}`")))?;
    bridge.dead_letters().map(Json).map_err(|error| ApiError::unavailable(&error))
}
