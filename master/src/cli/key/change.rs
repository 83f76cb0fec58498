//! `drover key accept`, `reject`, `revoke` and `delete`: what is touched is shown first, and asked where it is more than
//! one key that was named in full.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use drover_proto::glob;
use serde_json::{Map, Value, json};

use super::check_ids;
use crate::cli::{
    Outcome,
    arguments::{Chosen, Format, KeyStatus},
    client::Client,
    confirm::{ask, is_attended},
    failure::Failure,
    job::ids,
    output::{
        Printer,
        style::Style,
        table::{cell, render},
    },
};

/// Keys of one status that a preview names; `--dry-run` names all.
const NAMED: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
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
    const fn reach(self) -> &'static [KeyStatus] {
        match self {
            Self::Accept => &[KeyStatus::Pending, KeyStatus::Rejected],
            Self::Reject => &[KeyStatus::Pending, KeyStatus::Accepted],
            Self::Revoke | Self::Delete => {
                &[KeyStatus::Pending, KeyStatus::Accepted, KeyStatus::Rejected]
            }
        }
    }

    /// The statuses that `--all` reaches: as `salt-key -A`, `-R` and `-D`.
    const fn reach_of_all(self) -> &'static [KeyStatus] {
        match self {
            Self::Accept | Self::Reject => &[KeyStatus::Pending],
            Self::Revoke | Self::Delete => self.reach(),
        }
    }
}

/// What a command line means, of the keys that there are.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// Each id with its status; `None` for one that nobody knows, which the master is left to say.
    touched: BTreeMap<String, Option<KeyStatus>>,
    /// Globs that nothing in their reach matches.
    unmatched: Vec<String>,
}

impl Plan {
    fn of(change: Change, chosen: &Chosen, keys: &Value) -> Self {
        let mut statuses = BTreeMap::new();
        for status in KeyStatus::ALL {
            statuses.extend(ids(&keys[status.word()]).into_iter().map(|id| (id, status)));
        }
        let mut plan = Self::default();
        if chosen.all {
            let is_meant =
                |(_, status): &(&String, &KeyStatus)| change.reach_of_all().contains(status);
            let all = statuses.iter().filter(is_meant);
            plan.touched = all.map(|(id, status)| (id.clone(), Some(*status))).collect();
        }
        for pattern in &chosen.ids {
            if !glob::is_pattern(pattern) {
                plan.touched.insert(pattern.clone(), statuses.get(pattern).copied());
                continue;
            }
            let is_meant = |(id, status): &(&String, &KeyStatus)| {
                change.reach().contains(status) && glob::matches(pattern, id)
            };
            let matched: Vec<_> = statuses.iter().filter(is_meant).collect();
            if matched.is_empty() {
                plan.unmatched.push(pattern.clone());
            }
            plan.touched
                .extend(matched.into_iter().map(|(id, status)| (id.clone(), Some(*status))));
        }
        plan
    }

    fn known(&self) -> usize {
        self.touched.values().flatten().count()
    }

    /// What is to become of which keys, those of one status together.
    fn preview(&self, change: Change) -> String {
        let mut text = format!("to {} {}:\n", change.verb(), count(self.known()));
        for status in KeyStatus::ALL {
            let ids: Vec<_> = self
                .touched
                .iter()
                .filter(|(_, is)| **is == Some(status))
                .map(|(id, _)| id.as_str())
                .collect();
            let width = ids.iter().take(NAMED).map(|id| id.len()).max().unwrap_or_default();
            for id in ids.iter().take(NAMED) {
                let _ = writeln!(text, "  {id:width$}  {} -> {}", status.word(), change.done());
            }
            if ids.len() > NAMED {
                let more = ids.len() - NAMED;
                let _ = writeln!(text, "  and {more} more, {} -> {}", status.word(), change.done());
            }
        }
        text
    }

