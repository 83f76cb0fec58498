//! What an operator is told of a restore: what the master is now, and what it does not know.

use std::{fmt, path::PathBuf};

use jiff::Timestamp;

use super::pki::PkiReport;
use crate::{backup::Summary, store::Since};

/// Changes that are named one by one.
const NAMED: usize = 20;

/// A restored master.
#[derive(Debug)]
pub struct Report {
    /// The backup.
    pub summary: Summary,
    /// Of the event that tells of it.
    pub seq: u64,
    /// When it was restored.
    pub now: Timestamp,
    /// Where the data directory went that was there.
    pub aside: Option<PathBuf>,
    /// What had happened there since the backup, as far as there was a store that can be read.
    pub since: Option<Option<Since>>,
    /// What became of `pki_dir`.
    pub pki: PkiReport,
    /// Whether a `master.yml` was there that is not the backup's.
    pub is_config_kept: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { manifest, ending, .. } = &self.summary;
        writeln!(
            f,
            "restored `{}` as it was at {}, {} ago, with the events up to {}",
            manifest.name,
            ending.finished.strftime("%Y-%m-%d %H:%M:%SZ"),
            age(self.now.duration_since(ending.finished).as_secs()),
            ending.last_seq,
        )?;
        writeln!(
            f,
            "  its first event is {}: the numbers before it are left out, so that none is given twice",
            self.seq
        )?;
        if let Some(aside) = &self.aside {
            writeln!(f, "  what was there before is in {}", aside.display())?;
        }
        self.pki(f)?;
        if self.is_config_kept {
            writeln!(f, "  master.yml is the one that was there; the backup's is another")?;
        }
        self.since(f)
    }
}

impl Report {
    fn pki(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PkiReport { placed, kept, unpaired, aside } = &self.pki;
        if !placed.is_empty() {
            writeln!(f, "  put into pki_dir: {}", list(placed))?;
        }
        if !kept.is_empty() {
            writeln!(f, "  left in pki_dir as they are, other than the backup's: {}", list(kept))?;
        }
        if !unpaired.is_empty() {
            writeln!(
                f,
                "  not put into pki_dir, because the other half of the pair is another: {}",
                list(unpaired)
            )?;
        }
        match aside {
            Some(aside) => writeln!(f, "  what was in pki_dir before is in {}", aside.display()),
            None => Ok(()),
        }
    }

    fn since(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "This master knows nothing of what came after the backup:")?;
        match &self.since {
            Some(Some(Since { events: 0, .. })) => return writeln!(f, "  nothing did"),
            Some(Some(Since { events, changes })) => {
                writeln!(f, "  {events} events, which are only in what was there before")?;
                for change in changes.iter().take(NAMED) {
                    writeln!(f, "  {change}: do it again")?;
                }
                if let Some(more) = changes.len().checked_sub(NAMED).filter(|more| *more > 0) {
                    writeln!(f, "  and {more} changes more of keys and stations")?;
                }
            }
            Some(None) | None => {
                writeln!(
                    f,
                    "  devices that were revoked, rejected or deleted since may connect: do it again"
                )?;
                writeln!(f, "  manifests that were imported since: import them again")?;
            }
        }
        writeln!(f, "  jobs that were started since: what minions return of them is not kept")
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{} s", seconds.max(0)),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
