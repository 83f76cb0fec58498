//! `drover events`: what is kept, and what happens.

use serde_json::{Map, Value, json};

use super::{
    Outcome,
    arguments::{EventFilter, EventsVerb, Format},
    client::{Client, Query},
    failure::Failure,
    output::{
        Printer, nested,
        style::{Colour, Style},
        table::{cell, time},
        yaml,
    },
    value,
};

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    verb: Option<&EventsVerb>,
    filter: &EventFilter,
) -> Result<Outcome, Failure> {
    if let Some(EventsVerb::Send { tag, data }) = verb {
        return send(client, printer, tag, data).await;
    }
    let query = query(filter)?;
    let mut lines = client.get_lines(query.as_str()).await?;
    loop {
        tokio::select! {
            event = lines.next() => match event? {
                Some(event) => print(printer, &event)?,
                None => return Ok(Outcome::Success),
            },
            Ok(()) = tokio::signal::ctrl_c() => return Ok(Outcome::Success),
        }
    }
}

fn query(filter: &EventFilter) -> Result<Query, Failure> {
    let mut query = Query::new("/v1/events");
    for tag in &filter.tag {
        query = query.with("tag", tag);
    }
    for minion in &filter.minion {
        query = query.with("minion", minion);
    }
    for grain in &filter.grain {
        query = query.with("grain", &expression(grain)?);
    }
    for (name, place) in [("since", &filter.since), ("until", &filter.until)] {
        if let Some(place) = place {
            query = query.with(name, &point(place)?);
        }
    }
    if filter.follow {
        query = query.with("follow", "true");
    }
    if let Some(limit) = filter.limit {
        query = query.with("limit", &limit.to_string());
    }
    Ok(query)
}

/// `KEY=GLOB` as a target has it, `KEY:GLOB`, which is taken too.
fn expression(text: &str) -> Result<String, Failure> {
    match text.split_once('=') {
        Some((key, glob)) if !key.is_empty() && !key.contains(':') => Ok(format!("{key}:{glob}")),
        Some(_) | None if text.contains(':') => Ok(text.to_owned()),
        Some(_) | None => {
            Err(Failure::wrong(format!("`{text}` is no KEY=GLOB")).hint("write `-G role=rfid`"))
        }
    }
}

/// A sequence number or a time as the API takes it; a duration is that long ago.
pub(super) fn point(text: &str) -> Result<String, Failure> {
    if text.parse::<u64>().is_ok() || text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(text.to_owned());
    }
    // A day or a minute, in UTC as times are shown.
    if let Ok(civil) = text.parse::<jiff::civil::DateTime>()
        && let Ok(at) = civil.to_zoned(jiff::tz::TimeZone::UTC)
    {
        return Ok(at.timestamp().to_string());
    }
    let wrong = || {
        Failure::wrong(format!("`{text}` is no time"))
            .hint("write 2026-11-23T02:37:05Z, or 15m for what is younger, or a sequence number")
    };
    let ago = value::duration(text).map_err(|_| wrong())?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the operator's clock says what 15 minutes ago is"
    )]
    let now = std::time::SystemTime::now();
    let then = now.checked_sub(ago).and_then(|then| jiff::Timestamp::try_from(then).ok());
    then.map(|then| then.to_string()).ok_or_else(wrong)
}

fn print(printer: &Printer, event: &Value) -> Result<(), Failure> {
    if let Some(missing) = event.get("missing") {
        printer.note(&gone(missing));
        return Ok(());
    }
    match printer.format_or(Format::Txt) {
        Format::Json => printer.text(&event.to_string()),
        Format::Yaml => printer.text(&format!("---\n{}", yaml(event)?)),
        Format::Nested => printer.text(&nested::render(event, printer.style())),
        Format::Txt | Format::Table => printer.text(&line(event, printer.style())),
        Format::Quiet => Ok(()),
    }
}

/// What is said of events that were removed before they were read.
fn gone(missing: &Value) -> String {
    let [from, to, count] = ["from", "to", "count"].map(|name| cell(&missing[name]));
    format!("warning: {count} events are gone that were not read, from seq {from} to {to}")
}

fn line(event: &Value, style: Style) -> String {
    format!(
        "{} {} {}",
        style.paint(Colour::Dim, &time(&event["ts"])),
        style.paint(Colour::Cyan, &cell(&event["tag"])),
        style.clean(&event["data"].to_string()),
    )
}

async fn send(
    mut client: Client,
    printer: &Printer,
    tag: &str,
    words: &[String],
) -> Result<Outcome, Failure> {
    let mut data = Map::new();
    for word in words {
        let Some((key, text)) = value::keyword(word) else {
            return Err(Failure::wrong(format!("`{word}` is no KEY=VALUE"))
                .hint("an event's data is named: `drover events send site/opened door=3`"));
        };
        data.insert(key.to_owned(), value::value_of(text));
    }
    let sent = client.post("/v1/events", &json!({ "tag": tag, "data": data })).await?;
    printer.print(&sent, Format::Quiet, |value, _| format!("event {}", cell(&value["seq"])))?;
    Ok(Outcome::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = json!({
            "id": "019aadf4-3d68-7a3c-8b7e-2f6091c5d4e2", "seq": 7, "ts": "2026-11-23T02:37:05.25Z",
            "tag": "drover/app/rfid-1/door/open", "minion": "rfid-1", "data": { "by": 7 },
        });
        insta::assert_snapshot!(line(&event, Style::default()), @r#"2026-11-23 02:37:05Z drover/app/rfid-1/door/open {"by":7}"#);
    }

    #[test]
    fn grains_are_written_as_in_targets_or_with_an_equals_sign() {
        assert_eq!(expression("role=rfid*").unwrap(), "role:rfid*");
        assert_eq!(expression("role:rfid*").unwrap(), "role:rfid*");
        assert_eq!(expression("place:site:a=b").unwrap(), "place:site:a=b");
        assert!(expression("role").is_err());
    }

    #[test]
    fn points_in_time_are_numbers_times_or_durations() {
        assert_eq!(point("17").unwrap(), "17");
        assert_eq!(point("2026-11-23T02:37:05Z").unwrap(), "2026-11-23T02:37:05Z");
        assert_eq!(point("2026-11-23").unwrap(), "2026-11-23T00:00:00Z");
        assert_eq!(point("2026-11-23 04:54").unwrap(), "2026-11-23T04:54:00Z");
        assert!(point("15m").unwrap().ends_with('Z'));
        assert!(point("yesterday").is_err());
    }
}
