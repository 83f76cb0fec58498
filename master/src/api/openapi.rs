//! The API's own description, written by hand beside docs/api.md; a test holds it to the routes.

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};

use crate::master::Master;

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn routes() -> Router<Master> {
    Router::new().route("/v1/openapi.json", get(document))
}

async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}
