//! What `batch` says: for people, and as JSON whose fields keep their names.

use std::path::{Path, PathBuf};

use drover_pki::StationName;
use drover_pki::assembly::{OutPath, WrongLine};
use drover_pki::manifest::ManifestEntry;
use drover_pki::station::Issued;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::show::devices;

/// Prints what is wrong for programs; people read the same on standard error.
pub(super) fn print_refusal(wrong: &[WrongLine]) -> Result<(), Failure> {
    let lines: Vec<_> = wrong
        .iter()
        .map(|wrong| {
            let column = wrong.column.as_ref();
            json!({
                "line": wrong.line,
                "column": column.map(|column| column.number),
                "name": column.map(|column| &column.name),
                "message": wrong.fault.to_string(),
            })
        })
        .collect();
    print_json(&json!({ "wrong": lines }))
}

/// What was done for a row.
pub(super) struct Outcome {
    line: u64,
    status: Status,
    out: PathBuf,
    entry: ManifestEntry,
    wrote_configuration: bool,
    key_is_exposed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Issued,
    Reissued,
    Finished,
    Skipped,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Reissued => "reissued",
            Self::Finished => "finished",
            Self::Skipped => "skipped",
        }
    }
}

impl Outcome {
    pub(super) fn issued(line: u64, out: PathBuf, issued: Issued) -> Self {
        let status = match (issued.finished_earlier, issued.reissued) {
            (true, _) => Status::Finished,
            (false, true) => Status::Reissued,
            (false, false) => Status::Issued,
        };
        let Issued { entry, wrote_configuration, key_is_exposed, .. } = issued;
        Self { line, status, out, entry, wrote_configuration, key_is_exposed }
    }

    pub(super) fn skipped(line: u64, out: PathBuf, entry: ManifestEntry) -> Self {
        let (wrote_configuration, key_is_exposed) = (false, false);
        Self { line, status: Status::Skipped, out, entry, wrote_configuration, key_is_exposed }
    }
}

/// What was done for a list.
pub(super) struct Report {
    station: StationName,
    rows: usize,
    outcomes: Vec<Outcome>,
}

impl Report {
    pub(super) fn new(station: &StationName, rows: usize) -> Self {
        Self { station: station.clone(), rows, outcomes: Vec::with_capacity(rows) }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// How many rows were not come to.
    pub(super) fn remaining(&self) -> usize {
        self.rows - self.outcomes.len()
    }

    pub(super) fn has_new_configuration(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.wrote_configuration)
    }

    fn count(&self, status: Status) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.status == status).count()
    }

    pub(super) fn text(&self, out: &OutPath, labels: &Path) -> String {
        let mut text = format!("issued {}", devices(self.count(Status::Issued)));
        for (status, before, after) in [
            (Status::Reissued, "issued ", " again"),
            (Status::Finished, "finished ", ""),
            (Status::Skipped, "skipped ", ", issued alike before"),
        ] {
            match self.count(status) {
                0 => {}
                count => text.push_str(&format!("; {before}{count}{after}")),
            }
        }
        text.push('\n');
        if self.outcomes.iter().any(|outcome| outcome.status != Status::Skipped) {
            text.push_str(&format!("  bundles in {out}\n  labels in {}\n", labels.display()));
        }
        match self.outcomes.iter().filter(|outcome| outcome.key_is_exposed).count() {
            0 => {}
            count => text.push_str(&format!(
                "  the keys of {} can be read by others there: the file system keeps no modes\n",
                devices(count)
            )),
        }
        text
    }

    pub(super) fn print_json(&self) -> Result<(), Failure> {
        let outcomes = self.outcomes.iter().map(|outcome| {
            json!({
                "line": outcome.line,
                "status": outcome.status.as_str(),
                "id": outcome.entry.id,
                "serial": outcome.entry.serial,
                "out": outcome.out.to_string_lossy(),
                "key": outcome.entry.key,
                "certificate": outcome.entry.certificate,
                "issued": outcome.entry.issued,
            })
        });
        print_json(&json!({
            "station": self.station,
            "issued": self.count(Status::Issued),
            "reissued": self.count(Status::Reissued),
            "finished": self.count(Status::Finished),
            "skipped": self.count(Status::Skipped),
            "remaining": self.remaining(),
            "devices": outcomes.collect::<Vec<_>>(),
        }))
    }
}

fn print_json(value: &Value) -> Result<(), Failure> {
    crate::print(&format!("{value:#}\n"))
}
