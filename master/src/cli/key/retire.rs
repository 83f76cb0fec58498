//! `drover key retire`: the end of devices' service.

use std::collections::BTreeMap;

use drover_proto::glob;
use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use serde_json::{Map, Value, json};

use super::{change::report_errors, check_ids};
use crate::{
    cli::{
        Outcome,
        arguments::{Date, Format, Retired},
        client::{Client, Query},
        confirm::{ask, is_attended},
        failure::Failure,
        job::{check_target, ids, kind_name},
        output::{
            Printer,
            style::Style,
            table::{cell, render},
        },
        value,
    },
    clock::Now,
};
use drover_proto::job::TargetType;

/// Minions that a preview names; `--dry-run` names all.
const NAMED: usize = 20;

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    retired: &Retired,
) -> Result<Outcome, Failure> {
    let at = retired.at.map(|date| moment(date, Now::read().wall)).transpose()?;
    let last_act = retired.last_act.as_deref().map(last_act).transpose()?;
    let ids = chosen(&mut client, printer, retired).await?;
    if ids.is_empty() {
        printer.print(&Value::Object(Map::new()), Format::Quiet, |_, _| String::new())?;
        printer.note("no accepted minion matches");
        return Ok(Outcome::NothingMatched);
    }
    let what = match at {
        Some(at) => format!("retire on {at}"),
        None => "stay in service".to_owned(),
    };
    if retired.dry_run {
        let value: Map<_, _> = ids.iter().map(|id| (id.clone(), json!({ "at": at }))).collect();
        printer.print(&Value::Object(value), Format::Table, |value, style| {
            let rows = value.as_object().into_iter().flatten();
            render(
                &["minion", "retires"],
                rows.map(|(id, key)| vec![id.clone(), cell(&key["at"])]),
                style,
            )
        })?;
        return Ok(Outcome::Success);
    }
    let is_sweep = retired.target.len() > 1
        || retired.matcher.kind() != TargetType::Glob
        || retired.target.iter().any(|id| glob::is_pattern(id));
    if is_sweep && !retired.yes {
        printer.note(&format!("to {what}:"));
        for id in ids.iter().take(NAMED) {
            printer.note(&format!("  {id}"));
        }
        if ids.len() > NAMED {
            printer.note(&format!("  and {} more", ids.len() - NAMED));
        }
        if !is_attended() {
            return Err(Failure::wrong(format!(
                "nothing was changed: {} minions would {what}",
                ids.len()
            ))
            .hint("-y goes ahead without a question; --dry-run shows it and changes nothing"));
        }
        if !ask()? {
            printer.note("nothing was changed");
            return Ok(Outcome::Failed);
        }
    }
    let mut wanted = json!({ "ids": ids, "at": at, "last_act": last_act });
    if let Some(grace) = retired.grace {
        wanted["grace"] = grace.as_secs().max(1).into();
    }
    let told = client.post("/v1/retirements", &wanted).await?;
    let text = |value: &Value, _: Style| sentences(value);
    match printer.format_or(Format::Table) {
        Format::Nested | Format::Txt => printer.text(&sentences(&told))?,
        Format::Json | Format::Yaml | Format::Table | Format::Quiet => {
            printer.print(&told, Format::Table, text)?;
        }
    }
    Ok(report_errors(printer, &told))
}

/// Ids in full stand for themselves; globs and expressions for the accepted minions that they match.
async fn chosen(
    client: &mut Client,
    printer: &Printer,
    retired: &Retired,
) -> Result<Vec<String>, Failure> {
    let kind = retired.matcher.kind();
    if kind != TargetType::Glob {
        let [target] = retired.target.as_slice() else {
            return Err(Failure::wrong(
                "with an option that says what the target is, there is one",
            ));
        };
        check_target(target, kind)?;
        let query = Query::new("/v1/targets").with("tgt", target).with("tgt_type", kind_name(kind));
        return Ok(ids(&client.get(query.as_str()).await?["minions"]));
    }
    check_ids(&retired.target)?;
    let keys = client.get("/v1/keys").await?;
    let accepted = ids(&keys["accepted"]);
    let mut chosen = BTreeMap::new();
    for pattern in &retired.target {
        if glob::is_pattern(pattern) {
            let matched: Vec<_> = accepted.iter().filter(|id| glob::matches(pattern, id)).collect();
            if matched.is_empty() {
                printer.note(&format!("no key that is accepted matches `{pattern}`"));
            }
            chosen.extend(matched.into_iter().map(|id| (id.clone(), ())));
        } else {
            chosen.insert(pattern.clone(), ());
        }
    }
    Ok(chosen.into_keys().collect())
}

fn moment(date: Date, now: Timestamp) -> Result<Timestamp, Failure> {
    match date {
        Date::In(span) => SignedDuration::try_from(span)
            .ok()
            .and_then(|span| now.checked_add(span).ok())
            .and_then(|at| at.round(whole_second()).ok())
            .ok_or_else(|| Failure::wrong("this date is too far away")),
        Date::At(at) if at < now => {
            Err(Failure::wrong(format!("{at} has passed")).hint("`--at +0s` begins at once"))
        }
        Date::At(at) => Ok(at),
    }
}

/// To the next second: what is shown is what was ordered.
fn whole_second() -> TimestampRound {
    TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil)
}

/// A function and its arguments, which are read as those of `drover TARGET FUNCTION` are.
fn last_act(text: &str) -> Result<Value, Failure> {
    let mut words = words(text)?.into_iter();
    let fun = words.next().filter(|fun| fun.contains('.')).ok_or_else(|| {
        Failure::wrong(format!("`{text}` does not begin with a function"))
            .hint("a last act is a function with its arguments, as --last-act 'cmd.run poweroff'")
    })?;
    let (arg, kwarg) = value::arguments(&words.collect::<Vec<_>>());
    Ok(json!({ "fun": fun, "arg": arg, "kwarg": kwarg }))
}

/// Words as a shell takes them apart, quotes and backslashes included, and nothing else of a shell.
fn words(text: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err(Failure::wrong(format!("a quote in `{text}` is not closed")));
    }
    words.extend(word);
    Ok(words)
}

fn sentences(told: &Value) -> String {
    let told = told.as_object().into_iter().flatten();
    let retired = told.filter(|(_, key)| key["error"].is_null());
    retired
        .map(|(id, key)| match key["retire"]["at"].as_str() {
            Some(at) => format!("{id} retires on {at}\n"),
            None => format!("{id} stays in service\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_act_is_taken_apart_as_a_shell_does() {
        let act = last_act(r#"cmd.run "rm -r '/srv/my app'" cwd=/tmp 7"#).ok().unwrap();
        let expected = json!({
            "fun": "cmd.run", "arg": ["rm -r '/srv/my app'", 7], "kwarg": { "cwd": "/tmp" }
        });
        assert_eq!(act, expected);
        assert!(last_act("poweroff").is_err() && last_act("cmd.run 'x").is_err());
        assert_eq!(words(r"a\ b '' c").ok().unwrap(), ["a b", "", "c"]);
    }

    #[test]
    fn a_date_that_has_passed_is_refused() {
        let now = "2031-06-30T11:59:59.3Z".parse().unwrap();
        assert!(moment(Date::At("2031-06-30T00:00:00Z".parse().unwrap()), now).is_err());
        let soon = moment(Date::In(std::time::Duration::from_secs(2)), now).ok().unwrap();
        assert_eq!(soon.to_string(), "2031-06-30T12:00:02Z");
    }
}
