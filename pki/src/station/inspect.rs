//! Whether a station's memory is as it was left: its ledger, and the manifests that it keeps. Needs
//! no private key, and changes nothing.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::export::MANIFESTS;
use super::{StationError, unix};
use crate::certificate::Certificate;
use crate::file;
use crate::fingerprint::KeyDigest;
use crate::fleet::FleetError;
use crate::ledger::{Event, Finding, Head, Inspection, Ledger, LedgerError, Line};
use crate::manifest::Manifest;
use crate::name::StationName;
use crate::verify::verify_factory_authority;

/// What was found out about a station.
#[derive(Debug)]
pub struct StationInspection {
    /// The station.
    pub station: StationName,
    /// Its ledger, with what the manifests show of it.
    pub ledger: Inspection,
}

/// Looks at a station's ledger and manifests.
///
/// # Errors
/// When the directory is not a station's, or cannot be read.
pub fn inspect(path: &Path, now: Timestamp) -> Result<StationInspection, StationError> {
    let directory = |source| StationError::Directory { path: path.to_owned(), source };
    let read = |error| directory(FleetError::File(error));
    let anchors = file::read_anchors(&path.join("root.crt")).map_err(read)?;
    let chain = file::read_certificates(&path.join("ca.crt")).map_err(read)?;
    let station = verify_factory_authority(&anchors, &chain[0], unix(now));
    let station = station.map_err(StationError::Authority)?.station;
    let own_key = Certificate::read(&chain[0])?.key;

    let (mut known, mut findings) = (Vec::new(), Vec::new());
    let manifests = manifests(path)?;
    let adopted = adopted_until(path);
    for (number, file) in &manifests {
        match Manifest::read_signed(&file::read(file)?) {
            // Under whichever root: one that was dropped since may have certified this key when it signed.
            Ok((manifest, key)) if manifest.number == *number && manifest.station == station => {
                if key == own_key {
                    known.push(manifest.ledger.head);
                } else if *number > adopted {
                    findings.push(Finding::Manifest { number: *number });
                }
                // Else the station before this one made it, with a ledger of its own.
            }
            Ok(_) | Err(_) => findings.push(Finding::Manifest { number: *number }),
        }
    }
    let mut ledger = Ledger::inspect(path, &chain[0], &known)?;
    ledger.findings.append(&mut findings);
    Ok(StationInspection { station, ledger })
}

/// The last manifest of the station before this one, 0 where there was none.
fn adopted_until(path: &Path) -> u64 {
    let first = Ledger::lines(path).ok().and_then(|mut lines| lines.next());
    match first {
        Some(Ok(Line { event: Event::Replaced(line), .. })) => line.number,
        Some(_) | None => 0,
    }
}

/// How far the ledger went when the station made its latest manifest, which may be one that the ledger
/// does not know of: it was copied before, or a power cut came between.
pub(super) fn latest_head(path: &Path, own: KeyDigest) -> Result<Option<Head>, StationError> {
    let Some((_, latest)) = manifests(path)?.pop() else { return Ok(None) };
    Ok(match Manifest::read_signed(&file::read(&latest)?) {
        Ok((manifest, key)) if key == own => Some(manifest.ledger.head),
        // The station before this one made it, or it is not as it was: `inspect` tells.
        Ok(_) | Err(_) => None,
    })
}

/// Refuses a ledger that does not know of a manifest which was made: an older copy of it was put in
/// its place. (The latest number may be unknown to it: a power cut came between.)
pub(super) fn refuse_set_back(path: &Path, ledger: &Ledger) -> Result<(), StationError> {
    match manifests(path)?.last() {
        Some(&(manifest, _)) if manifest > ledger.next_number() => {
            let findings = vec![Finding::SetBack { manifest }];
            let path = path.join("ledger.ndjson");
            Err(LedgerError::Broken { path, findings }.into())
        }
        Some(_) | None => Ok(()),
    }
}

/// The manifests that are kept, by their numbers.
pub(super) fn manifests(path: &Path) -> Result<Vec<(u64, PathBuf)>, StationError> {
    let directory = path.join(MANIFESTS);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file::failed("read", &directory)(error).into()),
    };
    let mut manifests = Vec::new();
    for entry in entries {
        let path = entry.map_err(file::failed("read", &directory))?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let (Some(number), Some("json")) = (number, path.extension().and_then(|it| it.to_str()))
        {
            manifests.push((number, path));
        }
    }
    manifests.sort_unstable();
    Ok(manifests)
}
