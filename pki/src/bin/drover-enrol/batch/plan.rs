//! What is to be done for each row of a list, by what the ledger and the directories have already.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use drover_pki::PublicKey;
use drover_pki::assembly::{Device, DeviceList, OutPath, Part, WrongLine};
use drover_pki::csr::CsrError;
use drover_pki::file::{self, FileError};
use drover_pki::ledger::Reason;
use drover_pki::manifest::{ManifestEntry, RevokedMinion};
use drover_pki::station::{KeySource, Unfinished};
use drover_pki::{HardwareSerial, MinionId};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::failure::{Failure, with_causes};
use crate::line::{self, Found, Line, Order};
use crate::show;

/// A row, and what is to be done for it.
pub(super) struct Job {
    pub(super) line: u64,
    pub(super) order: Order,
    pub(super) step: Step,
}

pub(super) enum Step {
    /// Its first certificate.
    Issue,
    /// Another certificate in the place of the one it has.
    Reissue,
    /// The rest of a bundle that an earlier run began.
    Finish(Unfinished),
    /// Nothing: this was issued alike.
    Skip(Box<ManifestEntry>),
}

/// Why a row that is good in itself cannot be issued.
#[derive(Debug, thiserror::Error)]
enum Conflict {
    #[error("the serial number `{serial}` was issued at {at}, to `{id}`")]
    SerialSeen { serial: HardwareSerial, at: Timestamp, id: MinionId },
    #[error("the id `{id}` was issued at {at}, for the serial number `{serial}`")]
    IdSeen { id: MinionId, at: Timestamp, serial: HardwareSerial },
    #[error(
        "`{id}` was issued at {at} with other grains: {grains}; `drover-enrol issue --reissue` gives this one \
         device another certificate with others"
    )]
    Grains { id: MinionId, at: Timestamp, grains: String },
    #[error("`{id}` was issued at {at} for another key")]
    Key { id: MinionId, at: Timestamp },
    #[error("the certificate of `{id}` was revoked at {at}: {reason}")]
    Revoked { id: MinionId, at: Timestamp, reason: Reason },
    #[error("the bundle of `{id}` was begun in `{}`: finish it there", out.display())]
    Unfinished { id: MinionId, out: PathBuf },
    #[error("the bundle goes to `{}`, and so does that of line {line}", out.display())]
    Shared { out: PathBuf, line: u64 },
    #[error(
        "the bundle goes to `{}`, and that of line {line} to `{}`: FAT, which tells no capitals from small \
         letters, has one directory for both",
        out.display(),
        other.display()
    )]
    SharedOnFat { out: PathBuf, other: PathBuf, line: u64 },
    #[error("`{}` holds the identity of another device: {found}", out.display())]
    Occupied { out: PathBuf, found: String },
    #[error("`{}` is no signing request that can be used", path.display())]
    Request { path: PathBuf, source: CsrError },
    #[error(transparent)]
    File(#[from] FileError),
}

impl Conflict {
    fn part(&self) -> Part {
        match self {
            Self::SerialSeen { .. } => Part::Serial,
            Self::IdSeen { .. } => Part::Id,
            Self::Key { .. } | Self::Request { .. } => Part::Csr,
            Self::Grains { .. }
            | Self::Revoked { .. }
            | Self::Unfinished { .. }
            | Self::Shared { .. }
            | Self::SharedOnFat { .. }
            | Self::Occupied { .. }
            | Self::File(_) => Part::Row,
        }
    }
}

/// Plans a whole list, or says what is wrong with it; the outer failure is the station's.
pub(super) fn plan(
    list: &DeviceList,
    line: &Line,
    out: &OutPath,
    beside: &Path,
    reissue: bool,
) -> Result<Result<Vec<Job>, Vec<WrongLine>>, Failure> {
    let unfinished = line.station.unfinished()?;
    let unfinished: HashMap<_, _> = unfinished.into_iter().map(|it| (it.id.clone(), it)).collect();
    let (mut jobs, mut wrong) = (Vec::with_capacity(list.devices.len()), Vec::new());
    let mut places: HashMap<OsString, (u64, PathBuf)> = HashMap::with_capacity(list.devices.len());
    for device in &list.devices {
        let out = out.of(&device.id, &device.serial);
        let by_serial = line.station.find(&device.serial)?;
        let by_id = line.station.find_id(&device.id)?;
        let grains = line.grains.of(&device.grains, by_id.as_ref().filter(|_| reissue));
        let begun = unfinished.get(&device.id);
        // `{id}-{serial}` is the same for two devices whose parts meet elsewhere.
        let place = (device.row.line, out.clone());
        let shared = places.insert(out.as_os_str().to_ascii_lowercase(), place);
        let shared = shared.map(|(line, other)| match other == out {
            true => Conflict::Shared { out: out.clone(), line },
            false => Conflict::SharedOnFat { out: out.clone(), other, line },
        });
        let planned = shared.map_or(Ok(()), Err).and_then(|()| order(device, grains, out, beside));
        let planned = planned.and_then(|order| {
            let earlier = earlier(&order, by_serial, by_id)?;
            let revoked = line.station.revocation(&order.id);
            let step = step(&order, earlier, revoked, begun, reissue)?;
            Ok(Job { line: device.row.line, order, step })
        });
        match planned {
            Ok(job) => jobs.push(job),
            Err(conflict) => {
                let (row, reason) = (device.row.clone(), with_causes(&conflict));
                wrong.push(list.conflict(row, conflict.part(), reason));
            }
        }
    }
    Ok(if wrong.is_empty() { Ok(jobs) } else { Err(wrong) })
}

