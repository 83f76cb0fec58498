//! `drover key`: which devices may connect.

mod change;
mod import;
mod retire;
mod stations;

use drover_pki::{Fingerprint, MinionId};
use drover_proto::glob;
use serde_json::{Map, Value};

use super::{
    Outcome,
    arguments::{Format, KeyStatus, KeyVerb, Listed},
    authorities,
    client::{Client, segment},
    crl,
    failure::Failure,
    job::ids,
    output::{
        Printer, lines,
        style::Style,
        table::{cell, render},
    },
};
use change::Change;

pub(super) async fn run(
    client: Client,
    printer: &Printer,
    verb: &KeyVerb,
) -> Result<Outcome, Failure> {
    match verb {
        KeyVerb::List(listed) => list(client, printer, listed).await,
        KeyVerb::Show { id } => show(client, printer, id).await,
        KeyVerb::Accept(chosen) => change::run(client, printer, Change::Accept, chosen).await,
        KeyVerb::Reject(chosen) => change::run(client, printer, Change::Reject, chosen).await,
        KeyVerb::Revoke(revoked) => match &revoked.station {
            Some(station) => stations::revoke(client, printer, station, revoked).await,
            None => change::run(client, printer, Change::Revoke, &revoked.chosen).await,
        },
        KeyVerb::Delete(chosen) => change::run(client, printer, Change::Delete, chosen).await,
        KeyVerb::Crl { station, file } => {
            crl::run(client, printer, station.as_deref(), file.as_deref()).await
        }
        KeyVerb::Authorities { verb } => authorities::run(client, printer, verb.as_ref()).await,
        KeyVerb::Import(imported) => import::run(client, printer, imported).await,
        KeyVerb::Retire(retired) => retire::run(client, printer, retired).await,
        KeyVerb::Stations => stations::list(client, printer).await,
        KeyVerb::Manifest(wanted) => stations::manifest(client, printer, wanted).await,
    }
}

async fn list(mut client: Client, printer: &Printer, listed: &Listed) -> Result<Outcome, Failure> {
    let keys = chosen(&client.get("/v1/keys").await?, listed);
    // Only people are shown when and why.
    let details = match printer.format_or(Format::Table) {
        Format::Table => client.get("/v1/keys?detail=true").await?,
        Format::Json | Format::Yaml | Format::Nested | Format::Txt | Format::Quiet => Value::Null,
    };
    if printer.format_or(Format::Table) == Format::Txt {
        printer.text(&lines(&by_id(&keys), printer.style()))?;
    } else {
        printer.print(&keys, Format::Table, |keys, style| keys_table(keys, &details, style))?;
    }
    let is_empty = || KeyStatus::ALL.iter().all(|status| ids(&keys[status.word()]).is_empty());
    if !listed.ids.is_empty() && is_empty() {
        printer.note(&format!("no key matches `{}`", listed.ids.join("`, `")));
        return Ok(Outcome::NothingMatched);
    }
    Ok(Outcome::Success)
}

/// Each key's status, for one line each.
fn by_id(keys: &Value) -> Value {
    let mut by_id = Map::new();
    for status in KeyStatus::ALL {
        let mut ids = ids(&keys[status.word()]);
        ids.sort_unstable();
        by_id.extend(ids.into_iter().map(|id| (id, Value::from(status.word()))));
    }
    Value::Object(by_id)
}

/// The keys that were asked for, by status; a status that was not asked for is empty.
fn chosen(keys: &Value, listed: &Listed) -> Value {
    let is_meant = |id: &str| {
        listed.ids.is_empty() || listed.ids.iter().any(|pattern| glob::matches(pattern, id))
    };
    let chosen = KeyStatus::ALL.into_iter().map(|status| {
        let is_asked_for = listed.status.is_empty() || listed.status.contains(&status);
        let ids = if is_asked_for { ids(&keys[status.word()]) } else { Vec::new() };
        let ids: Vec<_> = ids.into_iter().filter(|id| is_meant(id)).collect();
        (status.word().to_owned(), Value::from(ids))
    });
    Value::Object(chosen.collect::<Map<_, _>>())
}

/// A word that is neither a glob nor can be anybody's id is a slip of the pen, and nothing is begun.
fn check_ids(ids: &[String]) -> Result<(), Failure> {
    let literal = ids.iter().filter(|id| !glob::is_pattern(id));
    literal.into_iter().try_for_each(|id| match id.parse::<MinionId>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::wrong(error.to_string())),
    })
}

