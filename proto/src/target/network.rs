//! `-S`: an address or a CIDR block on the addresses in a minion's `ipv4` and `ipv6` grains.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::TargetError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    pub(super) fn parse(text: &str) -> Result<Self, TargetError> {
        let refused = |position| {
            TargetError::new(
                position,
                format!("`{text}` is no address and no network"),
                "write `10.1.2.3`, `10.1.0.0/16` or `2001:db8::/32`",
            )
        };
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let parsed: IpAddr = address.parse().map_err(|_| refused(0))?;
        let most = if parsed.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(text) => text
                .parse()
                .ok()
                .filter(|prefix| *prefix <= most && text.bytes().all(|byte| byte.is_ascii_digit()))
                .ok_or_else(|| refused(address.len() + 1))?,
        };
        Ok(Self { address: parsed, prefix })
    }

    pub(super) fn matches(self, grains: &Map<String, Value>) -> bool {
        let grain = grains.get(if self.address.is_ipv4() { "ipv4" } else { "ipv6" });
        match grain {
            Some(Value::Array(addresses)) => addresses.iter().any(|address| self.holds(address)),
            Some(address) => self.holds(address),
            None => false,
        }
    }

    fn holds(self, address: &Value) -> bool {
        match (self.address, address.as_str().and_then(|text| text.parse().ok())) {
            (IpAddr::V4(network), Some(IpAddr::V4(address))) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), Some(IpAddr::V6(address))) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
        }
    }
}
