//! The event log, to read and to add to.

use std::str::FromStr;

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
    job::TargetType,
    target::Expression,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ApiError,
    stream::{ClientGone, Lines, ndjson},
};
use crate::{
    bridge::Filter,
    bus::check_own_tag,
    master::Master,
    registry::Registry,
    store::{Missing, ReadError, Store},
};

/// Events read at a time.
const CHUNK: usize = 512;

pub(super) fn routes() -> Router<Master> {
    Router::new().route("/v1/events", get(read).post(send))
}

/// A place in the log.
#[derive(Clone, Copy)]
enum Place {
    Seq(u64),
    Time(Timestamp),
}

impl Place {
    /// The seq of the last event before it.
    async fn before(self, store: &Store) -> Result<u64, ApiError> {
        match self {
            Self::Seq(seq) => Ok(seq.saturating_sub(1)),
            Self::Time(time) => before(store, time).await,
        }
    }
}

impl FromStr for Place {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Seq).or_else(|_| text.parse().map(Self::Time))
    }
}

struct Reading {
    registry: Registry,
    filter: Filter,
    since: Option<Place>,
    until: Option<Place>,
    follow: bool,
    limit: Option<u64>,
}

async fn read(
    State(master): State<Master>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query?;
    let reading = Reading::parse(master.registry.clone(), query)?;
    let store = master.store.clone();
    let end = match reading.until {
        Some(until) => until.before(&store).await?,
        None => store.last_seq(),
    };
    let after = match reading.since {
        Some(since) => since.before(&store).await?,
        None if reading.follow => end,
        None => match reading.limit {
            Some(limit) => reading.before_newest(&store, end, limit).await?,
            None => 0,
        },
    };
    Ok(ndjson(async move |out| reading.write(&store, after, end, &out).await))
}

impl Reading {
    /// Some parameters may be given several times, so they are read one by one.
    fn parse(registry: Registry, query: Vec<(String, String)>) -> Result<Self, ApiError> {
        let (mut tags, mut minions, mut grains) = (Vec::new(), Vec::new(), Vec::new());
        let (mut since, mut until, mut follow, mut limit) = (None, None, false, None);
        for (name, value) in query {
            let wrong = |wanted: &str| ApiError::wrong(format!("`{name}` must be {wanted}"));
            let place = |value: &str| {
                let place = value.parse().map(Some);
                place.map_err(|_| wrong("a time such as `2026-11-23T02:37:05Z`, or a seq"))
            };
            match name.as_str() {
                "tag" => tags.push(value),
                "minion" => minions.push(value),
                "grain" => grains.push(Expression::parse(&value, TargetType::Grain)?),
                "follow" => follow = value.parse().map_err(|_| wrong("`true` or `false`"))?,
                "limit" => limit = Some(value.parse().map_err(|_| wrong("a number"))?),
                "since" => since = place(&value)?,
                "until" => until = place(&value)?,
                _ => {
                    return Err(ApiError::wrong(format!("there is no parameter `{name}`")).hint(
                        "parameters are `tag`, `minion`, `grain`, `since`, `until`, `follow` and `limit`",
                    ));
                }
            }
        }
        if follow && until.is_some() {
            return Err(ApiError::wrong("`follow` has no end, and `until` is one"));
        }
        let filter = Filter::new(tags, minions, grains);
        Ok(Self { registry, filter, since, until, follow, limit })
    }

