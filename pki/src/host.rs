//! A name or address by which programs that are not Drover's find a server: it stands in the
//! certificate of EST's. Minions look at no such thing.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rcgen::SanType;
use rustls_pki_types::DnsName;

/// A text that is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a DNS name nor an IP address")]
pub struct HostError(String);

/// A host's name or address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name.
    Name(DnsName<'static>),
    /// An IP address.
    Address(IpAddr),
}

impl Host {
    pub(crate) fn to_san(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::Name(name) => SanType::DnsName(name.as_ref().try_into()?),
            Self::Address(address) => SanType::IpAddress(*address),
        })
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let name = DnsName::try_from(text.to_owned());
        name.map(Self::Name).map_err(|_| HostError(text.escape_debug().take(80).collect()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name.as_ref()),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        assert!(matches!("est.example".parse(), Ok(Host::Name(_))));
        for address in ["127.0.0.1", "::1"] {
            assert_eq!(address.parse(), Ok(Host::Address(address.parse().unwrap())));
        }
        for wrong in ["", "a b", "https://a", "a:8443", "\u{e9}"] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }
}
