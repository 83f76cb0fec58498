//! Where documents lie: a data stream whose backing indices the server names, or one index for each day. What an index is
//! called, and whose it is.

use drover_proto::event::Event;
use jiff::{SignedDuration, Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;

use super::template::META;

/// How far a server's clock, by which it says when it made an index, may be from ours.
const CLOCKS: SignedDuration = SignedDuration::from_mins(10);

/// The name of a data stream, or the beginning of the names of daily indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexName(String);

/// How documents lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// In a data stream.
    Stream,
    /// In an index for each day of the master's time of append: an event that is sent again goes where it went before.
    Daily,
}

impl IndexName {
    /// Takes a name as Elasticsearch does.
    ///
    /// # Errors
    /// What a name must be.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        // Servers take more; these need no quotes in any address or shell.
        const WANTED: &str = "an index name: lower-case letters, digits, `.`, `_` and `-`, at most 200, beginning with a \
                              letter or digit, such as `drover-events`; `daily: true` adds the day";
        let is_allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let is_valid = text.len() <= 200
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(is_allowed);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(WANTED) }
    }

    /// As it is written.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Where an event goes: appends the name.
    pub(super) fn write(&self, layout: Layout, event: &Event, body: &mut Vec<u8>) {
        body.extend_from_slice(self.0.as_bytes());
        if layout == Layout::Daily {
            let day = event.ts.to_zoned(TimeZone::UTC).date();
            body.extend_from_slice(suffix(day).as_bytes());
        }
    }

    /// The index of a day.
    pub(super) fn of_day(&self, day: Date) -> String {
        format!("{}{}", self.0, suffix(day))
    }

    /// The day of one of the daily indices; `None` for every other index.
    pub(super) fn day(&self, index: &str) -> Option<Date> {
        let text = index.strip_prefix(&self.0)?.strip_prefix('-')?;
        let day = Date::strptime("%Y.%m.%d", text).ok()?;
        // Only as we write it: `2026.1.2` is somebody else's.
        (self.of_day(day) == index).then_some(day)
    }

    /// What the names match that the template is for.
    pub(super) fn pattern(&self, layout: Layout) -> String {
        match layout {
            Layout::Stream => self.0.clone(),
            Layout::Daily => format!("{}-*.*.*", self.0),
        }
    }

    /// The name of its template. Each layout has one of its own, so that a cluster that learns data streams keeps the
    /// indices that it has.
    pub(super) fn template(&self, layout: Layout) -> String {
        match layout {
            Layout::Stream => format!("drover-{}", self.0),
            Layout::Daily => format!("drover-{}-daily", self.0),
        }
    }
}

/// An index that is ours: a backing index of our data stream, or one of our days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnIndex {
    pub(super) name: String,
    /// Of a daily index.
    pub(super) day: Option<Date>,
    /// Bytes of its primary shards.
    pub(super) bytes: u64,
    pub(super) documents: u64,
    pub(super) created: Timestamp,
    /// Nothing was written to it after that; `None` for one that is written to.
    pub(super) ends: Option<Timestamp>,
    /// Whether another can be made to follow it.
    pub(super) can_roll: bool,
}

impl OwnIndex {
    /// Whether there is anything in it. A server counts what it has made searchable, so a small index may have what it
    /// does not tell of.
    pub(super) const fn has_documents(&self) -> bool {
        const EMPTY: u64 = 4096;
        self.documents > 0 || self.bytes > EMPTY
    }

    /// Whether an event may have been sent to it.
    pub(super) fn may_have(&self, event: &Event) -> bool {
        match (self.day, self.ends) {
            (Some(day), _) => day == event.ts.to_zoned(TimeZone::UTC).date(),
            // An event is sent after it was appended.
            (None, Some(ends)) => event.ts.saturating_sub(CLOCKS).is_ok_and(|from| from <= ends),
            (None, None) => true,
        }
    }

    /// Whether this is where an event goes now, if it may be in it at all: there the server knows it by its id.
    pub(super) const fn is_target(&self, layout: Layout) -> bool {
        match layout {
            Layout::Stream => self.can_roll,
            Layout::Daily => self.day.is_some(),
        }
    }
}

/// What stands under our name in a cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Backing indices of the data stream of our name, the oldest first; `None` if there is none.
    pub(super) stream: Option<Vec<String>>,
    /// Whether the name is an index's or an alias's, which cannot become a data stream.
    pub(super) is_taken: bool,
}

impl Resolved {
    /// Reads the answer to `GET /_resolve/index/<name>`.
    pub(super) fn read(answer: &Value, index: &IndexName) -> Self {
        let has_name = |list: &str| {
            let list = answer[list].as_array();
            list.into_iter().flatten().any(|entry| entry["name"] == index.as_str())
        };
        let streams = answer["data_streams"].as_array().into_iter().flatten();
        let mut ours = streams.filter(|stream| stream["name"] == index.as_str());
        let backing = ours.next().map(|stream| {
            // A stream of one index may have it without a list around it.
            match &stream["backing_indices"] {
                Value::Array(names) => {
                    names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
                }
                Value::String(name) => vec![name.clone()],
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
            }
        });
        Self { stream: backing, is_taken: has_name("indices") || has_name("aliases") }
    }
}

