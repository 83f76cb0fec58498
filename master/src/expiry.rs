//! Authorities that end: each is told of ahead, 90, 30 and 7 days, and when it is over, once each. What
//! has no end is never told of. What is due is decided here; the task looks and tells.

use std::fmt;

use drover_pki::{Fingerprint, StationName, certificate::Certificate, urn::DroverUrn};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{crl::FactoryList, registry::timestamp};

mod task;

pub use task::{ExpiryTask, in_directory};

const DAY: i64 = 86_400;

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A root of the fleet.
    Root,
    /// A fleet CA: the master's authority, or one before it.
    FleetCa,
    /// A station's authority.
    FactoryCa,
    /// The master's own certificate.
    Master,
}

impl Kind {
    /// What an operator does about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Root => "roll out a new root: `drover-enrol rotate-root`",
            Self::FleetCa => "roll out a new fleet CA: `drover key authorities request`",
            Self::FactoryCa => "make the station a new authority: `drover-enrol init-station`",
            Self::Master => {
                "it renews itself where `fleet-ca.key` is: look in the log for why it does not"
            }
        }
    }
}

/// A certificate whose end matters to all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// What it is called in tags.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The certificate.
    pub fingerprint: Fingerprint,
    /// The start of its validity.
    pub issued: Timestamp,
    /// The end of its validity; `None` for one without.
    pub expires: Option<Timestamp>,
}

/// How near an end is. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Within 90 days.
    Days90,
    /// Within 30 days.
    Days30,
    /// Within 7 days.
    Days7,
    /// Over.
    Expired,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Days90, Self::Days30, Self::Days7, Self::Expired];

    /// How long before the end it begins.
    const fn ahead(self) -> SignedDuration {
        SignedDuration::from_secs(
            DAY * match self {
                Self::Days90 => 90,
                Self::Days30 => 30,
                Self::Days7 => 7,
                Self::Expired => 0,
            },
        )
    }
}

impl Watched {
    /// One of these, as its certificate says; `None` for a leaf.
    #[must_use]
    pub fn of(certificate: &Certificate) -> Option<Self> {
        let urn = certificate.uris.iter().find_map(|uri| uri.parse::<DroverUrn>().ok());
        let common_name = certificate.common_name.as_deref().unwrap_or_default();
        let numbered = |kind: &str, first: &str| match common_name.strip_prefix(first) {
            Some(number) if !number.trim().is_empty() => format!("{kind}-{}", number.trim()),
            Some(_) | None => kind.to_owned(),
        };
        let (kind, name) = match urn {
            None if certificate.is_ca => (Kind::Root, numbered("root", "Drover root CA")),
            Some(DroverUrn::FleetCa(fleet)) => {
                (Kind::FleetCa, numbered("fleet-ca", fleet.as_str()))
            }
            Some(DroverUrn::FactoryCa(station)) => (Kind::FactoryCa, factory_name(&station)),
            Some(DroverUrn::Master(_)) => (Kind::Master, "master".to_owned()),
            Some(DroverUrn::Minion(_) | DroverUrn::Operator(_)) | None => return None,
        };
        Some(Self {
            name,
            kind,
            fingerprint: certificate.fingerprint,
            issued: timestamp(certificate.not_before),
            expires: end(timestamp(certificate.not_after)),
        })
    }

    /// A station's authority, as far as its manifests told of it.
    #[must_use]
    pub fn factory(list: &FactoryList) -> Self {
        Self {
            name: factory_name(&list.station),
            kind: Kind::FactoryCa,
            fingerprint: list.fingerprint,
            issued: list.issued,
            expires: end(list.expires),
        }
    }

    /// What is to be told now, where `told` is what was told last.
    #[must_use]
    pub fn due(&self, told: Option<Stage>, now: Timestamp) -> Option<Stage> {
        let begun = |stage: &Stage| self.begins(*stage).is_some_and(|begin| begin <= now);
        let stage = Stage::ALL.into_iter().rfind(begun)?;
        (Some(stage) > told).then_some(stage)
    }

    /// When there is something to tell next.
    #[must_use]
    pub fn next(&self, told: Option<Stage>) -> Option<Timestamp> {
        let stages = Stage::ALL.into_iter().filter(|stage| Some(*stage) > told);
        stages.filter_map(|stage| self.begins(stage)).min()
    }

    /// What the event says.
    #[must_use]
    pub fn report(&self, now: Timestamp) -> Value {
        let left = self.expires.map(|expires| expires.duration_since(now).as_secs());
        json!({
            "name": self.name,
            "kind": self.kind,
            "fingerprint": self.fingerprint.with_colons(),
            "not_after": self.expires,
            "days": left.map(|left| left.div_euclid(DAY)),
            "expired": left.is_some_and(|left| left <= 0),
            "hint": self.kind.hint(),
        })
    }

    /// When a stage begins: in the last quarter, since what lives for a month and renews itself is not
    /// to be told of all its life.
    fn begins(&self, stage: Stage) -> Option<Timestamp> {
        let expires = self.expires?;
        let quarter = expires.duration_since(self.issued) / 4;
        expires.checked_sub(stage.ahead().min(quarter)).ok()
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// RFC 5280's "no well-defined expiration date" is beyond the last moment that a timestamp has.
fn end(expires: Timestamp) -> Option<Timestamp> {
    Some(expires).filter(|expires| *expires < Timestamp::MAX)
}

fn factory_name(station: &StationName) -> String {
    format!("factory-ca-{station}")
}

#[cfg(test)]
mod tests;