    /// The seq of the last event before the newest `count` that are taken.
    async fn before_newest(&self, store: &Store, end: u64, count: u64) -> Result<u64, ReadError> {
        let first = store.first_seq()?;
        let (mut high, mut left) = (end.min(store.last_seq()), count);
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

    async fn write(
        self,
        store: &Store,
        mut after: u64,
        end: u64,
        out: &Lines,
    ) -> Result<(), ClientGone> {
        let mut newer = store.watch();
        let mut left = self.limit.unwrap_or(u64::MAX);
        // Whoever begins somewhere else than after what it had has missed nothing.
        let mut goes_on = matches!(self.since, Some(Place::Seq(seq)) if seq > 1);
        loop {
            let events = match store.events(after, CHUNK).await {
                Ok(events) => events,
                Err(error) => return out.cut(&error).await,
            };
            if let Some(first) = events.first()
                && goes_on
                && left > 0
            {
                let next = if self.follow { first.seq } else { first.seq.min(end + 1) };
                if let Some(Missing { from, to, count }) = store.missing(after, next) {
                    let missing = json!({ "from": from, "to": to, "count": count });
                    out.send(&json!({ "missing": missing })).await?;
                }
            }
            goes_on = true;
            for event in &events {
                if left == 0 || !self.follow && event.seq > end {
                    return Ok(());
                }
                after = event.seq;
                if self.takes(event) {
                    left -= 1;
                    out.send(&**event).await?;
                }
            }
            if !self.follow && (after >= end || events.is_empty()) {
                return Ok(());
            }
            // Nothing of a long stretch may be meant for it.
            if out.is_closed() {
                return Err(ClientGone);
            }
            if events.is_empty() {
                tokio::select! {
                    changed = newer.changed() => if changed.is_err() { return Ok(()) },
                    () = out.closed() => return Err(ClientGone),
                }
            }
        }
    }

    /// Whether an event is meant, by its minion's grains as they are now.
    fn takes(&self, event: &Event) -> bool {
        self.filter.takes(event, &|minion| self.registry.grains(minion))
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
    use crate::{config::Acceptance, store::Retention};

    async fn store(directory: &TempDir) -> (Store, Registry) {
        let store = Store::open(directory.path(), Retention::default()).unwrap();
        let (registry, _task) = Registry::open(store.clone(), Acceptance::Auto).unwrap();
        for n in 1..=6 {
            let tag = if n % 2 == 0 { "site/even" } else { "site/odd" };
            let minion = (n > 3).then(|| format!("rfid-{n}").parse().unwrap());
            store.append(NewEvent::new(tag.parse().unwrap(), minion, json!(n))).await.unwrap();
        }
        (store, registry)
    }

    fn parse(registry: &Registry, query: &[(&str, &str)]) -> Result<Reading, ApiError> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Reading::parse(registry.clone(), query.iter().map(pair).collect())
    }

    #[tokio::test]
    async fn a_limit_without_a_beginning_means_the_newest_events() {
        let directory = TempDir::new().unwrap();
        let (store, registry) = store(&directory).await;
        let before = async |query: &[(&str, &str)], end, count| {
            let reading = parse(&registry, query).unwrap();
            reading.before_newest(&store, end, count).await.unwrap()
        };
        assert_eq!(before(&[("tag", "site/even")], 6, 2).await, 3);
        assert_eq!(before(&[("minion", "rfid-*")], 6, 2).await, 4);
        assert_eq!(before(&[], 6, 2).await, 4);
        assert_eq!(before(&[], 4, 2).await, 2);
        assert_eq!(before(&[], 6, 100).await, 0);
        assert_eq!(before(&[], 6, 0).await, 6);
    }

    #[tokio::test]
    async fn places_are_seqs_and_times_and_the_end_is_not_taken() {
        let directory = TempDir::new().unwrap();
        let (store, registry) = store(&directory).await;
        let times: Vec<_> =
            store.events(0, 9).await.unwrap().iter().map(|event| event.ts).collect();
        let reading = parse(&registry, &[("since", "3"), ("until", "5")]).unwrap();
        assert_eq!(reading.since.unwrap().before(&store).await.unwrap(), 2);
        assert_eq!(reading.until.unwrap().before(&store).await.unwrap(), 4);
        assert_eq!(Place::Time(times[3]).before(&store).await.unwrap(), 3);
        assert_eq!(Place::Time(Timestamp::UNIX_EPOCH).before(&store).await.unwrap(), 0);
        for wrong in [("since", "noon"), ("grain", "role"), ("limit", "-1"), ("minions", "a")] {
            assert!(parse(&registry, &[wrong]).is_err(), "{wrong:?}");
        }
        assert!(parse(&registry, &[("follow", "true"), ("until", "5")]).is_err());
    }

    async fn body(reading: Reading, store: &Store, after: u64) -> Result<String, axum::Error> {
        let (store, end) = (store.clone(), store.last_seq());
        let response = ndjson(async move |out| reading.write(&store, after, end, &out).await);
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn who_goes_on_after_a_seq_is_told_of_what_is_gone() {
        let directory = TempDir::new().unwrap();
        let (store, registry) = store(&directory).await;
        drop((store, registry));
        let retention = Retention { bytes: 1, undelivered: 1, ..Retention::default() };
        let store = loop {
            // The writer of a dropped store lets go of the directory a moment later.
            match Store::open(directory.path(), retention) {
                Ok(store) => break store,
                Err(_) => std::thread::yield_now(),
            }
        };
        let (registry, _task) = Registry::open(store.clone(), Acceptance::Auto).unwrap();
        while store.expire().await.unwrap() {}
        assert_eq!(store.first_seq().unwrap(), 6);
        let reading = |query: &[(&str, &str)]| parse(&registry, query).unwrap();
        let all = body(reading(&[]), &store, 0).await.unwrap();
        assert!(!all.contains("missing"), "{all}");
        let later = body(reading(&[("since", "3")]), &store, 2).await.unwrap();
        let (first, rest) = later.split_once('\n').unwrap();
        assert_eq!(first, r#"{"missing":{"from":3,"to":5,"count":3}}"#);
        assert_eq!(rest.lines().count(), 1);
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_off_is_no_whole_one() {
        let response = ndjson(async |out| {
            out.send(&1).await?;
            out.cut(&std::io::Error::other("torn")).await
        });
        assert!(axum::body::to_bytes(response.into_body(), 99).await.is_err());
    }
}
