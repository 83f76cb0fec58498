//! The URI in a certificate's subjectAltName: who the certificate speaks for, and nothing else does.

use std::fmt;
use std::str::FromStr;

use crate::name::{FleetName, MasterName, MinionId, NameError, OperatorName, StationName};

const PREFIX: &str = "urn:drover:";

/// Who a certificate speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DroverUrn {
    /// `urn:drover:minion:<id>`: a device.
    Minion(MinionId),
    /// `urn:drover:master:<name>`: a master.
    Master(MasterName),
    /// `urn:drover:operator:<name>`: a person.
    Operator(OperatorName),
    /// `urn:drover:ca:factory:<station>`: a station's authority, which speaks for minions alone.
    FactoryCa(StationName),
    /// `urn:drover:ca:fleet:<name>`: the master's authority.
    FleetCa(FleetName),
}

/// Why a URI is not one of Drover's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrnError {
    /// It begins as ours do, and goes on otherwise.
    #[error("`{0}` is of no kind that is known")]
    Kind(String),
    /// The name at its end is not valid.
    #[error("a `urn:drover` name is not valid")]
    Name(#[source] NameError),
}

impl DroverUrn {
    /// True for a URI that claims to be one of ours, however it goes on. URN namespaces are
    /// compared without case (RFC 8141 §3.1), so an oddly spelt one does not go unseen.
    pub fn claims(uri: &str) -> bool {
        uri.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
    }
}

impl FromStr for DroverUrn {
    type Err = UrnError;

    fn from_str(uri: &str) -> Result<Self, UrnError> {
        let kind = || UrnError::Kind(uri.escape_debug().take(200).collect());
        let rest = uri.strip_prefix(PREFIX).ok_or_else(kind)?;
        let (class, name) = rest.rsplit_once(':').ok_or_else(kind)?;
        match class {
            "minion" => name.parse().map(Self::Minion),
            "master" => name.parse().map(Self::Master),
            "operator" => name.parse().map(Self::Operator),
            "ca:factory" => name.parse().map(Self::FactoryCa),
            "ca:fleet" => name.parse().map(Self::FleetCa),
            _ => return Err(kind()),
        }
        .map_err(UrnError::Name)
    }
}

impl fmt::Display for DroverUrn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minion(id) => write!(f, "{PREFIX}minion:{id}"),
            Self::Master(name) => write!(f, "{PREFIX}master:{name}"),
            Self::Operator(name) => write!(f, "{PREFIX}operator:{name}"),
            Self::FactoryCa(station) => write!(f, "{PREFIX}ca:factory:{station}"),
            Self::FleetCa(fleet) => write!(f, "{PREFIX}ca:fleet:{fleet}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_as_it_is_written() {
        for uri in [
            "urn:drover:minion:rfid-1",
            "urn:drover:master:north",
            "urn:drover:operator:ann",
            "urn:drover:ca:factory:line-1",
            "urn:drover:ca:fleet:acme",
        ] {
            assert_eq!(uri.parse::<DroverUrn>().unwrap().to_string(), uri);
            assert!(DroverUrn::claims(uri));
        }
    }

    #[test]
    fn a_uri_that_only_resembles_one_of_ours_is_refused() {
        for uri in [
            "urn:drover:minion:",
            "urn:drover:minion:a:b",
            "urn:drover:minion:a/b",
            "urn:drover:ca:root:x",
            "urn:drover:",
            "URN:drover:minion:a",
        ] {
            assert!(DroverUrn::claims(uri), "{uri}");
            uri.parse::<DroverUrn>().unwrap_err();
        }
        assert!(!DroverUrn::claims("urn:other:minion:a"));
        assert!(!DroverUrn::claims("urn:drovér"));
    }
}