async fn show(mut client: Client, printer: &Printer, id: &str) -> Result<Outcome, Failure> {
    let mut key = client.get(&format!("/v1/keys/{}", segment(id))).await?;
    match printer.format_or(Format::Nested) {
        Format::Json | Format::Yaml | Format::Quiet => {}
        Format::Nested | Format::Table | Format::Txt => show_with_colons(&mut key),
    }
    if printer.format_or(Format::Nested) == Format::Txt {
        key = Value::Object(Map::from_iter([(id.to_owned(), key)]));
    }
    printer.print(&key, Format::Nested, |value, style| {
        let rows = value.as_object().into_iter().flatten();
        render(&["key", "value"], rows.map(|(name, value)| vec![name.clone(), cell(value)]), style)
    })?;
    Ok(Outcome::Success)
}

/// People compare it with what `openssl` and `drover-enrol show` print.
fn show_with_colons(key: &mut Value) {
    let digest = key["certificate"].as_str().and_then(|digest| digest.parse::<Fingerprint>().ok());
    if let Some(digest) = digest {
        key["certificate"] = digest.with_colons().into();
    }
}

/// A column that nobody has anything in is left out.
fn keys_table(keys: &Value, details: &Value, style: Style) -> String {
    let shown = |id: &str| {
        let key = &details[id];
        [cell(&key["retire"]["at"]), cell(&key["reason"])]
    };
    let rows: Vec<_> = KeyStatus::ALL
        .iter()
        .flat_map(|status| {
            let mut ids = ids(&keys[status.word()]);
            ids.sort_unstable();
            ids.into_iter().map(|id| {
                let [retires, reason] = shown(&id);
                [id, status.word().to_owned(), retires, reason]
            })
        })
        .collect();
    let columns = ["minion", "key", "retires", "reason"];
    let is_used = |column: usize| column < 2 || rows.iter().any(|row| !row[column].is_empty());
    let used: Vec<_> = (0..columns.len()).filter(|column| is_used(*column)).collect();
    let header: Vec<_> = used.iter().map(|column| columns[*column]).collect();
    let rows = rows.iter().map(|row| used.iter().map(|column| row[*column].clone()).collect());
    render(&header, rows, style)
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
    fn keys_are_listed_by_status() {
        assert_snapshot!(keys_table(&keys(), &Value::Null, Style::default()), @"
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
    fn what_cannot_be_an_id_is_wrong_usage() {
        let check =
            |ids: &[&str]| check_ids(&ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>());
        assert!(check(&["rfid-1", "rfid-*", "web-[0-9]", "?"]).is_ok() && check(&[]).is_ok());
        for wrong in ["rfid 1", "a/b", "", "-a"] {
            assert!(
                matches!(check(&["rfid-1", wrong]), Err(Failure::Told(told)) if told.status == 2)
            );
        }
    }

    #[test]
    fn people_are_shown_a_certificates_digest_with_colons() {
        let mut key = json!({ "certificate": "0f".repeat(32) });
        show_with_colons(&mut key);
        assert_eq!(key["certificate"], ["0f"; 32].join(":"));
        let mut unknown = json!({ "certificate": null });
        show_with_colons(&mut unknown);
        assert!(unknown["certificate"].is_null());
    }

    #[test]
    fn txt_has_one_line_for_each_key() {
        assert_snapshot!(lines(&by_id(&keys()), Style::default()), @"
        rfid-1: accepted
        rfid-2: accepted
        gate-1: pending
        rfid-3: pending
        rfid-4: rejected
        rfid-5: revoked
        ");
    }

    #[test]
    fn who_retires_is_listed_with_the_day() {
        let keys = json!({ "accepted": ["a", "b"] });
        let details = json!({ "a": { "retire": { "at": "2031-06-30T00:00:00Z" } }, "b": {} });
        assert_snapshot!(keys_table(&keys, &details, Style::default()), @"
        minion  key       retires
        a       accepted  2031-06-30T00:00:00Z
        b       accepted
        ");
    }

    #[test]
    fn a_list_is_of_the_globs_and_statuses_that_were_asked_for() {
        let listed = |ids: &[&str], status: &[KeyStatus]| {
            let ids = ids.iter().map(|&id| id.to_owned()).collect();
            chosen(&keys(), &Listed { ids, status: status.to_vec() })
        };
        let some = listed(&["rfid-3", "gate-*", "rfid-5"], &[]);
        let expected = json!({ "accepted": [], "pending": ["rfid-3", "gate-1"], "rejected": [], "revoked": ["rfid-5"] });
        assert_eq!(some, expected);
        let rejected = listed(&["rfid-*"], &[KeyStatus::Rejected]);
        assert_eq!(
            rejected,
            json!({ "accepted": [], "pending": [], "rejected": ["rfid-4"], "revoked": [] })
        );
    }
}
