//! `drover key import`: what a station issued becomes what the master knows.

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

use crate::cli::{
    Outcome,
    arguments::Format,
    client::Client,
    failure::Failure,
    job::ids,
    output::{Printer, style::Style, table::cell},
};

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    file: &Path,
) -> Result<Outcome, Failure> {
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

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

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
