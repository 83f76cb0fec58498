//! The API's part about bridges.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    routing::{get, post},
};
use drover_proto::nearest::nearest;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::handle::{BridgeEnded, BridgeHandle, Tested};
use crate::{
    api::{ApiError, seq_before},
    store::DeadLetter,
};

type Bridges = State<Arc<[BridgeHandle]>>;

/// The routes of these bridges, for the API's router.
pub fn routes(bridges: Vec<BridgeHandle>) -> Router {
    Router::new()
        .route("/v1/bridges", get(status))
        .route("/v1/bridges/{name}", get(status_of))
        .route("/v1/bridges/{name}/test", post(test))
        .route("/v1/bridges/{name}/replay", post(replay))
        .route("/v1/bridges/{name}/pause", post(pause))
        .route("/v1/bridges/{name}/resume", post(resume))
        .route("/v1/bridges/{name}/dead-letters", get(dead_letters))
        .route("/v1/bridges/{name}/dead-letters/{id}", get(dead_letter))
        .route("/v1/bridges/{name}/dead-letters/replay", post(replay_letters))
        .route("/v1/bridges/{name}/dead-letters/drop", post(drop_letters))
        .with_state(Arc::from(bridges))
}

async fn status(State(bridges): Bridges) -> Result<Json<Map<String, Value>>, ApiError> {
    let mut all = Map::new();
    for bridge in bridges.iter() {
        all.insert(bridge.name().to_owned(), json!(bridge.status()?));
    }
    Ok(Json(all))
}

async fn status_of(
    State(bridges): Bridges,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ &name: find(&bridges, &name)?.status()? })))
}

async fn test(State(bridges): Bridges, Path(name): Path<String>) -> Result<Json<Tested>, ApiError> {
    Ok(Json(find(&bridges, &name)?.test().await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    /// The first event to be sent again.
    since: Since,
    /// Whether the receiver may get events twice.
    #[serde(default)]
    duplicates: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Since {
    Seq(u64),
    Time(Timestamp),
}

async fn replay(
    State(bridges): Bridges,
    Path(name): Path<String>,
    wanted: Result<Json<Replay>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let bridge = find(&bridges, &name)?;
    let Json(Replay { since, duplicates }) = wanted?;
    if !bridge.is_idempotent() && !duplicates {
        return Err(twice(&name));
    }
    let after = match since {
        Since::Seq(seq) => seq.saturating_sub(1),
        Since::Time(time) => seq_before(&bridge.store, time).await?,
    };
    match bridge.replay(after).await? {
        Ok(events) => Ok(Json(json!({"bridge": name, "events": events}))),
        Err(nothing) => Err(ApiError::conflict(nothing)
            .hint(format!("name an event up to {}, or a time before it", nothing.at))),
    }
}

async fn pause(State(bridges): Bridges, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    find(&bridges, &name)?.pause(true).await?;
    status_of(State(bridges), Path(name)).await
}

async fn resume(
    State(bridges): Bridges,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    find(&bridges, &name)?.pause(false).await?;
    status_of(State(bridges), Path(name)).await
}

async fn dead_letters(
    State(bridges): Bridges,
    Path(name): Path<String>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let letters = find(&bridges, &name)?.dead_letters()?;
    Ok(Json(letters.iter().map(|letter| shown(&name, letter)).collect()))
}

async fn dead_letter(
    State(bridges): Bridges,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let bridge = find(&bridges, &name)?;
    let letters = bridge.dead_letters()?;
    let letter = letters.iter().find(|letter| is_of(letter, &id));
    let letter = letter.ok_or_else(|| no_letter(&name, &id))?;
    let mut value = shown(&name, letter);
    value["event"] = json!(bridge.dead_letter_event(letter.seq).await?);
    Ok(Json(value))
}

/// Which letters are meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    /// Events' ids, or their seqs.
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    all: bool,
}

async fn replay_letters(
    State(bridges): Bridges,
    Path(name): Path<String>,
    chosen: Result<Json<Chosen>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let bridge = find(&bridges, &name)?;
    let letters = choose(bridge, chosen?)?;
    let mut gone = Vec::new();
    for seq in &letters {
        if bridge.dead_letter_event(*seq).await?.is_none() {
            gone.push(*seq);
        }
    }
    let there = letters.into_iter().filter(|seq| !gone.contains(seq)).collect();
    let replaying = bridge.revive(there).await?;
    Ok(Json(json!({"bridge": name, "replaying": replaying, "gone": gone})))
}

async fn drop_letters(
    State(bridges): Bridges,
    Path(name): Path<String>,
    chosen: Result<Json<Chosen>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let bridge = find(&bridges, &name)?;
    let dropped = bridge.forget(choose(bridge, chosen?)?).await?;
    Ok(Json(json!({"bridge": name, "dropped": dropped})))
}

/// The seqs of the letters that are meant.
fn choose(bridge: &BridgeHandle, Json(chosen): Json<Chosen>) -> Result<Vec<u64>, ApiError> {
    let letters = bridge.dead_letters()?;
    if chosen.all != chosen.ids.is_empty() {
        return Err(ApiError::wrong("name events' ids, or all, and not both"));
    }
    if chosen.all {
        return Ok(letters.iter().map(|letter| letter.seq).collect());
    }
    let seq = |id: &String| {
        let letter = letters.iter().find(|letter| is_of(letter, id));
        letter.map(|letter| letter.seq).ok_or_else(|| no_letter(bridge.name(), id))
    };
    chosen.ids.iter().map(seq).collect()
}

fn find<'a>(bridges: &'a [BridgeHandle], name: &str) -> Result<&'a BridgeHandle, ApiError> {
    if let Some(bridge) = bridges.iter().find(|bridge| bridge.name() == name) {
        return Ok(bridge);
    }
    let wrong = ApiError::missing(format!("there is no bridge `{name}`"));
    let names: Vec<_> = bridges.iter().map(BridgeHandle::name).collect();
    Err(match nearest(name, names.iter().copied()) {
        Some(near) => wrong.hint(format!("did you mean `{near}`?")),
        None if names.is_empty() => wrong.hint("`bridges` of `master.yml` has none"),
        None => wrong.hint(format!("there are: {}", names.join(", "))),
    })
}

fn shown(bridge: &str, letter: &DeadLetter) -> Value {
    json!({
        "bridge": bridge,
        "id": letter.id,
        "seq": letter.seq,
        "tag": letter.tag,
        "minion": letter.minion,
        "reason": letter.reason,
        "ts": letter.ts,
    })
}

/// By the event's id, or by its seq.
fn is_of(letter: &DeadLetter, id: &str) -> bool {
    letter.id.is_some_and(|known| known.to_string() == id) || letter.seq.to_string() == id
}

fn no_letter(bridge: &str, id: &str) -> ApiError {
    ApiError::missing(format!("the bridge `{bridge}` has no dead letter `{id}`"))
        .hint(format!("`drover bridge dead-letters list {bridge}` lists them"))
}

fn twice(bridge: &str) -> ApiError {
    ApiError::conflict(format!("the receiver of `{bridge}` gets events twice that it has"))
        .hint("say so with `-y`, or in the request with `\"duplicates\": true`")
}

impl From<BridgeEnded> for ApiError {
    fn from(error: BridgeEnded) -> Self {
        Self::unavailable(&error)
    }
}
