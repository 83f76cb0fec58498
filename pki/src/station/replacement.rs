//! A station made again from its manifests, when its laptop is gone: what the new ledger begins with,
//! so that no id and no serial number is issued twice. The new station has a new key and the old name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use rustls_pki_types::UnixTime;

use super::export::MANIFESTS;
use crate::file::{self, Access, FileError};
use crate::ledger::{AdoptedLine, Event, ReplacedLine};
use crate::manifest::{Manifest, ManifestEntry, ManifestError, VerifiedManifest};
use crate::name::StationName;
use crate::verify::TrustAnchors;

/// Why a station cannot be made again from these manifests.
#[derive(Debug, thiserror::Error)]
pub enum ReplacementError {
    /// One of them is no manifest of this fleet.
    #[error("manifest {place} of those given is refused")]
    Manifest {
        /// Which one, from 1, in the order that they were given in.
        place: usize,
        /// Why.
        source: ManifestError,
    },
    /// One of them is another station's.
    #[error("manifest {number} is of the station `{found}`, not of `{expected}`")]
    OtherStation {
        /// Its number.
        number: u64,
        /// Whose it is.
        found: StationName,
        /// Which station is to be made.
        expected: StationName,
    },
    /// Two of them have one number, and say different things.
    #[error("there are two different manifests with the number {number}")]
    Twice {
        /// The number.
        number: u64,
    },
    /// Some are missing.
    #[error("of the station `{station}` {} missing", Numbers(missing))]
    Missing {
        /// The station.
        station: StationName,
        /// Their numbers.
        missing: Vec<u64>,
    },
    /// One does not go on from the one before it, as if there had been two stations.
    #[error("manifest {number} does not go on from the one before it")]
    Forked {
        /// Its number.
        number: u64,
    },
}

impl ReplacementError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { station, .. } => Some(format!(
                "the master keeps every manifest that it imported: `drover key manifest {station} \
                 --all --dir DIR` gives them back; or begin at one that was made with --all"
            )),
            Self::Twice { .. } | Self::Forked { .. } => Some(
                "two stations had one name and one key: find out which devices are genuine, then \
                 give the manifests of one of them"
                    .to_owned(),
            ),
            Self::Manifest { .. } | Self::OtherStation { .. } => None,
        }
    }
}

/// `manifest 3 is`, `manifests 1 to 3 and 7 are`.
struct Numbers<'a>(&'a [u64]);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for &number in self.0 {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                Some(_) | None => runs.push((number, number)),
            }
        }
        let texts: Vec<String> = runs
            .iter()
            .map(|&(first, last)| match last - first {
                0 => first.to_string(),
                _ => format!("{first} to {last}"),
            })
            .collect();
        let (what, verb) =
            if self.0.len() == 1 { ("manifest", "is") } else { ("manifests", "are") };
        write!(f, "{what} {} {verb}", texts.join(", "))
    }
}

/// What a new station's ledger begins with: nothing, for a station that is new.
#[derive(Debug, Default)]
pub struct History {
    events: Vec<Event>,
    manifests: BTreeMap<u64, Vec<u8>>,
}

impl History {
    /// Of a station that is made again. The manifests may come in any order; they must be all that
    /// there are, from the first one on or from the last one that lists everything.
    ///
    /// # Errors
    /// See [`ReplacementError`].
    pub fn read(
        station: &StationName,
        manifests: &[Vec<u8>],
        anchors: &TrustAnchors,
        now: UnixTime,
    ) -> Result<Self, ReplacementError> {
        let mut series: BTreeMap<u64, (VerifiedManifest, &Vec<u8>)> = BTreeMap::new();
        for (place, text) in manifests.iter().enumerate() {
            let verified = Manifest::verify(text, anchors, now)
                .map_err(|source| ReplacementError::Manifest { place: place + 1, source })?;
            let number = verified.manifest.number;
            if verified.manifest.station != *station {
                let (found, expected) = (verified.manifest.station, station.clone());
                return Err(ReplacementError::OtherStation { number, found, expected });
            }
            let before = series.insert(number, (verified, text));
            if before.is_some_and(|(before, _)| before.manifest != series[&number].0.manifest) {
                return Err(ReplacementError::Twice { number });
            }
        }
        let Some((&last, _)) = series.last_key_value() else { return Ok(Self::default()) };
        // One with everything makes those before it unnecessary.
        let whole = series.values().rfind(|(verified, _)| verified.manifest.all);
        let first = whole.map_or(1, |(verified, _)| verified.manifest.number);
        let missing: Vec<u64> = (first..=last).filter(|n| !series.contains_key(n)).collect();
        if !missing.is_empty() {
            return Err(ReplacementError::Missing { station: station.clone(), missing });
        }
        let series: Vec<_> = series.range(first..).map(|(_, it)| it).collect();
        for pair in series.windows(2) {
            let [(before, _), (after, _)] = pair else { continue };
            let same_station = before.authority.key == after.authority.key;
            if same_station && after.manifest.ledger.previous != before.manifest.ledger.head {
                return Err(ReplacementError::Forked { number: after.manifest.number });
            }
        }
        let kept = series.iter().map(|(it, text)| (it.manifest.number, (*text).clone())).collect();
        let manifests: Vec<_> = series.iter().map(|(verified, _)| verified).collect();
        Ok(Self { events: events(&manifests), manifests: kept })
    }

    /// How many devices it has.
    pub fn devices(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Adopted(_))).count()
    }

    /// What the ledger begins with.
    pub(crate) fn events(&self) -> impl Iterator<Item = Event> {
        self.events.iter().cloned()
    }

    /// Keeps the manifests at the station, as if it had made them.
    pub(crate) fn keep(&self, station: &Path) -> Result<(), FileError> {
        if self.manifests.is_empty() {
            return Ok(());
        }
        let directory = station.join(MANIFESTS);
        file::create_private_directory(&directory)?;
        for (number, text) in &self.manifests {
            file::replace(&directory.join(format!("{number:06}.json")), text, Access::Public)?;
        }
        Ok(())
    }
}

fn events(series: &[&VerifiedManifest]) -> Vec<Event> {
    let Some(last) = series.last() else { return Vec::new() };
    let mut devices: Vec<&ManifestEntry> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for entry in series.iter().flat_map(|verified| &verified.manifest.minions) {
        // A later one took the earlier one's place.
        match places.insert(&entry.id, devices.len()) {
            Some(place) => {
                places.insert(&entry.id, place);
                devices[place] = entry;
            }
            None => devices.push(entry),
        }
    }
    let revoked: std::collections::HashMap<_, _> = last
        .manifest
        .revoked
        .iter()
        .map(|revoked| ((&revoked.id, revoked.key), &revoked.reason))
        .collect();
    let replaced = ReplacedLine {
        number: last.manifest.number,
        authority: last.authority.key,
        ledger: last.manifest.ledger.head,
        minions: devices.len(),
    };
    let adopted = devices.into_iter().map(|entry| {
        let revoked = revoked.get(&(&entry.id, entry.key)).map(|reason| (*reason).clone());
        Event::Adopted(AdoptedLine { entry: entry.clone(), revoked })
    });
    std::iter::once(Event::Replaced(replaced)).chain(adopted).collect()
}
