//! The API's part about the master as a whole.

use axum::{Json, Router, extract::State, routing::get};

use super::{Status, StatusSource};
use crate::api::ApiError;

/// The routes, for the API's router.
pub fn routes(source: StatusSource) -> Router {
    Router::new().route("/v1/status", get(status)).with_state(source)
}

async fn status(State(source): State<StatusSource>) -> Result<Json<Status>, ApiError> {
    let looking = tokio::task::spawn_blocking(move || source.look());
    let status = looking.await.expect("looking does not panic");
    status.map(Json).map_err(|error| ApiError::unavailable(&error))
}
