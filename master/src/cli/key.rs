//! `drover key`: which devices may connect.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    path::Path,
};

use bytes::Bytes;
use drover_proto::glob;
use serde_json::{Map, Value};

use super::{
    Outcome,
    arguments::{Format, Ids, KeyVerb},
    client::{Client, segment},
    failure::Failure,
    job::ids,
    output::{
        Printer,
        style::Style,
        table::{cell, render},
    },
};

const STATUSES: [&str; 4] = ["accepted", "pending", "rejected", "revoked"];

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    verb: &KeyVerb,
) -> Result<Outcome, Failure> {
    match verb {
        KeyVerb::List => {
            let keys = client.get("/v1/keys").await?;
            printer.print(&keys, Format::Table, keys_table)?;
            Ok(Outcome::Success)
        }
        KeyVerb::Show { id } => {
            let key = client.get(&format!("/v1/keys/{}", segment(id))).await?;
            printer.print(&key, Format::Nested, |value, style| {
                let rows = value.as_object().into_iter().flatten();
                render(
                    &["key", "value"],
                    rows.map(|(name, value)| vec![name.clone(), cell(value)]),
                    style,
                )
            })?;
            Ok(Outcome::Success)
        }
        KeyVerb::Accept(ids) => change(client, printer, Change::Accept, ids).await,
        KeyVerb::Reject(ids) => change(client, printer, Change::Reject, ids).await,
        KeyVerb::Revoke(ids) => change(client, printer, Change::Revoke, ids).await,
        KeyVerb::Delete(ids) => change(client, printer, Change::Delete, ids).await,
        KeyVerb::Import { file } => import(client, printer, file).await,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Accept,
    Reject,
    Revoke,
    Delete,
}

impl Change {
    const fn verb(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Revoke => "revoke",
            Self::Delete => "delete",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Accept => "accepted",
            Self::Reject => "rejected",
            Self::Revoke => "revoked",
            Self::Delete => "deleted",
        }
    }

    /// The statuses that a glob reaches. A revoked key is only touched by its full id.
    const fn reach(self) -> &'static [&'static str] {
        match self {
            Self::Accept => &["pending", "rejected"],
            Self::Reject => &["pending", "accepted"],
            Self::Revoke | Self::Delete => &["pending", "accepted", "rejected"],
        }
    }
}

async fn change(
    mut client: Client,
    printer: &Printer,
    change: Change,
    ids: &Ids,
) -> Result<Outcome, Failure> {
    let matched = if glob::is_pattern(&ids.id) {
        matching(&client.get("/v1/keys").await?, change, &ids.id)
    } else {
        vec![ids.id.clone()]
    };
    if matched.is_empty() {
        printer.print(&Value::Object(Map::new()), Format::Quiet, |_, _| String::new())?;
        let reach = change.reach().join(" or ");
        printer.note(&format!("no key that is {reach} matches `{}`", ids.id));
        return Ok(Outcome::NothingMatched);
    }
    if !ids.yes && !confirmed(printer, change, &matched)? {
        printer.note("nothing was changed");
        return Ok(Outcome::Failed);
    }
    let mut keys = Map::new();
    for id in &matched {
        let path = format!("/v1/keys/{}", segment(id));
        let key = if change == Change::Delete {
            client.delete(&path).await?
        } else {
            client.post(&format!("{path}/{}", change.verb()), &Value::Object(Map::new())).await?
        };
        keys.insert(id.clone(), key);
    }
    let sentences = |_: &Value, _: Style| -> String {
        matched.iter().map(|id| format!("{id} is {}\n", change.done())).collect()
    };
    match printer.format_or(Format::Table) {
        Format::Nested | Format::Txt => printer.text(&sentences(&Value::Null, printer.style()))?,
        Format::Json | Format::Yaml | Format::Table | Format::Quiet => {
            printer.print(&Value::Object(keys), Format::Table, sentences)?;
        }
    }
    Ok(Outcome::Success)
}

fn matching(keys: &Value, change: Change, pattern: &str) -> Vec<String> {
    let mut matched: Vec<String> = change
        .reach()
        .iter()
        .flat_map(|status| ids(&keys[status]))
        .filter(|id| glob::matches(pattern, id))
        .collect();
    matched.sort_unstable();
    matched
}