fn order(
    device: &Device,
    grains: Map<String, Value>,
    out: PathBuf,
    beside: &Path,
) -> Result<Order, Conflict> {
    let key = match &device.csr {
        None => KeySource::Station,
        Some(path) => {
            let path = beside.join(path);
            let key = PublicKey::from_csr(&file::read(&path)?);
            KeySource::Device(key.map_err(|source| Conflict::Request { path, source })?)
        }
    };
    let (id, serial) = (device.id.clone(), device.serial.clone());
    Ok(Order { id, serial, key, grains, out, reissue: None })
}

/// The certificate that this very device has; it is wrong if another one has its id or its serial
/// number.
fn earlier(
    order: &Order,
    by_serial: Option<ManifestEntry>,
    by_id: Option<ManifestEntry>,
) -> Result<Option<ManifestEntry>, Conflict> {
    match (by_serial, by_id) {
        (None, None) => Ok(None),
        (Some(ManifestEntry { serial, issued: at, id, .. }), _) if id != order.id => {
            Err(Conflict::SerialSeen { serial, at, id })
        }
        (_, Some(ManifestEntry { id, issued: at, serial, .. })) if serial != order.serial => {
            Err(Conflict::IdSeen { id, at, serial })
        }
        (entry, _) => Ok(entry),
    }
}

fn step(
    order: &Order,
    earlier: Option<ManifestEntry>,
    revoked: Option<RevokedMinion>,
    begun: Option<&Unfinished>,
    reissue: bool,
) -> Result<Step, Conflict> {
    let found = line::look(&order.out, earlier.as_ref())?;
    let Some(entry) = earlier else {
        return match found {
            Found::Other(found) => Err(Conflict::Occupied { out: order.out.clone(), found }),
            Found::Nothing | Found::Whole => Ok(Step::Issue),
        };
    };
    match revoked {
        Some(_) if reissue => return Ok(Step::Reissue),
        Some(RevokedMinion { id, at, reason, .. }) => {
            return Err(Conflict::Revoked { id, at, reason });
        }
        None => {}
    }
    let alike = refuse_other(order, &entry);
    if reissue && (alike.is_err() || entry.reissue.is_none()) {
        return Ok(Step::Reissue);
    }
    alike?;
    match begun.filter(|begun| begun.key == entry.key) {
        Some(begun) if is_same(&begun.out, &order.out) => Ok(Step::Finish(begun.clone())),
        Some(_) if reissue => Ok(Step::Reissue),
        Some(begun) => Err(Conflict::Unfinished { id: entry.id, out: begun.out.clone() }),
        // Re-issued before, and its bundle is elsewhere: asked for once more.
        None if reissue && found != Found::Whole => Ok(Step::Reissue),
        None => Ok(Step::Skip(Box::new(entry))),
    }
}

fn is_same(begun: &Path, out: &Path) -> bool {
    std::path::absolute(out).is_ok_and(|out| out == begun)
}

/// A device that was issued before is skipped only if it was issued alike.
fn refuse_other(order: &Order, entry: &ManifestEntry) -> Result<(), Conflict> {
    let (id, at) = (entry.id.clone(), entry.issued);
    if !same(&order.grains, &entry.grains) {
        return Err(Conflict::Grains { id, at, grains: show::grains(&entry.grains) });
    }
    match &order.key {
        KeySource::Device(key) if key.digest() != entry.key => Err(Conflict::Key { id, at }),
        KeySource::Device(_) | KeySource::Station => Ok(()),
    }
}

/// Whatever their order.
fn same(ours: &Map<String, Value>, theirs: &Map<String, Value>) -> bool {
    ours.len() == theirs.len() && ours.iter().all(|(name, value)| theirs.get(name) == Some(value))
}
