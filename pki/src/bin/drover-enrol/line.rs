//! What `batch` and `station` share: an open station with its settings, a place for each device's
//! bundle, and labels; `issue` takes the settings alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use drover_pki::assembly::{GrainName, GrainValue, Label, OutPath, Settings};
use drover_pki::certificate::Certificate;
use drover_pki::file::{self, Access, FileError};
use drover_pki::ledger::{Actor, Reason};
use drover_pki::manifest::ManifestEntry;
use drover_pki::station::{IssueRequest, Issued, KeySource, Station, StationError};
use drover_pki::{HardwareSerial, MinionId};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::arguments::line::Line as Arguments;
use crate::failure::Failure;

/// An assembly line at work.
pub(crate) struct Line {
    pub(crate) station: Station,
    pub(crate) settings: Settings,
    pub(crate) grains: Grains,
    pub(crate) labels: Labels,
    by: Actor,
}

/// Where enrolled grains come from, for all devices of a run.
pub(crate) struct Grains {
    station: BTreeMap<GrainName, GrainValue>,
    given: BTreeMap<GrainName, GrainValue>,
}

/// A device to be issued its identity.
pub(crate) struct Order {
    pub(crate) id: MinionId,
    pub(crate) serial: HardwareSerial,
    pub(crate) key: KeySource,
    pub(crate) grains: Map<String, Value>,
    pub(crate) out: PathBuf,
    pub(crate) reissue: Option<Reason>,
}

impl Line {
    /// Opens the station; the settings were read before, since a list is checked before anybody is
    /// asked for a passphrase.
    pub(crate) fn open(
        arguments: Arguments,
        settings: Settings,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let grains = arguments.grains(&settings)?;
        let station = crate::open_station(&arguments.station, &arguments.passphrase, now)?;
        let labels = Labels::new(arguments.labels());
        Ok(Self { station, settings, grains, labels, by: arguments.by.into_actor() })
    }

    pub(crate) fn issue(&mut self, order: Order, now: Timestamp) -> Result<Issued, StationError> {
        let request = IssueRequest {
            id: order.id,
            serial: order.serial,
            key: order.key,
            grains: order.grains,
            masters: masters(&self.settings),
            out: order.out,
            reissue: order.reissue,
            by: self.by.clone(),
        };
        self.station.issue(&request, now)
    }

    pub(crate) fn warn_without_master(&self) {
        warn_without_master(&self.settings);
    }
}

impl Grains {
    /// Of a station's settings, and of a command line.
    pub(crate) fn new(settings: &Settings, given: BTreeMap<GrainName, GrainValue>) -> Self {
        Self { station: settings.grains.clone(), given }
    }

    /// A device's grains, as the manifest has them: those of its own row, before those of the command
    /// line, before those that it had as `before`, before the station's. Values stay text: a number
    /// with leading zeros stays one.
    pub(crate) fn of(
        &self,
        own: &BTreeMap<GrainName, GrainValue>,
        before: Option<&ManifestEntry>,
    ) -> Map<String, Value> {
        let texts = |grains: &BTreeMap<GrainName, GrainValue>| {
            let grains = grains.iter();
            let grains =
                grains.map(|(name, value)| (name.as_str().to_owned(), value.as_str().into()));
            grains.collect::<BTreeMap<String, Value>>()
        };
        let mut grains = texts(&self.station);
        grains.extend(before.into_iter().flat_map(|before| before.grains.clone()));
        grains.extend(texts(&self.given));
        grains.extend(texts(own));
        grains.into_iter().collect()
    }
}

/// The masters that settings give each device, as `minion.yml` has them.
pub(crate) fn masters(settings: &Settings) -> Vec<String> {
    settings.masters.iter().map(ToString::to_string).collect()
}

pub(crate) fn warn_without_master(settings: &Settings) {
    if settings.masters.is_empty() {
        eprintln!(
            "warning: neither --master nor the station's settings name one, so a new minion.yml \
             names one on the device itself; set `master:` in it"
        );
    }
}

