//! A master's address as it goes into a `minion.yml`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A host, perhaps with a port, that needs no escaping between quotes in YAML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MasterAddress(String);

/// The text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an address is HOST or HOST:PORT, such as 10.0.0.1:4510 or [fd00::1]:4510")]
pub struct MasterAddressError;

impl FromStr for MasterAddress {
    type Err = MasterAddressError;

    fn from_str(text: &str) -> Result<Self, MasterAddressError> {
        let is_ipv6 = |host: &str| host.parse::<Ipv6Addr>().is_ok();
        let is_name = |host: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(allowed)
        };
        let fits = is_ipv6(text)
            || match text.rsplit_once(':') {
                None => is_name(text),
                Some((host, port)) => {
                    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                    port.parse::<u16>().is_ok_and(|port| port != 0)
                        && bracketed.map_or_else(|| is_name(host), is_ipv6)
                }
            };
        if fits { Ok(Self(text.to_owned())) } else { Err(MasterAddressError) }
    }
}

impl TryFrom<String> for MasterAddress {
    type Error = MasterAddressError;

    fn try_from(text: String) -> Result<Self, MasterAddressError> {
        text.parse()
    }
}

impl From<MasterAddress> for String {
    fn from(address: MasterAddress) -> Self {
        address.0
    }
}

impl fmt::Display for MasterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_perhaps_with_a_port() {
        for good in ["127.0.0.1:4510", "master.example:4510", "[fd00::1]:4510", "m", "fd00::1"] {
            good.parse::<MasterAddress>().unwrap();
        }
        for wrong in
            ["", ":4510", "a:0", "a:65536", "a'b", "a'b:1", "[x]:1", "fd00:::1", "[fd00::1]"]
        {
            assert!(wrong.parse::<MasterAddress>().is_err(), "{wrong}");
        }
    }
}
