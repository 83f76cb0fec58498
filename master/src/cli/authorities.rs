//! `drover key authorities`: the roots and fleet CAs that the fleet stands on, and how one takes another's place.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    Outcome,
    arguments::{AuthoritiesVerb, Format},
    client::{Client, segment},
    failure::Failure,
    output::{
        Printer, lines,
        style::Style,
        table::{cell, render, time},
    },
};

pub(super) async fn run(
    client: Client,
    printer: &Printer,
    verb: Option<&AuthoritiesVerb>,
) -> Result<Outcome, Failure> {
    match verb {
        None => list(client, printer).await,
        Some(AuthoritiesVerb::Request { file }) => request(client, printer, file.as_deref()).await,
        Some(AuthoritiesVerb::Import { file, within }) => {
            let within = within.map_or_else(String::new, |w| format!("?within={}", w.as_secs()));
            import(client, printer, file, &within).await
        }
        Some(AuthoritiesVerb::Drop { name, force }) => {
            drop_authority(client, printer, name, *force).await
        }
    }
}

async fn list(mut client: Client, printer: &Printer) -> Result<Outcome, Failure> {
    let report = client.get("/v1/authorities").await?;
    if printer.format_or(Format::Table) == Format::Txt {
        let rows = report["authorities"].as_array().into_iter().flatten();
        let named: Map<_, _> = rows.map(|row| (cell(&row["name"]), row.clone())).collect();
        printer.text(&lines(&Value::Object(named), printer.style()))?;
        return Ok(Outcome::Success);
    }
    printer.print(&report, Format::Table, table)?;
    Ok(Outcome::Success)
}

fn table(report: &Value, style: Style) -> String {
    let rows = report["authorities"].as_array().into_iter().flatten().map(|authority| {
        let fingerprint: String = cell(&authority["fingerprint"]).chars().take(16).collect();
        let end = if authority["not_after"].is_null() {
            "never".to_owned()
        } else {
            time(&authority["not_after"])
        };
        vec![
            cell(&authority["name"]),
            cell(&authority["kind"]).replace('_', " "),
            cell(&authority["state"]),
            fingerprint,
            end,
            cell(&authority["trusted_by"]),
            cell(&authority["needed_by"]),
        ]
    });
    let heads = ["authority", "kind", "state", "sha-256", "ends", "trusted by", "needed by"];
    let mut text = render(&heads, rows, style);
    let count = |what: &str| report[what].as_u64().unwrap_or_default();
    text += &match count("root_list") {
        0 => "no root list was ever followed".to_owned(),
        number => format!("root list {number} is in force"),
    };
    let devices = if count("devices") == 1 { "device" } else { "devices" };
    text += &format!("; {} accepted {devices}", count("devices"));
    if count("unsaid") > 0 {
        text += &format!(", of which {} have not said what they trust", count("unsaid"));
    }
    text.push('\n');
    if let Some(waiting) = report["waiting"].as_object() {
        let names: Vec<_> =
            waiting["leaves_out"].as_array().into_iter().flatten().map(cell).collect();
        text += &format!(
            "root list {} waits: `drover key authorities drop {}` puts it in force\n",
            cell(&waiting["number"]),
            names.join(" "),
        );
    }
    if report["requested"] == true {
        text += "a new fleet CA's key waits for its certificate: import what `drover-enrol certify` wrote\n";
    }
    text
}

async fn request(
    mut client: Client,
    printer: &Printer,
    file: Option<&Path>,
) -> Result<Outcome, Failure> {
    let told = client.post("/v1/authorities/request", &json!({})).await?;
    let csr = told["csr"].as_str().unwrap_or_default();
    let Some(file) = file else {
        match printer.format_or(Format::Txt) {
            Format::Txt => printer.text(csr)?,
            Format::Json | Format::Yaml | Format::Nested | Format::Table | Format::Quiet => {
                printer.print(&told, Format::Json, |told, _| cell(&told["csr"]))?;
            }
        }
        return Ok(Outcome::Success);
    };
    std::fs::write(file, csr).map_err(|error| {
        Failure::failed(format!("cannot write `{}`", file.display())).because(error)
    })?;
    printer.print(&told, Format::Quiet, |_, _| String::new())?;
    printer.note(&format!(
        "where the root lies: drover-enrol certify --fleet DIR --csr {} --out OUT",
        file.display()
    ));
    Ok(Outcome::Success)
}

