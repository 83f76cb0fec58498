//! `drover key crl`: revocation lists, as programs read them and as people do.

use std::path::Path;

use serde_json::Value;

use super::{
    Outcome,
    arguments::Format,
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
    station: Option<&str>,
    file: Option<&Path>,
) -> Result<Outcome, Failure> {
    let query = station.map(|name| format!("?station={}", segment(name))).unwrap_or_default();
    let lists = client.get(&format!("/v1/crl{query}")).await?;
    let is_empty = lists.as_array().is_none_or(Vec::is_empty);
    let pem = pem(&lists);
    if let Some(file) = file.filter(|_| !is_empty) {
        std::fs::write(file, &pem).map_err(|error| {
            Failure::failed(format!("cannot write `{}`", file.display())).because(error)
        })?;
    } else {
        // Text is what openssl reads.
        match printer.format_or(Format::Txt) {
            Format::Txt => printer.text(&pem)?,
            Format::Json | Format::Yaml | Format::Nested | Format::Table | Format::Quiet => {
                printer.print(&lists, Format::Table, lists_table)?;
            }
        }
    }
    if !is_empty {
        return Ok(Outcome::Success);
    }
    printer.note(&match station {
        Some(station) => format!("no manifest of a station `{station}` brought a revocation list"),
        None => {
            "this master signs no revocation list, because it has no key of a fleet CA that it could \
             use: `fleet-ca.key` in `pki_dir` is missing, or the log says what is wrong with it; whom it \
             lets in is its registry's to say all the same"
                .to_owned()
        }
    });
    Ok(Outcome::NothingMatched)
}

fn pem(lists: &Value) -> String {
    lists.as_array().into_iter().flatten().filter_map(|list| list["pem"].as_str()).collect()
}

fn lists_table(lists: &Value, style: Style) -> String {
    let rows = lists.as_array().into_iter().flatten().map(|list| {
        vec![
            cell(&list["issuer"]),
            cell(&list["number"]),
            list["revoked"].as_array().map_or(0, Vec::len).to_string(),
            time(&list["this_update"]),
            time(&list["next_update"]),
        ]
    });
    render(&["issuer", "number", "revoked", "made", "next"], rows, style)
}