/// People are asked; scripts meant what they said.
fn confirmed(printer: &Printer, change: Change, ids: &[String]) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    printer.note(&format!("to {}:", change.verb()));
    for id in ids {
        printer.note(&format!("  {id}"));
    }
    eprint!("proceed? [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::failed("cannot read the answer").because(error))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

async fn import(mut client: Client, printer: &Printer, file: &Path) -> Result<Outcome, Failure> {
    let manifest = std::fs::read(file).map_err(|error| {
        Failure::wrong(format!("cannot read `{}`", file.display()))
            .because(error)
            .hint("`drover-enrol manifest --station DIR --out FILE` writes one")
    })?;
    let told = client.post_file("/v1/manifests", Bytes::from(manifest)).await?;
    let report = report(&told);
    printer.print(&report, Format::Table, imported)?;
    let refused = report["refused"].as_array().map_or(&[][..], Vec::as_slice);
    for one in refused {
        printer.note(&format!("{}: {}", cell(&one["id"]), cell(&one["reason"])));
    }
    if refused.is_empty() {
        return Ok(Outcome::Success);
    }
    if let Some(hint) = told["hint"].as_str() {
        printer.note(&format!("hint: {hint}"));
    }
    Ok(Outcome::Failed)
}

/// What became of each device, without the words that a refusal brings along.
fn report(told: &Value) -> Value {
    let parts = ["station", "number", "registered", "known", "refused"];
    parts.into_iter().map(|part| (part.to_owned(), told[part].clone())).collect()
}

fn imported(told: &Value, _: Style) -> String {
    let refused = match told["refused"].as_array().map_or(0, Vec::len) {
        0 => String::new(),
        refused => format!(", {refused} refused"),
    };
    format!(
        "manifest {} of station {}: {} registered, {} known before{refused}\n",
        cell(&told["number"]),
        cell(&told["station"]),
        ids(&told["registered"]).len(),
        ids(&told["known"]).len(),
    )
}

fn keys_table(keys: &Value, style: Style) -> String {
    let rows = STATUSES.iter().flat_map(|status| {
        let mut ids = ids(&keys[status]);
        ids.sort_unstable();
        ids.into_iter().map(|id| vec![id, (*status).to_owned()])
    });
    render(&["minion", "key"], rows, style)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    fn keys() -> Value {
        json!({
            "accepted": ["rfid-2", "rfid-1"], "pending": ["rfid-3", "gate-1"],
            "rejected": ["rfid-4"], "revoked": ["rfid-5"],
        })
    }

    #[test]
    fn a_glob_reaches_what_the_verb_is_for() {
        let matched = |change| matching(&keys(), change, "rfid-*").join(" ");
        assert_eq!(matched(Change::Accept), "rfid-3 rfid-4");
        assert_eq!(matched(Change::Reject), "rfid-1 rfid-2 rfid-3");
        assert_eq!(matched(Change::Revoke), "rfid-1 rfid-2 rfid-3 rfid-4");
    }

    #[test]
    fn keys_are_listed_by_status() {
        assert_snapshot!(keys_table(&keys(), Style::default()), @"
        minion  key
        rfid-1  accepted
        rfid-2  accepted
        gate-1  pending
        rfid-3  pending
        rfid-4  rejected
        rfid-5  revoked
        ");
    }

    #[test]
    fn an_import_is_told_in_a_sentence() {
        let told = json!({ "station": "line-1", "number": 3, "registered": ["a", "b"], "known": [], "refused": [] });
        assert_snapshot!(imported(&told, Style::default()), @"manifest 3 of station line-1: 2 registered, 0 known before");
    }

    #[test]
    fn an_import_with_a_refused_device_tells_of_the_others_too() {
        let told = json!({
            "message": "1 device of the manifest is refused", "hint": "delete it",
            "station": "line-1", "number": 3, "registered": ["a"], "known": [],
            "refused": [{ "id": "b", "reason": "it was deleted" }],
        });
        let report = report(&told);
        assert!(report["message"].is_null() && report["refused"][0]["id"] == "b", "{report}");
        assert_snapshot!(imported(&report, Style::default()), @"manifest 3 of station line-1: 1 registered, 0 known before, 1 refused");
    }
}
