//! `drover-enrol ledger`, `revoke` and `crl`: what the station remembers, and what it takes back.

use std::path::Path;

use drover_pki::ledger::{Event, Ledger, Line};
use drover_pki::station::{self, Revoked, Station, Unfinished, inspect};
use jiff::Timestamp;
use serde_json::json;

use crate::arguments::ledger::{
    Crl, Ledger as LedgerArguments, LedgerShow, LedgerUnfinished, LedgerVerb, LedgerVerify, Revoke,
};
use crate::failure::Failure;

const ALL_FINISHED: &str = "every bundle is finished\n";

pub(crate) fn ledger(arguments: &LedgerArguments, now: Timestamp) -> Result<(), Failure> {
    match &arguments.verb {
        LedgerVerb::Verify(arguments) => verify(arguments, now),
        LedgerVerb::Show(arguments) => show(arguments),
        LedgerVerb::Unfinished(arguments) => unfinished(arguments, now),
    }
}

fn verify(arguments: &LedgerVerify, now: Timestamp) -> Result<(), Failure> {
    let inspection = inspect(&arguments.station, now)?;
    let (station, ledger) = (inspection.station, inspection.ledger);
    let path = arguments.station.join("ledger.ndjson");
    if arguments.json {
        let findings: Vec<_> = ledger.findings.iter().map(ToString::to_string).collect();
        let value = json!({
            "station": station, "verified": findings.is_empty(), "findings": findings,
            "count": ledger.head.count, "head": ledger.head.head,
        });
        crate::print(&format!("{value:#}\n"))?;
    } else if ledger.findings.is_empty() {
        crate::print(&format!(
            "{}: OK, {} of the station `{station}`\n  head {}\n",
            path.display(),
            lines(ledger.head.count),
            ledger.head.head
        ))?;
    } else {
        for finding in &ledger.findings {
            crate::print(&format!("{}: {finding}\n", path.display()))?;
        }
    }
    if ledger.has_half_line {
        eprintln!(
            "note: a power cut left a part of a line, which counts for nothing; the next program \
             that opens the station takes it away"
        );
    }
    if ledger.findings.is_empty() { Ok(()) } else { Err(Failure::broken_ledger(&path)) }
}

fn show(arguments: &LedgerShow) -> Result<(), Failure> {
    let mut shown = Vec::new();
    for line in Ledger::lines(&arguments.station)? {
        let line = line?;
        let (id, serial) = about(&line.event);
        let is_meant = arguments.id.as_ref().is_none_or(|meant| id == Some(meant.as_str()))
            && arguments.serial.as_ref().is_none_or(|meant| serial == Some(meant.as_str()));
        if is_meant {
            shown.push(line);
        }
    }
    if arguments.json {
        let text = serde_json::to_string_pretty(&shown).map_err(|error| {
            Failure::refused(format!("the lines cannot be printed as JSON: {error}"))
        })?;
        crate::print(&(text + "\n"))?;
    }
    let is_asked = arguments.id.is_some() || arguments.serial.is_some();
    if is_asked && shown.is_empty() {
        return Err(Failure::not_in_ledger(
            &arguments.station,
            arguments.id.as_ref(),
            arguments.serial.as_ref(),
        ));
    }
    if arguments.json {
        return Ok(());
    }
    let heading = ["LINE", "TIME", "BY", "EVENT", "ID", "SERIAL", ""].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(shown.iter().map(row)).collect();
    crate::print(&table(&rows))
}

fn unfinished(arguments: &LedgerUnfinished, now: Timestamp) -> Result<(), Failure> {
    if arguments.finish {
        return finish(arguments, now);
    }
    let bundles = station::unfinished(&arguments.station)?;
    if bundles.is_empty() {
        return crate::print(ALL_FINISHED);
    }
    bundles.iter().try_for_each(|bundle| crate::print(&format!("{}\n", described(bundle))))
}

fn finish(arguments: &LedgerUnfinished, now: Timestamp) -> Result<(), Failure> {
    let mut station = crate::open_station(&arguments.station, &arguments.passphrase, now)?;
    let bundles = station.unfinished()?;
    if bundles.is_empty() {
        return crate::print(ALL_FINISHED);
    }
    let mut left = 0;
    for bundle in &bundles {
        let what = described(bundle);
        match station.finish(bundle, now) {
            Ok(_) => crate::print(&format!("finished {what}\n"))?,
            Err(error) => {
                left += 1;
                eprint!("{what}:\n{}", Failure::from(error));
            }
        }
    }
    if left > 0 {
        return Err(Failure::refused(format!("{} not finished", crate::show::devices(left))));
    }
    Ok(())
}

