//! `drover key import`: what a station issued becomes what the master knows.

use bytes::Bytes;
use serde_json::Value;

use crate::cli::{
    Outcome,
    arguments::{Format, Imported},
    client::{Client, Query},
    failure::Failure,
    output::{Printer, style::Style, table::cell},
};

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    imported: &Imported,
) -> Result<Outcome, Failure> {
    let file = &imported.file;
    let manifest = std::fs::read(file).map_err(|error| {
        Failure::wrong(format!("cannot read `{}`", file.display()))
            .because(error)
            .hint("`drover-enrol manifest --station DIR --out FILE` writes one")
    })?;
    let path = Query::new("/v1/manifests")
        .with("dry_run", if imported.dry_run { "true" } else { "false" })
        .with("force", if imported.force { "true" } else { "false" });
    let told = client.post_file(path.as_str(), Bytes::from(manifest)).await?;
    let report = report(&told);
    printer.print(&report, Format::Table, sentence)?;
    if imported.dry_run {
        printer.note("a dry run: nothing was changed");
    }
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
    let parts = ["station", "number", "registered", "known", "reissued", "revoked", "refused"];
    parts.into_iter().map(|part| (part.to_owned(), told[part].clone())).collect()
}

fn sentence(told: &Value, _: Style) -> String {
    let count = |part: &str| told[part].as_array().map_or(0, Vec::len);
    let mut text = format!(
        "manifest {} of station {}: {} registered, {} known before",
        cell(&told["number"]),
        cell(&told["station"]),
        count("registered"),
        count("known"),
    );
    for part in ["reissued", "revoked", "refused"] {
        if count(part) > 0 {
            text.push_str(&format!(", {} {part}", count(part)));
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_import_is_told_in_a_sentence() {
        let told = json!({ "station": "line-1", "number": 3, "registered": ["a", "b"], "known": [], "refused": [] });
        assert_snapshot!(sentence(&told, Style::default()), @"manifest 3 of station line-1: 2 registered, 0 known before");
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
        assert_snapshot!(sentence(&report, Style::default()), @"manifest 3 of station line-1: 1 registered, 0 known before, 1 refused");
    }
}
