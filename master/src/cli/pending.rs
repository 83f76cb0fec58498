//! `drover pending`: jobs that wait for minions that are away.

use serde_json::Value;

use super::{
    Outcome,
    arguments::{Format, PendingVerb},
    client::{Client, Query, segment},
    failure::Failure,
    jobs::call,
    minions::with_target,
    output::{
        Printer,
        style::Style,
        table::{cell, cut, render, time},
    },
};

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    verb: &PendingVerb,
) -> Result<Outcome, Failure> {
    match verb {
        PendingVerb::List { target } => {
            let query = with_target(Query::new("/v1/pending"), target)?;
            let pending = client.get(query.as_str()).await?;
            printer.print(&pending, Format::Table, pending_table)?;
            Ok(Outcome::Success)
        }
        PendingVerb::Show { id } => {
            let pending = client.get(&format!("/v1/pending/{}", segment(id))).await?;
            printer.print(&pending, Format::Table, pending_table)?;
            Ok(Outcome::Success)
        }
        PendingVerb::Cancel { id } => {
            let cancelled = client.delete(&format!("/v1/pending/{}", segment(id))).await?;
            printer.print(&cancelled, Format::Table, |value, _| cancelled_text(value))?;
            Ok(Outcome::Success)
        }
    }
}

fn pending_table(pending: &Value, style: Style) -> String {
    let rows = pending.as_array().into_iter().flatten().map(|job| {
        vec![
            cell(&job["minion"]),
            cut(call(job)),
            time(&job["queued"]),
            time(&job["expires"]),
            cell(&job["jid"]),
        ]
    });
    render(&["minion", "function", "since", "until", "job"], rows, style)
}

fn cancelled_text(value: &Value) -> String {
    let all = value["cancelled"].as_array().into_iter().flatten();
    all.map(|one| {
        format!("job {} no longer waits for {}\n", cell(&one["jid"]), cell(&one["minion"]))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_waits_is_listed_with_its_end() {
        let pending = json!([{
            "jid": "20261123023705000123", "minion": "rfid-1", "fun": "state.apply", "arg": ["app"],
            "kwarg": {}, "queued": "2026-11-23T02:37:05Z", "expires": "2026-11-30T02:37:05Z",
        }]);
        assert_snapshot!(pending_table(&pending, Style::default()), @"
        minion  function         since                 until                 job
        rfid-1  state.apply app  2026-11-23 02:37:05Z  2026-11-30 02:37:05Z  20261123023705000123
        ");
    }
}
