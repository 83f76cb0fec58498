//! `message`: what happened, as a sentence for people.

use std::{borrow::Cow, fmt::Write as _};

use drover_proto::event::Event;
use serde_json::{Map, Value};

use super::{
    facts::{Facts, Metrics, Parts},
    payload::shorten,
};

/// The longest message, in bytes. The whole text is in the payload.
pub(super) const LONGEST: usize = 32 << 10;
/// The longest text from a payload within a sentence.
const QUOTED: usize = 300;

/// Says what happened. A program's or a log's own `message` is said as it is.
pub(super) fn message<'a>(
    event: &'a Event,
    parts: &Parts<'a>,
    facts: &Facts<'a>,
    data: &'a Map<String, Value>,
) -> Cow<'a, str> {
    if matches!(parts.space, "app" | "beacon" | "")
        && let Some(own) = data.get("message").and_then(Value::as_str).filter(|own| !own.is_empty())
    {
        return if own.len() <= LONGEST { own.into() } else { shorten(own, LONGEST).into() };
    }
    let who = event.minion.as_ref().map_or(parts.about, |minion| minion.as_str());
    let action = parts.action();
    let text = |key: &str| data.get(key).and_then(Value::as_str).map(|text| shorten(text, QUOTED));
    let mut sentence = match (parts.space, action) {
        ("minion", "start") => {
            let mut sentence = format!("{who} is connected");
            if let Some(address) = text("address") {
                let _ = write!(sentence, " from {address}");
            }
            if let Some(version) = text("version") {
                let _ = write!(sentence, ", version {version}");
            }
            sentence
        }
        ("minion", "stop") => format!("{who} is disconnected"),
        ("minion", _) => format!("{who}: {}", words(parts.rest)),
        ("presence", "back") => {
            let away = data.get("away").and_then(Value::as_i64);
            let after = away.map(|away| format!(" after {away} s")).unwrap_or_default();
            format!("{who} is back{after}")
        }
        ("presence", "lost") => {
            let since = text("last_seen");
            let since = since.map(|since| format!(", last seen {since}")).unwrap_or_default();
            format!("{who} is lost{since}")
        }
        ("presence", _) => format!("{who} is {action}"),
        ("job", "new") => {
            let minions = data.get("minions").and_then(Value::as_array).map_or(0, Vec::len);
            let plural = if minions == 1 { "" } else { "s" };
            format!("{} for {minions} minion{plural}", facts.fun.unwrap_or("a job"))
        }
        ("job", "ret") => {
            let fun = facts.fun.unwrap_or("a job");
            match facts.retcode {
                Some(0) => format!("{fun} on {who} succeeded"),
                Some(retcode) => format!("{fun} on {who} failed with status {retcode}"),
                None => format!("{fun} on {who} returned"),
            }
        }
        ("job", "prog") => {
            let state = data.get("data").and_then(|state| {
                let name = state["__id__"].as_str().or_else(|| state["name"].as_str())?;
                Some(format!("{}: {}", shorten(name, QUOTED), state["comment"].as_str()?))
            });
            let state = state.unwrap_or_else(|| format!("job {} goes on", parts.about));
            format!("{who}: {}", shorten(&state, QUOTED * 2))
        }
        ("pending", _) => {
            format!("{} for {who}: {}", facts.fun.unwrap_or("a job"), words(action))
        }
        ("key", "clone") => format!("two machines have the identity of {who}"),
        ("key", "renewed") => format!("{who} has a new certificate"),
        ("key", "roots") => format!("{who} trusts other roots than before"),
        ("key", "retiring") => format!("{who} is to retire"),
        ("key", "retired") => format!("the service of {who} is over"),
        ("key", _) => format!("the key of {who} is {}", words(action)),
        ("beacon", "suppressed") => {
            let count = facts.count.unwrap_or(0);
            format!("{who}: {count} readings of {} were held back", parts.beacon())
        }
        ("beacon" | "app", _) => match facts.metrics.as_ref().and_then(measured) {
            Some(measured) => format!("{who}: {measured}"),
            None => format!("{who}: {}", words(parts.rest.trim_matches('/'))),
        },
        ("reactor", _) => {
            let rule = facts.rule.unwrap_or("a rule");
            let at = data.get("event").and_then(|event| event["tag"].as_str()).unwrap_or_default();
            match action {
                "ran" => format!("rule {rule} ran for {at}"),
                "error" => {
                    format!("rule {rule} cannot be used: {}", text("message").unwrap_or_default())
                }
                "loop" => format!("rule {rule} met what it had caused: {at}"),
                "held" => format!("rule {rule} is held back for {at}"),
                _ => format!("rule {rule}: {} {at}", words(action)),
            }
        }
        ("bridge", "up") => format!("the bridge {who} delivers"),
        ("bridge", "down") => format!("the bridge {who} cannot deliver"),
        ("bridge", _) => format!("the bridge {who}: {}", words(action)),
        ("authority", "expires") => {
            let end = text("not_after").unwrap_or_default();
            format!("the authority {who} ends at {end}")
        }
        ("authority" | "station", _) => format!("{} {who}: {}", parts.space, words(action)),
        ("master", _) => format!("the master: {}", words(parts.rest)),
        _ => event.tag.as_str().to_owned(),
    };
    if let Some(reason) = facts.reason.filter(|_| parts.space != "app") {
        let _ = write!(sentence, ": {}", shorten(reason, QUOTED));
    }
    sentence.into()
}

fn measured(metrics: &Metrics<'_>) -> Option<String> {
    if let Some(load) = &metrics.load {
        return Some(format!("load {}, {}, {}", load.one, load.five, load.fifteen));
    }
    if let Some(memory) = &metrics.memory {
        return Some(format!("{} % of the memory is in use", memory.used_percent));
    }
    if let Some(disk) = &metrics.disk {
        let mount = disk.mount.unwrap_or("a file system");
        return Some(format!("{} % of {mount} is in use", disk.used_percent));
    }
    metrics.temperature.as_ref().map(|at| {
        let sensor = at.sensor.map(|sensor| format!("{sensor}: ")).unwrap_or_default();
        format!("{sensor}{} °C", at.celsius)
    })
}

/// `timed_out` for people.
fn words(path: &str) -> String {
    path.replace('_', " ")
}
