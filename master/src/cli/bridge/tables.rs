//! What `drover bridge` shows to people.

use serde_json::Value;

use crate::cli::output::{
    style::Style,
    table::{cell, cut, render, time},
};

/// One row for each bridge, and below them what to do about those that wait for somebody.
pub(super) fn status_table(bridges: &Value, style: Style) -> String {
    let all = || bridges.as_object().into_iter().flatten();
    let rows = all().map(|(name, bridge)| {
        let is_well = matches!(bridge["state"].as_str(), Some("up" | "idle" | "stopped"));
        let server = bridge["server"]
            .as_str()
            .unwrap_or_else(|| bridge["type"].as_str().unwrap_or_default());
        vec![
            name.clone(),
            server.to_owned(),
            cell(&bridge["state"]),
            behind(&bridge["lag"]),
            format!("{}/s", cell(&bridge["rate"])),
            cell(&bridge["sent"]),
            cell(&bridge["retries"]),
            cell(&bridge["dead_letters"]),
            if is_well { String::new() } else { cell(&bridge["last_error"]) },
        ]
    });
    let headings =
        ["bridge", "to", "state", "behind", "rate", "sent", "again", "dead letters", "why"];
    let mut text = render(&headings, rows, style);
    for (name, bridge) in all() {
        if bridge["state"] == "paused" {
            text.push_str(&format!("{name} is paused: `drover bridge resume {name}` goes on\n"));
        }
        if bridge["dead_letters"].as_u64().is_some_and(|count| count > 0) {
            text.push_str(&format!(
                "{name} has dead letters: `drover bridge dead-letters list {name}` says why\n"
            ));
        }
    }
    text
}

/// `1200 events, 3.1 MiB, 40 s`; nothing where it is not behind.
fn behind(lag: &Value) -> String {
    let number = |key: &str| lag[key].as_u64().unwrap_or_default();
    let (events, bytes, seconds) = (number("events"), number("bytes"), number("seconds"));
    if events == 0 {
        return "-".to_owned();
    }
    let plural = if events == 1 { "" } else { "s" };
    format!("{events} event{plural}, {}, {seconds} s", size(bytes))
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "KiB", "MiB"] {
        if amount < 1024.0 {
            let places = usize::from(unit != "B");
            return format!("{amount:.places$} {unit}");
        }
        amount /= 1024.0;
    }
    format!("{amount:.1} GiB")
}

/// What came of a test, in a sentence.
pub(super) fn sentence(tested: &Value) -> String {
    let (bridge, reason) = (cell(&tested["bridge"]), cell(&tested["reason"]));
    let server = match tested["server"].as_str() {
        Some(server) => format!(" ({server})"),
        None => String::new(),
    };
    let took = format!("after {} ms", tested["ms"]);
    match tested["verdict"].as_str() {
        Some("done") => format!("{bridge}{server} took the event {took}\n"),
        Some("later") => format!(
            "{bridge}{server} did not take the event {took}, and would be asked again: {reason}\n"
        ),
        Some("refused") => format!(
            "{bridge}{server} refused the event {took}; it would be a dead letter: {reason}\n"
        ),
        _ => format!("{bridge} failed {took}: {reason}\n"),
    }
}

pub(super) fn letters_table(letters: &Value, style: Style) -> String {
    let rows = letters.as_array().into_iter().flatten().map(|letter| {
        let id = match &letter["id"] {
            Value::Null => cell(&letter["seq"]),
            id @ (Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_)) => cell(id),
        };
        vec![
            cell(&letter["bridge"]),
            id,
            cell(&letter["tag"]),
            time(&letter["ts"]),
            cut(cell(&letter["reason"])),
        ]
    });
    render(&["bridge", "id", "tag", "since", "why"], rows, style)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_says_what_to_do() {
        let bridges = json!({
            "elk": {"type": "elasticsearch", "state": "paused", "server": "Elasticsearch 8.19.21",
                "lag": {"events": 1200, "bytes": 3_250_586, "seconds": 40}, "rate": 0.0, "retries": 3,
                "sent": 7, "dead_letters": 2, "last_error": "401 unauthorized"},
            "log": {"type": "file", "state": "up", "server": null,
                "lag": {"events": 0, "bytes": 0, "seconds": 0}, "rate": 12.5, "retries": 0,
                "sent": 700, "dead_letters": 0, "last_error": "was full"},
        });
        assert_snapshot!(status_table(&bridges, Style::default()), @"
        bridge  to                     state   behind                      rate    sent  again  dead letters  why
        elk     Elasticsearch 8.19.21  paused  1200 events, 3.1 MiB, 40 s  0.0/s   7     3      2             401 unauthorized
        log     file                   up      -                           12.5/s  700   0      0
        elk is paused: `drover bridge resume elk` goes on
        elk has dead letters: `drover bridge dead-letters list elk` says why
        ");
        let on_a_terminal = status_table(&bridges, Style::TERMINAL);
        assert_eq!(on_a_terminal, status_table(&bridges, Style::default()), "no codes in cells");
    }

    #[test]
    fn a_test_says_what_came_back() {
        let tested = |verdict: &str| {
            sentence(&json!({"bridge": "elk", "server": "OpenSearch 2.19.3", "ms": 12,
                "verdict": verdict, "reason": "no such index"}))
        };
        assert_snapshot!(["done", "later", "refused", "failed"].map(tested).concat(), @"
        elk (OpenSearch 2.19.3) took the event after 12 ms
        elk (OpenSearch 2.19.3) did not take the event after 12 ms, and would be asked again: no such index
        elk (OpenSearch 2.19.3) refused the event after 12 ms; it would be a dead letter: no such index
        elk failed after 12 ms: no such index
        ");
    }

    #[test]
    fn dead_letters_say_which_event_and_why() {
        let letters = json!([{
            "bridge": "elk", "seq": 7, "id": "0192f3a0-0000-7000-8000-000000000007",
            "tag": "drover/app/gate-1/door", "reason": "mapper_parsing_exception",
            "ts": "2026-11-23T02:37:05Z",
        }, {
            "bridge": "elk", "seq": 8, "id": null, "tag": "a/b", "reason": "old",
            "ts": "2026-11-23T02:37:05Z",
        }]);
        assert_snapshot!(letters_table(&letters, Style::default()), @"
        bridge  id                                    tag                     since                 why
        elk     0192f3a0-0000-7000-8000-000000000007  drover/app/gate-1/door  2026-11-23 02:37:05Z  mapper_parsing_exception
        elk     8                                     a/b                     2026-11-23 02:37:05Z  old
        ");
    }
}
