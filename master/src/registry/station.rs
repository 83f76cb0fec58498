//! What the registry knows of an enrolment station, and whom it refuses for it: decisions without I/O. A station's
//! authority cannot be called back from the devices, so what a thief makes with it is refused here.

use std::cmp::Ordering;

use drover_pki::{KeyDigest, StationName, ledger::Head, manifest::VerifiedManifest};
use jiff::Timestamp;
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::certificates::timestamp;

/// One station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationRecord {
    /// Its name.
    pub name: StationName,
    /// Since when it is not trusted.
    #[serde(default)]
    pub revoked: Option<StationRevocation>,
    /// How far the ledger of each of its authorities was known to go.
    #[serde(default)]
    pub ledgers: Vec<KnownLedger>,
}

/// The ledger behind the newest manifest of one authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownLedger {
    /// SHA-256 of the authority's key.
    pub authority: KeyDigest,
    /// The manifest's number.
    pub manifest: u64,
    /// How far it went.
    pub head: Head,
    /// When the authority was issued; `None` where that was not noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<Timestamp>,
}

/// Why a manifest that verified is not imported.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestRefused {
    /// Whoever stole the station may have signed it.
    #[error("station `{station}` is revoked since {since}")]
    Revoked {
        /// The station.
        station: StationName,
        /// Since when.
        since: Timestamp,
    },
    /// Lines that were there are not there any more, or others are in their place.
    #[error(
        "the ledger behind manifest {number} of station `{station}` does not go on from the {lines} lines behind manifest {known}: some were cut off or changed"
    )]
    Cut {
        /// The station.
        station: StationName,
        /// The manifest.
        number: u64,
        /// The newest one that was imported.
        known: u64,
        /// Lines of the ledger behind it.
        lines: u64,
    },
}

impl ManifestRefused {
    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Revoked { .. } => {
                "make the station again (`drover-enrol init-station`); its new authority is trusted"
            }
            Self::Cut { .. } => {
                "find out at the station, with `drover-enrol ledger verify`, what is missing; --force imports it all the same"
            }
        }
    }
}

/// That a station is not trusted any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationRevocation {
    /// When that was said.
    pub at: Timestamp,
    /// Why.
    #[serde(default)]
    pub reason: Option<Box<str>>,
}

impl StationRecord {
    /// A station of which nothing else is known.
    #[must_use]
    pub const fn new(name: StationName) -> Self {
        Self { name, revoked: None, ledgers: Vec::new() }
    }

    /// Whether what an authority of this name says is refused: it was issued before the station was revoked. One that the
    /// root's keeper has issued since is the station made again.
    #[must_use]
    pub fn refuses(&self, issuer_issued: UnixTime) -> bool {
        self.revoked.as_ref().is_some_and(|revoked| timestamp(issuer_issued) <= revoked.at)
    }

    /// Whether a manifest that verified may be imported. `force` is for a ledger that is known to be cut.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, verified: &VerifiedManifest, force: bool) -> Result<(), ManifestRefused> {
        let (manifest, authority) = (&verified.manifest, &verified.authority);
        if let Some(revoked) = self.revoked.as_ref().filter(|_| self.refuses(authority.issued)) {
            return Err(ManifestRefused::Revoked { station: self.name.clone(), since: revoked.at });
        }
        let known = self.ledgers.iter().find(|ledger| ledger.authority == authority.key);
        let Some(known) = known.filter(|_| !force) else { return Ok(()) };
        let goes_on = match manifest.number.cmp(&known.manifest) {
            // What it says is checked against what is known of each device.
            Ordering::Less => true,
            Ordering::Equal => manifest.ledger.head == known.head,
            Ordering::Greater => manifest.ledger.goes_on_from(&known.head),
        };
        if goes_on {
            return Ok(());
        }
        Err(ManifestRefused::Cut {
            station: self.name.clone(),
            number: manifest.number,
            known: known.manifest,
            lines: known.head.count,
        })
    }

    /// Whether a manifest of this number that was imported before is from an authority of this name that was issued before
    /// the one of `verified`: each counts its manifests from 1, so that the lower number is not the older word.
    pub(super) fn is_of_earlier_authority(&self, number: u64, verified: &VerifiedManifest) -> bool {
        let made = timestamp(verified.authority.issued);
        let mut reached = self.ledgers.iter().filter(|known| known.manifest >= number).peekable();
        reached.peek().is_some()
            && reached.all(|known| {
                known.authority != verified.authority.key
                    && known.issued.is_none_or(|issued| issued < made)
            })
    }

    /// Notes the ledger behind a manifest that is imported. Whether that is new.
    pub fn note(&mut self, verified: &VerifiedManifest) -> bool {
        let (manifest, authority) = (&verified.manifest, verified.authority.key);
        let ledger = KnownLedger {
            authority,
            manifest: manifest.number,
            head: manifest.ledger.head,
            issued: Some(timestamp(verified.authority.issued)),
        };
        match self.ledgers.iter_mut().find(|known| known.authority == authority) {
            Some(known) if known.manifest > ledger.manifest || *known == ledger => false,
            Some(known) => {
                *known = ledger;
                true
            }
            None => {
                self.ledgers.push(ledger);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_revoked_station_is_refused_until_it_is_made_again() {
        let mut station = StationRecord::new("line-1".parse().unwrap());
        let issued = |second| UnixTime::since_unix_epoch(Duration::from_secs(second));
        assert!(!station.refuses(issued(1_000)));
        let at = Timestamp::from_second(2_000).unwrap();
        station.revoked = Some(StationRevocation { at, reason: None });
        assert!(station.refuses(issued(1_000)) && station.refuses(issued(2_000)));
        assert!(!station.refuses(issued(2_001)));
    }
}
