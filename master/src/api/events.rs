//! The event log, to read and to add to.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
    response::Response,
    routing::get,
};
use drover_proto::{
    MinionId,
    event::{Event, NewEvent, Tag},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ApiError,
    stream::{ClientGone, Lines, ndjson},
};
use crate::{
    bus::check_own_tag,
    master::Master,
    store::{ReadError, Store},
};

/// Events read at a time.
const CHUNK: usize = 512;

pub(super) fn routes() -> Router<Master> {
    Router::new().route("/v1/events", get(read).post(send))
}

/// Where a reader begins.
enum Since {
    Seq(u64),
    Time(Timestamp),
}

struct Reading {
    tags: Vec<String>,
    since: Option<Since>,
    follow: bool,
    limit: Option<u64>,
}

async fn read(
    State(master): State<Master>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query?;
    let reading = Reading::parse(query)?;
    let store = master.store.clone();
    let after = match reading.since {
        Some(Since::Seq(seq)) => seq.saturating_sub(1),
        Some(Since::Time(time)) => before(&store, time).await?,
        None if reading.follow => store.last_seq(),
        None => match reading.limit {
            Some(limit) => reading.before_newest(&store, limit).await?,
            None => 0,
        },
    };
    Ok(ndjson(async move |out| reading.write(&store, after, &out).await))
}

impl Reading {
    /// `tag` may be given several times, so the parameters are read one by one.
    fn parse(query: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut reading = Self { tags: Vec::new(), since: None, follow: false, limit: None };
        for (name, value) in query {
            let wrong = |wanted: &str| ApiError::wrong(format!("`{name}` must be {wanted}"));
            match name.as_str() {
                "tag" => reading.tags.push(value),
                "follow" => {
                    reading.follow = value.parse().map_err(|_| wrong("`true` or `false`"))?
                }
                "limit" => reading.limit = Some(value.parse().map_err(|_| wrong("a number"))?),
                "since" => {
                    let seq = value.parse().map(Since::Seq);
                    let since = seq.or_else(|_| value.parse().map(Since::Time));
                    reading.since =
                        Some(since.map_err(|_| {
                            wrong("a time such as `2026-11-23T02:37:05Z`, or a seq")
                        })?);
                }
                _ => {
                    return Err(ApiError::wrong(format!("there is no parameter `{name}`"))
                        .hint("parameters are `tag`, `since`, `follow` and `limit`"));
                }
            }
        }
        Ok(reading)
    }

    /// The seq of the last event before the newest `count` that are taken.
    async fn before_newest(&self, store: &Store, count: u64) -> Result<u64, ReadError> {
        let first = store.first_seq()?;
        let (mut high, mut left) = (store.last_seq(), count);
        while left > 0 && high >= first.max(1) {
            let low = high.saturating_sub(CHUNK as u64);
            let (mut after, mut taken) = (low, Vec::new());
            while after < high {
                let events = store.events(after, CHUNK).await?;
                let Some(last) = events.last() else { break };
                after = last.seq;
                let wanted = events.iter().filter(|event| event.seq <= high && self.takes(event));
                taken.extend(wanted.map(|event| event.seq));
            }
            let here = usize::try_from(left).unwrap_or(usize::MAX);
            if let Some(at) = taken.len().checked_sub(here) {
                return Ok(taken[at].saturating_sub(1));
            }
            left -= taken.len() as u64;
            high = low;
        }
        Ok(high)
    }

    async fn write(self, store: &Store, mut after: u64, out: &Lines) -> Result<(), ClientGone> {
        let mut newer = store.watch();
        let end = store.last_seq();
        let mut left = self.limit.unwrap_or(u64::MAX);
        loop {
            let Ok(events) = store.events(after, CHUNK).await else { return Ok(()) };
            for event in &events {
                after = event.seq;
                if self.takes(event) {
                    if left == 0 {
                        return Ok(());
                    }
                    left -= 1;
                    out.send(&**event).await?;
                }
            }
            if !self.follow && after >= end {
                return Ok(());
            }
            if events.is_empty() {
                if !self.follow {
                    return Ok(());
                }
                tokio::select! {
                    changed = newer.changed() => if changed.is_err() { return Ok(()) },
                    () = out.closed() => return Err(ClientGone),
                }
            }
        }
    }

    fn takes(&self, event: &Arc<Event>) -> bool {
        self.tags.is_empty() || self.tags.iter().any(|tag| event.tag.matches(tag))
    }
}

/// The seq of the last event before a time: events lie in the order of their times, as far as the clock went forward.
pub(crate) async fn before(store: &Store, time: Timestamp) -> Result<u64, ApiError> {
    let (mut low, mut high) = (store.first_seq()?.saturating_sub(1), store.last_seq());
    while low < high {
        let middle = low + (high - low) / 2;
        match store.events(middle, 1).await?.first() {
            Some(event) if event.ts < time => low = event.seq,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    tag: Tag,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    minion: Option<MinionId>,
}

async fn send(
    State(master): State<Master>,
    event: Result<Json<Sent>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let Json(Sent { tag, data, minion }) = event?;
    check_own_tag(&tag).map_err(|error| {
        ApiError::wrong(error).hint("send under a tag of your own, such as `site/door/open`")
    })?;
    let seq = master.store.take_in(NewEvent::new(tag, minion, data)).await?;
    Ok((StatusCode::CREATED, Json(json!({ "seq": seq }))))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::store::Retention;

    #[tokio::test]
    async fn a_limit_without_a_beginning_means_the_newest_events() {
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path(), Retention::default()).unwrap();
        for n in 1..=6 {
            let tag = if n % 2 == 0 { "site/even" } else { "site/odd" };
            store.append(NewEvent::new(tag.parse().unwrap(), None, json!(n))).await.unwrap();
        }
        let query = |tag: &str| vec![("tag".to_owned(), tag.to_owned())];
        let even = Reading::parse(query("site/even")).unwrap();
        assert_eq!(even.before_newest(&store, 2).await.unwrap(), 3);
        let all = Reading::parse(Vec::new()).unwrap();
        assert_eq!(all.before_newest(&store, 2).await.unwrap(), 4);
        assert_eq!(all.before_newest(&store, 100).await.unwrap(), 0);
        assert_eq!(all.before_newest(&store, 0).await.unwrap(), 6);
    }
}
