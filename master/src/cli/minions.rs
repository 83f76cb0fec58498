//! `drover minions` and `drover presence`: what the registry knows.

use serde_json::Value;

use super::{
    Outcome,
    arguments::{Format, Target},
    client::{Client, Query},
    failure::Failure,
    job::{check_target, kind_name},
    output::{
        Printer,
        style::Style,
        table::{cell, render, time},
    },
};

pub(super) async fn minions(
    mut client: Client,
    printer: &Printer,
    target: &Target,
) -> Result<Outcome, Failure> {
    let query = with_target(Query::new("/v1/minions"), target)?;
    let minions = client.get(query.as_str()).await?;
    printer.print(&minions, Format::Table, minions_table)?;
    Ok(found(printer, target, &minions))
}

pub(super) async fn presence(
    mut client: Client,
    printer: &Printer,
    target: &Target,
) -> Result<Outcome, Failure> {
    let query = with_target(Query::new("/v1/presence"), target)?;
    let presence = client.get(query.as_str()).await?;
    printer.print(&presence, Format::Table, |value, style| {
        let rows = sorted(value).into_iter().map(|(id, minion)| {
            vec![id.clone(), cell(&minion["presence"]), time(&minion["since"])]
        });
        render(&["minion", "presence", "since"], rows, style)
    })?;
    Ok(found(printer, target, &presence))
}

pub(super) fn with_target(query: Query, target: &Target) -> Result<Query, Failure> {
    if target.matcher.range {
        return Err(Failure::wrong("range expressions (-R) are not supported")
            .hint("there is no range server; use a list (-L) or a nodegroup (-N)"));
    }
    let Some(text) = &target.target else { return Ok(query) };
    let kind = target.matcher.kind();
    check_target(text, kind)?;
    Ok(query.with("tgt", text).with("tgt_type", kind_name(kind)))
}

/// Nothing is only a miss where something was asked for.
fn found(printer: &Printer, target: &Target, answer: &Value) -> Outcome {
    let is_empty = answer.as_object().is_none_or(serde_json::Map::is_empty);
    match &target.target {
        Some(text) if is_empty => {
            printer.note(&format!("no minion matches `{text}`"));
            Outcome::NothingMatched
        }
        Some(_) | None => Outcome::Success,
    }
}

fn sorted(value: &Value) -> Vec<(&String, &Value)> {
    let mut all: Vec<_> = value.as_object().into_iter().flatten().collect();
    all.sort_by_key(|(id, _)| *id);
    all
}

/// Of the grains the enrolled ones: those that a device cannot claim.
fn minions_table(value: &Value, style: Style) -> String {
    let rows = sorted(value).into_iter().map(|(id, minion)| {
        let grains: Vec<_> = minion["enrolled"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}={}", cell(value)))
            .collect();
        vec![
            id.clone(),
            cell(&minion["status"]),
            cell(&minion["presence"]),
            time(&minion["last_seen"]),
            cell(&minion["address"]),
            cell(&minion["version"]),
            grains.join(" "),
        ]
    });
    let headings =
        ["minion", "status", "presence", "last seen", "address", "version", "enrolled grains"];
    render(&headings, rows, style)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    #[test]
    fn minions_are_listed_by_id_with_their_enrolled_grains() {
        let value = json!({
            "rfid-1": {
                "status": "accepted", "presence": "connected", "since": "2026-11-23T02:37:05Z",
                "last_seen": "2026-11-23T02:40:05.123Z", "address": "127.0.0.1:50000", "version": "0.1.0",
                "grains": { "role": "rfid", "os": "Debian" }, "enrolled": { "role": "rfid" },
            },
            "gate-1": {
                "status": "pending", "presence": "lost", "since": null, "last_seen": null,
                "address": null, "grains": {}, "enrolled": {},
            },
        });
        assert_snapshot!(minions_table(&value, Style::default()), @"
        minion  status    presence   last seen             address          version  enrolled grains
        gate-1  pending   lost
        rfid-1  accepted  connected  2026-11-23 02:40:05Z  127.0.0.1:50000  0.1.0    role=rfid
        ");
    }
}
