//! `drover key import`: what a station issued becomes what the master knows.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::check_ids;
use crate::cli::{
    Outcome,
    arguments::{Format, Imported},
    client::{Client, Query},
    failure::Failure,
    job::ids,
    output::{Printer, style::Style, table::cell},
};

/// Ids of one group that a dry run names; `--out json` names all.
const NAMED: usize = 20;

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    imported: &Imported,
) -> Result<Outcome, Failure> {
    check_ids(&imported.only)?;
    let file = &imported.file;
    let manifest = std::fs::read(file).map_err(|error| {
        Failure::wrong(format!("cannot read `{}`", file.display()))
            .because(error)
            .hint("`drover-enrol manifest --station DIR --out FILE` writes one")
    })?;
    let path = Query::new("/v1/manifests")
        .with("dry_run", if imported.dry_run { "true" } else { "false" })
        .with("force", if imported.force { "true" } else { "false" });
    let path = match imported.only.as_slice() {
        [] => path,
        only => path.with("only", &only.join(",")),
    };
    let told = client.post_file(path.as_str(), Bytes::from(manifest)).await?;
    let report = report(&told);
    printer.print(&report, Format::Table, |report, style| {
        let names = if imported.dry_run { names(report) } else { String::new() };
        sentence(report, style) + &names
    })?;
    let unmatched = ids(&report["unmatched"]);
    for pattern in &unmatched {
        printer.note(&format!("no device of the manifest matches `{pattern}`"));
    }
    if !unmatched.is_empty() && unmatched.len() == imported.only.len() {
        printer.note("nothing was changed");
        return Ok(Outcome::NothingMatched);
    }
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
    let mut report: Map<_, _> =
        parts.into_iter().map(|part| (part.to_owned(), told[part].clone())).collect();
    if let Some(unmatched) = told.get("unmatched") {
        report.insert("unmatched".to_owned(), unmatched.clone());
    }
    Value::Object(report)
}

/// Who is in each group; those that are refused are told with why.
fn names(report: &Value) -> String {
    let groups = ["registered", "known", "reissued", "revoked"].map(|group| {
        let mut ids = ids(&report[group]);
        ids.sort_unstable();
        let more = ids.len().saturating_sub(NAMED);
        ids.truncate(NAMED);
        match (ids.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!("  {group}: {}\n", ids.join(", ")),
            (false, more) => format!("  {group}: {} and {more} more\n", ids.join(", ")),
        }
    });
    groups.concat()
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
    fn a_dry_run_names_who_is_in_each_group() {
        let known: Vec<_> = (0..25).rev().map(|n| format!("rfid-{n:02}")).collect();
        let told =
            json!({ "registered": ["b", "a"], "known": known, "reissued": ["c"], "revoked": [] });
        assert_snapshot!(names(&told), @"
          registered: a, b
          known: rfid-00, rfid-01, rfid-02, rfid-03, rfid-04, rfid-05, rfid-06, rfid-07, rfid-08, rfid-09, rfid-10, rfid-11, rfid-12, rfid-13, rfid-14, rfid-15, rfid-16, rfid-17, rfid-18, rfid-19 and 5 more
          reissued: c
        ");
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