    fn as_json(&self, change: Change) -> Value {
        let touched = self.touched.iter().filter_map(|(id, status)| {
            let change = json!({ "was": status.as_ref()?.word(), "status": change.done() });
            Some((id.clone(), change))
        });
        Value::Object(touched.collect())
    }
}

fn count(keys: usize) -> String {
    if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") }
}

pub(super) async fn run(
    mut client: Client,
    printer: &Printer,
    change: Change,
    chosen: &Chosen,
) -> Result<Outcome, Failure> {
    check_ids(&chosen.ids)?;
    let is_sweep =
        chosen.all || chosen.ids.len() > 1 || chosen.ids.iter().any(|id| glob::is_pattern(id));
    let plan = Plan::of(change, chosen, &client.get("/v1/keys").await?);
    for pattern in &plan.unmatched {
        let reach: Vec<_> = change.reach().iter().map(|status| status.word()).collect();
        printer.note(&format!("no key that is {} matches `{pattern}`", reach.join(" or ")));
    }
    if plan.touched.is_empty() {
        printer.print(&Value::Object(Map::new()), Format::Quiet, |_, _| String::new())?;
        if chosen.all {
            printer.note(&format!("there is no key to {}", change.verb()));
        }
        return Ok(Outcome::NothingMatched);
    }
    if chosen.dry_run {
        return dry_run(printer, change, &plan);
    }
    // What cannot be taken back is asked for each time that somebody is there to be asked.
    let asks = is_sweep || (change == Change::Revoke && is_attended());
    if asks && !chosen.yes && plan.known() > 0 && !confirmed(printer, change, &plan)? {
        printer.note("nothing was changed");
        return Ok(Outcome::Failed);
    }
    let ids: Vec<_> = plan.touched.keys().collect();
    let wanted = json!({ "change": change.verb(), "ids": ids, "reason": chosen.reason });
    let told = client.post("/v1/keys", &wanted).await?;
    tell(printer, change, &told)
}

fn dry_run(printer: &Printer, change: Change, plan: &Plan) -> Result<Outcome, Failure> {
    printer.print(&plan.as_json(change), Format::Table, |value, style| {
        let rows = value.as_object().into_iter().flatten();
        let rows = rows.map(|(id, key)| vec![id.clone(), cell(&key["was"]), cell(&key["status"])]);
        render(&["minion", "is", "would be"], rows, style)
    })?;
    for (id, _) in plan.touched.iter().filter(|(_, status)| status.is_none()) {
        printer.note(&format!("{id}: there is no minion `{id}`"));
    }
    Ok(if plan.known() == 0 { Outcome::NothingMatched } else { Outcome::Success })
}

/// People are asked; a script has to say that it means more than one key.
fn confirmed(printer: &Printer, change: Change, plan: &Plan) -> Result<bool, Failure> {
    printer.note(plan.preview(change).trim_end());
    if !is_attended() {
        let message =
            format!("nothing was changed: {} would be {}", count(plan.known()), change.done());
        return Err(Failure::wrong(message)
            .hint("-y goes ahead without a question; --dry-run shows it and changes nothing"));
    }
    ask()
}

/// What became of each key.
fn tell(printer: &Printer, change: Change, told: &Value) -> Result<Outcome, Failure> {
    let text = |value: &Value, _: Style| sentences(change, value);
    match printer.format_or(Format::Table) {
        Format::Nested | Format::Txt => printer.text(&text(told, printer.style()))?,
        Format::Json | Format::Yaml | Format::Table | Format::Quiet => {
            printer.print(told, Format::Table, text)?;
        }
    }
    Ok(report_errors(printer, told))
}

