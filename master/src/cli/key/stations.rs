//! `drover key stations`, `revoke --station` and `manifest`: the places where devices are made.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::cli::{
    Outcome,
    arguments::{Format, ManifestOf, Revoked},
    client::{Client, segment},
    confirm::{ask, is_attended},
    failure::Failure,
    job::ids,
    output::{
        Printer,
        style::Style,
        table::{cell, render, time},
    },
};

pub(super) async fn list(mut client: Client, printer: &Printer) -> Result<Outcome, Failure> {
    let stations = client.get("/v1/stations").await?;
    printer.print(&stations, Format::Table, stations_table)?;
    Ok(Outcome::Success)
}

fn stations_table(stations: &Value, style: Style) -> String {
    let rows = stations.as_object().into_iter().flatten().map(|(name, station)| {
        let devices: Vec<_> = station["devices"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(status, _)| *status != "deleted")
            .map(|(status, count)| format!("{} {status}", cell(count)))
            .collect();
        vec![
            name.clone(),
            devices.join(", "),
            cell(&station["manifest"]),
            time(&station["revoked"]),
            cell(&station["reason"]),
        ]
    });
    render(&["station", "devices", "last manifest", "revoked since", "reason"], rows, style)
}

/// `drover key revoke --station`.
pub(super) async fn revoke(
    mut client: Client,
    printer: &Printer,
    station: &str,
    revoked: &Revoked,
) -> Result<Outcome, Failure> {
    let known = client.get("/v1/stations").await?;
    let preview = preview(station, &known[station], revoked.devices);
    if revoked.chosen.dry_run {
        printer.text(&preview)?;
        return Ok(Outcome::Success);
    }
    if known[station].is_null() && !revoked.chosen.yes && !is_attended() {
        return Err(Failure::missing(format!(
            "no device and no manifest of station `{station}` is known here"
        ))
        .hint("`drover key stations` lists those that are; -y revokes the name all the same, for good"));
    }
    if is_attended() && !revoked.chosen.yes {
        printer.note(preview.trim_end());
        if !ask()? {
            printer.note("nothing was changed");
            return Ok(Outcome::Failed);
        }
    }
    let wanted = json!({ "reason": revoked.chosen.reason, "devices": revoked.devices });
    let told = client.post(&format!("/v1/stations/{}/revoke", segment(station)), &wanted).await?;
    printer.print(&told, Format::Table, |told, _| revoked_sentence(told))?;
    Ok(Outcome::Success)
}

fn preview(station: &str, known: &Value, devices: bool) -> String {
    let count = |status: &str| known["devices"][status].as_u64().unwrap_or_default();
    let (accepted, waiting) = (count("accepted"), count("pending"));
    let fate = if devices {
        let all = accepted + waiting + count("rejected");
        format!("{all} of its devices are revoked, for good")
    } else {
        format!("{accepted} accepted devices stay, {waiting} that wait are rejected")
    };
    if known.is_null() {
        return format!(
            "to revoke station {station}: no device and no manifest of it is known here, so mind its name\n\
             this cannot be undone; a station made again under that name is another one\n"
        );
    }
    format!(
        "to revoke station {station}: its new devices and its manifests are refused; {fate}\n\
         this cannot be undone; a station made again under that name is another one\n"
    )
}

fn revoked_sentence(told: &Value) -> String {
    let count = |list: &str| ids(&told[list]).len();
    format!(
        "station {} is revoked: {} devices revoked, {} rejected that waited, {} may connect still\n",
        cell(&told["station"]),
        count("revoked"),
        count("rejected"),
        count("kept"),
    )
}

/// `drover key manifest`: the copies that were kept, for a station that is made again.
pub(super) async fn manifest(
    mut client: Client,
    printer: &Printer,
    wanted: &ManifestOf,
) -> Result<Outcome, Failure> {
    let path = format!("/v1/stations/{}/manifests", segment(&wanted.station));
    let numbers: Vec<u64> = client
        .get(&path)
        .await?
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect();
    let numbers = match wanted.number {
        Some(number) => numbers.into_iter().filter(|one| *one == number).collect(),
        None if wanted.all => numbers,
        None => numbers.last().copied().into_iter().collect::<Vec<_>>(),
    };
    if numbers.is_empty() {
        return Err(Failure::missing(format!(
            "no such manifest of station `{}` is kept",
            wanted.station
        ))
        .hint("`drover key stations` shows what was imported"));
    }
    let failed = |path: &Path| {
        let message = format!("cannot write `{}`", path.display());
        move |error: std::io::Error| Failure::failed(message).because(error)
    };
    fs::create_dir_all(&wanted.directory).map_err(failed(&wanted.directory))?;
    let mut files = Vec::new();
    for number in numbers {
        let text = client.get_bytes(&format!("{path}/{number}")).await?;
        let file = wanted.directory.join(format!("{}-{number:06}.json", wanted.station));
        fs::write(&file, &text).map_err(failed(&file))?;
        files.push(file.display().to_string());
    }
    printer.print(&json!(files), Format::Table, |_, _| {
        files.iter().map(|file| format!("{file}\n")).collect()
    })?;
    Ok(Outcome::Success)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn what_a_stolen_station_takes_with_it_is_said_before() {
        let known = json!({ "devices": { "accepted": 40, "pending": 2, "deleted": 3 } });
        assert_snapshot!(preview("line-1", &known, false), @"
        to revoke station line-1: its new devices and its manifests are refused; 40 accepted devices stay, 2 that wait are rejected
        this cannot be undone; a station made again under that name is another one
        ");
        assert!(preview("line-1", &known, true).contains("42 of its devices are revoked"));
        assert!(preview("line1", &Value::Null, true).contains("mind its name"));
    }
}