/// One line of `_cat/indices`.
#[derive(Debug, Deserialize)]
struct Line {
    index: String,
    #[serde(rename = "pri.store.size")]
    bytes: Option<String>,
    #[serde(rename = "docs.count")]
    documents: Option<String>,
    #[serde(rename = "creation.date")]
    created: Option<String>,
}

/// Which indices are ours, the oldest first.
///
/// `lines` is the answer to `_cat/indices`, `mappings` that to `_mapping` with the `_meta` of each. `written_from` is the
/// earliest day that events still go to.
///
/// # Errors
/// When `lines` is no list of indices: that is not the same as none.
pub(super) fn own(
    index: &IndexName,
    backing: &[String],
    lines: &Value,
    mappings: &Value,
    written_from: Date,
) -> Result<Vec<OwnIndex>, serde_json::Error> {
    let lines: Vec<Line> = Vec::deserialize(lines)?;
    // A name that is no part of an address is none that a server gives.
    let is_name = |name: &str| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && !name.is_empty()
    };
    let is_ours = |name: &str| is_name(name) && mappings[name]["mappings"]["_meta"][META].is_u64();
    let mut own: Vec<_> = lines.into_iter().filter(|line| is_ours(&line.index)).collect();
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<i64>().ok());
    let created = |line: &Line| {
        number(&line.created)
            .and_then(|at| Timestamp::from_millisecond(at).ok())
            .unwrap_or_default()
    };
    own.retain(|line| backing.contains(&line.index) || index.day(&line.index).is_some());
    // The order of the stream, not of the dates: a server's clock may have been wrong.
    let place = |name: &str| backing.iter().position(|other| other == name);
    own.sort_by_key(|line| (index.day(&line.index), place(&line.index)));
    let next_created: Vec<_> = own
        .iter()
        .map(|line| {
            let next = place(&line.index).and_then(|place| backing.get(place + 1))?;
            own.iter().find(|other| other.index == *next).map(created)
        })
        .collect();
    let last = backing.last();
    let mut indices: Vec<_> = own
        .iter()
        .zip(next_created)
        .map(|(line, next)| {
            let day = index.day(&line.index);
            let unsigned = |text| number(text).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
            let is_written = last == Some(&line.index);
            OwnIndex {
                day,
                bytes: unsigned(&line.bytes),
                documents: unsigned(&line.documents),
                created: created(line),
                ends: match day {
                    Some(day) if day >= written_from => None,
                    Some(day) => end_of(day),
                    None if is_written => None,
                    None => next.or_else(|| Some(created(line))),
                },
                can_roll: is_written,
                name: line.index.clone(),
            }
        })
        .collect();
    indices.sort_by_key(|index| (index.can_roll, index.ends.is_none(), index.ends));
    Ok(indices)
}

