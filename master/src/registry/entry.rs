//! What the registry knows of one minion.

use std::net::IpAddr;

use drover_pki::{Fingerprint, HardwareSerial, KeyDigest, MinionId, StationName};
use drover_proto::{grains::Grains, message::GrainSets};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{certificates::OperationalCertificates, retirement::Retirement};
use crate::authorities::RootSet;

/// Whether a minion may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It may.
    Accepted,
    /// It showed itself and waits for a manifest or an operator.
    Pending,
    /// An operator said no.
    Rejected,
    /// Its certificates no longer count, whatever they are.
    Revoked,
    /// An operator had it forgotten. Kept so that no old manifest brings it back.
    Deleted,
}

impl Status {
    /// As tags and JSON write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
            Self::Revoked => "revoked",
            Self::Deleted => "deleted",
        }
    }
}

/// The birth certificate that an id is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// SHA-256 of its key.
    pub key: KeyDigest,
    /// The station that issued it.
    pub station: StationName,
    /// The device's hardware serial number.
    #[serde(default)]
    pub serial: Option<HardwareSerial>,
    /// SHA-256 of the certificate itself, which the device's label has; `None` where neither a manifest nor a handshake told
    /// of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Fingerprint>,
}

impl Birth {
    /// Whether it is the same device's. What a certificate's bytes are decides nothing: the key does.
    #[must_use]
    pub(super) fn is_same_device(&self, other: &Self) -> bool {
        (self.key, &self.station, &self.serial) == (other.key, &other.station, &other.serial)
    }
}

/// One minion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Who it is.
    pub id: MinionId,
    /// Whether it may connect.
    pub status: Status,
    /// Since when that is so.
    pub since: Timestamp,
    /// Why, in the words of whoever made it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
    /// Whether it was its station that revoked it, which may make it again. What an operator revokes is so for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub station_revoked: bool,
    /// What it was born with; `None` where only an operational certificate was ever seen.
    pub birth: Option<Birth>,
    /// The newest manifest that it is in; 0 for one that no manifest registered.
    #[serde(default)]
    pub manifest: u64,
    /// Manifests up to this one do not bring it back: it was deleted after them.
    #[serde(default)]
    pub forgotten: u64,
    /// Grains given at the station.
    #[serde(default)]
    pub enrolled: Map<String, Value>,
    /// The operational certificates that it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operational: Option<Box<OperationalCertificates>>,
    /// When its service ends, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire: Option<Box<Retirement>>,
    /// Operational certificates issued up to then are another device's: the id was deleted, or its device replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operational_after: Option<Timestamp>,
}

/// What a minion showed of itself when it was last here. It decides nothing, so the last word wins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    /// Grains that it told of itself.
    pub own: GrainSets,
    /// The agent's version.
    pub version: String,
    /// Where it connected from.
    pub address: Option<IpAddr>,
    /// When its last connection began or ended.
    pub last_seen: Option<Timestamp>,
    /// The number of the root list that it follows.
    #[serde(default)]
    pub root_list: u64,
    /// The roots that it trusts.
    #[serde(default, skip_serializing_if = "RootSet::is_unsaid")]
    pub roots: RootSet,
}

impl Entry {
    /// A minion of which nothing else is known.
    #[must_use]
    pub fn new(id: MinionId, status: Status, since: Timestamp, birth: Option<Birth>) -> Self {
        Self {
            id,
            status,
            since,
            reason: None,
            station_revoked: false,
            birth,
            manifest: 0,
            forgotten: 0,
            enrolled: Map::new(),
            operational: None,
            retire: None,
            operational_after: None,
        }
    }

    /// The grains that count, with `id` as Salt has it.
    #[must_use]
    pub fn grains(&self, sighting: &Sighting) -> Map<String, Value> {
        let mut grains = Grains::merge(&self.enrolled, &sighting.own).values().clone();
        grains.insert("id".to_owned(), self.id.as_str().into());
        grains
    }
}