async fn import(
    mut client: Client,
    printer: &Printer,
    file: &Path,
    within: &str,
) -> Result<Outcome, Failure> {
    let content = std::fs::read(file).map_err(|error| {
        Failure::wrong(format!("cannot read `{}`", file.display()))
            .because(error)
            .hint("`drover-enrol rotate-root` and `drover-enrol certify` write what is imported")
    })?;
    let path = format!("/v1/authorities/import{within}");
    let told = client.post_file(&path, Bytes::from(content)).await?;
    printer.print(&told, Format::Table, |told, _| imported(told))?;
    Ok(Outcome::Success)
}

fn imported(told: &Value) -> String {
    let names = |list: &Value| {
        list.as_array().into_iter().flatten().map(cell).collect::<Vec<_>>().join(", ")
    };
    match (told["imported"].as_str(), told["in_force"] == true) {
        (Some("root_list"), true) => format!(
            "root list {} is in force: {}; devices follow as they connect\n",
            cell(&told["number"]),
            names(&told["roots"])
        ),
        (Some("root_list"), false) => format!(
            "root list {} waits: it leaves {} out; `drover key authorities drop {}` puts it in force\n",
            cell(&told["number"]),
            names(&told["leaves_out"]),
            names(&told["leaves_out"]),
        ),
        (Some("fleet_ca"), _) if told["same_key"] == true => {
            format!("the fleet CA `{}` has its new certificate\n", cell(&told["name"]))
        }
        (Some("fleet_ca"), _) => format!(
            "the fleet CA `{}` issues from now on; connected devices renew within {} s\n",
            cell(&told["name"]),
            cell(&told["renew_within"])
        ),
        (_, _) => format!("{} is in force already\n", cell(&told["known"])),
    }
}

async fn drop_authority(
    mut client: Client,
    printer: &Printer,
    name: &str,
    force: bool,
) -> Result<Outcome, Failure> {
    let path = format!("/v1/authorities/{}/drop", segment(name));
    let told = client.post(&path, &json!({ "force": force })).await?;
    printer.print(&told, Format::Table, |told, _| dropped(told))?;
    Ok(Outcome::Success)
}

/// Of devices that something is said of, so many by name. `--out json` has all.
const SHOWN: usize = 20;

fn dropped(told: &Value) -> String {
    let mut text = format!("`{}` is dropped\n", cell(&told["dropped"]));
    let told_of = [
        (
            "behind",
            "know no other root, and come back by the cross-certificates that this master goes on showing",
        ),
        (
            "never_seen",
            "were never here, and come by the cross-certificates if they know that root alone",
        ),
        ("holders", "held certificates from it, and come for others with their birth certificates"),
        ("lost", "cannot come back: bring them new certificates by hand"),
    ];
    for (list, what) in told_of {
        let mut ids: Vec<_> =
            told["needed"][list].as_array().into_iter().flatten().map(cell).collect();
        if !ids.is_empty() {
            ids.sort_unstable();
            let more = ids.len().saturating_sub(SHOWN);
            ids.truncate(SHOWN);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            text += &format!("  {}{more}: {what}\n", ids.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn authorities_are_shown_with_what_depends_on_them() {
        let report = json!({
            "root_list": 1, "waiting": { "number": 2, "leaves_out": ["root"] }, "requested": true,
            "devices": 3, "unsaid": 1,
            "authorities": [
                { "name": "root", "kind": "root", "state": "dropping", "fingerprint": "00112233445566778899", "not_after": null, "trusted_by": 2, "needed_by": 1 },
                { "name": "fleet-ca", "kind": "fleet_ca", "state": "issuing", "fingerprint": "99112233445566778899", "not_after": "2036-01-01T00:00:00Z", "needed_by": 2 },
            ],
        });
        assert_snapshot!(table(&report, Style::default()), @r"
        authority  kind      state     sha-256           ends                  trusted by  needed by
        root       root      dropping  0011223344556677  never                 2           1
        fleet-ca   fleet ca  issuing   9911223344556677  2036-01-01 00:00:00Z              2
        root list 1 is in force; 3 accepted devices, of which 1 have not said what they trust
        root list 2 waits: `drover key authorities drop root` puts it in force
        a new fleet CA's key waits for its certificate: import what `drover-enrol certify` wrote
        ");
    }

    #[test]
    fn a_forced_drop_says_what_becomes_of_whom() {
        let told = json!({ "dropped": "root", "needed": { "behind": ["a", "b"], "lost": ["b"] } });
        assert_snapshot!(dropped(&told), @r"
        `root` is dropped
          a, b: know no other root, and come back by the cross-certificates that this master goes on showing
          b: cannot come back: bring them new certificates by hand
        ");
        let many: Vec<_> = (10..35).rev().map(|n| format!("d{n}")).collect();
        let told = dropped(&json!({ "dropped": "root", "needed": { "never_seen": many } }));
        assert!(told.contains("\n  d10, d11,") && told.contains("d29 and 5 more: were"), "{told}");
    }
}