fn end_of(day: Date) -> Option<Timestamp> {
    let next = day.checked_add(1.day()).ok()?;
    Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn suffix(day: Date) -> String {
    format!("-{:04}.{:02}.{:02}", day.year(), day.month(), day.day())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn name() -> IndexName {
        IndexName::new("drover-events").unwrap()
    }

    fn event(ts: &str) -> Event {
        Event {
            id: Uuid::nil(),
            seq: 7,
            ts: ts.parse().unwrap(),
            at: Some("1970-01-01T00:00:07Z".parse().unwrap()),
            tag: "a".parse().unwrap(),
            minion: None,
            data: Value::Null,
        }
    }

    #[test]
    fn names_that_elasticsearch_refuses_are_refused_at_the_start() {
        for name in ["drover-events", "e", "7", "a.b_c"] {
            assert!(IndexName::new(name).is_ok(), "{name}");
        }
        for name in ["", "Events", "_x", "-x", ".x", "a b", "a/b", "a*", "a,b", "e-%Y", "ünicode"]
        {
            assert!(IndexName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_daily_index_goes_by_the_time_of_append() {
        let event = event("2026-11-23T23:59:59Z");
        let mut body = Vec::new();
        name().write(Layout::Daily, &event, &mut body);
        assert_eq!(body, b"drover-events-2026.11.23");
        body.clear();
        name().write(Layout::Stream, &event, &mut body);
        assert_eq!(body, b"drover-events");
    }

    fn lines() -> Value {
        let line = |name: &str, bytes: &str, created: &str| json!({"index": name, "pri.store.size": bytes, "docs.count": "5", "creation.date": created});
        json!([
            line(".ds-drover-events-2026.11.23-000002", "200", "1795420000000"),
            line(".ds-drover-events-2026.11.22-000001", "100", "1795400000000"),
            line(".ds-drover-events-other-000001", "900", "1795400000000"),
            line("drover-events-2026.11.20", "50", "1795200000000"),
            line("drover-events-2026.11.21", "50", "1795300000000"),
            line("drover-events-2026.11.23", "50", "1795420000000"),
            line("drover-events-2026.11.19", "50", "1795200000000"),
        ])
    }

    #[test]
    fn ours_are_backing_indices_and_days_with_our_mark_and_no_others() {
        let backing =
            [".ds-drover-events-2026.11.22-000001", ".ds-drover-events-2026.11.23-000002"];
        let answer =
            json!({"data_streams": [{"name": "drover-events", "backing_indices": backing}]});
        let resolved = Resolved::read(&answer, &name());
        assert!(!resolved.is_taken);
        let ours = |name: &str| (name.to_owned(), json!({"mappings": {"_meta": {META: 1}}}));
        let mut mappings: Value = lines()
            .as_array()
            .unwrap()
            .iter()
            .map(|line| ours(line["index"].as_str().unwrap()))
            .collect();
        mappings["drover-events-2026.11.19"] = json!({"mappings": {}});
        let today = Date::constant(2026, 11, 23);
        let own = own(&name(), &resolved.stream.unwrap(), &lines(), &mappings, today).unwrap();
        let told: Vec<_> = own
            .iter()
            .map(|index| {
                (
                    index.name.as_str(),
                    index.bytes,
                    index.ends.map(|ends| ends.to_string()),
                    index.can_roll,
                )
            })
            .collect();
        let ends = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                ("drover-events-2026.11.20", 50, ends("2026-11-21T00:00:00Z"), false),
                ("drover-events-2026.11.21", 50, ends("2026-11-22T00:00:00Z"), false),
                (backing[0], 100, ends("2026-11-23T07:46:40Z"), false),
                ("drover-events-2026.11.23", 50, None, false),
                (backing[1], 200, None, true),
            ]
        );
    }

    #[test]
    fn a_name_that_is_a_pattern_or_no_part_of_an_address_is_not_ours() {
        let backing = ["*", ".ds-e 1", "_all?x", ".ds-e-000001"].map(str::to_owned);
        let lines: Value = backing.iter().map(|name| json!({"index": name})).collect();
        let ours = |name: &String| (name.clone(), json!({"mappings": {"_meta": {META: 1}}}));
        let mappings: Value = backing.iter().map(ours).collect();
        let today = Date::constant(2026, 11, 23);
        let own = own(&name(), &backing, &lines, &mappings, today).unwrap();
        let names: Vec<_> = own.iter().map(|index| &*index.name).collect();
        assert_eq!(names, [".ds-e-000001"]);
    }

    #[test]
    fn what_is_no_list_of_indices_is_not_taken_for_an_empty_one() {
        let today = Date::constant(2026, 11, 23);
        let own = |lines| own(&name(), &[], &lines, &json!({}), today);
        assert_eq!(own(json!([])).unwrap(), []);
        for odd in [Value::Null, json!({}), json!("green open e"), json!([{"i": "e"}])] {
            assert!(own(odd.clone()).is_err(), "{odd}");
        }
    }

    #[test]
    fn an_event_is_looked_for_where_it_may_have_been_sent() {
        let own = |day, ends: Option<&str>| OwnIndex {
            name: String::new(),
            day,
            bytes: 0,
            documents: 0,
            created: Timestamp::UNIX_EPOCH,
            ends: ends.map(|ends| ends.parse().unwrap()),
            can_roll: false,
        };
        let event = event("2026-11-23T12:00:00Z");
        assert!(own(None, Some("2026-11-23T12:30:00Z")).may_have(&event));
        assert!(own(None, Some("2026-11-23T11:55:00Z")).may_have(&event));
        assert!(!own(None, Some("2026-11-23T11:00:00Z")).may_have(&event));
        assert!(own(Some(Date::constant(2026, 11, 23)), None).may_have(&event));
        assert!(!own(Some(Date::constant(2026, 11, 22)), None).may_have(&event));
    }

    #[test]
    fn a_name_that_is_an_index_or_an_alias_is_taken() {
        for list in ["indices", "aliases"] {
            let answer = json!({list: [{"name": "drover-events"}]});
            let taken = Resolved { stream: None, is_taken: true };
            assert_eq!(Resolved::read(&answer, &name()), taken);
        }
        assert_eq!(
            Resolved::read(&json!({"error": {}, "status": 404}), &name()),
            Resolved::default()
        );
    }

    #[test]
    fn only_exact_names_of_days_are_ours() {
        let day = name().day("drover-events-2026.11.23").unwrap();
        assert_eq!(name().of_day(day), "drover-events-2026.11.23");
        for other in [
            "drover-events",
            "drover-events-2026.1.2",
            "drover-events-2026.13.01",
            "drover-events-2026.11.23-copy",
            "drover-events-old-2026.11.23",
            "other-2026.11.23",
        ] {
            assert_eq!(name().day(other), None, "{other}");
        }
    }
}