/// Says which keys were not changed and why, and with what status the command ends.
pub(super) fn report_errors(printer: &Printer, told: &Value) -> Outcome {
    let keys = told.as_object();
    let failed: Vec<_> =
        keys.into_iter().flatten().filter(|(_, key)| key["error"].is_string()).collect();
    for (_, key) in &failed {
        printer.note(&format!("error: {}", cell(&key["error"])));
    }
    let hints: BTreeSet<_> = failed.iter().filter_map(|(_, key)| key["hint"].as_str()).collect();
    for hint in hints {
        printer.note(&format!("hint: {hint}"));
    }
    match failed.len() {
        0 => Outcome::Success,
        count
            if Some(count) == keys.map(Map::len)
                && failed.iter().all(|(_, key)| is_unknown(key)) =>
        {
            Outcome::NothingMatched
        }
        _ => Outcome::Failed,
    }
}

fn is_unknown(key: &Value) -> bool {
    key["error"].as_str().is_some_and(|error| error.starts_with("there is no minion"))
}

fn sentences(change: Change, told: &Value) -> String {
    let mut text = String::new();
    for (id, key) in told.as_object().into_iter().flatten() {
        let _ = match key["was"].as_str() {
            Some(was) if was == change.done() => writeln!(text, "{id} was {was} already"),
            Some(was) => writeln!(text, "{id} is {} (was {was})", change.done()),
            None => Ok(()),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn keys() -> Value {
        json!({
            "accepted": ["rfid-2", "rfid-1"], "pending": ["rfid-3", "gate-1"],
            "rejected": ["rfid-4"], "revoked": ["rfid-5"],
        })
    }

    fn plan(change: Change, ids: &[&str]) -> Plan {
        let ids: Vec<_> = ids.iter().map(|&id| id.to_owned()).collect();
        let all = ids.is_empty();
        let chosen = Chosen { ids, all, yes: false, reason: None, dry_run: false };
        Plan::of(change, &chosen, &keys())
    }

    fn touched(change: Change, ids: &[&str]) -> String {
        plan(change, ids).touched.into_keys().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_glob_reaches_what_the_verb_is_for() {
        assert_eq!(touched(Change::Accept, &["rfid-*"]), "rfid-3 rfid-4");
        assert_eq!(touched(Change::Reject, &["rfid-*"]), "rfid-1 rfid-2 rfid-3");
        assert_eq!(touched(Change::Revoke, &["rfid-*"]), "rfid-1 rfid-2 rfid-3 rfid-4");
        assert_eq!(touched(Change::Delete, &["rfid-5", "gate-?"]), "gate-1 rfid-5");
    }

    #[test]
    fn all_is_what_salt_key_means_by_it() {
        assert_eq!(touched(Change::Accept, &[]), "gate-1 rfid-3");
        assert_eq!(touched(Change::Reject, &[]), "gate-1 rfid-3");
        assert_eq!(touched(Change::Delete, &[]), "gate-1 rfid-1 rfid-2 rfid-3 rfid-4");
    }

    #[test]
    fn a_preview_says_from_what_to_what() {
        let plan = plan(Change::Accept, &["rfid-*", "gate-1", "nobody", "web-*"]);
        assert_eq!(plan.unmatched, ["web-*"]);
        assert_snapshot!(plan.preview(Change::Accept), @"
        to accept 3 keys:
          gate-1  pending -> accepted
          rfid-3  pending -> accepted
          rfid-4  rejected -> accepted
        ");
    }

    #[test]
    fn a_preview_of_many_keys_stays_short() {
        let touched =
            (0..1000).map(|n| (format!("rfid-{n:04}"), Some(KeyStatus::Pending))).collect();
        let plan = Plan { touched, unmatched: Vec::new() };
        let preview = plan.preview(Change::Reject);
        assert!(preview.ends_with("and 980 more, pending -> rejected\n"), "{preview}");
    }

    #[test]
    fn what_became_of_each_key_is_told() {
        let told = json!({
            "a": { "id": "a", "status": "accepted", "was": "rejected" },
            "b": { "id": "b", "status": "accepted", "was": "accepted" },
            "c": { "error": "there is no minion `c`" },
        });
        assert_snapshot!(sentences(Change::Accept, &told), @"
        a is accepted (was rejected)
        b was accepted already
        ");
    }
}
