//! `drover-enrol label`: a label once more, from the ledger alone.

use drover_pki::ledger::{Event, Ledger};
use drover_pki::manifest::ManifestEntry;

use crate::arguments::line::Label;
use crate::failure::Failure;
use crate::line::Labels;

pub(crate) fn label(arguments: &Label) -> Result<(), Failure> {
    let mut latest: Option<ManifestEntry> = None;
    for line in Ledger::lines(&arguments.station)? {
        match line?.event {
            Event::Issued(line) | Event::Reissued(line) if line.entry.id == arguments.id => {
                latest = Some(line.entry);
            }
            Event::Adopted(line) if line.entry.id == arguments.id => latest = Some(line.entry),
            Event::Issued(_)
            | Event::Reissued(_)
            | Event::Adopted(_)
            | Event::Refused(_)
            | Event::Revoked(_)
            | Event::Manifest(_)
            | Event::RevocationList(_)
            | Event::Replaced(_) => {}
        }
    }
    let entry = latest.ok_or_else(|| {
        Failure::refused(format!("nothing was issued here for the id `{}`", arguments.id))
    })?;
    let directory = arguments.labels.clone().unwrap_or_else(|| arguments.station.join("labels"));
    let labels = Labels::new(directory);
    let label = labels.write(&entry)?;
    crate::print(&format!("{}  in {}\n", label.text(), labels.directory().display()))
}
