//! `drover bridge`: where the master sends events, and what it could not deliver.

use serde_json::Value;

use super::{
    Outcome,
    arguments::{BridgeVerb, Format},
    client::{Client, segment},
    failure::Failure,
    output::{
        Printer,
        style::Style,
        table::{cell, render, time},
    },
};

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    verb: &BridgeVerb,
) -> Result<Outcome, Failure> {
    match verb {
        BridgeVerb::Status => {
            let bridges = client.get("/v1/bridges").await?;
            printer.print(&bridges, Format::Table, bridges_table)?;
        }
        BridgeVerb::DeadLetters { bridge } => {
            let names = match bridge {
                Some(name) => vec![name.clone()],
                None => names(&client.get("/v1/bridges").await?),
            };
            let mut letters = Vec::new();
            for name in names {
                let path = format!("/v1/bridges/{}/dead-letters", segment(&name));
                letters.extend(named(&name, client.get(&path).await?));
            }
            printer.print(&Value::Array(letters), Format::Table, letters_table)?;
        }
    }
    Ok(Outcome::Success)
}

fn names(bridges: &Value) -> Vec<String> {
    bridges.as_array().into_iter().flatten().map(|bridge| cell(&bridge["name"])).collect()
}

/// A bridge's letters, each with the bridge's name.
fn named(bridge: &str, letters: Value) -> Vec<Value> {
    let Value::Array(mut letters) = letters else { return Vec::new() };
    for letter in letters.iter_mut().filter_map(Value::as_object_mut) {
        letter.insert("bridge".to_owned(), bridge.into());
    }
    letters
}

fn bridges_table(bridges: &Value, style: Style) -> String {
    let rows = bridges.as_array().into_iter().flatten().map(|bridge| {
        let is_up = bridge["up"] == Value::Bool(true);
        vec![
            cell(&bridge["name"]),
            cell(&bridge["type"]),
            state(bridge).to_owned(),
            cell(&bridge["lag"]),
            cell(&bridge["sent"]),
            cell(&bridge["dead_letters"]),
            if is_up { String::new() } else { cell(&bridge["last_error"]) },
        ]
    });
    render(&["bridge", "type", "state", "lag", "sent", "dead letters", "why"], rows, style)
}

/// A bridge that has not had anything to send yet is neither up nor down.
fn state(bridge: &Value) -> &'static str {
    match (&bridge["up"], &bridge["last_error"]) {
        (Value::Bool(true), _) => "up",
        (_, Value::Null) => "idle",
        _ => "down",
    }
}

fn letters_table(letters: &Value, style: Style) -> String {
    let rows = letters.as_array().into_iter().flatten().map(|letter| {
        vec![
            cell(&letter["bridge"]),
            cell(&letter["seq"]),
            cell(&letter["tag"]),
            time(&letter["ts"]),
            cell(&letter["reason"]),
        ]
    });
    render(&["bridge", "seq", "tag", "since", "why"], rows, style)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bridge_that_had_nothing_to_send_is_not_down() {
        let bridge = |up: bool, error: Value| json!({"up": up, "last_error": error});
        assert_eq!(state(&bridge(true, json!("was away"))), "up");
        assert_eq!(state(&bridge(false, Value::Null)), "idle");
        assert_eq!(state(&bridge(false, json!("connection refused"))), "down");
    }

    #[test]
    fn dead_letters_say_which_event_and_why() {
        let letters = json!([{
            "seq": 7, "tag": "drover/app/gate-1/door", "reason": "mapper_parsing_exception",
            "ts": "2026-11-23T02:37:05Z",
        }]);
        let letters = Value::Array(named("elk", letters));
        assert_snapshot!(letters_table(&letters, Style::default()), @"
        bridge  seq  tag                     since                 why
        elk     7    drover/app/gate-1/door  2026-11-23 02:37:05Z  mapper_parsing_exception
        ");
    }
}
