//! `drover jobs`: what was asked for, and what came of it.

use serde_json::{Map, Value};

use super::{
    Outcome,
    arguments::{Format, JobsVerb},
    client::{Client, Query, segment},
    failure::Failure,
    job::{Report, count, follow, ids},
    output::{
        Printer,
        style::Style,
        table::{cell, cut, render, time},
    },
};

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    verb: &JobsVerb,
) -> Result<Outcome, Failure> {
    match verb {
        JobsVerb::List { limit } => {
            let query = Query::new("/v1/jobs").with("limit", &limit.to_string());
            let jobs = client.get(query.as_str()).await?;
            printer.print(&jobs, Format::Table, jobs_table)?;
            Ok(Outcome::Success)
        }
        JobsVerb::Show { jid } => {
            let job = client.get(&format!("/v1/jobs/{}", segment(jid))).await?;
            printer.print(&job, Format::Table, job_table)?;
            Ok(Outcome::Success)
        }
        JobsVerb::Wait { jid } => {
            let query =
                Query::new(&format!("/v1/jobs/{}/lines", segment(jid))).with("wait", "true");
            let mut lines = client.get_lines(query.as_str()).await?;
            let mut report = Report::new(printer);
            report.batch(&serde_json::json!({ "jid": jid }));
            follow(&mut lines, &mut report).await?;
            report.finish()
        }
        JobsVerb::Kill { jid } => {
            let path = format!("/v1/jobs/{}/kill", segment(jid));
            let killed = client.post(&path, &Value::Object(Map::new())).await?;
            printer.print(&killed, Format::Table, |value, _| {
                format!("job {jid} is ended on {}", count(ids(&value["minions"]).len()))
            })?;
            Ok(Outcome::Success)
        }
    }
}

fn jobs_table(jobs: &Value, style: Style) -> String {
    let rows = jobs.as_array().into_iter().flatten().map(|job| {
        vec![
            cell(&job["jid"]),
            time(&job["ts"]),
            cell(&job["user"]),
            cell(&job["tgt"]),
            cut(call(job)),
            ids(&job["minions"]).len().to_string(),
        ]
    });
    render(&["job", "at", "by", "target", "function", "minions"], rows, style)
}

fn job_table(job: &Value, style: Style) -> String {
    let heading = format!(
        "{} on {} ({}) by {}, {}\n\n",
        call(job),
        cell(&job["tgt"]),
        cell(&job["tgt_type"]),
        cell(&job["user"]),
        time(&job["ts"]),
    );
    let mut minions: Vec<_> = job["minions"].as_object().into_iter().flatten().collect();
    minions.sort_by_key(|(id, _)| *id);
    let rows = minions.into_iter().map(|(id, minion)| {
        vec![
            id.clone(),
            cell(&minion["state"]),
            cell(&minion["retcode"]),
            time(&minion["ts"]),
            cut(cell(&minion["return"])),
        ]
    });
    let table = render(&["minion", "state", "code", "at", "return"], rows, style);
    format!("{}{table}", style.clean(&heading))
}

/// As it was typed, nearly.
pub(super) fn call(job: &Value) -> String {
    let arguments = job["arg"].as_array().into_iter().flatten().map(cell);
    let keywords = job["kwarg"].as_object().into_iter().flatten();
    let keywords = keywords.map(|(key, value)| format!("{key}={}", cell(value)));
    let words = std::iter::once(cell(&job["fun"])).chain(arguments).chain(keywords);
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_is_shown_with_each_minion() {
        let job = json!({
            "jid": "20261123023705000123", "fun": "state.apply", "arg": ["rfid"], "kwarg": { "test": true },
            "tgt": "rfid-*", "tgt_type": "glob", "user": "ada", "ts": "2026-11-23T02:37:05Z",
            "minions": {
                "rfid-2": { "state": "queued", "return": null, "retcode": null, "ts": null },
                "rfid-1": { "state": "done", "return": true, "retcode": 0, "ts": "2026-11-23T02:37:06.5Z" },
            },
        });
        assert_snapshot!(job_table(&job, Style::default()), @"
        state.apply rfid test=true on rfid-* (glob) by ada, 2026-11-23 02:37:05Z

        minion  state   code  at                    return
        rfid-1  done    0     2026-11-23 02:37:06Z  true
        rfid-2  queued
        ");
    }
}
