//! What minions would run, compiled here without asking them; and the master's own functions.

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    routing::post,
};
use drover_proto::job::TargetType;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ApiError;
use crate::{
    master::Master,
    registry::Status,
    runners::{self, Arguments},
};

pub(super) fn routes() -> Router<Master> {
    Router::new().route("/v1/states/preview", post(preview)).route("/v1/runners/{name}", post(run))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Preview {
    tgt: String,
    #[serde(default)]
    tgt_type: TargetType,
    #[serde(default)]
    sls: Vec<String>,
}

async fn preview(
    State(master): State<Master>,
    request: Result<Json<Preview>, JsonRejection>,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let Json(Preview { tgt, tgt_type, sls }) = request?;
    let mut shown = master.shown(Some(&tgt), tgt_type).await?;
    shown.retain(|shown| shown.entry.status == Status::Accepted);
    shown.sort_by(|a, b| a.entry.id.cmp(&b.entry.id));
    let pillars = master.pillars.clone();
    let compile = move || {
        let compiled = shown.into_iter().map(|shown| {
            let preview = match pillars.preview(&shown, &sls) {
                Ok(low) => json!({ "states": low.to_value() }),
                Err(errors) => {
                    let errors = errors.diagnostics().iter().map(
                        |error| json!({ "message": error.to_string(), "file": error.file, "line": error.line, "hint": error.hint }),
                    );
                    json!({ "errors": errors.collect::<Vec<_>>() })
                }
            };
            (shown.entry.id.to_string(), preview)
        });
        compiled.collect()
    };
    let compiled = tokio::task::spawn_blocking(compile).await;
    compiled.map(Json).map_err(|error| ApiError::unavailable(&error))
}

async fn run(
    State(master): State<Master>,
    Path(name): Path<String>,
    arguments: Result<Json<Arguments>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(arguments) = arguments?;
    let value = runners::run(&master, &name, &arguments).await;
    value.map(|value| Json(json!({ "return": value }))).map_err(|error| ApiError::wrong(error).hint(
        "runners are pending.deliver, pending.list, jobs.active, jobs.lookup_jid, manage.up, manage.down, event.send",
    ))
}