fn described(bundle: &Unfinished) -> String {
    let Unfinished { id, serial, out, .. } = bundle;
    format!("`{id}` with the serial number `{serial}` in {}", out.display())
}

/// Says so where bundles wait to be finished, other than the one that is issued now.
pub(crate) fn tell_unfinished(station: &Station, directory: &Path) -> Result<(), Failure> {
    let bundles = station.unfinished()?;
    let Some(first) = bundles.first() else { return Ok(()) };
    let more = match bundles.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    eprintln!(
        "note: the bundle of `{}` in {}{more} was begun and not finished: see `drover-enrol ledger \
         unfinished --station {}`",
        first.id,
        first.out.display(),
        directory.display(),
    );
    Ok(())
}

pub(crate) fn revoke(arguments: Revoke, now: Timestamp) -> Result<(), Failure> {
    let mut station = crate::open_station(&arguments.station, &arguments.passphrase, now)?;
    let whom = match (arguments.id, arguments.serial) {
        (Some(id), _) => Revoked::Id(id),
        (None, Some(serial)) => Revoked::Serial(serial),
        (None, None) => unreachable!("invariant: the command line wants one of them"),
    };
    let by = arguments.by.into_actor();
    let done = station.revoke(&whom, &arguments.reason, &by, now)?;
    let verb = if done.before { "was revoked before:" } else { "revoked" };
    crate::print(&format!(
        "{verb} `{}` with the serial number `{}`\n  for the master: drover-enrol manifest \
         --station {} --out FILE; at once: drover key revoke {}\n",
        done.id,
        done.serial,
        arguments.station.display(),
        done.id,
    ))
}

pub(crate) fn crl(arguments: Crl, now: Timestamp) -> Result<(), Failure> {
    let mut station = crate::open_station(&arguments.station, &arguments.passphrase, now)?;
    let list = station.write_list(&arguments.out, &arguments.by.into_actor(), now)?;
    let certificates = match list.revoked {
        1 => "1 certificate".to_owned(),
        count => format!("{count} certificates"),
    };
    crate::print(&format!(
        "revocation list {} of the station `{}`: {certificates} in {}, until {}\n",
        list.number,
        station.name(),
        arguments.out.display(),
        list.next_update,
    ))
}

/// Which device a line is about.
fn about(event: &Event) -> (Option<&str>, Option<&str>) {
    match event {
        Event::Issued(line) | Event::Reissued(line) => {
            (Some(line.entry.id.as_str()), Some(line.entry.serial.as_str()))
        }
        Event::Adopted(line) => (Some(line.entry.id.as_str()), Some(line.entry.serial.as_str())),
        Event::Revoked(line) => (Some(line.id.as_str()), Some(line.serial.as_str())),
        Event::Refused(line) => {
            (line.id.as_ref().map(|id| id.as_str()), line.serial.as_ref().map(|it| it.as_str()))
        }
        Event::Manifest(_) | Event::RevocationList(_) | Event::Replaced(_) => (None, None),
    }
}

fn row(line: &Line) -> [String; 7] {
    let (id, serial) = about(&line.event);
    let (event, detail) = match &line.event {
        Event::Issued(line) => ("issued", format!("SHA-256 {}", line.entry.certificate)),
        Event::Reissued(line) => {
            let reason = line.entry.reissue.as_ref().map(|reissue| reissue.reason.as_str());
            let reason = reason.unwrap_or_default();
            ("reissued", format!("{reason}; SHA-256 {}", line.entry.certificate))
        }
        Event::Refused(line) => ("refused", line.reason.to_string()),
        Event::Revoked(line) => ("revoked", line.reason.to_string()),
        Event::Manifest(line) => {
            let all = if line.all { ", everything" } else { "" };
            let devices = crate::show::devices(line.minions);
            ("manifest", format!("number {}: {devices}{all}", line.number))
        }
        Event::RevocationList(_) => ("revocation_list", format!("number {}", line.n)),
        Event::Replaced(line) => {
            let devices = crate::show::devices(line.minions);
            ("replaced", format!("after manifest {}: {devices}", line.number))
        }
        Event::Adopted(line) => match &line.revoked {
            Some(reason) => ("adopted", format!("revoked: {reason}")),
            None => ("adopted", String::new()),
        },
    };
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    [
        line.n.to_string(),
        line.at.to_string(),
        line.by.to_string(),
        event.to_owned(),
        text(id),
        text(serial),
        detail,
    ]
}

/// Columns as wide as their widest cell, but for the last.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        if column + 1 == N { 0 } else { cells.max().unwrap_or(0) }
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `1 line`, `2 lines`.
pub(crate) fn lines(count: u64) -> String {
    if count == 1 { "1 line".to_owned() } else { format!("{count} lines") }
}