/// Why there is no place for bundles.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPlace {
    /// The directory is not there, nor is the one above it.
    #[error("`{}` is not there", path.display())]
    Missing { path: PathBuf },
    /// It could not be made.
    #[error(transparent)]
    File(#[from] FileError),
}

impl NoPlace {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "put in the card, or make the directory",
            Self::File(_) => "is the card full, or read-only?",
        }
    }
}

/// Makes the directory of all bundles if it is not there. The one above it must be: a card that is
/// not there is missed before a certificate is issued, not replaced by a directory of that name.
pub(crate) fn prepare(out: &OutPath) -> Result<(), NoPlace> {
    let base = out.base();
    if base.is_dir() {
        return Ok(());
    }
    refuse_missing_parent(base)?;
    Ok(file::create_private_directory(base)?)
}

/// Refuses a path whose directory is not there.
pub(crate) fn refuse_missing_parent(path: &Path) -> Result<(), NoPlace> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            Err(NoPlace::Missing { path: parent.to_owned() })
        }
        Some(_) | None => Ok(()),
    }
}

/// What lies where a device's bundle belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// No certificate.
    Nothing,
    /// The certificate that the ledger has for the device, with its key if it was made here.
    Whole,
    /// Another one, of this subject.
    Other(String),
}

/// Looks for a device's bundle.
pub(crate) fn look(out: &Path, entry: Option<&ManifestEntry>) -> Result<Found, FileError> {
    let pki = out.join("pki");
    let path = pki.join("idevid.crt");
    let chain = match file::read_certificates(&path) {
        Ok(chain) => chain,
        Err(FileError::Io { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Found::Nothing);
        }
        Err(FileError::Certificates { .. }) => {
            return Ok(Found::Other("a file that is no certificate".to_owned()));
        }
        Err(error) => return Err(error),
    };
    let Ok(certificate) = Certificate::read(&chain[0]) else {
        return Ok(Found::Other("a certificate that cannot be read".to_owned()));
    };
    if entry.is_none_or(|entry| entry.certificate != certificate.fingerprint) {
        return Ok(Found::Other(certificate.subject));
    }
    let key = pki.join("idevid.key");
    if key.exists() {
        file::Identity::load(&path, &key)?;
    }
    Ok(Found::Whole)
}

/// Where labels go.
pub(crate) struct Labels {
    directory: PathBuf,
}

impl Labels {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Writes a device's label in its three forms. It can be printed again at any time, so nothing
    /// is synced for it.
    pub(crate) fn write(&self, entry: &ManifestEntry) -> Result<Label, FileError> {
        let label = Label::new(entry);
        let failed = |attempted, path: &Path| {
            let path = path.to_owned();
            move |source| FileError::Io { attempted, path, source }
        };
        let made = std::fs::create_dir_all(&self.directory);
        made.map_err(failed("make the directory", &self.directory))?;
        // The text last: it tells that the three are whole, and of which certificate.
        for (kind, bytes) in [
            ("png", label.png()),
            ("svg", label.svg().into_bytes()),
            ("txt", label.text().into_bytes()),
        ] {
            file::replace_unsynced(&self.path(entry, kind), &bytes, Access::Public)?;
        }
        Ok(label)
    }

    /// Writes it where an earlier run was stopped before it did, or has left that of an earlier
    /// certificate.
    pub(crate) fn complete(&self, entry: &ManifestEntry) -> Result<(), FileError> {
        let text = std::fs::read(self.path(entry, "txt"));
        if text.is_ok_and(|text| text == Label::new(entry).text().as_bytes()) {
            return Ok(());
        }
        self.write(entry).map(drop)
    }

    fn path(&self, entry: &ManifestEntry, kind: &str) -> PathBuf {
        self.directory.join(format!("{}.{kind}", entry.id))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}
